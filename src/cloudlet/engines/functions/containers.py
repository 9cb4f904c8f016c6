"""Functions that are container images: each sandbox is a container on this machine's network, as other sandboxes are.

One container engine serves them all. It is opened when the first of them is needed, and its containers end with us:
what an earlier run has left, because it was killed, is removed when the next one starts.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from cloudlet.engines.containers import api as engines
from cloudlet.engines.functions.api import Function, FunctionFailed, Image
from cloudlet.engines.functions.carriers import Exited, Printed

log = logging.getLogger("cloudlet.lambda")

_LABEL = "cloudlet.function"
_RUNTIME = "-runtime"  # what a sandbox's container is called beside its pod, which has the sandbox's name
_KILLED = 137
# Seconds by which engines tell what a container prints; Podman looks at its logs four times a second.
_LATE = {"processes": 0.02, "docker": 0.05, "podman": 0.3}

# Gives name and password for an image's registry, or None where it needs none.
Login = Callable[[str], Awaitable[tuple[str, str] | None]]


class Containers:
    """The containers of functions."""

    def __init__(self, open_engine: Callable[[Path], engines.Engine], folder: Path, login: Login) -> None:
        """``folder`` is theirs alone."""
        self._open_engine = open_engine
        self._folder = folder
        self._tmp = folder / "tmp"
        self._login = login
        self._engine: asyncio.Future[engines.Engine] | None = None
        self._running: dict[str, Container] = {}
        self.late = 0.0  # as its carriers have it
        self._endings: set[asyncio.Task[None]] = set()

    async def ensure(self, reference: str) -> str:
        """Have an image here, and return its digest (of a folder: none). Raises EngineMissing and ImageMissing."""
        engine = await self._ready()
        if reference.startswith("/"):
            return ""
        return await engine.ensure_image(reference, await self._login(reference))

    def carrier(self, function: Function, image: Image, name: str, resolv_conf: Path) -> Container:
        """A container for one sandbox, not yet started."""
        return Container(self, function, image, name, resolv_conf)

    async def start(self) -> None:
        """Remove what an earlier run has left; each has left its /tmp too."""
        if self._tmp.is_dir():
            try:
                await self._ready()
            except engines.EngineMissing as error:
                log.warning("containers of functions may be left over: %s", error)

    async def stop(self) -> None:
        """Remove every container."""
        if self._engine is None:
            return
        try:
            engine = await self._engine
        except Exception:
            # It has never started, and whoever wanted it has heard of it.
            return
        await asyncio.gather(*(self.remove(name) for name in list(self._running)))
        if self._endings:
            await asyncio.wait(self._endings)
        try:
            await engine.forget_folders()
        finally:
            await engine.stop_engine()
        await asyncio.to_thread(shutil.rmtree, self._tmp, ignore_errors=True)

    async def run(self, container: Container, spec: engines.Container) -> engines.ContainerState:
        """Start a container in a pod of its own. Raises FunctionFailed."""
        try:
            engine = await self._ready()
            self._running[spec.pod] = container
            await engine.create_pod(engines.Pod(spec.pod, network="host", labels={_LABEL: spec.pod}))
            try:
                return await engine.run(spec)
            except engines.ImageMissing:
                await self.ensure(spec.image)
                return await engine.run(spec)
        except (engines.EngineMissing, engines.ImageMissing, engines.CannotStart) as error:
            await self.remove(spec.pod)
            raise FunctionFailed(str(error)) from None

    async def remove(self, name: str) -> None:
        """End a container and forget it."""
        if self._engine is not None:
            await (await self._engine).remove_pod(name)
        self._running.pop(name, None)
        await asyncio.to_thread(shutil.rmtree, self.tmp(name), ignore_errors=True)

    def finish(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do work that a container's end asks for, before we end at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    def tmp(self, name: str) -> Path:
        """The folder that a container has as /tmp."""
        return self._tmp / name

    async def _ready(self) -> engines.Engine:
        if self._engine is None or (self._engine.done() and self._engine.exception() is not None):
            self._engine = asyncio.ensure_future(self._start_engine())
        return await asyncio.shield(self._engine)

    async def _start_engine(self) -> engines.Engine:
        engine = self._open_engine(self._folder)
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        self.late = _LATE[(await engine.start(self._printed, self._ended)).name]
        pods, _ = await engine.recover()
        await asyncio.gather(*(engine.remove_pod(pod.name) for pod in pods if _LABEL in pod.labels))
        await asyncio.to_thread(shutil.rmtree, self._tmp, ignore_errors=True)
        return engine

    def _printed(self, name: str, stream: str, line: bytes) -> None:
        if (container := self._running.get(name.removesuffix(_RUNTIME))) is not None:
            container.printed(line + b"\n")

    def _ended(self, state: engines.ContainerState) -> None:
        if (container := self._running.get(state.pod)) is not None:
            container.ended(state)


class Container:
    """A runtime in a container."""

    def __init__(self, containers: Containers, function: Function, image: Image, name: str, resolv_conf: Path) -> None:
        self._containers = containers
        self._function = function
        self._image = image
        self._name = name
        self._resolv_conf = resolv_conf
        self._told = False
        self._stopping = False
        self.late = 0.0
        self.pid = 0

    async def start(self, environment: Mapping[str, str], printed: Printed, exited: Exited) -> None:
        self.printed, self._exited = printed, exited
        tmp = self._containers.tmp(self._name)
        await asyncio.to_thread(_make_tmp, tmp)
        spec = engines.Container(
            name=self._name + _RUNTIME,
            pod=self._name,
            image=self._image.reference,
            entrypoint=self._image.entrypoint or None,
            command=self._image.command or None,
            environment=environment,
            working_dir=self._image.working_dir,
            memory=self._function.memory * 1024 * 1024,
            mounts=(
                engines.Mount(str(tmp), "/tmp"),
                engines.Mount(str(self._resolv_conf), "/etc/resolv.conf", read_only=True),
            ),
            read_only=True,
            labels={_LABEL: self._function.arn},
        )
        state = await self._containers.run(self, spec)
        self.pid, self.late = state.pid, self._containers.late
        if state.exit_code is not None:
            self.ended(state)

    def read(self) -> None:
        """What it prints comes by itself."""

    def stop(self) -> asyncio.Future[None]:
        self._stopping = True
        return self._containers.finish(self._stop())

    def ended(self, state: engines.ContainerState) -> None:
        """The engine tells of the container's end, which may be one of its own."""
        self._tell(state.exit_code or 0)
        if not self._stopping:
            self._containers.finish(self._containers.remove(self._name))

    async def _stop(self) -> None:
        await self._containers.remove(self._name)
        self._tell(_KILLED)

    def _tell(self, code: int) -> None:
        if not self._told:
            self._told = True
            self._exited(code)


def _make_tmp(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o1777)
