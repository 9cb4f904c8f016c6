"""The operations on metrics: putting values, listing metrics, statistics of one metric."""

from __future__ import annotations

import itertools
import math
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.observe.metrics import Report
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudwatch import records
from cloudlet.services.cloudwatch.base import (
    Base,
    combination,
    invalid,
    metric_of,
    missing,
    read_token,
    shown_dimensions,
)
from cloudlet.services.cloudwatch.records import Datum, Metric, Point
from cloudlet.services.cloudwatch.statistics import Summary, compile_statistic
from cloudlet.services.pages import token_of
from cloudlet.store import Tx

_DATA_AT_MOST = 1000
_VALUES_AT_MOST = 150
_GREATEST = 2.0**360
_TOO_OLD = 14 * 86_400
_TOO_NEW = 2 * 3600
_PAGE = 500
LISTED = 14 * 86_400  # seconds for which a metric without new values is listed
_RECENT = 3 * 3600
_DATAPOINTS_AT_MOST = 1440
_DAY = 86_400


class Metrics(Base):
    """Operations on metrics."""

    def data_came(self, data: list[Datum]) -> None:
        """Values have been stored; who waits for them is told."""
        raise NotImplementedError

    async def take(self, reports: list[Report]) -> None:
        """Store what other services have counted in a minute."""
        data = [
            Datum(Metric(*report[:4]), report.time, 60, report.unit, Summary.of({**report.values}))
            for report in reports
        ]
        await self._store(data)

    async def PutMetricData(self, call: Call, input: Input) -> Output:
        if "EntityMetricData" in input:
            raise not_implemented("PutMetricData with EntityMetricData")
        given = input.get("MetricData", [])
        if not given:
            raise missing("The parameter MetricData is required.")
        if len(given) > _DATA_AT_MOST:
            raise invalid(f"The collection MetricData must not have a size greater than {_DATA_AT_MOST}.")
        now = self.clock.now()
        await self._store(
            [_datum(call, input["Namespace"], one, f"MetricData.member.{n}", now) for n, one in enumerate(given, 1)]
        )
        return {}

    async def _store(self, data: list[Datum]) -> None:
        gathered: dict[tuple[Metric, int, int, str], Summary] = {}
        for datum in data:
            if (known := gathered.get(datum[:4])) is not None:
                known.add(datum.summary)
            else:
                gathered[datum[:4]] = datum.summary
        rows = [Datum(*key, summary) for key, summary in gathered.items()]
        await self.db.write(lambda tx: records.add(tx, rows), long=len(rows) > 50)
        self.data_expected()
        self.data_came(rows)

    async def ListMetrics(self, call: Call, input: Input) -> Output:
        for parameter in ("IncludeLinkedAccounts", "OwningAccount"):
            if input.get(parameter):
                raise not_implemented(f"ListMetrics with {parameter}")
        namespace, name = input.get("Namespace", ""), input.get("MetricName", "")
        wanted = [(one["Name"], one.get("Value")) for one in input.get("Dimensions", ())]
        after = tuple(read_token(input["NextToken"], str, str, str)) if "NextToken" in input else ("", "", "")
        since = int(self.clock.now() - (_RECENT if "RecentlyActive" in input else LISTED))

        def find(tx: Tx) -> list[Metric]:
            found = records.metrics(tx, call.scope, namespace, name, since, after)
            return list(itertools.islice((metric for metric in found if _has(metric, wanted)), _PAGE + 1))

        found = await self.db.scan(find)
        output: Output = {
            "Metrics": [
                {"Namespace": metric.namespace, "MetricName": metric.name, "Dimensions": shown_dimensions(metric)}
                for metric in found[:_PAGE]
            ]
        }
        if len(found) > _PAGE:
            output["NextToken"] = token_of(*found[_PAGE - 1].key[1:])
        return output

    async def GetMetricStatistics(self, call: Call, input: Input) -> Output:
        simple, extended = input.get("Statistics", []), input.get("ExtendedStatistics", [])
        if not simple and not extended:
            raise combination("Must specify either Statistics or ExtendedStatistics")
        for name in extended:
            if compile_statistic(name) is None:
                raise invalid(f"The value {name} for parameter ExtendedStatistics is not supported.")
        start, end, period = int(input["StartTime"]), int(input["EndTime"]), input["Period"]
        if start >= end:
            raise invalid("The parameter StartTime must be less than the parameter EndTime.")
        check_period(period)
        if math.ceil((end - start) / period) > _DATAPOINTS_AT_MOST:
            raise combination(
                f"You have requested up to {math.ceil((end - start) / period):,} datapoints, which exceeds the limit "
                f"of {_DATAPOINTS_AT_MOST:,}. You may reduce the datapoints requested by increasing Period, or "
                "decreasing the time range."
            )
        first, metric = rounded_start(start, period, self.clock.now()), metric_of(call, input)
        points = await self.db.scan(lambda tx: records.read(tx, metric, first, end, input.get("Unit")))
        datapoints = []
        for unit in sorted({point.unit for point in points}):
            of_unit = [point for point in points if point.unit == unit]
            for time, summary in sorted(aggregate(of_unit, first, period).items()):
                datapoint: Output = {"Timestamp": float(time), "Unit": unit}
                datapoint |= {name: _taken(name, summary) for name in simple}
                percentiles = {name: value for name in extended if (value := _taken(name, summary)) is not None}
                if percentiles:
                    datapoint["ExtendedStatistics"] = percentiles
                if simple or percentiles:
                    datapoints.append(datapoint)
        return {"Label": input["MetricName"], "Datapoints": datapoints}


def aggregate(points: list[Point], first: int, period: int) -> dict[int, Summary]:
    """Points gathered into stretches of ``period`` seconds from ``first`` on; coarser points have no place in them."""
    found: dict[int, Summary] = {}
    for point in points:
        if point.resolution > period:
            continue
        time = first + (point.time - first) // period * period
        if (known := found.get(time)) is not None:
            known.add(point.summary)
        else:
            found[time] = point.summary.copy()
    return found


def check_period(period: int) -> None:
    """Raises InvalidParameterValue."""
    if period not in (1, 5, 10, 20, 30) and period % 60:
        raise invalid("The parameter Period must be 1, 5, 10, 20, 30, or a multiple of 60.")


def rounded_start(start: float, period: int, now: float) -> int:
    """Where statistics begin: at a minute, of older values at five minutes or an hour."""
    age = now - start
    step = period if period < 60 else 60 if age < 15 * _DAY else 300 if age < 63 * _DAY else 3600
    return int(start // step) * step


def _taken(name: str, summary: Summary) -> float | None:
    statistic = compile_statistic(name)
    return None if statistic is None else statistic(summary)


def _has(metric: Metric, wanted: list[tuple[str, str | None]]) -> bool:
    dimensions = dict(metric.dimensions)
    return all(name in dimensions and value in (None, dimensions[name]) for name, value in wanted)


def _datum(call: Call, namespace: str, given: dict[str, Any], where: str, now: float) -> Datum:
    """One datum of PutMetricData. Raises what is wrong with it."""
    time = given.get("Timestamp", now)
    if time < now - _TOO_OLD:
        raise invalid(f"The parameter {where}.Timestamp must specify a time no more than two weeks in the past.")
    if time > now + _TOO_NEW:
        raise invalid(f"The parameter {where}.Timestamp must specify a time no more than two hours in the future.")
    names = [one["Name"] for one in given.get("Dimensions", ())]
    if len(set(names)) != len(names):
        raise invalid("No Metric may specify the same dimension name twice.")
    resolution = 1 if given.get("StorageResolution", 60) < 60 else 60
    unit = given.get("Unit", "None")
    return Datum(
        metric_of(call, {**given, "Namespace": namespace}),
        int(time // resolution) * resolution,
        resolution,
        unit,
        _summary(given, where),
    )


def _summary(given: dict[str, Any], where: str) -> Summary:
    ways = [name for name in ("Value", "Values", "StatisticValues") if name in given]
    if not ways:
        raise missing(
            f"At least one of the parameters {where}.Value, {where}.Values or {where}.StatisticValues must be "
            "specified."
        )
    if "Value" in given and len(ways) > 1:
        raise combination(
            f"The parameters {where}.Value and {where}.{ways[1]} are mutually exclusive and you have specified both."
        )
    if len(ways) > 1:  # AWS takes values beside a set of statistics
        summary = _summary({name: given[name] for name in ("Values", "Counts") if name in given}, where)
        summary.add(_summary({"StatisticValues": given["StatisticValues"]}, where))
        return summary
    if ways[0] == "Value":
        return Summary.of({_number(given["Value"], f"{where}.Value"): 1.0})
    if ways[0] == "StatisticValues":
        count, total, least, greatest = (
            _number(given["StatisticValues"][name], f"{where}.StatisticValues.{name}")
            for name in ("SampleCount", "Sum", "Minimum", "Maximum")
        )
        if least > greatest:
            raise combination(
                f"The parameter {where}.StatisticValues.Maximum must be greater than or equal to "
                f"{where}.StatisticValues.Minimum."
            )
        return Summary(count, total, least, greatest, {least: count} if least == greatest and count else None)
    values, counts = given["Values"], given.get("Counts") or [1.0] * len(given["Values"])
    if not 1 <= len(values) <= _VALUES_AT_MOST:
        raise invalid(f"The collection {where}.Values must have a size of 1 to {_VALUES_AT_MOST}.")
    if len(counts) != len(values):
        raise invalid(f"The parameters {where}.Values and {where}.Counts must be of the same size.")
    gathered: dict[float, float] = {}
    for value, count in zip(values, counts, strict=True):
        number = _number(value, f"{where}.Values")
        gathered[number] = gathered.get(number, 0.0) + _number(count, f"{where}.Counts")
    return Summary.of(gathered)


def _number(value: float, where: str) -> float:
    if math.isnan(value):
        raise invalid(f"The value NaN for parameter {where} is invalid.")
    if not -_GREATEST <= value <= _GREATEST:
        raise AwsError("InvalidParameterValue", f"The value {value} for parameter {where} is invalid.", status=400)
    return value
