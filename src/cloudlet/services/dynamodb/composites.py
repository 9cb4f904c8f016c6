"""Keys of several attributes, which global secondary indexes may have: their parts joined so that order is kept."""

from __future__ import annotations

from cloudlet.services.dynamodb.errors import bad_parameter, invalid
from cloudlet.services.dynamodb.keyconditions import EVERYTHING, Bounds, KeyConditions, after_prefix, content_of
from cloudlet.services.dynamodb.schema import Keys, escape, join, with_checksum
from cloudlet.services.dynamodb.values import kind_of


def resolve(conditions: KeyConditions, keys: Keys) -> tuple[bytes, Bounds]:
    """The encoded hash key and the range that the conditions mean: every hash attribute has its value, and of the range
    attributes, from the left, all but the last that is named. Raises ValidationException."""
    hashes = []
    for part in keys.hashes:
        if part.name not in conditions:
            raise invalid(f"Query condition missed key schema element: {part.name}")
        name, operands = conditions[part.name]
        if name != "=":
            raise invalid("Query key condition not supported")
        hashes.append(part.encode(content_of(part, operands[0])))
    if any(name not in keys.names for name in conditions):
        raise invalid("Query key condition not supported")
    return with_checksum(join(hashes)), _range(conditions, keys)


def _range(conditions: KeyConditions, keys: Keys) -> Bounds:
    prefix = b""
    for at, part in enumerate(keys.ranges):
        later = any(other.name in conditions for other in keys.ranges[at + 1 :])
        if part.name not in conditions:
            if later:
                raise invalid(f"Query condition missed key schema element: {part.name}")
            break
        name, operands = conditions[part.name]
        ends = [part.encode(content_of(part, operand)) for operand in operands]
        if name == "=":
            prefix += escape(ends[0])
            continue
        if later:
            raise invalid("Query key condition not supported")
        if name == "begins_with":
            if part.kind == "N":
                raise bad_parameter(
                    f"ComparisonOperator BEGINS_WITH is not valid for {kind_of(operands[0])} AttributeValue type"
                )
            start = prefix + escape(ends[0], ended=False)
            return Bounds(start, True, after_prefix(start), False)
        return _between(name, prefix, ends)
    return Bounds(prefix, True, after_prefix(prefix), False) if prefix else EVERYTHING


def _between(name: str, prefix: bytes, ends: list[bytes]) -> Bounds:
    """The keys that begin with ``prefix`` and go on with what a comparison allows, and then anything."""
    end = prefix + escape(ends[0])
    first, last = prefix or None, after_prefix(prefix) if prefix else None
    match name:
        case "<":
            return Bounds(first, True, end, False)
        case "<=":
            return Bounds(first, True, after_prefix(end), False)
        case ">":
            return Bounds(after_prefix(end), True, last, False)
        case ">=":
            return Bounds(end, True, last, False)
    if ends[0] > ends[1]:
        raise invalid(
            "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound"
        )
    return Bounds(end, True, after_prefix(prefix + escape(ends[1])), False)
