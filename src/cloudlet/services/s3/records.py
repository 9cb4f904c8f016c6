"""What is stored: buckets as resources; objects, their older versions and unfinished uploads in tables.

``object`` holds the current version of each key, and nothing else, so that a look-up or a listing costs what it shows.
``version`` holds the older versions and the delete markers of versioned buckets (``size`` is NULL).
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

import msgspec

from cloudlet.control.outbox import Outbox
from cloudlet.services.s3 import contents
from cloudlet.services.s3.contents import Files
from cloudlet.store import Tx

_TABLE = """
CREATE TABLE {} (
    bucket INTEGER NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, version TEXT NOT NULL, modified INTEGER NOT NULL,
    size INTEGER, etag TEXT, checksum TEXT NOT NULL, storage TEXT NOT NULL, info BLOB NOT NULL,
    tags BLOB, lock BLOB, acl BLOB, parts BLOB, files BLOB, body BLOB, PRIMARY KEY ({})) WITHOUT ROWID;
"""
MIGRATIONS = (
    _TABLE.format("object", "bucket, key")
    + _TABLE.format("version", "bucket, key, seq DESC")
    + """
CREATE INDEX version_by_id ON version (bucket, key, version);
CREATE TABLE upload (
    bucket INTEGER NOT NULL, key TEXT NOT NULL, id TEXT NOT NULL, started INTEGER NOT NULL, account TEXT NOT NULL,
    algorithm TEXT NOT NULL, kind TEXT NOT NULL, asked INTEGER NOT NULL, storage TEXT NOT NULL, info BLOB NOT NULL,
    tags BLOB, lock BLOB, acl BLOB, PRIMARY KEY (bucket, key, id)) WITHOUT ROWID;
CREATE TABLE part (
    upload TEXT NOT NULL, number INTEGER NOT NULL, modified INTEGER NOT NULL, size INTEGER NOT NULL,
    etag TEXT NOT NULL, checksum TEXT NOT NULL, file TEXT NOT NULL, PRIMARY KEY (upload, number)) WITHOUT ROWID;
CREATE TABLE loose (file TEXT PRIMARY KEY) WITHOUT ROWID;
"""
    + Outbox.MIGRATION,
)

# The one scope of buckets: a name belongs to one account of the whole cloud.
EVERYWHERE = ""

# How a version without an id is called: what is written while a bucket's versioning is off.
NULL = "null"

# After every key, which has at most 1024 bytes.
END = "\U0010ffff" * 257

# Newer than every version.
NEWEST = 2**62


class Bucket(msgspec.Struct, frozen=True):
    """A bucket; its name in the store is its name. ``versioning`` is empty, Enabled or Suspended."""

    id: int
    account: str
    region: str
    created: int
    versioning: str = ""
    object_lock: bool = False
    tags: list[dict[str, str]] = []
    settings: dict[str, Any] = {}  # kind of configuration -> the members that its Get operation answers


class Stored(NamedTuple):
    """A version of an object, or a delete marker, as its row is."""

    bucket: int
    key: str
    seq: int
    version: str  # NULL where it was written without versioning
    modified: int  # seconds since the epoch
    size: int | None  # None: a delete marker
    etag: str | None  # with its quotes
    checksum: str  # as checksums.pack makes it
    storage: str
    info: bytes  # the members of GetObject's answer that never change, as JSON
    tags: bytes | None
    lock: bytes | None
    acl: bytes | None
    parts: bytes | None  # of a multipart upload: number, size and checksum of each, as JSON
    files: bytes | None  # where the bytes are when they are not in body
    body: bytes | None

    @property
    def is_marker(self) -> bool:
        """Whether this is a delete marker."""
        return self.size is None

    def file_list(self) -> Files:
        """The files of this version."""
        return msgspec.json.decode(self.files, type=Files) if self.files else []


class Lock(msgspec.Struct, frozen=True, omit_defaults=True):
    """What keeps a version from being deleted."""

    mode: str = ""
    until: float = 0.0
    hold: bool | None = None  # None: nobody has ever said

    def forbids(self, now: float, bypass: bool) -> bool:
        """Whether a deletion must be refused."""
        return bool(self.hold) or (self.until > now and not (self.mode == "GOVERNANCE" and bypass))


_PLACES = f"({', '.join('?' * len(Stored._fields))})"
_COLUMNS = ", ".join(Stored._fields)
# All but the bytes: what a listing or a look at an object needs.
HEAD = f"{_COLUMNS.removesuffix('body')}NULL"
_CURRENT = f"SELECT {_COLUMNS} FROM object WHERE bucket = ? AND key = ?"
_CURRENT_HEAD = f"SELECT {HEAD} FROM object WHERE bucket = ? AND key = ?"
_PUT = f"INSERT OR REPLACE INTO object VALUES {_PLACES}"


def new_version() -> str:
    """A version id, as long as S3's are."""
    return secrets.token_urlsafe(24)


def current(tx: Tx, bucket: int, key: str) -> Stored | None:
    """A key's current version with its bytes; None where there is none or it is a delete marker."""
    row = tx.execute(_CURRENT, (bucket, key)).fetchone()
    return Stored._make(row) if row is not None else None


def current_head(tx: Tx, bucket: int, key: str) -> Stored | None:
    """The same without its bytes."""
    row = tx.execute(_CURRENT_HEAD, (bucket, key)).fetchone()
    return Stored._make(row) if row is not None else None


def latest(tx: Tx, bucket: int, key: str) -> Stored | None:
    """A key's newest version among the older ones and the delete markers."""
    row = tx.execute(
        f"SELECT {HEAD} FROM version WHERE bucket = ? AND key = ? ORDER BY seq DESC LIMIT 1", (bucket, key)
    ).fetchone()
    return Stored._make(row) if row is not None else None


def versioned(tx: Tx, bucket: int, key: str, version: str, *, whole: bool = False) -> Stored | None:
    """One version of a key, current or not; ``whole`` with its bytes."""
    for table in ("object", "version"):
        row = tx.execute(
            f"SELECT {_COLUMNS if whole else HEAD} FROM {table} WHERE bucket = ? AND key = ? AND version = ?",
            (bucket, key, version),
        ).fetchone()
        if row is not None:
            return Stored._make(row)
    return None


def put(tx: Tx, bucket: Bucket, new: Stored) -> Files:
    """Make ``new`` its key's current version and return the files that became loose by it."""
    freed: Files = []
    if not bucket.versioning:
        row = tx.execute("SELECT files FROM object WHERE bucket = ? AND key = ?", new[:2]).fetchone()
        if row is not None and row[0] is not None:
            freed = _let_go(tx, row[0])
    else:
        new = _make_room(tx, bucket, new, freed)
    if new.files is not None:
        contents.adopt(tx, new.file_list())
    tx.execute(_PUT, new)
    return freed


def mark_deleted(tx: Tx, bucket: Bucket, marker: Stored) -> Files:
    """Put a delete marker over a key of a versioned bucket and return the files that became loose."""
    freed: Files = []
    marker = _make_room(tx, bucket, marker, freed)
    tx.execute(f"INSERT INTO version VALUES {_PLACES}", marker)
    return freed


def _make_room(tx: Tx, bucket: Bucket, new: Stored, freed: Files) -> Stored:
    """Move the current version among the older ones; the null version gives way to another null version."""
    old = current_head(tx, bucket.id, new.key)
    below = latest(tx, bucket.id, new.key)
    newest = max(old.seq if old else 0, below.seq if below else 0)
    if new.version == NULL:
        freed += remove(tx, bucket.id, new.key, NULL)
    if old is not None and old.version != new.version:
        _move(tx, "object", "version", bucket.id, new.key, old.seq)
    return new if new.seq > newest else new._replace(seq=newest + 1)


def remove(tx: Tx, bucket: int, key: str, version: str) -> Files:
    """Delete one version for good and return its files, loose now. The next older one is not yet made current."""
    freed: Files = []
    for table in ("object", "version"):
        for (files,) in tx.execute(
            f"DELETE FROM {table} WHERE bucket = ? AND key = ? AND version = ? RETURNING files", (bucket, key, version)
        ).fetchall():
            if files is not None:
                freed += _let_go(tx, files)
    return freed


def delete_current(tx: Tx, bucket: int, key: str) -> Files:
    """Delete a key of a bucket without versions and return its files, loose now."""
    row = tx.execute("DELETE FROM object WHERE bucket = ? AND key = ? RETURNING files", (bucket, key)).fetchone()
    return _let_go(tx, row[0]) if row is not None and row[0] is not None else []


def promote(tx: Tx, bucket: int, key: str) -> None:
    """Make the newest version current where there is no current one, unless it is a delete marker."""
    if tx.execute("SELECT 1 FROM object WHERE bucket = ? AND key = ?", (bucket, key)).fetchone() is not None:
        return
    newest = latest(tx, bucket, key)
    if newest is not None and not newest.is_marker:
        _move(tx, "version", "object", bucket, key, newest.seq)


def change(tx: Tx, stored: Stored, column: str, value: bytes | None) -> None:
    """Set one of a version's changeable columns: tags, lock, acl, info."""
    where = f"SET {column} = ? WHERE bucket = ? AND key = ? AND seq = ?"
    for table in ("object", "version"):
        tx.execute(f"UPDATE {table} {where}", (value, stored.bucket, stored.key, stored.seq))


def change_storage(tx: Tx, stored: Stored, storage: str) -> None:
    """Set a version's storage class."""
    for table in ("object", "version"):
        tx.execute(
            f"UPDATE {table} SET storage = ? WHERE bucket = ? AND key = ? AND seq = ?",
            (storage, stored.bucket, stored.key, stored.seq),
        )


def has_any(tx: Tx, bucket: int) -> bool:
    """Whether anything is in a bucket, a delete marker too."""
    return any(
        tx.execute(f"SELECT 1 FROM {table} WHERE bucket = ? LIMIT 1", (bucket,)).fetchone() is not None
        for table in ("object", "version")
    )


def _move(tx: Tx, source: str, target: str, bucket: int, key: str, seq: int) -> None:
    where = "WHERE bucket = ? AND key = ? AND seq = ?"
    tx.execute(f"INSERT INTO {target} SELECT {_COLUMNS} FROM {source} {where}", (bucket, key, seq))
    tx.execute(f"DELETE FROM {source} {where}", (bucket, key, seq))


def _let_go(tx: Tx, files: bytes) -> Files:
    freed = msgspec.json.decode(files, type=Files)
    contents.release(tx, freed)
    return freed


def objects(tx: Tx, bucket: int, start: str, older: int, end: str, limit: int) -> list[Stored]:
    """Current versions from key ``start`` up to ``end``; that of ``start`` itself only if older than ``older``."""
    comparison = ">=" if older == NEWEST else ">"
    rows = tx.execute(
        f"SELECT {HEAD} FROM object WHERE bucket = ? AND key {comparison} ? AND key < ? ORDER BY key LIMIT ?",
        (bucket, start, end, limit),
    ).fetchall()
    return [Stored._make(row) for row in rows]


def versions(tx: Tx, bucket: int, start: str, older: int, end: str, limit: int) -> list[Stored]:
    """All versions and delete markers from key ``start`` up to ``end``; of ``start`` those older than ``older``."""
    where = "WHERE bucket = ?1 AND key >= ?2 AND key < ?4 AND (key > ?2 OR seq < ?3)"
    rows = tx.execute(
        f"SELECT {HEAD} FROM object {where} UNION ALL SELECT {HEAD} FROM version {where} "
        "ORDER BY key, seq DESC LIMIT ?5",
        (bucket, start, older, end, limit),
    ).fetchall()
    return [Stored._make(row) for row in rows]
