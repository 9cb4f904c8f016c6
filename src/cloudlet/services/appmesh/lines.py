"""The lines of files as they are written: Envoy's logs on their way to the task's log."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cloudlet.engines.inotify import Watcher

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
        self._watcher: Watcher | None = None
        self._files: dict[int, _File] = {}

    def follow(self, path: Path, take: Callable[[bytes], None]) -> Callable[[], None]:
        """Give ``take`` each line that is written from now on. What is returned takes what is left and ends it."""
        watcher = self._watcher = self._watcher or Watcher(self._grown)
        file = _File(path, take)
        watch = watcher.add(path)
        self._files[watch] = file

        def end() -> None:
            if self._files.pop(watch, None) is not None:
                watcher.remove(watch)
                file.read()
                file.close()

        return end

    def stop(self) -> None:
        """Take what is still there and end."""
        for file in self._files.values():
            file.read()
            file.close()
        self._files.clear()
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def _grown(self, watch: int) -> None:
        if (file := self._files.get(watch)) is not None:
            file.read()
