"""The evaluation of alarms: once a minute while there is something to see, and not at all while there is not.

An alarm is awake from when it is made, changed or hears of new data until its whole window is empty: what it says about
an empty window does not change any more.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.control.clock import Timer
from cloudlet.errors import not_implemented
from cloudlet.services.api import Call
from cloudlet.services.cloudwatch import anomalies, records
from cloudlet.services.cloudwatch.actions import Actions, queries_of
from cloudlet.services.cloudwatch.answering import Evaluation
from cloudlet.services.cloudwatch.asking import Query, compile_queries
from cloudlet.services.cloudwatch.base import validation
from cloudlet.services.cloudwatch.evaluation import EXTRA, Verdict, iso, judge, reason_data
from cloudlet.services.cloudwatch.functions import Series, Value
from cloudlet.services.cloudwatch.limits import Band, Limit, Threshold
from cloudlet.services.cloudwatch.queries import Queries
from cloudlet.services.cloudwatch.records import Alarm, Datum, Metric
from cloudlet.services.cloudwatch.reports import rule_metric
from cloudlet.services.cloudwatch.rules import Rule, compile_rule
from cloudlet.store import Tx

log = logging.getLogger("cloudlet.cloudwatch")

_MINUTE = 60
_PERCENTILE = re.compile(r"[pP](\d+(?:\.\d+)?)")
_OFTEN = 10  # seconds between evaluations of an alarm on less than a minute

Key = tuple[str, str]  # an alarm's scope and name


class Watched:
    """A metric alarm, ready to be evaluated."""

    def __init__(self, call: Call, members: dict[str, Any]) -> None:
        self.queries = compile_queries(call, queries_of(members))
        for query in self.queries.values():
            if query.insight is not None:
                raise not_implemented("PutMetricAlarm with a Metrics Insights query")
            if query.expression is not None and query.expression.searches:
                raise validation("SEARCH is not supported on Metric Alarms.")
        self.band = self.queries.get(members.get("ThresholdMetricId", ""))  # what the subject is compared with
        self.subject: Query = next(query for query in self.queries.values() if query.shown and query is not self.band)
        self.period: int = self.subject.period or max(query.period for query in self.queries.values())
        self.metrics = {query.metric for query in self.queries.values() if query.metric is not None}
        for query in self.queries.values():
            rules = query.expression.rules if query.expression is not None else ()
            self.metrics |= {rule_metric(call.scope, rule) for rule in rules}
        if not self.period:
            raise validation("Period must not be null")
        self.least, self.counts = _samples(call, members)
        self.step = _OFTEN if self.period < _MINUTE else _MINUTE  # seconds between evaluations
        self.evaluated = 0  # the end of the window that was evaluated last
        self.until = 0  # the latest time for which there are data


def _samples(call: Call, members: dict[str, Any]) -> tuple[float, dict[str, Query]]:
    """How many samples a percentile needs to say anything, and the queries that count them; 0 where few are fine."""
    found = _PERCENTILE.fullmatch(members.get("ExtendedStatistic", ""))
    if found is None or members.get("EvaluateLowSampleCountPercentile") != "ignore":
        return 0.0, {}
    part = float(found[1]) / 100
    rest = 1 - part if part >= 0.5 else part
    counted = queries_of({**members, "Statistic": "SampleCount"})
    return round(10 / rest, 6) if rest else math.inf, compile_queries(call, counted)


class Watching(Actions, Queries):
    """The state of alarms."""

    async def start(self) -> None:
        self._watched: dict[Key, Watched] = {}
        self._watchers: dict[Metric, set[Key]] = {}
        self._rules: dict[Key, Rule] = {}
        self._awake: set[Key] = set()
        self._tick: Timer | None = None
        self._told: list[Callable[[str, str, str], object]] = []
        await super().start()
        for record in self.alarms.all():
            self.watch(record.scope, record.value)

    async def stop(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
        await super().stop()

    def watch_states(self, told: Callable[[str, str, str], object]) -> Callable[[], None]:
        """Have ``told`` called, in this process, with an alarm's scope, name and state when that has changed, or is no
        more: then it is empty.

        Gives back what ends that.
        """
        self._told.append(told)
        return lambda: self._told.remove(told) if told in self._told else None

    def tell(self, scope: str, name: str, state: str) -> None:
        """Tell whoever watches states."""
        for told in list(self._told):
            told(scope, name, state)

    def watch(self, scope: str, alarm: Alarm) -> None:
        """An alarm is new or has changed."""
        key = (scope, alarm.members["AlarmName"])
        self.unwatch(*key)
        if alarm.composite:
            self._rules[key] = compile_rule(alarm.members["AlarmRule"])
            return
        account, region = scope.split("/")
        watched = self._watched[key] = Watched(Call(account, region), alarm.members)
        for metric in watched.metrics:
            self._watchers.setdefault(metric, set()).add(key)
        self.wake(key)

    def unwatch(self, scope: str, name: str) -> None:
        """An alarm is gone."""
        key = (scope, name)
        self._rules.pop(key, None)
        self._awake.discard(key)
        if (watched := self._watched.pop(key, None)) is not None:
            for metric in watched.metrics:
                self._watchers[metric].discard(key)
                if not self._watchers[metric]:
                    del self._watchers[metric]

    def data_came(self, data: list[Datum]) -> None:
        if self._watchers:
            for datum in data:
                self.heard(datum.metric, datum.time)

    def heard(self, metric: Metric, time: int) -> None:
        """There is something new of a metric at a time: its alarms are to see it."""
        for key in self._watchers.get(metric, ()):
            self._watched[key].until = max(self._watched[key].until, time)
            self.wake(key)

    def wake(self, key: Key) -> None:
        """See that an alarm is evaluated at the next turn."""
        if key not in self._awake:
            self._awake.add(key)
            self._plan(self.clock.now())

    def _plan(self, now: float) -> None:
        """Set the timer to the first turn after ``now``, which may be over already."""
        if not self._awake:
            return
        step = min(self._watched[key].step for key in self._awake)
        when = (int(now) // step + 1) * step
        if self._tick is not None and self._tick.when <= when:
            return
        if self._tick is not None:
            self._tick.cancel()
        self._tick = self.clock.call_at(when, lambda: self.cloud.spawn(self._turn(), "cloudwatch evaluates alarms"))

    async def _turn(self) -> None:
        """Evaluate the alarms that are awake."""
        self._tick = None
        await self.cloud.metrics.collect()
        now = self.clock.now()
        for key in list(self._awake):
            watched = self._watched.get(key)
            if watched is None:
                continue  # deleted since this turn began
            end = int(now) // watched.step * watched.step
            if end == watched.evaluated:
                continue
            watched.evaluated = end
            try:
                await self._evaluate(key, watched, end)
            except Exception:
                log.exception("alarm %s could not be evaluated", key[1])
        # The clock may have been moved in the meantime.
        self._plan(now)

    async def _evaluate(self, key: Key, watched: Watched, end: int) -> None:
        record = self.alarms.get(*key)
        if record is None:
            return
        alarm = record.value.members
        count = alarm["EvaluationPeriods"] + EXTRA

        def start_of(period: int) -> int:
            return int(end - math.ceil(count * watched.period / period) * period)

        def read(queries: dict[str, Query], tx: Tx) -> dict[int, float]:
            evaluation = Evaluation(tx, key[0], queries, start_of, end, end)
            value = evaluation.value(next(query for query in queries.values() if query.shown))
            return value.points if isinstance(value, Series) else {}

        def compared(tx: Tx) -> tuple[dict[int, float], Limit]:
            evaluation = Evaluation(tx, key[0], watched.queries, start_of, end, end, detectors)
            value = evaluation.value(watched.subject)
            points = value.points if isinstance(value, Series) else {}
            if watched.band is None:
                return points, Threshold(alarm["ComparisonOperator"], alarm["Threshold"])
            lower, upper = bounds_of(evaluation.value(watched.band))
            return {time: one for time, one in points.items() if time in lower}, Band(
                alarm["ComparisonOperator"], (lower, upper)
            )

        detectors = [record.value for record in self.detectors.list(key[0])] if watched.band is not None else []
        points, limit = await self.db.scan(compared)
        start = end - count * watched.period
        values = [(time, points.get(time)) for time in range(start, end, watched.period)]
        if not points and end > watched.until and self._watched.get(key) is watched:
            self._awake.discard(key)
        if watched.least:
            counts = await self.db.scan(lambda tx: read(watched.counts, tx))
            latest = [time for time, value in values if value is not None][-alarm["EvaluationPeriods"] :]
            if any(counts.get(time, 0.0) < watched.least for time in latest):
                return  # too few samples say nothing
        verdict = judge(alarm, limit, watched.period, values, self.clock.now())
        if verdict.state and verdict.state != alarm["StateValue"]:
            await self.move(key, verdict)

    async def move(self, key: Key, verdict: Verdict) -> None:
        """Put an alarm into a state, with its history and actions, then those that depend on it."""
        scope, name = key
        now = self.clock.now()

        def write(tx: Tx) -> bool | None:
            record = self.alarms.get(scope, name, tx)
            if record is None or record.value.members["StateValue"] == verdict.state:
                return None
            old = record.value
            new = replace(old, members=_in_state(old.members, verdict, now))
            self.alarms.put(tx, scope, name, new)
            note_state(tx, scope, old, new, now)
            return self.order(tx, scope, old, new, now)

        acting = await self.db.write(write)
        if acting is None:
            return
        if acting:
            self.outbox.wake()
        self.tell(scope, name, verdict.state)
        await self.consider_parents(scope, name, verdict.state)

    async def consider_parents(self, scope: str, child: str, state: str) -> None:
        """Evaluate the composite alarms whose rules name an alarm that has changed."""
        for key, rule in list(self._rules.items()):
            if key[0] == scope and child in rule.children:
                await self.consider(key, f"{child} transitioned to {state}")

    async def consider(self, key: Key, cause: str) -> None:
        """Evaluate a composite alarm."""
        rule, record = self._rules.get(key), self.alarms.get(*key)
        if rule is None or record is None:
            return
        states = {
            name: found.value.members["StateValue"]
            for name in rule.children
            if (found := self.alarms.get(key[0], name)) is not None
        }
        state = "ALARM" if rule.holds(states) else "OK"
        if state != record.value.members["StateValue"]:
            arn = record.value.members["AlarmArn"].rsplit(":", 1)[0]
            reason = f"{arn}:{cause} at {iso(self.clock.now())}" if cause else "Alarm rule was evaluated."
            triggering = [{"arn": f"{arn}:{name}", "state": {"value": value}} for name, value in sorted(states.items())]
            await self.move(key, Verdict(state, reason, {"triggeringAlarms": triggering}))


def bounds_of(value: Value) -> anomalies.Band:
    """A band's lower and upper bound."""
    if not isinstance(value, list) or len(value) != 2:
        raise validation("Threshold metric expression must use ANOMALY_DETECTION_BAND function.")
    return value[0].points, value[1].points


def _in_state(members: dict[str, Any], verdict: Verdict, now: float) -> dict[str, Any]:
    moved = {
        **members,
        "StateValue": verdict.state,
        "StateReason": verdict.reason[:1023],
        "StateUpdatedTimestamp": now,
        "StateTransitionedTimestamp": now,
    }
    if verdict.data:
        moved["StateReasonData"] = reason_data(verdict.data)
    else:
        moved.pop("StateReasonData", None)
    return moved


def note_state(tx: Tx, scope: str, old: Alarm, new: Alarm, now: float) -> None:
    """Write a change of state into the history."""
    was, is_ = old.members, new.members
    data = {
        "version": "1.0",
        "oldState": {"stateValue": was["StateValue"], "stateReason": was["StateReason"]},
        "newState": {"stateValue": is_["StateValue"], "stateReason": is_["StateReason"]},
    }
    summary = f"Alarm updated from {was['StateValue']} to {is_['StateValue']}"
    kind = "CompositeAlarm" if new.composite else "MetricAlarm"
    records.note(tx, scope, is_["AlarmName"], kind, now, "StateUpdate", summary, data)
