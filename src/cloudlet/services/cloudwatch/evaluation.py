"""What state data puts a metric alarm in, and the words for it: pure functions."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

EXTRA = 2  # stretches beyond those evaluated, in which older values stand in for missing ones

_COMPARE: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to the threshold"),
    "GreaterThanThreshold": (operator.gt, "greater than the threshold"),
    "LessThanThreshold": (operator.lt, "less than the threshold"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to the threshold"),
}
COMPARISONS = frozenset(_COMPARE)


class Verdict(NamedTuple):
    """A state with its reason. ``state`` is empty where the alarm keeps the one that it has."""

    state: str
    reason: str
    data: dict[str, Any]


def judge(alarm: dict[str, Any], period: int, values: list[tuple[int, float | None]], now: float) -> Verdict:
    """The verdict over the latest stretches of time, oldest first, each with its value or None.

    There are ``EXTRA`` more of them than are evaluated: the latest values that are there count, and only what is then
    still lacking is treated as the alarm says.
    """
    number = alarm["EvaluationPeriods"]
    needed = alarm.get("DatapointsToAlarm", number)
    treat = _treatment(alarm)
    compare, words = _COMPARE[alarm["ComparisonOperator"]]
    threshold = alarm["Threshold"]
    there = [(time, value) for time, value in values if value is not None][-number:]
    breaching = [(time, value) for time, value in there if compare(value, threshold)]
    lacking = number - len(there)
    data = _data(alarm, period, there, now)
    if not there:
        if treat == "ignore":
            return Verdict("", "", data)
        if treat == "missing":
            unknown = f"{number} datapoint{' was' if number == 1 else 's were'} unknown."
            return Verdict("INSUFFICIENT_DATA", f"Insufficient Data: {unknown}", data)
        treated = "Breaching" if treat == "breaching" else "NonBreaching"
        reason = (
            f"Threshold Crossed: no datapoints were received for {_many(number, 'period')} and "
            f"{_many(number, 'missing datapoint')} {'was' if number == 1 else 'were'} treated as [{treated}]."
        )
        return Verdict("ALARM" if treat == "breaching" else "OK", reason, data)
    if treat == "missing":
        alarming = len(breaching) >= min(needed, len(there))
    elif treat == "breaching":
        alarming = len(breaching) + lacking >= needed
    else:
        alarming = len(breaching) >= needed
    if not alarming and treat == "ignore" and lacking and len(breaching) == len(there):
        return Verdict("", "", data)
    if alarming:
        shown = breaching or there
        reason = (
            f"Threshold Crossed: {len(breaching)} out of the last {_many(len(there), 'datapoint')} [{_list(shown)}] "
            f"{'was' if len(shown) == 1 else 'were'} {words} ({threshold}) "
            f"(minimum {_many(needed, 'datapoint')} for OK -> ALARM transition)."
        )
        return Verdict("ALARM", reason, data)
    fine = [one for one in there if one not in breaching]
    reason = (
        f"Threshold Crossed: {_many(len(fine), 'datapoint')} [{_list(fine)}] "
        f"{'was' if len(fine) == 1 else 'were'} not {words} ({threshold})."
    )
    return Verdict("OK", reason, data)


def _treatment(alarm: dict[str, Any]) -> str:
    """How missing data are treated: alarms on DynamoDB's metrics ignore them, whatever they say."""
    namespaces = {one["MetricStat"]["Metric"]["Namespace"] for one in alarm.get("Metrics", ()) if "MetricStat" in one}
    if "AWS/DynamoDB" in (namespaces or {alarm.get("Namespace")}):
        return "ignore"
    treat: str = alarm.get("TreatMissingData", "missing")
    return treat


def _data(alarm: dict[str, Any], period: int, there: list[tuple[int, float]], now: float) -> dict[str, Any]:
    data: dict[str, Any] = {"version": "1.0", "queryDate": iso(now)}
    if there:
        data["startDate"] = iso(there[0][0])
    for name, member in (("unit", "Unit"), ("statistic", "Statistic"), ("statistic", "ExtendedStatistic")):
        if member in alarm:
            data[name] = alarm[member]
    return {
        **data,
        "period": period,
        "recentDatapoints": [value for _, value in there],
        "threshold": alarm["Threshold"],
        "evaluatedDatapoints": [{"timestamp": iso(time), "value": value} for time, value in reversed(there)],
    }


def reason_data(data: dict[str, Any]) -> str:
    """StateReasonData."""
    return json.dumps(data, separators=(",", ":"))[:4000]


def iso(time: float) -> str:
    """A time as CloudWatch writes it into documents."""
    moment = datetime.fromtimestamp(time, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"


def _list(there: list[tuple[int, float]]) -> str:
    return ", ".join(
        f"{value} ({datetime.fromtimestamp(time, UTC):%d/%m/%y %H:%M:%S})" for time, value in reversed(there)
    )


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
