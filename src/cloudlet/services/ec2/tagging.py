"""The tags of everything."""

from __future__ import annotations

import re

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import filters
from cloudlet.services.ec2.base import Base, checked_tags, page
from cloudlet.services.ec2.kinds import kind_of
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import STEP, World, missing

_PATHS = {"key": ("Key",), "value": ("Value",), "resource-id": ("ResourceId",), "resource-type": ("ResourceType",)}


class Tagging(Base):
    """Operations on tags."""

    async def CreateTags(self, call: Call, input: Input) -> Output:
        new = {tag["Key"]: tag.get("Value", "") for tag in input["Tags"]}
        if not input["Resources"]:
            raise missing("resourceIdSet")
        if not new:
            raise missing("tagSet")

        def work(world: World) -> Output:
            for id in input["Resources"]:
                item = _item(world, id)
                world.put(replace(item, tags=checked_tags(call, new, item.tags)))
            return {}

        return await self.write(call.scope, work)

    async def DeleteTags(self, call: Call, input: Input) -> Output:
        # A tag that is named with a value goes only if it has that value; without any tag, all of the user's own go.
        gone = {tag["Key"]: tag.get("Value") for tag in input.get("Tags", [])}

        def is_kept(key: str, value: str) -> bool:
            if not gone:
                return key.startswith("aws:")
            return key not in gone or gone[key] not in (None, value)

        def work(world: World) -> Output:
            for id in input["Resources"]:
                item = _item(world, id)
                world.put(replace(item, tags={k: v for k, v in item.tags.items() if is_kept(k, v)}))
            return {}

        return await self.write(call.scope, work)

    async def DescribeTags(self, call: Call, input: Input) -> Output:
        shown = [
            {"Key": key, "Value": value, "ResourceId": item.id, "ResourceType": kind.resource_type}
            for item in self.world(call.scope).every()
            if (kind := kind_of(item.id)) is not None
            for key, value in item.tags.items()
            if key != STEP
        ]
        asked = input.get("Filters", [])
        by_tag = [f for f in asked if f.get("Name", "").startswith("tag:")]
        found = filters.chosen(shown, [f for f in asked if f not in by_tag], _PATHS)
        for one in by_tag:
            named = {**one, "Name": "value"}
            found = filters.chosen([tag for tag in found if tag["Key"] == one["Name"][4:]], [named], _PATHS)
        return page("Tags", found, input)


def _item(world: World, id: str) -> Item:
    kind = kind_of(id)
    if kind is None or not re.fullmatch(r"[0-9a-f]{8,}", id.rpartition("-")[2]):
        raise AwsError("InvalidID", f"The ID '{id}' is not valid")
    return world.get(kind, id)
