"""What state data puts a metric alarm in, and the words for it: pure functions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cloudlet.services.cloudwatch.limits import Limit

EXTRA = 2  # stretches beyond those evaluated, in which older values stand in for missing ones


class Verdict(NamedTuple):
    """A state with its reason. ``state`` is empty where the alarm keeps the one that it has."""

    state: str
    reason: str
    data: dict[str, Any]


def judge(
    alarm: dict[str, Any], limit: Limit, period: int, values: list[tuple[int, float | None]], now: float
) -> Verdict:
    """The verdict over the latest stretches of time, oldest first, each with its value or None.

    There are ``EXTRA`` more of them than are evaluated: the latest values that are there count, and only what is then
    still lacking is treated as the alarm says. Where that stays missing, too few values that all breach wait until the
    first of them is as old as the alarm needs values.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
    """
    number = alarm["EvaluationPeriods"]
    needed = alarm.get("DatapointsToAlarm", number)
    treat = _treatment(alarm)
    there = [(time, value) for time, value in values if value is not None][-number:]
    breaching = [(time, value) for time, value in there if limit.breaches(time, value)]
    lacking = number - len(there)
    data = _data(alarm, limit, period, there, now)
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
    all_breach = len(breaching) == len(there)
    if treat == "missing":
        alarming = len(breaching) >= needed or (all_breach and there[0][0] <= values[-needed][0])
    elif treat == "breaching":
        alarming = len(breaching) + lacking >= needed
    else:
        alarming = len(breaching) >= needed
    if not alarming and all_breach and treat in ("missing", "ignore"):
        return Verdict("", "", data)
    if alarming:
        shown = breaching or there
        reason = (
            f"{limit.title}: {len(breaching)} out of the last {_many(len(there), 'datapoint')} [{_list(shown)}] "
            f"{'was' if len(shown) == 1 else 'were'} {limit.words(shown)} "
            f"(minimum {_many(needed, 'datapoint')} for OK -> ALARM transition)."
        )
        return Verdict("ALARM", reason, data)
    fine = [one for one in there if one not in breaching]
    count, least = _many(len(fine), "datapoint"), ""
    if "ThresholdMetricId" in alarm:  # AWS's words differ
        count = f"{len(fine)} out of the last {_many(len(there), 'datapoint')}"
        least = f" (minimum {_many(number - needed + 1, 'datapoint')} for ALARM -> OK transition)"
    words = limit.words(fine, "not ")
    reason = f"{limit.title}: {count} [{_list(fine)}] {'was' if len(fine) == 1 else 'were'} {words}{least}."
    return Verdict("OK", reason, data)


def _treatment(alarm: dict[str, Any]) -> str:
    """How missing data are treated: alarms on DynamoDB's metrics ignore them, whatever they say."""
    namespaces = {one["MetricStat"]["Metric"]["Namespace"] for one in alarm.get("Metrics", ()) if "MetricStat" in one}
    if "AWS/DynamoDB" in (namespaces or {alarm.get("Namespace")}):
        return "ignore"
    treat: str = alarm.get("TreatMissingData", "missing")
    return treat


def _data(
    alarm: dict[str, Any], limit: Limit, period: int, there: list[tuple[int, float]], now: float
) -> dict[str, Any]:
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
        **limit.data(there),
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
