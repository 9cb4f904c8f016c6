"""Variables of App Mesh's Envoy image that have no effect here: each is named, with why, in the container's log."""

from __future__ import annotations

from collections.abc import Mapping

_ENDPOINT = "what Envoy carries comes from this machine, not from an endpoint of App Mesh"
_AGENT = "Cloudlet looks after Envoy itself, there is no agent"
_ALWAYS = "what it asks for is not in this Envoy"
_WHY = {
    "ENVOY_INITIAL_FETCH_TIMEOUT": _ENDPOINT,
    "APPMESH_XDS_ENDPOINT": _ENDPOINT,
    "APPMESH_SIGNING_NAME": _ENDPOINT,
    "APPMESH_PREVIEW": _ENDPOINT,
    "APPMESH_DUALSTACK_ENDPOINT": _ENDPOINT,
    "APPMESH_FIPS_ENDPOINT": _ENDPOINT,
    "APPMESH_METRIC_EXTENSION_VERSION": (
        "Envoy's numbers get its dimensions; those that it adds are in CloudWatch under AppMesh, not in StatsD"
    ),
    "APPNET_ENVOY_RESTART_COUNT": "an Envoy that ends is started again, however often",
    "LISTENER_DRAIN_WAIT_TIME_S": _AGENT,
    "PID_POLL_INTERVAL_MS": _AGENT,
    "HC_POLL_INTERVAL_MS": _AGENT,
    "HC_DISCONNECTED_TIMEOUT_S": _AGENT,
    "ENABLE_STATS_SNAPSHOT": _AGENT,
    "ENVOY_ENABLE_TCP_POOL_IDLE_TIMEOUT": _ALWAYS,
    "ENVOY_NO_EXTENSION_LOOKUP_BY_NAME": _ALWAYS,
    "ENVOY_USE_HTTP_CLIENT_TO_FETCH_AWS_CREDENTIALS": _ALWAYS,
    "APPMESH_PLATFORM_K8S_VERSION": _ENDPOINT,
    "APPMESH_PLATFORM_APP_MESH_CONTROLLER_VERSION": _ENDPOINT,
}
# Those that ``environment_of`` reads, or refuses.
_HEEDED = frozenset(
    (
        "APPMESH_RESOURCE_ARN",
        "APPMESH_RESOURCE_NAME",
        "APPMESH_VIRTUAL_NODE_NAME",
        "APPMESH_RESOURCE_CLUSTER",
        "APPMESH_VIRTUAL_NODE_CLUSTER",
        "APPMESH_SET_TRACING_DECISION",
        "APPMESH_SDS_SOCKET_PATH",
        "ENVOY_ADMIN_MODE",
        "ENVOY_ADMIN_ACCESS_PORT",
        "ENVOY_ADMIN_ACCESS_LOG_FILE",
        "ENVOY_ADMIN_ACCESS_ENABLE_IPV6",
        "ENVOY_LOG_LEVEL",
        "ENVOY_CONCURRENCY",
        "ENVOY_STATS_FLUSH_INTERVAL",
        "ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH",
        "ENVOY_TRACING_CFG_FILE",
        "ENVOY_STATS_CONFIG_FILE",
        "ENVOY_STATS_SINKS_CFG_FILE",
        "ENVOY_RESOURCES_CONFIG_FILE",
        "ENVOY_CONFIG_FILE",
    )
)
_IN_PART = ("APPMESH_METRIC_EXTENSION_VERSION",)
_OURS = ("APPMESH_", "APPNET_", "ENVOY_")


def unheeded(variables: Mapping[str, str]) -> list[str]:
    """A line for each variable that is set, looks like one of App Mesh's Envoy, and has no effect."""
    said = []
    for name in sorted(variables):
        if variables[name] and (name in _WHY or (name.startswith(_OURS) and name not in _HEEDED)):
            why = _WHY.get(name) or (_AGENT if name.startswith("APPNET_") else "App Mesh's Envoy has no such variable")
            effect = "has an effect in part" if name in _IN_PART else "has no effect"
            said.append(f"Cloudlet: {name} {effect}: {why}")
    return said
