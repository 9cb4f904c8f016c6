"""Reading a pipe or a terminal on the event loop.

uvloop's ``connect_read_pipe`` closes a descriptor twice, and the second time it may be a file that a thread has just
opened.
"""

from __future__ import annotations

import asyncio
import os

_PIECE = 65536


class Pipe:
    """The reading end, which is this object's from now on. What nobody reads stays with who writes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._ready: asyncio.Event | None = None  # whoever reads waits for it
        os.set_blocking(descriptor, False)

    async def read(self) -> bytes:
        """The next bytes; nothing at the end, also of a terminal that nobody holds any more."""
        while self._descriptor >= 0:
            try:
                if data := os.read(self._descriptor, _PIECE):
                    return data
                self.close()
            except BlockingIOError:
                await self._readable()
            except OSError:
                self.close()
        return b""

    def close(self) -> None:
        """Read no more; who waits for bytes gets the end."""
        if self._descriptor >= 0:
            if self._ready is not None:
                asyncio.get_running_loop().remove_reader(self._descriptor)
                self._ready.set()
            os.close(self._descriptor)
            self._descriptor = -1

    async def _readable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        self._ready = ready
        loop.add_reader(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            self._ready = None
            if self._descriptor >= 0:
                loop.remove_reader(self._descriptor)
