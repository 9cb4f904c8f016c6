"""What the snapshot of one Envoy is made from: the mesh's parts, and all that had to be looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cloudlet.services.appmesh.records import Part
from cloudlet.services.appmesh.tracing import Tracer

Spec = dict[str, Any]

HTTP2 = ("http2", "grpc")  # the protocols that are carried by HTTP/2
# Of an HTTP connection manager whose routes look at paths: no two ways of writing one path.
NORMALIZED: dict[str, Any] = {"normalize_path": True, "merge_slashes": True}


class Port(NamedTuple):
    """A port of the mesh, with its protocol: ``http``, ``http2``, ``grpc`` or ``tcp``."""

    port: int
    protocol: str


@dataclass(frozen=True, slots=True)
class World:
    """One mesh as it is now. Specifications by name; routes by router or gateway, then by name."""

    name: str
    spec: Spec = field(default_factory=dict)
    nodes: Mapping[str, Spec] = field(default_factory=dict)
    services: Mapping[str, Spec] = field(default_factory=dict)
    routers: Mapping[str, Spec] = field(default_factory=dict)
    routes: Mapping[str, Mapping[str, Spec]] = field(default_factory=dict)
    gateways: Mapping[str, Spec] = field(default_factory=dict)
    gateway_routes: Mapping[str, Mapping[str, Spec]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What was looked up for one Envoy.

    ``endpoints`` are the addresses of Cloud Map's healthy instances, and of load balancers, by virtual node; nodes that
    DNS finds are not among them. ``certificates`` are chain and key in PEM by ACM ARN or by the name of an SDS secret;
    ``authority`` is what is trusted where SDS says so, ``authorities`` are the certificates of private authorities by
    their ARNs, and ``roots`` those that the ACM certificates of other nodes come from, by the ARNs of these.
    """

    endpoints: Mapping[str, Sequence[str]] = field(default_factory=dict)
    certificates: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    authority: str = ""
    authorities: Mapping[str, str] = field(default_factory=dict)
    roots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proxy:
    """How one Envoy is joined to its task."""

    ingress_port: int = 15000
    egress_port: int = 15001
    dns: tuple[str, int] | None = None  # address and port of the DNS server; None: as this machine has it
    stdout: str = ""  # the file where lines for /dev/stdout go; none: Envoy's own standard output
    admin_port: int = 0  # a port of the task that answers as Envoy's admin socket does; 0: none
    admin_log: str = ""  # the access log of that port
    ipv6: bool = True  # whether this machine has it
    sds: str = (
        ""  # the socket of a server that gives Envoy its secrets, in the container; none: the local authority does
    )
    admin_ipv6: bool = False  # whether that port answers over IPv6 too
    tracer: Tracer | None = None  # who is told of requests over HTTP
    # Folders of the Envoy container -> folders of this machine.
    files: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def traced(self) -> dict[str, Any]:
        """What makes an HTTP connection manager trace, as its arguments."""
        return {"tracing": self.tracer.tracing(self.file)} if self.tracer is not None else {}

    def socket(self, name: str, path: str) -> str:
        """A socket of the Envoy container as Envoy reaches it: by a link in its own folder, since the path may be
        longer than a socket's can be, or as it is where Envoy is in that container."""
        return name if self.stdout else path

    def file(self, path: str) -> str:
        """A path of the Envoy container on this machine: by the longest folder that it is in."""
        for folder in sorted(self.files, key=len, reverse=True):
            if path == folder or path.startswith(folder.rstrip("/") + "/"):
                return self.files[folder].rstrip("/") + path[len(folder.rstrip("/")) :]
        return path


def world_of(mesh: Part, parts: Sequence[Part]) -> World:
    """The world of a mesh and its parts."""
    flat: dict[str, dict[str, Spec]] = {kind: {} for kind in ("virtualNode", "virtualService", "virtualRouter")}
    flat["virtualGateway"] = {}
    nested: dict[str, dict[str, dict[str, Spec]]] = {"route": {}, "gatewayRoute": {}}
    for part in parts:
        if part.kind in nested:
            nested[part.kind].setdefault(part.parent, {})[part.name] = part.spec
        else:
            flat[part.kind][part.name] = part.spec
    return World(
        *(mesh.name, mesh.spec, flat["virtualNode"], flat["virtualService"], flat["virtualRouter"]),
        *(nested["route"], flat["virtualGateway"], nested["gatewayRoute"]),
    )


def ports_of(spec: Spec) -> list[Port]:
    """The ports that a node, a router or a gateway listens on."""
    mappings = [listener["portMapping"] for listener in spec.get("listeners", [])]
    return [Port(mapping["port"], mapping["protocol"]) for mapping in mappings]


def preference_of(world: World, spec: Spec) -> str:
    """Which of a node's addresses is taken: its own ``ipPreference`` before that of the mesh, or nothing."""
    discovery: Spec = next(iter(spec.get("serviceDiscovery", {}).values()), {})
    return str(discovery.get("ipPreference") or world.spec.get("serviceDiscovery", {}).get("ipPreference", ""))


# The cluster of such a server.
SDS = "static_cluster_sds_unix_socket"
# Of a listener in a task's own network, where nobody else is Envoy's user: it may move from IPv4 to all addresses.
MAY_MOVE: dict[str, Any] = {"enable_reuse_port": True}


def listens_on(world: World, spec: Spec, proxy: Proxy) -> str:
    """Where Envoy listens: at every address of IPv4, and of IPv6 too where there is any preference."""
    return "::" if preference_of(world, spec) and proxy.ipv6 else "0.0.0.0"


def seconds_of(duration: dict[str, Any] | None) -> float | None:
    """A duration of the API in seconds."""
    if duration is None:
        return None
    value = float(duration.get("value", 0))
    return value / 1000 if duration.get("unit") == "ms" else value
