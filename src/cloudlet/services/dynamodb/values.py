"""Attribute values: checking and measuring what a client sent, and items as the JSON that is stored.

An item in memory is what the wire gives: ``{"name": {"S": "text"}}`` with bytes for binary. Numbers are canonical and
sets are sorted, so that equal values are equal dictionaries.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypedDict

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.dynamodb import numbers
from cloudlet.services.dynamodb.errors import bad_parameter, invalid

Value = dict[str, Any]
Item = dict[str, Value]

LARGEST_ITEM = 400 * 1024
_DEEPEST = 32


class AttributeValue(TypedDict, total=False):
    """One attribute value, as msgspec is to read it: exactly one member is there."""

    S: str
    N: str
    B: bytes
    SS: list[str]
    NS: list[str]
    BS: list[bytes]
    M: dict[str, AttributeValue]
    L: list[AttributeValue]
    NULL: bool
    BOOL: bool


decode: Any = msgspec.json.Decoder(dict[str, AttributeValue]).decode
encode = msgspec.json.Encoder().encode


def check_item(item: Item) -> int:
    """Check every value of an item, make it canonical, and return the item's size in bytes."""
    if "" in item:
        raise empty_name()
    size = 0
    for name, value in item.items():
        size += len(name) if name.isascii() else len(name.encode())
        if len(value) == 1 and (text := value.get("S")) is not None:
            # Most values are texts, which need no checking.
            size += len(text) if text.isascii() else len(text.encode())
        else:
            size += check(value)
    return size


def empty_name() -> AwsError:
    """An attribute without a name."""
    return bad_parameter("Empty attribute name")


def check(value: Value, depth: int = 1) -> int:
    """Check one value, make it canonical in place, and return its size in bytes. Raises ValidationException."""
    if len(value) != 1:
        if not value:
            raise invalid("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes")
        raise invalid(
            "Supplied AttributeValue has more than one datatypes set, "
            "must contain exactly one of the supported datatypes"
        )
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content) if content.isascii() else len(content.encode())
    if kind == "N":
        value["N"] = number = numbers.canonical(content)
        return numbers.size(number)
    if kind == "BOOL":
        return 1
    if kind == "B":
        return len(content)
    if kind == "NULL":
        if not content:
            raise bad_parameter("Null attribute value types must have the value of true")
        return 1
    if kind == "M":
        _check_depth(depth)
        size = 3
        for name, member in content.items():
            size += 1 + (len(name) if name.isascii() else len(name.encode())) + check(member, depth + 1)
        return size
    if kind == "L":
        _check_depth(depth)
        size = 3
        for member in content:
            size += 1 + check(member, depth + 1)
        return size
    return _check_set(value, kind, content)


def _check_depth(depth: int) -> None:
    if depth > _DEEPEST:
        raise invalid(
            "Nesting Levels have exceeded supported limits: Attributes cannot be nested deeper than 32 levels"
        )


def _check_set(value: Value, kind: str, members: list[Any]) -> int:
    if kind == "SS":
        if not members:
            raise bad_parameter("An string set  may not be empty")
        if len(set(members)) < len(members):
            raise bad_parameter(f"Input collection [{', '.join(members)}] contains duplicates.")
        value[kind] = sorted(members)
        return sum(len(member.encode()) for member in members)
    if kind == "NS":
        if not members:
            raise bad_parameter("An number set  may not be empty")
        members = [numbers.canonical(member) for member in members]
        if len(set(members)) < len(members):
            raise invalid("Input collection contains duplicates")
        value[kind] = sorted(members, key=Decimal)
        return sum(numbers.size(member) for member in members)
    if not members:
        raise bad_parameter("Binary sets should not be empty")
    if len(set(members)) < len(members):
        import base64

        shown = ", ".join(base64.b64encode(member).decode() for member in members)
        raise bad_parameter(f"Input collection [{shown}]of type BS contains duplicates.")
    value[kind] = sorted(members)
    return sum(len(member) for member in members)


def item_size(item: Item) -> int:
    """The size of an item that was checked before."""
    size = 0
    for name, value in item.items():
        size += len(name) if name.isascii() else len(name.encode())
        text = value.get("S")
        size += _size(value) if text is None else len(text) if text.isascii() else len(text.encode())
    return size


def _size(value: Value) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return numbers.size(content)
        case "B":
            return len(content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(member) for name, member in content.items())
        case "L":
            return 3 + sum(1 + _size(member) for member in content)
        case "SS":
            return sum(len(member.encode()) for member in content)
        case "NS":
            return sum(numbers.size(member) for member in content)
        case "BS":
            return sum(len(member) for member in content)
    return 1


def kind_of(value: Value) -> str:
    """The type of a value: S, N, B, ..."""
    return next(iter(value))


def depth_of(value: Value) -> int:
    """How many maps and lists lie inside one another."""
    if "M" in value:
        return 1 + max((depth_of(member) for member in value["M"].values()), default=0)
    if "L" in value:
        return 1 + max((depth_of(member) for member in value["L"]), default=0)
    return 0


def too_large() -> AwsError:
    """The item is larger than 400 KB."""
    return invalid("Item size has exceeded the maximum allowed size")
