"""Child processes: every one is accounted for, ends with the cloud, and is adopted, not doubled, after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

# Every child carries these in its environment: a child is found again by what it is, not by a file that may be stale.
CLOUD_VARIABLE = "CLOUDLET_CLOUD_ID"
NAME_VARIABLE = "CLOUDLET_PROCESS"

_LAST_WAIT = 5.0  # seconds in which what was killed must be gone


@dataclass(slots=True)
class Child:
    """A running child process. ``adopted`` says that an earlier run of the cloud started it."""

    name: str
    pid: int
    created: float
    adopted: bool
    process: subprocess.Popen[bytes] | None = None
    exit_code: int | None = None  # known only for a child that this run started

    @property
    def stdout(self) -> IO[bytes] | None:
        """The child's standard output where it was asked for as a pipe."""
        return self.process.stdout if self.process else None


class Supervisor:
    """Starts, watches and ends the children of one cloud.

    Exits are noticed through a pidfd, without polling. ``lasting`` children survive a crash of the control plane and
    are adopted by ``start`` with the same name; all others are killed by the kernel when the control plane dies, and
    by ``sweep`` where the system cannot do that.
    """

    def __init__(self, cloud_id: str) -> None:
        self._cloud_id = cloud_id
        self._children: dict[str, Child] = {}
        self._leftovers: dict[str, psutil.Process] = {}
        self._exits: dict[str, Callable[[Child], object]] = {}

    @property
    def cloud_id(self) -> str:
        """The cloud's name, unique on this machine: whatever outlives the control plane carries it."""
        return self._cloud_id

    @property
    def children(self) -> list[Child]:
        """The children that run now."""
        return list(self._children.values())

    def find_leftovers(self) -> None:
        """Look for children of an earlier run of this cloud. Reads /proc once; call off the event loop."""
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except (psutil.Error, OSError):
                continue
            name = environment.get(NAME_VARIABLE)
            # Grandchildren inherit the variables: only the top of a family stands for the name.
            if environment.get(CLOUD_VARIABLE) == self._cloud_id and name and process.pid != os.getpid():
                known = self._leftovers.get(name)
                if known is None or process.create_time() < known.create_time():
                    self._leftovers[name] = process

    def has_leftover(self, name: str) -> bool:
        """Whether an earlier run has left a child of that name which still runs, for ``start`` to adopt."""
        leftover = self._leftovers.get(name)
        return leftover is not None and leftover.is_running() and leftover.status() != psutil.STATUS_ZOMBIE

    def sweep(self) -> int:
        """Kill the leftovers that nobody adopted, and return how many there were."""
        count = 0
        # One at a time: another thread may adopt one meanwhile.
        with contextlib.suppress(KeyError):
            while True:
                _, process = self._leftovers.popitem()
                _kill_family(process)
                count += 1
        return count

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        lasting: bool = False,
        on_exit: Callable[[Child], object] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.DEVNULL,
        stderr: int | IO[bytes] | None = subprocess.STDOUT,
        pass_fds: Sequence[int] = (),
    ) -> Child:
        """Start a child, or adopt the lasting one of that name. Raises OSError when it cannot be started.

        ``env`` is its whole environment. ``on_exit`` is called on the event loop once it has ended,
        also when it was stopped.
        """
        if name in self._children:
            raise ValueError(f"a child named {name} runs already")
        leftover = self._leftovers.pop(name, None)
        if leftover is not None and lasting and leftover.is_running():
            child = Child(name, leftover.pid, leftover.create_time(), adopted=True)
        else:
            if leftover is not None:
                _kill_family(leftover)
            process = subprocess.Popen(
                argv,
                env={**env, CLOUD_VARIABLE: self._cloud_id, NAME_VARIABLE: name},
                cwd=cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                start_new_session=True,
                preexec_fn=None if lasting else _die_with_parent(),
            )
            child = Child(name, process.pid, psutil.Process(process.pid).create_time(), adopted=False, process=process)
        self._children[name] = child
        if on_exit is not None:
            self._exits[name] = on_exit
        self._watch(child)
        return child

    def stop(self, name: str, grace: float = 2.0) -> asyncio.Future[None]:
        """Ask a child to end, kill its family after ``grace`` seconds, and resolve once it is gone."""
        return asyncio.ensure_future(self._stop(name, grace))

    async def stop_all(self, grace: float = 2.0) -> None:
        """Stop every child, all at once."""
        await asyncio.gather(*(self._stop(name, grace) for name in list(self._children)))

    async def _stop(self, name: str, grace: float) -> None:
        child = self._children.get(name)
        if child is None:
            return
        try:
            process = psutil.Process(child.pid)
        except psutil.NoSuchProcess:
            return
        loop = asyncio.get_running_loop()
        gone = loop.create_future()
        previous = self._exits.get(name)

        def ended(child: Child) -> None:
            if previous is not None:
                previous(child)
            if not gone.done():
                gone.set_result(None)

        self._exits[name] = ended
        family = _family(process)
        if grace > 0:
            _signal(family, signal.SIGTERM)
            try:
                await asyncio.wait_for(asyncio.shield(gone), grace)
            except TimeoutError:
                pass
        # The parent may have gone before those that it started, or have started more.
        family = list({member.pid: member for member in (*family, *_family(process))}.values())
        _signal(family, signal.SIGKILL)
        await gone
        if left := [member for member in family if member.is_running()]:
            await asyncio.to_thread(psutil.wait_procs, left, timeout=_LAST_WAIT)

    def _watch(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        descriptor = os.pidfd_open(child.pid)

        def ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            if child.process is not None:
                child.exit_code = child.process.wait()
            self._children.pop(child.name, None)
            if on_exit := self._exits.pop(child.name, None):
                on_exit(child)

        loop.add_reader(descriptor, ended)


def new_cloud_id() -> str:
    """A name for one data directory's cloud, unique on this machine."""
    return secrets.token_hex(8)


def _family(process: psutil.Process) -> list[psutil.Process]:
    """A process and its descendants; nothing when it is gone."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kill_family(process: psutil.Process) -> None:
    _signal(_family(process), signal.SIGKILL)


def _signal(family: list[psutil.Process], number: int) -> None:
    """Signal all, the parent first so that it starts no more of them."""
    for member in family:
        try:
            member.send_signal(number)
        except psutil.NoSuchProcess:
            pass


def _die_with_parent() -> Callable[[], None] | None:
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None

    def set_death_signal() -> None:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)

    return set_death_signal
