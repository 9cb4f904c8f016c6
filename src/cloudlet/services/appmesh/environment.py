"""What the environment of App Mesh's Envoy image says: which part of a mesh it is, and how Envoy itself shall run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cloudlet.errors import not_implemented
from cloudlet.mesh.clusters import http2_protocol, socket_address
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension, seconds
from cloudlet.services.appmesh.reading import is_on, number, span
from cloudlet.services.appmesh.records import resource_path
from cloudlet.services.appmesh.tracing import Tracer, tracer_of
from cloudlet.services.appmesh.world import SDS, Proxy

_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "critical", "off")
_MOST_CONCURRENCY = 32
_MANY = 2_147_483_647
# What they give Envoy would take the place of what the mesh says.
_REFUSED = ("ENVOY_CONFIG_FILE",)
# Files of the Envoy container that are merged into its bootstrap.
FILES = (
    "ENVOY_TRACING_CFG_FILE",
    "ENVOY_STATS_CONFIG_FILE",
    "ENVOY_STATS_SINKS_CFG_FILE",
    "ENVOY_RESOURCES_CONFIG_FILE",
)


class Environment(msgspec.Struct, frozen=True):
    """The variables of one Envoy that have an effect. ``statsd`` is the address and port of a DogStatsD daemon, or the
    path of its socket and 0; ``files`` are names of variables with the files that they name."""

    resource: str  # mesh/<mesh>/virtualNode/<node>, or virtualGateway
    cluster: str = ""  # what Envoy calls its cluster, by default the resource
    admin_port: int = 9901  # 0: none, its admin interface is on a socket that nobody else sees
    admin_log: str = ""  # a path of the container
    log_level: str = "info"
    concurrency: int = 1
    tags: bool = False  # metrics say which mesh and node they are of
    statsd: tuple[str, int] | None = None
    tracer: Tracer | None = None
    admin_ipv6: bool = False
    flush: float = 0.0  # seconds between reports of metrics; 0: Envoy's own 5
    ejections: str = "/dev/stdout"  # a path of the container: the log of what outlier detection does
    runtime: dict[str, bool | int] = {}
    files: dict[str, str] = {}
    sds: str = ""  # the path of an SDS server's socket
    extended: bool = False  # metrics say so in the metrics extension's words too

    @property
    def sockets(self) -> dict[str, str]:
        """Sockets of the container by the names that Envoy has for them."""
        statsd = {"statsd": self.statsd[0]} if self.statsd is not None and not self.statsd[1] else {}
        return statsd | ({"sds": self.sds} if self.sds else {})

    def bootstrap(self, proxy: Proxy) -> Resource:
        """What is merged into Envoy's bootstrap."""
        _, mesh, kind, name = self.resource.split("/")
        # App Mesh allows regular expressions of nearly any size.
        runtime = {"re2.max_program_size.error_level": 1000, **self.runtime}
        made: Resource = {
            "node": {"id": self.resource, "cluster": self.cluster or self.resource},
            "layered_runtime": {"layers": [{"name": "static_layer_0", "static_layer": runtime}]},
        }
        # Not every user of a container may open its standard output anew.
        if log := proxy.stdout if self.ejections == "/dev/stdout" else proxy.file(self.ejections):
            made["cluster_manager"] = {"outlier_detection": {"event_log_path": log}}
        fixed: dict[str, str] = {}
        if self.tags:
            node = "appmesh.virtual_node" if kind == "virtualNode" else "appmesh.virtual_gateway"
            fixed |= {"appmesh.mesh": mesh, node: name}
        if self.extended:
            fixed |= {"Mesh": mesh, kind[0].upper() + kind[1:]: name}
        if fixed:
            made["stats_config"] = {"stats_tags": [{"tag_name": tag, "fixed_value": of} for tag, of in fixed.items()]}
        if self.flush:
            made["stats_flush_interval"] = seconds(self.flush)
        if self.statsd is not None:
            made["stats_sinks"] = [_dog_statsd(*self.statsd, proxy)]
        clusters = self.tracer.clusters() if self.tracer is not None else []
        if self.sds:
            clusters.append(_sds_cluster(proxy.socket("sds", self.sds)))
        if clusters:
            made["static_resources"] = {"clusters": clusters}
        return made


def _dog_statsd(address: str, port: int, proxy: Proxy) -> Resource:
    where = socket_address(address, port, protocol="UDP") if port else _pipe(proxy.socket("statsd", address))
    return extension("envoy.stat_sinks.dog_statsd", "config.metrics.v3.DogStatsdSink", address=where)


def _sds_cluster(path: str) -> Resource:
    server = {"endpoint": {"address": _pipe(path)}}
    return {
        "name": SDS,
        "type": "STATIC",
        "connect_timeout": seconds(1.0),
        "load_assignment": {"cluster_name": SDS, "endpoints": [{"lb_endpoints": [server]}]},
        **http2_protocol(),
    }


def _pipe(path: str) -> Resource:
    return {"pipe": {"path": path}}


def resource_of(environment: Mapping[str, str]) -> str:
    """Which node or gateway an Envoy is, as its environment says: ``mesh/<mesh>/virtualNode/<node>``, or nothing.

    ``APPMESH_RESOURCE_ARN`` is an ARN or a path, the others are its older names.
    """
    names = ("APPMESH_RESOURCE_ARN", "APPMESH_RESOURCE_NAME", "APPMESH_VIRTUAL_NODE_NAME")
    named = next((environment[name] for name in names if environment.get(name)), "")
    path = named.split(":", 5)[-1]
    return path if resource_path(path) and path.count("/") == 3 else ""


def environment_of(variables: Mapping[str, str]) -> Environment:
    """Read the variables of a container. Raises ValueError for one that cannot be, NotImplemented for one that would
    ask for what is not here. Those that have no effect are named by ``unheeded``."""
    if not (resource := resource_of(variables)):
        raise ValueError("APPMESH_RESOURCE_ARN does not name a virtual node or a virtual gateway")
    if refused := [name for name in _REFUSED if variables.get(name)]:
        raise not_implemented(f"App Mesh's Envoy with {', '.join(refused)}")
    level = variables.get("ENVOY_LOG_LEVEL") or "info"
    if level not in _LEVELS:
        raise ValueError(f"ENVOY_LOG_LEVEL must be one of {', '.join(_LEVELS)}")
    _, mesh, _, name = resource.split("/")
    files = {of: variables[of] for of in FILES if variables.get(of)}
    with_statsd = is_on(variables, "ENABLE_ENVOY_DOG_STATSD") and "ENVOY_STATS_SINKS_CFG_FILE" not in files
    over_socket = variables.get("ENVOY_ADMIN_MODE", "").lower() == "uds"
    return Environment(
        resource,
        variables.get("APPMESH_RESOURCE_CLUSTER") or variables.get("APPMESH_VIRTUAL_NODE_CLUSTER", ""),
        0 if over_socket else number(variables, "ENVOY_ADMIN_ACCESS_PORT", 9901, 65535),
        variables.get("ENVOY_ADMIN_ACCESS_LOG_FILE", ""),
        level,
        number(variables, "ENVOY_CONCURRENCY", 1, _MOST_CONCURRENCY),
        is_on(variables, "ENABLE_ENVOY_STATS_TAGS") and "ENVOY_STATS_CONFIG_FILE" not in files,
        _statsd(variables) if with_statsd else None,
        tracer_of(variables, mesh, name),
        is_on(variables, "ENVOY_ADMIN_ACCESS_ENABLE_IPV6"),
        span(variables, "ENVOY_STATS_FLUSH_INTERVAL"),
        variables.get("ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH") or "/dev/stdout",
        _runtime(variables),
        files,
        variables.get("APPMESH_SDS_SOCKET_PATH", ""),
        is_on(variables, "APPMESH_METRIC_EXTENSION_VERSION") and "ENVOY_STATS_CONFIG_FILE" not in files,
    )


def _statsd(variables: Mapping[str, str]) -> tuple[str, int]:
    if socket := variables.get("STATSD_SOCKET_PATH"):
        return socket, 0
    return variables.get("STATSD_ADDRESS") or "127.0.0.1", number(variables, "STATSD_PORT", 8125, 65535)


def _runtime(variables: Mapping[str, str]) -> dict[str, bool | int]:
    made: dict[str, bool | int] = {}
    if variables.get("APPMESH_SET_TRACING_DECISION"):
        decides = is_on(variables, "APPMESH_SET_TRACING_DECISION")
        made["envoy.reloadable_features.http_set_tracing_decision_in_request_id"] = decides
    if variables.get("MAX_REQUESTS_PER_IO_CYCLE"):
        made["http.max_requests_per_io_cycle"] = number(variables, "MAX_REQUESTS_PER_IO_CYCLE", 1, _MANY)
    return made


def with_files(bootstrap: Resource, texts: Mapping[str, str]) -> Resource:
    """A bootstrap with what files say, by the variables that name them. Lists grow, everything else is said once.

    Raises ValueError where a file says nothing, or what cannot be.
    """
    import yaml

    made = dict(bootstrap)
    for variable, text in texts.items():
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{variable}: {error}") from None
        if not isinstance(document, dict) or not document:
            raise ValueError(f"{variable} names a file that says nothing")
        for key, value in document.items():
            name = _snake(key)
            if name in ("node", "admin", "dynamic_resources"):
                raise ValueError(f"{variable} names a file that says {name}, which is the mesh's own")
            if name in ("tracing", "stats_config") and name in made:
                raise ValueError(f"{variable}: multiple {name} configurations were specified")
            made[name] = _grown(made.get(name), value)
    return made


def _grown(before: Any, value: Any) -> Any:
    if isinstance(before, list):
        return [*before, *value]
    if isinstance(before, dict):
        return {**before, **{_snake(key): _grown(before.get(_snake(key)), one) for key, one in value.items()}}
    return value


def _snake(name: str) -> str:
    """Envoy takes ``statsSinks`` for ``stats_sinks``."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
