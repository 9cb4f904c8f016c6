"""What CloudFormation's types of EC2 share: properties that are known, tags, and finding what a crash has left.

A ``Thing`` is a type whose resource is one of a kind with an id: its table entry says what is asked and what it gives.
"""

from __future__ import annotations

from typing import Any, ClassVar

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.ec2.kinds import Kind
from cloudlet.services.ec2.world import STEP
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, tags_of


class Type(ResourceType):
    """A type of EC2, which has its class's name. ``changes`` are the properties that are changed in place."""

    changes: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls.type = f"AWS::EC2::{cls.__name__}"

    def check(self, properties: Properties) -> None:
        """Refuse a property by its name that is neither done nor without meaning here."""
        for name in sorted(properties.keys() - self.replaces - self.changes - self.ignored):
            raise not_implemented(f"{self.type} with {name}")


class Thing(Type):
    """A type whose resource is one of a kind: it is made, tagged and deleted as all of them are.

    ``noun`` is its name in operations where that is not its kind's; ``asked`` are the properties that its Create
    operation takes as they are, by default those of ``replaces``; ``gives`` are the members of its description that
    ``Fn::GetAtt`` gives beside ``Id``.
    """

    kind: ClassVar[Kind]
    noun: ClassVar[str] = ""
    asked: ClassVar[frozenset[str] | None] = None
    gives: ClassVar[tuple[str, ...]] = ()

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        ends = self.kind.plural.removeprefix(self.kind.noun) if not self.noun else "s"
        found = await made(do, f"Describe{self._noun}{ends}")
        if found is None:
            input = self.input(do, properties) | specification(do, properties, self.kind.resource_type)
            answer = await do.call("ec2", f"Create{self._noun}", input)
            found = next((one for one in answer.values() if isinstance(one, dict)), answer)
        id = found[self.kind.id_member]
        await self.settle(do, id, {}, properties)
        return Physical(id, {"Id": id, **picked(found, *self.gives), **await self.attributes(do, found)})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await self.change(do, physical.id, old, new)
        await self.settle(do, physical.id, old, new)
        if "Tags" in self.changes:
            await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, f"Delete{self._noun}", {self.kind.id_member: physical.id})

    def input(self, do: Deployment, properties: Properties) -> Properties:
        """What the Create operation is asked, without tags."""
        return picked(properties, *(self.replaces if self.asked is None else self.asked))

    async def change(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        """Bring about in place what it was made with."""

    async def settle(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        """Bring about what is set after its making; without ``old`` it is new."""

    async def attributes(self, do: Deployment, found: Properties) -> Properties:
        """What ``Fn::GetAtt`` gives that its description does not say under the same name."""
        return {}

    @property
    def _noun(self) -> str:
        return self.noun or self.kind.noun


class Joint(Type):
    """A type that joins things which are there: ``makes`` and ``ends`` are operations that take its properties.

    It is named by the values of its ``parts``; ``there`` and ``gone`` are the codes of errors by which the operations
    say that it was done already.
    """

    makes: ClassVar[str]
    ends: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    there: ClassVar[str] = ""
    gone: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.required = frozenset(cls.parts)
        cls.replaces = cls.required | cls.replaces

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        await unless(do, self.makes, dict(properties), self.there)
        id = "|".join(str(properties[name]) for name in self.parts)
        return Physical(id, {"Id": id})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, self.ends, picked(properties, *self.parts), self.gone)


def picked(properties: Properties, *names: str) -> Properties:
    """Those properties that are there."""
    return {name: properties[name] for name in names if name in properties}


def specification(do: Deployment, properties: Properties, type: str) -> Properties:
    """The tags of what is made, as Create operations take them."""
    tags = [{"Key": key, "Value": str(value)} for key, value in tags_of(do, properties).items()]
    tags.append({"Key": STEP, "Value": do.name(255)})
    return {"TagSpecifications": [{"ResourceType": type, "Tags": tags}]}


async def made(do: Deployment, operation: str) -> Properties | None:
    """What this very step has made before a crash, if it has, as a Describe operation shows it."""
    name = "Filter" if operation in ("DescribeNatGateways", "DescribeFlowLogs") else "Filters"
    mine = {"Name": f"tag:{STEP}", "Values": [do.name(255)]}
    answer = await do.call("ec2", operation, {name: [mine]})
    found: list[Properties] = next(one for one in answer.values() if isinstance(one, list))
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


async def assign(do: Deployment, operation: str, id: Properties, new: Properties, old: Properties, **how: Any) -> None:
    """Call a Modify operation, which takes one attribute at a time, for each property that differs.

    ``how`` has the property's default, by which its type is known: a boolean is asked for as ``{"Value": ...}``.
    """
    for name, default in how.items():
        if old.get(name) == new.get(name):
            continue
        value = new.get(name, default)
        given = {"Value": is_true(value)} if isinstance(default, bool) else value
        await do.call("ec2", operation, {**id, name: given})
