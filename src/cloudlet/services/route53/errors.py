"""Errors of Route 53 that several rooms raise."""

from __future__ import annotations

from collections.abc import Sequence

from cloudlet.errors import AwsError


def no_such_zone(id: str) -> AwsError:
    """The hosted zone is not there."""
    return AwsError("NoSuchHostedZone", f"No hosted zone found with ID: {id}")


def no_such_check(id: str) -> AwsError:
    """The health check is not there."""
    return AwsError("NoSuchHealthCheck", f"A health check with id {id} does not exist.")


def invalid_batch(messages: Sequence[str]) -> AwsError:
    """Changes that cannot be made; the SDKs show the messages in brackets."""
    return AwsError("InvalidChangeBatch", f"[{', '.join(messages)}]")


def invalid(words: str) -> AwsError:
    """The request contradicts itself."""
    return AwsError("InvalidInput", words)


def invalid_token(what: str) -> AwsError:
    """A page's token is none that we have given for a list of such."""
    return AwsError(
        "InvalidPaginationToken",
        f"Route 53 can't get the next page of {what} because the specified value for NextToken is invalid.",
    )


def managed(id: str, owner: str) -> AwsError:
    """A resource belongs to a service, and only that changes it."""
    return AwsError("AccessDenied", f"The resource {id} can only be managed through {owner}", status=403)
