"""The one error that every room raises for a client to see."""

from __future__ import annotations

from typing import Any


class AwsError(Exception):
    """An error in AWS's own words: the wire turns it into the protocol's error shape.

    ``code`` is the name of the error shape in the service's model (``QueueDoesNotExist``) or, where the model has none,
    the code that AWS sends (``ValidationError``). ``status`` is taken from the model when it is not given, else 400.
    ``members`` are further members of the error shape (``CancellationReasons=[...]``).
    """

    def __init__(self, code: str, message: str = "", *, status: int | None = None, **members: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.members = members


def not_implemented(what: str) -> AwsError:
    """The honest answer for an operation or a parameter that is not there; ``what`` names it."""
    return AwsError("NotImplemented", f"Cloudlet does not implement {what}.", status=501)
