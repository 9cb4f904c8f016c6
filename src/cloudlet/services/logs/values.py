"""Values of Logs Insights: rows with their fields, and what a field's value is as a number and as a text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Value = str | float | bool | None
_REPORT = re.compile(
    r"REPORT RequestId: (?P<id>\S+)\s+Duration: (?P<duration>[\d.]+) ms\s+Billed Duration: (?P<billed>[\d.]+) ms"
    r"\s+Memory Size: (?P<size>\d+) MB\s+Max Memory Used: (?P<used>\d+) MB"
)
_REQUEST = re.compile(r"(START|END|REPORT) RequestId: (\S+)")
_MB = 1_000_000


class Row(dict[str, Any]):
    """One event or one group. Fields in the message are looked for only when one is asked for."""

    __slots__ = ("_discovered",)

    def find(self, name: str) -> Value:
        """A field's value, None when there is none."""
        if name in self:
            value: Value = self[name]
            return value
        if "@message" not in self:
            return None
        if not hasattr(self, "_discovered"):
            self._discovered = _discovered(self["@message"])
        return self._discovered.get(name)


def _discovered(message: str) -> dict[str, Value]:
    """The fields of a JSON message, and those of the lines that Lambda itself writes."""
    start = message.find("{")
    if start >= 0:
        try:
            document = json.loads(message[start:])
        except ValueError:
            document = None
        if isinstance(document, dict):
            return dict(_flat(document, ""))
    found: dict[str, Value] = {}
    if (line := _REQUEST.match(message)) is not None:
        found["@type"], found["@requestId"] = line[1], line[2]
    if (report := _REPORT.match(message)) is not None:
        found["@duration"], found["@billedDuration"] = float(report["duration"]), float(report["billed"])
        found["@memorySize"], found["@maxMemoryUsed"] = float(report["size"]) * _MB, float(report["used"]) * _MB
    return found


def _flat(value: Any, path: str) -> Iterator[tuple[str, Value]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{number}")
    elif isinstance(value, bool):
        yield path, "1" if value else "0"
    elif isinstance(value, int | float):
        yield path, float(value)
    elif value is not None:
        yield path, str(value)


def number_of(value: Value) -> float | None:
    """A value as a number, None when it is not one."""
    if isinstance(value, bool):
        return 1.0 if value else 0.0
    if isinstance(value, float | int):
        return float(value)
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return None


def text_of(value: Value) -> str:
    """A value as an answer shows it."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.10g}"
    return str(value)
