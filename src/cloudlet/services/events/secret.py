"""The secret of a connection: what it authorizes itself with, as EventBridge keeps it in Secrets Manager."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Cloud
from cloudlet.services.events.records import Connection

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SELF = "events.amazonaws.com"
_TAGS = [{"Key": "aws:secretsmanager:owningService", "Value": "events"}]


async def create(cloud: Cloud, call: Call, connection: Connection) -> str:
    """Make a connection's secret; returns its ARN."""
    input = {
        "Name": f"events!connection/{connection.name}/{uuid.uuid4()}",
        "SecretString": value(connection.auth),
        "Tags": _TAGS,
        **({"KmsKeyId": connection.kms_key} if connection.kms_key else {}),
    }
    made = await cloud.call("secretsmanager", "CreateSecret", input, **_where(call))
    arn: str = made["ARN"]
    return arn


async def update(cloud: Cloud, call: Call, connection: Connection) -> None:
    """Make a secret say what its connection says now."""
    if connection.secret:
        input = {"SecretId": connection.secret, "SecretString": value(connection.auth)}
        await cloud.call("secretsmanager", "PutSecretValue", input, **_where(call))


async def delete(cloud: Cloud, call: Call, arn: str) -> None:
    """Delete a connection's secret for good; that it is gone is no error."""
    if not arn:
        return
    try:
        input = {"SecretId": arn, "ForceDeleteWithoutRecovery": True}
        await cloud.call("secretsmanager", "DeleteSecret", input, **_where(call))
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise


def value(auth: dict[str, Any]) -> str:
    """What stands in the secret: the parameters of the one kind of authorization, and those of every invocation."""
    told: dict[str, Any] = {}
    for name, members in auth.items():
        if name == "InvocationHttpParameters":
            told["invocation_http_parameters"] = _snake(members)
        elif isinstance(members, dict):
            told |= _snake(members)
    told |= told.pop("client_parameters", {})
    return json.dumps(told)


def _snake(members: Any) -> Any:
    if isinstance(members, dict):
        return {
            _WORD.sub("_", key).lower().replace("o_auth", "oauth").replace("client_i_d", "client_id"): _snake(item)
            for key, item in members.items()
        }
    return [_snake(item) for item in members] if isinstance(members, list) else members


def _where(call: Call) -> dict[str, Any]:
    return {"account": call.account, "region": call.region, "principal": _SELF}
