"""Event patterns: JSON in, one function out, made of closures: matching an event never looks at the JSON again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.services.patterns.operators import PatternError, Test, number, operator

__all__ = ["Pattern", "PatternError", "compile_pattern"]

_OR = "$or"
_ABSENT: Any = object()

# From a value of an event, or ``_ABSENT``, to whether it matches.
_Match = Callable[[Any], bool]

_decode = msgspec.json.Decoder().decode


class Pattern:
    """A compiled pattern."""

    __slots__ = ("matches",)

    matches: Callable[[dict[str, Any]], bool]

    def __init__(self, matches: Callable[[dict[str, Any]], bool]) -> None:
        self.matches = matches


def compile_pattern(pattern: str | bytes | dict[str, Any]) -> Pattern:
    """Compile an event pattern. Raises PatternError with AWS's reason when it is not valid."""
    if not isinstance(pattern, dict):
        try:
            pattern = _decode(pattern)
        except (msgspec.DecodeError, UnicodeError):
            raise PatternError("Filter is not an object") from None
        if not isinstance(pattern, dict):
            raise PatternError("Filter is not an object")
    return Pattern(_object(pattern))


def _object(pattern: dict[str, Any]) -> _Match:
    """All fields of an object, and one of each ``$or``."""
    if not pattern:
        raise PatternError("Empty objects are not allowed")
    fields = [_named(key, _field(key, value)) for key, value in pattern.items() if not _is_or(key, value)]
    choices = [[_object(choice) for choice in value] for key, value in pattern.items() if _is_or(key, value)]
    if len(fields) == 1 and not choices:
        return fields[0]

    def matches(event: dict[str, Any]) -> bool:
        for match in fields:
            if not match(event):
                return False
        return all(any(match(event) for match in choice) for choice in choices)

    return matches


def _named(key: str, match: _Match) -> _Match:
    """A field of an object. A dot in a name is the same as nesting, in patterns as in events."""
    head, dot, rest = key.partition(".")
    inner = _nested(_named(rest, match)) if dot else match
    prefix = head + "."

    def matches(event: dict[str, Any]) -> bool:
        value = event.get(key, _ABSENT)
        if value is not _ABSENT:
            return match(value)
        if dot and head in event:
            return inner(event[head])
        joined = {name[len(prefix) :]: each for name, each in event.items() if name.startswith(prefix)}
        return inner(joined or _ABSENT)

    return matches


def _is_or(key: str, value: Any) -> bool:
    """Whether ``$or`` is the operator: a list of objects that are not operators themselves."""
    if key != _OR:
        return False
    if not isinstance(value, list):
        raise PatternError(f"It must be an Array followed with {_OR}.")
    if len(value) < 2:
        raise PatternError(f"There must have at least 2 Objects in {_OR} relationship.")
    if not all(isinstance(choice, dict) for choice in value):
        raise PatternError(f"Only JSON object is allowed in array of {_OR} relationship.")
    return True


def _field(key: str, value: Any) -> _Match:
    if isinstance(value, dict):
        return _nested(_object(value))
    if isinstance(value, list):
        return leaf(value)
    raise PatternError(f'"{key}" must be an object or an array')


def _nested(match: _Match) -> _Match:
    def matches(value: Any) -> bool:
        if isinstance(value, dict):
            return match(value)
        if isinstance(value, list):
            # The fields of one element have to match together.
            return any(matches(element) for element in value)
        return match({})

    return matches


def leaf(values: list[Any]) -> _Match:
    """What a field's value, or one of its values, may be. Raises PatternError."""
    if not values:
        raise PatternError("Empty arrays are not allowed")
    texts: set[str] = set()
    numbers: set[float] = set()
    constants: list[Any] = []
    tests: list[Test] = []
    when_absent = when_present = False
    for value in values:
        if isinstance(value, str):
            texts.add(value)
        elif value is None or isinstance(value, bool):
            constants.append(value)
        elif number(value):
            numbers.add(value)
        elif isinstance(value, dict):
            if not value:
                raise PatternError("Match expression name not found")
            if len(value) > 1:
                raise PatternError("Only one key allowed in match expression")
            ((name, of),) = value.items()
            if name != "exists":
                tests.append(operator(name, of))
            elif not isinstance(of, bool):
                raise PatternError("exists match pattern must be either true or false.")
            elif of:
                when_present = True
            else:
                when_absent = True
        else:
            raise PatternError("Match value must be String, number, true, false, or null")

    def matches(value: Any) -> bool:
        if isinstance(value, str):
            if value in texts:
                return True
        elif value is _ABSENT or isinstance(value, dict):
            return when_absent
        elif isinstance(value, list):
            return any(matches(element) for element in value) if value else when_absent
        elif value is None or isinstance(value, bool):
            if any(value is constant for constant in constants):
                return True
        elif value in numbers:
            return True
        return when_present or any(test(value) for test in tests)

    return matches
