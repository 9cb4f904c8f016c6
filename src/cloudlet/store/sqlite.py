"""The store on SQLite: one file for each service, in WAL mode, one writer thread with group commit."""

from __future__ import annotations

import asyncio
import builtins
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import msgspec

from cloudlet.store.api import Change, Compacted, Conflict, Database, Record, Resources, Tx

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

_CHANGES_KEPT = 1024  # for watchers that come back; an older revision must list again
_SCHEMA = """
CREATE TABLE IF NOT EXISTS resource (
    kind TEXT NOT NULL, scope TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (kind, scope, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('revision', 0), ('migrations', 0);
"""


class SqliteStore:
    """The databases in one folder. ``sync`` is normal (survives kill -9), full (a power cut too) or off."""

    def __init__(self, folder: Path, sync: str = "normal") -> None:
        self._folder = folder
        self._sync = sync
        self._databases: dict[str, SqliteDatabase] = {}
        self._opening = asyncio.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    async def database(self, name: str, migrations: Sequence[str] = ()) -> Database:
        async with self._opening:
            if name not in self._databases:
                self._databases[name] = SqliteDatabase(self._folder / f"{name}.db", self._sync, migrations)
            return self._databases[name]

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.db"))

    async def close(self) -> None:
        for database in self._databases.values():
            await database.close()
        self._databases.clear()


class _Tx:
    """SQLite's transaction, with the resources that it has changed so far."""

    __slots__ = ("changes", "execute", "executemany", "overlay", "revision")

    def __init__(self, connection: sqlite3.Connection, revision: int) -> None:
        self.execute: Callable[..., Any] = connection.execute
        self.executemany: Callable[..., Any] = connection.executemany
        self.revision = revision
        self.changes: list[tuple[str, Change[Any]]] = []
        self.overlay: dict[tuple[str, str, str], Record[Any] | None] = {}

    def changed(self, kind: str, change: Change[Any]) -> None:
        self.changes.append((kind, change))
        self.overlay[kind, change.scope, change.name] = change.record

    def undo_to(self, mark: int, revision: int) -> None:
        if len(self.changes) > mark:
            del self.changes[mark:]
            self.overlay = {(kind, change.scope, change.name): change.record for kind, change in self.changes}
            self.revision = revision


class SqliteDatabase:
    """One file. Reads run on the event loop, scans on a few threads, writes on one thread that commits in groups."""

    def __init__(self, path: Path, sync: str, migrations: Sequence[str]) -> None:
        self._path = path
        self._sync = sync
        self._loop = asyncio.get_running_loop()
        self._writer = self._connect()
        try:
            self._migrate(migrations)
        except BaseException:
            self._writer.close()
            raise
        self._reader = self._connect(read_only=True)
        self._reader_tx = _Tx(self._reader, 0)
        self._scanners: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._scan_threads: ThreadPoolExecutor | None = None
        self._kinds: dict[str, _Kind[Any]] = {}
        self._revision = int(self._writer.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0])
        self._log: deque[tuple[str, Change[Any]]] = deque(maxlen=_CHANGES_KEPT)
        self._log_starts_after = self._revision
        self._pending: list[tuple[Callable[[Tx], Any], asyncio.Future[Any]]] = []
        self._busy = False
        self._closed = False
        self._batches: queue.SimpleQueue[list[tuple[Callable[[Tx], Any], asyncio.Future[Any]]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._write_batches, name=f"store-{path.stem}", daemon=True)
        self._thread.start()

    @property
    def revision(self) -> int:
        return self._revision

    def resources(self, kind: type[R]) -> Resources[R]:
        name = kind.__name__
        if name not in self._kinds:
            self._kinds[name] = _Kind(self, kind, self._reader)
        return cast("Resources[R]", self._kinds[name])

    async def read(self, fn: Callable[[Tx], T]) -> T:
        return fn(self._reader_tx)

    async def scan(self, fn: Callable[[Tx], T]) -> T:
        if self._scan_threads is None:
            self._scan_threads = ThreadPoolExecutor(4, thread_name_prefix=f"scan-{self._path.stem}")
        return await self._loop.run_in_executor(self._scan_threads, self._scan, fn)

    def _scan(self, fn: Callable[[Tx], T]) -> T:
        try:
            connection = self._scanners.get_nowait()
        except queue.Empty:
            connection = self._connect(read_only=True)
        try:
            connection.execute("BEGIN")
            try:
                return fn(_Tx(connection, 0))
            finally:
                connection.execute("COMMIT")
        finally:
            self._scanners.put(connection)

    def write(self, fn: Callable[[Tx], T]) -> asyncio.Future[T]:
        if self._closed:
            raise RuntimeError(f"{self._path.name} is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending.append((fn, future))
        if not self._busy:
            # Wait for the end of this turn of the loop: all requests that arrived together share one commit.
            self._busy = True
            self._loop.call_soon(self._send)
        return future

    def _send(self) -> None:
        batch, self._pending = self._pending, []
        self._batches.put(batch)

    def _write_batches(self) -> None:
        while (batch := self._batches.get()) is not None:
            outcome = self._write_batch(batch)
            self._loop.call_soon_threadsafe(self._committed, *outcome)

    def _write_batch(
        self, batch: list[tuple[Callable[[Tx], Any], asyncio.Future[Any]]]
    ) -> tuple[list[tuple[asyncio.Future[Any], Any, BaseException | None]], _Tx | None]:
        """Run a batch in one transaction, each function in a savepoint of its own."""
        connection = self._writer
        tx = _Tx(connection, self._revision)
        results: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for fn, future in batch:
                mark, revision = len(tx.changes), tx.revision
                connection.execute("SAVEPOINT one")
                try:
                    results.append((future, fn(cast("Tx", tx)), None))
                except Exception as error:
                    connection.execute("ROLLBACK TO one")
                    tx.undo_to(mark, revision)
                    results.append((future, None, error))
                connection.execute("RELEASE one")
            if tx.changes:
                connection.execute("UPDATE meta SET value = ? WHERE key = 'revision'", (tx.revision,))
            connection.execute("COMMIT")
        except BaseException as error:
            # A full disk or a broken file: nothing of the batch is stored, and every caller hears of it.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return [(future, None, error) for _, future in batch], None
        return results, tx

    def _committed(self, results: list[tuple[asyncio.Future[Any], Any, BaseException | None]], tx: _Tx | None) -> None:
        if tx is not None and tx.changes:
            self._revision = tx.revision
            for kind, change in tx.changes:
                if len(self._log) == _CHANGES_KEPT:
                    self._log_starts_after = self._log[0][1].revision
                self._log.append((kind, change))
                if kind in self._kinds:
                    self._kinds[kind].committed(change)
        for future, result, error in results:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if self._pending:
            self._send()
        else:
            self._busy = False

    async def close(self) -> None:
        while self._busy:
            await asyncio.wait([self.write(lambda tx: None)])
            await asyncio.sleep(0)
        self._closed = True
        self._batches.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        if self._scan_threads is not None:
            self._scan_threads.shutdown()
        while not self._scanners.empty():
            self._scanners.get().close()
        self._reader.close()
        self._writer.close()

    def _connect(self, read_only: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=10
        )
        connection.execute(f"PRAGMA synchronous = {self._sync}")
        if read_only:
            connection.execute("PRAGMA query_only = 1")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
        return connection

    def _migrate(self, migrations: Sequence[str]) -> None:
        self._writer.executescript(_SCHEMA)
        (done,) = self._writer.execute("SELECT value FROM meta WHERE key = 'migrations'").fetchone()
        for number, script in enumerate(migrations[done:], start=done + 1):
            self._writer.executescript(
                f"BEGIN; {script}; UPDATE meta SET value = {number} WHERE key = 'migrations'; COMMIT;"
            )


class _Kind(Generic[R]):
    """The resources of one kind, all of them in memory as committed."""

    def __init__(self, database: SqliteDatabase, kind: type[R], connection: sqlite3.Connection) -> None:
        self._database = database
        self._kind = kind.__name__
        self._scopes: dict[str, dict[str, Record[R]]] = {}
        self._watchers: set[asyncio.Queue[Change[R]]] = set()
        decoder = msgspec.json.Decoder(kind)
        for scope, name, revision, value in connection.execute(
            "SELECT scope, name, revision, value FROM resource WHERE kind = ?", (self._kind,)
        ):
            self._scopes.setdefault(scope, {})[name] = Record(scope, name, revision, decoder.decode(value))

    def get(self, scope: str, name: str, tx: Tx | None = None) -> Record[R] | None:
        if tx is not None:
            overlay = cast("_Tx", tx).overlay
            if (self._kind, scope, name) in overlay:
                return overlay[self._kind, scope, name]
        names = self._scopes.get(scope)
        return names.get(name) if names is not None else None

    def list(self, scope: str, prefix: str = "", tx: Tx | None = None) -> builtins.list[Record[R]]:
        names = dict(self._scopes.get(scope, ()))
        if tx is not None:
            for (kind, changed, name), record in cast("_Tx", tx).overlay.items():
                if kind == self._kind and changed == scope:
                    if record is None:
                        names.pop(name, None)
                    else:
                        names[name] = record
        return [names[name] for name in sorted(names) if name.startswith(prefix)]

    def all(self) -> builtins.list[Record[R]]:
        return [names[name] for _, names in sorted(self._scopes.items()) for name in sorted(names)]

    def put(self, tx: Tx, scope: str, name: str, value: R, expected_revision: int | None = None) -> Record[R]:
        transaction = cast("_Tx", tx)
        self._expect(tx, scope, name, expected_revision)
        transaction.revision += 1
        record = Record(scope, name, transaction.revision, value)
        tx.execute(
            "INSERT INTO resource VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (kind, scope, name) DO UPDATE SET revision = excluded.revision, value = excluded.value",
            (self._kind, scope, name, record.revision, msgspec.json.encode(value)),
        )
        transaction.changed(self._kind, Change(record.revision, scope, name, record))
        return record

    def delete(self, tx: Tx, scope: str, name: str, expected_revision: int | None = None) -> bool:
        transaction = cast("_Tx", tx)
        if self._expect(tx, scope, name, expected_revision) is None:
            return False
        transaction.revision += 1
        tx.execute("DELETE FROM resource WHERE kind = ? AND scope = ? AND name = ?", (self._kind, scope, name))
        transaction.changed(self._kind, Change(transaction.revision, scope, name, None))
        return True

    def _expect(self, tx: Tx, scope: str, name: str, expected: int | None) -> Record[R] | None:
        current = self.get(scope, name, tx)
        if expected is not None and expected != (current.revision if current else 0):
            raise Conflict(f"{self._kind} {name} is at revision {current.revision if current else 0}, not {expected}")
        return current

    async def watch(self, since: int = 0) -> AsyncIterator[Change[R]]:
        if since < self._database._log_starts_after:
            raise Compacted(since)
        changes: asyncio.Queue[Change[R]] = asyncio.Queue()
        for kind, change in self._database._log:
            if kind == self._kind and change.revision > since:
                changes.put_nowait(change)
        self._watchers.add(changes)
        try:
            while True:
                yield await changes.get()
        finally:
            self._watchers.discard(changes)

    def committed(self, change: Change[R]) -> None:
        if change.record is not None:
            self._scopes.setdefault(change.scope, {})[change.name] = change.record
        else:
            self._scopes.get(change.scope, {}).pop(change.name, None)
        for watcher in self._watchers:
            watcher.put_nowait(change)
