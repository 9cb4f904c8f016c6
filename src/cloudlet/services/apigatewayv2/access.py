"""Who may use a route: Lambda authorizers decide."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.http import Response
from cloudlet.services.api import Cloud
from cloudlet.services.apigatewayv2 import tokens
from cloudlet.services.fronts import authorizers, events, signed

_UNAUTHORIZED = b'{"message":"Unauthorized"}'
_FORBIDDEN = b'{"message":"Forbidden"}'


async def authorize(
    cloud: Cloud,
    context: events.Context,
    known: dict[str, dict[str, Any]],
    decisions: authorizers.Decisions,
    issuers: tokens.Issuers,
) -> tuple[dict[str, Any] | None, Response | None]:
    """Ask the route's authorizer. Returns what it says of the caller, and a refusal or None."""
    route = context.match.route
    kind = route.get("AuthorizationType", "NONE")
    if kind == "NONE":
        return None, None
    if kind == "AWS_IAM":
        try:
            resource = {"ResourceArn": _route_arn(context)}
            call = await signed.caller(cloud, context.request, "execute-api", "Invoke", resource)
        except AwsError:
            return None, _refuse(403, _FORBIDDEN)
        context.iam = signed.identity(call)
        return None, None
    authorizer = known.get(route.get("AuthorizerId", ""))
    if authorizer is None:
        return None, _refuse(500, b'{"message":"Internal Server Error"}')
    if authorizer["AuthorizerType"] == "JWT":
        return None, await _check_token(context, authorizer, issuers)
    identity = [_identity(context, source) for source in authorizer.get("IdentitySource") or []]
    if any(value is None for value in identity):
        return None, _refuse(401, _UNAUTHORIZED)
    key = (context.api_id, context.stage_name, authorizer["AuthorizerId"], tuple(identity))
    decision = decisions.get(key, context.now) if identity else None
    if decision is None:
        decision, refusal = await _ask(cloud, context, authorizer, identity)
        if refusal is not None:
            return None, refusal
        seconds = authorizer.get("AuthorizerResultTtlInSeconds") or 0
        if identity and seconds:
            decisions.keep(key, decision, context.now + seconds)
    if authorizer.get("EnableSimpleResponses"):
        allowed = decision.get("isAuthorized") is True
    else:
        allowed = authorizers.allows(decision.get("policyDocument") or {}, _route_arn(context))
    said = decision.get("context") or {}
    if not authorizer.get("EnableSimpleResponses") and "principalId" in decision:
        said = {"principalId": decision["principalId"], **said}
    return said, None if allowed else _refuse(403, _FORBIDDEN)


async def _ask(
    cloud: Cloud, context: events.Context, authorizer: dict[str, Any], identity: list[str | None]
) -> tuple[dict[str, Any], Response | None]:
    """What a Lambda authorizer says of a request, or the refusal where it says nothing that counts."""
    event = _event(context, authorizer, identity)
    where = context.account, context.region
    try:
        decision = await authorizers.ask(cloud, *where, authorizer["AuthorizerUri"], event)
    except authorizers.Unauthorized:
        return {}, _refuse(401, _UNAUTHORIZED)
    except authorizers.Silent:
        return {}, _refuse(500, b'{"message":"Internal Server Error"}')
    if not isinstance(decision, dict):
        return {}, _refuse(500, b'{"message":"Internal Server Error"}')
    return decision, None


def _event(context: events.Context, authorizer: dict[str, Any], identity: list[str | None]) -> dict[str, Any]:
    """What an authorizer is asked."""
    if context.connecting is not None:
        return {"type": "REQUEST", "methodArn": _route_arn(context), **context.connecting}
    newer = authorizer["AuthorizerPayloadFormatVersion"] == "2.0"
    event = events.version_2(context) if newer else events.version_1(context)
    event.update(
        type="REQUEST",
        identitySource=identity if newer else ",".join(str(value) for value in identity),
        **{"routeArn" if newer else "methodArn": _route_arn(context)},
    )
    event.pop("body", None)
    return event


async def _check_token(context: events.Context, authorizer: dict[str, Any], issuers: tokens.Issuers) -> Response | None:
    """Let in by a JSON Web Token: its claims are kept for the integration, or the refusal is returned."""
    sources = authorizer.get("IdentitySource") or ["$request.header.Authorization"]
    value = _identity(context, sources[0])
    if not value:
        return _refuse(401, _UNAUTHORIZED)
    token = value[7:] if value[:7].lower() == "bearer " else value
    try:
        claims = await issuers.claims(token, authorizer.get("JwtConfiguration") or {}, context.now)
    except tokens.Refused as refused:
        response = _refuse(401, _UNAUTHORIZED)
        response.headers["www-authenticate"] = f'Bearer scope="" error="invalid_token" error_description="{refused}"'
        return response
    granted = claims.get("scope") or claims.get("scp") or []
    scopes = granted.split() if isinstance(granted, str) else [str(scope) for scope in granted]
    wanted = context.match.route.get("AuthorizationScopes") or []
    if wanted and not set(wanted) & set(scopes):
        response = _refuse(403, _FORBIDDEN)
        response.headers["www-authenticate"] = (
            f'Bearer scope="{" ".join(wanted)}" error="insufficient_scope" '
            'error_description="The token does not have the required scopes"'
        )
        return response
    context.jwt = {"claims": tokens.shown(claims), "scopes": (wanted and [s for s in scopes if s in wanted]) or None}
    return None


def _route_arn(context: events.Context) -> str:
    where = f"{context.region}:{context.account}:{context.api_id}"
    route = context.request.method + context.path if context.connecting is None else context.match.route["RouteKey"]
    return f"arn:aws:execute-api:{where}/{context.stage_name}/{route}"


def _identity(context: events.Context, source: str) -> str | None:
    """The value of ``$request.header.X``, ``$request.querystring.X``, ``$context.X`` or ``$stageVariables.X``.

    WebSocket APIs write ``route.request.header.X``, and the others without the sign.
    """
    source = source.removeprefix("$").removeprefix("route.")
    place, _, name = source.removeprefix("request.").partition(".")
    if place == "header":
        return context.request.headers.get(name.lower())
    if place == "querystring":
        return dict(context.request.params()).get(name)
    if place == "stageVariables":
        return (context.stage.get("StageVariables") or {}).get(name)
    if place == "context":
        return str({"httpMethod": context.request.method, "path": context.full_path}.get(name, "")) or None
    return None


def iso_time(now: float) -> str:
    """A moment in ISO 8601."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _refuse(status: int, body: bytes) -> Response:
    return Response(status, {"content-type": "application/json"}, body)
