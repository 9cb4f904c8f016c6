"""The errors that most operations of Scheduler share."""

from __future__ import annotations

from cloudlet.errors import AwsError


def invalid(text: str) -> AwsError:
    """A parameter that cannot be."""
    return AwsError("ValidationException", text)


def no_schedule(name: str) -> AwsError:
    """The schedule is not there."""
    return AwsError("ResourceNotFoundException", f"Schedule {name} does not exist.")


def no_group(name: str) -> AwsError:
    """The schedule group is not there."""
    return AwsError("ResourceNotFoundException", f"Schedule group {name} does not exist.")
