"""How App Mesh's Envoy traces for X-Ray, where ``ENABLE_ENVOY_XRAY_TRACING`` is on: a pure function."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import msgspec

from cloudlet.errors import not_implemented
from cloudlet.mesh.snapshot import Resource
from cloudlet.mesh.typed import extension

_UDP = re.compile(r"(?:udp:)?(\d+\.\d+\.\d+\.\d+):(\d+)")
_PORT = 2000


class Xray(msgspec.Struct, frozen=True):
    """What the variables say. ``rate`` is the share of requests that are traced beyond one each second."""

    mesh: str
    name: str  # of the node or gateway
    segment: str  # what Envoy's segments are called
    address: str = "127.0.0.1"
    port: int = _PORT
    rate: float = 0.05

    def tracing(self) -> Resource:
        """The tracing of an HTTP connection manager."""
        manifest = {"version": 2, "default": {"fixed_target": 1, "rate": self.rate}, "rules": []}
        provider = extension(
            "envoy.tracers.xray",
            "config.trace.v3.XRayConfig",
            segment_name=self.segment,
            daemon_endpoint={"protocol": "UDP", "address": self.address, "port_value": self.port},
            sampling_rule_manifest={"inline_string": json.dumps(manifest)},
            segment_fields={
                "origin": "AWS::AppMesh::Proxy",
                # Gateways are told of as nodes too, as App Mesh's own Envoy does it.
                "aws": {"app_mesh": {"mesh_name": self.mesh, "virtual_node_name": self.name}},
            },
        )
        return {"provider": provider}


def xray_of(variables: Mapping[str, str], mesh: str, name: str) -> Xray:
    """Read the variables. Raises ValueError for one that cannot be, NotImplemented for one that is not here."""
    if "XRAY_SAMPLING_RULE_MANIFEST" in variables:
        raise not_implemented("App Mesh's Envoy with XRAY_SAMPLING_RULE_MANIFEST")
    address, port = "127.0.0.1", variables.get("XRAY_DAEMON_PORT", str(_PORT))
    if given := variables.get("AWS_XRAY_DAEMON_ADDRESS"):
        found = next((match for part in given.split() if (match := _UDP.fullmatch(part))), None)
        if found is None:
            raise ValueError("AWS_XRAY_DAEMON_ADDRESS must be an address and a port")
        address, port = found[1], found[2]
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError("XRAY_DAEMON_PORT must be a number from 1 to 65535")
    try:
        rate = float(variables.get("XRAY_SAMPLING_RATE", "0.05"))
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise ValueError("XRAY_SAMPLING_RATE must be a number from 0 to 1")
    return Xray(mesh, name, variables.get("XRAY_SEGMENT_NAME") or f"{mesh}/{name}", address, int(port), rate)
