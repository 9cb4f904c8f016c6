"""Metric data queries: GetMetricData, and what alarms ask."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudwatch import labels, records
from cloudlet.services.cloudwatch.base import metric_of, read_token, token_of, validation
from cloudlet.services.cloudwatch.expressions import Expression, compile_expression
from cloudlet.services.cloudwatch.functions import Environment, MathError, Series, Value
from cloudlet.services.cloudwatch.insights import Insight, compile_insight, is_insight
from cloudlet.services.cloudwatch.metrics import LISTED, Metrics, aggregate, rounded_start
from cloudlet.services.cloudwatch.records import Metric, Point
from cloudlet.services.cloudwatch.searching import compile_search
from cloudlet.services.cloudwatch.statistics import Statistic, compile_statistic
from cloudlet.store import Tx

_DATAPOINTS_AT_MOST = 100_800
_QUERIES_AT_MOST = 500
_FOUND_AT_MOST = 500  # metrics that a search finds
_PERIOD = 300  # of an expression over nothing


class Query:
    """One metric data query: a metric's statistic, or an expression over others."""

    def __init__(self, call: Call, given: dict[str, Any], index: int) -> None:
        where = f"MetricDataQueries.member.{index}"
        self.id: str = given["Id"]
        self.shown: bool = given.get("ReturnData", True)
        self.label: str | None = given.get("Label")
        self.metric: Metric | None = None
        self.expression: Expression | None = None
        self.insight: Insight | None = None
        self.period: int = given.get("Period", 0)
        if given.get("AccountId", call.account) != call.account:
            raise not_implemented("metric data of another account")
        if self.label:
            labels.check(self.label)
        if "MetricStat" not in given and "Expression" not in given:
            raise validation(f"The parameter {where}.MetricStat is required.\n")
        if "MetricStat" in given and "Expression" in given:
            raise validation(f"The parameters {where}.MetricStat and {where}.Expression are mutually exclusive.")
        if "Expression" in given:
            try:
                if is_insight(given["Expression"]):
                    self.insight = compile_insight(given["Expression"])
                else:
                    self.expression = compile_expression(given["Expression"])
            except MathError as error:
                raise self.wrong(error) from None
            if self.insight is not None and not self.period:
                raise validation(f"The parameter {where}.Period is required for a Metrics Insights query.")
            return
        asked = given["MetricStat"]
        for name in ("Namespace", "MetricName"):
            if name not in asked["Metric"]:
                raise validation(f"The parameter {where}.MetricStat.Metric.{name} is required.")
        self.metric = metric_of(call, asked["Metric"])
        self.name = self.metric.name
        self.unit: str | None = asked.get("Unit")
        self.period = asked["Period"]
        if self.period not in (1, 5, 10, 20, 30) and self.period % 60:
            raise validation(f"The parameter {where}.MetricStat.Period must be 1, 5, 10, 20, 30, or a multiple of 60.")
        self.stat: str = asked["Stat"]
        statistic = compile_statistic(self.stat)
        if statistic is None:
            raise validation(f"The value {asked['Stat']} for parameter {where}.MetricStat.Stat is not supported.")
        self.statistic: Statistic = statistic

    def properties(self) -> dict[str, str]:
        """What ``${PROP(...)}`` in a label can ask for."""
        if self.metric is None:
            return {"Period": str(self.period)} if self.period else {}
        account, region = self.metric.scope.split("/")
        fixed = {"AccountId": account, "Region": region, "Namespace": self.metric.namespace, "Stat": self.stat}
        dimensions = {f"Dim.{name}": value for name, value in self.metric.dimensions}
        return {**fixed, **dimensions, "MetricName": self.metric.name, "Period": str(self.period)}

    def label_of(self, plain: str, points: list[tuple[int, float]]) -> str:
        """What a series of this query is called; ``plain`` is what it would be without a label of its own."""
        if not self.label:
            return plain
        return labels.filled(self.label, plain, self.properties(), [value for _, value in points])

    def wrong(self, error: MathError) -> AwsError:
        """An error in this query's expression."""
        return validation(f"Error in expression '{self.id}': {error}")


def compile_queries(call: Call, given: list[dict[str, Any]]) -> dict[str, Query]:
    """Queries by id. Raises ValidationError for ids that are there twice, missing, or in a circle."""
    queries: dict[str, Query] = {}
    for index, one in enumerate(given, 1):
        if not one["Id"][:1].islower() or not one["Id"].replace("_", "").isalnum():
            raise validation(
                f"The value {one['Id']} for parameter MetricDataQueries.member.{index}.Id is not matching the expected "
                "pattern ^[a-z][a-zA-Z0-9_]*$."
            )
        if one["Id"] in queries:
            raise validation("The values for parameter id in MetricDataQueries are not unique.")
        queries[one["Id"]] = Query(call, one, index)
    _tell_apart(queries)
    visited: dict[str, bool] = {}

    def visit(query: Query) -> None:
        visited[query.id] = False
        for name in query.expression.names if query.expression is not None else ():
            if name not in queries:
                raise query.wrong(MathError(f"Undefined variable '{name}'."))
            if visited.get(name) is False:
                raise query.wrong(MathError("It depends on itself."))
            if name not in visited:
                visit(queries[name])
        visited[query.id] = True

    for query in queries.values():
        if query.id not in visited:
            visit(query)
    return queries


def _tell_apart(queries: dict[str, Query]) -> None:
    """Name the statistic in the labels of one metric's different statistics."""
    plain = [query for query in queries.values() if query.shown and query.metric is not None and not query.label]
    names = Counter(query.metric.name for query in plain if query.metric is not None)
    for query in plain:
        if query.metric is not None and names[query.metric.name] > 1:
            query.name = f"{query.metric.name} {query.stat}"


def evaluate(
    queries: dict[str, Query],
    read: Callable[[Metric, int, int, str | None], list[Point]],
    start: Callable[[int], int],
    end: int,
    listed: Callable[[], Iterable[Metric]] = tuple,
) -> Callable[[Query], Value]:
    """What gives each query's value; each is evaluated once. ``start`` says from when on, for a period; ``listed``
    gives all metrics there are, for searches."""
    known: dict[str, Value] = {}

    def value(query: Query) -> Value:
        if query.id not in known:
            if query.insight is not None:
                known[query.id] = selected(query, query.insight)
            else:
                known[query.id] = calculated(query) if query.expression is not None else taken(query)
        return known[query.id]

    def taken(query: Query) -> Series:
        assert query.metric is not None
        return series(query.metric, query.name, query.period, query.statistic, query.unit)

    def series(metric: Metric, label: str, period: int, statistic: Statistic, unit: str | None) -> Series:
        first = start(period)
        summaries = aggregate(read(metric, first, end, unit), first, period)
        points = ((time, statistic(summaries[time])) for time in sorted(summaries))
        return Series(label, period, {time: point for time, point in points if point is not None})

    def selected(query: Query, insight: Insight) -> list[Series]:
        first = start(query.period)
        return insight.series(
            listed(), lambda one: aggregate(read(one, first, end, None), first, query.period), query.period, query.id
        )

    def search(text: str, stat: str, period: int) -> list[Series]:
        test, statistic = compile_search(text), compile_statistic(stat)
        if statistic is None:
            raise MathError(f"There is no statistic {stat}.")
        found = list(itertools.islice((metric for metric in listed() if test(metric)), _FOUND_AT_MOST))
        one_name = len({metric.name for metric in found}) == 1
        return [series(metric, _label(metric, one_name), period, statistic, None) for metric in found]

    def calculated(query: Query) -> Value:
        assert query.expression is not None
        metrics = [one for one in queries.values() if one.metric is not None]
        used = [one for one in metrics if query.expression.everything or one.id in query.expression.names]
        period = query.period or max((one.period for one in used or metrics), default=_PERIOD)

        def every() -> list[Series]:
            return [one._replace(label=each.id) for each in metrics if isinstance(one := value(each), Series)]

        environment = Environment(lambda name: value(queries[name]), every, search, start(period), end)
        environment.period = period
        try:
            return query.expression.evaluate(environment)
        except MathError as error:
            raise query.wrong(error) from None
        except (TypeError, OverflowError, ValueError):
            raise query.wrong(MathError("A function has arguments that it does not take.")) from None

    return value


def _label(metric: Metric, one_name: bool) -> str:
    """What a metric that was found is called: by its dimensions, and by its name where that differs."""
    values = [value for _, value in metric.dimensions]
    return " ".join(values if one_name and values else [*values, metric.name])


class Queries(Metrics):
    """GetMetricData."""

    async def GetMetricData(self, call: Call, input: Input) -> Output:
        if input.get("LabelOptions"):
            raise not_implemented("GetMetricData with LabelOptions")
        asked, start, end = input["MetricDataQueries"], int(input["StartTime"]), int(input["EndTime"])
        if start == end:
            raise validation("The parameter StartTime must not equal parameter EndTime.")
        if start > end:
            raise validation("The parameter EndTime must be greater than StartTime.")
        if len(asked) > _QUERIES_AT_MOST:
            raise validation(f"The collection MetricDataQueries must not have a size greater than {_QUERIES_AT_MOST}.")
        queries, now = compile_queries(call, asked), self.clock.now()
        (skip,) = read_token(input["NextToken"], int) if "NextToken" in input else (0,)
        most = min(input.get("MaxDatapoints", _DATAPOINTS_AT_MOST), _DATAPOINTS_AT_MOST)
        descending = input.get("ScanBy", "TimestampDescending") == "TimestampDescending"

        def work(tx: Tx) -> list[tuple[str, str, list[tuple[int, float]]]]:
            value = evaluate(
                queries,
                lambda metric, first, last, unit: records.read(tx, metric, first, last, unit),
                lambda period: rounded_start(start, period, now),
                end,
                lambda: records.metrics(tx, call.scope, "", "", int(now - LISTED), ("", "", "")),
            )
            return [one for query in queries.values() if query.shown for one in _results(query, value(query))]

        results: list[Output] = []
        passed = 0
        more = False
        for id, label, points in await self.db.scan(work):
            ordered = list(reversed(points)) if descending else points
            here = ordered[max(0, skip - passed) : max(0, skip + most - passed)]
            complete = passed + len(ordered) <= skip + most
            if here or (not ordered and passed >= skip):
                results.append(
                    {
                        "Id": id,
                        "Label": label,
                        "Timestamps": [float(time) for time, _ in here],
                        "Values": [value for _, value in here],
                        "StatusCode": "Complete" if complete else "PartialData",
                    }
                )
            passed += len(ordered)
            more = more or not complete
            if more:
                break
        output: Output = {"MetricDataResults": results, "Messages": []}
        if more:
            output["NextToken"] = token_of(skip + most)
        return output


def _results(query: Query, value: Value) -> list[tuple[str, str, list[tuple[int, float]]]]:
    """A query's results: one, or one for each series of an array."""
    if isinstance(value, float | str):
        raise query.wrong(MathError("The result is not a time series."))
    if isinstance(value, Series):
        points = _finite(value)
        plain = query.id if query.expression is not None else value.label
        return [(query.id, query.label_of(plain, points), points)]
    results = []
    for series in value:
        points = _finite(series)
        if query.insight is not None:
            results.append((query.id, query.label_of(series.label, points), points))
            continue
        label = query.label_of(series.label, points) if query.label and "${" in query.label else ""
        results.append((query.id, label or f"{query.label or query.id} {series.label}".strip(), points))
    return results


def _finite(series: Series) -> list[tuple[int, float]]:
    return [(time, float(value)) for time, value in sorted(series.points.items()) if math.isfinite(value)]
