"""Envoy in a container with an image of the user's own, made from App Mesh's, in the place of the Envoy of that one.

App Mesh's image starts ``/usr/bin/agent``, and what is made from it ends by doing so, after whatever it does before.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from pathlib import Path

from cloudlet.engines.proxies.envoy import binary
from cloudlet.engines.proxies.folder import Folder
from cloudlet.mesh.snapshot import Resource

AGENT = "/usr/bin/agent"
_PROGRAMS = "/run/cloudlet/envoy/bin"
_STATE = "/run/cloudlet/envoy/state"


class EnvoyInside(Folder):
    """The folder of an Envoy that a container starts and that ends with it."""

    def __init__(
        self,
        folder: Path,
        name: str,
        bootstrap: Resource,
        *,
        concurrency: int = 1,
        log_level: str,
        arguments: Sequence[str] = (),
        merged: Sequence[str] = (),
    ) -> None:
        """As those of ``Envoy``; ``merged`` are files of the container that Envoy merges into its bootstrap."""
        super().__init__(folder, name, bootstrap)
        self._options = ("--concurrency", str(concurrency), "--log-level", log_level, *arguments)
        self._merged = tuple(merged)

    async def start(self) -> None:
        """Have everything ready for the container. Raises ProxyMissing."""
        await asyncio.to_thread(self.prepare)

    def mounts(self) -> list[tuple[Path, str]]:
        """What the container needs of this machine and where: the agent, the program, this folder. Blocks."""
        program = Path(binary())
        agent = self._folder / "agent"
        # Read in the container, after whatever it does before.
        more = f' --config-yaml "$(cat {shlex.join(self._merged)})"' if self._merged else ""
        agent.write_text(
            f"#!/bin/sh\ncd {_STATE} && exec {_PROGRAMS}/{program.name} -c bootstrap.json --disable-hot-restart "
            f"--log-path log --drain-time-s 1 {shlex.join(self._options)}{more}\n"
        )
        agent.chmod(0o755)
        return [(agent, AGENT), (program.parent, _PROGRAMS), (self._folder, _STATE)]

    async def stop(self) -> None:
        """Nothing: it ends with its container."""
