"""Following what one container prints, through the Docker API, from where an earlier control plane has left off."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudlet.engines.containers.daemon import Daemon, DaemonError
from cloudlet.engines.containers.translate import moment

_STREAMS = {0: "stdout", 1: "stdout", 2: "stderr"}
_RETRY = 0.5


@dataclass(slots=True)
class _Position:
    """How far a log has been told: the time of the last entry, and how many entries of that time there were.

    Podman's times have whole seconds only, so that the count matters.
    """

    time: float = 0.0
    count: int = 0


class Tail:
    """The log of one container. The place is kept in a file, so that after a kill nothing is lost."""

    def __init__(
        self, daemon: Daemon, address: str, tty: bool, file: Path, line: Callable[[str, bytes], object]
    ) -> None:
        """``address`` is the path of the container's logs; ``tty`` says that the answer has no frames."""
        self._daemon = daemon
        self._address = address
        self._tty = tty
        self._line = line
        self._file = file
        self._position = _Position()
        self._partial: dict[str, bytes] = {}
        self._task: asyncio.Task[None] | None = None
        self._stamp = ("", 0.0)
        self._place = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if written := os.pread(self._place, 100, 0).split():
            self._position = _Position(float(written[0]), int(written[1]))

    def start(self) -> None:
        """Tell what there is, then what comes."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def finish(self) -> None:
        """The container has ended: tell the rest at once, then nothing more."""
        await self.stop(close=False)
        try:
            await self._read(follow=False)
        except DaemonError:
            pass
        for stream, rest in self._partial.items():
            self._line(stream, rest)
        self._partial.clear()
        self._keep()
        os.close(self._place)

    async def stop(self, close: bool = True) -> None:
        """Tell nothing more; another tail of the same file goes on from here."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if close:
            os.close(self._place)

    async def _follow(self) -> None:
        while True:
            try:
                await self._read(follow=True)
                return
            except DaemonError as error:
                if error.status:
                    return
                # The engine starts anew: its next answer begins where this one broke.
                await asyncio.sleep(_RETRY)

    async def _read(self, follow: bool) -> None:
        query: dict[str, Any] = {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": int(follow)}
        if self._position.time:
            query["since"] = int(self._position.time) - 1
        skip: _Position | None = _Position(self._position.time, self._position.count)
        buffer = bytearray()
        async for piece in self._daemon.stream("GET", self._address, query):
            buffer += piece
            for stream, entry in self._entries(buffer):
                stamp, _, text = entry.partition(b" ")
                time = self._time(stamp.decode())
                if skip is not None:
                    if time < skip.time or (time == skip.time and skip.count > 0):
                        skip.count -= time == skip.time
                        continue
                    skip = None
                self._tell(stream, text)
                if time == self._position.time:
                    self._position.count += 1
                else:
                    self._position = _Position(time, 1)
            if not self._partial:
                self._keep()

    def _entries(self, buffer: bytearray) -> list[tuple[str, bytes]]:
        """Take whole entries from the front of the buffer."""
        found, start = [], 0
        if self._tty:
            while (end := buffer.find(b"\n", start)) >= 0:
                found.append(("stdout", bytes(buffer[start : end + 1])))
                start = end + 1
        else:
            while len(buffer) - start >= 8:
                end = start + 8 + int.from_bytes(buffer[start + 4 : start + 8], "big")
                if len(buffer) < end:
                    break
                found.append((_STREAMS[buffer[start]], bytes(buffer[start + 8 : end])))
                start = end
        del buffer[:start]
        return found

    def _tell(self, stream: str, text: bytes) -> None:
        """Tell an entry, or keep it until the rest of its line is there."""
        text = self._partial.pop(stream, b"") + text
        if text.endswith(b"\n"):
            self._line(stream, text[:-1].removesuffix(b"\r") if self._tty else text[:-1])
        else:
            self._partial[stream] = text

    def _time(self, stamp: str) -> float:
        if stamp != self._stamp[0]:
            self._stamp = (stamp, moment(stamp))
        return self._stamp[1]

    def _keep(self) -> None:
        os.pwrite(self._place, f"{self._position.time!r} {self._position.count}".ljust(48).encode(), 0)
