"""Metric data queries: GetMetricData, and what alarms ask."""

from __future__ import annotations

import math

from cloudlet.errors import not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudwatch.answering import Evaluation
from cloudlet.services.cloudwatch.asking import Query, compile_queries
from cloudlet.services.cloudwatch.base import read_token, validation
from cloudlet.services.cloudwatch.functions import MathError, Series, Value
from cloudlet.services.cloudwatch.metrics import Metrics, rounded_start
from cloudlet.services.pages import token_of
from cloudlet.store import Tx

_DATAPOINTS_AT_MOST = 100_800
_QUERIES_AT_MOST = 500


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
        detectors = [record.value for record in self.detectors.list(call.scope)]

        def work(tx: Tx) -> list[tuple[str, str, list[tuple[int, float]]]]:
            evaluation = Evaluation(
                tx, call.scope, queries, lambda period: rounded_start(start, period, now), end, now, detectors
            )
            shown = [query for query in queries.values() if query.shown]
            return [one for query in shown for one in _results(query, evaluation.value(query))]

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
