"""Loosely typed input, as templates have it, as an operation's own types: "true" is a boolean, 30 may be "30".

CloudFormation converts a template's values to the types of a resource's properties; here the operation's shapes are
those types. A document (a policy, a schema) that the API takes as text may be written out in the template.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.wire.model import Model, OperationSpec, Ref, Shape
from cloudlet.wire.scalars import read_timestamp
from cloudlet.wire.validate import Checks, refusal


def conform(model: Model, checks: Checks, operation: OperationSpec, input: dict[str, Any]) -> dict[str, Any]:
    """The input in the operation's types and within its constraints. Raises ValidationException and its like."""
    if operation.input is None:
        return {}
    conformed: dict[str, Any] = _value(model, operation.input, input, "")
    check = checks.of(operation.input)
    if check is not None and (problems := check(conformed)):
        raise refusal(model, operation, problems, model.metadata.protocol)
    return conformed


def _value(model: Model, ref: Ref, value: Any, path: str) -> Any:
    shape = model.shapes[ref.shape]
    if shape.document:
        return value
    match shape.type:
        case "structure":
            if not isinstance(value, dict):
                raise _wrong(path, value, "an object")
            named = {_member(shape, name, path): item for name, item in value.items()}
            return {
                name: _value(model, shape.members[name], item, f"{path}/{name}")
                for name, item in named.items()
                if item is not None
            }
        case "list":
            if not isinstance(value, list):
                raise _wrong(path, value, "a list")
            assert shape.member is not None
            return [_value(model, shape.member, item, f"{path}/{index}") for index, item in enumerate(value)]
        case "map":
            if not isinstance(value, dict):
                raise _wrong(path, value, "an object")
            assert shape.value is not None
            return {str(name): _value(model, shape.value, item, f"{path}/{name}") for name, item in value.items()}
    return _scalar(shape.type, value, path)


def _member(shape: Shape, name: str, path: str) -> str:
    """The member of that name; templates and state machines write ``taskArn`` as ``TaskArn``."""
    if name in shape.members:
        return name
    for other in (name[:1].lower() + name[1:], name[:1].upper() + name[1:]):
        if other in shape.members:
            return other
    raise AwsError("ValidationException", f"#{path}: extraneous key [{name}] is not permitted")


def _scalar(kind: str, value: Any, path: str) -> Any:
    try:
        match kind:
            case "boolean":
                return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
            case "integer" | "long":
                if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
                    raise ValueError
                return int(value)
            case "float" | "double":
                return float(value)
            case "timestamp":
                return float(value) if isinstance(value, int | float) else read_timestamp(str(value))
            case "blob":
                if isinstance(value, dict | list):
                    return msgspec.json.encode(value)
                return value if not isinstance(value, str) else value.encode()
    except (KeyError, TypeError, ValueError, AwsError):
        raise _wrong(path, value, f"a {kind}") from None
    if isinstance(value, str):
        return value
    if isinstance(value, bool | dict | list):
        return msgspec.json.encode(value).decode()
    return str(value)


def _wrong(path: str, value: Any, wanted: str) -> AwsError:
    shown = str(value)
    return AwsError("ValidationException", f"#{path}: expected {wanted}, got {shown[:100]}")
