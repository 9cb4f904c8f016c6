"""DynamoDB's errors that its model has no shape for, and the ones that many rooms raise."""

from __future__ import annotations

from cloudlet.errors import AwsError

PARAMETERS = "One or more parameter values were invalid: "


def invalid(message: str) -> AwsError:
    """A request that breaks a rule."""
    return AwsError("ValidationException", message)


def bad_parameter(message: str) -> AwsError:
    """A parameter that breaks a rule, in DynamoDB's usual opening words."""
    return AwsError("ValidationException", PARAMETERS + message)


def no_table(name: str = "") -> AwsError:
    """The table is not there; item operations do not name it."""
    detail = f": Table: {name} not found" if name else ""
    return AwsError("ResourceNotFoundException", f"Requested resource not found{detail}")


def wrong_key() -> AwsError:
    """The key of a request is not the table's."""
    return invalid("The provided key element does not match the schema")
