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
