"""One command inside a container without an engine: nsenter(1), with pipes or a terminal of its own."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections.abc import AsyncIterator, Mapping, Sequence

from cloudlet.control.supervisor import Child, Supervisor
from cloudlet.engines.pipes import Pipe

# A new session takes the first terminal that it opens for its own. When its first process ends the kernel throws away
# what is on its way to the terminal's other side: that process is ours, and ends a moment after the command.
_WITH_TERMINAL = 'exec <>"$0" >&0 2>&0; trap : INT QUIT; "$@"; code=$?; sleep 0.02; exit $code'


class Command:
    """A command that runs, or has run, in a container's namespaces."""

    def __init__(self, supervisor: Supervisor, name: str) -> None:
        self._supervisor = supervisor
        self._name = name
        self._terminal = -1
        self._input = -1
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._printed: Pipe | None = None

    async def start(self, argv: Sequence[str], environment: Mapping[str, str], tty: bool) -> None:
        """Start it. Raises OSError."""
        if tty:
            self._terminal, inner = pty.openpty()
            argv = ["/bin/sh", "-c", _WITH_TERMINAL, os.ttyname(inner), *argv]
            given, taken = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), inner
            self._input, output = os.dup(self._terminal), os.dup(self._terminal)
        else:
            given, self._input = os.pipe()
            output, taken = os.pipe()
        try:
            self._supervisor.start(
                self._name,
                argv,
                env=dict(environment),
                stdin=given,
                stdout=taken,
                stderr=taken,
                on_exit=self._ended,
            )
        except BaseException:
            os.close(output)
            self._close()
            raise
        finally:
            os.close(given)
            os.close(taken)
        self._printed = Pipe(output)
        os.set_blocking(self._input, False)

    async def wait(self) -> int:
        async for _ in self.output():
            pass
        return await asyncio.shield(self._code)

    async def output(self) -> AsyncIterator[bytes]:
        while self._printed is not None and (piece := await self._printed.read()):
            yield piece

    async def send(self, data: bytes) -> None:
        if not data:
            if self._terminal >= 0:
                data = b"\x04"
            else:
                self._close_input()
        while data and self._input >= 0:
            try:
                data = data[os.write(self._input, data) :]
            except BlockingIOError:
                await self._writable()
            except OSError:
                return

    async def resize(self, columns: int, rows: int) -> None:
        if self._terminal >= 0:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def kill(self) -> None:
        await self._supervisor.stop(self._name, grace=0)
        if self._printed is not None:
            self._printed.close()

    async def _writable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_writer(self._input, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._input)

    def _ended(self, child: Child) -> None:
        code = child.exit_code or 0
        if not self._code.done():
            self._code.set_result(code if code >= 0 else 128 - code)
        self._close()

    def _close(self) -> None:
        self._close_input()
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    def _close_input(self) -> None:
        if self._input >= 0:
            os.close(self._input)
            self._input = -1
