"""The lines of a file as they are written: Envoy's access log on its way to the task's log."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

_IN_MODIFY = 0x2
_IN_NONBLOCK = 0x800
_LARGE = 4 * 1024 * 1024  # bytes after which the file is begun anew


class Lines:
    """Follows one file. The kernel says when it has grown; nothing polls."""

    def __init__(self, file: Path, take: Callable[[bytes], None]) -> None:
        self._file = file
        self._take = take
        self._rest = b""
        self._watching = -1
        self._reading = -1

    def start(self) -> None:
        """Begin with what is written from now on."""
        self._file.touch()
        library = ctypes.CDLL(None, use_errno=True)
        self._watching = library.inotify_init1(_IN_NONBLOCK)
        if self._watching < 0 or library.inotify_add_watch(self._watching, bytes(self._file), _IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {self._file}")
        self._reading = os.open(self._file, os.O_RDWR)
        os.lseek(self._reading, 0, os.SEEK_END)
        asyncio.get_running_loop().add_reader(self._watching, self._grown)

    def stop(self) -> None:
        """Take what is still there and end."""
        if self._watching >= 0:
            asyncio.get_running_loop().remove_reader(self._watching)
            self._read()
            os.close(self._watching)
            os.close(self._reading)
            self._watching = -1

    def _grown(self) -> None:
        try:
            os.read(self._watching, 65536)
        except BlockingIOError:
            return
        self._read()
        if os.lseek(self._reading, 0, os.SEEK_CUR) > _LARGE:
            # Envoy appends, so it goes on at the new end.
            os.ftruncate(self._reading, 0)
            os.lseek(self._reading, 0, os.SEEK_SET)

    def _read(self) -> None:
        while data := os.read(self._reading, 1 << 16):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(line)
