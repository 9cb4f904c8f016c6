"""Key conditions: from an expression or from ``KeyConditions`` to the key's value and a range of its second part."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from cloudlet.services.dynamodb.conditions import Values
from cloudlet.services.dynamodb.errors import bad_parameter, invalid
from cloudlet.services.dynamodb.schema import KeyPart
from cloudlet.services.dynamodb.syntax import Apply, Node, Path, Reference
from cloudlet.services.dynamodb.values import Value, kind_of

# Attribute -> its comparison and operands.
KeyConditions = dict[str, tuple[str, list[Value]]]

_TURNED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LEGACY = {"EQ": "=", "LT": "<", "LE": "<=", "GT": ">", "GE": ">=", "BETWEEN": "between", "BEGINS_WITH": "begins_with"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range of encoded keys: from ``low`` to ``high``, each included or not; None is open."""

    low: bytes | None = None
    low_included: bool = True
    high: bytes | None = None
    high_included: bool = True


EVERYTHING = Bounds()


@functools.lru_cache(2048)
def _conditions_of(tree: Node) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Attribute, comparison and the names of the values. Raises ValidationException."""
    found: dict[str, tuple[str, str, tuple[str, ...]]] = {}

    def visit(node: Node) -> None:
        if not isinstance(node, Apply):
            raise invalid("Invalid condition in KeyConditionExpression: No key attribute specified")
        name, operands = node.name, node.operands
        if name == "and":
            for operand in operands:
                visit(operand)
            return
        if name in ("or", "not", "in", "<>"):
            raise invalid(f"Invalid operator used in KeyConditionExpression: {name.upper()}")
        if name in ("attribute_exists", "attribute_not_exists", "attribute_type", "contains"):
            raise invalid(f"Invalid operator used in KeyConditionExpression: {name}")
        if any(isinstance(operand, Apply) for operand in operands):
            raise invalid("KeyConditionExpressions cannot contain nested operations")
        if name in ("between", "begins_with") and not isinstance(operands[0], Path):
            shown = name.upper() if name == "between" else name
            raise invalid(
                f"Invalid condition in KeyConditionExpression: {shown} operator must have the key attribute "
                "as its first operand"
            )
        paths = [operand for operand in operands if isinstance(operand, Path)]
        if not paths:
            raise invalid("Invalid condition in KeyConditionExpression: No key attribute specified")
        if len(paths) > 1:
            raise invalid("Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition")
        if len(paths[0].parts) > 1:
            raise invalid("KeyConditionExpressions cannot have conditions on nested attributes")
        attribute = str(paths[0].parts[0])
        if attribute in found:
            raise invalid("KeyConditionExpressions must only contain one condition per key")
        if not isinstance(operands[0], Path):
            name = _TURNED[name]
        references = tuple(operand.name for operand in operands if isinstance(operand, Reference))
        found[attribute] = (attribute, name, references)

    visit(tree)
    return tuple(found.values())


def from_expression(tree: Node, values: Values) -> KeyConditions:
    """What a KeyConditionExpression says. Raises ValidationException."""
    return {
        attribute: (name, [values[reference] for reference in references])
        for attribute, name, references in _conditions_of(tree)
    }


def from_legacy(conditions: dict[str, tuple[str, list[Value]]]) -> KeyConditions:
    """What a checked ``KeyConditions`` says. Raises ValidationException."""
    found: KeyConditions = {}
    for attribute, (name, operands) in conditions.items():
        if name not in _LEGACY:
            raise invalid("Attempted conditional constraint is not an indexable operation")
        found[attribute] = (_LEGACY[name], operands)
    return found


def resolve(conditions: KeyConditions, hash_part: KeyPart, range_part: KeyPart | None) -> tuple[bytes, Bounds]:
    """The encoded hash key and the range that the conditions mean for a table or index. Raises ValidationException."""
    if len(conditions) not in (1, 2):
        raise invalid("Conditions can be of length 1 or 2 only")
    if range_part is None and len(conditions) > 1:
        raise invalid("Query key condition not supported")
    if hash_part.name not in conditions:
        raise invalid(f"Query condition missed key schema element: {hash_part.name}")
    if range_part is not None and len(conditions) > 1 and range_part.name not in conditions:
        raise invalid(f"Query condition missed key schema element: {range_part.name}")
    name, operands = conditions[hash_part.name]
    if name != "=":
        raise invalid("Query key condition not supported")
    hash_key = hash_part.encode_hash(content_of(hash_part, operands[0]))
    if range_part is None or range_part.name not in conditions:
        return hash_key, EVERYTHING
    name, operands = conditions[range_part.name]
    keys = [range_part.encode(content_of(range_part, operand)) for operand in operands]
    return hash_key, _bounds(name, keys, operands)


def content_of(part: KeyPart, value: Value) -> str | bytes:
    """A condition's operand as a key attribute has it. Raises ValidationException."""
    content = value.get(part.kind)
    if content is None:
        raise bad_parameter("Condition parameter type does not match schema type")
    if len(content) == 0:
        word = "string" if part.kind == "S" else "binary"
        raise invalid(
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain "
            f"an empty {word} value. Key: {part.name}"
        )
    return content  # type: ignore[no-any-return]


def _bounds(name: str, keys: list[bytes], operands: list[Value]) -> Bounds:
    key = keys[0]
    match name:
        case "=":
            return Bounds(key, True, key, True)
        case "<":
            return Bounds(high=key, high_included=False)
        case "<=":
            return Bounds(high=key)
        case ">":
            return Bounds(key, False)
        case ">=":
            return Bounds(key)
        case "between":
            if keys[0] > keys[1]:
                raise invalid(
                    "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound"
                )
            return Bounds(key, True, keys[1], True)
    if "N" in operands[0]:
        raise invalid(
            "Invalid KeyConditionExpression: Incorrect operand type for operator or function; "
            f"operator or function: begins_with, operand type: {kind_of(operands[0])}"
        )
    return Bounds(key, True, after_prefix(key), False)


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key after all that begin with ``prefix``."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def satisfies(bounds: Bounds, key: bytes) -> bool:
    """Whether an encoded key lies in the range."""
    if bounds.low is not None and (key < bounds.low or (key == bounds.low and not bounds.low_included)):
        return False
    return bounds.high is None or key < bounds.high or (key == bounds.high and bounds.high_included)
