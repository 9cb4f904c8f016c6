"""What the environment of App Mesh's Envoy image says: which part of a mesh it is, and how Envoy itself shall run."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cloudlet.errors import not_implemented
from cloudlet.mesh.clusters import socket_address
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension
from cloudlet.services.appmesh.records import resource_path
from cloudlet.services.appmesh.tracing import Xray, xray_of

_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "critical", "off")
_MOST_CONCURRENCY = 32
# Where they are on, they would have to do something that is not here. APPMESH_PREVIEW is no such: one mesh API is here.
_SWITCHES = (
    *("APPMESH_FIPS_ENDPOINT", "APPMESH_DUALSTACK_ENDPOINT"),
    *("ENABLE_ENVOY_JAEGER_TRACING", "ENABLE_ENVOY_DATADOG_TRACING"),
    *("ENVOY_ADMIN_ACCESS_ENABLE_IPV6", "APPMESH_METRIC_EXTENSION_VERSION"),
)
_FILES = ("ENVOY_TRACING_CFG_FILE", "ENVOY_STATS_CONFIG_FILE", "ENVOY_STATS_SINKS_CFG_FILE", "APPMESH_SDS_SOCKET_PATH")
_SWITCHES_OFF = ("", "0", "false")


class Environment(msgspec.Struct, frozen=True):
    """The variables of one Envoy that have an effect. ``statsd`` is the address and port of a DogStatsD daemon."""

    resource: str  # mesh/<mesh>/virtualNode/<node>, or virtualGateway
    cluster: str = ""  # what Envoy calls its cluster, by default the resource
    admin_port: int = 9901
    admin_log: str = ""  # a path of the container
    log_level: str = "info"
    concurrency: int = 1
    tags: bool = False  # metrics say which mesh and node they are of
    statsd: tuple[str, int] | None = None
    xray: Xray | None = None

    def bootstrap(self) -> Resource:
        """What is merged into Envoy's bootstrap."""
        _, mesh, kind, name = self.resource.split("/")
        made: Resource = {"node": {"id": self.resource, "cluster": self.cluster or self.resource}}
        if self.tags:
            node = "appmesh.virtual_node" if kind == "virtualNode" else "appmesh.virtual_gateway"
            fixed = {"appmesh.mesh": mesh, node: name}
            made["stats_config"] = {"stats_tags": [{"tag_name": tag, "fixed_value": of} for tag, of in fixed.items()]}
        if self.statsd is not None:
            address = socket_address(*self.statsd, protocol="UDP")
            sink = extension("envoy.stat_sinks.dog_statsd", "config.metrics.v3.DogStatsdSink", address=address)
            made["stats_sinks"] = [sink]
        return made


def resource_of(environment: Mapping[str, str]) -> str:
    """Which node or gateway an Envoy is, as its environment says: ``mesh/<mesh>/virtualNode/<node>``, or nothing.

    ``APPMESH_RESOURCE_ARN`` is an ARN or a path, ``APPMESH_VIRTUAL_NODE_NAME`` its older name.
    """
    named = environment.get("APPMESH_RESOURCE_ARN") or environment.get("APPMESH_VIRTUAL_NODE_NAME") or ""
    path = named.split(":", 5)[-1]
    return path if resource_path(path) and path.count("/") == 3 else ""


def environment_of(variables: Mapping[str, str]) -> Environment:
    """Read the variables of a container. Raises ValueError for one that cannot be, NotImplemented for one that would
    ask for what is not here."""
    if not (resource := resource_of(variables)):
        raise ValueError("APPMESH_RESOURCE_ARN does not name a virtual node or a virtual gateway")
    refused = [name for name in _SWITCHES if _is_on(variables, name)] + [name for name in _FILES if name in variables]
    if refused:
        raise not_implemented(f"App Mesh's Envoy with {', '.join(refused)}")
    level = variables.get("ENVOY_LOG_LEVEL", "info")
    if level not in _LEVELS:
        raise ValueError(f"ENVOY_LOG_LEVEL must be one of {', '.join(_LEVELS)}")
    statsd = None
    if _is_on(variables, "ENABLE_ENVOY_DOG_STATSD"):
        if "STATSD_SOCKET_PATH" in variables:
            raise not_implemented("App Mesh's Envoy with STATSD_SOCKET_PATH")
        statsd = variables.get("STATSD_ADDRESS", "127.0.0.1"), _number(variables, "STATSD_PORT", 8125, 65535)
    _, mesh, _, name = resource.split("/")
    return Environment(
        resource,
        variables.get("APPMESH_RESOURCE_CLUSTER", ""),
        _number(variables, "ENVOY_ADMIN_ACCESS_PORT", 9901, 65535),
        variables.get("ENVOY_ADMIN_ACCESS_LOG_FILE", ""),
        level,
        _number(variables, "ENVOY_CONCURRENCY", 1, _MOST_CONCURRENCY),
        _is_on(variables, "ENABLE_ENVOY_STATS_TAGS"),
        statsd,
        xray_of(variables, mesh, name) if _is_on(variables, "ENABLE_ENVOY_XRAY_TRACING") else None,
    )


def _is_on(variables: Mapping[str, str], name: str) -> bool:
    return variables.get(name, "").lower() not in _SWITCHES_OFF


def _number(variables: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = variables.get(name, str(default))
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise ValueError(f"{name} must be a number from 1 to {most}")
    return int(text)
