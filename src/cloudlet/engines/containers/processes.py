"""Containers as supervised processes, where there is no container engine.

A pod is a network namespace of our own behind a bridge of our own, where we are root; else this machine's network. A
container is a process in bubblewrap, on an unpacked image with a writable layer over it. What must outlive the control
plane is in the data directory: one folder for each pod and each container; the processes are ``lasting`` children.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import psutil

from cloudlet.control.supervisor import CLOUD_VARIABLE, NAME_VARIABLE, Child, Supervisor
from cloudlet.engines.containers import cgroups, sandbox
from cloudlet.engines.containers.api import (
    Abilities,
    CannotStart,
    Container,
    ContainerState,
    EngineMissing,
    Execution,
    LogSink,
    Mount,
    Pod,
    PodState,
    Usage,
)
from cloudlet.engines.containers.commands import Command
from cloudlet.engines.containers.folders import application
from cloudlet.engines.containers.follow import Follower
from cloudlet.engines.containers.images import Images
from cloudlet.engines.containers.network import HostReach, Shared
from cloudlet.engines.containers.pods import Pods, put
from cloudlet.engines.containers.translate import OUT_OF_MEMORY
from cloudlet.engines.pipes import Pipe

log = logging.getLogger("cloudlet.containers")

_STREAMS = ("stdout", "stderr")
_KILLED = 137
_LONGEST_END = 10.0
_STEP, _STEPS = 0.002, 500  # seconds between looks at a sandbox that is being made, and how many
_ENTER = (
    f"unset {CLOUD_VARIABLE} {NAME_VARIABLE}; groups=$1; shift; "
    'for file in $groups; do echo 0 >"$file"; done; exec "$@"'
)


@dataclass(slots=True)
class _Running:
    """A container that runs."""

    state: ContainerState
    container: Container
    program: sandbox.Program
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False


def engine(supervisor: Supervisor, folder: Path) -> Processes:
    """The engine, not yet started."""
    return Processes(supervisor, folder)


class Processes(Pods):
    """The engine that needs no engine."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        super().__init__(supervisor, folder)
        self._images = Images(self._folder / "images")
        self._running: dict[str, _Running] = {}
        self._commands = 0
        self._overlay = False

    # The engine

    async def start(self, logs: LogSink, exited: Callable[[ContainerState], object]) -> Abilities:
        self._logs, self._exited = logs, exited
        needed = {"bwrap": "bubblewrap", "nsenter": "util-linux", "prlimit": "util-linux"}
        for program, package in needed.items():
            if shutil.which(program) is None:
                raise EngineMissing(f"{program} is not installed here; install it with: apt-get install {package}")
        await asyncio.to_thread(self._prepare)
        self._follower = Follower()
        self._groups = cgroups.Groups(self._name)
        if HostReach.possible():
            await asyncio.to_thread(self._choose_network)
        self.abilities = Abilities(
            "processes",
            "1",
            limits_cpu=self._groups.cpu,
            limits_memory=self._groups.memory,
            limits_pods=self._groups.cpu and self._groups.memory,
            own_addresses=self._bridge is not None,
            images=True,
            host_address="127.0.0.1" if self._bridge is None else self._bridge.gateway,
        )
        return self.abilities

    async def stop_engine(self) -> None:
        self._follower.close()

    async def clear(self) -> None:
        exited, self._exited = self._exited, _unheard
        await asyncio.gather(*(self.stop(name, 0) for name in [*self._running]))
        self._exited = exited
        for name in await asyncio.to_thread(self._names, "containers"):
            # Those whose start was broken off are not known as running.
            await self._supervisor.stop(_process(name), grace=0)
        for name in await asyncio.to_thread(self._names, "pods"):
            await self.remove_pod(name)
        await self._forget_namespaces()
        self._shared = Shared(self._open_network, self._close_network)
        if self._bridge is not None:
            await self._close_network()
        self._groups.remove()
        for part in ("pods", "containers", "volumes"):
            await asyncio.to_thread(shutil.rmtree, self._folder / part, ignore_errors=True)
        await asyncio.to_thread(self._prepare)

    async def forget_folders(self) -> None:
        """Folders are run where they lie: there is nothing to forget."""

    async def recover(self) -> tuple[list[PodState], list[ContainerState]]:
        pods = await self._recover_pods()
        containers = []
        for name in await asyncio.to_thread(self._names, "containers"):
            containers.append(await self._recover(name))
        return pods, [state for state in containers if state is not None]

    def _prepare(self) -> None:
        for part in ("pods", "containers", "volumes", "images"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o711)
        bwrap = subprocess.run(
            ["bwrap", "--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "true"], capture_output=True, text=True
        )
        if bwrap.returncode:
            raise EngineMissing(f"bwrap may not make sandboxes here: {bwrap.stderr.strip()}")
        self._drop_images()
        self._overlay = os.geteuid() == 0 and self._try_overlay()

    def _try_overlay(self) -> bool:
        """Whether a writable layer may be laid over an image, on this file system."""
        tried = self._folder / "try"
        for part in ("image", "upper", "work", "root"):
            (tried / part).mkdir(parents=True, exist_ok=True)
        done = subprocess.run(sandbox.overlay(["true"]), cwd=tried, capture_output=True)
        shutil.rmtree(tried, ignore_errors=True)
        return done.returncode == 0

    async def remove_pod(self, name: str) -> None:
        names = await asyncio.to_thread(self._names, "containers")
        await asyncio.gather(*(self.remove(one) for one in names if self._pod_of(one) == name))
        async with self._lock(name):
            await self._forget_pod(name)
        self._locks.pop(name, None)

    async def _forget_pod(self, name: str) -> None:
        await super()._forget_pod(name)
        self._groups.remove(name)

    # Containers

    async def run(self, container: Container) -> ContainerState:
        async with self._lock(container.name):
            if (known := self._running.get(container.name)) is not None:
                return known.state
            if container.pod not in self._pods:
                raise CannotStart(f"There is no pod {container.pod}.")
            if container.tty:
                raise CannotStart("A container with a terminal (pseudoTerminal) needs a container engine.")
            pod, pod_state = self._pods[container.pod]
            image = await asyncio.to_thread(self._images.get, container.image)
            if image is None:
                raise sandbox.missing(container.image)
            folder = self._folder / "containers" / container.name
            await self._delete(container.name)
            mounts = [self._mount(mount) for mount in container.mounts]
            if image.application:
                mounts = [*application(image.root), *mounts]
            read, write = os.pipe()
            try:
                try:
                    prepare = self._prepare_container
                    program = await asyncio.to_thread(prepare, folder, container, image, mounts, pod, write)
                    self._groups.create_pod(pod.name, pod.cpu, pod.memory)
                    argv = self._command(container, program, image.application, pod_state)
                    self._start(container.name, folder, argv, (write,))
                finally:
                    os.close(write)
                pid = await _told(read)
            except (CannotStart, OSError) as error:
                await self._delete(container.name)
                raise error if isinstance(error, CannotStart) else CannotStart(str(error)) from None
            state = ContainerState(
                container.name,
                container.pod,
                container.image,
                pid,
                time.time(),  # of this machine, which the seam asks for
                image_digest=image.digest,
                labels=dict(container.labels),
            )
            if not pid:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._gone(container.name), _LONGEST_END)
                said = await asyncio.to_thread((folder / "stderr").read_text, errors="replace")
                await self._delete(container.name)
                raise CannotStart(said.strip()[-1000:] or "The sandbox did not start.")
            about = {"container": asdict(container), "state": asdict(state), "program": asdict(program)}
            await asyncio.to_thread(put, folder / "container.json", about)
            running = self._running[container.name] = _Running(state, container, program)
            self._follow(container.name)
            await self._begun(running)
            if self._child(container.name) is None:
                self._end(container.name)
            return state

    def _prepare_container(
        self, folder: Path, container: Container, image: Any, mounts: Sequence[Mount], pod: Pod, info: int
    ) -> sandbox.Program:
        """Make a container's folder: its root file system and the arguments of its sandbox."""
        program = sandbox.program(container, image, image.root, mounts)
        folder.mkdir(parents=True)
        folder.chmod(0o711)
        for name in _STREAMS:
            (folder / name).touch(0o600)
        if not image.application:
            (folder / "image").symlink_to(image.root)
            if self._overlay:
                for part in ("upper", "work", "root"):
                    (folder / part).mkdir()
                # The top of its root is for all its users, whatever the folder is on this machine.
                (folder / "upper").chmod(0o755)
            else:
                copy = ["cp", "-a", "--reflink=auto", f"{image.root}/.", str(folder / "root")]
                subprocess.run(copy, check=True, capture_output=True)
                (folder / "root").chmod(0o755)
        etc = self._folder / "pods" / pod.name / "etc"
        hostname = pod.hostname or pod.name
        arguments = sandbox.arguments(container, image, program, folder, etc, mounts, hostname, info)
        with open(os.open(folder / "sandbox", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))
        return program

    def _command(
        self, container: Container, program: sandbox.Program, is_application: bool, pod: PodState
    ) -> list[str]:
        groups = self._groups.create(_group(container), container.cpu, container.memory, container.cpu_shares)
        # The arguments, with the environment's secrets, are read from a file: command lines are seen by everybody.
        argv = [sandbox.BECOME, *program.argv] if sandbox.becomes(program) else program.argv
        inner = [*sandbox.limits(container.ulimits), "/bin/sh", "-c", 'exec bwrap --args 9 9<sandbox "$@"', "bwrap"]
        inner += ["--", *argv]
        if self._overlay and not is_application:
            inner = sandbox.overlay(inner)
        if pod.namespace:
            inner = ["nsenter", f"--net={pod.namespace}", *inner]
        return sandbox.keep(groups, inner)

    def _start(self, name: str, folder: Path, argv: Sequence[str], descriptors: Sequence[int]) -> None:
        """Start a container's process, or adopt the one that an earlier control plane has started."""
        self._supervisor.start(
            _process(name),
            argv,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")},
            cwd=folder,
            lasting=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=descriptors,
            on_exit=lambda child: self._end(name),
        )

    async def stop(self, name: str, grace: float) -> None:
        running = self._running.get(name)
        if running is None:
            return
        running.stopped = True
        if grace > 0:
            number = _signal(running.program.stop_signal)
            with contextlib.suppress(OSError):
                os.kill(self._top(running), number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.ended.wait(), grace)
        if not running.ended.is_set():
            # The first process of its namespace: all others end with it.
            with contextlib.suppress(OSError):
                os.kill(running.state.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.ended.wait(), _LONGEST_END)

    async def remove(self, name: str) -> None:
        async with self._lock(name):
            # Within the lock: one that is just being started is not forgotten while it runs.
            await self.stop(name, 0)
            await self._delete(name)
        self._locks.pop(name, None)

    async def execute(
        self,
        name: str,
        argv: Sequence[str],
        *,
        tty: bool = False,
        environment: Mapping[str, str] | None = None,
        root: bool = False,
    ) -> Execution:
        running = self._running.get(name)
        if running is None:
            raise CannotStart(f"The container {name} does not run.")
        program = running.program
        target = str(self._top(running))
        # Within the container's limits, and without what our own children are known by.
        groups = self._groups.create(_group(running.container), 0, 0)
        enter = ["/bin/sh", "-c", _ENTER, "enter", " ".join(map(shlex.quote, groups))]
        enter += [
            shutil.which("nsenter") or "nsenter",
            "--target",
            target,
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--root",
            "--wd",
        ]
        if os.geteuid() == 0:
            user, group = (0, 0) if root else (program.user, program.group)
            enter += ["--net", "--setuid", str(user), "--setgid", str(group)]
        else:
            enter += ["--user", "--preserve-credentials"]
        self._commands += 1
        made = Command(self._supervisor, f"command {self._commands} in {name}")
        given = {**program.environment, **({"TERM": "xterm"} if tty else {}), **(environment or {})}
        try:
            await made.start([*enter, "--", *argv], given, tty)
        except OSError as error:
            raise CannotStart(str(error)) from None
        return made

    async def usage(self, names: Sequence[str]) -> dict[str, Usage]:
        found = {}
        for name in names:
            if (running := self._running.get(name)) is not None:
                used = cgroups.usage_of(running.state.pid) if self._groups.memory else _used(running.state.pid)
                if used is not None:
                    found[name] = used
        return found

    # What happens

    def _end(self, name: str) -> None:
        """A container's process has ended."""
        running = self._running.pop(name, None)
        if running is None:
            return
        for stream in _STREAMS:
            self._follower.finish(self._folder / "containers" / name / stream)
        state = self._ended_state(name, running.state, running.stopped)
        self._exited(state)
        running.ended.set()

    def _ended_state(self, name: str, state: ContainerState, stopped: bool) -> ContainerState:
        folder = self._folder / "containers" / name
        try:
            code = int((folder / "exit").read_text())
        except (OSError, ValueError):
            # Killed together with what would have written it down.
            code = _KILLED
        group = f"{state.pod}/{name}"
        reason = OUT_OF_MEMORY if self._groups.out_of_memory(group) and not stopped else ""
        ended = replace(state, pid=0, exit_code=code, reason=reason)
        written = json.loads((folder / "container.json").read_text())
        put(folder / "container.json", {**written, "state": asdict(ended)})
        self._groups.remove(group)
        return ended

    async def _recover(self, name: str) -> ContainerState | None:
        """Take up one container that an earlier control plane has started."""
        try:
            written = self._spec(name)
        except OSError:
            # Its start was not completed: nobody knows of it.
            await self._kill_leftover(name)
            await self._delete(name)
            return None
        state = msgspec.convert(written["state"], ContainerState)
        if state.exit_code is not None:
            return state
        running = _Running(
            state,
            msgspec.convert(written["container"], Container),
            msgspec.convert(written["program"], sandbox.Program),
        )
        if self._supervisor.has_leftover(_process(name)):
            self._running[name] = running
            self._follow(name)
            self._start(name, self._folder / "containers" / name, ["false"], ())
            return state
        self._follow(name)
        for stream in _STREAMS:
            self._follower.finish(self._folder / "containers" / name / stream)
        return self._ended_state(name, state, stopped=False)

    async def _kill_leftover(self, name: str) -> None:
        if self._supervisor.has_leftover(_process(name)):
            self._start(name, self._folder, ["false"], ())
            await self._supervisor.stop(_process(name), grace=0)

    def _follow(self, name: str) -> None:
        folder = self._folder / "containers" / name
        for stream in _STREAMS:
            self._follower.add(folder / stream, lambda line, stream=stream: self._logs(name, stream, line))  # type: ignore[misc]

    # Images and volumes

    async def ensure_image(self, reference: str, credentials: tuple[str, str] | None = None, digest: str = "") -> str:
        return (await self._images.pull(reference, credentials, digest)).digest

    async def load_image(self, folder: Path, reference: str) -> None:
        await self._images.load(folder, reference)

    async def remove_volume(self, name: str) -> None:
        for one in await asyncio.to_thread(self._names, "containers"):
            if any(mount["source"] == name for mount in self._spec(one)["container"]["mounts"]):
                raise CannotStart(f"The volume {name} is in use by {one}.")
        await asyncio.to_thread(shutil.rmtree, self._folder / "volumes" / name, ignore_errors=True)

    def _mount(self, mount: Mount) -> Mount:
        if mount.source.startswith("/"):
            if not os.path.exists(mount.source):
                raise CannotStart(f"There is nothing to mount at {mount.source}.")
            return mount
        volume = self._folder / "volumes" / mount.source
        volume.mkdir(exist_ok=True)
        return replace(mount, source=str(volume))

    # Small steps

    def _spec(self, name: str) -> dict[str, Any]:
        return json.loads((self._folder / "containers" / name / "container.json").read_text())  # type: ignore[no-any-return]

    def _pod_of(self, name: str) -> str:
        """The pod of a container, or nothing when that has been removed in the meantime."""
        try:
            return str(self._spec(name)["container"]["pod"])
        except FileNotFoundError:
            return ""

    def _child(self, name: str) -> Child | None:
        return next((child for child in self._supervisor.children if child.name == _process(name)), None)

    async def _gone(self, name: str) -> None:
        await self._supervisor.stop(_process(name), grace=_LONGEST_END)

    async def _begun(self, running: _Running) -> None:
        """Wait until the image's command runs: bubblewrap tells of its child before it has made its file system, and a
        command would find nothing there."""
        for _ in range(_STEPS):
            try:
                if os.path.basename(os.readlink(f"/proc/{self._top(running)}/exe")) != "bwrap":
                    return
            except OSError:
                return  # it has ended
            await asyncio.sleep(_STEP)

    def _top(self, running: _Running) -> int:
        """The process that the image's command has become."""
        if running.container.init:
            with contextlib.suppress(psutil.Error, IndexError):
                return psutil.Process(running.state.pid).children()[0].pid
        return running.state.pid

    async def _delete(self, name: str) -> None:
        if pod := await asyncio.to_thread(self._pod_of, name):
            self._groups.remove(f"{pod}/{name}")
        await asyncio.to_thread(self._delete_folder, name)

    def _delete_folder(self, name: str) -> None:
        folder = self._folder / "containers" / name
        ran_on_image = (folder / "image").is_symlink()
        shutil.rmtree(folder, ignore_errors=True)
        if ran_on_image:
            self._drop_images()

    def _drop_images(self) -> None:
        """Remove the images that were replaced while containers ran on them, once none does."""
        links = (self._folder / "containers" / name / "image" for name in self._names("containers"))
        self._images.drop(Path(os.readlink(link)) for link in links if link.is_symlink())


def _unheard(state: ContainerState) -> None:
    """An end that nobody asks for."""


def _group(container: Container) -> str:
    """A container's control group, in its pod's."""
    return f"{container.pod}/{container.name}"


def _process(name: str) -> str:
    return f"container {name}"


def _signal(name: str) -> int:
    if name.isdecimal():
        return int(name)
    return getattr(signal, name if name.startswith("SIG") else f"SIG{name}", signal.SIGTERM)


async def _told(descriptor: int) -> int:
    """The id of a sandbox's first process, as bubblewrap tells it; 0 when it has ended without a word."""
    pipe, said = Pipe(descriptor), b""
    try:
        while b"}" not in said:
            if not (piece := await pipe.read()):
                return 0
            said += piece
        return int(json.loads(said)["child-pid"])
    finally:
        pipe.close()


def _used(pid: int) -> Usage | None:
    """What a container's processes use, counted one by one; of those that have ended nothing is known."""
    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
        cpu = sum(sum(process.cpu_times()[:2]) for process in family)
        memory = sum(process.memory_info().rss for process in family)
    except psutil.Error:
        return None
    return Usage(cpu, memory, memory)
