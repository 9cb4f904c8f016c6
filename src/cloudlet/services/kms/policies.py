"""Key policies, and grants as the statements that they amount to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cloudlet.services.kms.records import Grant


def default(account: str) -> str:
    """The policy that a key has by itself: its account decides."""
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]}, indent=2)


def with_grants(policy: str, grants: Sequence[Grant]) -> str:
    """A key's policy with a statement for each of its grants."""
    if not grants:
        return policy
    document = json.loads(policy)
    given = document["Statement"]
    document["Statement"] = [*(given if isinstance(given, list) else [given]), *(_statement(one) for one in grants)]
    return json.dumps(document)


def _statement(grant: Grant) -> dict[str, Any]:
    members = grant.members
    service = members.get("GranteeServicePrincipal")
    constraints = members.get("Constraints") or {}
    # A grant that asks for the whole context is at least asked for each part of it.
    context = constraints.get("EncryptionContextEquals") or constraints.get("EncryptionContextSubset") or {}
    conditions = {f"kms:EncryptionContext:{name}": value for name, value in context.items()}
    return {
        "Effect": "Allow",
        "Principal": {"Service": service} if service else {"AWS": members["GranteePrincipal"]},
        "Action": [f"kms:{operation}" for operation in members["Operations"]],
        "Resource": "*",
        **({"Condition": {"StringEquals": conditions}} if conditions else {}),
    }
