"""What the kernel counts and limits for a group of processes: version 1, version 2, or both beside each other."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import dataclass
from pathlib import Path

from cloudlet.engines.containers.api import Usage

_PROC = Path("/proc")
_PERIOD = 100_000  # microseconds


@dataclass(frozen=True, slots=True)
class Mounts:
    """Where controllers are mounted: of version 1 each at a place of its own, version 2 at one for all."""

    old: dict[str, str]
    new: str


@functools.cache
def mounts() -> Mounts:
    """Where this machine has its controllers."""
    old: dict[str, str] = {}
    new = ""
    for line in (_PROC / "self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup":
            for option in options.split(","):
                old.setdefault(option, before.split(" ")[4])
        elif kind == "cgroup2":
            new = new or before.split(" ")[4]
    return Mounts(old, new)


class Groups:
    """The groups of one cloud's containers, where this machine lets us make them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.cpu, self.memory = self._try()

    def create(self, name: str, cpu: float, memory: int, shares: int = 0) -> list[str]:
        """Make a group with limits (CPUs, bytes; 0 is none); the files that a process of it must be written to."""
        found = []
        for controller, folder in self._folders().items():
            group = f"{folder}/{name}"
            try:
                _make(controller, group)
                self._limit(controller, group, cpu, memory)
                self._share(controller, group, shares)
            except OSError:
                continue
            found.append(f"{group}/cgroup.procs")
        return list(dict.fromkeys(found))

    def create_pod(self, pod: str, cpu: float, memory: int) -> None:
        """Make the group that those of a pod's containers are in: its limits are of their sum."""
        for controller, folder in self._folders().items():
            try:
                _make(controller, f"{folder}/{pod}")
                self._limit(controller, f"{folder}/{pod}", cpu, memory)
            except OSError:
                continue

    def out_of_memory(self, name: str) -> bool:
        """Whether the kernel has ended a process of the group because of its limit."""
        for folder in self._folders().values():
            for file in ("memory.oom_control", "memory.events"):
                try:
                    lines = _read(f"{folder}/{name}", file).splitlines()
                except OSError:
                    continue
                if any(key == "oom_kill" and number != "0" for key, number in map(str.split, lines)):
                    return True
        return False

    def remove(self, name: str = "") -> None:
        """Remove a group in which nothing runs any more, with those in it, or that of all; nothing when it is gone."""
        for folder in self._folders().values():
            group = f"{folder}/{name}" if name else folder
            with contextlib.suppress(OSError):
                for inner in os.scandir(group):
                    if inner.is_dir():
                        os.rmdir(inner.path)
                os.rmdir(group)

    def _try(self) -> tuple[bool, bool]:
        """Whether limits of CPU and of memory can be set here."""
        cpu = memory = False
        for controller, folder in self._folders().items():
            group = f"{folder}/try"
            try:
                _make(controller, group)
                self._limit(controller, group, 1, 2**30)
                cpu = cpu or controller in ("", "cpu")
                memory = memory or controller in ("", "memory")
            except OSError:
                continue
            finally:
                self.remove("try")
        return cpu, memory

    def _limit(self, controller: str, group: str, cpu: float, memory: int) -> None:
        if controller in ("", "cpu") and cpu:
            quota = int(cpu * _PERIOD)
            if controller:
                _write(group, "cpu.cfs_period_us", str(_PERIOD))
                _write(group, "cpu.cfs_quota_us", str(quota))
            else:
                _write(group, "cpu.max", f"{quota} {_PERIOD}")
        if controller in ("", "memory") and memory:
            if controller:
                _write(group, "memory.limit_in_bytes", str(memory))
                if os.path.exists(f"{group}/memory.memsw.limit_in_bytes"):
                    _write(group, "memory.memsw.limit_in_bytes", str(memory))
            else:
                _write(group, "memory.max", str(memory))
                if os.path.exists(f"{group}/memory.swap.max"):
                    _write(group, "memory.swap.max", "0")

    def _share(self, controller: str, group: str, shares: int) -> None:
        """Set a group's part of the CPU: 1024 is what a group has that says nothing."""
        if controller == "cpu" and shares:
            _write(group, "cpu.shares", str(shares))
        elif controller == "" and shares:
            # As the kernel's own documentation turns the one into the other.
            _write(group, "cpu.weight", str(1 + (max(2, min(shares, 262144)) - 2) * 9999 // 262142))

    def _folders(self) -> dict[str, str]:
        """Our group's folder for each controller; ``""`` is version 2, where version 1 has not got the controllers."""
        where = mounts()
        if "memory" not in where.old:
            return {"": f"{where.new}/{self._name}"} if where.new else {}
        own = dict(_groups(os.getpid()))
        # Within our own group, so that what limits us limits them.
        return {
            name: f"{where.old[name]}{own.get(name, '/').rstrip('/')}/{self._name}"
            for name in ("memory", "cpu", "cpuacct")
            if name in where.old
        }


def _make(controller: str, group: str) -> None:
    """Make a group. Controllers of version 2 must be given down from the top, each time: what was removed has none."""
    os.makedirs(group, exist_ok=True)
    if controller == "":
        top = mounts().new.rstrip("/")
        within = os.path.dirname(group).removeprefix(top).strip("/").split("/")
        for depth in range(len(within) + 1):
            above = "/".join([top, *within[:depth]])
            if not {"cpu", "memory"} <= set(_read(above, "cgroup.subtree_control").split()):
                _write(above, "cgroup.subtree_control", "+cpu +memory")


def usage_of(pid: int) -> Usage | None:
    """What the group of a process has used so far; None when the process is gone."""
    try:
        groups = dict(_groups(pid))
        received, sent = _network(pid)
    except OSError:
        return None
    where = mounts()
    try:
        if "memory" in groups and "memory" in where.old:
            memory = where.old["memory"] + groups["memory"]
            cpu = int(_read(where.old["cpuacct"] + groups["cpuacct"], "cpuacct.usage")) / 1e9
            now, peak = _read(memory, "memory.usage_in_bytes"), _read(memory, "memory.max_usage_in_bytes")
        else:
            group = where.new + groups[""]
            cpu = int(_read(group, "cpu.stat").split()[1]) / 1e6
            now = _read(group, "memory.current")
            peak = _read(group, "memory.peak") if os.path.exists(f"{group}/memory.peak") else now
    except (OSError, KeyError):
        return None
    return Usage(cpu, int(now), int(peak), received, sent)


def _groups(pid: int) -> list[tuple[str, str]]:
    """A process's group for each controller of version 1; for "" that of version 2."""
    found = []
    for line in (_PROC / str(pid) / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        found += [(name, path) for name in controllers.split(",")]
    return found


def _network(pid: int) -> tuple[int, int]:
    received = sent = 0
    for line in (_PROC / str(pid) / "net/dev").read_text().splitlines()[2:]:
        name, _, rest = line.partition(":")
        if name.strip() != "lo":
            numbers = rest.split()
            received += int(numbers[0])
            sent += int(numbers[8])
    return received, sent


def _read(folder: str, name: str) -> str:
    with open(f"{folder}/{name}") as file:
        return file.read().strip()


def _write(folder: str, name: str, text: str) -> None:
    with open(f"{folder}/{name}", "w") as file:
        file.write(text)
