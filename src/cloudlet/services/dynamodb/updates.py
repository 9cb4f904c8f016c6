"""Update expressions: what an item becomes. Every value is computed from the item as it was."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from cloudlet.services.dynamodb import numbers
from cloudlet.services.dynamodb.conditions import Check, Values, getter
from cloudlet.services.dynamodb.errors import invalid
from cloudlet.services.dynamodb.syntax import Action, Apply, Node, Path, Reference
from cloudlet.services.dynamodb.values import Item, Value, depth_of, kind_of

Compute = Callable[[Item, Values], Value]

_NAMES = {
    "S": "STRING",
    "N": "NUMBER",
    "B": "BINARY",
    "NULL": "NULL",
    "BOOL": "BOOLEAN",
    "L": "LIST",
    "M": "MAP",
}
_SETS = ("SS", "NS", "BS")
_GONE: Value = {}  # stands in a list for what REMOVE took away, until all positions have been used


class Update:
    """A compiled update expression."""

    def __init__(self, actions: tuple[Action, ...]) -> None:
        self.paths = tuple(action.path for action in actions)
        self.creates = any(action.section in ("SET", "ADD") for action in actions)
        self.checks: tuple[Check, ...] = tuple(check for action in actions for check in _checks(action))
        # A list grows in the order of the positions that are set, whatever the order of the text.
        ordered = sorted(actions, key=lambda action: (action.section == "REMOVE", _positions(action.path)))
        self._steps = [
            (action.section, action.path.parts, None if action.value is None else _compile(action.value))
            for action in ordered
        ]

    def apply(self, old: Item, new: Item, values: Values) -> None:
        """Change ``new``, which is ``old`` again in its own memory. Raises ValidationException."""
        holes: list[list[Value]] = []
        for section, parts, compute in self._steps:
            if section == "SET":
                assert compute is not None
                value = compute(old, values)
                if ("M" in value or "L" in value) and depth_of(value) + len(parts) > 33:
                    raise invalid("Nesting Levels have exceeded supported limits")
                _put(new, parts, value)
            elif section == "REMOVE":
                _remove(new, parts, holes)
            else:
                assert compute is not None
                (add_to if section == "ADD" else delete_from)(new, parts, compute(old, values))
        for members in holes:
            members[:] = [member for member in members if member is not _GONE]


def _positions(path: Path) -> tuple[int, ...]:
    return tuple(part for part in path.parts if isinstance(part, int))


def _compile(node: Node) -> Compute:
    match node:
        case Path(parts):
            get = getter(parts)

            def read(item: Item, values: Values) -> Value:
                value = get(item, values)
                if value is None:
                    raise invalid("The provided expression refers to an attribute that does not exist in the item")
                return value

            return read
        case Reference(name):
            return lambda item, values: values[name]
        case Apply("if_not_exists", (Path(parts), otherwise)):
            get, default = getter(parts), _compile(otherwise)

            def choose(item: Item, values: Values) -> Value:
                value = get(item, values)
                return default(item, values) if value is None else value

            return choose
        case Apply(name, (one, two)):
            left, right = _compile(one), _compile(two)
            kind = "L" if name == "list_append" else "N"
            join: Callable[[Any, Any], Any] = {
                "list_append": lambda a, b: a + b,
                "+": numbers.add,
                "-": numbers.subtract,
            }[name]

            def both(item: Item, values: Values) -> Value:
                a, b = left(item, values), right(item, values)
                if kind not in a or kind not in b:
                    raise invalid("An operand in the update expression has an incorrect data type")
                return {kind: join(a[kind], b[kind])}

            return both
    raise AssertionError(node)


def _checks(action: Action) -> list[Check]:
    checks: list[Check] = []
    if action.section in ("ADD", "DELETE"):
        assert isinstance(action.value, Reference)
        checks.append(_check_section(action.section, action.value.name))
    elif action.value is not None:
        _collect(action.value, checks)
    return checks


def _check_section(section: str, reference: str) -> Check:
    def check(values: Values) -> None:
        kind = kind_of(values[reference])
        if kind in _NAMES and not (section == "ADD" and kind == "N"):
            raise invalid(
                "Invalid UpdateExpression: Incorrect operand type for operator or function; "
                f"operator: {section}, operand type: {_NAMES[kind]}, typeSet: ALLOWED_FOR_{section}_OPERAND"
            )

    return check


def _collect(node: Node, checks: list[Check]) -> None:
    if not isinstance(node, Apply):
        return
    for operand in node.operands:
        _collect(operand, checks)
        if isinstance(operand, Reference) and node.name != "if_not_exists":
            checks.append(_check_operand(node.name, operand.name))


def _check_operand(name: str, reference: str) -> Check:
    wanted = "L" if name == "list_append" else "N"

    def check(values: Values) -> None:
        if (kind := kind_of(values[reference])) != wanted:
            raise invalid(
                "Invalid UpdateExpression: Incorrect operand type for operator or function; "
                f"operator or function: {name}, operand type: {kind}"
            )

    return check


def _holder(item: Item, parts: tuple[str | int, ...]) -> Any:
    """The map or list that the last part of a path is in, or None."""
    holder: Any = item
    for depth, part in enumerate(parts[:-1]):
        if isinstance(part, int):
            value = holder[part] if isinstance(holder, list) and part < len(holder) else None
        else:
            value = holder.get(part) if isinstance(holder, dict) else None
        if value is None:
            return None
        holder = value.get("L") if isinstance(parts[depth + 1], int) else value.get("M")
        if holder is None:
            return None
    return holder


def _need_holder(item: Item, parts: tuple[str | int, ...]) -> Any:
    holder = _holder(item, parts)
    if holder is None:
        raise invalid("The document path provided in the update expression is invalid for update")
    return holder


def _put(item: Item, parts: tuple[str | int, ...], value: Value) -> None:
    holder, last = _need_holder(item, parts), parts[-1]
    if isinstance(last, int) and last >= len(holder):
        holder.append(value)
    else:
        holder[last] = value


def _remove(item: Item, parts: tuple[str | int, ...], holes: list[list[Value]]) -> None:
    if len(parts) == 1:
        item.pop(str(parts[0]), None)
        return
    holder, last = _need_holder(item, parts), parts[-1]
    if not isinstance(last, int):
        holder.pop(last, None)
    elif last < len(holder):
        holder[last] = _GONE
        holes.append(holder)


def add_to(item: Item, parts: tuple[str | int, ...], value: Value) -> None:
    """ADD: a number to a number, members to a set. Raises ValidationException."""
    holder, last = _need_holder(item, parts), parts[-1]
    if isinstance(last, int):
        old = holder[last] if last < len(holder) else None
    else:
        old = holder.get(last)
    kind = kind_of(value)
    if old is None:
        new = value
    elif kind not in old:
        raise invalid("An operand in the update expression has an incorrect data type")
    elif kind == "N":
        new = {"N": numbers.add(old["N"], value["N"])}
    else:
        new = {kind: in_set_order(kind, {*old[kind], *value[kind]})}
    if isinstance(last, int) and old is None:
        holder.append(new)
    else:
        holder[last] = new


def delete_from(item: Item, parts: tuple[str | int, ...], value: Value) -> None:
    """DELETE: members from a set, which goes when it is empty. Raises ValidationException."""
    holder, last = _need_holder(item, parts), parts[-1]
    if isinstance(last, int):
        old = holder[last] if last < len(holder) else None
    else:
        old = holder.get(last)
    if old is None:
        return
    kind = kind_of(value)
    if kind not in old:
        raise invalid("An operand in the update expression has an incorrect data type")
    left = set(old[kind]) - set(value[kind])
    if left:
        holder[last] = {kind: in_set_order(kind, left)}
    else:
        del holder[last]


def in_set_order(kind: str, members: set[Any]) -> list[Any]:
    """A set's members in the order in which sets are kept."""
    return sorted(members, key=Decimal) if kind == "NS" else sorted(members)
