"""What CloudFormation's types of EC2 share: properties that are known, tags, and finding what a crash has left."""

from __future__ import annotations

from typing import Any, ClassVar

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.ec2.world import STEP
from cloudlet.stacks.api import Deployment, Properties, ResourceType, tags_of


class Type(ResourceType):
    """A type of EC2. ``changes`` are the properties that are changed in place."""

    changes: ClassVar[frozenset[str]] = frozenset()

    def check(self, properties: Properties) -> None:
        """Refuse a property by its name that is neither done nor without meaning here."""
        for name in sorted(properties.keys() - self.replaces - self.changes - self.ignored):
            raise not_implemented(f"{self.type} with {name}")


def picked(properties: Properties, *names: str) -> Properties:
    """Those properties that are there."""
    return {name: properties[name] for name in names if name in properties}


def specification(do: Deployment, properties: Properties, type: str) -> Properties:
    """The tags of what is made, as Create operations take them."""
    tags = [{"Key": key, "Value": str(value)} for key, value in tags_of(do, properties).items()]
    tags.append({"Key": STEP, "Value": do.name(255)})
    return {"TagSpecifications": [{"ResourceType": type, "Tags": tags}]}


async def made(do: Deployment, operation: str, plural: str) -> Properties | None:
    """What this very step has made before a crash, if it has."""
    name = "Filter" if operation == "DescribeNatGateways" else "Filters"
    mine = {"Name": f"tag:{STEP}", "Values": [do.name(255)]}
    found = (await do.call("ec2", operation, {name: [mine]}))[plural]
    return found[0] if found else None


async def retag(do: Deployment, id: str, properties: Properties) -> None:
    """Give something the tags that its properties and its stack say, and no other."""
    wanted = {key: str(value) for key, value in tags_of(do, properties).items()}
    filter = {"Name": "resource-id", "Values": [id]}
    there = (await do.call("ec2", "DescribeTags", {"Filters": [filter]}))["Tags"]
    before = {tag["Key"]: tag["Value"] for tag in there}
    if gone := [{"Key": key} for key in before if key not in wanted]:
        await do.call("ec2", "DeleteTags", {"Resources": [id], "Tags": gone})
    if new := [{"Key": key, "Value": value} for key, value in wanted.items() if before.get(key) != value]:
        await do.call("ec2", "CreateTags", {"Resources": [id], "Tags": new})


async def unless(do: Deployment, operation: str, input: Properties, *codes: str) -> bool:
    """Call an operation; False where it ends with an error that says that it was done, or that nothing is there."""
    try:
        await do.call("ec2", operation, input)
    except AwsError as error:
        if error.code in codes or error.code.endswith("NotFound"):
            return False
        raise
    return True


def is_true(value: Any) -> bool:
    """A boolean as templates write it."""
    return str(value).lower() == "true"
