"""What Parameter Store keeps: each parameter with its latest version, its past versions, and their labels."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec

from cloudlet.store import Tx

MIGRATIONS = [
    """
    CREATE TABLE parameter (
        scope TEXT NOT NULL, name TEXT NOT NULL, latest BLOB NOT NULL, tags TEXT NOT NULL, expires REAL,
        PRIMARY KEY (scope, name)) WITHOUT ROWID;
    CREATE INDEX parameter_by_expiry ON parameter (expires) WHERE expires IS NOT NULL;
    CREATE TABLE past (
        scope TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, version BLOB NOT NULL,
        PRIMARY KEY (scope, name, number)) WITHOUT ROWID;
    CREATE TABLE label (
        scope TEXT NOT NULL, name TEXT NOT NULL, label TEXT NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (scope, name, label)) WITHOUT ROWID;
    """
]


class Version(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One version of a parameter. The value of a SecureString is its ciphertext, in base 64."""

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

    name: str
    latest: Version
    tags: dict[str, str]


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Version).decode


def latest(tx: Tx, scope: str, name: str) -> Version | None:
    """A parameter's newest version, or None."""
    row = tx.execute("SELECT latest FROM parameter WHERE scope = ? AND name = ?", (scope, name)).fetchone()
    return None if row is None else _unpack(row[0])


def version(tx: Tx, scope: str, name: str, number: int) -> Version | None:
    """One version of a parameter, or None."""
    newest = latest(tx, scope, name)
    if newest is None or newest.number == number:
        return newest
    row = tx.execute(
        "SELECT version FROM past WHERE scope = ? AND name = ? AND number = ?", (scope, name, number)
    ).fetchone()
    return None if row is None else _unpack(row[0])


def history(tx: Tx, scope: str, name: str) -> list[Version]:
    """Every version of a parameter, the oldest first; at most a hundred."""
    newest = latest(tx, scope, name)
    if newest is None:
        return []
    rows = tx.execute("SELECT version FROM past WHERE scope = ? AND name = ? ORDER BY number", (scope, name))
    return [*(_unpack(row[0]) for row in rows), newest]


def create(tx: Tx, scope: str, name: str, first: Version, tags: dict[str, str], expires: float | None) -> None:
    """Store a new parameter."""
    tx.execute("INSERT INTO parameter VALUES (?, ?, ?, ?, ?)", (scope, name, _pack(first), json.dumps(tags), expires))


def update(tx: Tx, scope: str, name: str, before: Version, after: Version, expires: float | None) -> None:
    """Store a further version; the one before becomes a past one."""
    tx.execute("INSERT INTO past VALUES (?, ?, ?, ?)", (scope, name, before.number, _pack(before)))
    tx.execute(
        "UPDATE parameter SET latest = ?, expires = ? WHERE scope = ? AND name = ?",
        (_pack(after), expires, scope, name),
    )


def oldest(tx: Tx, scope: str, name: str) -> int | None:
    """The number of the oldest past version, or None."""
    row = tx.execute("SELECT min(number) FROM past WHERE scope = ? AND name = ?", (scope, name)).fetchone()
    return None if row is None else row[0]


def count_past(tx: Tx, scope: str, name: str) -> int:
    """How many past versions a parameter has."""
    return int(tx.execute("SELECT count(*) FROM past WHERE scope = ? AND name = ?", (scope, name)).fetchone()[0])


def drop_past(tx: Tx, scope: str, name: str, number: int) -> None:
    """Delete a past version."""
    tx.execute("DELETE FROM past WHERE scope = ? AND name = ? AND number = ?", (scope, name, number))


def delete(tx: Tx, scope: str, name: str) -> bool:
    """Delete a parameter with all that belongs to it; False where there was none."""
    gone = tx.execute("DELETE FROM parameter WHERE scope = ? AND name = ?", (scope, name)).rowcount
    if gone:
        tx.execute("DELETE FROM past WHERE scope = ? AND name = ?", (scope, name))
        tx.execute("DELETE FROM label WHERE scope = ? AND name = ?", (scope, name))
    return bool(gone)


def labels(tx: Tx, scope: str, name: str) -> dict[str, int]:
    """A parameter's labels and the versions that they are on."""
    return dict(tx.execute("SELECT label, number FROM label WHERE scope = ? AND name = ?", (scope, name)).fetchall())


def set_label(tx: Tx, scope: str, name: str, label: str, number: int) -> None:
    """Put a label on a version, and off any other."""
    tx.execute("INSERT OR REPLACE INTO label VALUES (?, ?, ?, ?)", (scope, name, label, number))


def drop_label(tx: Tx, scope: str, name: str, label: str) -> None:
    """Take a label off."""
    tx.execute("DELETE FROM label WHERE scope = ? AND name = ? AND label = ?", (scope, name, label))


def tags(tx: Tx, scope: str, name: str) -> dict[str, str] | None:
    """A parameter's tags, or None where there is no such parameter."""
    row = tx.execute("SELECT tags FROM parameter WHERE scope = ? AND name = ?", (scope, name)).fetchone()
    return None if row is None else json.loads(row[0])


def set_tags(tx: Tx, scope: str, name: str, tags: dict[str, str]) -> None:
    """Replace a parameter's tags."""
    tx.execute("UPDATE parameter SET tags = ? WHERE scope = ? AND name = ?", (json.dumps(tags), scope, name))


def listed(tx: Tx, scope: str, after: str, below: str = "") -> Iterator[Parameter]:
    """The parameters after a name, in the order of names; ``below`` is a path with a slash at its end."""
    sql = "SELECT name, latest, tags FROM parameter WHERE scope = ? AND name > ?"
    values: list[str] = [scope, after]
    if below:
        # What starts with a path lies between it and the same path with the character after the slash.
        sql += " AND name > ? AND name < ?"
        values += [below, below[:-1] + "0"]
    for name, newest, marks in tx.execute(sql + " ORDER BY name", values):
        yield Parameter(name, _unpack(newest), json.loads(marks))


def expiring(tx: Tx, until: float, limit: int) -> list[tuple[str, str]]:
    """Some parameters that expire by then."""
    return tx.execute(
        "SELECT scope, name FROM parameter WHERE expires IS NOT NULL AND expires <= ? LIMIT ?", (until, limit)
    ).fetchall()


def next_expiry(tx: Tx) -> float | None:
    """When the next parameter expires, or None."""
    row = tx.execute("SELECT min(expires) FROM parameter WHERE expires IS NOT NULL").fetchone()
    return None if row is None else row[0]


def names(tx: Tx, scope: str) -> list[str]:
    """Every parameter's name."""
    return [name for (name,) in tx.execute("SELECT name FROM parameter WHERE scope = ? ORDER BY name", (scope,))]
