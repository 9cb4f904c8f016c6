"""Metric data queries, compiled: a metric's statistic, or an expression over others."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call
from cloudlet.services.cloudwatch import labels
from cloudlet.services.cloudwatch.base import metric_of, validation
from cloudlet.services.cloudwatch.expressions import Expression, compile_expression
from cloudlet.services.cloudwatch.functions import MathError
from cloudlet.services.cloudwatch.insights import Insight, compile_insight, is_insight
from cloudlet.services.cloudwatch.records import Metric
from cloudlet.services.cloudwatch.statistics import Statistic, compile_statistic


class Query:
    """One metric data query: a metric's statistic, or an expression over others."""

    def __init__(self, call: Call, given: dict[str, Any], index: int) -> None:
        where = f"MetricDataQueries.member.{index}"
        self.given = given
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
