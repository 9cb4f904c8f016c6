"""The bytes of objects: received as a stream, hashed on the way, kept in memory while small and in a file when large.

A file's name is an id of our own and its bytes never change. Until a transaction gives it to an object its id stands in
the table ``loose``, and again from the transaction that takes it away; whatever is loose at the start is deleted.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cloudlet.errors import AwsError
from cloudlet.http import Request
from cloudlet.services.api import Call
from cloudlet.services.s3 import checksums
from cloudlet.services.s3.checksums import Expected
from cloudlet.store import Database, Tx

# What fits into a row is stored there: one write, and no file.
INLINE = 64 * 1024
LARGEST = 5 * 1024**3
_CHUNK = 1024 * 1024

# The files that an object's bytes are in, one after the other: id and size of each.
Files = list[tuple[str, int]]
Body = bytes | AsyncIterator[bytes]


class Content(NamedTuple):
    """Received bytes: in ``body`` when they are few, else in ``files``."""

    size: int
    md5: bytes
    checksum: str
    body: bytes | None
    files: Files


async def sent(request: Request | None, body: Body) -> Body:
    """A request's own body: the bytes where it says that they are few, which is the shorter way, else the stream."""
    length = request.headers.get("content-length", "") if request is not None else ""
    if request is not None and length.isdigit() and int(length) <= INLINE:
        return await request.read(INLINE)
    return body


def adopt(tx: Tx, files: Iterable[tuple[str, int]]) -> None:
    """In the transaction that stores an object: these files are its own now."""
    for file, _ in files:
        tx.execute("DELETE FROM loose WHERE file = ?", (file,))


def release(tx: Tx, files: Iterable[tuple[str, int]]) -> None:
    """In the transaction that deletes an object: these files belong to nobody; ``Contents.discard`` deletes them."""
    tx.executemany("INSERT OR IGNORE INTO loose VALUES (?)", [(file,) for file, _ in files])


class Contents:
    """The folder of files. ``durable`` waits for the disk."""

    def __init__(
        self, db: Database, folder: Path, durable: bool, spawn: Callable[[Coroutine[Any, Any, Any], str], object]
    ) -> None:
        self._db = db
        self._folder = folder
        self._durable = durable
        self._spawn = spawn
        self._readers: Counter[str] = Counter()
        self._waiting: dict[str, Files] = {}

    async def start(self) -> None:
        """Delete what an earlier run left behind."""
        loose = await self._db.scan(lambda tx: tx.execute("SELECT file FROM loose").fetchall())
        if loose:
            await self._delete([(file, 0) for (file,) in loose])

    async def receive(self, call: Call, body: Body, expected: Expected, inline: int = INLINE) -> Content:
        """Take in a body and verify it. Raises EntityTooLarge, BadDigest and what the body's iterator raises."""
        if isinstance(body, bytes) and len(body) <= inline:
            data = body
        else:
            held: list[bytes] = []
            size = 0
            iterator = aiter(_once(body) if isinstance(body, bytes) else body)
            async for chunk in iterator:
                held.append(chunk)
                size += len(chunk)
                if size > inline:
                    return await self._receive_file(call, held, size, iterator, expected)
            if inline == 0:
                return await self._receive_file(call, held, size, iterator, expected)
            data = held[0] if len(held) == 1 else b"".join(held)
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        hasher = checksums.hasher(expected.algorithm)
        hasher.update(data)
        checksum = checksums.text(hasher.digest())
        expected.verify(call, md5, checksum)
        return Content(len(data), md5, checksum, data, [])

    async def _receive_file(
        self, call: Call, held: list[bytes], size: int, rest: AsyncIterator[bytes], expected: Expected
    ) -> Content:
        """Write aside while the next chunks arrive: at most two pieces of a mebibyte are in memory."""
        file = await self._new()
        writer = _Writer(self._path(file), expected.algorithm, self._durable)
        loop = asyncio.get_running_loop()
        work: asyncio.Future[None] | None = None
        pending = size
        try:
            async for chunk in rest:
                held.append(chunk)
                size += len(chunk)
                pending += len(chunk)
                if size > LARGEST:
                    raise AwsError(
                        "EntityTooLarge",
                        "Your proposed upload exceeds the maximum allowed size",
                        ProposedSize=size,
                        MaxSizeAllowed=LARGEST,
                    )
                if pending >= _CHUNK:
                    if work is not None:
                        await work
                    work = loop.run_in_executor(None, writer.write, held)
                    held, pending = [], 0
            if work is not None:
                await work
            await loop.run_in_executor(None, writer.finish, held)
            md5, checksum = writer.md5.digest(), checksums.text(writer.hasher.digest())
            expected.verify(call, md5, checksum)
        except BaseException:
            self._spawn(self._abandon(writer, work, file), f"s3 abandons {file}")
            raise
        return Content(size, md5, checksum, None, [(file, size)])

    async def _abandon(self, writer: _Writer, work: asyncio.Future[None] | None, file: str) -> None:
        if work is not None and not work.done():
            await asyncio.wait([work])
        await asyncio.to_thread(writer.close)
        await self._delete([(file, 0)])

    async def duplicate(self, files: Files) -> Files:
        """The same bytes under new ids, without copying them where the file system has hard links."""
        copies = [(secrets.token_hex(16), size) for _, size in files]
        pin = self.read(files, 0, 0)
        await self._db.write(lambda tx: release(tx, copies))
        try:
            await asyncio.to_thread(self._duplicate, files, copies)
        except BaseException:
            self.discard(copies)
            raise
        del pin
        return copies

    def _duplicate(self, files: Files, copies: Files) -> None:
        for (old, _), (new, _) in zip(files, copies, strict=True):
            target = self._path(new)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._path(old), target)
            except OSError:
                import shutil

                shutil.copyfile(self._path(old), target)

    def read(self, files: Files, start: int, length: int) -> Reader:
        """A stream of ``length`` bytes from ``start``. Its files stay until it is gone, whatever the object does."""
        return Reader(self, files, start, length)

    async def digests(self, data: bytes | Files, algorithm: str) -> tuple[bytes, str]:
        """The MD5 and a checksum of bytes that are stored already."""
        md5, hasher = hashlib.md5(usedforsecurity=False), checksums.hasher(algorithm)
        if isinstance(data, bytes):
            md5.update(data)
            hasher.update(data)
        else:
            async for chunk in self.read(data, 0, sum(size for _, size in data)):
                await asyncio.to_thread(md5.update, chunk)
                await asyncio.to_thread(hasher.update, chunk)
        return md5.digest(), checksums.text(hasher.digest())

    def discard(self, files: Files) -> None:
        """Delete files that a committed transaction has released, once nobody reads them."""
        if not files:
            return
        if self._readers[files[0][0]]:
            self._waiting[files[0][0]] = files
        else:
            self._spawn(self._delete(files), "s3 deletes files")

    def _pin(self, files: Files) -> None:
        self._readers[files[0][0]] += 1

    def _unpin(self, files: Files) -> None:
        first = files[0][0]
        self._readers[first] -= 1
        if not self._readers[first]:
            del self._readers[first]
            if (waiting := self._waiting.pop(first, None)) is not None:
                self.discard(waiting)

    async def _new(self) -> str:
        file = secrets.token_hex(16)
        await self._db.write(lambda tx: release(tx, [(file, 0)]))
        return file

    async def _delete(self, files: Files) -> None:
        await asyncio.to_thread(self._unlink, files)
        await self._db.write(lambda tx: adopt(tx, files), long=len(files) > 100)

    def _unlink(self, files: Files) -> None:
        for file, _ in files:
            self._path(file).unlink(missing_ok=True)

    def _path(self, file: str) -> Path:
        return self._folder / file[:2] / file


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _Writer:
    """A file that is being written, in a thread."""

    def __init__(self, path: Path, algorithm: str, durable: bool) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.hasher = checksums.hasher(algorithm)
        self._path = path
        self._durable = durable
        self._descriptor = -1

    def write(self, chunks: list[bytes]) -> None:
        if self._descriptor < 0:
            if not self._path.parent.is_dir():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if self._durable:
                    _sync_folder(self._path.parent.parent)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        data = b"".join(chunks)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.md5.update(data)
        self.hasher.update(data)

    def finish(self, chunks: list[bytes]) -> None:
        self.write(chunks)
        if self._durable:
            os.fsync(self._descriptor)
            _sync_folder(self._path.parent)
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Reader:
    """Bytes from files, a mebibyte at a time, the next one read while this one is sent."""

    def __init__(self, contents: Contents, files: Files, start: int, length: int) -> None:
        self._contents = contents
        self._files = files
        self._left = length
        self._number = 0
        self._offset = start
        while self._number < len(files) - 1 and self._offset >= files[self._number][1]:
            self._offset -= files[self._number][1]
            self._number += 1
        self._descriptor = -1
        self._next: asyncio.Future[bytes] | None = None
        self._loop = asyncio.get_running_loop()
        contents._pin(files)

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        if not self._left and self._next is None:
            raise StopAsyncIteration
        data = await (self._next or self._read_ahead())
        self._next = self._read_ahead() if self._left else None
        return data

    def _read_ahead(self) -> asyncio.Future[bytes]:
        return self._loop.run_in_executor(None, self._read)

    def _read(self) -> bytes:
        while self._offset >= self._files[self._number][1]:
            self._close()
            self._number += 1
            self._offset = 0
        file, size = self._files[self._number]
        if self._descriptor < 0:
            self._descriptor = os.open(self._contents._path(file), os.O_RDONLY | os.O_CLOEXEC)
        data = os.pread(self._descriptor, min(_CHUNK, self._left, size - self._offset), self._offset)
        if not data:
            raise EOFError(f"the file {file} of an object is shorter than it was written")
        self._offset += len(data)
        self._left -= len(data)
        return data

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self._close()
        # The last reference may be a thread's that reads ahead for a client that has gone.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._contents._unpin, self._files)
