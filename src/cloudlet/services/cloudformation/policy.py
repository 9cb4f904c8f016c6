"""Stack policies: which resources an update may touch."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

from cloudlet.stacks.errors import invalid

_ACTIONS = {"UPDATE": "Update:Modify", "REPLACE": "Update:Replace", "DELETE": "Update:Delete"}


def check(text: str) -> None:
    """Judge a policy's form. Raises ValidationError."""
    try:
        statements = json.loads(text)["Statement"]
        for statement in statements if isinstance(statements, list) else [statements]:
            if statement["Effect"] not in ("Allow", "Deny"):
                raise ValueError
    except (ValueError, KeyError, TypeError):
        raise invalid("Error validating stack policy: Invalid stack policy") from None


def refusal(text: str, action: str, logical_id: str, type: str) -> str | None:
    """Why a policy forbids an update to do UPDATE, REPLACE or DELETE on a resource; None when it may."""
    if not text:
        return None
    statements = json.loads(text)["Statement"]
    wanted = f"[{_ACTIONS[action]}] for resource [{logical_id}]"
    allowed = False
    for number, statement in enumerate(statements if isinstance(statements, list) else [statements], 1):
        if _applies(statement, _ACTIONS[action], logical_id, type):
            if statement["Effect"] == "Deny":
                return f"Action denied by stack policy: Statement [#{number}] does not allow {wanted}"
            allowed = True
    return None if allowed else f"Action denied by stack policy: no statement allows {wanted}"


def _applies(statement: dict[str, Any], action: str, logical_id: str, type: str) -> bool:
    for key, value in (("Action", action), ("Resource", f"LogicalResourceId/{logical_id}")):
        if key in statement and not _matches(statement[key], value):
            return False
        if f"Not{key}" in statement and _matches(statement[f"Not{key}"], value):
            return False
        if key not in statement and f"Not{key}" not in statement:
            return False
    for operator, wanted in statement.get("Condition", {}).items():
        if operator not in ("StringEquals", "StringLike") or not _matches(wanted.get("ResourceType", []), type):
            return False
    return True


def _matches(patterns: Any, value: str) -> bool:
    return any(
        fnmatch.fnmatchcase(value, pattern) for pattern in (patterns if isinstance(patterns, list) else [patterns])
    )
