"""Metrics Insights: ``SELECT AVG(Load) FROM SCHEMA("App", Host) WHERE Zone = 'a' GROUP BY Host ORDER BY MAX() DESC``.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-metrics-insights-querylanguage.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from cloudlet.services.cloudwatch.functions import MathError, Series
from cloudlet.services.cloudwatch.records import Metric
from cloudlet.services.cloudwatch.statistics import Summary, compile_statistic
from cloudlet.services.cloudwatch.tokens import END, Parser

T = TypeVar("T")

_TOKEN = re.compile(
    r"""\s*(?:(?P<name>"(?:[^"\\]|\\.)*"|[A-Za-z_][\w./:-]*)|(?P<text>'(?:[^'\\]|\\.)*')|(?P<number>\d+)"""
    r"|(?P<sign>!=|[=(),]))"
)
_STATISTICS = {"AVG": "Average", "COUNT": "SampleCount", "MAX": "Maximum", "MIN": "Minimum", "SUM": "Sum"}
_ORDERS: dict[str, Callable[[list[float]], float]] = {
    "AVG": lambda values: sum(values) / len(values),
    "COUNT": len,
    "MAX": max,
    "MIN": min,
    "SUM": sum,
}
_MOST = 500  # time series of one answer


class Condition(NamedTuple):
    """What a dimension's value is to be, or not to be."""

    name: str
    equal: bool
    value: str


class Insight(NamedTuple):
    """A compiled query. ``dimensions`` is None where any will do, ``groups`` are the dimensions to group by."""

    function: str
    metric: str
    namespace: str
    dimensions: frozenset[str] | None
    conditions: tuple[Condition, ...]
    groups: tuple[str, ...]
    order: str
    descending: bool
    limit: int

    def takes(self, metric: Metric) -> bool:
        """Whether a metric is one of those that are asked for."""
        if metric.namespace != self.namespace or metric.name != self.metric:
            return False
        there = dict(metric.dimensions)
        if self.dimensions is not None and self.dimensions != there.keys():
            return False
        if not all(name in there for name in self.groups):
            return False
        return all(one.name in there and (there[one.name] == one.value) == one.equal for one in self.conditions)

    def series(
        self, metrics: Iterable[Metric], read: Callable[[Metric], dict[int, Summary]], period: int, label: str
    ) -> list[Series]:
        """One series for each group, called by its values; without groups one, called ``label``."""
        gathered: dict[str, dict[int, Summary]] = {}
        for metric in metrics:
            if not self.takes(metric):
                continue
            there = dict(metric.dimensions)
            group = gathered.setdefault(" ".join(there[name] for name in self.groups) or label, {})
            for time, summary in read(metric).items():
                if (known := group.get(time)) is not None:
                    known.add(summary)
                else:
                    group[time] = summary
        statistic = compile_statistic(_STATISTICS[self.function])
        assert statistic is not None
        found = []
        for name in sorted(gathered):
            points = ((time, statistic(gathered[name][time])) for time in sorted(gathered[name]))
            found.append(Series(name, period, {time: value for time, value in points if value is not None}))
        found = [one for one in found if one.points]
        if self.order:
            rank = _ORDERS[self.order]
            found.sort(key=lambda one: rank(list(one.points.values())), reverse=self.descending)
        return found[: self.limit]


def is_insight(text: str) -> bool:
    """Whether an expression is a query."""
    return text.split(None, 1)[:1] != [] and text.split(None, 1)[0].upper() == "SELECT"


def compile_insight(text: str) -> Insight:
    """Compile a query. Raises MathError."""
    return _Parser(text).insight()


def _misplaced(position: int) -> Exception:
    return MathError(f"Invalid syntax at position {position}.")


class _Parser(Parser):
    def __init__(self, text: str) -> None:
        super().__init__(_TOKEN, text, _misplaced)

    def insight(self) -> Insight:
        self._word("SELECT")
        function = self._function(_STATISTICS)
        self._sign("(")
        metric = self._name()
        self._sign(")")
        self._word("FROM")
        namespace, dimensions = self._source()
        conditions = self._listed(self._condition, "AND") if self._have("WHERE") else []
        groups: list[str] = []
        if self._have("GROUP"):
            self._word("BY")
            groups = self._listed(self._name, ",")
        order, descending = "", False
        if self._have("ORDER"):
            self._word("BY")
            order = self._function(_ORDERS)
            self._sign("(")
            self._sign(")")
            descending = self._have("DESC")
            if not descending:
                self._have("ASC")
        limit = min(int(self._take("number")), _MOST) if self._have("LIMIT") else _MOST
        if self.peek() != END:
            raise MathError(f"Invalid syntax at '{self.peek()[1]}'.")
        return Insight(
            function, metric, namespace, dimensions, tuple(conditions), tuple(groups), order, descending, limit
        )

    def _source(self) -> tuple[str, frozenset[str] | None]:
        name = self._name()
        if name.upper() != "SCHEMA" or self.peek() != ("sign", "("):
            return name, None
        self._sign("(")
        namespace, *dimensions = self._listed(self._name, ",")
        self._sign(")")
        return namespace, frozenset(dimensions)

    def _condition(self) -> Condition:
        name, sign = self._name(), self._take("sign")
        if sign not in ("=", "!="):
            raise MathError(f"Invalid syntax at '{sign}'.")
        return Condition(name, sign == "=", re.sub(r"\\(.)", r"\1", self._take("text")[1:-1]))

    def _listed(self, one: Callable[[], T], between: str) -> list[T]:
        found = [one()]
        while self.peek()[1].upper() == between:
            self.step()
            found.append(one())
        return found

    def _function(self, known: Iterable[str]) -> str:
        name = self._name().upper()
        if name not in known:
            raise MathError(f"Unknown function '{name}'.")
        return name

    def _name(self) -> str:
        text = self._take("name")
        return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text

    def _word(self, word: str) -> None:
        if not self._have(word):
            raise MathError(f"Invalid syntax: {word} is missing at '{self.peek()[1]}'.")

    def _have(self, word: str) -> bool:
        kind, text = self.peek()
        if kind != "name" or text.upper() != word:
            return False
        self.step()
        return True

    def _sign(self, sign: str) -> None:
        if not self.have(("sign", sign)):
            raise MathError(f"Invalid syntax: '{sign}' is missing at '{self.peek()[1]}'.")

    def _take(self, kind: str) -> str:
        found, text = self.step()
        if found != kind:
            raise MathError(f"Invalid syntax at '{text}'.")
        return text
