"""What an alarm compares its values with: a threshold, or the band of an anomaly detector. And AWS's words for it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Protocol

from cloudlet.services.cloudwatch import anomalies

_COMPARE: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to the threshold"),
    "GreaterThanThreshold": (operator.gt, "greater than the threshold"),
    "LessThanThreshold": (operator.lt, "less than the threshold"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to the threshold"),
}
# Whether the lower and the upper bound count.
_BANDS = {
    "LessThanLowerOrGreaterThanUpperThreshold": (True, True),
    "LessThanLowerThreshold": (True, False),
    "GreaterThanUpperThreshold": (False, True),
}
OF_BANDS = frozenset(_BANDS)

Points = list[tuple[int, float]]


class Limit(Protocol):
    """What values are compared with."""

    title: str  # how reasons begin

    def breaches(self, time: int, value: float) -> bool:
        """Whether a value is beyond the limit."""
        ...

    def words(self, points: Points, negated: str = "") -> str:
        """What the points are, or (``not ``) are not."""
        ...

    def data(self, points: Points) -> dict[str, Any]:
        """What StateReasonData says of the limit."""
        ...


class Threshold:
    """A number."""

    title = "Threshold Crossed"

    def __init__(self, comparison: str, threshold: float) -> None:
        self._compare, self._words = _COMPARE[comparison]
        self._threshold = threshold

    def breaches(self, time: int, value: float) -> bool:
        return self._compare(value, self._threshold)

    def words(self, points: Points, negated: str = "") -> str:
        return f"{negated}{self._words} ({self._threshold})"

    def data(self, points: Points) -> dict[str, Any]:
        return {"threshold": self._threshold}


class Band:
    """Bounds that differ from time to time; a time that has none is not judged."""

    title = "Thresholds Crossed"

    def __init__(self, comparison: str, bounds: anomalies.Band) -> None:
        self._below, self._above = _BANDS[comparison]
        self.lower, self._upper = bounds

    def breaches(self, time: int, value: float) -> bool:
        return (self._below and value < self.lower[time]) or (self._above and value > self._upper[time])

    def words(self, points: Points, negated: str = "") -> str:
        parts = []
        if self._below:
            parts.append(f"{negated}less than the lower thresholds {[self.lower[time] for time, _ in points]}")
        if self._above:
            parts.append(f"{negated}greater than the upper thresholds {[self._upper[time] for time, _ in points]}")
        return " or ".join(parts)

    def data(self, points: Points) -> dict[str, Any]:
        data = {}
        if self._below:
            data["recentLowerThresholds"] = [self.lower[time] for time, _ in points]
        if self._above:
            data["recentUpperThresholds"] = [self._upper[time] for time, _ in points]
        return data
