"""CloudFormation's types of App Mesh: one for each kind of part, all of one shape."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from cloudlet.errors import AwsError
from cloudlet.services.appmesh.records import KINDS, MESH, VIRTUAL_SERVICE, Kind
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of

# AWSCloudMap is awsCloudMap, TLS is tls, HTTP2 is http2, PortMapping is portMapping.
_CAPITALS = re.compile(r"^[A-Z]+(?=[A-Z][a-z]|[0-9]|$)|^[A-Z]")


class _Part(ResourceType):
    """A part of a mesh. Its physical id and ``Ref`` are its ARN."""

    kind: ClassVar[Kind]

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _check(self, properties)
        input = {
            **self._names(properties, properties.get(_capital(self.kind.member)) or do.name(255)),
            "tags": _pairs(tags_of(do, properties)),
            # The same after a crash: what was made before is then returned.
            "clientToken": f"{do.stack_id}/{do.logical_id}",
        }
        if "Spec" in properties:
            input["spec"] = members_of(properties["Spec"])
        return self._physical(await do.call("appmesh", f"Create{self.kind.label}", input))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        _check(self, new)
        if changed(old, new, "Spec"):
            name = physical.attributes[_capital(self.kind.member)]
            input = {**self._names(new, name), "spec": members_of(new.get("Spec", {}))}
            physical = self._physical(await do.call("appmesh", f"Update{self.kind.label}", input))
        place, tags = {"resourceArn": physical.id}, tags_of(do, new)
        before = {tag["key"]: tag["value"] for tag in (await do.call("appmesh", "ListTagsForResource", place))["tags"]}
        if gone := [key for key in before if key not in tags]:
            await do.call("appmesh", "UntagResource", {**place, "tagKeys": gone})
        if tags and tags != before:
            await do.call("appmesh", "TagResource", {**place, "tags": _pairs(tags)})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        names = self._names(properties, physical.id.split("/", 5)[-1])
        try:
            await do.call("appmesh", f"Delete{self.kind.label}", names)
        except AwsError as error:
            if error.code != "NotFoundException":
                raise

    def _names(self, properties: Properties, name: str) -> dict[str, Any]:
        """The members that name it, of which ``name`` is its own."""
        members = ["meshName", "meshOwner", *([f"{self.kind.parent}Name"] if self.kind.parent else [])]
        given = {member: properties[_capital(member)] for member in members if _capital(member) in properties}
        return {**given, self.kind.member: name}

    def _physical(self, answer: dict[str, Any]) -> Physical:
        part = answer[self.kind.name]
        metadata = part["metadata"]
        attributes = {_capital(key): value for key, value in part.items() if key.endswith("Name")}
        attributes |= {_capital(key): metadata[key] for key in ("arn", "meshOwner", "resourceOwner", "uid")}
        return Physical(metadata["arn"], {**attributes, "Id": metadata["arn"]})


def _type_of(kind: Kind) -> type[_Part]:
    """The type of one kind of part. What names a part cannot be changed; a service's name is never made up."""
    own, parent = _capital(kind.member), _capital(f"{kind.parent}Name") if kind.parent else ""
    names = {"MeshName", own} | ({parent} if parent else set())
    required = {"MeshName", "Spec", parent} - {""} | ({own} if kind is VIRTUAL_SERVICE else set())
    members = {
        "type": f"AWS::AppMesh::{kind.label}",
        "kind": kind,
        "required": frozenset() if kind is MESH else frozenset(required),
        "replaces": frozenset(names if kind is MESH else names | {"MeshOwner"}),
    }
    return type(kind.label, (_Part,), members)


def members_of(properties: Any) -> Any:
    """Properties under the names of the API's members."""
    if isinstance(properties, dict):
        return {_CAPITALS.sub(_lower, name): members_of(value) for name, value in properties.items()}
    if isinstance(properties, list):
        return [members_of(one) for one in properties]
    return properties


def _lower(found: re.Match[str]) -> str:
    return found.group().lower()


def _capital(member: str) -> str:
    return member[0].upper() + member[1:]


def _check(type: _Part, properties: Properties) -> None:
    known = {"MeshName", "MeshOwner", "Spec", "Tags", _capital(type.kind.member)}
    known |= {_capital(f"{type.kind.parent}Name")} if type.kind.parent else set()
    if type.kind is MESH:
        known.discard("MeshOwner")
    if unknown := sorted(properties.keys() - known):
        raise AwsError("ValidationError", f"Unsupported property of {type.type}: {', '.join(unknown)}")


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


TYPES = [_type_of(kind) for kind in KINDS.values()]
