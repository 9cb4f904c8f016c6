"""Scheduled actions: sizes that change at a time."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.autoscaling.base import invalid, name_in, page
from cloudlet.services.autoscaling.groups import resized
from cloudlet.services.autoscaling.policies import Policies
from cloudlet.services.autoscaling.records import Action, Group
from cloudlet.services.schedules.expressions import ScheduleError, parse
from cloudlet.store import Tx

_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_SIZES = ("MinSize", "MaxSize", "DesiredCapacity")


class Scheduled(Policies):
    """Operations on scheduled actions."""

    async def start(self) -> None:
        await super().start()
        self._due: dict[tuple[str, str], Timer] = {}
        for record in self.actions.all():
            self._await(record.scope, record.name)

    async def stop(self) -> None:
        for timer in self._due.values():
            timer.cancel()
        await super().stop()

    async def PutScheduledUpdateGroupAction(self, call: Call, input: Input) -> Output:
        await self._put_action(call, name_in(call, input["AutoScalingGroupName"]), input)
        return {}

    async def BatchPutScheduledUpdateGroupAction(self, call: Call, input: Input) -> Output:
        failed = []
        for one in input["ScheduledUpdateGroupActions"]:
            try:
                await self._put_action(call, name_in(call, input["AutoScalingGroupName"]), one)
            except AwsError as error:
                name = one["ScheduledActionName"]
                failed.append({"ScheduledActionName": name, "ErrorCode": error.code, "ErrorMessage": error.message})
        return {"FailedScheduledUpdateGroupActions": failed}

    async def DescribeScheduledActions(self, call: Call, input: Input) -> Output:
        name = name_in(call, input.get("AutoScalingGroupName", ""))
        names = input.get("ScheduledActionNames")
        found = [
            record.value.members
            for record in self.actions.list(call.scope, f"{name}/" if name else "")
            if (not names or record.value.members["ScheduledActionName"] in names)
            and record.value.members.get("StartTime", 0.0) >= input.get("StartTime", 0.0)
            and record.value.members.get("StartTime", 0.0) <= input.get("EndTime", float("inf"))
        ]
        return page("ScheduledUpdateGroupActions", found, input)

    async def DeleteScheduledAction(self, call: Call, input: Input) -> Output:
        await self._delete_action(call, name_in(call, input["AutoScalingGroupName"]), input["ScheduledActionName"])
        return {}

    async def BatchDeleteScheduledAction(self, call: Call, input: Input) -> Output:
        failed = []
        for name in input["ScheduledActionNames"]:
            try:
                await self._delete_action(call, name_in(call, input["AutoScalingGroupName"]), name)
            except AwsError as error:
                failed.append({"ScheduledActionName": name, "ErrorCode": error.code, "ErrorMessage": error.message})
        return {"FailedScheduledActions": failed}

    # Parts

    async def _put_action(self, call: Call, group: str, input: dict[str, Any]) -> None:
        self.group(call.scope, group)
        name, now = f"{group}/{input['ScheduledActionName']}", self.clock.now()
        if "Recurrence" not in input and "StartTime" not in input and "Time" not in input:
            raise invalid("You must specify a StartTime or a Recurrence for a scheduled action.")
        if not any(size in input for size in _SIZES):
            raise invalid("You must specify at least one of MinSize, MaxSize and DesiredCapacity.")
        given = {key: value for key, value in input.items() if key != "Time"}
        if "Time" in input:
            given.setdefault("StartTime", input["Time"])
        arn = (
            f"arn:aws:autoscaling:{call.region}:{call.account}:scheduledUpdateGroupAction:autoScalingGroupName/"
            f"{group}:scheduledActionName/{input['ScheduledActionName']}"
        )
        members = {**given, "AutoScalingGroupName": group, "ScheduledActionARN": arn}
        if "StartTime" in members:
            members["Time"] = members["StartTime"]
        action = Action(members, now, now)
        try:
            next_of(action, now)
        except ScheduleError as error:
            raise invalid(f"Given recurrence string: {members.get('Recurrence')} is invalid: {error}") from None
        await self.db.write(lambda tx: self.actions.put(tx, call.scope, name, action))
        self._await(call.scope, name)

    async def _delete_action(self, call: Call, group: str, name: str) -> None:
        key = f"{group}/{name}"
        if not await self.db.write(lambda tx: self.actions.delete(tx, call.scope, key)):
            raise invalid("Scheduled action name not found")
        self._await(call.scope, key)

    def _await(self, scope: str, name: str) -> None:
        """Set the timer of an action's next time."""
        if (before := self._due.pop((scope, name), None)) is not None:
            before.cancel()
        record = self.actions.get(scope, name)
        when = next_of(record.value, record.value.done) if record is not None else None
        if when is not None:
            at = when
            self._due[scope, name] = self.clock.call_at(at, lambda: self._begin(scope, name, at))

    def _begin(self, scope: str, name: str, when: float) -> None:
        self.cloud.spawn(self._do_action(scope, name, when), f"scheduled action {name}")

    async def _do_action(self, scope: str, name: str, when: float) -> None:
        group_name = name.partition("/")[0]

        def work(tx: Tx) -> None:
            action, group = self.actions.get(scope, name, tx), self.groups.get(scope, group_name, tx)
            if action is None or group is None:
                return
            self.actions.put(tx, scope, name, msgspec.structs.replace(action.value, done=when))
            if "ScheduledActions" not in group.value.suspended:
                self.groups.put(tx, scope, group_name, _sized(group.value, action.value.members, when))

        await self.db.write(work)
        self.look_after(scope, group_name)
        self._await(scope, name)


def _sized(group: Group, members: dict[str, Any], now: float) -> Group:
    sizes = {key: members[key] for key in ("MinSize", "MaxSize") if key in members}
    made = msgspec.structs.replace(group, members={**group.members, **sizes}, failures=0)
    least, most = made.members["MinSize"], made.members["MaxSize"]
    desired = max(least, min(most, members.get("DesiredCapacity", made.desired)))
    return resized(made, desired, now, f"scheduled action update of {members['ScheduledActionName']}")


def _weekdays(field: str) -> str:
    """Days of the week as EventBridge counts them, from 1 for Sunday, of a field of cron. Raises ScheduleError."""
    found = set()
    for part in field.upper().split(","):
        days, _, step = part.partition("/")
        first, _, last = days.partition("-")
        if days == "*":
            first, last = "0", "6"
        elif step and not last:
            last = "6"
        bounds = [
            _DAYS.index(one) if one in _DAYS else int(one) if one.isdigit() else -1 for one in (first, last or first)
        ]
        if not 0 <= bounds[0] <= bounds[1] <= 7 or (step and (not step.isdigit() or step == "0")):
            raise ScheduleError(f"{field} are no days of the week")
        found |= {number % 7 + 1 for number in range(bounds[0], bounds[1] + 1, int(step or 1))}
    return ",".join(map(str, sorted(found)))


def next_of(action: Action, after: float) -> float | None:
    """When an action is due next. Raises ScheduleError."""
    members = action.members
    start: float = members.get("StartTime", 0.0)
    if "Recurrence" not in members:
        return start if start > action.done or (start and action.done == action.created) else None
    fields = members["Recurrence"].split()
    if len(fields) != 5:
        raise ScheduleError("it must have five fields")
    minute, hour, day, month, weekday = fields
    if weekday != "*" and day != "*":
        raise not_implemented("a Recurrence with both a day of the month and a day of the week")
    # The form of EventBridge has a year, and one of the two kinds of days.
    day, weekday = ("?", _weekdays(weekday)) if weekday != "*" else (day, "?")
    schedule = parse(
        f"cron({minute} {hour} {day} {month} {weekday} *)", anchor=action.created, zone=members.get("TimeZone", "UTC")
    )
    when = schedule.after(max(after, start - 1))
    end: float = members.get("EndTime", float("inf"))
    return when if when is not None and when <= end else None
