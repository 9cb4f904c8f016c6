"""Resource policies: what is kept of them. IAM decides by the caller's own policies alone."""

from __future__ import annotations

import json

from cloudlet.errors import AwsError
from cloudlet.services.dynamodb.errors import bad_parameter

NONE = "NO_POLICY"
_LONGEST = 20 * 1024


def check_policy(text: str) -> None:
    """A policy is a JSON document with statements. Raises ValidationException."""
    if len(text.encode()) > _LONGEST:
        raise bad_parameter("Resource policy size exceeds the limit of 20 KB")
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or "Statement" not in document:
        raise bad_parameter("Invalid policy document")


def new_revision(now: float) -> str:
    """A revision id; later ones are greater."""
    return str(int(now * 1000))


def check_revision(held: list[str] | None, expected: str | None) -> None:
    """What a request expects of the policy that is there. Raises PolicyNotFoundException."""
    if expected is not None and expected != (held[1] if held else NONE):
        raise AwsError("PolicyNotFoundException", "The provided revision id does not match the policy's.")


def no_policy(arn: str) -> AwsError:
    """The resource has no policy."""
    return AwsError("PolicyNotFoundException", f"Resource-based policy not found for the provided ResourceArn: {arn}")
