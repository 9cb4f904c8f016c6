"""Target groups as Envoy's clusters: pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from cloudlet.mesh.clusters import cluster, endpoint
from cloudlet.mesh.health_checks import grpc_check, health_check, http_check
from cloudlet.mesh.routes import header
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.tls import client_tls, plaintext
from cloudlet.mesh.typed import extension
from cloudlet.services.elbv2.attributes import group_attributes
from cloudlet.services.elbv2.records import TargetGroup

_AGENT = "ELB-HealthChecker/2.0"
# Targets that fail much more often than the others are left out for a while; AWS needs three of them to compare.
_ANOMALIES: Resource = {
    "interval": "10s",
    "base_ejection_time": "10s",
    "max_ejection_percent": 50,
    "success_rate_minimum_hosts": 3,
    "success_rate_request_volume": 20,
    "success_rate_stdev_factor": 1000,
    "enforcing_success_rate": 100,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
}
# Targets that drain are there, so that it is seen when they have finished; but not to be chosen, not even where no
# target is healthy and all get traffic.
_SERVING: Resource = {"serving": True}
_ONLY_SERVING: Resource = {
    "fallback_policy": "DEFAULT_SUBSET",
    "default_subset": _SERVING,
    "subset_selectors": [{"keys": list(_SERVING)}],
}


def of_group(group: TargetGroup, log: str = "") -> Resource:
    """The cluster of a target group, named by its id; ``log`` is told of changes of its targets' health."""
    attributes = group_attributes(group)
    is_http = group.protocol in ("HTTP", "HTTPS")
    secure = client_tls(versions=("TLSv1_0", "TLSv1_3"))
    tls = secure if group.protocol in ("HTTPS", "TLS") else None
    if attributes.get("proxy_protocol_v2.enabled") == "true":
        tls = extension(
            "envoy.transport_sockets.upstream_proxy_protocol",
            "extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
            config={"version": "V2"},
            transport_socket=tls or plaintext(),
        )
    check_tls = secure if group.check_protocol in ("HTTPS", "TLS") else None
    percentage = attributes["target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage"]
    made = cluster(
        group.id,
        policy=_policy(attributes, is_http),
        connect_timeout=10.0 if is_http else 5.0,
        http2=is_http and group.version in ("HTTP2", "GRPC"),
        tls=tls,
        check_transport=None if check_tls == tls else check_tls or plaintext(),
        health_checks=[_health_check(group, log)] if group.check_enabled else [],
        outlier_detection=_ANOMALIES if _mitigates(attributes) else None,
        slow_start=float(attributes.get("slow_start.duration_seconds", "0")),
        # AWS sends to all targets when none is healthy.
        panic_threshold=1 if percentage == "off" else int(percentage),
    )
    made["lb_subset_config"] = _ONLY_SERVING
    if attributes.get("target_health_state.unhealthy.connection_termination.enabled") == "true":
        made["close_connections_on_host_health_failure"] = True
    return made


def of_target(address: str, port: int, health_port: int, *, draining: bool) -> Resource:
    """A target as an endpoint; ``health_port`` 0 is its port."""
    made = endpoint(address, port, health_port=health_port, draining=draining)
    if not draining:
        made["metadata"] = {"filter_metadata": {"envoy.lb": _SERVING}}
    return made


def _mitigates(attributes: Mapping[str, str]) -> bool:
    return attributes.get("load_balancing.algorithm.anomaly_mitigation") == "on"


def _policy(attributes: Mapping[str, str], is_http: bool) -> str:
    if not is_http:
        return "MAGLEV" if attributes["stickiness.enabled"] == "true" else "RANDOM"
    chosen = attributes["load_balancing.algorithm.type"]
    return {"least_outstanding_requests": "LEAST_REQUEST", "weighted_random": "RANDOM"}.get(chosen, "ROUND_ROBIN")


def _health_check(group: TargetGroup, log: str) -> Resource:
    asked: dict[str, Resource] = {}
    if group.check_protocol in ("HTTP", "HTTPS"):
        if group.version == "GRPC" and group.check_path == "/grpc.health.v1.Health/Check":
            asked["grpc"] = grpc_check()
        elif group.version == "GRPC":
            # Any gRPC server answers 200 to any method; the gRPC status that says 12 is in the trailers.
            asked["http"] = {**http_check(group.check_path, http2=True, agent=_AGENT), "method": "POST"}
            asked["http"]["request_headers_to_add"] += [
                header("content-type", "application/grpc"),
                header("te", "trailers"),
            ]
        else:
            asked["http"] = http_check(
                group.check_path, _ranges(group.matcher), http2=group.version == "HTTP2", agent=_AGENT
            )
    return health_check(
        interval=group.check_interval,
        timeout=group.check_timeout,
        healthy=group.healthy,
        unhealthy=group.unhealthy,
        http=asked.get("http"),
        grpc=asked.get("grpc"),
        log=log,
    )


def _ranges(matcher: str) -> list[tuple[int, int]]:
    """``200,202-299`` as ranges."""
    made = []
    for part in matcher.split(","):
        first, _, last = part.partition("-")
        made.append((int(first), int(last or first)))
    return made
