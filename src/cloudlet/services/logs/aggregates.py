"""Aggregates of Logs Insights' stats command: what many rows make together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from cloudlet.services.logs.formulas import Formula, Parser, QueryError
from cloudlet.services.logs.values import Row, Value, number_of, text_of


class Aggregate:
    """A number or a text that is made of many rows."""

    def __init__(self, reduce: Callable[[list[Value]], Value], source: Formula) -> None:
        self._reduce = reduce
        self._source = source
        self._values: list[Value] = []

    def add(self, row: Row) -> None:
        """Take a row in."""
        if (value := self._source(row)) is not None:
            self._values.append(value)

    def result(self) -> Value:
        """What all rows make."""
        return self._reduce(self._values)


class Extreme(Aggregate):
    """The value in the latest or earliest event."""

    def __init__(self, source: Formula, latest: bool) -> None:
        super().__init__(lambda values: values[0] if values else None, source)
        self._latest = latest
        self._time: float | None = None

    def add(self, row: Row) -> None:
        time, value = number_of(row.find("@timestamp")), self._source(row)
        if time is None or value is None:
            return
        if self._time is None or (time > self._time if self._latest else time < self._time):
            self._time, self._values = time, [value]


def _of_numbers(reduce: Callable[[list[float]], float]) -> Callable[[list[Value]], Value]:
    def call(values: list[Value]) -> Value:
        numbers = [number for value in values if (number := number_of(value)) is not None]
        return reduce(numbers) if numbers else None

    return call


def _percentile(percent: float) -> Callable[[list[float]], float]:
    def call(numbers: list[float]) -> float:
        ordered = sorted(numbers)
        rank = (len(ordered) - 1) * percent / 100
        low = math.floor(rank)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)

    return call


_AGGREGATES: dict[str, Callable[[list[Value]], Value]] = {
    "count": lambda values: float(len(values)),
    "count_distinct": lambda values: float(len(set(values))),
    "sum": _of_numbers(math.fsum),
    "avg": _of_numbers(statistics.fmean),
    "min": _of_numbers(min),
    "max": _of_numbers(max),
    "stddev": _of_numbers(statistics.pstdev),
    "median": _of_numbers(statistics.median),
    "sortsfirst": lambda values: min(map(text_of, values), default=None),
    "sortslast": lambda values: max(map(text_of, values), default=None),
}


def aggregate_of(parser: Parser) -> Callable[[], Aggregate]:
    """One aggregate of a stats command."""
    name = parser.name()
    parser.need("(")
    source: Formula = lambda row: 1.0  # noqa: E731
    if name.lower() == "count" and (parser.sign("*") or parser.peek() == ("sign", ")")):
        parser.need(")")
        return lambda: Aggregate(_AGGREGATES["count"], source)
    source = parser.expression()
    if name.lower() in ("pct", "percentile"):
        parser.need(",")
        kind, percent = parser.take()
        if kind != "number":
            raise QueryError("pct needs a number")
        parser.need(")")
        return lambda: Aggregate(_of_numbers(_percentile(float(percent))), source)
    parser.need(")")
    if name.lower() in ("earliest", "latest"):
        return lambda: Extreme(source, name.lower() == "latest")
    reduce = _AGGREGATES.get(name.lower())
    if reduce is None:
        raise QueryError(f"unknown aggregate {name}")
    return lambda: Aggregate(reduce, source)
