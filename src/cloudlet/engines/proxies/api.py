"""The seam: what a load balancer and a mesh ask of the proxy that carries their traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cloudlet.mesh import Snapshot

# Called on the event loop once the proxy's process has ended without having been stopped.
Ended = Callable[[], object]


class ProxyMissing(Exception):
    """There is no such proxy on this machine; the message names the package to install."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint as the proxy sees it."""

    cluster: str
    address: str
    port: int
    healthy: bool
    flags: tuple[str, ...] = ()  # why it is not: Envoy's health flags
    requests: int = 0
    errors: int = 0
    active: int = 0  # requests and connections under way
    draining: bool = False


class Proxy(Protocol):
    """One proxy process. It outlives a crash of the control plane and is taken up again by ``start``."""

    name: str

    async def start(self) -> None:
        """Start it, or adopt the one that runs, with what was published last. Raises ProxyMissing."""
        ...

    async def publish(self, snapshot: Snapshot) -> None:
        """Let it carry this from now on; only what differs is written. Raises Inconsistent before anything is."""
        ...

    async def refused(self) -> dict[str, str]:
        """The published listeners that it could not take up, by name, each with why."""
        ...

    async def endpoints(self) -> Sequence[Endpoint]:
        """Every endpoint that it knows, with its health as the proxy sees it."""
        ...

    async def stats(self, prefix: str = "") -> dict[str, Any]:
        """Its counters, gauges and histograms whose names match the regular expression ``prefix``."""
        ...

    async def stop(self) -> None:
        """End it; connections under way are given a moment."""
        ...
