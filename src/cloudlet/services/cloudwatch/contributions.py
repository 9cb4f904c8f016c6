"""Definitions of Contributor Insights' rules, compiled: which log events count, for whom, and how much.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/ContributorInsights-RuleSyntax.html
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from typing import Any

from cloudlet.errors import not_implemented

_PATH = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_CLF = re.compile(r'\[([^\]]*)\]|"((?:[^"\\]|\\.)*)"|(\S+)')
_KEYS_AT_MOST = 4
_FILTERS_AT_MOST = 4
_VALUES_AT_MOST = 10
_NUMERIC: dict[str, Callable[[float, float], bool]] = {
    "GreaterThan": operator.gt,
    "LessThan": operator.lt,
    "EqualTo": operator.eq,
    "NotEqualTo": operator.ne,
}
_TEXTUAL: dict[str, Callable[[str, list[str]], bool]] = {
    "In": lambda value, wanted: value in wanted,
    "NotIn": lambda value, wanted: value not in wanted,
    "StartsWith": lambda value, wanted: value.startswith(tuple(wanted)),
}

Event = Any  # a log event's message, parsed: a JSON object, or the fields of a line
Field = Callable[[Event], "str | None"]  # a leaf's value as text, None where the event has none


class DefinitionError(Exception):
    """What is wrong with a rule's definition."""


class Definition:
    """A compiled definition. ``labels`` are its keys as they are written; ``sums`` tells Sum from Count."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Raises DefinitionError, and NotImplemented for rules that AWS manages."""
        _check_schema(document)
        self._groups = _strings(document, "LogGroupNames", 10_000) if "LogGroupNames" in document else []
        if "LogGroupARNs" in document:
            raise not_implemented("PutInsightRule with LogGroupARNs")
        if not self._groups:
            raise DefinitionError("LogGroupNames is required")
        self._parse, field = _format(document)
        contribution = document.get("Contribution")
        if not isinstance(contribution, dict):
            raise DefinitionError("Contribution is required")
        self.labels = _strings(contribution, "Keys", _KEYS_AT_MOST)
        self._keys = [field(label) for label in self.labels]
        aggregate = document.get("AggregateOn")
        if aggregate not in ("Count", "Sum"):
            raise DefinitionError("AggregateOn must be Count or Sum")
        self.sums = aggregate == "Sum"
        if self.sums and "ValueOf" not in contribution:
            raise DefinitionError("ValueOf is required to aggregate on Sum")
        self._value = field(contribution["ValueOf"]) if self.sums else None
        filters = contribution.get("Filters") or []
        if not isinstance(filters, list) or len(filters) > _FILTERS_AT_MOST:
            raise DefinitionError(f"Filters must be a list of at most {_FILTERS_AT_MOST}")
        self._tests = [_filter(one, field) for one in filters]

    def hears(self, group: str) -> bool:
        """Whether events of a log group count."""
        return any(group.startswith(one[:-1]) if one.endswith("*") else group == one for one in self._groups)

    def contribution(self, message: str) -> tuple[tuple[str, ...], float] | None:
        """Whom an event counts for, and how much; None where it does not count."""
        event = self._parse(message)
        if event is None or not all(test(event) for test in self._tests):
            return None
        keys = tuple(key(event) for key in self._keys)
        value = 1.0 if self._value is None else _number(self._value(event))
        if value is None or None in keys:
            return None
        return tuple(str(key) for key in keys), value


def compile_definition(text: str) -> Definition:
    """Compile a rule's definition. Raises DefinitionError and, by name, NotImplemented for what is not there."""
    try:
        document = json.loads(text)
    except ValueError:
        raise DefinitionError("it is not valid JSON") from None
    if not isinstance(document, dict):
        raise DefinitionError("it is not a JSON object")
    return Definition(document)


def _check_schema(document: dict[str, Any]) -> None:
    schema = document.get("Schema")
    if not isinstance(schema, dict) or schema.get("Version") != 1:
        raise DefinitionError('Schema must be {"Name": "CloudWatchLogRule", "Version": 1}')
    if schema.get("Name") != "CloudWatchLogRule":
        raise not_implemented(f"PutInsightRule with the schema {schema.get('Name')}")


def _format(document: dict[str, Any]) -> tuple[Callable[[str], Event], Callable[[str], Field]]:
    """How events are parsed, and what gives a field by its name."""
    kind = document.get("LogFormat")
    if kind == "JSON":
        return _parse_json, _json_field
    if kind != "CLF":
        raise DefinitionError("LogFormat must be JSON or CLF")
    names = {name: place for place, name in (document.get("Fields") or {}).items()}
    return _parse_line, lambda name: _line_field(names.get(name, name))


def _parse_json(message: str) -> Event:
    try:
        event = json.loads(message)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _parse_line(message: str) -> Event:
    return [next(part for part in found if part is not None) for found in map(re.Match.groups, _CLF.finditer(message))]


def _json_field(name: Any) -> Field:
    """The leaf that ``$.a.b[0]`` leads to."""
    steps = list(_PATH.finditer(name)) if isinstance(name, str) else []
    if not steps or name != "$" + "".join(step[0] for step in steps):
        raise DefinitionError(f"{name} is not in JSON property format")
    path = [step[1] if step[1] is not None else int(step[2]) for step in steps]

    def find(event: Event) -> str | None:
        for step in path:
            try:
                event = event[step]
            except (KeyError, IndexError, TypeError):
                return None
        if isinstance(event, str):
            return event
        return None if event is None or isinstance(event, dict | list) else json.dumps(event)

    return find


def _line_field(place: Any) -> Field:
    """The field of a line at a place, which counts from 1."""
    if not isinstance(place, str) or not place.isdigit() or place == "0":
        raise DefinitionError(f"there is no field {place}")
    number = int(place)
    return lambda event: event[number - 1] if number <= len(event) else None


def _filter(given: Any, field: Callable[[str], Field]) -> Callable[[Event], bool]:
    if not isinstance(given, dict) or len(given) != 2 or "Match" not in given:
        raise DefinitionError("a filter must have Match and one operator")
    found = field(given["Match"])
    (kind,) = given.keys() - {"Match"}
    wanted = given[kind]
    if kind in _TEXTUAL:
        holds, values = _TEXTUAL[kind], _strings(given, kind, _VALUES_AT_MOST)
        return lambda event: (value := found(event)) is not None and holds(value, values)
    if kind in _NUMERIC:
        if isinstance(wanted, bool) or not isinstance(wanted, int | float):
            raise DefinitionError(f"{kind} takes a number")
        compare = _NUMERIC[kind]
        return lambda event: (value := _number(found(event))) is not None and compare(value, wanted)
    if kind != "IsPresent" or not isinstance(wanted, bool):
        raise DefinitionError(f"{kind} is not an operator" if kind != "IsPresent" else "IsPresent takes true or false")
    return lambda event: (found(event) is not None) == wanted


def _strings(document: dict[str, Any], name: str, most: int) -> list[str]:
    found = document.get(name)
    if not isinstance(found, list) or not 1 <= len(found) <= most or not all(isinstance(one, str) for one in found):
        raise DefinitionError(f"{name} must be a list of 1 to {most} strings")
    return found


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
