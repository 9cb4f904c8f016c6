"""Images that are folders of this machine: a root file system, or an application on this machine's own programs."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from cloudlet.engines.containers.api import CannotStart, Container, Mount

APPLICATION = "/app"
_ROOT_SIGNS = ("bin/sh", "usr/bin", "etc/passwd", "lib", "lib64")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
# Of /etc only what programs need to trust certificates, to know users and to find their libraries.
_ETC = (
    *("alternatives", "ca-certificates", "crypto-policies", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"),
    *("localtime", "nsswitch.conf", "passwd", "pki", "ssl", "java-11-openjdk", "java-17-openjdk", "java-21-openjdk"),
)


def is_application(folder: Path) -> bool:
    """Whether a folder has no programs of its own, so that it runs on this machine's."""
    return not any((folder / sign).exists() for sign in _ROOT_SIGNS)


def system() -> list[str]:
    """What an application sees of this machine, read-only."""
    return [path for path in (*_SYSTEM, *(f"/etc/{name}" for name in _ETC)) if os.path.exists(path)]


def application(folder: Path) -> list[Mount]:
    """Where an application's own files are."""
    return [Mount(str(folder), APPLICATION)]


def prepared(container: Container) -> Container:
    """An application's container, in its folder and with this machine's programs. Raises CannotStart."""
    environment = {"PATH": _path(), **container.environment}
    argv = [*(container.entrypoint or ()), *(container.command or ())]
    if not argv:
        raise CannotStart(f"{container.image} is a folder without a command of its own: give one.")
    folder = container.working_dir or APPLICATION
    return replace(container, environment=environment, working_dir=folder, entrypoint=argv, command=[])


def _path() -> str:
    """This machine's search path, without the folders that an application does not see."""
    given = os.environ.get("PATH", "").split(":")
    return (
        ":".join(one for one in given if f"{one}/".startswith(tuple(f"{root}/" for root in _SYSTEM))) or "/usr/bin:/bin"
    )


def fingerprint(folder: Path) -> str:
    """A name for what a folder holds now: it changes with any file's name, size or time. Walks it all."""
    digest = hashlib.sha256()
    for top, names, files in os.walk(folder):
        names.sort()
        for name in sorted(files):
            facts = os.lstat(os.path.join(top, name))
            entry = (os.path.relpath(top, folder), name, facts.st_size, facts.st_mtime_ns, facts.st_mode)
            digest.update(repr(entry).encode())
    return digest.hexdigest()[:32]
