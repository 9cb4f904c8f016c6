"""Metric math's values and functions. A value is a number, a time series, an array of time series, or a word."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from cloudlet.errors import not_implemented


class MathError(Exception):
    """What is wrong with an expression, in words for its author."""


class Series(NamedTuple):
    """Values by time (epoch seconds)."""

    label: str
    period: int
    points: dict[int, float]

    def with_points(self, points: Iterable[tuple[int, float]]) -> Series:
        """The same with other points, in the order of time."""
        return self._replace(points=dict(points))


Value = float | Series | list[Series] | str


class Environment(Protocol):
    """What an expression may ask for: other queries' values by their ids, and the times that it is about."""

    period: int  # of the expression

    @property
    def value(self) -> Callable[[str], Value]:
        """Gives another query's value by its id."""
        ...

    @property
    def search(self) -> Callable[[str, str, int], list[Series]]:
        """Gives the series of all metrics that a search finds, by a statistic and a period."""
        ...

    def metrics(self, part: Value = "") -> list[Series]:
        """METRICS(): the metrics of the request whose ids hold a text."""
        ...

    @property
    def band(self) -> Callable[[str, float], list[Series]]:
        """Gives the bounds of a query's values, by its id and a number of standard deviations."""
        ...

    def contributed(self, rule: str, metric: str) -> Series:
        """What an insight rule has counted."""
        ...

    def times(self, period: int) -> range:
        """The starts of all stretches of time."""
        ...


def broadcast(join: Callable[[float, float], float | None], left: Value, right: Value) -> Value:
    """Join two values: numbers with everything, series where both have a point."""
    if isinstance(left, str) or isinstance(right, str):
        raise MathError("A text cannot be calculated with.")
    if isinstance(left, list):
        if isinstance(right, list):
            raise MathError("Two arrays of time series cannot be calculated with each other.")
        return [_one(join, each, right) for each in left]
    if isinstance(right, list):
        return [_one(join, left, each) for each in right]
    if isinstance(left, Series) or isinstance(right, Series):
        return _one(join, left, right)
    found = join(left, right)
    return math.nan if found is None else float(found)


def _one(join: Callable[[float, float], float | None], left: float | Series, right: float | Series) -> Series:
    if isinstance(left, Series):
        if isinstance(right, Series):
            pairs = (
                (time, join(value, right.points[time])) for time, value in left.points.items() if time in right.points
            )
        else:
            pairs = ((time, join(value, right)) for time, value in left.points.items())
        whose = left
    else:
        assert isinstance(right, Series)
        pairs = ((time, join(left, value)) for time, value in right.points.items())
        whose = right
    return whose.with_points((time, value) for time, value in pairs if value is not None)


def _each(change: Callable[[Series], Series]) -> Callable[..., Value]:
    """A function of one series that also takes an array."""

    def function(env: Environment, value: Value, *rest: Value) -> Value:
        if rest:
            raise MathError("The function takes one argument.")
        if isinstance(value, list):
            return [change(each) for each in value]
        return change(_series(value))

    return function


def _values(change: Callable[[float], float | None]) -> Callable[..., Value]:
    """A function of each value."""

    def over(series: Series) -> Series:
        changed = ((time, change(value)) for time, value in series.points.items())
        return series.with_points((time, value) for time, value in changed if value is not None)

    def function(env: Environment, value: Value) -> Value:
        if isinstance(value, float):
            found = change(value)
            return math.nan if found is None else found
        return _each(over)(env, value)

    return function


def _reducing(reduce: Callable[[list[float]], float]) -> Callable[..., Value]:
    """A number from a series; from an array, a series across its members."""

    def function(env: Environment, value: Value) -> Value:
        if isinstance(value, list):
            if not value:
                return []
            gathered: dict[int, list[float]] = {}
            for series in value:
                for time, one in series.points.items():
                    gathered.setdefault(time, []).append(one)
            return value[0].with_points((time, reduce(gathered[time])) for time in sorted(gathered))
        series = _series(value)
        return reduce(list(series.points.values())) if series.points else math.nan

    return function


def _along(change: Callable[[int, float, int, float], float | None]) -> Callable[..., Value]:
    """A function of each point and the one before it."""

    def over(series: Series) -> Series:
        points = list(series.points.items())
        pairs = itertools.pairwise(points)
        changed = ((time, change(before, was, time, value)) for (before, was), (time, value) in pairs)
        return series.with_points((time, value) for time, value in changed if value is not None)

    return _each(over)


def _running_sum(series: Series) -> Series:
    total, points = 0.0, []
    for time, value in series.points.items():
        total += value
        points.append((time, total))
    return series.with_points(points)


def _of_time(part: Callable[[datetime], float]) -> Callable[..., Value]:
    return _each(
        lambda series: series.with_points((time, part(datetime.fromtimestamp(time, UTC))) for time in series.points)
    )


def _fill(env: Environment, value: Value, filler: Value) -> Value:
    if isinstance(value, list):
        return [_filled(env, each, filler) for each in value]
    return _filled(env, _series(value), filler)


def _filled(env: Environment, series: Series, filler: Value) -> Series:
    if not series.points and isinstance(filler, str):
        return series
    points: list[tuple[int, float]] = []
    known = list(series.points)
    passed = 0
    for time in env.times(series.period):
        while passed < len(known) and known[passed] <= time:
            passed += 1
        if time in series.points:
            points.append((time, series.points[time]))
        elif isinstance(filler, Series):
            if time in filler.points:
                points.append((time, filler.points[time]))
        elif isinstance(filler, float):
            points.append((time, filler))
        elif passed and filler == "REPEAT":
            points.append((time, series.points[known[passed - 1]]))
        elif 0 < passed < len(known) and filler == "LINEAR":
            before, after = known[passed - 1], known[passed]
            was, will = series.points[before], series.points[after]
            points.append((time, was + (will - was) * (time - before) / (after - before)))
    return series.with_points(points)


def _if(env: Environment, condition: Value, then: Value, otherwise: Value = math.nan) -> Value:
    if isinstance(condition, float):
        return then if condition else otherwise
    series = _series(condition)

    def at(value: Value, time: int) -> float | None:
        found = _series(value).points.get(time) if not isinstance(value, float) else value
        return None if found is None or math.isnan(found) else found

    chosen = ((time, at(then if value else otherwise, time)) for time, value in series.points.items())
    return series.with_points((time, value) for time, value in chosen if value is not None)


def _slice(env: Environment, value: Value, start: Value, end: Value | None = None) -> Value:
    many = _array(value)
    first = int(_number(start))
    found = many[first : int(_number(end)) if end is not None else len(many)]
    return found[0] if len(found) == 1 else found


def _sort(env: Environment, value: Value, by: Value, order: Value, most: Value | None = None) -> Value:
    reduce = FUNCTIONS.get(str(by))
    if reduce is None or by not in ("AVG", "MAX", "MIN", "SUM") or order not in ("ASC", "DESC"):
        raise MathError("SORT takes AVG, MAX, MIN or SUM, and ASC or DESC.")
    ordered = sorted(
        (series for series in _array(value) if series.points),
        key=lambda series: _number(reduce(env, series)),
        reverse=order == "DESC",
    )
    return ordered if most is None else ordered[: int(_number(most))]


def _time_series(env: Environment, value: Value) -> Value:
    number = _number(value)
    return Series("", env.period, dict.fromkeys(env.times(env.period), number))


def _first(env: Environment, value: Value) -> Value:
    return _nth(value, 0)


def _last(env: Environment, value: Value) -> Value:
    return _nth(value, -1)


def _nth(value: Value, which: int) -> Value:
    many = _array(value)
    if not many:
        raise MathError("The array is empty.")
    return many[which]


def _series(value: Value | None) -> Series:
    if not isinstance(value, Series):
        raise MathError("A time series is expected.")
    return value


def _array(value: Value) -> list[Series]:
    if not isinstance(value, list):
        raise MathError("An array of time series is expected.")
    return value


def _number(value: Value | None) -> float:
    if not isinstance(value, float):
        raise MathError("A number is expected.")
    return value


def _search(env: Environment, text: Value, statistic: Value, period: Value = 300.0) -> Value:
    if not isinstance(text, str) or not isinstance(statistic, str):
        raise MathError("SEARCH takes a text, a statistic and a period.")
    return list(env.search(text, statistic, int(_number(period))))


def _insight_rule(env: Environment, rule: Value, metric: Value) -> Value:
    if not isinstance(rule, str) or not isinstance(metric, str):
        raise MathError("INSIGHT_RULE_METRIC takes a rule's name and a metric's.")
    return env.contributed(rule, metric)


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "ABS": _values(abs),
    "CEIL": _values(lambda value: float(math.ceil(value))),
    "FLOOR": _values(lambda value: float(math.floor(value))),
    "LOG": _values(lambda value: math.log(value) if value > 0 else None),
    "LOG10": _values(lambda value: math.log10(value) if value > 0 else None),
    "AVG": _reducing(statistics.fmean),
    "MAX": _reducing(max),
    "MIN": _reducing(min),
    "SUM": _reducing(math.fsum),
    "STDDEV": _reducing(statistics.pstdev),
    "DATAPOINT_COUNT": lambda env, value: float(len(_series(value).points)),
    "METRIC_COUNT": lambda env, value: float(len(_array(value))),
    "PERIOD": lambda env, value: float(_series(value).period),
    "FIRST": _first,
    "LAST": _last,
    "DIFF": _along(lambda before, was, time, value: value - was),
    "DIFF_TIME": _along(lambda before, was, time, value: float(time - before)),
    "RATE": _along(lambda before, was, time, value: (value - was) / (time - before)),
    "RUNNING_SUM": _each(_running_sum),
    "REMOVE_EMPTY": lambda env, value: [series for series in _array(value) if series.points],
    "FILL": _fill,
    "IF": _if,
    "SLICE": _slice,
    "SORT": _sort,
    "SEARCH": _search,
    "INSIGHT_RULE_METRIC": _insight_rule,
    "TIME_SERIES": _time_series,
    "EPOCH": _of_time(lambda time: time.timestamp()),
    "MINUTE": _of_time(lambda time: float(time.minute)),
    "HOUR": _of_time(lambda time: float(time.hour)),
    "DAY": _of_time(lambda time: float(time.isoweekday())),
    "DATE": _of_time(lambda time: float(time.day)),
    "MONTH": _of_time(lambda time: float(time.month)),
    "YEAR": _of_time(lambda time: float(time.year)),
}

REFUSED: dict[str, Any] = {
    name: not_implemented(f"metric math's {name}")
    for name in (
        "SERVICE_QUOTA",
        "DB_PERF_INSIGHTS",
        "LAMBDA",
    )
}
