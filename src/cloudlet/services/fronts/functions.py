"""Functions behind a front: which one an integration's or an authorizer's URI names, and what it says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

from cloudlet.services.api import Cloud

SELF = "apigateway.amazonaws.com"
_FUNCTION = re.compile(r"arn:[^:]+:lambda:[^/]+?(?=/invocations|$)")


class Said(NamedTuple):
    """What an invocation has given."""

    payload: bytes
    failed: bool  # the function has raised; the payload says what


def function_of(uri: str) -> str:
    """The ARN of the function that an URI names; empty where it names none."""
    found = _FUNCTION.search(uri)
    return found[0] if found is not None else ""


async def invoke(cloud: Cloud, account: str, region: str, function: str, event: Any, kind: str = "") -> Said:
    """Invoke a function with an event, or with a payload as it is (bytes). ``kind`` is the InvocationType.

    Raises AwsError where it cannot be invoked.
    """
    payload = event if isinstance(event, bytes) else msgspec.json.encode(event)
    input: dict[str, Any] = {"FunctionName": function, "Payload": payload}
    if kind:
        input["InvocationType"] = kind
    result = await cloud.call("lambda", "Invoke", input, account=account, region=region, principal=SELF)
    return Said(await _whole(result.get("Payload", b"")), "FunctionError" in result)


async def _whole(body: bytes | AsyncIterator[bytes]) -> bytes:
    """A payload that may come as a stream, as bytes."""
    if isinstance(body, bytes):
        return body
    return b"".join([chunk async for chunk in body])
