"""Session tags: those that a request gives, and those that stay with a caller from role to role."""

from __future__ import annotations

from cloudlet.errors import AwsError
from cloudlet.services.api import Input
from cloudlet.services.sts.records import Session


def of_session(input: Input, caller: Session | None) -> tuple[dict[str, str], list[str]]:
    """A new session's tags, and the keys of its transitive ones. Raises InvalidParameterValue.

    Keys are the same whatever their case.
    """
    given = {tag["Key"]: tag["Value"] for tag in input.get("Tags", ())}
    keys = [tag["Key"].lower() for tag in input.get("Tags", ())]
    inherited = {} if caller is None else {k: v for k, v in caller.tags.items() if k.lower() in caller.transitive}
    handed_on = [key.lower() for key in inherited]
    passed = [key.lower() for key in input.get("TransitiveTagKeys", ())]
    if len(set(keys)) != len(keys):
        raise _invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if not set(handed_on).isdisjoint(keys):
        raise _invalid(
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from "
            "the calling session."
        )
    if not set(passed) <= set(keys):
        raise _invalid("The specified transitive tag key must be included in the requested tags.")
    return {**inherited, **given}, [*handed_on, *passed]


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterValue", message, status=400)
