"""What KMS keeps: keys and aliases as resources; key material, wrapped, and grants in tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from cloudlet.store import Tx

MIGRATIONS = [
    """
    CREATE TABLE material (
        key TEXT NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, wrapped BLOB NOT NULL, made REAL NOT NULL,
        reason TEXT NOT NULL, PRIMARY KEY (key, number)) WITHOUT ROWID;
    CREATE TABLE permission (
        scope TEXT NOT NULL, key TEXT NOT NULL, id TEXT NOT NULL, token TEXT NOT NULL, permission BLOB NOT NULL,
        PRIMARY KEY (key, id)) WITHOUT ROWID;
    CREATE INDEX permission_by_token ON permission (token);
    CREATE INDEX permission_by_scope ON permission (scope);
    """
]


class Key(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key without its material; its name in the store is its id."""

    id: str
    account: str
    region: str
    created: float
    spec: str
    usage: str
    policy: str
    description: str = ""
    enabled: bool = True
    manager: str = "CUSTOMER"
    deletes_at: float = 0.0  # 0: it does not
    rotation_days: int = 0  # 0: it does not rotate by itself
    rotates_at: float = 0.0
    material: int = 1  # the number of the one in use
    material_id: str = ""
    tags: dict[str, str] = {}

    @property
    def scope(self) -> str:
        """Whose world it is in."""
        return f"{self.account}/{self.region}"

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:kms:{self.region}:{self.account}:key/{self.id}"

    @property
    def state(self) -> str:
        """Its state in KMS's words."""
        if self.deletes_at:
            return "PendingDeletion"
        return "Enabled" if self.enabled else "Disabled"


class Alias(msgspec.Struct, frozen=True):
    """Another name of a key; its name in the store begins with ``alias/``."""

    name: str
    key: str
    created: float
    updated: float


class Material(NamedTuple):
    """One of a key's materials, as it is stored."""

    number: int
    id: str
    wrapped: bytes
    made: float
    reason: str  # why it replaced the one before: AUTOMATIC or ON_DEMAND; the first has none


class Grant(msgspec.Struct, frozen=True):
    """A grant: who may do what with a key."""

    key: str
    id: str
    token: str
    created: float
    members: dict[str, Any]  # as CreateGrant was given them


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Grant).decode


def add_material(tx: Tx, key: str, material: Material) -> None:
    """Store a key's material."""
    tx.execute("INSERT INTO material VALUES (?, ?, ?, ?, ?, ?)", (key, *material))


def material(tx: Tx, key: str, number: int) -> bytes | None:
    """A wrapped material, or None."""
    row = tx.execute("SELECT wrapped FROM material WHERE key = ? AND number = ?", (key, number)).fetchone()
    return None if row is None else row[0]


def materials(tx: Tx, key: str) -> list[Material]:
    """Every material of a key, the first one first."""
    rows = tx.execute("SELECT number, id, wrapped, made, reason FROM material WHERE key = ? ORDER BY number", (key,))
    return [Material(*row) for row in rows]


def forget(tx: Tx, key: str) -> None:
    """Delete what belongs to a key that is deleted."""
    tx.execute("DELETE FROM material WHERE key = ?", (key,))
    tx.execute("DELETE FROM permission WHERE key = ?", (key,))


def add_grant(tx: Tx, scope: str, grant: Grant) -> None:
    """Store a grant."""
    tx.execute("INSERT INTO permission VALUES (?, ?, ?, ?, ?)", (scope, grant.key, grant.id, grant.token, _pack(grant)))


def grant(tx: Tx, key: str, id: str) -> Grant | None:
    """A grant by its id, or None."""
    row = tx.execute("SELECT permission FROM permission WHERE key = ? AND id = ?", (key, id)).fetchone()
    return None if row is None else _unpack(row[0])


def grant_of(tx: Tx, token: str) -> Grant | None:
    """A grant by its token, or None."""
    row = tx.execute("SELECT permission FROM permission WHERE token = ?", (token,)).fetchone()
    return None if row is None else _unpack(row[0])


def grants(tx: Tx, key: str) -> list[Grant]:
    """A key's grants in the order of their ids."""
    rows = tx.execute("SELECT permission FROM permission WHERE key = ? ORDER BY id", (key,))
    return [_unpack(permission) for (permission,) in rows]


def all_grants(tx: Tx, scope: str) -> list[Grant]:
    """Every grant in an account's region, in the order of their ids."""
    rows = tx.execute("SELECT permission FROM permission WHERE scope = ? ORDER BY id", (scope,))
    return [_unpack(permission) for (permission,) in rows]


def drop_grant(tx: Tx, key: str, id: str) -> bool:
    """Delete a grant; False where there is none."""
    return bool(tx.execute("DELETE FROM permission WHERE key = ? AND id = ?", (key, id)).rowcount)
