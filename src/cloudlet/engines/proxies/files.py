"""What an Envoy carries, as the files of its folder: the same for every Envoy that carries the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from cloudlet.mesh import Snapshot
from cloudlet.mesh.snapshot import Resource

_TYPE = "type.googleapis.com/envoy.{}"
# Kinds of which one file holds all, and kinds of which each has a file of its own.
TOGETHER = {
    "clusters": _TYPE.format("config.cluster.v3.Cluster"),
    "listeners": _TYPE.format("config.listener.v3.Listener"),
}
SINGLE = {
    "secrets": _TYPE.format("extensions.transport_sockets.tls.v3.Secret"),
    "endpoints": _TYPE.format("config.endpoint.v3.ClusterLoadAssignment"),
    "routes": _TYPE.format("config.route.v3.RouteConfiguration"),
}


class Files:
    """A snapshot, checked and encoded once, for any number of folders. Raises Inconsistent."""

    def __init__(self, snapshot: Snapshot) -> None:
        snapshot.check()
        self.clusters = _complete("clusters", snapshot.clusters)
        self.of_kind: dict[str, dict[str, bytes]] = {
            "clusters": {"clusters.json": together(self.clusters)},
            "listeners": {"listeners.json": together(_complete("listeners", snapshot.listeners))},
        }
        for kind, type in SINGLE.items():
            resources: dict[str, Resource] = getattr(snapshot, kind)
            self.of_kind[kind] = {
                _file(kind, name): _encoded({"@type": type, **one}) for name, one in resources.items()
            }

    @property
    def names(self) -> set[str]:
        """The names of all files."""
        return {name for files in self.of_kind.values() for name in files}


def together(resources: Mapping[str, Resource]) -> bytes:
    """The content of a file that holds all resources of a kind."""
    return _encoded(*(resources[name] for name in sorted(resources)))


def source(file: str) -> Resource:
    """How Envoy is told that something is in a file of its folder."""
    return {"path_config_source": {"path": f"./{file}"}, "resource_api_version": "V3"}


def _encoded(*resources: Resource) -> bytes:
    return msgspec.json.encode({"resources": resources})


def _file(kind: str, name: str) -> str:
    return f"{kind}/{re.sub('[^A-Za-z0-9_.-]', '~', name)}.json"


def _complete(kind: str, resources: Mapping[str, Resource]) -> dict[str, Resource]:
    """Resources as they are written into the file of their kind."""
    return {name: {"@type": TOGETHER[kind], **_with_sources(one)} for name, one in resources.items()}


def _with_sources(resource: Any) -> Any:
    """A resource in which every name of another is followed by the file that it is in."""
    if isinstance(resource, list):
        return [_with_sources(part) for part in resource]
    if not isinstance(resource, dict):
        return resource
    made = {key: _with_sources(part) for key, part in resource.items()}
    if "route_config_name" in made:
        made["config_source"] = source(_file("routes", made["route_config_name"]))
    if made.get("type") == "EDS":
        name = made.get("eds_cluster_config", {}).get("service_name") or made["name"]
        made["eds_cluster_config"] = {"service_name": name, "eds_config": source(_file("endpoints", name))}
    if made.get("sds_config") == {}:
        made["sds_config"] = source(_file("secrets", made["name"]))
    return made
