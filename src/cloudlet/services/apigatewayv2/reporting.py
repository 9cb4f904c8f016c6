"""What HTTP APIs tell CloudWatch of each request."""

from __future__ import annotations

from typing import Any

from cloudlet.http import Response
from cloudlet.observe.metrics import Dimensions, Metrics
from cloudlet.services.fronts.events import Context

_NAMESPACE = "AWS/ApiGateway"


def settings_of(stage: dict[str, Any], route_key: str) -> dict[str, Any]:
    """A stage's settings for a route: its own over those of all routes."""
    own = (stage.get("RouteSettings") or {}).get(route_key) or {}
    return {**(stage.get("DefaultRouteSettings") or {}), **own}


def report(metrics: Metrics, scope: str, context: Context, response: Response, took: float) -> None:
    """Count a request that took so many seconds; by its route too, where that is asked for."""
    api, stage, route = ("ApiId", context.api_id), ("Stage", context.stage_name), context.match.route["RouteKey"]
    whose: list[Dimensions] = [(api,), (api, stage)]
    if settings_of(context.stage, route).get("DetailedMetricsEnabled"):
        method, _, path = route.partition(" ")
        whose.append((api, ("Method", method), ("Resource", path or route), stage))
    size = len(response.body) if isinstance(response.body, bytes) else 0
    values = [
        ("Count", 1.0, "Count"),
        ("4xx", float(400 <= response.status < 500), "Count"),
        ("5xx", float(response.status >= 500), "Count"),
        ("Latency", round(took * 1e3), "Milliseconds"),
        ("DataProcessed", float(size + len(context.body)), "Bytes"),
    ]
    if context.integrated:
        values.append(("IntegrationLatency", round(context.integrated * 1e3), "Milliseconds"))
    for dimensions in whose:
        for metric, value, unit in values:
            metrics.add(scope, _NAMESPACE, metric, dimensions, value, unit)
