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
        if any(path.exists() for path in translate.sockets(dict(os.environ), one)):
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
