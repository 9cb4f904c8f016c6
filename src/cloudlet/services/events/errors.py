"""The errors that most operations of EventBridge share."""

from __future__ import annotations

from cloudlet.errors import AwsError


def invalid(text: str) -> AwsError:
    """A parameter that cannot be."""
    return AwsError("ValidationException", text)


def not_found(text: str) -> AwsError:
    """Something is not there."""
    return AwsError("ResourceNotFoundException", text)


def no_bus(name: str) -> AwsError:
    """The event bus is not there."""
    return not_found(f"Event bus {name} does not exist.")


def no_rule(name: str, bus: str) -> AwsError:
    """The rule is not there."""
    return not_found(f"Rule {name} does not exist on EventBus {bus}.")
