"""The comparators of Choice states in JSONPath."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from cloudlet.services.jsonpath import NotFound, Scope, compile_path, is_number

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "GreaterThan": operator.gt,
    "LessThanEquals": operator.le,
    "GreaterThanEquals": operator.ge,
}


class Comparator(NamedTuple):
    """``takes`` says whether it can compare with a value, ``compare`` does it."""

    takes: Callable[[Any], bool]
    compare: Callable[[Any, Any], bool]


def moment_of(value: Any) -> datetime | None:
    """The time of an RFC 3339 text with a zone, or None."""
    if not isinstance(value, str) or "T" not in value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _is_moment(value: Any) -> bool:
    return moment_of(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _typed(takes: Callable[[Any], bool], compare: Callable[[Any, Any], bool]) -> Comparator:
    """Compares values of one type; another type is never a match."""
    return Comparator(takes, lambda value, other: takes(value) and takes(other) and compare(value, other))


def _on_moments(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, other: compare(moment_of(value), moment_of(other))


@functools.lru_cache(512)
def _wildcard(pattern: str) -> re.Pattern[str]:
    r"""``*`` is any text, ``\*`` is an asterisk, ``\\`` a backslash."""
    parts = re.findall(r"\\[*\\]|\*|[^*\\]+|\\", pattern)
    return re.compile(
        "".join(".*" if part == "*" else re.escape(re.sub(r"\\(.)", r"\1", part)) for part in parts), re.S
    )


def _is(test: Callable[[Any], bool]) -> Comparator:
    return Comparator(_is_boolean, lambda value, expected: test(value) == expected)


COMPARATORS: dict[str, Comparator] = {
    "StringMatches": _typed(_is_text, lambda value, pattern: _wildcard(pattern).fullmatch(value) is not None),
    "BooleanEquals": _typed(_is_boolean, operator.eq),
    "IsNull": _is(lambda value: value is None),
    "IsNumeric": _is(is_number),
    "IsString": _is(_is_text),
    "IsBoolean": _is(_is_boolean),
    "IsTimestamp": _is(_is_moment),
    "IsPresent": _is(lambda value: True),
}
for _order, _compare in _ORDERS.items():
    COMPARATORS[f"String{_order}"] = _typed(_is_text, _compare)
    COMPARATORS[f"Numeric{_order}"] = _typed(is_number, _compare)
    COMPARATORS[f"Timestamp{_order}"] = _typed(_is_moment, _on_moments(_compare))
for _name in [name for name in COMPARATORS if not name.startswith(("Is", "StringMatches"))]:
    COMPARATORS[f"{_name}Path"] = COMPARATORS[_name]


def holds(rule: dict[str, Any], scope: Scope) -> bool:
    """Whether a rule is true. Raises NotFound for a variable that is not there."""
    if "And" in rule:
        return all(holds(inner, scope) for inner in rule["And"])
    if "Or" in rule:
        return any(holds(inner, scope) for inner in rule["Or"])
    if "Not" in rule:
        return not holds(rule["Not"], scope)
    key = next(key for key in rule if key in COMPARATORS)
    path, expected = compile_path(rule["Variable"]), rule[key]
    if key == "IsPresent":
        try:
            path.value(scope)
        except NotFound:
            return expected is False
        return expected is True
    if key.endswith("Path"):
        expected = compile_path(expected).value(scope)
    return COMPARATORS[key].compare(path.value(scope), expected)
