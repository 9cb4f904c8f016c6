"""What a sandbox's runtime runs in: a process of ours here, a container in ``containers.py``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cloudlet.control.supervisor import Child, Supervisor
from cloudlet.engines.functions.api import FunctionFailed

Printed = Callable[[bytes], object]  # takes what the runtime prints, as it comes
Exited = Callable[[int], object]  # takes its exit status, negative where a signal has ended it


class Carrier(Protocol):
    """One runtime, running."""

    late: float  # seconds by which what it prints may come late

    async def start(self, environment: Mapping[str, str], printed: Printed, exited: Exited) -> None:
        """Start the runtime. ``exited`` is called once. Raises FunctionFailed."""
        ...

    def read(self) -> None:
        """Take in what it has printed until now."""
        ...

    def stop(self) -> asyncio.Future[None]:
        """End it at once; resolves when it is gone."""
        ...

    @property
    def pid(self) -> int:
        """The first of its processes, or 0 when there is none."""
        ...


class Process:
    """A runtime as a child of ours."""

    late = 0.0

    def __init__(self, supervisor: Supervisor, name: str, argv: Sequence[str], cwd: Path | None) -> None:
        self._supervisor = supervisor
        self._name = name
        self._argv = argv
        self._cwd = cwd
        self._output = -1
        self._child: Child | None = None

    async def start(self, environment: Mapping[str, str], printed: Printed, exited: Exited) -> None:
        self._printed, self._exited = printed, exited
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        try:
            self._child = self._supervisor.start(
                self._name,
                self._argv,
                env=environment,
                cwd=self._cwd,
                stdout=writer,
                stderr=writer,
                on_exit=self._ended,
            )
        except OSError as error:
            os.close(reader)
            raise FunctionFailed(f"{self._argv[0]} cannot be started: {error.strerror}") from None
        finally:
            os.close(writer)
        self._output = reader
        asyncio.get_running_loop().add_reader(reader, self.read)

    def read(self) -> None:
        while self._output >= 0:
            try:
                data = os.read(self._output, 65536)
            except BlockingIOError:
                return
            if not data:
                asyncio.get_running_loop().remove_reader(self._output)
                return
            self._printed(data)
            if len(data) < 65536:
                return

    def stop(self) -> asyncio.Future[None]:
        return self._supervisor.stop(self._name, grace=0)

    @property
    def pid(self) -> int:
        return self._child.pid if self._child is not None else 0

    def _ended(self, child: Child) -> None:
        self.read()
        asyncio.get_running_loop().remove_reader(self._output)
        os.close(self._output)
        self._output = -1
        self._exited(child.exit_code or 0)
