"""Clusters and their endpoints: where traffic may go."""

from __future__ import annotations

from collections.abc import Sequence

from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import seconds, typed

_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(
    name: str,
    *,
    policy: str = "ROUND_ROBIN",
    connect_timeout: float = 5.0,
    http2: bool = False,
    tls: Resource | None = None,
    check_transport: Resource | None = None,
    health_checks: Sequence[Resource] = (),
    outlier_detection: Resource | None = None,
    circuit_breakers: Resource | None = None,
    slow_start: float = 0.0,
    panic_threshold: int = 0,
) -> Resource:
    """A cluster whose endpoints are the snapshot's ``endpoints[name]`` (``assignment``).

    ``policy`` is Envoy's name of it; ``slow_start`` seconds are given to new endpoints (round robin and least request
    only). When fewer than ``panic_threshold`` per cent of the endpoints are healthy all of them get traffic; 0: never.
    An endpoint that is taken out gets no new requests and finishes those under way. ``check_transport`` is the
    transport of the health checks where it is not ``tls`` (``mesh.tls``).
    """
    made: Resource = {
        "name": name,
        "type": "EDS",
        "connect_timeout": seconds(connect_timeout),
        "lb_policy": policy,
        "common_lb_config": {"healthy_panic_threshold": {"value": panic_threshold}},
        "ignore_health_on_host_removal": True,
    }
    if slow_start and policy in ("ROUND_ROBIN", "LEAST_REQUEST"):
        made[f"{policy.lower()}_lb_config"] = {"slow_start_config": {"slow_start_window": seconds(slow_start)}}
    if http2:
        made.update(http2_protocol())
    if tls is not None:
        made["transport_socket"] = tls
    if health_checks:
        made["health_checks"] = list(health_checks)
    if health_checks and check_transport is not None:
        match = {"for": "health checks"}
        made["transport_socket_matches"] = [{"name": "checks", "match": match, "transport_socket": check_transport}]
        made["health_checks"] = [{**check, "transport_socket_match_criteria": match} for check in health_checks]
    if outlier_detection is not None:
        made["outlier_detection"] = outlier_detection
    if circuit_breakers is not None:
        made["circuit_breakers"] = circuit_breakers
    return made


def http2_protocol() -> Resource:
    """What makes a cluster speak HTTP/2, as gRPC does."""
    options = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}}
    )
    return {"typed_extension_protocol_options": {_PROTOCOL_OPTIONS: options}}


def static_cluster(name: str, address: str, port: int, *, connect_timeout: float = 5.0) -> Resource:
    """A cluster of one endpoint that never changes."""
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(connect_timeout),
        "load_assignment": assignment(name, [endpoint(address, port)]),
    }


def endpoint(address: str, port: int, *, weight: int = 0, health_port: int = 0, draining: bool = False) -> Resource:
    """One endpoint by its IP address. ``weight`` 0 is Envoy's default (1); ``health_port`` 0 is the port itself."""
    of: Resource = {"address": socket_address(address, port)}
    if health_port and health_port != port:
        of["health_check_config"] = {"port_value": health_port}
    made: Resource = {"endpoint": of}
    if weight:
        made["load_balancing_weight"] = weight
    if draining:
        made["health_status"] = "DRAINING"
    return made


def assignment(name: str, endpoints: Sequence[Resource]) -> Resource:
    """The endpoints of the cluster ``name``, for the snapshot's ``endpoints``."""
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": list(endpoints)}] if endpoints else []}


def socket_address(address: str, port: int, protocol: str = "TCP") -> Resource:
    """An address to listen on or to connect to."""
    made: Resource = {"address": address, "port_value": port}
    if protocol != "TCP":
        made["protocol"] = protocol
    return {"socket_address": made}


def circuit_breakers(*, connections: int = 0, pending: int = 0, requests: int = 0, retries: int = 0) -> Resource:
    """Limits of a cluster's connection pool; 0 leaves Envoy's default (1024; 3 retries)."""
    limits = {
        "max_connections": connections,
        "max_pending_requests": pending,
        "max_requests": requests,
        "max_retries": retries,
    }
    return {"thresholds": [{name: limit for name, limit in limits.items() if limit}]}


def outlier_detection(
    *, errors: int, interval: float, ejection: float, percent: int, split_local: bool = False
) -> Resource:
    """Eject an endpoint after so many server errors in a row, for ``ejection`` seconds times how often it was; look
    every ``interval`` seconds; at most ``percent`` of the endpoints (one may always be)."""
    return {
        "consecutive_5xx": errors,
        "consecutive_gateway_failure": errors,
        "interval": seconds(interval),
        "base_ejection_time": seconds(ejection),
        "max_ejection_percent": percent,
        "enforcing_consecutive_5xx": 100,
        "enforcing_success_rate": 0,
        **({"split_external_local_origin_errors": True} if split_local else {}),
    }
