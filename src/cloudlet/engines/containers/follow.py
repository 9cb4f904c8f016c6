"""Following files that grow: the kernel says when, and the place is kept, so that after a kill nothing is lost."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloudlet.engines.inotify import Watcher

_PIECE = 256 * 1024
_LONGEST_LINE = 1024 * 1024
_GIVE_BACK = 16 * 1024 * 1024  # bytes told before their disk space is given back
_PUNCH_HOLE = 1 | 2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class _File:
    path: Path
    descriptor: int
    place: int  # of the file that keeps how far it has been told
    line: Callable[[bytes], object]
    watch: int
    offset: int = 0
    given_back: int = 0
    rest: bytes = b""


class Follower:
    """Tells the lines of any number of growing files, as they come. Nothing is polled."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._watcher = Watcher(self._changed)

    def add(self, path: Path, line: Callable[[bytes], object]) -> None:
        """Follow a file, which is made where it is not there, from where it was told last. Raises OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        place = os.open(path.with_suffix(".place"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        watch = self._watcher.add(path)
        file = self._files[watch] = _File(path, descriptor, place, line, watch)
        file.offset = int(os.pread(place, 32, 0) or 0)
        self._read(file)

    def finish(self, path: Path) -> None:
        """Nothing more will come: tell the rest and let the file go."""
        for file in [file for file in self._files.values() if file.path == path]:
            self._read(file)
            if file.rest:
                file.line(file.rest)
                file.offset, file.rest = file.offset + len(file.rest), b""
                self._keep(file)
            self._close(file)

    def close(self) -> None:
        """Let everything go; another goes on from here."""
        for file in list(self._files.values()):
            self._close(file)
        self._watcher.close()

    def _changed(self, watch: int) -> None:
        if (file := self._files.get(watch)) is not None:
            self._read(file)

    def _read(self, file: _File) -> None:
        while piece := os.pread(file.descriptor, _PIECE, file.offset + len(file.rest)):
            *lines, file.rest = (file.rest + piece).split(b"\n")
            for line in lines:
                file.line(line)
                file.offset += len(line) + 1
            if len(file.rest) > _LONGEST_LINE:
                file.line(file.rest)
                file.offset, file.rest = file.offset + len(file.rest), b""
            self._keep(file)
            if file.offset - file.given_back > _GIVE_BACK:
                _libc.fallocate(file.descriptor, _PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(file.offset))
                file.given_back = file.offset

    def _keep(self, file: _File) -> None:
        os.pwrite(file.place, b"%-20d" % file.offset, 0)

    def _close(self, file: _File) -> None:
        del self._files[file.watch]
        self._watcher.remove(file.watch)
        os.close(file.descriptor)
        os.close(file.place)
