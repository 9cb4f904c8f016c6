"""What goes wrong within a deployment, and is shown as its error information."""

from __future__ import annotations


class Failure(Exception):
    """A deployment cannot go on. ``code`` is one of the API's ErrorCode."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
