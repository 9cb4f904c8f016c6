"""Placement groups: who is to be near whom. One machine is one place, so that they are names that instances give."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import INSTANCE, PLACEMENT_GROUP
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, invalid, missing, new_id, shown_tags


class PlacementGroups(Base):
    """Operations on placement groups."""

    async def CreatePlacementGroup(self, call: Call, input: Input) -> Output:
        if not (name := input.get("GroupName")):
            raise missing("groupName")
        strategy = input.get("Strategy", "cluster")
        if "PartitionCount" in input and (strategy != "partition" or not 1 <= input["PartitionCount"] <= 7):
            raise invalid(f"Invalid value '{input['PartitionCount']}' for partitionCount.")
        if "SpreadLevel" in input and strategy != "spread":
            raise invalid(f"Invalid value '{input['SpreadLevel']}' for spreadLevel.")
        tags = new_tags(call, input, PLACEMENT_GROUP)

        def work(world: World) -> Output:
            if world.all(PLACEMENT_GROUP, GroupName=name):
                raise AwsError("InvalidPlacementGroup.Duplicate", f"The placement group '{name}' already exists.")
            shown = {
                "GroupArn": f"arn:aws:ec2:{call.region}:{call.account}:placement-group/{name}",
                "GroupName": name,
                "State": "available",
                "Strategy": strategy,
                **({"PartitionCount": input.get("PartitionCount", 2)} if strategy == "partition" else {}),
                **({"SpreadLevel": input.get("SpreadLevel", "rack")} if strategy == "spread" else {}),
            }
            made = world.make(PLACEMENT_GROUP, shown, tags, id=new_id("pg"))
            return {"PlacementGroup": {**made.shown, "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    async def DescribePlacementGroups(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        ids = [_known(world, id).id for id in input.get("GroupIds", [])]
        ids += [_named(world, name).id for name in input.get("GroupNames", [])]
        return self.described(call, {**input, "GroupIds": ids}, PLACEMENT_GROUP)

    async def DeletePlacementGroup(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = _named(world, input["GroupName"])
            for instance in world.all(INSTANCE):
                placement = instance.shown.get("Placement", {})
                if placement.get("GroupName") == input["GroupName"] and instance.shown["State"]["Name"] != "terminated":
                    words = f"The placement group '{input['GroupName']}' is in use and may not be deleted."
                    raise AwsError("InvalidPlacementGroup.InUse", words)
            world.delete(item)
            return {}

        return await self.write(call.scope, work)


def group_of(world: World, placement: dict[str, Any]) -> str:
    """The name of the group that a launch asks for, or nothing. Raises InvalidPlacementGroup.Unknown."""
    if id := placement.get("GroupId"):
        return str(_known(world, id).shown["GroupName"])
    name = str(placement.get("GroupName", ""))
    return str(_named(world, name).shown["GroupName"]) if name else ""


def _known(world: World, id: str) -> Item:
    found = world.find(id) if PLACEMENT_GROUP.has(id) else None
    if found is None:
        raise AwsError("InvalidPlacementGroup.Unknown", f"The Placement Group '{id}' is unknown.")
    return found


def _named(world: World, name: str) -> Item:
    found = world.all(PLACEMENT_GROUP, GroupName=name)
    if not found:
        raise AwsError("InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown.")
    return found[0]
