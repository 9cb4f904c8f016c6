"""Files that grow: the kernel says when (inotify(7)), so that nothing is polled."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

_IN_MODIFY = 2
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of a name

_libc = ctypes.CDLL(None, use_errno=True)


class Watcher:
    """One inotify instance, of which Linux gives a user few, for any number of files."""

    def __init__(self, changed: Callable[[int], None]) -> None:
        """``changed`` is called on the event loop with a file's watch whenever it has been written. Raises OSError."""
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self._changed = changed
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def add(self, path: Path) -> int:
        """Watch a file that is there. Raises OSError."""
        watch: int = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_MODIFY)
        if watch < 0:
            raise OSError(ctypes.get_errno(), f"cannot follow {path}")
        return watch

    def remove(self, watch: int) -> None:
        """Watch a file no more."""
        _libc.inotify_rm_watch(self._descriptor, watch)

    def close(self) -> None:
        """Let everything go."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _read(self) -> None:
        try:
            events = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        start, changed = 0, set()
        while start < len(events):
            watch, _, _, length = _EVENT.unpack_from(events, start)
            changed.add(watch)
            start += _EVENT.size + length
        for watch in changed:
            self._changed(watch)
