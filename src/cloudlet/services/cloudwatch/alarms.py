"""The operations on alarms: metric alarms, composite alarms, their state and history."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.cloudwatch import records
from cloudlet.services.cloudwatch.base import (
    combination,
    invalid,
    metric_of,
    missing,
    page_of,
    read_token,
    tags_of,
    validation,
)
from cloudlet.services.cloudwatch.evaluation import Verdict
from cloudlet.services.cloudwatch.limits import OF_BANDS
from cloudlet.services.cloudwatch.records import Alarm
from cloudlet.services.cloudwatch.rules import RuleError, compile_rule
from cloudlet.services.cloudwatch.statistics import compile_statistic
from cloudlet.services.cloudwatch.watching import Watched, Watching, note_state
from cloudlet.services.pages import token_of
from cloudlet.store import Tx

_DAY = 86_400
_PAGE = 50
_HISTORY_PAGE = 100
_TREATMENTS = ("breaching", "notBreaching", "ignore", "missing")
_NOT_THERE = (
    "EvaluationWindow",
    "WarmUpConfiguration",
    "EvaluationCriteria",
    "EvaluationInterval",
    "ActionConfiguration",
    "ActionsSuppressor",
)
_OF_ONE_METRIC = ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Dimensions", "Period", "Unit")


class Alarms(Watching):
    """Operations on alarms."""

    async def PutMetricAlarm(self, call: Call, input: Input) -> Output:
        _refuse(call, input)
        members = _metric_alarm(input)
        watched = Watched(call, members) if "Metrics" in members else None
        if "ThresholdMetricId" in members:
            _check_band(members, watched)
        _check_window(members, watched.period if watched is not None else members["Period"])
        await self.check_actions(call, members, composite=False)
        await self._put(call, members, input, composite=False)
        return {}

    async def PutCompositeAlarm(self, call: Call, input: Input) -> Output:
        _refuse(call, input)
        try:
            rule = compile_rule(input["AlarmRule"])
        except RuleError as error:
            raise validation(f"AlarmRule is not valid: {error}") from None
        name = input["AlarmName"]
        for child in rule.children:
            if self.alarms.get(call.scope, child) is None:
                raise validation(
                    f"Could not save the composite alarm as alarms [{child}] in the alarm rule do not exist"
                )
            if child == name or name in self._below(call.scope, child):
                raise validation("The alarm rule makes a circle of composite alarms.")
        members = {key: value for key, value in input.items() if key != "Tags"}
        await self.check_actions(call, members, composite=True)
        await self._put(call, members, input, composite=True)
        await self.consider((call.scope, name), "")
        return {}

    async def _put(self, call: Call, given: dict[str, Any], input: Input, composite: bool) -> None:
        name, scope, now = given["AlarmName"], call.scope, self.clock.now()
        fixed = {
            "ActionsEnabled": True,
            "OKActions": [],
            "AlarmActions": [],
            "InsufficientDataActions": [],
            **given,
            "AlarmArn": api.arn("cloudwatch", call, f"alarm:{name}"),
            "AlarmConfigurationUpdatedTimestamp": now,
        }
        kind = "CompositeAlarm" if composite else "MetricAlarm"

        def put(tx: Tx) -> Alarm:
            record = self.alarms.get(scope, name, tx)
            if record is None:
                state = {
                    "StateValue": "INSUFFICIENT_DATA",
                    "StateReason": "Unchecked: Initial alarm creation",
                    "StateUpdatedTimestamp": now,
                    "StateTransitionedTimestamp": now,
                }
                alarm = Alarm({**fixed, **state}, composite, tags_of(input))
            elif record.value.composite != composite:
                raise validation(f"An alarm of another type has the name {name}.")
            else:
                alarm = replace(record.value, members={**fixed, **_state_of(record.value.members)})
            self.alarms.put(tx, scope, name, alarm)
            done = "created" if record is None else "updated"
            data = {"version": "1.0", "type": "Create" if record is None else "Update"}
            records.note(tx, scope, name, kind, now, "ConfigurationUpdate", f'Alarm "{name}" {done}', data)
            return alarm

        self.watch(scope, await self.db.write(put))

    def _below(self, scope: str, name: str) -> set[str]:
        """All alarms that the rule of an alarm names, and those that theirs name."""
        found: set[str] = set()
        todo = [name]
        while todo:
            rule = self._rules.get((scope, todo.pop()))
            for child in rule.children - found if rule is not None else ():
                found.add(child)
                todo.append(child)
        return found

    async def DeleteAlarms(self, call: Call, input: Input) -> Output:
        names, now = input["AlarmNames"], self.clock.now()

        def delete(tx: Tx) -> None:
            found = [record for name in names if (record := self.alarms.get(call.scope, name, tx)) is not None]
            if sum(record.value.composite for record in found) > 1:
                raise validation("You can delete at most one composite alarm in one operation.")
            for name in names:
                if (record := self.alarms.get(call.scope, name, tx)) is None:
                    continue  # AWS has no word for it
                self.alarms.delete(tx, call.scope, name)
                kind = "CompositeAlarm" if record.value.composite else "MetricAlarm"
                data = {"version": "1.0", "type": "Delete"}
                records.note(tx, call.scope, name, kind, now, "ConfigurationUpdate", f'Alarm "{name}" deleted', data)

        await self.db.write(delete)
        for name in names:
            self.unwatch(call.scope, name)
            self.tell(call.scope, name, "")
        return {}

    async def DescribeAlarms(self, call: Call, input: Input) -> Output:
        if "AlarmNames" in input and "AlarmNamePrefix" in input:
            raise validation("The parameters AlarmNames and AlarmNamePrefix are mutually exclusive.")
        kinds = input.get("AlarmTypes") or ["MetricAlarm"]
        found = [
            record
            for record in self.alarms.list(call.scope, input.get("AlarmNamePrefix", ""))
            if ("CompositeAlarm" if record.value.composite else "MetricAlarm") in kinds
        ]
        if "AlarmNames" in input:
            found = [record for record in found if record.name in input["AlarmNames"]]
        if state := input.get("StateValue"):
            found = [record for record in found if record.value.members["StateValue"] == state]
        if prefix := input.get("ActionPrefix"):
            found = [
                record for record in found if any(one.startswith(prefix) for one in _actions(record.value.members))
            ]
        if parent := input.get("ChildrenOfAlarmName"):
            rule = self._rules.get((call.scope, parent))
            found = [record for record in found if rule is not None and record.name in rule.children]
        if child := input.get("ParentsOfAlarmName"):
            rules = {name: rule for (scope, name), rule in self._rules.items() if scope == call.scope}
            found = [record for record in found if record.name in rules and child in rules[record.name].children]
        page, token = page_of(found, input, input.get("MaxRecords", _PAGE))
        output: Output = {"MetricAlarms": [], "CompositeAlarms": []}
        for record in page:
            output["CompositeAlarms" if record.value.composite else "MetricAlarms"].append(record.value.members)
        return output | token

    async def DescribeAlarmsForMetric(self, call: Call, input: Input) -> Output:
        metric = metric_of(call, input)
        found = [
            record.value.members
            for record in self.alarms.list(call.scope)
            if "MetricName" in record.value.members and metric_of(call, record.value.members) == metric
        ]
        wanted = [name for name in ("Statistic", "ExtendedStatistic", "Period", "Unit") if name in input]
        return {"MetricAlarms": [one for one in found if all(one.get(name) == input[name] for name in wanted)]}

    async def SetAlarmState(self, call: Call, input: Input) -> Output:
        name, state, data = input["AlarmName"], input["StateValue"], {}
        if text := input.get("StateReasonData"):
            try:
                data = json.loads(text)
            except ValueError:
                raise AwsError("InvalidFormatFault", "StateReasonData was not valid JSON") from None
        record = self.alarms.get(call.scope, name)
        if record is None:
            raise _no_such_alarm(name)
        key = (call.scope, name)
        if record.value.members["StateValue"] != state:
            await self.move(key, Verdict(state, input["StateReason"], data))
        else:
            await self._reason(call, name, input)
        if not record.value.composite:
            self.wake(key)
        return {}

    async def _reason(self, call: Call, name: str, input: Input) -> None:
        """Another reason for the same state."""
        now = self.clock.now()

        def write(tx: Tx) -> None:
            record = self.alarms.get(call.scope, name, tx)
            if record is None:
                raise _no_such_alarm(name)
            old = record.value
            members = {**old.members, "StateReason": input["StateReason"], "StateUpdatedTimestamp": now}
            if "StateReasonData" in input:
                members["StateReasonData"] = input["StateReasonData"]
            new = replace(old, members=members)
            self.alarms.put(tx, call.scope, name, new)
            note_state(tx, call.scope, old, new, now)

        await self.db.write(write)

    async def EnableAlarmActions(self, call: Call, input: Input) -> Output:
        return await self._set_actions(call, input, True)

    async def DisableAlarmActions(self, call: Call, input: Input) -> Output:
        return await self._set_actions(call, input, False)

    async def _set_actions(self, call: Call, input: Input, enabled: bool) -> Output:
        def write(tx: Tx) -> None:
            for name in input["AlarmNames"]:
                if (record := self.alarms.get(call.scope, name, tx)) is not None:
                    members = {**record.value.members, "ActionsEnabled": enabled}
                    self.alarms.put(tx, call.scope, name, replace(record.value, members=members))

        await self.db.write(write)
        return {}

    async def DescribeAlarmHistory(self, call: Call, input: Input) -> Output:
        if "AlarmContributorId" in input:
            raise not_implemented("DescribeAlarmHistory with AlarmContributorId")
        descending = input.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        limit, kinds = input.get("MaxRecords", _HISTORY_PAGE), input.get("AlarmTypes") or ["MetricAlarm"]
        after = read_token(input["NextToken"], int)[0] if "NextToken" in input else 2**62 if descending else 0

        def read(tx: Tx) -> list[Any]:
            return records.history(
                tx,
                call.scope,
                input.get("AlarmName", ""),
                input.get("HistoryItemType", ""),
                input.get("StartDate", 0.0),
                input.get("EndDate", 2.0**62),
                after,
                descending,
                limit + 1,
            )

        rows = await self.db.scan(read)
        items = [
            {
                "AlarmName": alarm,
                "AlarmType": kind,
                "Timestamp": time,
                "HistoryItemType": item,
                "HistorySummary": summary,
                "HistoryData": data[:4095],
            }
            for _, alarm, kind, time, item, summary, data in rows[:limit]
            if kind in kinds or "AlarmName" in input
        ]
        output: Output = {"AlarmHistoryItems": items}
        if len(rows) > limit:
            output["NextToken"] = token_of(rows[limit - 1][0])
        return output


def _refuse(call: Call, input: Input) -> None:
    for name in _NOT_THERE:
        if input.get(name):
            raise not_implemented(f"{call.operation} with {name}")


def _metric_alarm(input: Input) -> dict[str, Any]:
    """The members of a metric alarm. Raises what is wrong with them."""
    members = {name: value for name, value in input.items() if name not in ("Tags", *_NOT_THERE)}
    if members.get("ComparisonOperator") in OF_BANDS and "ThresholdMetricId" not in members:
        raise validation("ComparisonOperators for ranges require ThresholdMetricId to be set")
    threshold = () if "ThresholdMetricId" in members else ("Threshold",)
    for name in ("EvaluationPeriods", "ComparisonOperator", *threshold):
        if name not in members:
            raise missing(f"The parameter {name} is required.")
    if "Metrics" in members:
        if given := [name for name in _OF_ONE_METRIC if members.get(name)]:
            raise combination(f"The parameters Metrics and {given[0]} are mutually exclusive.")
        compared = [one for one in members["Metrics"] if one["Id"] != members.get("ThresholdMetricId")]
        if sum(query.get("ReturnData", True) for query in compared) != 1:
            raise validation("Exactly one element of the metrics list should return data.")
        return members
    for name in ("MetricName", "Namespace", "Period"):
        if name not in members:
            raise missing(f"The parameter {name} is required.")
    members.setdefault("Dimensions", [])
    if ("Statistic" in members) == ("ExtendedStatistic" in members):
        raise combination("Exactly one of the parameters Statistic and ExtendedStatistic must be specified.")
    if "ExtendedStatistic" in members and compile_statistic(members["ExtendedStatistic"]) is None:
        raise invalid(f"The value {members['ExtendedStatistic']} for parameter ExtendedStatistic is not supported.")
    return members


def _check_band(members: dict[str, Any], watched: Watched | None) -> None:
    """Raises ValidationError for an alarm on a band that lacks one, or is compared as with a number."""
    if watched is None or watched.band is None:
        raise validation("ThresholdMetricId must be the id of an element of the metrics list")
    if watched.band.expression is None or not watched.band.expression.bands:
        raise validation("Threshold metric expression must use ANOMALY_DETECTION_BAND function.")
    if members["ComparisonOperator"] not in OF_BANDS:
        raise validation("ThresholdMetricId requires a ComparisonOperator for ranges to be set")
    if "Threshold" in members:
        raise combination("The parameters Threshold and ThresholdMetricId are mutually exclusive.")


def _check_window(members: dict[str, Any], period: int) -> None:
    periods = members["EvaluationPeriods"]
    if period not in (10, 20, 30) and period % 60:
        raise validation("Period must be 10, 20, 30 or a multiple of 60")
    if period * periods > (_DAY if period < 3600 else 7 * _DAY):
        raise validation(
            "Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be <= 86400)."
            if period < 3600
            else "Metrics cannot be checked across more than seven days (EvaluationPeriods * Period must be <= 604800)."
        )
    if members.get("DatapointsToAlarm", 1) > periods:
        raise validation("DatapointsToAlarm must be less than or equal to EvaluationPeriods.")
    if (treat := members.get("TreatMissingData", "missing")) not in _TREATMENTS:
        raise validation(
            f"Option {treat} is not supported. Supported options for parameter TreatMissingData are breaching, "
            "notBreaching, ignore and missing."
        )
    if "EvaluateLowSampleCountPercentile" in members:
        option = members["EvaluateLowSampleCountPercentile"]
        if option not in ("evaluate", "ignore"):
            raise validation(
                f"Option {option} is not supported. "
                "Supported options for parameter EvaluateLowSampleCountPercentile are evaluate and ignore."
            )


def _state_of(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name.startswith("State")}


def _actions(members: dict[str, Any]) -> list[str]:
    return [*members["OKActions"], *members["AlarmActions"], *members["InsufficientDataActions"]]


def _no_such_alarm(name: str) -> AwsError:
    return AwsError("ResourceNotFound", f"Alarm {name} does not exist")
