"""Policy documents: what IAM refuses when one is stored."""

from __future__ import annotations

import json
import re
from typing import Any

from cloudlet.errors import AwsError

_VERSIONS = ("2012-10-17", "2008-10-17")
_TOP = frozenset(("Version", "Id", "Statement"))
_STATEMENT = frozenset(
    (
        "Sid",
        "Effect",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Principal",
        "NotPrincipal",
        "Condition",
    )
)
_ACTION = re.compile(r"\*\Z|[A-Za-z0-9.-]+:[^:]+\Z")
_PARTITIONS = ("aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-eusc", "*", "${AWS::Partition}")


def check_identity_policy(document: str) -> None:
    """A policy of a user, group or role. Raises MalformedPolicyDocument."""
    for statement in _statements(document):
        if "Principal" in statement or "NotPrincipal" in statement:
            raise malformed("Policy document should not specify a principal.")
        _check_actions(statement)
        resources = _strings(statement, "Resource", "NotResource")
        if not resources:
            raise malformed("Policy statement must contain resources.")
        for resource in resources:
            _check_resource(resource)


def check_trust_policy(document: str) -> None:
    """A role's trust policy: who may assume it. Raises MalformedPolicyDocument."""
    for statement in _statements(document, "This policy contains invalid Json"):
        if "Resource" in statement or "NotResource" in statement:
            raise malformed("Has prohibited field Resource")
        if "Principal" not in statement and "NotPrincipal" not in statement:
            raise malformed("AssumeRolepolicy must contain a Principal")
        _check_actions(statement)
        for action in _strings(statement, "Action", "NotAction"):
            if action != "*" and not action.lower().startswith("sts:"):
                raise malformed("AssumeRole policy may only specify STS AssumeRole actions.")


def malformed(message: str) -> AwsError:
    """The error for a document that is not a policy."""
    return AwsError("MalformedPolicyDocument", message, status=400)


def _statements(document: str, unreadable: str = "Syntax errors in policy.") -> list[dict[str, Any]]:
    try:
        policy = json.loads(document, object_pairs_hook=_no_doubles)
    except ValueError:
        raise malformed(unreadable) from None
    if not isinstance(policy, dict) or set(policy) - _TOP:
        raise malformed("Syntax errors in policy.")
    if policy.get("Version", _VERSIONS[0]) not in _VERSIONS:
        raise malformed("Syntax errors in policy.")
    statements = policy.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise malformed("Syntax errors in policy.")
    sids = set()
    for statement in statements:
        if not isinstance(statement, dict) or set(statement) - _STATEMENT:
            raise malformed("Syntax errors in policy.")
        if statement.get("Effect") not in ("Allow", "Deny"):
            raise malformed("Syntax errors in policy.")
        condition = statement.get("Condition", {})
        if not isinstance(condition, dict) or not all(isinstance(tests, dict) for tests in condition.values()):
            raise malformed("Syntax errors in policy.")
        if (sid := statement.get("Sid")) is not None:
            if not isinstance(sid, str):
                raise malformed("Syntax errors in policy.")
            if sid and sid in sids:
                raise malformed("Statement IDs (SID) in a single policy must be unique.")
            sids.add(sid)
    return statements


def _check_actions(statement: dict[str, Any]) -> None:
    actions = _strings(statement, "Action", "NotAction")
    if not actions:
        raise malformed("Policy statement must contain actions.")
    for action in actions:
        if ":" not in action and action != "*":
            raise malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
        if not _ACTION.match(action):
            vendor, _, name = action.partition(":")
            if not re.fullmatch(r"[A-Za-z0-9.-]+", vendor):
                raise malformed(f"Vendor {vendor} is not valid")
            raise malformed(
                "Actions/Condition can contain only one colon." if ":" in name else "Syntax errors in policy."
            )


def _check_resource(resource: str) -> None:
    if resource == "*":
        return
    parts = resource.split(":")
    if parts[0] != "arn" or len(parts) < 2:
        raise malformed(f'Resource {resource} must be in ARN format or "*".')
    if parts[1] not in _PARTITIONS:
        raise malformed(
            f'Partition "{parts[1]}" is not valid for resource "{":".join([*parts, "*", "*", "*", "*"][:6])}".'
        )
    if len(parts) < 3:
        raise malformed("The policy failed legacy parsing")


def _strings(statement: dict[str, Any], *names: str) -> list[str]:
    found = [statement[name] for name in names if name in statement]
    if len(found) > 1:
        raise malformed("Syntax errors in policy.")
    values = found[0] if found else []
    if isinstance(values, str):
        return [values]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise malformed("Syntax errors in policy.")
    return values


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members
