"""The store on SQLite: one file for each service, in WAL mode, with group commit.

A commit that does not wait for the disk costs less than handing it to a thread does, so it is made on the event loop at
the end of the turn; long writes, commits that wait for the disk (``full``) and checkpoints have a thread (ADR 4).
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import queue
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import msgspec

from cloudlet.store.api import Change, Compacted, Conflict, Database, Record, Resources, Tx

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)


class _Outcome:
    """A future whose result is there before anybody waits for it."""

    __slots__ = ("_error", "_result")

    def __init__(self) -> None:
        self._result: Any = None
        self._error: BaseException | None = None

    def cancelled(self) -> bool:
        return False

    def set_result(self, result: Any) -> None:
        self._result = result

    def set_exception(self, error: BaseException) -> None:
        self._error = error

    def __await__(self) -> Generator[None, None, Any]:
        if self._error is not None:
            raise self._error
        yield from ()
        return self._result


_Promise = asyncio.Future[Any] | _Outcome
_Write = tuple[Callable[[Tx], Any], _Promise]

_CHANGES_KEPT = 1024  # for watchers that come back; an older revision must list again
log = logging.getLogger("cloudlet.store")

_LOOK_AT_THE_LOG = 256  # commits between two looks at the write-ahead log's size
_LOG_IS_LONG = 4 * 1024 * 1024  # bytes after which it is copied into the database, beside the writers
_LOG_IS_TOO_LONG = 32 * 1024 * 1024  # bytes after which writers wait for that, so that it ends at all
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
    """One file. Reads and short writes run on the event loop, scans on a few threads, long writes on one."""

    def __init__(self, path: Path, sync: str, migrations: Sequence[str]) -> None:
        self._path = path
        self._log_file = path.with_name(f"{path.name}-wal")
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
        self._latest: deque[tuple[str, Change[Any]]] = deque(maxlen=_CHANGES_KEPT)
        self._latest_after = self._revision
        self._pending: list[_Write] = []
        self._long: list[_Write] = []
        self._scheduled = False
        self._in_thread = False
        self._checkpointing = False
        self._commits = 0
        self._closed = False
        self._thread: ThreadPoolExecutor | None = None

    @property
    def revision(self) -> int:
        return self._revision

    def resources(self, kind: type[R], *, lenient: bool = False) -> Resources[R]:
        name = kind.__name__
        if name not in self._kinds:
            self._kinds[name] = _Kind(self, kind, self._reader, lenient)
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

    def write(self, fn: Callable[[Tx], T], long: bool = False) -> Awaitable[T]:
        if self._closed:
            raise RuntimeError(f"{self._path.name} is closed")
        if not (self._scheduled or self._in_thread or long or self._sync == "full"):
            return self._write_at_once(fn)
        future: asyncio.Future[T] = self._loop.create_future()
        (self._long if long or self._sync == "full" else self._pending).append((fn, future))
        self._schedule()
        return future

    def _write_at_once(self, fn: Callable[[Tx], T]) -> Awaitable[T]:
        """Commit the first write of a turn right away; those that come in the same turn share the next commit."""
        self._schedule()
        outcome = _Outcome()
        self._committed(*self._write_batch([(fn, outcome)]))
        return outcome

    def _schedule(self) -> None:
        if not self._scheduled and not self._in_thread:
            # Wait for the end of this turn of the loop: all requests that arrived together share one commit.
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Commit what has come in this turn: here, or in the thread when something long is among it."""
        self._scheduled = False
        if self._in_thread:
            return
        if self._long:
            batch, self._pending, self._long = self._pending + self._long, [], []
            self._run_in_thread(lambda: self._write_batch(batch), lambda outcome: self._committed(*outcome))
        elif self._pending:
            batch, self._pending = self._pending, []
            self._committed(*self._write_batch(batch))

    def _run_in_thread(self, work: Callable[[], Any], then: Callable[[Any], object]) -> None:
        """Give the writer's connection to the thread until ``work`` is done."""
        self._in_thread = True

        def done(finished: asyncio.Future[Any]) -> None:
            self._in_thread = False
            then(finished.result())
            if self._pending or self._long:
                self._schedule()

        self._loop.run_in_executor(self._own_thread(), work).add_done_callback(done)

    def _own_thread(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{self._path.stem}")
        return self._thread

    def _look_at_the_log(self) -> None:
        """Copy a long write-ahead log into the database; only when it will not end do writers wait for it."""
        size = self._log_file.stat().st_size
        if size > _LOG_IS_TOO_LONG and not self._checkpointing:
            self._run_in_thread(
                lambda: self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone(), lambda _: None
            )
        elif size > _LOG_IS_LONG and not self._checkpointing:
            self._checkpointing = True
            self._loop.run_in_executor(self._own_thread(), self._checkpoint).add_done_callback(self._checkpointed)

    def _checkpoint(self) -> None:
        connection = self._connect()
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        connection.close()

    def _checkpointed(self, finished: asyncio.Future[None]) -> None:
        self._checkpointing = False
        finished.result()

    def _write_batch(self, batch: list[_Write]) -> tuple[list[tuple[_Promise, Any, BaseException | None]], _Tx | None]:
        """Run a batch in one transaction, each function in a savepoint of its own."""
        connection = self._writer
        tx = _Tx(connection, self._revision)
        results: list[tuple[_Promise, Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            if len(batch) == 1:
                # Alone in its transaction a write needs no savepoint: what fails takes everything with it.
                fn, future = batch[0]
                try:
                    results.append((future, fn(cast("Tx", tx)), None))
                except Exception as error:
                    connection.execute("ROLLBACK")
                    return [(future, None, error)], None
                batch = []
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

    def _committed(self, results: list[tuple[_Promise, Any, BaseException | None]], tx: _Tx | None) -> None:
        if tx is not None and tx.changes:
            self._revision = tx.revision
            for kind, change in tx.changes:
                if len(self._latest) == _CHANGES_KEPT:
                    self._latest_after = self._latest[0][1].revision
                self._latest.append((kind, change))
                if kind in self._kinds:
                    self._kinds[kind].committed(change)
        for future, result, error in results:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        self._commits += 1
        if self._commits % _LOOK_AT_THE_LOG == 0:
            self._look_at_the_log()

    async def close(self) -> None:
        while self._scheduled or self._in_thread or self._checkpointing or self._pending or self._long:
            await self.write(lambda tx: None, long=True)
        self._closed = True
        if self._thread is not None:
            self._thread.shutdown()
        if self._scan_threads is not None:
            self._scan_threads.shutdown()
        while not self._scanners.empty():
            self._scanners.get().close()
        self._reader.close()
        self._writer.close()

    def _connect(self, read_only: bool = False) -> sqlite3.Connection:
        # This process alone uses the file, so its locks and the log's index need not be shared with others.
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?vfs=unix-excl",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
            timeout=10,
        )
        connection.execute(f"PRAGMA synchronous = {self._sync}")
        if read_only:
            connection.execute("PRAGMA query_only = 1")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
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

    def __init__(
        self, database: SqliteDatabase, kind: type[R], connection: sqlite3.Connection, lenient: bool = False
    ) -> None:
        self._database = database
        self._kind = kind.__name__
        self._scopes: dict[str, dict[str, Record[R]]] = {}
        self._watchers: set[asyncio.Queue[Change[R]]] = set()
        decoder = msgspec.json.Decoder(kind)
        for scope, name, revision, value in connection.execute(
            "SELECT scope, name, revision, value FROM resource WHERE kind = ?", (self._kind,)
        ):
            try:
                record = Record(scope, name, revision, decoder.decode(value))
            except msgspec.ValidationError as error:
                if not lenient:
                    raise
                log.warning("%s %s is of another version and is passed over: %s", self._kind, name, error)
                continue
            self._scopes.setdefault(scope, {})[name] = record

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
        if since < self._database._latest_after:
            raise Compacted(since)
        changes: asyncio.Queue[Change[R]] = asyncio.Queue()
        for kind, change in self._database._latest:
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
