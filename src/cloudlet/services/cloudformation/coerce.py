"""Properties as the input of an operation: CloudFormation's loose scalars in the types of the operation's model.

A template says "60" and true where a model says integer and string. What a model does not have is refused by its name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.intrinsics import text_of
from cloudlet.wire.amendments import AMENDMENTS, NONE
from cloudlet.wire.model import Library, Model, Ref, UnknownService
from cloudlet.wire.scalars import read_timestamp
from cloudlet.wire.validate import Checks, refusal

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class Inputs:
    """The inputs of every service's operations; a model is read when its service is first called."""

    def __init__(self) -> None:
        self._library = Library()
        self._models: dict[str, asyncio.Future[tuple[Model, Checks] | None]] = {}

    async def of(self, service: str, operation: str, input: dict[str, Any]) -> dict[str, Any]:
        """The input in its model's types, validated. Raises ValidationError, or what the service's wire would."""
        loading = self._models.get(service)
        if loading is None:
            loading = self._models[service] = asyncio.ensure_future(asyncio.to_thread(self._load, service))
        loaded = await loading
        if loaded is None or operation not in loaded[0].operations:
            return input
        model, checks = loaded
        spec = model.operations[operation]
        if spec.input is None:
            return input
        given = _value(model, spec.input, input, operation)
        check = checks.of(spec.input)
        if check is not None and (problems := check(given)):
            raise refusal(model, spec, problems, model.metadata.protocol)
        return given  # type: ignore[no-any-return]

    def _load(self, service: str) -> tuple[Model, Checks] | None:
        try:
            model = self._library.load(service)
        except UnknownService:
            return None
        amendment = AMENDMENTS.get(service, NONE)
        amendment.amend(model)
        return model, Checks(model, required_only=not amendment.constraints)


def _value(model: Model, ref: Ref, value: Any, path: str) -> Any:
    shape = model.shapes[ref.shape]
    match shape.type:
        case "structure":
            if shape.document or not isinstance(value, dict):
                if shape.document:
                    return value
                raise _wrong(path, "an object", value)
            if unknown := [name for name in value if name not in shape.members]:
                raise invalid(f"Encountered unsupported property {unknown[0]}")
            return {
                name: _value(model, shape.members[name], below, name)
                for name, below in value.items()
                if below is not None
            }
        case "list":
            if not isinstance(value, (list, tuple, set, frozenset)):
                value = [value]  # CloudFormation takes one value for a list of one
            assert shape.member is not None
            return [_value(model, shape.member, item, path) for item in value]
        case "map":
            if not isinstance(value, dict):
                raise _wrong(path, "an object", value)
            assert shape.value is not None
            return {text_of(key): _value(model, shape.value, below, path) for key, below in value.items()}
        case "string" | "character":
            if isinstance(value, (dict, list)):
                return value if ref.jsonvalue else json.dumps(value)
            return value if isinstance(value, str) else text_of(value)
        case "integer" | "long":
            return _number(int, "an integer", value, path)
        case "float" | "double":
            return _number(float, "a number", value, path)
        case "boolean":
            text = text_of(value).lower()
            if text not in _TRUE + _FALSE:
                raise _wrong(path, "a boolean", value)
            return text in _TRUE
        case "timestamp":
            try:
                return float(value) if isinstance(value, (int, float)) else read_timestamp(str(value))
            except ValueError:
                raise _wrong(path, "a timestamp", value) from None
        case "blob":
            return value.encode() if isinstance(value, str) else value
    return value


def _number(kind: Callable[[Any], Any], what: str, value: Any, path: str) -> Any:
    if isinstance(value, bool) or (isinstance(value, float) and kind is int and not value.is_integer()):
        raise _wrong(path, what, value)
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise _wrong(path, what, value) from None


def _wrong(path: str, what: str, value: Any) -> AwsError:
    return invalid(f"Value of property {path} must be {what}, not {json.dumps(value, default=str)}")
