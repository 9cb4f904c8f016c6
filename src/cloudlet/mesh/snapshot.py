"""All that one Envoy is to carry, as plain dicts in the JSON form of Envoy's v3 API, judged before it is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Resource = dict[str, Any]


class Inconsistent(Exception):
    """A resource names another that is not in the snapshot; publishing it would break traffic."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Resources by their names. Equal snapshots change nothing when they are published one after the other."""

    listeners: dict[str, Resource] = field(default_factory=dict)
    routes: dict[str, Resource] = field(default_factory=dict)
    clusters: dict[str, Resource] = field(default_factory=dict)
    endpoints: dict[str, Resource] = field(default_factory=dict)
    secrets: dict[str, Resource] = field(default_factory=dict)

    def check(self) -> None:
        """Raise Inconsistent where a name leads nowhere."""
        for kind, group in (("route", self.routes), ("listener", self.listeners), ("cluster", self.clusters)):
            for name, resource in group.items():
                for wanted, there in self._names(resource):
                    missing = wanted not in getattr(self, there)
                    if missing:
                        raise Inconsistent(f"{kind} {name} names {wanted}, which is not among the {there}")

    def _names(self, resource: Any) -> Iterator[tuple[str, str]]:
        """Every name of another resource within this one, and the group that it should be in."""
        if isinstance(resource, list):
            for part in resource:
                yield from self._names(part)
        elif isinstance(resource, dict):
            if "route_config_name" in resource:
                yield resource["route_config_name"], "routes"
            if resource.get("type") == "EDS":
                yield resource.get("eds_cluster_config", {}).get("service_name") or resource["name"], "endpoints"
            if resource.get("sds_config") == {}:
                yield resource["name"], "secrets"
            for key, part in resource.items():
                if key == "cluster" and isinstance(part, str):
                    yield part, "clusters"
                elif key == "weighted_clusters":
                    for choice in part.get("clusters", []):
                        yield choice["name"], "clusters"
                yield from self._names(part)
