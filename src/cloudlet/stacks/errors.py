"""The one way in which a template is refused."""

from __future__ import annotations

from cloudlet.errors import AwsError


def invalid(message: str) -> AwsError:
    """A ValidationError in AWS's words."""
    return AwsError("ValidationError", message, status=400)
