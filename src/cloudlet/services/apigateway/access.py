"""Who may call a method: resource policies and Lambda authorizers of REST APIs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Cloud
from cloudlet.services.apigateway import events
from cloudlet.services.apigateway.events import Context
from cloudlet.services.apigateway.refusals import Refused
from cloudlet.services.fronts import authorizers, signed
from cloudlet.services.fronts.authorizers import Decisions

if TYPE_CHECKING:
    from cloudlet.services.apigateway.data_plane import Published

_REMEMBERED = 300  # seconds, where an authorizer does not say


async def authorize(cloud: Cloud, context: Context, published: Published, decisions: Decisions) -> None:
    """Ask the method's authorizer and keep what it says of the caller. Raises Refused."""
    assert context.method is not None
    kind, policy = context.method.get("authorizationType", "NONE"), _policy(published.policy, context)
    if kind == "AWS_IAM":
        try:
            context.caller = await signed.caller(
                cloud,
                context.request,
                "execute-api",
                "Invoke",
                {"ResourceArn": context.method_arn},
                policy,
            )
        except AwsError as error:
            missing = error.code in ("MissingAuthenticationToken", "IncompleteSignature")
            raise Refused("MISSING_AUTHENTICATION_TOKEN" if missing else "ACCESS_DENIED") from None
        return
    if policy is not None and cloud.config.auth == "enforce":
        await _check_policy(cloud, context, policy, must_allow=kind == "NONE")
    if kind == "NONE":
        return
    authorizer = published.authorizers.get(context.method.get("authorizerId", ""))
    if authorizer is None:
        raise Refused("AUTHORIZER_CONFIGURATION_ERROR")
    decision = await _decide(cloud, context, authorizer, decisions)
    if not authorizers.allows(decision.get("policyDocument") or {}, context.method_arn):
        raise Refused("ACCESS_DENIED")
    said = {"principalId": decision.get("principalId"), **(decision.get("context") or {})}
    context.authorizer, context.usage_key = {**said, "integrationLatency": 0}, decision.get("usageIdentifierKey")


def _policy(text: str, context: Context) -> str | None:
    """An API's resource policy, where resources may be given as ``execute-api:/stage/verb/path``."""
    return None if not text else text.replace('"execute-api:/', f'"{context.method_arn.split("/", 1)[0]}/')


async def _check_policy(cloud: Cloud, context: Context, policy: str, must_allow: bool) -> None:
    """Hold a request that is not signed against the API's resource policy. Raises Refused.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-authorization-flow.html
    """
    iam: Any = await cloud.service("iam")
    call = Call(context.account, context.region, request=context.request, service="execute-api", operation="Invoke")
    allowed, denied = iam.judge_anybody(call, "execute-api:Invoke", context.method_arn, policy)
    if denied or (must_allow and not allowed):
        why = " with an explicit deny" if denied else ""
        shown = context.method_arn.replace(context.account, "********" + context.account[-4:])
        words = f"User: anonymous is not authorized to perform: execute-api:Invoke on resource: {shown}{why}"
        raise Refused("ACCESS_DENIED", words)


async def _decide(cloud: Cloud, context: Context, authorizer: dict[str, Any], decisions: Decisions) -> dict[str, Any]:
    """What the authorizer says, or has said of the same identity a while ago."""
    sources = [source.strip() for source in (authorizer.get("identitySource") or "").split(",") if source.strip()]
    identity = [context.value(source) for source in sources]
    if any(value in (None, "") for value in identity):
        raise Refused("UNAUTHORIZED")
    key = (context.api_id, context.stage["stageName"], authorizer["id"], tuple(identity))
    known = decisions.get(key, context.now) if identity else None
    if known is not None:
        return known
    decision = await _ask(cloud, context, authorizer, identity)
    seconds = authorizer.get("authorizerResultTtlInSeconds", _REMEMBERED)
    if identity and seconds:
        decisions.keep(key, decision, context.now + seconds)
    return decision


async def _ask(
    cloud: Cloud, context: Context, authorizer: dict[str, Any], identity: list[str | None]
) -> dict[str, Any]:
    if authorizer["type"] == "TOKEN":
        pattern = authorizer.get("identityValidationExpression")
        if pattern and not re.match(pattern, identity[0] or ""):
            raise Refused("UNAUTHORIZED")
        event = {"type": "TOKEN", "methodArn": context.method_arn, "authorizationToken": identity[0]}
    else:
        event = {**events.proxy(context, []), "type": "REQUEST", "methodArn": context.method_arn}
        event.pop("body", None)
        event.pop("isBase64Encoded", None)
    where = context.account, context.region
    try:
        decision = await authorizers.ask(cloud, *where, authorizer["authorizerUri"], event)
    except authorizers.Unauthorized:
        raise Refused("UNAUTHORIZED") from None
    except authorizers.Silent:
        raise Refused("AUTHORIZER_FAILURE") from None
    if not isinstance(decision, dict):
        raise Refused("AUTHORIZER_CONFIGURATION_ERROR")
    return decision
