"""Envoy's numbers under the names of App Mesh's metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudlet.observe.metrics import Dimensions, Gauge

if TYPE_CHECKING:
    from cloudlet.services.appmesh.running import Running

_CLASSES = ("2", "3", "4", "5")
_WANTED = "^cluster.cds_|^http.(ingress|egress).downstream|^tcp.(ingress|egress).downstream"


async def gauges(scope: str, running: Running, dimensions: Dimensions) -> list[Gauge]:
    """What has happened since the last time, as a node or gateway sees it. Raises OSError while Envoy is away."""
    stats = await running.envoy.stats(_WANTED)
    found: list[Gauge] = []

    def add(name: str, value: float, unit: str, more: Dimensions = ()) -> None:
        found.append(Gauge(scope, "AppMesh", name, tuple(sorted((*dimensions, *more))), unit, value))

    def since(name: str) -> float:
        """How much a counter has grown since it was asked for before."""
        value = float(stats.get(name, 0))
        before = running.counted.get(name, 0.0)
        running.counted[name] = value
        return value - before if value >= before else value

    def both(name: str) -> float:
        return sum(since(f"{protocol}.{side}.{name}") for protocol in ("http", "tcp") for side in ("ingress", "egress"))

    sides = ("http.ingress", "http.egress", "tcp.ingress", "tcp.egress")
    add("ActiveConnectionCount", sum(float(stats.get(f"{side}.downstream_cx_active", 0)) for side in sides), "Count")
    add("NewConnectionCount", both("downstream_cx_total"), "Count")
    add("ProcessedBytes", both("downstream_cx_rx_bytes_total") + both("downstream_cx_tx_bytes_total"), "Bytes")
    add("RequestCount", sum(since(f"http.{side}.downstream_rq_total") for side in ("ingress", "egress")), "Count")
    for cluster, target in _targets(stats, running.sidecar.mesh).items():
        more = (("TargetVirtualNode", target),)
        for kind in _CLASSES:
            add(f"HTTPCode_Target_{kind}XX_Count", since(f"cluster.{cluster}.upstream_rq_{kind}xx"), "Count", more)
        add("RequestCountPerTarget", since(f"cluster.{cluster}.upstream_rq_total"), "Count", more)
        moved = sum(since(f"cluster.{cluster}.upstream_cx_{way}_bytes_total") for way in ("rx", "tx"))
        add("TargetProcessedBytes", moved, "Bytes", more)
        add("TargetConnectionErrorCount", since(f"cluster.{cluster}.upstream_cx_connect_fail"), "Count", more)
        add("RetryCount", since(f"cluster.{cluster}.upstream_rq_retry"), "Count", more)
        add(
            "EjectedEndpointCount",
            float(stats.get(f"cluster.{cluster}.outlier_detection.ejections_active", 0)),
            "Count",
            more,
        )
        times = stats.get(f"cluster.{cluster}.upstream_rq_time")
        if isinstance(times, dict) and times.get(50.0) is not None:
            add("TargetResponseTime", float(times[50.0]), "Milliseconds", more)
    return found


def _targets(stats: dict[str, Any], mesh: str) -> dict[str, str]:
    """The clusters of other nodes that have had requests, each with its node's name."""
    found: dict[str, str] = {}
    start = f"cluster.cds_egress_{mesh}_"
    for name in stats:
        if name.startswith(start) and name.endswith(".upstream_rq_total"):
            cluster = name.removeprefix("cluster.").removesuffix(".upstream_rq_total")
            words = cluster.removeprefix(f"cds_egress_{mesh}_").rsplit("_", 2)
            if len(words) == 3 and words[2].isdigit():
                found[cluster] = words[0]
    return found
