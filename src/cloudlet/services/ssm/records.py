"""What Parameter Store keeps: each parameter with its latest version, its past versions, and their labels.

A name at the root is the same with and without a slash at its head, so every parameter is stored under its path; the
name that it was given is in its versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec

from cloudlet.store import Tx

MIGRATIONS = [
    """
    CREATE TABLE parameter (
        scope TEXT NOT NULL, path TEXT NOT NULL, latest BLOB NOT NULL, tags TEXT NOT NULL, expires REAL,
        PRIMARY KEY (scope, path)) WITHOUT ROWID;
    CREATE INDEX parameter_by_expiry ON parameter (expires) WHERE expires IS NOT NULL;
    CREATE TABLE past (
        scope TEXT NOT NULL, path TEXT NOT NULL, number INTEGER NOT NULL, version BLOB NOT NULL,
        PRIMARY KEY (scope, path, number)) WITHOUT ROWID;
    CREATE TABLE label (
        scope TEXT NOT NULL, path TEXT NOT NULL, label TEXT NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (scope, path, label)) WITHOUT ROWID;
    """
]


class Version(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One version of a parameter. The value of a SecureString is its ciphertext, in base 64."""

    name: str  # as it was given
    number: int
    type: str
    value: str
    modified: float
    user: str
    data_type: str = "text"
    tier: str = "Standard"
    description: str = ""
    pattern: str = ""
    key_id: str = ""
    policies: str = ""


class Parameter(msgspec.Struct, frozen=True):
    """A parameter as it is listed."""

    path: str
    latest: Version
    tags: dict[str, str]


def path_of(name: str) -> str:
    """The path that a name stands for."""
    return name if name.startswith("/") else f"/{name}"


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Version).decode


def latest(tx: Tx, scope: str, path: str) -> Version | None:
    """A parameter's newest version, or None."""
    row = tx.execute("SELECT latest FROM parameter WHERE scope = ? AND path = ?", (scope, path)).fetchone()
    return None if row is None else _unpack(row[0])


def version(tx: Tx, scope: str, path: str, number: int) -> Version | None:
    """One version of a parameter, or None."""
    newest = latest(tx, scope, path)
    if newest is None or newest.number == number:
        return newest
    row = tx.execute(
        "SELECT version FROM past WHERE scope = ? AND path = ? AND number = ?", (scope, path, number)
    ).fetchone()
    return None if row is None else _unpack(row[0])


def history(tx: Tx, scope: str, path: str) -> list[Version]:
    """Every version of a parameter, the oldest first; at most a hundred."""
    newest = latest(tx, scope, path)
    if newest is None:
        return []
    rows = tx.execute("SELECT version FROM past WHERE scope = ? AND path = ? ORDER BY number", (scope, path))
    return [*(_unpack(row[0]) for row in rows), newest]


def create(tx: Tx, scope: str, path: str, first: Version, tags: dict[str, str], expires: float | None) -> None:
    """Store a new parameter."""
    tx.execute("INSERT INTO parameter VALUES (?, ?, ?, ?, ?)", (scope, path, _pack(first), json.dumps(tags), expires))


def update(tx: Tx, scope: str, path: str, before: Version, after: Version, expires: float | None) -> None:
    """Store a further version; the one before becomes a past one."""
    tx.execute("INSERT INTO past VALUES (?, ?, ?, ?)", (scope, path, before.number, _pack(before)))
    tx.execute(
        "UPDATE parameter SET latest = ?, expires = ? WHERE scope = ? AND path = ?",
        (_pack(after), expires, scope, path),
    )


def oldest(tx: Tx, scope: str, path: str) -> int | None:
    """The number of the oldest past version, or None."""
    row = tx.execute("SELECT min(number) FROM past WHERE scope = ? AND path = ?", (scope, path)).fetchone()
    return None if row is None else row[0]


def count_past(tx: Tx, scope: str, path: str) -> int:
    """How many past versions a parameter has."""
    return int(tx.execute("SELECT count(*) FROM past WHERE scope = ? AND path = ?", (scope, path)).fetchone()[0])


def drop_past(tx: Tx, scope: str, path: str, number: int) -> None:
    """Delete a past version."""
    tx.execute("DELETE FROM past WHERE scope = ? AND path = ? AND number = ?", (scope, path, number))


def delete(tx: Tx, scope: str, path: str) -> bool:
    """Delete a parameter with all that belongs to it; False where there was none."""
    gone = tx.execute("DELETE FROM parameter WHERE scope = ? AND path = ?", (scope, path)).rowcount
    if gone:
        tx.execute("DELETE FROM past WHERE scope = ? AND path = ?", (scope, path))
        tx.execute("DELETE FROM label WHERE scope = ? AND path = ?", (scope, path))
    return bool(gone)


def labels(tx: Tx, scope: str, path: str) -> dict[str, int]:
    """A parameter's labels and the versions that they are on."""
    return dict(tx.execute("SELECT label, number FROM label WHERE scope = ? AND path = ?", (scope, path)).fetchall())


def set_label(tx: Tx, scope: str, path: str, label: str, number: int) -> None:
    """Put a label on a version, and off any other."""
    tx.execute("INSERT OR REPLACE INTO label VALUES (?, ?, ?, ?)", (scope, path, label, number))


def drop_label(tx: Tx, scope: str, path: str, label: str) -> None:
    """Take a label off."""
    tx.execute("DELETE FROM label WHERE scope = ? AND path = ? AND label = ?", (scope, path, label))


def tags(tx: Tx, scope: str, path: str) -> dict[str, str] | None:
    """A parameter's tags, or None where there is no such parameter."""
    row = tx.execute("SELECT tags FROM parameter WHERE scope = ? AND path = ?", (scope, path)).fetchone()
    return None if row is None else json.loads(row[0])


def all_tags(tx: Tx, scope: str) -> list[tuple[str, dict[str, str]]]:
    """Every parameter's path and tags."""
    rows = tx.execute("SELECT path, tags FROM parameter WHERE scope = ?", (scope,))
    return [(path, json.loads(tags)) for path, tags in rows]


def set_tags(tx: Tx, scope: str, path: str, tags: dict[str, str]) -> None:
    """Replace a parameter's tags."""
    tx.execute("UPDATE parameter SET tags = ? WHERE scope = ? AND path = ?", (json.dumps(tags), scope, path))


def listed(tx: Tx, scope: str, after: str, below: str = "/") -> Iterator[Parameter]:
    """The parameters after a path, in the order of paths; ``below`` is a path with a slash at its end."""
    # What starts with a path lies between it and the same path with the character after the slash.
    rows = tx.execute(
        "SELECT path, latest, tags FROM parameter WHERE scope = ? AND path > ? AND path < ? ORDER BY path",
        (scope, max(after, below), f"{below[:-1]}0"),
    )
    for path, newest, marks in rows:
        yield Parameter(path, _unpack(newest), json.loads(marks))


def expiring(tx: Tx, until: float, limit: int) -> list[tuple[str, str]]:
    """Some parameters that expire by then."""
    return tx.execute(
        "SELECT scope, path FROM parameter WHERE expires IS NOT NULL AND expires <= ? LIMIT ?", (until, limit)
    ).fetchall()


def next_expiry(tx: Tx) -> float | None:
    """When the next parameter expires, or None."""
    row = tx.execute("SELECT min(expires) FROM parameter WHERE expires IS NOT NULL").fetchone()
    return None if row is None else row[0]
