"""Bucket policies: checked on the way in, asked whether they are public, and what they let anyone do."""

from __future__ import annotations

import fnmatch
import functools
import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.http import Request
from cloudlet.services.policies import evaluation
from cloudlet.services.policies.evaluation import Grip, Who
from cloudlet.services.s3.records import Bucket

_ANYBODY = Who(frozenset(), "")
_VERSIONS = ("2012-10-17", "2008-10-17")


def check(text: str, bucket: str) -> None:
    """Refuse a document that is no policy for this bucket. Raises MalformedPolicy."""
    try:
        document = json.loads(text)
    except ValueError:
        raise _malformed("Policies must be valid JSON and the first byte must be '{'") from None
    if not isinstance(document, dict):
        raise _malformed("Policies must be valid JSON and the first byte must be '{'")
    if "Statement" not in document:
        raise _malformed("Missing required field Statement")
    if document.get("Version", _VERSIONS[1]) not in _VERSIONS:
        raise _malformed("The policy must contain a valid version string")
    statements = _statements(document)
    if not statements:
        raise _malformed("Could not parse the policy: Statement is empty!")
    for statement in statements:
        if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
            raise _malformed("Missing required field Effect" if "Effect" not in statement else "Invalid effect")
        for field in ("Principal", "Action", "Resource"):
            if field not in statement and f"Not{field}" not in statement:
                raise _malformed(f"Missing required field {field}")
        for action in _list(statement.get("Action", statement.get("NotAction"))):
            if action != "*" and not str(action).lower().startswith("s3:"):
                raise _malformed("Policy has invalid action")
        for resource in _list(statement.get("Resource", statement.get("NotResource"))):
            own = str(resource).removeprefix("arn:aws:s3:::")
            if own == resource or not fnmatch.fnmatchcase(bucket, own.partition("/")[0] or "-"):
                raise _malformed("Policy has invalid resource")
    if not evaluation.is_resource_policy(text):
        raise _malformed("Policy has invalid statement")


def _malformed(message: str) -> AwsError:
    return AwsError("MalformedPolicy", message)


@functools.lru_cache(maxsize=256)
def is_public(text: str) -> bool:
    """Whether a policy lets anyone in without a condition that narrows who that is."""
    return any(
        statement.get("Effect") == "Allow" and _anyone(statement) and not _narrowed(statement)
        for statement in _statements(json.loads(text))
    )


def said_of_anyone(bucket: Bucket, action: str, resource: str, request: Request | None) -> bool | None:
    """Whether a caller without credentials may do something here by the bucket's policy; None where it is silent."""
    if "policy" not in bucket.settings or not action:
        return None
    text = bucket.settings["policy"]["Policy"]
    asked = evaluation.Request(action, (resource,), lambda key: _known_of(request, key), _ANYBODY)
    fitting = [
        said.allows
        for said, statement in zip(evaluation.compile_statements(text), _statements(json.loads(text)), strict=True)
        if said.grip(_ANYBODY) is not Grip.NONE
        and said.applies(asked)
        and (said.allows or not _about_transport(statement))
    ]
    if not fitting or (all(fitting) and blocks(bucket, "RestrictPublicBuckets") and is_public(text)):
        return None
    return all(fitting)


def _known_of(request: Request | None, key: str) -> list[str] | None:
    """What conditions may ask of a request that nobody has signed."""
    if key == "aws:principaltype":
        return ["Anonymous"]
    if request is None:
        return None
    value = {
        "aws:sourceip": request.client,
        "aws:securetransport": "true" if request.scheme == "https" else "false",
        "aws:referer": request.headers.get("referer"),
        "aws:useragent": request.headers.get("user-agent"),
    }.get(key)
    return None if value is None else [value]


def admits(bucket: Bucket, account: str) -> bool:
    """Whether the bucket's policy lets in anybody of another account; IAM then judges what he does."""
    if "policy" not in bucket.settings:
        return False
    return any(
        statement.get("Effect") == "Allow" and (_anyone(statement) or account in json.dumps(statement.get("Principal")))
        for statement in _statements(json.loads(bucket.settings["policy"]["Policy"]))
    )


def blocks(bucket: Bucket, setting: str) -> bool:
    """Whether the bucket's public access block has a setting on."""
    block = bucket.settings.get("public_access_block")
    return block is not None and bool(block["PublicAccessBlockConfiguration"].get(setting))


def _statements(document: Any) -> list[Any]:
    return _list(document.get("Statement", []))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _anyone(statement: dict[str, Any]) -> bool:
    principal = statement.get("Principal")
    return principal == "*" or (isinstance(principal, dict) and "*" in _list(principal.get("AWS", [])))


def _about_transport(statement: dict[str, Any]) -> bool:
    """Whether a statement only asks for TLS, which has no meaning on one machine."""
    keys = {key.lower() for operator in (statement.get("Condition") or {}).values() for key in operator}
    return keys == {"aws:securetransport"}


def _narrowed(statement: dict[str, Any]) -> bool:
    """Whether a condition holds the callers to known accounts, networks or sources."""
    narrow = ("aws:source", "aws:principal", "aws:userid", "s3:dataaccesspoint", "s3:x-amz-server-side", "aws:vpc")
    return any(
        str(key).lower().startswith(narrow) and not any(str(value) == "*" for value in _list(values))
        for operator in (statement.get("Condition") or {}).values()
        for key, values in operator.items()
    )
