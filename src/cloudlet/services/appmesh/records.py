"""What App Mesh keeps: the parts of meshes, all of one shape, and the sidecars that run."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec


class Kind(NamedTuple):
    """One kind of part: its names in the API, in ARNs and in messages."""

    name: str  # of the API's members: ``virtualNode``
    label: str  # in messages: ``VirtualNode``
    parent: str = ""  # the kind that it is within, when that is not the mesh itself
    plural: str = ""

    @property
    def member(self) -> str:
        """The member that holds its name."""
        return f"{self.name}Name"

    @property
    def members(self) -> str:
        """The member that holds a list of it."""
        return self.plural or f"{self.name}s"


MESH = Kind("mesh", "Mesh", plural="meshes")
VIRTUAL_NODE = Kind("virtualNode", "VirtualNode")
VIRTUAL_SERVICE = Kind("virtualService", "VirtualService")
VIRTUAL_ROUTER = Kind("virtualRouter", "VirtualRouter")
ROUTE = Kind("route", "Route", parent="virtualRouter")
VIRTUAL_GATEWAY = Kind("virtualGateway", "VirtualGateway")
GATEWAY_ROUTE = Kind("gatewayRoute", "GatewayRoute", parent="virtualGateway")

KINDS = {
    kind.name: kind
    for kind in (MESH, VIRTUAL_NODE, VIRTUAL_SERVICE, VIRTUAL_ROUTER, ROUTE, VIRTUAL_GATEWAY, GATEWAY_ROUTE)
}


# The types of a route -> the protocol of the listeners that have them.
ROUTE_TYPES = {"httpRoute": "http", "http2Route": "http2", "grpcRoute": "grpc", "tcpRoute": "tcp"}


class Part(msgspec.Struct, frozen=True):
    """A mesh or one of its parts. ``parent`` is the router of a route and the gateway of a gateway route."""

    kind: str
    mesh: str
    name: str
    owner: str
    region: str
    uid: str
    created: float
    updated: float
    spec: dict[str, Any] = {}
    parent: str = ""
    version: int = 1
    token: str = ""  # the client token of its making
    tags: dict[str, str] = {}

    @property
    def key(self) -> str:
        """Its name in the store."""
        return key_of(KINDS[self.kind], self.mesh, self.parent, self.name)

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        path = f"mesh/{self.mesh}"
        if self.kind != MESH.name:
            within = KINDS[self.kind].parent
            path += (f"/{within}/{self.parent}" if within else "") + f"/{self.kind}/{self.name}"
        return f"arn:aws:appmesh:{self.region}:{self.owner}:{path}"

    def metadata(self) -> dict[str, Any]:
        """What a description says of every part."""
        return {
            "arn": self.arn,
            "createdAt": self.created,
            "lastUpdatedAt": self.updated,
            "meshOwner": self.owner,
            "resourceOwner": self.owner,
            "uid": self.uid,
            "version": self.version,
        }

    def names(self) -> dict[str, str]:
        """The members that name it."""
        kind = KINDS[self.kind]
        names = {"meshName": self.mesh, kind.member: self.name}
        return names | ({f"{kind.parent}Name": self.parent} if kind.parent else {})

    def description(self, status: str = "ACTIVE") -> dict[str, Any]:
        """The part as its operations answer it."""
        return {**self.names(), "metadata": self.metadata(), "spec": self.spec, "status": {"status": status}}

    def reference(self) -> dict[str, Any]:
        """The part as lists have it."""
        metadata = self.metadata()
        del metadata["uid"]
        return {**self.names(), **metadata}


def key_of(kind: Kind, mesh: str, parent: str, name: str) -> str:
    """A part's name in the store; a list of parts of one kind is what begins with all but the last."""
    if kind is MESH:
        return f"mesh/{name}"
    return f"{kind.name}/{mesh}/{parent}/{name}" if kind.parent else f"{kind.name}/{mesh}/{name}"


def key_of_arn(arn: str) -> tuple[str, str] | None:
    """The scope and the store's name of a part by its ARN; None when it is not one."""
    fields = arn.split(":", 5)
    if len(fields) != 6 or fields[2] != "appmesh":
        return None
    names = resource_path(fields[5])
    return None if names is None else (f"{fields[4]}/{fields[3]}", names)


def resource_path(path: str) -> str | None:
    """The store's name of a part by its path, ``mesh/<mesh>/virtualNode/<node>``; None when it is not one."""
    words = path.split("/", 5)
    if words[0] != "mesh" or len(words) < 2:
        return None
    mesh = words[1]
    if len(words) == 2:
        return key_of(MESH, mesh, "", mesh)
    kind = KINDS.get(words[-2])
    if kind is None or len(words) != (6 if kind.parent else 4) or (kind.parent and kind.parent != words[2]):
        return None
    return key_of(kind, mesh, words[3] if kind.parent else "", words[-1])
