"""An operation's output as a state machine sees it: JSON, its members' names in capitals as in AWS's SDK for Java."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cloudlet.wire.model import Model, OperationSpec, Ref


def present(model: Model, operation: OperationSpec, output: dict[str, Any]) -> dict[str, Any]:
    """The output as JSON: blobs are texts, timestamps are RFC 3339. What is no member stays away."""
    if operation.output is None:
        return {}
    presented: dict[str, Any] = _value(model, operation.output, output)
    return presented


def _value(model: Model, ref: Ref, value: Any) -> Any:
    shape = model.shapes[ref.shape]
    if shape.document:
        return value
    match shape.type:
        case "structure":
            return {
                name[0].upper() + name[1:]: _value(model, member, value[name])
                for name, member in shape.members.items()
                if name in value
            }
        case "list":
            assert shape.member is not None
            return [_value(model, shape.member, item) for item in value]
        case "map":
            assert shape.value is not None
            return {name: _value(model, shape.value, item) for name, item in value.items()}
        case "blob":
            return bytes(value).decode(errors="replace") if isinstance(value, bytes | bytearray) else value
        case "timestamp" if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value
