"""Statistics: what is kept of many values, and the numbers that are taken from it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

import msgspec

_EXACT = 150  # distinct values that one summary keeps as they are; of more, three significant digits are kept
_DIGITS = 3

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[float, float]]).decode

Statistic = Callable[["Summary"], float | None]
Values = list[tuple[float, float]]  # values in order, each with how often it was there


class Summary:
    """Values of one metric in one stretch of time. ``values`` is None where only a statistic set is known."""

    __slots__ = ("count", "greatest", "least", "sum", "values")

    def __init__(
        self, count: float, sum: float, least: float, greatest: float, values: dict[float, float] | None
    ) -> None:
        self.count = count
        self.sum = sum
        self.least = least
        self.greatest = greatest
        self.values = values

    @classmethod
    def of(cls, values: dict[float, float]) -> Summary:
        """The summary of values with their counts, at least one."""
        count, total = math.fsum(values.values()), math.fsum(value * times for value, times in values.items())
        return cls(count, total, min(values), max(values), coarse(dict(values)))

    def add(self, other: Summary) -> None:
        """Take another's values in."""
        self.count += other.count
        self.sum += other.sum
        self.least = min(self.least, other.least)
        self.greatest = max(self.greatest, other.greatest)
        if self.values is None or other.values is None:
            self.values = None
            return
        for value, times in other.values.items():
            self.values[value] = self.values.get(value, 0.0) + times
        self.values = coarse(self.values)

    def copy(self) -> Summary:
        """One that can be added to."""
        values = None if self.values is None else dict(self.values)
        return Summary(self.count, self.sum, self.least, self.greatest, values)

    def pack(self) -> bytes | None:
        """The values as they are stored."""
        return None if self.values is None else _encode(sorted(self.values.items()))


def unpack(packed: bytes | None) -> dict[float, float] | None:
    """Values as they were stored."""
    return None if packed is None else dict(_decode(packed))


def coarse(values: dict[float, float]) -> dict[float, float]:
    """Values with three significant digits once they are many: percentiles then err by half a percent at most."""
    if len(values) <= _EXACT:
        return values
    rounded: dict[float, float] = {}
    for value, times in values.items():
        if value and math.isfinite(value):
            value = round(value, _DIGITS - 1 - math.floor(math.log10(abs(value))))
        rounded[value] = rounded.get(value, 0.0) + times
    return rounded


_SIMPLE: dict[str, Statistic] = {
    "SampleCount": lambda summary: summary.count,
    "Average": lambda summary: summary.sum / summary.count if summary.count else 0.0,
    "Sum": lambda summary: summary.sum,
    "Minimum": lambda summary: summary.least,
    "Maximum": lambda summary: summary.greatest,
}
_SHORT = re.compile(r"(p|tm|tc|ts|wm)(\d{1,2}(?:\.\d{0,10})?|100)", re.IGNORECASE)
_BOUND = r"\d+(?:\.\d{0,10})?(?:[Ee][+-]?\d+)?"
_RANGE = re.compile(rf"(TM|TC|TS|WM|PR)\(({_BOUND})?(%)?:({_BOUND})?(%)?\)", re.IGNORECASE)


def compile_statistic(name: str) -> Statistic | None:
    """The function of a statistic's name, None when there is none of that name."""
    if name in _SIMPLE:
        return _SIMPLE[name]
    if name.upper() == "IQM":
        return _trimmed("TM", 25.0, 75.0, True)
    if (short := _SHORT.fullmatch(name)) is not None:
        kind, upper = short[1].upper(), float(short[2])
        return _percentile(upper) if kind == "P" else _trimmed(kind, 0.0, upper, True)
    if (ranged := _RANGE.fullmatch(name)) is None:
        return None
    kind, low, low_percent, high, high_percent = ranged.groups()
    percent = bool(low_percent or high_percent)
    if (low is None and high is None) or (
        percent and any(b and not p for b, p in ((low, low_percent), (high, high_percent)))
    ):
        return None
    least = float(low) if low else 0.0 if percent else -math.inf
    greatest = float(high) if high else 100.0 if percent else math.inf
    return None if kind.upper() == "PR" and percent else _trimmed(kind.upper(), least, greatest, percent)


def _percentile(percent: float) -> Statistic:
    def take(summary: Summary) -> float | None:
        values = _sorted(summary)
        return None if values is None else _at(values, percent)

    return take


def _trimmed(kind: str, low: float, high: float, percent: bool) -> Statistic:
    def take(summary: Summary) -> float | None:
        values = _sorted(summary)
        if values is None:
            return None
        kept = list(_within(values, low, high, percent))
        count = math.fsum(times for _, times in kept)
        if kind == "TC":
            return count
        total = math.fsum(value * times for value, times in kept)
        if kind == "TS":
            return total
        everything = math.fsum(times for _, times in values)
        if kind == "PR":
            return 100.0 * count / everything
        if kind == "TM":
            return total / count if count else None
        # Winsorized: what is outside counts as what is at the bound.
        least, greatest = (_at(values, low), _at(values, high)) if percent else (low, high)
        below = everything * low / 100 if percent else math.fsum(times for value, times in values if value < low)
        return (total + (below * least if below else 0.0) + _above(everything - count - below, greatest)) / everything

    return take


def _above(times: float, value: float) -> float:
    return times * value if times > 0 else 0.0


def _sorted(summary: Summary) -> Values | None:
    if summary.values is not None:
        return sorted(summary.values.items())
    # Of a statistic set nothing is known between its bounds, unless they are one.
    if summary.count == 1 or summary.least == summary.greatest:
        return [(summary.least, summary.count)]
    return None


def _at(values: Values, percent: float) -> float:
    """The value below which so many percent are, between two values in proportion."""
    rank = (math.fsum(times for _, times in values) - 1) * percent / 100
    passed = 0.0
    for number, (value, times) in enumerate(values):
        passed += times
        if rank <= passed - 1 or number == len(values) - 1:
            return value
        if rank < passed:
            return value + (values[number + 1][0] - value) * (rank - (passed - 1))
    raise AssertionError("a summary has values")


def _within(values: Values, low: float, high: float, percent: bool) -> Iterable[tuple[float, float]]:
    """The values between two bounds, or between two percentages of all."""
    if not percent:
        yield from ((value, times) for value, times in values if low <= value <= high)
        return
    everything = math.fsum(times for _, times in values)
    start, end = everything * low / 100, everything * high / 100
    passed = 0.0
    for value, times in values:
        part = min(passed + times, end) - max(passed, start)
        passed += times
        if part > 1e-9:
            yield value, part
