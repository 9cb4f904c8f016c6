"""CloudFormation's types of EventBridge Scheduler."""

from __future__ import annotations

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, tags_of


class Schedule(ResourceType):
    """A schedule. ``Ref`` is its name."""

    type = "AWS::Scheduler::Schedule"
    required = frozenset(("FlexibleTimeWindow", "ScheduleExpression", "Target"))
    replaces = frozenset(("Name", "GroupName"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("Name") or do.name(64)
        try:
            made = await do.call("scheduler", "CreateSchedule", {**properties, "Name": name})
        except AwsError as error:
            if error.code != "ConflictException" or "Name" in properties:
                raise
            made = await do.call("scheduler", "UpdateSchedule", {**properties, "Name": name})
        return Physical(name, {"Arn": made["ScheduleArn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await do.call("scheduler", "UpdateSchedule", {**new, "Name": physical.id})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        group = {"GroupName": properties["GroupName"]} if "GroupName" in properties else {}
        await _unless_gone(do, "DeleteSchedule", {"Name": physical.id, **group})


class ScheduleGroup(ResourceType):
    """A group of schedules. ``Ref`` is its name."""

    type = "AWS::Scheduler::ScheduleGroup"
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("Name") or do.name(64)
        tags = [{"Key": key, "Value": value} for key, value in tags_of(do, properties).items()]
        try:
            await do.call("scheduler", "CreateScheduleGroup", {"Name": name, "Tags": tags})
        except AwsError as error:
            if error.code != "ConflictException" or "Name" in properties:
                raise
        return await self._describe(do, name)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        arn, tags = physical.attributes["Arn"], tags_of(do, new)
        known = (await do.call("scheduler", "ListTagsForResource", {"ResourceArn": arn}))["Tags"]
        if gone := [tag["Key"] for tag in known if tag["Key"] not in tags]:
            await do.call("scheduler", "UntagResource", {"ResourceArn": arn, "TagKeys": gone})
        if tags:
            entries = [{"Key": key, "Value": value} for key, value in tags.items()]
            await do.call("scheduler", "TagResource", {"ResourceArn": arn, "Tags": entries})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteScheduleGroup", {"Name": physical.id})

    async def _describe(self, do: Deployment, name: str) -> Physical:
        group = await do.call("scheduler", "GetScheduleGroup", {"Name": name})
        return Physical(name, {key: group[key] for key in ("Arn", "State", "CreationDate", "LastModificationDate")})


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call("scheduler", operation, input)
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise


TYPES = [Schedule, ScheduleGroup]
