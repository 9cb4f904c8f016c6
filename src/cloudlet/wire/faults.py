"""Errors as a model describes them: the code, the status and the members that a client is to read."""

from __future__ import annotations

from typing import Any, NamedTuple

from cloudlet.errors import AwsError
from cloudlet.wire.model import Model, Ref, Shape


class Fault(NamedTuple):
    """An error, looked up in its model."""

    shape: Shape | None
    name: str  # the shape's name, or the code when the model has no such shape
    code: str  # the code as query protocols send it
    status: int
    sender: bool
    members: dict[str, Any]  # with the message under the name that the shape gives it


def look_up(model: Model, error: AwsError, codes: dict[str, str], statuses: dict[str, int]) -> Fault:
    """Find an error's shape by its name or code; ``codes`` and ``statuses`` are what the model does not say."""
    shape = model.errors.get(error.code)
    if shape is None and codes:
        named = next((name for name, code in codes.items() if code == error.code), None)
        shape = model.errors.get(named) if named is not None else None
    members = dict(error.members)
    if shape is None:
        status = error.status or statuses.get(error.code, 400)
        if error.message:
            members.setdefault("message", error.message)
        return Fault(None, error.code, codes.get(error.code, error.code), status, status < 500, members)
    trait = shape.error
    declared = statuses.get(shape.name) or (trait.http_status_code if trait is not None else 0)
    status = error.status or declared or (500 if shape.fault else 400)
    code = codes.get(shape.name) or (trait.code if trait is not None else "") or shape.name
    named = next((name for name in shape.members if name.lower() == "message"), "message")
    if error.message or named in shape.required:
        members.setdefault(named, error.message)
    sender = not shape.fault and status < 500
    return Fault(shape, shape.name, code, status, sender, members)


def message_of(fault: Fault) -> str:
    """The text of the error."""
    for name in ("message", "Message"):
        if name in fault.members:
            return str(fault.members[name])
    return next((str(value) for name, value in fault.members.items() if name.lower() == "message"), "")


def ref_of(fault: Fault) -> Ref | None:
    """A reference to the error's shape."""
    return Ref(fault.shape.name) if fault.shape is not None else None
