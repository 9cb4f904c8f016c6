"""A proxy apart from us: inside a network namespace, as a user who may do nothing but listen and read."""

from __future__ import annotations

import os
import random
from collections.abc import Container, Sequence
from pathlib import Path

UID = 1337
# Users that nobody else is likely to be.
_FIRST, _USERS = 1_337_000, 1_000_000


def own_user(taken: Container[int] = ()) -> int:
    """A user for one proxy alone: Linux counts inotify instances by user, and Envoy needs one for every file that it
    watches. Chosen by chance, since other clouds of this machine choose as well."""
    while (uid := _FIRST + random.randrange(_USERS)) in taken:
        pass
    return uid


def within(namespace: str, uid: int = UID) -> tuple[str, ...]:
    """What a proxy's command begins with; nothing where there is no namespace.

    It may read what it is given, wherever that lies, and listen on every port; apart from that it may do nothing.
    """
    if not namespace:
        return ()
    may = "+dac_read_search,+net_bind_service"
    return (
        *("nsenter", f"--net={namespace}", "setpriv", f"--reuid={uid}", f"--regid={uid}"),
        *("--clear-groups", f"--inh-caps={may}", f"--ambient-caps={may}", "--"),
    )


def owned(folder: Path, uid: int = UID, files: Sequence[str] = ()) -> None:
    """Make a proxy's folder, where it may write its socket and these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (folder / name).touch()
    if os.geteuid() == 0:
        for path in (folder, *(folder / name for name in files)):
            os.chown(path, uid, uid)
