"""Scheduled actions: bounds that change at a time."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.application_autoscaling.base import chosen, page
from cloudlet.services.application_autoscaling.policies import Policies
from cloudlet.services.application_autoscaling.records import Action
from cloudlet.services.application_autoscaling.scalable import validation
from cloudlet.services.scaling import capacity
from cloudlet.services.schedules.expressions import Schedule, ScheduleError, parse
from cloudlet.store import Tx


class Scheduled(Policies):
    """Operations on scheduled actions."""

    async def start(self) -> None:
        await super().start()
        self._due: dict[tuple[str, str], Timer] = {}
        for record in self.actions.all():
            self._wait(record.scope, record.name)

    async def stop(self) -> None:
        for timer in self._due.values():
            timer.cancel()
        await super().stop()

    async def PutScheduledAction(self, call: Call, input: Input) -> Output:
        key = self.key(input)
        target = self.target(call, input)
        name, now = f"{key}|{input['ScheduledActionName']}", self.clock.now()

        def work(tx: Tx) -> None:
            known = self.actions.get(call.scope, name, tx)
            old: dict[str, Any] = known.value.members if known is not None else {}
            arn = (
                f"arn:aws:autoscaling:{call.region}:{call.account}:scheduledAction:"
                f"{target.members['ScalableTargetARN'].rpartition('/')[2]}:resource/{input['ServiceNamespace']}/"
                f"{input['ResourceId']}:scheduledActionName/{input['ScheduledActionName']}"
            )
            members = {"ScheduledActionARN": arn, "CreationTime": now, **old, **input}
            if "Schedule" not in members:
                raise validation("Schedule must be given.")
            if not members.get("ScalableTargetAction"):
                raise validation("ScalableTargetAction must be given.")
            try:
                _schedule(members)
            except ScheduleError as error:
                raise validation(f"Schedule is not valid: {error}") from None
            self.actions.put(tx, call.scope, name, Action(members, now))

        await self.db.write(work)
        self._wait(call.scope, name)
        return {}

    async def DescribeScheduledActions(self, call: Call, input: Input) -> Output:
        names = input.get("ScheduledActionNames")
        found = [
            one
            for one in chosen([record.value.members for record in self.actions.list(call.scope)], input)
            if not names or one["ScheduledActionName"] in names
        ]
        return page("ScheduledActions", found, input)

    async def DeleteScheduledAction(self, call: Call, input: Input) -> Output:
        name = f"{self.key(input)}|{input['ScheduledActionName']}"
        if not await self.db.write(lambda tx: self.actions.delete(tx, call.scope, name)):
            raise AwsError(
                "ObjectNotFoundException",
                f"No scheduled action found for service namespace: {input['ServiceNamespace']}, resource ID: "
                f"{input['ResourceId']}, scalable dimension: {input['ScalableDimension']}",
            )
        return {}

    def _wait(self, scope: str, name: str) -> None:
        """Set the timer of an action's next time."""
        if (before := self._due.pop((scope, name), None)) is not None:
            before.cancel()
        record = self.actions.get(scope, name)
        if record is None:
            return
        members = record.value.members
        when = _schedule(members).after(max(record.value.done, members.get("StartTime", 0.0) - 1))
        if when is not None and when <= members.get("EndTime", when):
            self._due[scope, name] = self.clock.call_at(when, lambda: self._begin(scope, name, when))

    def _begin(self, scope: str, name: str, when: float) -> None:
        self.cloud.spawn(self._carry_out(scope, name, when), f"scheduled action {name}")

    async def _carry_out(self, scope: str, name: str, when: float) -> None:
        record = self.actions.get(scope, name)
        if record is None:
            return
        key, change = name.rpartition("|")[0], record.value.members["ScalableTargetAction"]

        def work(tx: Tx) -> bool:
            action = self.actions.get(scope, name, tx)
            target = self.targets.get(scope, key, tx)
            if action is None or target is None:
                return False
            self.actions.put(tx, scope, name, msgspec.structs.replace(action.value, done=when))
            if target.value.members["SuspendedState"]["ScheduledScalingSuspended"]:
                return False
            members = {**target.value.members, **change}
            self.targets.put(tx, scope, key, msgspec.structs.replace(target.value, members=members))
            return True

        if await self.db.write(work):
            target = self.targets.get(scope, key)
            assert target is not None
            members = target.value.members
            current = await self.current(scope, members)
            wanted = capacity.bounded(current, members["MinCapacity"], members["MaxCapacity"])
            bounds = ", ".join(f"{'min' if k == 'MinCapacity' else 'max'} capacity to {v}" for k, v in change.items())
            cause = f"scheduled action name {record.value.members['ScheduledActionName']} was triggered: {bounds}"
            await self.scale(scope, key, current, wanted, cause)
        self._wait(scope, name)


def _schedule(members: dict[str, Any]) -> Schedule:
    anchor = members.get("StartTime") or members["CreationTime"]
    return parse(members["Schedule"], anchor=anchor, zone=members.get("Timezone", "UTC"))
