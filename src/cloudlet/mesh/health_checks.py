"""Active health checks, done by Envoy itself."""

from __future__ import annotations

from collections.abc import Sequence

from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension, seconds


def health_check(
    *,
    interval: float,
    timeout: float,
    healthy: int,
    unhealthy: int,
    http: Resource | None = None,
    grpc: Resource | None = None,
    log: str = "",
) -> Resource:
    """A check every ``interval`` seconds, with thresholds in checks; one of ``http``, ``grpc``, else a TCP connection.

    The first check is at once and decides alone, as with AWS. ``log`` is a file that is told of every change of an
    endpoint's health, and of every check that fails.
    """
    made: Resource = {
        "timeout": seconds(timeout),
        "interval": seconds(interval),
        "no_traffic_interval": seconds(interval),
        "unhealthy_threshold": unhealthy,
        "healthy_threshold": healthy,
    }
    if http is not None:
        made["http_health_check"] = http
    elif grpc is not None:
        made["grpc_health_check"] = grpc
    else:
        made["tcp_health_check"] = {}
    if log:
        made["always_log_health_check_failures"] = True
        made["event_logger"] = [
            extension(
                "envoy.health_check.event_sink.file",
                "extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
                event_log_path=log,
            )
        ]
    return made


def http_check(
    path: str,
    statuses: Sequence[tuple[int, int]] = ((200, 200),),
    *,
    host: str = "",
    http2: bool = False,
    agent: str = "",
) -> Resource:
    """What is asked of an HTTP endpoint; ``statuses`` are inclusive ranges of what is healthy."""
    made: Resource = {
        "path": path,
        "expected_statuses": [{"start": first, "end": last + 1} for first, last in statuses],
    }
    if host:
        made["host"] = host
    if http2:
        made["codec_client_type"] = "HTTP2"
    if agent:
        made["request_headers_to_add"] = [
            {"header": {"key": "user-agent", "value": agent}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ]
    return made


def grpc_check(service: str = "") -> Resource:
    """The gRPC health checking protocol, of one service or the whole server."""
    return {"service_name": service} if service else {}
