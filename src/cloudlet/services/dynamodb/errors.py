"""DynamoDB's errors that its model has no shape for, and the ones that many rooms raise."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError

PARAMETERS = "One or more parameter values were invalid: "


def invalid(message: str) -> AwsError:
    """A request that breaks a rule."""
    return AwsError("ValidationException", message)


def bad_parameter(message: str) -> AwsError:
    """A parameter that breaks a rule, in DynamoDB's usual opening words."""
    return AwsError("ValidationException", PARAMETERS + message)


class Detected:
    """Puts the words before an error with which the operations on one item begin when they refuse a request."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin the checks of a request."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, AwsError) and error.code == "ValidationException":
            raise invalid(f"1 validation error detected: {error.message}") from None


DETECTED = Detected()


def no_table(name: str = "") -> AwsError:
    """The table is not there; item operations do not name it."""
    detail = f": Table: {name} not found" if name else ""
    return AwsError("ResourceNotFoundException", f"Requested resource not found{detail}")


def wrong_key() -> AwsError:
    """The key of a request is not the table's."""
    return invalid("The provided key element does not match the schema")


def bad_name() -> AwsError:
    """The name of a table or an index is none."""
    return invalid(
        "Invalid table/index name.  Table/index names must be between 3 and 255 characters long, and may contain only "
        "the characters a-z, A-Z, 0-9, '_', '-', and '.'"
    )


def in_use(words: str) -> AwsError:
    """The table is being changed, or there is one already."""
    return AwsError("ResourceInUseException", words)


def condition_failed(item: dict[str, Any] | None) -> AwsError:
    """A write's condition was not met; ``item`` is shown when the request asked for it."""
    members: dict[str, Any] = {} if item is None else {"Item": item}
    return AwsError("ConditionalCheckFailedException", "The conditional request failed", **members)
