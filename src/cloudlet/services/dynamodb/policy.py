"""Resource policies of tables and streams: what is kept of them. IAM asks them with ``--auth enforce``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.dynamodb.errors import bad_parameter
from cloudlet.services.policies import is_resource_policy

NONE = "NO_POLICY"
_LONGEST = 20 * 1024


def check_policy(text: str) -> None:
    """A policy is a JSON document with statements. Raises ValidationException."""
    if len(text.encode()) > _LONGEST:
        raise bad_parameter("Resource policy size exceeds the limit of 20 KB")
    if not is_resource_policy(text):
        raise bad_parameter("Invalid policy document")


def tables_of(input: dict[str, Any]) -> list[str]:
    """The tables, or the stream, that a request is about, by name or ARN."""
    named = [input[key] for key in ("TableName", "ResourceArn", "StreamArn") if key in input]
    items = [next(iter(item.values())) for item in input.get("TransactItems", ())]
    return [*named, *input.get("RequestItems", ()), *dict.fromkeys(one["TableName"] for one in items)]


def joined(policies: Sequence[str]) -> str | None:
    """One document with the statements of several policies."""
    if len(policies) < 2:
        return policies[0] if policies else None
    statements = [json.loads(policy)["Statement"] for policy in policies]
    parts = [one if isinstance(one, list) else [one] for one in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": [statement for part in parts for statement in part]})


def new_revision(now: float) -> str:
    """A revision id; later ones are greater."""
    return str(int(now * 1000))


def check_revision(table: str, held: list[str] | None, expected: str | None) -> None:
    """What a request expects of the policy that is there. Raises PolicyNotFoundException."""
    if expected is None or expected == (held[1] if held else NONE):
        return
    if held is None:
        raise no_policy(f"Requested update for policy with revision id {expected}, but table {table} has no policy.")
    if expected == NONE:
        raise no_policy(
            f"Requested policy update expecting none to be present for table {table}, "
            f"but a policy exists with revision id {held[1]}."
        )
    raise no_policy(
        f"Requested update for policy with revision id {expected}, "
        f"but the policy associated to target table {table} has revision id {held[1]}."
    )


def no_policy(detail: str) -> AwsError:
    """The policy is not there, or not the expected one."""
    words = f"Resource-based policy not found for the provided ResourceArn: {detail}"
    return AwsError("PolicyNotFoundException", words)
