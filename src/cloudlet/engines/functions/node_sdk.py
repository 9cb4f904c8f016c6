"""AWS's SDK for JavaScript, which Lambda's Node.js runtimes bring: each package is installed on its first use."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloudlet.engines.functions.api import Function

log = logging.getLogger("cloudlet.functions")

_PACKAGE = re.compile(r"@(?:aws-sdk|aws-crypto|smithy)/[a-z0-9-]+")
_USED = re.compile(rb"""["'`](@(?:aws-sdk|aws-crypto|smithy)/[a-z0-9-]+)""")
_CODE = (".js", ".mjs", ".cjs")
_LARGEST = 20 * 1024 * 1024  # bytes of code that are looked through
_PATIENCE = 120.0  # seconds for one install


class NodeSdk:
    """The packages that are here, in a folder that all clouds of this user share."""

    def __init__(self, folder: Path | None = None) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.folder = folder or cache / "cloudlet" / "node-sdk"
        self._seen: set[str] = set()
        self._installing = asyncio.Lock()

    @property
    def modules(self) -> Path:
        """The ``node_modules`` that functions look into after their own."""
        return self.folder / "node_modules"

    async def prepare(self, function: Function) -> None:
        """Install what a function's code names and does not bring itself, before it is started."""
        if function.key not in self._seen:
            names = await asyncio.to_thread(self._missing, function)
            self._seen.add(function.key)
            await self._install(names)

    async def provide(self, name: str) -> bool:
        """Install what a running function asks for; False when it is none of the SDK's packages, or not to be had."""
        if not _PACKAGE.fullmatch(name):
            return False
        if not self._has(name):
            await self._install({name})
        return self._has(name)

    def _has(self, name: str) -> bool:
        return (self.modules / name / "package.json").is_file()

    def _missing(self, function: Function) -> set[str]:
        self.modules.mkdir(parents=True, exist_ok=True)
        own = [function.code / "node_modules", *(layer / "nodejs" / "node_modules" for layer in function.layers)]
        used: set[str] = set()
        left = _LARGEST
        for top, folders, files in os.walk(function.code):
            folders[:] = [folder for folder in folders if folder != "node_modules"]
            for name in files:
                path = Path(top, name)
                if path.suffix in _CODE and (left := left - path.stat().st_size) > 0:
                    used |= {found.decode() for found in _USED.findall(path.read_bytes())}
        return {name for name in used if not self._has(name) and not any((folder / name).is_dir() for folder in own)}

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Keep other clouds out of the folder that they share."""
        with (self.folder / "lock").open("w") as lock:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            yield

    async def _install(self, names: set[str]) -> None:
        npm = shutil.which("npm")
        if not names or npm is None:
            return
        async with self._installing, self._alone():
            wanted = sorted(name for name in names if not self._has(name))
            if wanted and not await self._npm(npm, wanted) and len(wanted) > 1:
                # One name that only looks like a package's fails them all.
                for name in wanted:
                    await self._npm(npm, [name])

    async def _npm(self, npm: str, names: list[str]) -> bool:
        log.info("installing %s for functions", ", ".join(names))
        process = await asyncio.create_subprocess_exec(
            *(npm, "install", "--prefix", str(self.folder), "--no-audit", "--no-fund", "--omit=dev", *names),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, said = await asyncio.wait_for(process.communicate(), _PATIENCE)
        except TimeoutError:
            process.kill()
            await process.wait()
            said = b"npm took too long"
        if process.returncode != 0:
            log.info("%s could not be installed: %s", ", ".join(names), said.decode(errors="replace")[-500:])
        return process.returncode == 0
