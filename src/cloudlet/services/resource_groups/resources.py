"""CloudFormation's type of Resource Groups."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, is_own, tags_of

_SERVICE = "resource-groups"


class Group(ResourceType):
    """A group; a query of a stack without an identifier is of the stack that it is in. ``Ref`` is its name."""

    type = "AWS::ResourceGroups::Group"
    required = frozenset(("Name",))
    replaces = frozenset(("Name",))
    refuses = frozenset(("Configuration", "Resources"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties["Name"]
        arn = f"arn:aws:resource-groups:{do.region}:{do.account}:group/{name}"
        given = {"Name": name, "Tags": tags_of(do, properties), **_description(properties)}
        try:
            await do.call(_SERVICE, "CreateGroup", {**given, "ResourceQuery": _query(do, properties)})
        except AwsError as error:
            if "already exists" not in error.message:
                raise
            # Made by an attempt that was cut off: it has this resource's tags.
            if not is_own(do, (await do.call(_SERVICE, "GetTags", {"Arn": arn}))["Tags"]):
                raise
        return Physical(name, {"Arn": arn})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        arn = physical.attributes["Arn"]
        description = {"Description": "", **_description(new)}
        await do.call(_SERVICE, "UpdateGroup", {"Group": physical.id, **description})
        query = {"Group": physical.id, "ResourceQuery": _query(do, new)}
        await do.call(_SERVICE, "UpdateGroupQuery", query)
        tags = tags_of(do, new)
        known = (await do.call(_SERVICE, "GetTags", {"Arn": arn}))["Tags"]
        if gone := [key for key in known if key not in tags]:
            await do.call(_SERVICE, "Untag", {"Arn": arn, "Keys": gone})
        await do.call(_SERVICE, "Tag", {"Arn": arn, "Tags": tags})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await do.call(_SERVICE, "DeleteGroup", {"Group": physical.id})
        except AwsError as error:
            if error.code != "NotFoundException":
                raise


def _description(properties: Properties) -> dict[str, str]:
    return {"Description": properties["Description"]} if "Description" in properties else {}


def _query(do: Deployment, properties: Properties) -> dict[str, str]:
    """The query as the API has it: JSON in a string."""
    given = properties.get("ResourceQuery") or {}
    type = given.get("Type", "CLOUDFORMATION_STACK_1_0")
    query: dict[str, Any] = {"ResourceTypeFilters": ["AWS::AllSupported"], **given.get("Query", {})}
    if type == "CLOUDFORMATION_STACK_1_0":
        query.setdefault("StackIdentifier", do.stack_id)
    return {"Type": type, "Query": json.dumps(query)}


TYPES: list[type[ResourceType]] = [Group]
