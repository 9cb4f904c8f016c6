"""The parameters before expressions: ``Expected``, ``AttributeUpdates``, ``KeyConditions`` and the two filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cloudlet.services.dynamodb.conditions import COMPARATORS, Values, at_least, at_most
from cloudlet.services.dynamodb.errors import bad_parameter, invalid
from cloudlet.services.dynamodb.expressions import Predicate
from cloudlet.services.dynamodb.syntax import Path
from cloudlet.services.dynamodb.updates import add_to, delete_from
from cloudlet.services.dynamodb.values import Item, Value, check, empty_name, kind_of

_SCALARS = ("S", "N", "B")
_WITH_SETS = (*_SCALARS, "SS", "NS", "BS")
_ALLOWED = {
    "EQ": (*_WITH_SETS, "L", "M", "BOOL", "NULL"),
    "NE": (*_WITH_SETS, "L", "M", "BOOL", "NULL"),
    **dict.fromkeys(("LE", "LT", "GE", "GT", "BETWEEN", "IN", "CONTAINS", "NOT_CONTAINS"), _SCALARS),
    "BEGINS_WITH": ("S", "B"),
}
_COMPARE = {
    "EQ": "=",
    "NE": "<>",
    "LE": "<=",
    "LT": "<",
    "GE": ">=",
    "GT": ">",
    "CONTAINS": "contains",
    "BEGINS_WITH": "begins_with",
}


def read_conditions(conditions: dict[str, Any]) -> dict[str, tuple[str, list[Value]]]:
    """Check ``KeyConditions``, ``QueryFilter`` or ``ScanFilter``. Raises ValidationException."""
    found = {}
    for attribute, condition in conditions.items():
        name, operands = condition["ComparisonOperator"], condition.get("AttributeValueList", [])
        for operand in operands:
            check(operand)
        _check_operands(name, operands)
        found[attribute] = (name, operands)
    return found


def _check_operands(name: str, operands: list[Value]) -> None:
    count = len(operands)
    fits = {"NULL": count == 0, "NOT_NULL": count == 0, "IN": count > 0, "BETWEEN": count == 2}.get(name, count == 1)
    if not fits:
        raise bad_parameter(f"Invalid number of argument(s) for the {name} ComparisonOperator")
    kinds = {kind_of(operand) for operand in operands}
    if len(kinds) > 1:
        raise bad_parameter("AttributeValues inside AttributeValueList must be of same type")
    for kind in kinds:
        if kind not in _ALLOWED[name]:
            raise bad_parameter(f"ComparisonOperator {name} is not valid for {kind} AttributeValue type")
    if name == "BETWEEN" and not at_most(*operands):
        raise invalid(
            "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound"
        )


def predicate(conditions: dict[str, tuple[str, list[Value]]], connective: str) -> Predicate:
    """All conditions (``AND``) or at least one (``OR``) as a test of an item."""
    tests = [_test(attribute, name, operands) for attribute, (name, operands) in conditions.items()]
    if connective == "OR":
        return lambda item: any(test(item) for test in tests)
    return lambda item: all(test(item) for test in tests)


def _test(attribute: str, name: str, operands: list[Value]) -> Predicate:
    match name:
        case "NULL":
            return lambda item: attribute not in item
        case "NOT_NULL":
            return lambda item: attribute in item
        case "IN":
            return lambda item: item.get(attribute) in operands
        case "BETWEEN":
            low, high = operands
            return lambda item: at_least(item.get(attribute), low) and at_most(item.get(attribute), high)
        case "NOT_CONTAINS":
            has = COMPARATORS["contains"]
            return lambda item: attribute in item and not has(item[attribute], operands[0])
    compare = COMPARATORS[_COMPARE[name]]
    return lambda item: compare(item.get(attribute), operands[0])


def expected(input: dict[str, Any]) -> Predicate | None:
    """The test in ``Expected``, or None. Raises ValidationException."""
    expectations = input.get("Expected")
    if not expectations:
        if "ConditionalOperator" in input:
            raise bad_parameter("ConditionalOperator cannot be used without Filter or Expected")
        return None
    if "ConditionalOperator" in input and len(expectations) == 1:
        raise bad_parameter("ConditionalOperator can only be used when Filter or Expected has two or more elements")
    conditions = {attribute: _expectation(attribute, given) for attribute, given in expectations.items()}
    return predicate(conditions, input.get("ConditionalOperator", "AND"))


def _expectation(attribute: str, given: dict[str, Any]) -> tuple[str, list[Value]]:
    value, operands, name = given.get("Value"), given.get("AttributeValueList"), given.get("ComparisonOperator")
    if value is not None:
        check(value)
    for operand in operands or ():
        check(operand)
    if value is not None and operands is not None:
        raise bad_parameter(f"Value and AttributeValueList cannot be used together for Attribute: {attribute}")
    if name is not None:
        if "Exists" in given:
            raise bad_parameter(f"Exists and ComparisonOperator cannot be used together for Attribute: {attribute}")
        if name not in ("NULL", "NOT_NULL") and value is None and operands is None:
            raise bad_parameter(
                f"Value or AttributeValueList must be used with ComparisonOperator: {name} for Attribute: {attribute}"
            )
        operands = operands if operands is not None else ([] if value is None else [value])
        _check_operands(name, operands)
        return name, operands
    if operands is not None:
        raise bad_parameter(f"AttributeValueList can only be used with a ComparisonOperator for Attribute: {attribute}")
    exists = given.get("Exists", True)
    if exists and value is None:
        shown = "true" if "Exists" in given else "null"
        raise bad_parameter(f"Value must be provided when Exists is {shown} for Attribute: {attribute}")
    if not exists and value is not None:
        raise bad_parameter(f"Value cannot be used when Exists is false for Attribute: {attribute}")
    return ("NULL", []) if value is None else ("EQ", [value])


def filter_of(input: dict[str, Any], name: str) -> tuple[Predicate | None, frozenset[str]]:
    """The test in ``QueryFilter`` or ``ScanFilter`` and the attributes it looks at. Raises ValidationException."""
    given = input.get(name)
    if not given:
        return None, frozenset()
    conditions = read_conditions(given)
    return predicate(conditions, input.get("ConditionalOperator", "AND")), frozenset(conditions)


class AttributeUpdates:
    """``AttributeUpdates``, with the shape of a compiled update expression."""

    def __init__(self, updates: dict[str, Any]) -> None:
        self.paths = tuple(Path((attribute,)) for attribute in updates)
        self.creates = False
        self._steps: list[Callable[[Item], None]] = []
        for attribute, update in updates.items():
            if not attribute:
                raise empty_name()
            self._steps.append(self._step(attribute, update.get("Action", "PUT"), update.get("Value")))

    def _step(self, attribute: str, action: str, value: Value | None) -> Callable[[Item], None]:
        if value is None:
            if action != "DELETE":
                raise bad_parameter("Only DELETE action is allowed when no attribute value is specified")
            return lambda item: _drop(item, attribute)
        check(value)
        kind = kind_of(value)
        if action == "DELETE":
            if kind not in ("SS", "NS", "BS"):
                raise bad_parameter(f"DELETE action with value is not supported for the type {kind}")
            return lambda item: _matching(delete_from, item, attribute, value)
        self.creates = True
        if action == "ADD":
            if kind not in ("N", "SS", "NS", "BS", "L"):
                raise bad_parameter(f"ADD action is not supported for the type {kind}")
            return lambda item: _matching(_add, item, attribute, value)
        return lambda item: item.__setitem__(attribute, value)

    def apply(self, old: Item, new: Item, values: Values) -> None:
        """Change ``new``, which is ``old`` again in its own memory. Raises ValidationException."""
        for step in self._steps:
            step(new)


def _drop(item: Item, attribute: str) -> None:
    item.pop(attribute, None)


def _matching(
    change: Callable[[Item, tuple[str | int, ...], Value], None], item: Item, attribute: str, value: Value
) -> None:
    old = item.get(attribute)
    if old is not None and kind_of(value) not in old:
        raise invalid("Type mismatch for attribute to update")
    change(item, (attribute,), value)


def _add(item: Item, parts: tuple[str | int, ...], value: Value) -> None:
    if "L" in value:
        attribute = str(parts[0])
        item[attribute] = {"L": item.get(attribute, {"L": []})["L"] + value["L"]}
    else:
        add_to(item, parts, value)
