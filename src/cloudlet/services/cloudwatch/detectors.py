"""Anomaly detectors: how the bands of metrics are made. The model itself is in ``anomalies.py``."""

from __future__ import annotations

import json
import uuid
from typing import Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudwatch import records
from cloudlet.services.cloudwatch.anomalies import LEAST, TRAINED
from cloudlet.services.cloudwatch.asking import compile_queries
from cloudlet.services.cloudwatch.base import Base, combination, invalid, metric_of, missing, page_of
from cloudlet.services.cloudwatch.records import AnomalyDetector, Metric
from cloudlet.services.cloudwatch.statistics import compile_statistic
from cloudlet.store import Tx

_PAGE = 100
_RANGES_AT_MOST = 10
_SINGLE, _MATH = "SingleMetricAnomalyDetector", "MetricMathAnomalyDetector"
_OF_SINGLE = ("Namespace", "MetricName", "Dimensions", "Stat")
_ONLY = {"AdaptationSpeed": "NORMAL", "OutlierFilteringStrength": "MODERATE"}


class Detectors(Base):
    """Operations on anomaly detectors."""

    async def PutAnomalyDetector(self, call: Call, input: Input) -> Output:
        members = _members(call, input)
        configuration = input.get("Configuration", {})
        _check(configuration)
        characteristics = input.get("MetricCharacteristics", {})
        made = AnomalyDetector(str(uuid.uuid4()), members, configuration, characteristics)

        def put(tx: Tx) -> str:
            known = self.detectors.get(call.scope, _name(members), tx)
            detector = made if known is None else replace(made, id=known.value.id)
            self.detectors.put(tx, call.scope, _name(members), detector)
            return detector.id

        return {"AnomalyDetectorId": await self.db.write(put)}

    async def DescribeAnomalyDetectors(self, call: Call, input: Input) -> Output:
        ids, filters = input.get("AnomalyDetectorIds"), ("Namespace", "MetricName", "Dimensions")
        if ids and any(name in input for name in (*filters, "AnomalyDetectorTypes")):
            raise combination("AnomalyDetectorIds cannot be specified together with metric filters.")
        kinds = input.get("AnomalyDetectorTypes") or ["SINGLE_METRIC"]
        found = []
        for record in self.detectors.list(call.scope):
            single = record.value.members.get(_SINGLE)
            if ids:
                is_wanted = record.value.id in ids
            else:
                is_wanted = ("METRIC_MATH" if single is None else "SINGLE_METRIC") in kinds and all(
                    single is not None
                    and single[name] == (_sorted(input[name]) if name == "Dimensions" else input[name])
                    for name in filters
                    if name in input
                )
            if is_wanted:
                found.append(record)
        page, token = page_of(found, input, min(input.get("MaxResults", _PAGE), _PAGE))
        since = int(self.clock.now()) - TRAINED

        def look(tx: Tx) -> list[Output]:
            return [_shown(record.value, _state(tx, call, record.value, since)) for record in page]

        return {"AnomalyDetectors": await self.db.scan(look)} | token

    async def DeleteAnomalyDetector(self, call: Call, input: Input) -> Output:
        if "AnomalyDetectorId" in input:
            named = [one.name for one in self.detectors.list(call.scope) if one.value.id == input["AnomalyDetectorId"]]
        else:
            named = [_name(_members(call, input))]

        def delete(tx: Tx) -> bool:
            return any(self.detectors.delete(tx, call.scope, name) for name in named)

        if not await self.db.write(delete):
            raise AwsError("ResourceNotFoundException", "The specified anomaly detector does not exist.", status=404)
        return {}


def _members(call: Call, input: Input) -> dict[str, Any]:
    """What a detector is of, as it is shown. Raises what is wrong with it."""
    ways = [name for name in (_SINGLE, _MATH) if name in input]
    if plain := {name: input[name] for name in _OF_SINGLE if name in input}:
        ways.append("Namespace, MetricName, Dimensions, Stat")
    if len(ways) > 1:
        raise combination(f"The parameters {ways[0]} and {ways[1]} are mutually exclusive.")
    if _MATH in input:
        given = input[_MATH].get("MetricDataQueries", [])
        compile_queries(call, given)
        if sum(one.get("ReturnData", True) for one in given) != 1:
            raise invalid("Exactly one element of MetricDataQueries should return data.")
        return {_MATH: {"MetricDataQueries": given}}
    single = {**(plain or input.get(_SINGLE, {}))}
    for name in ("Namespace", "MetricName", "Stat"):
        if name not in single:
            raise missing(f"The parameter {name} is required.")
    if single.pop("AccountId", call.account) != call.account:
        raise not_implemented(f"{call.operation} on a metric of another account")
    if compile_statistic(single["Stat"]) is None:
        raise invalid(f"The value {single['Stat']} for parameter Stat is not supported.")
    return {_SINGLE: {**single, "Dimensions": _sorted(single.get("Dimensions", []))}}


def _check(configuration: dict[str, Any]) -> None:
    for name, only in _ONLY.items():
        if configuration.get(name, only) != only:
            raise not_implemented(f"PutAnomalyDetector with {name} {configuration[name]}")
    ranges = configuration.get("ExcludedTimeRanges", [])
    if len(ranges) > _RANGES_AT_MOST:
        raise invalid(f"The collection ExcludedTimeRanges must not have a size greater than {_RANGES_AT_MOST}.")
    if any(one["StartTime"] >= one["EndTime"] for one in ranges):
        raise invalid("The StartTime of an excluded time range must be less than its EndTime.")
    if zone := configuration.get("MetricTimezone"):
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise invalid(f"The value {zone} for parameter MetricTimezone is invalid.") from None


def _state(tx: Tx, call: Call, detector: AnomalyDetector, since: int) -> str:
    """Trained is what has a band: its metric, or each of its metrics, has enough values."""
    least = min(records.values_since(tx, metric, since, LEAST) for metric in _metrics(call, detector.members))
    return "TRAINED" if least >= LEAST else "TRAINED_INSUFFICIENT_DATA" if least else "PENDING_TRAINING"


def _metrics(call: Call, members: dict[str, Any]) -> list[Metric]:
    if _SINGLE in members:
        return [metric_of(call, members[_SINGLE])]
    queries = members[_MATH]["MetricDataQueries"]
    return [metric_of(call, one["MetricStat"]["Metric"]) for one in queries if "MetricStat" in one]


def _shown(detector: AnomalyDetector, state: str) -> Output:
    shown = {"AnomalyDetectorId": detector.id, "StateValue": state, **detector.members.get(_SINGLE, {})}
    if detector.configuration:
        shown["Configuration"] = detector.configuration
    if detector.characteristics:
        shown["MetricCharacteristics"] = detector.characteristics
    return {**shown, **detector.members}


def _name(members: dict[str, Any]) -> str:
    return json.dumps(members, sort_keys=True)


def _sorted(dimensions: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(dimensions, key=lambda one: one["Name"])
