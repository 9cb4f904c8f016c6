"""What CloudWatch Logs keeps: groups, filters and policies as resources, streams and events in tables.

An event's ``id`` is the microsecond in which it came, made unique, so that its time of ingestion needs no column.
Events lie in the order of their group's time, with an index in the order of their stream's: retention takes the first
part of a group, and no reading looks at more rows than it returns or filters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from cloudlet.control.outbox import Outbox
from cloudlet.store import Tx

MIGRATIONS = [
    """
    CREATE TABLE volume (number INTEGER PRIMARY KEY AUTOINCREMENT, bytes INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE stream (
        number INTEGER PRIMARY KEY AUTOINCREMENT, volume INTEGER NOT NULL, name TEXT NOT NULL,
        created INTEGER NOT NULL, first INTEGER, last INTEGER, newest INTEGER NOT NULL DEFAULT 0);
    CREATE UNIQUE INDEX stream_by_name ON stream (volume, name);
    CREATE INDEX stream_by_time ON stream (volume, coalesce(last, 0), name);
    CREATE INDEX stream_by_newest ON stream (newest);
    CREATE TABLE event (
        volume INTEGER NOT NULL, timestamp INTEGER NOT NULL, id INTEGER NOT NULL, stream INTEGER NOT NULL,
        message TEXT NOT NULL, PRIMARY KEY (volume, timestamp, id)) WITHOUT ROWID;
    CREATE INDEX event_by_stream ON event (stream, timestamp, id);
    CREATE TABLE gone (volume INTEGER NOT NULL, stream INTEGER NOT NULL, PRIMARY KEY (volume, stream)) WITHOUT ROWID;
    """,
    Outbox.MIGRATION,
    """
    CREATE TABLE query (
        id TEXT PRIMARY KEY, scope TEXT NOT NULL, created INTEGER NOT NULL, status TEXT NOT NULL, asked TEXT NOT NULL,
        outcome TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX query_by_time ON query (scope, created, id);
    """,
]

OVERHEAD = 26  # bytes that an event counts beyond its message


class Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """A log group. ``volume`` is the number under which its streams and events are kept. Times in milliseconds."""

    name: str
    arn: str  # without the ``:*`` that some operations add
    volume: int
    created: int
    kind: str = "STANDARD"
    retention: int = 0  # days; 0 keeps events for ever
    kms_key: str = ""
    protected: bool = False
    tags: dict[str, str] = {}


class SubscriptionFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the events of a group go. Its name in the store is ``<group>\\n<filter>``, so a group's are together."""

    members: dict[str, Any]  # as DescribeSubscriptionFilters shows it


class MetricFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is counted in a group's events. Its name in the store is ``<group>\\n<filter>``."""

    members: dict[str, Any]


class ResourcePolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who may write to log groups."""

    members: dict[str, Any]


class QueryDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A saved query."""

    members: dict[str, Any]


class ExportTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """An export of a group to a bucket; named by its id. Times are in milliseconds."""

    members: dict[str, Any]  # as the task is shown
    status: str
    created: int
    streams: str = ""  # the prefix of the streams that are exported
    message: str = ""
    ended: int = 0


class Stream(NamedTuple):
    """A log stream. Times are in milliseconds; ``first`` and ``last`` are None while it has no events."""

    number: int
    name: str
    created: int
    first: int | None
    last: int | None
    newest: int  # the id of its latest event, 0 when it has none


class Event(NamedTuple):
    """An event as it is read."""

    timestamp: int
    id: int
    stream: int
    message: str

    @property
    def ingested(self) -> int:
        """When it came, in milliseconds."""
        return self.id // 1000


_STREAM = "number, name, created, first, last, newest"
_EVENT = "timestamp, id, stream, message"


def create_volume(tx: Tx) -> int:
    """A number that no group has had."""
    return int(tx.execute("INSERT INTO volume (bytes) VALUES (0) RETURNING number").fetchone()[0])


def volumes(tx: Tx) -> list[int]:
    """The numbers of all groups, also of deleted ones that are not swept up yet."""
    return [number for (number,) in tx.execute("SELECT number FROM volume")]


def stored_bytes(tx: Tx, volume: int) -> int:
    """How much a group holds."""
    row = tx.execute("SELECT bytes FROM volume WHERE number = ?", (volume,)).fetchone()
    return int(row[0]) if row is not None else 0


def newest(tx: Tx) -> int:
    """The highest id of any event."""
    return int(tx.execute("SELECT max(newest) FROM stream").fetchone()[0] or 0)


def create_stream(tx: Tx, volume: int, name: str, now: int) -> bool:
    """Make a stream; False when there is one of that name."""
    made = tx.execute(
        "INSERT INTO stream (volume, name, created) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (volume, name, now)
    )
    return made.rowcount == 1


def stream(tx: Tx, volume: int, name: str) -> Stream | None:
    """The stream of a name, or None."""
    row = tx.execute(f"SELECT {_STREAM} FROM stream WHERE volume = ? AND name = ?", (volume, name)).fetchone()
    return Stream(*row) if row is not None else None


def stream_names(tx: Tx, numbers: set[int]) -> dict[int, str]:
    """The names of streams; those that were deleted are missing."""
    names: dict[int, str] = {}
    for number in numbers:
        if row := tx.execute("SELECT name FROM stream WHERE number = ?", (number,)).fetchone():
            names[number] = row[0]
    return names


def streams_by_name(tx: Tx, volume: int, prefix: str, after: str | None, descending: bool, limit: int) -> list[Stream]:
    """A page of the streams whose names start with ``prefix``, ``after`` that name in the order asked for."""
    end = prefix + "\U0010ffff"
    low, high = (prefix, after if after is not None else end) if descending else (after or prefix, end)
    first = "<" if descending and after is not None else "<="
    rows = tx.execute(
        f"SELECT {_STREAM} FROM stream WHERE volume = ? AND name {'>' if after and not descending else '>='} ? "
        f"AND name {first} ? ORDER BY name {'DESC' if descending else 'ASC'} LIMIT ?",
        (volume, low, high, limit),
    )
    return [Stream(*row) for row in rows]


def streams_by_time(tx: Tx, volume: int, after: tuple[int, str] | None, descending: bool, limit: int) -> list[Stream]:
    """A page of streams in the order of their latest events."""
    time, name = after if after is not None else ((2**62, "") if descending else (-1, ""))
    rows = tx.execute(
        f"SELECT {_STREAM} FROM stream WHERE volume = ? AND (coalesce(last, 0), name) {'<' if descending else '>'} "
        f"(?, ?) ORDER BY coalesce(last, 0) {'DESC' if descending else 'ASC'}, name {'DESC' if descending else 'ASC'} "
        "LIMIT ?",
        (volume, time, name, limit),
    )
    return [Stream(*row) for row in rows]


def delete_stream(tx: Tx, volume: int, number: int) -> None:
    """Delete a stream; its events are left for ``sweep``."""
    tx.execute("DELETE FROM stream WHERE number = ?", (number,))
    tx.execute("INSERT INTO gone VALUES (?, ?)", (volume, number))


def gone_streams(tx: Tx) -> list[tuple[int, int]]:
    """The groups and numbers of deleted streams that are not swept up yet."""
    return [(volume, number) for volume, number in tx.execute("SELECT volume, stream FROM gone")]


def insert(tx: Tx, volume: int, stream: Stream, rows: list[tuple[int, int, int, int, str]], size: int) -> None:
    """Store events, in the order of their timestamps, and note them at their stream and group."""
    statement = "INSERT INTO event VALUES (?, ?, ?, ?, ?)"
    if len(rows) == 1:
        tx.execute(statement, rows[0])
    else:
        tx.executemany(statement, rows)
    first, last = rows[0][1], rows[-1][1]
    tx.execute(
        "UPDATE stream SET first = ?, last = ?, newest = ? WHERE number = ?",
        (
            first if stream.first is None or first < stream.first else stream.first,
            last if stream.last is None or last > stream.last else stream.last,
            rows[-1][2],
            stream.number,
        ),
    )
    tx.execute("UPDATE volume SET bytes = bytes + ? WHERE number = ?", (size, volume))


Place = tuple[int, int]  # an event's timestamp and id


def of_stream(
    tx: Tx, number: int, start: int, end: int, after: Place | None, descending: bool, limit: int
) -> list[Event]:
    """Events of a stream with ``start <= timestamp < end``, beyond the place ``after`` in the order asked for."""
    return _events(tx, "stream", number, start, end, after, descending, limit)


def of_group(
    tx: Tx, volume: int, start: int, end: int, after: Place | None, descending: bool, limit: int
) -> list[Event]:
    """The same of a whole group; events of deleted streams may be among them."""
    return _events(tx, "volume", volume, start, end, after, descending, limit)


def _events(
    tx: Tx, column: str, number: int, start: int, end: int, after: Place | None, descending: bool, limit: int
) -> list[Event]:
    low, high = (start, -1), (end, -1)
    if after is not None:
        low, high = (low, min(high, after)) if descending else (max(low, after), high)
    order = "DESC" if descending else "ASC"
    rows = tx.execute(
        f"SELECT {_EVENT} FROM event WHERE {column} = ? AND (timestamp, id) > (?, ?) AND (timestamp, id) < (?, ?) "
        f"ORDER BY timestamp {order}, id {order} LIMIT ?",
        (number, *low, *high, limit),
    )
    return [Event(*row) for row in rows]


def event(tx: Tx, volume: int, timestamp: int, id: int) -> Event | None:
    """One event."""
    row = tx.execute(
        f"SELECT {_EVENT} FROM event WHERE volume = ? AND timestamp = ? AND id = ?", (volume, timestamp, id)
    ).fetchone()
    return Event(*row) if row is not None else None


def oldest(tx: Tx, volume: int) -> int | None:
    """The timestamp of a group's first event."""
    row = tx.execute("SELECT min(timestamp) FROM event WHERE volume = ?", (volume,)).fetchone()
    return row[0] if row is not None else None


def drop_older(tx: Tx, volume: int, before: int, limit: int) -> int:
    """Delete the first events of a group that are older than ``before`` and return how many."""
    rows = tx.execute(
        "SELECT timestamp, id, length(CAST(message AS BLOB)) FROM event WHERE volume = ? AND timestamp < ? "
        "ORDER BY timestamp, id LIMIT ?",
        (volume, before, limit),
    ).fetchall()
    return _drop(tx, volume, rows)


def drop_of_stream(tx: Tx, volume: int, number: int, limit: int) -> int:
    """Delete the first events of a deleted stream and return how many; with the last one it is forgotten."""
    rows = tx.execute(
        "SELECT timestamp, id, length(CAST(message AS BLOB)) FROM event WHERE stream = ? "
        "ORDER BY timestamp, id LIMIT ?",
        (number, limit),
    ).fetchall()
    if not rows:
        tx.execute("DELETE FROM gone WHERE volume = ? AND stream = ?", (volume, number))
    return _drop(tx, volume, rows)


def _drop(tx: Tx, volume: int, rows: list[tuple[int, int, int]]) -> int:
    if rows:
        tx.executemany(
            "DELETE FROM event WHERE volume = ? AND timestamp = ? AND id = ?", [(volume, *row[:2]) for row in rows]
        )
        size = sum(row[2] + OVERHEAD for row in rows)
        tx.execute("UPDATE volume SET bytes = bytes - ? WHERE number = ?", (size, volume))
    return len(rows)


def forget_volume(tx: Tx, volume: int) -> None:
    """Delete what is left of a deleted group whose events are gone."""
    tx.execute("DELETE FROM stream WHERE volume = ?", (volume,))
    tx.execute("DELETE FROM gone WHERE volume = ?", (volume,))
    tx.execute("DELETE FROM volume WHERE number = ?", (volume,))


class StoredQuery(NamedTuple):
    """A query of Logs Insights. ``asked`` and ``outcome`` are documents; the latter is empty until it has ended."""

    id: str
    created: int
    status: str
    asked: str
    outcome: str


def add_query(tx: Tx, id: str, scope: str, now: int, asked: str, before: int) -> None:
    """Store a query that is to run, and forget those that are older than ``before``."""
    tx.execute("DELETE FROM query WHERE scope = ? AND created < ?", (scope, before))
    tx.execute("INSERT INTO query VALUES (?, ?, ?, 'Running', ?, '')", (id, scope, now, asked))


def end_query(tx: Tx, id: str, status: str, outcome: str) -> None:
    """Store how a query ended, unless it was stopped."""
    tx.execute("UPDATE query SET status = ?, outcome = ? WHERE id = ? AND status = 'Running'", (status, outcome, id))


def query(tx: Tx, scope: str, id: str) -> StoredQuery | None:
    """A query by its id."""
    row = tx.execute(
        "SELECT id, created, status, asked, outcome FROM query WHERE id = ? AND scope = ?", (id, scope)
    ).fetchone()
    return StoredQuery(*row) if row is not None else None


def queries(tx: Tx, scope: str, status: str, after: tuple[int, str], limit: int) -> list[StoredQuery]:
    """Queries from the newest to the oldest, without their outcomes."""
    rows = tx.execute(
        "SELECT id, created, status, asked, '' FROM query WHERE scope = ? AND (? = '' OR status = ?) "
        "AND (created, id) < (?, ?) ORDER BY created DESC, id DESC LIMIT ?",
        (scope, status, status, *after, limit),
    )
    return [StoredQuery(*row) for row in rows]


def running_queries(tx: Tx) -> list[tuple[str, str, str]]:
    """The ids, scopes and questions of queries that have not ended."""
    return tx.execute("SELECT id, scope, asked FROM query WHERE status = 'Running'").fetchall()
