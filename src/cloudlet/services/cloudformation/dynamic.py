"""Dynamic references: ``{{resolve:ssm:name:version}}`` and ``{{resolve:secretsmanager:...}}``, looked up when used."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.errors import invalid

_REFERENCE = re.compile(r"\{\{resolve:(ssm|ssm-secure|secretsmanager):([^{}]+)\}\}")
CallService = Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]]


async def resolve(value: Any, call: CallService) -> Any:
    """The value with every dynamic reference in its texts replaced. Raises ValidationError."""
    if isinstance(value, str):
        if "{{resolve:" not in value:
            return value
        parts, last = [], 0
        for found in _REFERENCE.finditer(value):
            parts += [value[last : found.start()], await _look_up(found.group(1), found.group(2), call)]
            last = found.end()
        return "".join([*parts, value[last:]])
    if isinstance(value, dict):
        return {key: await resolve(below, call) for key, below in value.items()}
    if isinstance(value, list):
        return [await resolve(item, call) for item in value]
    return value


async def _look_up(service: str, reference: str, call: CallService) -> str:
    if service == "secretsmanager":
        return await _secret(reference, call)
    name, _, version = reference.partition(":")
    full = f"{name}:{version}" if version else name
    try:
        found = await call("ssm", "GetParameter", {"Name": full, "WithDecryption": service == "ssm-secure"})
    except AwsError as error:
        if error.code in ("ParameterNotFound", "ParameterVersionNotFound"):
            raise invalid(f"Parameters: [{service}:{full}] cannot be found.") from None
        raise
    return str(found["Parameter"]["Value"])


async def _secret(reference: str, call: CallService) -> str:
    # An ARN has seven parts of its own.
    parts = reference.split(":")
    size = 7 if reference.startswith("arn:") else 1
    secret, rest = ":".join(parts[:size]), [*parts[size:], "", "", "", ""]
    kind, key, stage, version = rest[:4]
    if kind not in ("", "SecretString"):
        raise invalid(f"Could not parse SecretsManager dynamic reference: {reference}")
    input = {"SecretId": secret}
    if stage:
        input["VersionStage"] = stage
    if version:
        input["VersionId"] = version
    found = await call("secretsmanager", "GetSecretValue", input)
    if "SecretString" not in found:
        raise invalid(f"The secret {secret} has no SecretString")
    text: str = found["SecretString"]
    if not key:
        return text
    try:
        value = json.loads(text)[key]
    except (ValueError, KeyError, TypeError):
        raise invalid(f"Could not find a value associated with JSONKey {key} in SecretString") from None
    return value if isinstance(value, str) else json.dumps(value)
