"""CloudFormation's types of Systems Manager."""

from __future__ import annotations

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, tags_of


class Parameter(ResourceType):
    """A parameter. ``Ref`` is its name; Type and Value are its attributes."""

    type = "AWS::SSM::Parameter"
    required = frozenset(("Type", "Value"))
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("Name") or f"CFN-{do.logical_id}-{do.name().rpartition('-')[2]}"
        input = _input(properties) | {"Name": name}
        tags = tags_of(do, properties)
        try:
            await do.call("ssm", "PutParameter", input | {"Tags": _pairs(tags)} if tags else input)
        except AwsError as error:
            # Made by this step before a crash, or not: the mark of this stack's resource tells.
            if error.code != "ParameterAlreadyExists" or not await _is_own(do, name):
                raise
            await do.call("ssm", "PutParameter", input | {"Overwrite": True})
        return _physical(name, properties)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        before, after = _input(old), _input(new)
        if before != after:
            # What the template no longer says goes back to nothing.
            for gone in before.keys() - after.keys():
                after[gone] = _NOTHING.get(gone, "")
            after = {
                key: value for key, value in after.items() if value != "" or key in ("Description", "AllowedPattern")
            }
            await do.call("ssm", "PutParameter", after | {"Name": physical.id, "Overwrite": True})
        resource = {"ResourceType": "Parameter", "ResourceId": physical.id}
        tags = tags_of(do, new)
        known = await do.call("ssm", "ListTagsForResource", resource)
        before_tags = {tag["Key"]: tag["Value"] for tag in known["TagList"]}
        if gone_tags := [key for key in before_tags if key not in tags]:
            await do.call("ssm", "RemoveTagsFromResource", {**resource, "TagKeys": gone_tags})
        if tags and tags != before_tags:
            await do.call("ssm", "AddTagsToResource", {**resource, "Tags": _pairs(tags)})
        return _physical(physical.id, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await do.call("ssm", "DeleteParameter", {"Name": physical.id})
        except AwsError as error:
            if error.code != "ParameterNotFound":
                raise


_NOTHING = {"Policies": "[]"}


def _input(properties: Properties) -> Properties:
    """Properties under the names of PutParameter's members, which are theirs. Raises ValidationError."""
    if properties["Type"] not in ("String", "StringList"):
        raise AwsError("ValidationError", "Type must be String or StringList: SecureString is not for templates.")
    return {name: value for name, value in properties.items() if name not in ("Name", "Tags")}


def _physical(name: str, properties: Properties) -> Physical:
    return Physical(name, {"Type": properties["Type"], "Value": properties["Value"]})


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


async def _is_own(do: Deployment, name: str) -> bool:
    """Whether a parameter was made for this resource of this stack."""
    known = await do.call("ssm", "ListTagsForResource", {"ResourceType": "Parameter", "ResourceId": name})
    tags = {tag["Key"]: tag["Value"] for tag in known["TagList"]}
    mine = ("aws:cloudformation:stack-id", "aws:cloudformation:logical-id")
    return all(do.tags.get(key) is not None and tags.get(key) == do.tags[key] for key in mine)


TYPES = [Parameter]
