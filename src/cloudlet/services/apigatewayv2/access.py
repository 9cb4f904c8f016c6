"""Who may use a route: Lambda authorizers decide."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Response
from cloudlet.services.api import Cloud
from cloudlet.services.apigatewayv2 import events, integrations

_FUNCTION = re.compile(r"arn:[^:]+:lambda:[^/]+?(?=/invocations|$)")
_UNAUTHORIZED = b'{"message":"Unauthorized"}'
_FORBIDDEN = b'{"message":"Forbidden"}'


async def authorize(
    cloud: Cloud, context: events.Context, authorizers: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any] | None, Response | None]:
    """Ask the route's authorizer. Returns what it says of the caller, and a refusal or None."""
    route = context.match.route
    kind = route.get("AuthorizationType", "NONE")
    if kind == "NONE":
        return None, None
    if kind == "AWS_IAM":
        if "authorization" not in context.request.headers and "X-Amz-Signature" not in context.request.query:
            return None, _refuse(403, _FORBIDDEN)
        return None, None
    authorizer = authorizers.get(route.get("AuthorizerId", ""))
    if authorizer is None:
        return None, _refuse(500, b'{"message":"Internal Server Error"}')
    identity = [_identity(context, source) for source in authorizer.get("IdentitySource") or []]
    if any(value is None for value in identity):
        return None, _refuse(401, _UNAUTHORIZED)
    newer = authorizer["AuthorizerPayloadFormatVersion"] == "2.0"
    event = events.version_2(context) if newer else events.version_1(context)
    event.update(
        type="REQUEST",
        identitySource=identity if newer else ",".join(str(value) for value in identity),
        **{"routeArn" if newer else "methodArn": _route_arn(context)},
    )
    event.pop("body", None)
    function = _FUNCTION.search(authorizer["AuthorizerUri"])
    try:
        result = await cloud.call(
            "lambda",
            "Invoke",
            {"FunctionName": function[0] if function else "", "Payload": msgspec.json.encode(event)},
            account=context.account,
            region=context.region,
            principal="apigateway.amazonaws.com",
        )
        decision = msgspec.json.decode(await integrations.whole(result.get("Payload", b"")))
    except (AwsError, msgspec.DecodeError):
        return None, _refuse(500, b'{"message":"Internal Server Error"}')
    if "FunctionError" in result:
        denied = isinstance(decision, dict) and decision.get("errorMessage") == "Unauthorized"
        return None, _refuse(401, _UNAUTHORIZED) if denied else _refuse(500, b'{"message":"Internal Server Error"}')
    if not isinstance(decision, dict):
        return None, _refuse(500, b'{"message":"Internal Server Error"}')
    allowed = (
        decision.get("isAuthorized") is True if authorizer.get("EnableSimpleResponses") else _allows(decision, context)
    )
    return decision.get("context") or {}, None if allowed else _refuse(403, _FORBIDDEN)


def _allows(decision: dict[str, Any], context: events.Context) -> bool:
    """Whether an authorizer's policy allows the route; a denial wins."""
    wanted = _route_arn(context)
    allowed = False
    for statement in (decision.get("policyDocument") or {}).get("Statement") or []:
        resources = statement.get("Resource") or []
        patterns = [resources] if isinstance(resources, str) else resources
        if any(re.fullmatch(re.escape(p).replace(r"\*", ".*").replace(r"\?", "."), wanted) for p in patterns):
            if statement.get("Effect") == "Deny":
                return False
            allowed = allowed or statement.get("Effect") == "Allow"
    return allowed


def _route_arn(context: events.Context) -> str:
    where = f"{context.region}:{context.account}:{context.api_id}"
    return f"arn:aws:execute-api:{where}/{context.stage_name}/{context.request.method}{context.path}"


def _identity(context: events.Context, source: str) -> str | None:
    """The value of ``$request.header.X``, ``$request.querystring.X``, ``$context.X`` or ``$stageVariables.X``."""
    place, _, name = source.removeprefix("$request.").partition(".")
    if place == "header":
        return context.request.headers.get(name.lower())
    if place == "querystring":
        return dict(context.request.params()).get(name)
    if source.startswith("$stageVariables."):
        return (context.stage.get("StageVariables") or {}).get(source.removeprefix("$stageVariables."))
    if source.startswith("$context."):
        return str({"httpMethod": context.request.method, "path": context.full_path}.get(name, "")) or None
    return None


def _refuse(status: int, body: bytes) -> Response:
    return Response(status, {"content-type": "application/json"}, body)
