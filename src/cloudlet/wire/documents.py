"""Shapes as documents: the msgspec types that JSON and CBOR are read into, and what must be changed on the way out."""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from cloudlet.errors import AwsError
from cloudlet.wire import scalars
from cloudlet.wire.model import Model, Ref, Shape

Fix = Callable[[Any], Any]


class _Anything(type):
    """Lets msgspec take what the hook returns as it is: the hook has already judged it."""

    def __instancecheck__(cls, value: object) -> bool:
        return True


class Moment(metaclass=_Anything):
    """A timestamp: a number, or a text in any of AWS's formats."""


class Double(metaclass=_Anything):
    """A float, or one of the texts NaN, Infinity and -Infinity."""


def convert(kind: type, value: Any) -> Any:
    """msgspec's hook for the types above. Raises ValueError."""
    if kind is Moment:
        return to_moment(value)
    return to_double(value)


def to_moment(value: Any) -> float:
    """Epoch seconds. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not -1e15 < value < 1e15:
            raise ValueError("a timestamp out of range")
        return float(value)
    if isinstance(value, str):
        return scalars.read_timestamp(value)
    if isinstance(value, datetime):
        return value.timestamp()
    raise ValueError("a timestamp is expected")


def to_double(value: Any) -> float:
    """A float. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError("a number out of range") from None
    if value in ("NaN", "Infinity", "-Infinity"):
        return scalars.read_float(value)
    raise ValueError("a number is expected")


@functools.lru_cache(maxsize=4096)
def full_match(pattern: str) -> str | None:
    """A model's pattern as Python's anchored one; None when Python does not know its syntax."""
    anchored = rf"^(?:{pattern})\Z"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what Python finds doubtful, Java means differently
        try:
            re.compile(anchored)
        except (re.error, OverflowError, RecursionError, Warning):
            return None
    return anchored


# mypy wants to see the members of a TypedDict, which come from the model here.
_typed_dict: Any = TypedDict


class Documents:
    """How one model's shapes look as JSON or CBOR.

    ``named``: members go by their locationName, as rest-json has it. ``strict``: the types carry the constraints.
    ``required``: the types insist on required members.
    """

    def __init__(
        self, model: Model, *, named: bool = False, strict: bool = True, required: bool = True, cbor: bool = False
    ) -> None:
        self._shapes = model.shapes
        self._named = named
        self._strict = strict
        self._required = required
        self._cbor = cbor
        self._first_words = not named and not cbor and model.metadata.json_version == "1.0"
        self._types: dict[str, Any] = {}
        self._inward: dict[str, Fix] = {}
        self._outward: dict[str, Fix] = {}

    def type_of(self, ref: Ref) -> Any:
        """The type that msgspec decodes into. Structures are dictionaries with the wire's names."""
        shape = self._shapes[ref.shape]
        match shape.type:
            case "structure":
                return Any if shape.document else self._structure(shape)
            case "timestamp":
                return Moment
        known = self._types.get(shape.name)
        if known is None:
            known = self._types[shape.name] = self._annotated(shape)
        return known

    def _structure(self, shape: Shape) -> Any:
        if (known := self._types.get(shape.name)) is not None:
            return known
        # Registered before its members are, so that a shape may hold itself.
        made = _typed_dict(shape.name, {}, total=False)
        self._types[shape.name] = made
        required: dict[str, Any] = {}
        optional: dict[str, Any] = {}
        for name, ref in shape.members.items():
            if not ref.location:
                kind = required if self._required and name in shape.required else optional
                kind[self._wire_name(name, ref)] = self.type_of(ref)
        made.__annotations__ = {**required, **optional}
        made.__required_keys__ = frozenset(required)
        made.__optional_keys__ = frozenset(optional)
        return made

    def _annotated(self, shape: Shape) -> Any:
        low = int(shape.min) if self._strict and shape.min is not None and abs(shape.min) < 2**62 else None
        high = int(shape.max) if self._strict and shape.max is not None and abs(shape.max) < 2**62 else None
        match shape.type:
            case "list":
                assert shape.member is not None
                member = self.type_of(shape.member)
                kind: Any = list[member | None if shape.sparse else member]  # type: ignore[misc]
                return self._sized(kind, low, high)
            case "map":
                assert shape.key is not None
                assert shape.value is not None
                value = self.type_of(shape.value)
                kind = dict[self.type_of(shape.key), value | None if shape.sparse else value]  # type: ignore[misc]
                return self._sized(kind, low, high)
            case "string" | "character":
                if self._strict and shape.enum:
                    return Literal[tuple(shape.enum)]
                pattern = full_match(shape.pattern) if self._strict and shape.pattern else None
                return self._sized(str, low, high, pattern)
            case "integer" | "long":
                bounds = scalars.INTEGER_RANGE if shape.type == "integer" else scalars.LONG_RANGE
                ge = bounds[0] if low is None else max(low, bounds[0])
                le = bounds[1] if high is None else min(high, bounds[1])
                return Annotated[int, Meta(ge=ge, le=le)]
            case "float" | "double":
                return Double
            case "boolean":
                return bool
            case "blob":
                return self._sized(bytes, low, high)
        return Any

    def _sized(self, kind: Any, low: int | None, high: int | None, pattern: str | None = None) -> Any:
        low = low or None
        if low is None and high is None and pattern is None:
            return kind
        if (low is not None and low < 0) or (high is not None and high < 0):
            return kind
        return Annotated[kind, Meta(min_length=low, max_length=high, pattern=pattern)]

    def _wire_name(self, name: str, ref: Ref) -> str:
        return ref.location_name or name if self._named else name

    def read(self, ref: Ref, value: Any) -> Any:
        """What AWS would make of a document that the types refused: nulls are left out. Raises AwsError."""
        try:
            return self._read(ref, value)
        except RecursionError:
            raise unreadable("The document is nested too deeply.") from None

    def _read(self, ref: Ref, value: Any) -> Any:
        shape = self._shapes[ref.shape]
        kind = shape.type
        if shape.document:
            return value
        if kind == "structure":
            if not isinstance(value, dict):
                raise _misplaced(value, "Structure", self._first_words)
            members = self._members(shape.name)
            return {
                members[key][0]: self._read(members[key][1], item)
                for key, item in value.items()
                if item is not None and key in members
            }
        if kind == "list":
            assert shape.member is not None
            if not isinstance(value, list | tuple):
                raise _misplaced(value, "List", self._first_words)
            return [
                None if item is None else self._read(shape.member, item)
                for item in value
                if item is not None or shape.sparse
            ]
        if kind == "map":
            assert shape.value is not None
            if not isinstance(value, dict):
                raise _misplaced(value, "Map", self._first_words)
            if not all(isinstance(key, str) for key in value):
                raise unreadable("A key of a map is not a string.")
            return {
                key: None if item is None else self._read(shape.value, item)
                for key, item in value.items()
                if item is not None or shape.sparse
            }
        return self._read_scalar(ref, kind, value)

    def _read_scalar(self, ref: Ref, kind: str, value: Any) -> Any:
        try:
            match kind:
                case "string" | "character" if isinstance(value, str):
                    return value
                case "boolean" if isinstance(value, bool):
                    return value
                case "integer" | "long" if isinstance(value, int | float) and not isinstance(value, bool):
                    low, high = scalars.INTEGER_RANGE if kind == "integer" else scalars.LONG_RANGE
                    if value == value and low <= value <= high:
                        return int(value)
                case "float" | "double":
                    return to_double(value)
                case "timestamp":
                    return to_moment(value)
                case "blob" if isinstance(value, str) and not self._cbor:
                    return scalars.read_blob(value)
                case "blob" if isinstance(value, bytes | bytearray):
                    return bytes(value)
        except (ValueError, OverflowError):
            pass
        raise _misplaced(value, kind.capitalize(), self._first_words)

    @functools.cached_property
    def _members(self) -> Callable[[str], dict[str, tuple[str, Ref]]]:
        @functools.cache
        def members(shape: str) -> dict[str, tuple[str, Ref]]:
            return {
                self._wire_name(name, ref): (name, ref)
                for name, ref in self._shapes[shape].members.items()
                if not ref.location
            }

        return members

    def inward(self, ref: Ref) -> Fix | None:
        """Renames wire names to the model's; None when there is nothing to rename."""
        return self._fix(ref, self._inward, out=False) if self._named else None

    def outward(self, ref: Ref) -> Fix | None:
        """Turns an output into a document for msgspec or cbor2; None when it already is one."""
        return self._fix(ref, self._outward, out=True)

    def _leaf(self, ref: Ref, out: bool) -> Fix | None:
        if not out:
            return None
        shape = self._shapes[ref.shape]
        if shape.type == "timestamp":
            if self._cbor:
                import cbor2

                return lambda value: cbor2.CBORTag(1, value)
            style = ref.timestamp_format or shape.timestamp_format
            return None if style in ("", "unixTimestamp") else scalars.TIMESTAMPS[style]
        if shape.type in ("float", "double") and not self._cbor:
            return _finite
        return None

    def _touches(self, ref: Ref, out: bool, seen: set[str]) -> bool:
        shape = self._shapes[ref.shape]
        if shape.type == "structure" and not shape.document:
            if shape.name in seen:
                return False
            seen.add(shape.name)
            return any(
                self._wire_name(name, member) != name or self._touches(member, out, seen)
                for name, member in shape.members.items()
                if not (member.bound if out else member.location)
            )
        if shape.type == "list":
            assert shape.member is not None
            return self._touches(shape.member, out, seen)
        if shape.type == "map":
            assert shape.value is not None
            return self._touches(shape.value, out, seen)
        return self._leaf(ref, out) is not None

    def _fix(self, ref: Ref, made: dict[str, Fix], out: bool) -> Fix | None:
        shape = self._shapes[ref.shape]
        if shape.type not in ("structure", "list", "map") or shape.document:
            return self._leaf(ref, out)
        if not self._touches(ref, out, set()):
            return None
        if shape.type == "list":
            assert shape.member is not None
            item = self._fix(shape.member, made, out)
            assert item is not None
            return functools.partial(_change_items, item)
        if shape.type == "map":
            assert shape.value is not None
            item = self._fix(shape.value, made, out)
            assert item is not None
            return functools.partial(_change_values, item)
        if shape.name in made:
            return made[shape.name]
        # Registered before its members are, so that a shape may hold itself.
        body: list[Fix] = []
        fix: Fix = lambda value: body[0](value)  # noqa: E731
        made[shape.name] = fix
        members = [(name, ref) for name, ref in shape.members.items() if not (ref.bound if out else ref.location)]
        changes: dict[str, Fix] = {}
        for name, ref in members:
            if (change := self._fix(ref, made, out)) is not None:
                changes[name] = change
        if any(self._wire_name(name, ref) != name for name, ref in members):
            table = {}
            for name, ref in members:
                wire = self._wire_name(name, ref)
                table[name if out else wire] = (wire if out else name, changes.get(name))
            body.append(functools.partial(_rename, table))
        else:
            body.append(functools.partial(_change, list(changes.items())))
        return fix


def _change_items(change: Fix, value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    return [None if item is None else change(item) for item in value]


def _change_values(change: Fix, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: None if item is None else change(item) for key, item in value.items()}


def _rename(table: dict[str, tuple[str, Fix | None]], value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    renamed = {}
    for key, item in value.items():
        if key in table:
            name, change = table[key]
            renamed[name] = item if change is None or item is None else change(item)
    return renamed


def _change(changes: list[tuple[str, Fix]], value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    copy = None
    for name, change in changes:
        if (item := value.get(name)) is not None and (changed := change(item)) is not item:
            if copy is None:
                copy = dict(value)
            copy[name] = changed
    return value if copy is None else copy


def _finite(value: Any) -> Any:
    return value if math.isfinite(value) else scalars.write_float(value)


def unreadable(message: str) -> AwsError:
    """The error for a body that is not what its protocol says."""
    return AwsError("SerializationException", message, status=400)


def _misplaced(value: Any, wanted: str, first_words: bool) -> AwsError:
    """AWS's words for a value of a wrong type; ``first_words`` are those of its first JSON services."""
    holder = wanted in ("Structure", "List", "Map")
    if isinstance(value, dict):
        return unreadable("Start of structure or map found where not expected" + ("" if first_words else "."))
    if isinstance(value, list | tuple):
        if first_words and not holder:
            return unreadable(f"Unrecognized collection type class java.lang.{wanted}")
        return unreadable("Start of list found where not expected")
    if holder:
        return unreadable("Unexpected value type in payload" if first_words else "Unexpected field type")
    if isinstance(value, bool):
        found = "TRUE_VALUE" if value else "FALSE_VALUE"
    elif isinstance(value, float) and first_words:
        found = "DECIMAL_VALUE"
    else:
        found = "NUMBER_VALUE" if isinstance(value, int | float) else "STRING_VALUE"
    if first_words:
        return unreadable(f"{found} cannot be converted to {wanted}")
    return unreadable(f"{found} can not be converted to {'an' if wanted[0] in 'AEIOU' else 'a'} {wanted}")
