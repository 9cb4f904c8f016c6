"""Routes: which request goes where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import seconds


def route_configuration(name: str, hosts: Sequence[Resource], **more: Any) -> Resource:
    """Virtual hosts, for the snapshot's ``routes``."""
    return {"name": name, "virtual_hosts": list(hosts), **more}


def virtual_host(name: str, domains: Sequence[str], routes: Sequence[Resource]) -> Resource:
    """Routes for requests whose Host is one of ``domains``; the first that matches is taken."""
    return {"name": name, "domains": list(domains), "routes": list(routes)}


def destination(clusters: Mapping[str, int]) -> Resource:
    """Where a route leads: one cluster, or several by weight. At least one weight is not 0."""
    if len(clusters) == 1:
        return {"cluster": next(iter(clusters))}
    return {"weighted_clusters": {"clusters": [{"name": name, "weight": weight} for name, weight in clusters.items()]}}


def retry_policy(on: Sequence[str], retries: int, *, per_try: float = 0.0, statuses: Sequence[int] = ()) -> Resource:
    """Try again, on another endpoint where there is one. ``on`` are Envoy's names; ``per_try`` seconds, 0: no limit."""
    made: Resource = {
        "retry_on": ",".join(on),
        "num_retries": retries,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }
    if per_try:
        made["per_try_timeout"] = seconds(per_try)
    if statuses:
        made["retriable_status_codes"] = list(statuses)
    return made


def header(name: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Resource:
    """A header to be added, or replaced when it is there."""
    return {"header": {"key": name, "value": value}, "append_action": action}


def header_match(name: str, *, exact: str = "", regex: str = "") -> Resource:
    """A header that is ``exact`` or matches ``regex`` (RE2) as a whole; with neither, that it is there."""
    if regex:
        return {"name": name, "string_match": {"safe_regex": {"regex": regex}}}
    return {"name": name, "string_match": {"exact": exact}} if exact else {"name": name, "present_match": True}
