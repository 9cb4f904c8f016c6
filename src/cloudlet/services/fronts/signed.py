"""Requests that are let in by their signature (AWS_IAM): who has signed, and whether he may."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.http import Request
from cloudlet.services.api import Call, Cloud, Input


async def caller(
    cloud: Cloud, request: Request, service: str, operation: str, input: Input, policy: str | None = None
) -> Call:
    """The signer of a data plane's request, once he may do this. Raises AwsError.

    Signatures are verified and policies evaluated with ``--auth enforce``; else whoever has signed is believed.
    """
    if not ("authorization" in request.headers or "X-Amz-Signature" in request.query) or request.identify is None:
        raise AwsError("MissingAuthenticationToken", "Missing Authentication Token", status=403)
    call: Call = await request.identify(service)
    call.operation = operation
    if cloud.config.auth == "enforce":
        iam: Any = await cloud.service("iam")
        await iam.authorize(call, input, resource_policy=policy)
    return call


def identity(call: Call) -> dict[str, str]:
    """The caller as payload format 2.0 shows him to a function."""
    return {
        "accessKey": call.access_key,
        "accountId": call.account,
        "callerId": call.access_key,
        "userArn": call.principal,
        "userId": call.access_key,
    }
