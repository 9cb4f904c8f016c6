"""Unfinished uploads and their parts, as they are stored."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.s3 import contents
from cloudlet.services.s3.contents import Files
from cloudlet.store import Tx


class Upload(NamedTuple):
    """An unfinished upload, as its row is."""

    bucket: int
    key: str
    id: str
    started: int
    account: str
    algorithm: str
    kind: str  # COMPOSITE or FULL_OBJECT
    asked: bool  # whether the client chose the algorithm
    storage: str
    info: bytes
    tags: bytes | None
    lock: bytes | None
    acl: bytes | None


class Part(NamedTuple):
    """A part, as its row is."""

    upload: str
    number: int
    modified: int
    size: int
    etag: str  # with its quotes
    checksum: str  # algorithm and value
    file: str


class Description(msgspec.Struct, frozen=True, array_like=True):
    """What an object remembers of the upload that it was: number, size and checksum of each part."""

    upload: str
    parts: list[tuple[int, int, str]]


def add(tx: Tx, upload: Upload) -> None:
    """Begin an upload."""
    tx.execute(f"INSERT INTO upload VALUES ({', '.join('?' * len(upload))})", upload)


def get(tx: Tx, bucket: int, key: str, id: str) -> Upload | None:
    """An unfinished upload; None where there is none."""
    row = tx.execute("SELECT * FROM upload WHERE bucket = ? AND key = ? AND id = ?", (bucket, key, id)).fetchone()
    return Upload._make(row) if row is not None else None


def open_ones(tx: Tx, bucket: int, prefix: str, marker: str, id_marker: str) -> list[Upload]:
    """The unfinished uploads after a marker, by key and then by when they began."""
    rows = tx.execute(
        "SELECT * FROM upload WHERE bucket = ? AND key >= ? AND key > ? ORDER BY key, started, id",
        (bucket, prefix, marker),
    ).fetchall()
    if id_marker:
        own = tx.execute(
            "SELECT * FROM upload WHERE bucket = ? AND key = ? ORDER BY started, id", (bucket, marker)
        ).fetchall()
        ids = [row[2] for row in own]
        rows = (own[ids.index(id_marker) + 1 :] if id_marker in ids else []) + rows
    return [Upload._make(row) for row in rows if row[1].startswith(prefix)]


def parts(tx: Tx, id: str, after: int = 0, limit: int = -1) -> list[Part]:
    """An upload's parts in the order of their numbers."""
    rows = tx.execute(
        "SELECT * FROM part WHERE upload = ? AND number > ? ORDER BY number LIMIT ?", (id, after, limit)
    ).fetchall()
    return [Part._make(row) for row in rows]


def put_part(tx: Tx, part: Part) -> Files:
    """Store a part and return the file, loose now, of the one whose place it takes."""
    old: Files = tx.execute(
        "SELECT file, size FROM part WHERE upload = ? AND number = ?", (part.upload, part.number)
    ).fetchall()
    contents.release(tx, old)
    contents.adopt(tx, [(part.file, part.size)])
    tx.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?, ?)", part)
    return old


def close(tx: Tx, upload: Upload, kept: set[str]) -> Files:
    """Delete an upload and return the files of its parts, loose now, but for those that are kept."""
    tx.execute("DELETE FROM upload WHERE bucket = ? AND key = ? AND id = ?", (upload.bucket, upload.key, upload.id))
    found = tx.execute("DELETE FROM part WHERE upload = ? RETURNING file, size", (upload.id,)).fetchall()
    freed = [(file, size) for file, size in found if file not in kept]
    contents.release(tx, freed)
    return freed


def no_such_upload(id: str) -> AwsError:
    """The error for an upload that is not there."""
    return AwsError(
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
        "completed.",
        status=404,
        UploadId=id,
    )
