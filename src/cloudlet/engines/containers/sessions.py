"""One command inside a container, by the Docker API: the connection itself carries what goes in and out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

from cloudlet.engines.containers.daemon import Daemon, DaemonError

_PIECE = 64 * 1024


class Session:
    """A command that has been created in a container."""

    def __init__(self, daemon: Daemon, identity: str, tty: bool) -> None:
        self._daemon = daemon
        self._id = identity
        self._tty = tty
        self._over = asyncio.Event()

    async def start(self) -> None:
        """Start it. Raises DaemonError."""
        body = {"Detach": False, "Tty": self._tty}
        self._reader, self._writer = await self._daemon.take_over(f"/exec/{self._id}/start", body)

    async def wait(self) -> int:
        async for _ in self.output():
            pass
        return int((await self._state())["ExitCode"])

    async def output(self) -> AsyncIterator[bytes]:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not self._over.is_set():
                if self._tty:
                    piece = await self._reader.read(_PIECE)
                    if not piece:
                        break
                else:
                    head = await self._reader.readexactly(8)
                    piece = await self._reader.readexactly(int.from_bytes(head[4:], "big"))
                yield piece
        self._over.set()
        self._writer.close()

    async def send(self, data: bytes) -> None:
        if not data:
            self._writer.write_eof()
            return
        self._writer.write(data)
        await self._writer.drain()

    async def resize(self, columns: int, rows: int) -> None:
        if self._tty:
            with contextlib.suppress(DaemonError):
                await self._daemon.call("POST", f"/exec/{self._id}/resize", {"w": columns, "h": rows})

    async def kill(self) -> None:
        # The API has no word for it; the engine tells the process's id on this machine.
        pid = (await self._state()).get("Pid", 0)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        else:
            # It runs on another machine: it hears that nobody listens.
            self._over.set()
            self._writer.close()

    async def _state(self) -> dict[str, int]:
        return await self._daemon.call("GET", f"/exec/{self._id}/json")  # type: ignore[no-any-return]
