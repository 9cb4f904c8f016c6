"""Log lines on their way to a task's router, by the Fluent forward protocol (v1) over the socket that it makes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cloudlet.services.ecs import firelens

if TYPE_CHECKING:
    from cloudlet.services.api import Cloud

log = logging.getLogger("cloudlet.ecs")

_WAITING = 8192  # lines that wait for the router; the oldest are lost beyond that, as with Docker's fluentd driver
_FIRST, _LONGEST = 0.05, 1.0  # seconds between attempts to reach a router that is not there yet
_BATCH = 512


class Forwarder:
    """One task's connection to its router, made when there is a first line."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        """``folder`` is where the router makes its socket."""
        self._cloud = cloud
        self._folder = folder
        self._lines: deque[bytes] = deque(maxlen=_WAITING)
        self._writer: asyncio.StreamWriter | None = None
        self._sending: asyncio.Task[None] | None = None

    def take(self, tag: str, record: dict[str, Any]) -> None:
        """A record, on its way from here on."""
        seconds, rest = divmod(self._cloud.clock.now(), 1)
        when = msgspec.msgpack.Ext(0, struct.pack(">II", int(seconds), int(rest * 1e9)))
        self._lines.append(msgspec.msgpack.encode([tag, when, record]))
        if self._sending is None:
            self._sending = self._cloud.spawn(self._send(), "lines to a router")

    async def flush(self, seconds: float) -> None:
        """Wait until everything is sent, but not longer."""
        if self._sending is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._sending), seconds)

    def close(self) -> None:
        """The task has ended."""
        if self._lines:
            log.warning("%d log lines are lost: the router did not take them", len(self._lines))
        if self._sending is not None:
            self._sending.cancel()
        if self._writer is not None:
            self._writer.close()

    async def _send(self) -> None:
        pause = _FIRST
        try:
            while self._lines:
                batch = [self._lines[number] for number in range(min(_BATCH, len(self._lines)))]
                try:
                    self._writer = self._writer or await self._connect()
                    self._writer.write(b"".join(batch))
                    await self._writer.drain()
                except OSError:
                    self._writer = None
                    await self._cloud.clock.sleep(pause)
                    pause = min(_LONGEST, pause * 2)
                    continue
                for _ in batch:
                    self._lines.popleft()
        finally:
            self._sending = None

    async def _connect(self) -> asyncio.StreamWriter:
        # By the folder's descriptor: the name of a socket has no room for long paths.
        folder = os.open(self._folder, os.O_PATH)
        try:
            _, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{firelens.SOCKET}")
        finally:
            os.close(folder)
        return writer
