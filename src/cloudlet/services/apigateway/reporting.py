"""What REST APIs tell CloudWatch of each request."""

from __future__ import annotations

from cloudlet.observe.metrics import Dimensions, Metrics
from cloudlet.services.apigateway.events import Context

_NAMESPACE = "AWS/ApiGateway"


def report(metrics: Metrics, scope: str, name: str, context: Context, status: int, took: float) -> None:
    """Count a request to an API of this name that took so many seconds; by its method too, where that is asked for."""
    stage, resource = context.stage["stageName"], (context.resource or {}).get("path")
    whose: list[Dimensions] = [(("ApiName", name),), (("ApiName", name), ("Stage", stage))]
    if resource is not None and context.settings.get("metricsEnabled"):
        method = ("Method", context.request.method)
        whose.append((("ApiName", name), method, ("Resource", resource), ("Stage", stage)))
    values = [
        ("Count", 1.0, "Count"),
        ("4XXError", float(400 <= status < 500), "Count"),
        ("5XXError", float(status >= 500), "Count"),
        ("Latency", round(took * 1e3), "Milliseconds"),
    ]
    if context.integrated:
        values.append(("IntegrationLatency", round(context.integrated * 1e3), "Milliseconds"))
    if context.cache_hit is not None:
        values.append(("CacheHitCount" if context.cache_hit else "CacheMissCount", 1.0, "Count"))
    for dimensions in whose:
        for metric, value, unit in values:
            metrics.add(scope, _NAMESPACE, metric, dimensions, value, unit)
