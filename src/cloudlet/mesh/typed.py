"""The two small conventions of Envoy's JSON: typed configurations and durations."""

from __future__ import annotations

from typing import Any

from cloudlet.mesh.snapshot import Resource


def typed(type: str, **fields: Any) -> Resource:
    """A configuration that says its type; ``type`` is the message's name without ``envoy.``."""
    return {"@type": f"type.googleapis.com/envoy.{type}", **fields}


def extension(name: str, type: str, **fields: Any) -> Resource:
    """A named extension (a filter, a transport socket, a sink) with its typed configuration."""
    return {"name": name, "typed_config": typed(type, **fields)}


def seconds(value: float) -> str:
    """A duration of so many seconds, as JSON has it."""
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"
