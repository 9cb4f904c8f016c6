"""How App Mesh's Envoy traces, as its variables say: for X-Ray, Jaeger, Datadog, or by a file of the user's own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

import msgspec

from cloudlet.mesh.clusters import assignment, endpoint
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension, seconds
from cloudlet.services.appmesh.reading import is_on, number

_UDP = re.compile(r"(?:udp:)?(\d+\.\d+\.\d+\.\d+)(?::(\d+))?")

# A path of the Envoy container -> the same on this machine.
Place = Callable[[str], str]


class Xray(msgspec.Struct, frozen=True, tag=True):
    """What the variables say. ``rate`` is the share of requests that are traced beyond one each second; ``rules`` is a
    file that says it in its place."""

    mesh: str
    name: str  # of the node or gateway
    segment: str  # what Envoy's segments are called
    address: str = "127.0.0.1"
    port: int = 2000
    rate: float = 0.05
    rules: str = ""

    def tracing(self, place: Place) -> Resource:
        """The tracing of an HTTP connection manager."""
        manifest = {"version": 2, "default": {"fixed_target": 1, "rate": self.rate}, "rules": []}
        rules = {"filename": place(self.rules)} if self.rules else {"inline_string": json.dumps(manifest)}
        provider = extension(
            "envoy.tracers.xray",
            "config.trace.v3.XRayConfig",
            segment_name=self.segment,
            daemon_endpoint={"protocol": "UDP", "address": self.address, "port_value": self.port},
            sampling_rule_manifest=rules,
            segment_fields={
                "origin": "AWS::AppMesh::Proxy",
                # Gateways are told of as nodes too, as App Mesh's own Envoy does it.
                "aws": {"app_mesh": {"mesh_name": self.mesh, "virtual_node_name": self.name}},
            },
        )
        return {"provider": provider}

    def clusters(self) -> list[Resource]:
        """The clusters that Envoy needs for it."""
        return []


class Jaeger(msgspec.Struct, frozen=True, tag=True):
    """Spans in Zipkin's form, which Jaeger and OpenTelemetry's collector take."""

    address: str = "127.0.0.1"
    port: int = 9411
    json: bool = False

    def tracing(self, place: Place) -> Resource:
        """As ``Xray.tracing``."""
        provider = extension(
            "envoy.tracers.zipkin",
            "config.trace.v3.ZipkinConfig",
            collector_cluster="jaeger",
            collector_endpoint="/api/v2/spans",
            collector_endpoint_version="HTTP_JSON" if self.json else "HTTP_PROTO",
            shared_span_context=False,
        )
        return {"provider": provider}

    def clusters(self) -> list[Resource]:
        """As ``Xray.clusters``."""
        return [_collector("jaeger", self.address, self.port)]


class Datadog(msgspec.Struct, frozen=True, tag=True):
    """Spans for Datadog's agent."""

    service: str
    address: str = "127.0.0.1"
    port: int = 8126

    def tracing(self, place: Place) -> Resource:
        """As ``Xray.tracing``."""
        named = {"collector_cluster": "datadog_agent", "service_name": self.service}
        return {"provider": extension("envoy.tracers.datadog", "config.trace.v3.DatadogConfig", **named)}

    def clusters(self) -> list[Resource]:
        """As ``Xray.clusters``."""
        return [_collector("datadog_agent", self.address, self.port)]


class Own(msgspec.Struct, frozen=True, tag=True):
    """As a file says that is merged into Envoy's bootstrap."""

    def tracing(self, place: Place) -> Resource:
        """As ``Xray.tracing``."""
        return {}

    def clusters(self) -> list[Resource]:
        """As ``Xray.clusters``."""
        return []


Tracer = Xray | Jaeger | Datadog | Own


def tracer_of(variables: Mapping[str, str], mesh: str, name: str) -> Tracer | None:
    """Who is told of requests, if anybody is. Raises ValueError for a variable that cannot be."""
    if variables.get("ENVOY_TRACING_CFG_FILE"):
        return Own()
    switches: dict[str, Callable[[Mapping[str, str], str, str], Tracer]] = {
        "ENABLE_ENVOY_XRAY_TRACING": _xray,
        "ENABLE_ENVOY_DATADOG_TRACING": _datadog,
        "ENABLE_ENVOY_JAEGER_TRACING": _jaeger,
    }
    chosen = [make for switch, make in switches.items() if is_on(variables, switch)]
    if len(chosen) > 1:
        raise ValueError(
            f"Only a single envoy trace driver can be configured; please enable only one of {', '.join(switches)}."
        )
    return chosen[0](variables, mesh, name) if chosen else None


def _xray(variables: Mapping[str, str], mesh: str, name: str) -> Xray:
    address, port = "127.0.0.1", number(variables, "XRAY_DAEMON_PORT", 2000, 65535)
    if given := variables.get("AWS_XRAY_DAEMON_ADDRESS"):
        found = next((match for part in given.split() if (match := _UDP.fullmatch(part))), None)
        if found is None:
            raise ValueError("AWS_XRAY_DAEMON_ADDRESS must be an address and a port")
        address, port = found[1], int(found[2] or port)
    try:
        rate = float(variables.get("XRAY_SAMPLING_RATE", "0.05"))
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise ValueError("XRAY_SAMPLING_RATE must be a number from 0 to 1")
    segment = variables.get("XRAY_SEGMENT_NAME") or f"{mesh}/{name}"
    rules = variables.get("XRAY_SAMPLING_RULE_MANIFEST", "")
    return Xray(mesh, name, segment, address, port, round(rate, 2), rules)


def _jaeger(variables: Mapping[str, str], mesh: str, name: str) -> Jaeger:
    address = variables.get("JAEGER_TRACER_ADDRESS") or "127.0.0.1"
    is_json = "json" in variables.get("JAEGER_TRACER_VERSION", "").lower()
    return Jaeger(address, number(variables, "JAEGER_TRACER_PORT", 9411, 65535), is_json)


def _datadog(variables: Mapping[str, str], mesh: str, name: str) -> Datadog:
    service = variables.get("DD_SERVICE") or f"envoy-{mesh}/{name}"
    address = variables.get("DATADOG_TRACER_ADDRESS") or "127.0.0.1"
    return Datadog(service, address, number(variables, "DATADOG_TRACER_PORT", 8126, 65535))


def _collector(name: str, address: str, port: int) -> Resource:
    return {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": seconds(1.0),
        "load_assignment": assignment(name, [endpoint(address, port)]),
    }
