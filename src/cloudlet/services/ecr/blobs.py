"""The bytes of layers: one file each, named by its SHA-256, in the folder of its repository.

An upload grows in a file of its own, which is what is known of it, also after a restart; complete and verified it is
renamed into place. A layer that another repository has already is linked, not copied.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

_CHUNK = 1024 * 1024
_ABANDONED = 86_400.0  # seconds after which nobody will go on with an upload


class Blobs:
    """The folder of layers. ``durable`` waits for the disk."""

    def __init__(self, folder: Path, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        # The hash of what has arrived of an upload, and of how many bytes; made again from the file after a restart.
        self._hashes: dict[Path, tuple[int, Any]] = {}
        self._locks: dict[Path, asyncio.Lock] = {}

    def begin(self, number: int) -> str:
        """Open an upload and return its id."""
        id = str(uuid.uuid4())
        path = self._upload(number, id)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._hashes[path] = (0, hashlib.sha256())
        return id

    def received(self, number: int, id: str) -> int | None:
        """How many bytes of an upload have arrived; None when there is no such upload."""
        try:
            return self._upload(number, id).stat().st_size
        except OSError:
            return None

    async def append(self, number: int, id: str, body: AsyncIterator[bytes]) -> int:
        """Write what comes behind what has arrived; how many bytes that are in all."""
        path = self._upload(number, id)
        async with self._locks.setdefault(path, asyncio.Lock()):
            waiting: list[bytes] = []
            size = 0
            async for chunk in body:
                waiting.append(chunk)
                size += len(chunk)
                if size >= _CHUNK:
                    await asyncio.to_thread(self._write, path, waiting)
                    waiting, size = [], 0
            await asyncio.to_thread(self._write, path, waiting)
            return path.stat().st_size

    async def finish(self, number: int, id: str, digest: str) -> int | None:
        """Verify an upload and put it in place; its size, or None when its bytes have another digest."""
        path = self._upload(number, id)
        async with self._locks.setdefault(path, asyncio.Lock()):
            size = await asyncio.to_thread(self._finish, path, self._path(number, digest), digest)
        if size is not None:
            self._locks.pop(path, None)
        return size

    def cancel(self, number: int, id: str) -> None:
        """Forget an upload."""
        path = self._upload(number, id)
        path.unlink(missing_ok=True)
        self._hashes.pop(path, None)
        self._locks.pop(path, None)

    def link(self, source: int, target: int, digest: str) -> None:
        """Give a repository another one's layer."""
        new = self._path(target, digest)
        new.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self._path(source, digest), new)
        except FileExistsError:
            pass

    def give(self, number: int, digest: str, folder: Path) -> None:
        """Link a layer's file into a folder, under its SHA-256."""
        path = self._path(number, digest)
        os.link(path, folder / path.name)

    def delete(self, number: int, digest: str) -> None:
        """Delete a layer's file."""
        self._path(number, digest).unlink(missing_ok=True)

    def drop(self, number: int) -> None:
        """Delete a repository's folder. Blocks."""
        shutil.rmtree(self._folder / str(number), ignore_errors=True)

    async def read(self, number: int, digest: str, start: int, length: int) -> AsyncIterator[bytes]:
        """Bytes of a layer, a mebibyte at a time."""
        descriptor = os.open(self._path(number, digest), os.O_RDONLY | os.O_CLOEXEC)
        try:
            while length:
                data = await asyncio.to_thread(os.pread, descriptor, min(_CHUNK, length), start)
                if not data:
                    raise EOFError(f"the layer {digest} is shorter than it was pushed")
                start, length = start + len(data), length - len(data)
                yield data
        finally:
            os.close(descriptor)

    def sweep(self, known: set[tuple[int, str]], now: float) -> None:
        """Delete uploads that were given up, and files that a kill has parted from their rows. Blocks."""
        for path in self._folder.glob("*/sha256/*"):
            if (int(path.parent.parent.name), f"sha256:{path.name}") not in known:
                path.unlink(missing_ok=True)
        for path in self._folder.glob("*/uploads/*"):
            if path.stat().st_mtime < now - _ABANDONED:
                path.unlink(missing_ok=True)

    def _write(self, path: Path, chunks: list[bytes]) -> None:
        done, sha = self._hash(path)
        data = b"".join(chunks)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        sha.update(data)
        self._hashes[path] = (done + len(data), sha)

    def _finish(self, path: Path, target: Path, digest: str) -> int | None:
        size, sha = self._hash(path)
        if f"sha256:{sha.hexdigest()}" != digest:
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._durable:
            _sync(path)
        path.rename(target)
        if self._durable:
            _sync(target.parent)
        self._hashes.pop(path, None)
        return size

    def _hash(self, path: Path) -> tuple[int, Any]:
        """The hash of an upload's file; read anew where bytes are in it that this process did not see."""
        known = self._hashes.get(path)
        if known is not None and known[0] == path.stat().st_size:
            return known
        with path.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256")
            return file.tell(), sha

    def _path(self, number: int, digest: str) -> Path:
        return self._folder / str(number) / "sha256" / digest.removeprefix("sha256:")

    def _upload(self, number: int, id: str) -> Path:
        return self._folder / str(number) / "uploads" / id


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
