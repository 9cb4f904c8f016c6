"""EventBridge Scheduler. How schedules come due is in ``running.py``, what they call in ``calling.py``."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output, Tagged, tags_in
from cloudlet.services.scheduler import records
from cloudlet.services.scheduler.calling import Caller
from cloudlet.services.scheduler.errors import invalid, no_group, no_schedule
from cloudlet.services.scheduler.records import DEFAULT, Group, Schedule
from cloudlet.services.scheduler.running import Running, moments
from cloudlet.services.schedules import ScheduleError
from cloudlet.services.targets import AGE, TRIES
from cloudlet.store import Database, Resources, Tx

_PAGE = 100
_EARLIEST_START = 300.0  # seconds that a StartDate may be past
_APART = ("Name", "GroupName", "ClientToken")


class Service(api.Service):
    """Schedules and their groups."""

    name = "scheduler"

    _db: Database
    _groups: Resources[Group]
    _schedules: Resources[Schedule]

    async def start(self) -> None:
        self._db = await self.cloud.store.database("scheduler", records.MIGRATIONS)
        self._groups = self._db.resources(Group)
        self._schedules = self._db.resources(Schedule)
        self._caller = Caller(self.cloud, self._db)
        self._running = Running(self._db, self.clock, self._caller.outbox, self._now, self._remove)
        await self._caller.outbox.start()
        ticks = await self._db.scan(records.ticks)
        for record in self._schedules.all():
            schedule = record.value
            self._running.begin(schedule, ticks.get(schedule.arn, schedule.anchor - 0.001))

    async def stop(self) -> None:
        self._running.stop()
        await self._caller.outbox.stop()

    def _now(self, schedule: Schedule) -> Schedule | None:
        record = self._schedules.get(schedule.scope, schedule.place)
        return record.value if record is not None else None

    def _remove(self, tx: Tx, schedule: Schedule) -> None:
        self._schedules.delete(tx, schedule.scope, schedule.place)
        records.forget(tx, schedule.arn)

    async def CreateSchedule(self, call: Call, input: Input) -> Output:
        group, name, token = input.get("GroupName", DEFAULT), input["Name"], input.get("ClientToken", "")
        now = self.clock.now()
        settings = {key: value for key, value in input.items() if key not in _APART}
        fresh = Schedule(call.account, call.region, group, name, now, now, now, settings, token)
        await self._check(fresh)

        def create(tx: Tx) -> Schedule | None:
            self._group(call, group, tx)
            existing = self._schedules.get(call.scope, fresh.place, tx)
            if existing is None:
                self._schedules.put(tx, call.scope, fresh.place, fresh)
                return fresh
            if not token or existing.value.token != token:
                raise AwsError("ConflictException", f"Schedule {name} already exists.")
            return None

        if await self._db.write(create) is not None:
            self._running.begin(fresh, now - 0.001)
        return {"ScheduleArn": fresh.arn}

    async def UpdateSchedule(self, call: Call, input: Input) -> Output:
        group, name = input.get("GroupName", DEFAULT), input["Name"]
        old = self._schedule(call, group, name)
        now = self.clock.now()
        settings = {key: value for key, value in input.items() if key not in _APART}
        # What an update leaves out goes back to its default. A rate goes on counting when nothing of it has changed.
        same = ("ScheduleExpression", "StartDate", "State")
        goes_on = all(old.settings.get(key) == settings.get(key) for key in same)
        fresh = replace(old, modified=now, anchor=old.anchor if goes_on else now, settings=settings)
        await self._check(fresh)

        def update(tx: Tx) -> None:
            self._schedule(call, group, name, tx)
            self._schedules.put(tx, call.scope, fresh.place, fresh)
            records.tick(tx, fresh.arn, now - 0.001)

        await self._db.write(update)
        self._running.begin(fresh, now - 0.001)
        return {"ScheduleArn": fresh.arn}

    async def _check(self, schedule: Schedule) -> None:
        """Check a schedule's settings. Raises ValidationException and NotImplemented."""
        settings = schedule.settings
        try:
            moments(schedule)
        except ScheduleError as error:
            if "time zone" in str(error):
                raise invalid(f"Invalid Schedule Timezone {settings['ScheduleExpressionTimezone']}.") from None
            raise invalid(f"Invalid Schedule Expression {settings['ScheduleExpression']}.") from None
        window = settings["FlexibleTimeWindow"]
        if window["Mode"] == "FLEXIBLE" and "MaximumWindowInMinutes" not in window:
            raise invalid("A flexible time window needs MaximumWindowInMinutes.")
        start = settings.get("StartDate")
        if start is not None and start < self.clock.now() - _EARLIEST_START:
            raise invalid("The StartDate you specify cannot be earlier than 5 minutes ago.")
        if "EndDate" in settings and start is not None and settings["EndDate"] <= start:
            raise invalid("The StartDate you specify must come before the EndDate.")
        await self._caller.check(settings["Target"])

    async def GetSchedule(self, call: Call, input: Input) -> Output:
        schedule = self._schedule(call, input.get("GroupName", DEFAULT), input["Name"])
        settings = schedule.settings
        policy = {"MaximumEventAgeInSeconds": AGE, "MaximumRetryAttempts": TRIES}
        target = settings["Target"]
        return {
            "ScheduleExpressionTimezone": "UTC",
            "State": "ENABLED",
            "ActionAfterCompletion": "NONE",
            **settings,
            "Target": {**target, "RetryPolicy": {**policy, **target.get("RetryPolicy", {})}},
            "Arn": schedule.arn,
            "GroupName": schedule.group,
            "Name": schedule.name,
            "CreationDate": schedule.created,
            "LastModificationDate": schedule.modified,
        }

    async def DeleteSchedule(self, call: Call, input: Input) -> Output:
        schedule = self._schedule(call, input.get("GroupName", DEFAULT), input["Name"])
        await self._db.write(lambda tx: self._remove(tx, schedule))
        self._running.drop(schedule.arn)
        return {}

    async def ListSchedules(self, call: Call, input: Input) -> Output:
        group, prefix, state = input.get("GroupName"), input.get("NamePrefix", ""), input.get("State")
        if group is not None:
            self._group(call, group)
        found = [
            record
            for record in self._schedules.list(call.scope, f"{group}/{prefix}" if group else "")
            if record.value.name.startswith(prefix)
            and (state is None or record.value.settings.get("State", "ENABLED") == state)
        ]
        start, end, token = _page([record.name for record in found], input)
        shown = [
            {
                "Arn": record.value.arn,
                "Name": record.value.name,
                "GroupName": record.value.group,
                "State": record.value.settings.get("State", "ENABLED"),
                "CreationDate": record.value.created,
                "LastModificationDate": record.value.modified,
                "Target": {"Arn": record.value.settings["Target"]["Arn"]},
            }
            for record in found[start:end]
        ]
        return {"Schedules": shown, **token}

    def _schedule(self, call: Call, group: str, name: str, tx: Tx | None = None) -> Schedule:
        record = self._schedules.get(call.scope, f"{group}/{name}", tx)
        if record is None:
            raise no_schedule(name)
        return record.value

    async def CreateScheduleGroup(self, call: Call, input: Input) -> Output:
        name, token = input["Name"], input.get("ClientToken", "")
        tags = _tags(input.get("Tags", []))
        group = Group(call.account, call.region, name, self.clock.now(), token, tags)

        def create(tx: Tx) -> None:
            existing = self._groups.get(call.scope, name, tx)
            if name == DEFAULT or (existing is not None and (not token or existing.value.token != token)):
                raise AwsError("ConflictException", f"Schedule group {name} already exists.")
            if existing is None:
                self._groups.put(tx, call.scope, name, group)

        await self._db.write(create)
        return {"ScheduleGroupArn": group.arn}

    async def GetScheduleGroup(self, call: Call, input: Input) -> Output:
        return _shown(self._group(call, input["Name"]))

    async def ListScheduleGroups(self, call: Call, input: Input) -> Output:
        found = {record.name: record.value for record in self._groups.list(call.scope)}
        found[DEFAULT] = self._group(call, DEFAULT)
        names = sorted(name for name in found if name.startswith(input.get("NamePrefix", "")))
        start, end, token = _page(names, input)
        return {"ScheduleGroups": [_shown(found[name]) for name in names[start:end]], **token}

    async def DeleteScheduleGroup(self, call: Call, input: Input) -> Output:
        group = self._group(call, input["Name"])
        if group.name == DEFAULT:
            raise invalid("The default schedule group cannot be deleted.")

        def delete(tx: Tx) -> list[Schedule]:
            schedules = [record.value for record in self._schedules.list(call.scope, f"{group.name}/", tx)]
            for schedule in schedules:
                self._remove(tx, schedule)
            self._groups.delete(tx, call.scope, group.name)
            return schedules

        for schedule in await self._db.write(delete, long=True):
            self._running.drop(schedule.arn)
        return {}

    def _group(self, call: Call, name: str, tx: Tx | None = None) -> Group:
        record = self._groups.get(call.scope, name, tx)
        if record is not None:
            return record.value
        if name != DEFAULT:
            raise no_group(name)
        return Group(call.account, call.region, DEFAULT)

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        group = self._tagged(call, input["ResourceArn"])
        return {"Tags": [{"Key": key, "Value": value} for key, value in group.tags.items()]}

    async def TagResource(self, call: Call, input: Input) -> Output:
        added = _tags(input["Tags"])
        await self._retag(call, input["ResourceArn"], lambda tags: {**tags, **added})
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        await self._retag(
            call, input["ResourceArn"], lambda tags: {key: value for key, value in tags.items() if key not in gone}
        )
        return {}

    def _tagged(self, call: Call, arn: str, tx: Tx | None = None) -> Group:
        name = arn.rpartition(":")[2].removeprefix("schedule-group/")
        if "/" in name:
            raise invalid(f"The resource {arn} cannot have tags: only schedule groups do.")
        return self._group(call, name, tx)

    async def _retag(self, call: Call, arn: str, change: Any) -> None:
        def edit(tx: Tx) -> None:
            group = self._tagged(call, arn, tx)
            self._groups.put(tx, call.scope, group.name, replace(group, tags=change(group.tags)))

        await self._db.write(edit)

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {"type": "AWS::Scheduler::Schedule", "name": record.value.name, "arn": record.value.arn}
            for record in self._schedules.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self._groups)


def _shown(group: Group) -> dict[str, Any]:
    shown: dict[str, Any] = {"Arn": group.arn, "Name": group.name, "State": "ACTIVE"}
    if group.created:
        shown["CreationDate"] = shown["LastModificationDate"] = group.created
    return shown


def _tags(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def _page(names: list[str], input: Input) -> tuple[int, int, dict[str, str]]:
    """Where a page of sorted names begins and ends, and the token of the next one: the last name of this."""
    token = input.get("NextToken")
    start = bisect_right(names, token) if token else 0
    end = start + input.get("MaxResults", _PAGE)
    return start, end, {"NextToken": names[end - 1]} if end < len(names) else {}
