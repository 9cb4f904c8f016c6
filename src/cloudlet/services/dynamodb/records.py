"""What DynamoDB stores: tables as resources, items and index entries as rows sorted by their keys."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.store import Tx

# A hash key begins with two bytes of a checksum, so that a scan can be split into equal segments. ``id`` is a table's,
# an index's or a stream's; an id is never used again, so that rows of what is gone are invisible until they are swept.
# A change's ``sequence`` is the time in microseconds, or the next number where the clock is too slow.
MIGRATIONS = (
    """
    CREATE TABLE items (id INTEGER, hash BLOB, range BLOB, size INTEGER NOT NULL, item BLOB NOT NULL,
        PRIMARY KEY (id, hash, range)) WITHOUT ROWID;
    CREATE TABLE entries (id INTEGER, hash BLOB, range BLOB, item_hash BLOB, item_range BLOB,
        size INTEGER NOT NULL, item BLOB NOT NULL,
        PRIMARY KEY (id, hash, range, item_hash, item_range)) WITHOUT ROWID;
    CREATE TABLE expiries (at INTEGER, id INTEGER, hash BLOB, range BLOB,
        PRIMARY KEY (at, id, hash, range)) WITHOUT ROWID;
    CREATE TABLE changes (id INTEGER, sequence INTEGER, record BLOB NOT NULL, PRIMARY KEY (id, sequence)) WITHOUT ROWID;
    CREATE TABLE tokens (scope TEXT, token TEXT, at REAL NOT NULL, digest BLOB NOT NULL,
        PRIMARY KEY (scope, token)) WITHOUT ROWID;
    CREATE INDEX tokens_at ON tokens (at);
    CREATE TABLE garbage (id INTEGER PRIMARY KEY);
    CREATE TABLE ids (last INTEGER NOT NULL);
    INSERT INTO ids VALUES (0);
    """,
)

GET = "SELECT size, item FROM items WHERE id = ? AND hash = ? AND range = ?"
# An upsert changes a row where it stands; REPLACE would delete it first, which takes half as long again.
PUT = (
    "INSERT INTO items VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (id, hash, range) DO UPDATE SET size = excluded.size, item = excluded.item"
)
DELETE = "DELETE FROM items WHERE id = ? AND hash = ? AND range = ?"
PUT_ENTRY = (
    "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id, hash, range, item_hash, item_range) "
    "DO UPDATE SET size = excluded.size, item = excluded.item"
)
DELETE_ENTRY = "DELETE FROM entries WHERE id = ? AND hash = ? AND range = ? AND item_hash = ? AND item_range = ?"
PUT_EXPIRY = "INSERT OR REPLACE INTO expiries VALUES (?, ?, ?, ?)"
DELETE_EXPIRY = "DELETE FROM expiries WHERE at = ? AND id = ? AND hash = ? AND range = ?"

_SWEEP = {
    "items": "DELETE FROM items WHERE (id, hash, range) IN (SELECT id, hash, range FROM items WHERE id = ? LIMIT ?)",
    "entries": "DELETE FROM entries WHERE (id, hash, range, item_hash, item_range) IN "
    "(SELECT id, hash, range, item_hash, item_range FROM entries WHERE id = ? LIMIT ?)",
    "changes": "DELETE FROM changes WHERE (id, sequence) IN (SELECT id, sequence FROM changes WHERE id = ? LIMIT ?)",
}


class Index(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secondary index. ``building`` until every item that was there before it is in it."""

    id: int
    name: str
    keys: list[dict[str, str]]
    projection: dict[str, Any]
    is_global: bool
    building: bool = False
    throughput: dict[str, int] = {}
    on_demand: dict[str, int] = {}
    warm: dict[str, int] = {}


class Table(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table with all its settings."""

    id: int
    name: str
    uuid: str
    created: float
    definitions: dict[str, str]
    keys: list[dict[str, str]]
    indexes: list[Index] = []
    billing: str = "PROVISIONED"
    billing_changed: float = 0.0  # when it became PAY_PER_REQUEST
    throughput: dict[str, int] = {}
    on_demand: dict[str, int] = {}
    warm: dict[str, int] = {}
    stream: str = ""  # the ARN of the latest stream
    stream_id: int = 0
    stream_view: str = ""  # empty when the stream is off
    sse: dict[str, Any] = {}
    table_class: str = ""
    protected: bool = False
    tags: dict[str, str] = {}
    ttl: str = ""  # the attribute, empty when expiry is off
    ttl_noting: bool = False  # until it is known when the items that were there before expire
    recovery: dict[str, Any] = {}  # since when point-in-time recovery is on, and its days
    policies: dict[str, list[str]] = {}  # resource ARN -> policy and its revision


class Stream(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table's stream, kept for a day after it was switched off."""

    id: int
    arn: str
    table: str
    label: str
    view: str
    keys: list[dict[str, str]]
    created: float
    first: int  # no sequence number of its records is smaller
    closed: float = 0.0
    last: int = 0  # known once it is closed


def new_id(tx: Tx) -> int:
    """An id that no table, index or stream has had."""
    (last,) = tx.execute("UPDATE ids SET last = last + 1 RETURNING last").fetchone()
    return int(last)


def discard(tx: Tx, id: int) -> None:
    """Note that the rows of an id are garbage."""
    tx.execute("INSERT OR IGNORE INTO garbage VALUES (?)", (id,))


def garbage(tx: Tx) -> int | None:
    """An id whose rows are to be swept, or None."""
    row = tx.execute("SELECT id FROM garbage LIMIT 1").fetchone()
    return None if row is None else int(row[0])


def sweep(tx: Tx, id: int, count: int) -> None:
    """Delete up to ``count`` rows of something that is gone; what has no rows left is forgotten."""
    for sql in _SWEEP.values():
        if (count := count - tx.execute(sql, (id, count)).rowcount) <= 0:
            return
    tx.execute("DELETE FROM garbage WHERE id = ?", (id,))


def count(tx: Tx, table: str, id: int, limit: int) -> tuple[int, int]:
    """How many rows a table or index has and their sizes' sum, of ``limit`` rows at most."""
    sql = f"SELECT count(*), coalesce(sum(size), 0) FROM (SELECT size FROM {table} WHERE id = ? LIMIT ?)"
    rows, size = tx.execute(sql, (id, limit)).fetchone()
    return int(rows), int(size)
