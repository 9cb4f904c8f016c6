"""What the kernel counts and limits for a group of processes: version 1, version 2, or both beside each other."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from cloudlet.engines.containers.api import Usage

_PROC = Path("/proc")


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
