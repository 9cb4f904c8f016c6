"""The lines of files as they are written: Envoy's logs on their way to the task's log."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

_IN_MODIFY = 0x2
_IN_NONBLOCK = 0x800
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of a name
_LARGE = 4 * 1024 * 1024  # bytes after which a file is begun anew


class _File:
    """One file that is followed."""

    def __init__(self, path: Path, take: Callable[[bytes], None]) -> None:
        path.touch()
        self._take = take
        self._rest = b""
        self._reading = os.open(path, os.O_RDWR)
        os.lseek(self._reading, 0, os.SEEK_END)

    def read(self) -> None:
        while data := os.read(self._reading, 1 << 16):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(line)
        if os.lseek(self._reading, 0, os.SEEK_CUR) > _LARGE:
            # Envoy appends, so it goes on at the new end.
            os.ftruncate(self._reading, 0)
            os.lseek(self._reading, 0, os.SEEK_SET)

    def close(self) -> None:
        os.close(self._reading)


class Lines:
    """Follows any number of files with one inotify instance, of which Linux gives a user few. Nothing polls."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watching = -1
        self._files: dict[int, _File] = {}

    def follow(self, path: Path, take: Callable[[bytes], None]) -> Callable[[], None]:
        """Give ``take`` each line that is written from now on. What is returned takes what is left and ends it."""
        if self._watching < 0:
            self._watching = self._checked(self._libc.inotify_init1(_IN_NONBLOCK), path)
            asyncio.get_running_loop().add_reader(self._watching, self._grown)
        file = _File(path, take)
        watch = self._checked(self._libc.inotify_add_watch(self._watching, bytes(path), _IN_MODIFY), path)
        self._files[watch] = file

        def end() -> None:
            if self._files.pop(watch, None) is not None:
                self._libc.inotify_rm_watch(self._watching, watch)
                file.read()
                file.close()

        return end

    def stop(self) -> None:
        """Take what is still there and end."""
        for file in self._files.values():
            file.read()
            file.close()
        self._files.clear()
        if self._watching >= 0:
            asyncio.get_running_loop().remove_reader(self._watching)
            os.close(self._watching)
            self._watching = -1

    def _grown(self) -> None:
        try:
            events = os.read(self._watching, 65536)
        except BlockingIOError:
            return
        position, grown = 0, set()
        while position < len(events):
            watch, _, _, length = _EVENT.unpack_from(events, position)
            grown.add(watch)
            position += _EVENT.size + length
        for watch in grown & self._files.keys():
            self._files[watch].read()

    def _checked(self, answer: int, path: Path) -> int:
        if answer < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {path}")
        return answer
