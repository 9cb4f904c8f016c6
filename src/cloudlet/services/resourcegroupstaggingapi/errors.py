"""The errors that this API has in common."""

from __future__ import annotations

from cloudlet.errors import AwsError


def invalid(message: str) -> AwsError:
    """A parameter that is missing, malformed or out of range."""
    return AwsError("InvalidParameterException", message)
