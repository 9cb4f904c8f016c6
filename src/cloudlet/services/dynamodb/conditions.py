"""Conditions and filters as closures over an item and the request's values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from cloudlet.services.dynamodb.errors import invalid
from cloudlet.services.dynamodb.syntax import Apply, Node, Path, Reference
from cloudlet.services.dynamodb.values import Item, Value, kind_of

Values = dict[str, Value]
Test = Callable[[Item, Values], bool]
Get = Callable[[Item, Values], Value | None]
Check = Callable[[Values], None]

_ORDERED = ("S", "N", "B")
_TYPES = ("B", "NULL", "SS", "BOOL", "L", "BS", "N", "NS", "S", "M")


def getter(parts: tuple[str | int, ...]) -> Get:
    """Finds what a document path leads to in an item, or None."""
    head, rest = str(parts[0]), parts[1:]
    if not rest:
        return lambda item, values: item.get(head)

    def get(item: Item, values: Values) -> Value | None:
        value: Any = item.get(head)
        for part in rest:
            if value is None:
                return None
            if isinstance(part, int):
                members = value.get("L")
                value = members[part] if members is not None and part < len(members) else None
            else:
                members = value.get("M")
                value = members.get(part) if members is not None else None
        return value  # type: ignore[no-any-return]

    return get


def compile_operand(node: Node) -> Get:
    """A path, a value or a size as a closure."""
    match node:
        case Path(parts):
            return getter(parts)
        case Reference(name):
            return lambda item, values: values[name]
        case Apply("size", (of,)):
            get = compile_operand(of)

            def size(item: Item, values: Values) -> Value | None:
                value = get(item, values)
                if value is None or not (value.keys() & {"S", "B", "SS", "NS", "BS", "L", "M"}):
                    return None
                return {"N": str(len(next(iter(value.values()))))}

            return size
    raise AssertionError(node)


def compile_condition(node: Node) -> Test:
    """A condition as a closure."""
    assert isinstance(node, Apply)
    name, operands = node.name, node.operands
    match name:
        case "and" | "or":
            return _all_or_any(name, tuple(compile_condition(operand) for operand in operands))
        case "not":
            inner = compile_condition(operands[0])
            return lambda item, values: not inner(item, values)
        case "attribute_exists":
            get = compile_operand(operands[0])
            return lambda item, values: get(item, values) is not None
        case "attribute_not_exists":
            get = compile_operand(operands[0])
            return lambda item, values: get(item, values) is None
    gets = tuple(compile_operand(operand) for operand in operands)
    if name == "in":
        first, members = gets[0], gets[1:]

        def among(item: Item, values: Values) -> bool:
            value = first(item, values)
            return value is not None and any(value == member(item, values) for member in members)

        return among
    if name == "between":
        value, low, high = gets
        return lambda item, values: (
            at_least(found := value(item, values), low(item, values)) and at_most(found, high(item, values))
        )
    compare = COMPARATORS[name]
    left, right = gets
    return lambda item, values: compare(left(item, values), right(item, values))


def _all_or_any(name: str, tests: tuple[Test, ...]) -> Test:
    if name == "and":

        def every(item: Item, values: Values) -> bool:
            return all(test(item, values) for test in tests)

        return every

    def some(item: Item, values: Values) -> bool:
        return any(test(item, values) for test in tests)

    return some


def equal(left: Value | None, right: Value | None) -> bool:
    """Same type and same content; a missing attribute equals nothing."""
    return left is not None and left == right


def unequal(left: Value | None, right: Value | None) -> bool:
    """The opposite of ``equal``, also for a missing attribute."""
    return left is None or left != right


def _in_order(test: Callable[[Any, Any], bool]) -> Callable[[Value | None, Value | None], bool]:
    def ordered(left: Value | None, right: Value | None) -> bool:
        if left is None or right is None:
            return False
        kind = kind_of(left)
        if kind not in _ORDERED or kind not in right:
            return False
        if kind == "N":
            return test(Decimal(left["N"]), Decimal(right["N"]))
        return test(left[kind], right[kind])

    return ordered


at_least = _in_order(operator.ge)
at_most = _in_order(operator.le)


def begins_with(value: Value | None, prefix: Value | None) -> bool:
    """Whether a text or binary value begins so."""
    if value is None or prefix is None:
        return False
    for kind in ("S", "B"):
        if kind in value and kind in prefix:
            return bool(value[kind].startswith(prefix[kind]))
    return False


def contains(value: Value | None, part: Value | None) -> bool:
    """Whether a text has this part, or a set or list this member."""
    if value is None or part is None:
        return False
    kind, inner = kind_of(value), kind_of(part)
    if kind in ("S", "B"):
        return kind == inner and part[kind] in value[kind]
    if kind in ("SS", "NS", "BS"):
        return kind[0] == inner and part[inner] in value[kind]
    return kind == "L" and part in value["L"]


def _has_type(value: Value | None, kind: Value | None) -> bool:
    return value is not None and kind is not None and kind.get("S") in value


COMPARATORS: dict[str, Callable[[Value | None, Value | None], bool]] = {
    "=": equal,
    "<>": unequal,
    "<": _in_order(operator.lt),
    "<=": at_most,
    ">": _in_order(operator.gt),
    ">=": at_least,
    "begins_with": begins_with,
    "contains": contains,
    "attribute_type": _has_type,
}


def value_checks(kind: str, node: Node) -> tuple[Check, ...]:
    """What must be true of a request's values for this condition to have a meaning."""
    checks: list[Check] = []
    _collect_checks(f"Invalid {kind}: ", node, checks)
    return tuple(checks)


def _collect_checks(prefix: str, node: Node, checks: list[Check]) -> None:
    if not isinstance(node, Apply):
        return
    for operand in node.operands:
        _collect_checks(prefix, operand, checks)
    name, operands = node.name, node.operands
    references = [operand.name for operand in operands if isinstance(operand, Reference)]
    match name:
        case "<" | "<=" | ">" | ">=" | "between":
            checks.append(_allow(prefix, name.upper(), references, _ORDERED))
            if name == "between" and isinstance(operands[1], Reference) and isinstance(operands[2], Reference):
                checks.append(_check_bounds(prefix, operands[1].name, operands[2].name))
        case "begins_with":
            checks.append(_allow(prefix, name, references, ("S", "B")))
        case "size":
            checks.append(_allow(prefix, name, references, ("S", "B", "SS", "NS", "BS", "L", "M")))
        case "attribute_type":
            checks.append(_check_type_name(prefix, operands[1]))


def _allow(prefix: str, name: str, references: list[str], kinds: tuple[str, ...]) -> Check:
    def check(values: Values) -> None:
        for reference in references:
            if (kind := kind_of(values[reference])) not in kinds:
                raise invalid(
                    f"{prefix}Incorrect operand type for operator or function; "
                    f"operator or function: {name}, operand type: {kind}"
                )

    return check


def _check_bounds(prefix: str, lower: str, upper: str) -> Check:
    def check(values: Values) -> None:
        low, high = values[lower], values[upper]
        bounds = (
            f"lower bound operand: AttributeValue: {shown(low)}, upper bound operand: AttributeValue: {shown(high)}"
        )
        if kind_of(low) != kind_of(high):
            raise invalid(f"{prefix}The BETWEEN operator requires same data type for lower and upper bounds; {bounds}")
        if not at_most(low, high):
            raise invalid(
                f"{prefix}The BETWEEN operator requires upper bound to be greater than or equal to lower bound; "
                f"{bounds}"
            )

    return check


def shown(value: Value) -> str:
    """A value as DynamoDB's messages show it: ``{N:1}``."""
    ((kind, content),) = value.items()
    return f"{{{kind}:{content}}}"


def _check_type_name(prefix: str, node: Node) -> Check:
    def check(values: Values) -> None:
        value = values[node.name] if isinstance(node, Reference) else None
        if value is None or "S" not in value:
            kind = kind_of(value) if value is not None else "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}"
            raise invalid(
                f"{prefix}Incorrect operand type for operator or function; "
                f"operator or function: attribute_type, operand type: {kind}"
            )
        if value["S"] not in _TYPES:
            raise invalid(
                f"{prefix}Invalid attribute type name found; type: {value['S']}, valid types: {{{','.join(_TYPES)}}}"
            )

    return check
