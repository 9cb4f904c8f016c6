"""Anomaly detection: the band of values that a metric is expected to have.

The model is a mean and a standard deviation, both of what came before the time that they are compared with: of the same
hour of the week in earlier weeks; where that are too few values, of the same hour of the day on earlier days; and where
these are too few, of all values of the two weeks before. A band reaches a number of deviations to both sides of the
mean, so that it is wide where the metric varies. A deviation counts as at least a hundredth of the mean: else the least
change of a flat metric were an anomaly. What has never been negative is not expected to be.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

LEAST = 10  # values without which there is no band
TRAINED = 14 * 86_400  # seconds whose values a band is made of
_HOUR, _DAY = 3600, 86_400
_WEEK = 168  # hours
_FLAT = 0.01

Band = tuple[dict[int, float], dict[int, float]]  # the lower and the upper bound by time


class Model(NamedTuple):
    """What a detector's configuration says. ``spikes`` has the band reach to the extremes of the same hour."""

    excluded: tuple[tuple[float, float], ...] = ()
    zone: str = "UTC"
    spikes: bool = False


def model_of(configuration: dict[str, Any], characteristics: dict[str, Any]) -> Model:
    """The model of a detector."""
    ranges = configuration.get("ExcludedTimeRanges", ())
    return Model(
        tuple((one["StartTime"], one["EndTime"]) for one in ranges),
        configuration.get("MetricTimezone") or "UTC",
        characteristics.get("PeriodicSpikes", False),
    )


def band(points: dict[int, float], times: Iterable[int], deviations: float, model: Model) -> Band:
    """The band at some times, where there are enough values before them."""
    trained = [
        (time, value)
        for time, value in sorted(points.items())
        if not any(start <= time < end for start, end in model.excluded)
    ]
    past, zone = _Past(trained), ZoneInfo(model.zone)
    hours: dict[int, list[tuple[int, float]]] = {}
    for time, value in trained:
        hours.setdefault(_hour(time, zone), []).append((time, value))
    is_positive = all(value >= 0 for _, value in trained)
    lower: dict[int, float] = {}
    upper: dict[int, float] = {}
    for time in times:
        same = _same_hour(hours, time, _hour(time, zone))
        found = _mean(same) if same else past.mean(time)
        if found is None:
            continue
        mean, deviation = found
        reach = deviations * max(deviation, _FLAT * abs(mean))
        low, high = mean - reach, mean + reach
        if model.spikes and same:
            low, high = min(low, *same), max(high, *same)
        lower[time], upper[time] = max(low, 0.0) if is_positive else low, high
    return lower, upper


class _Past:
    """All values, so that the mean of those before a time costs two look-ups."""

    def __init__(self, trained: list[tuple[int, float]]) -> None:
        self._times = [time for time, _ in trained]
        # Sums of distances from a value: of squares of the values themselves little would be left.
        self._about = trained[0][1] if trained else 0.0
        self._sums = [0.0, *accumulate(value - self._about for _, value in trained)]
        self._squares = [0.0, *accumulate((value - self._about) ** 2 for _, value in trained)]

    def mean(self, time: int) -> tuple[float, float] | None:
        """Mean and deviation of the two weeks before a time."""
        first, end = bisect_left(self._times, time - TRAINED), bisect_left(self._times, time)
        count = end - first
        if count < LEAST:
            return None
        mean = (self._sums[end] - self._sums[first]) / count
        variance = (self._squares[end] - self._squares[first]) / count - mean**2
        return self._about + mean, math.sqrt(max(variance, 0.0))


def _same_hour(hours: dict[int, list[tuple[int, float]]], time: int, hour: int) -> list[float]:
    """The values of this hour in earlier weeks, else on earlier days; none where these are too few."""
    weekly = [value for at, value in hours.get(hour, ()) if time - TRAINED <= at < time - 6 * _DAY]
    if len(weekly) >= LEAST:
        return weekly
    daily = [
        value
        for day in range(7)
        for at, value in hours.get((hour + 24 * day) % _WEEK, ())
        if time - TRAINED <= at < time - _DAY / 2
    ]
    return daily if len(daily) >= LEAST else []


def _mean(values: list[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _hour(time: int, zone: ZoneInfo) -> int:
    """The hour of the week."""
    moment = datetime.fromtimestamp(time, zone)
    return moment.weekday() * 24 + moment.hour
