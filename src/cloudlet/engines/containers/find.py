"""Which container engine this machine has. ``CLOUDLET_ENGINE`` decides for the user."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cloudlet.control.supervisor import Supervisor
from cloudlet.engines.containers import translate
from cloudlet.engines.containers.api import Engine, EngineMissing

KINDS = ("docker", "podman", "processes")


def kind() -> str:
    """The engine to use: the one that the user has named, else the first that is here. Raises EngineMissing."""
    named = os.environ.get("CLOUDLET_ENGINE", "")
    if named:
        if named not in KINDS:
            raise EngineMissing(f"CLOUDLET_ENGINE is {named!r}; it must be one of: {', '.join(KINDS)}")
        return named
    for one in ("docker", "podman"):
        # A socket that belongs to others, as Docker's for whoever is not in its group, is no engine for us.
        if any(os.access(path, os.R_OK | os.W_OK) for path in translate.sockets(dict(os.environ), one)):
            return one
    if shutil.which("podman") is not None:
        return "podman"
    return "processes"


def engine(supervisor: Supervisor, folder: Path, name: str = "") -> Engine:
    """An engine, not yet started; ``folder`` is where it keeps what must outlive us. Raises EngineMissing."""
    chosen = name or kind()
    if chosen == "processes":
        from cloudlet.engines.containers import processes

        return processes.engine(supervisor, folder)
    from cloudlet.engines.containers.docker import Docker

    return Docker(supervisor, folder, chosen)


def describe() -> str:
    """The engine that would be used and what it can, in a line for ``cloudlet doctor``. Raises EngineMissing."""
    chosen = kind()
    for path in translate.sockets(dict(os.environ), chosen) if chosen != "processes" else ():
        if path.exists():
            return f"{chosen} at {path}"
    if chosen == "docker":
        raise EngineMissing("No Docker answers here; install it (apt-get install docker.io), or start it")
    if chosen == "podman":
        program = shutil.which("podman")
        if program is None:
            raise EngineMissing("Podman is not installed here; install it with: apt-get install podman")
        return f"{program}, whose API Cloudlet starts when a task needs it"
    return _processes()


def _processes() -> str:
    from cloudlet.engines.containers import cgroups
    from cloudlet.engines.containers.network import HostReach

    if shutil.which("bwrap") is None:
        raise EngineMissing("There is neither a container engine nor bwrap; install one: apt-get install podman")
    groups = cgroups.Groups(f"cloudlet-doctor-{os.getpid()}")
    groups.remove()
    able = [
        ("an address for each task", HostReach.possible(), "as root, with ip, nft and nsenter"),
        ("limits of CPU", groups.cpu, "where control groups may be written"),
        ("limits of memory", groups.memory, "where control groups may be written"),
    ]
    has = ", ".join(what for what, there, _ in able if there) or "nothing more"
    lacks = "; ".join(f"no {what} ({needs})" for what, there, needs in able if not there)
    return f"processes in sandboxes (no container engine here), with {has}" + (f"; {lacks}" if lacks else "")
