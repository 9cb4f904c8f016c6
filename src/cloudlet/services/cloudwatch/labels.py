"""Dynamic labels: ``${AVG}`` or ``${PROP('Dim.QueueName')}`` in a query's label, filled in for its series."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from cloudlet.errors import not_implemented

_PART = re.compile(r"\$\{\s*([A-Z_]+)\s*(?:\(\s*'([^']*)'\s*\))?\s*\}")
_MOST = 6

Values = list[float]
_OF_VALUES: dict[str, Callable[[Values], float]] = {
    "AVG": lambda values: math.fsum(values) / len(values),
    "MAX": max,
    "MIN": min,
    "SUM": math.fsum,
    "FIRST": lambda values: values[0],
    "LAST": lambda values: values[-1],
    "DATAPOINT_COUNT": lambda values: float(len(values)),
    "FIRST_LAST_RANGE": lambda values: values[-1] - values[0],
    "MIN_MAX_RANGE": lambda values: max(values) - min(values),
}
_PROPERTIES = frozenset(("AccountId", "MetricName", "Namespace", "Period", "Region", "Stat"))


def check(label: str) -> None:
    """Raises NotImplemented, by its name, for a part that is not there."""
    for name, argument in _PART.findall(label):
        known = name == "LABEL" or name in _OF_VALUES
        if name == "PROP":
            known = argument in _PROPERTIES or argument.startswith("Dim.")
        if not known:
            raise not_implemented(f"the dynamic label ${{{name}}}")


def filled(label: str, plain: str, properties: Mapping[str, str], values: Values) -> str:
    """A label with its parts filled in; ``plain`` is the label that there would be without one.

    A part that has no value, as the average of nothing, stays as it is written.
    """
    left = _MOST

    def fill(found: re.Match[str]) -> str:
        nonlocal left
        name, argument = found[1], found[2]
        left -= 1
        if left < 0:
            return found[0]
        if name == "LABEL":
            return plain
        if name == "PROP":
            return properties.get(argument, found[0])
        return _written(_OF_VALUES[name](values)) if values and name in _OF_VALUES else found[0]

    return _PART.sub(fill, label)


def _written(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
