"""What Secrets Manager keeps: secrets and the stages of their versions as resources, the values in a table."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from cloudlet.store import Tx

MIGRATIONS = [
    """
    CREATE TABLE version (
        secret TEXT NOT NULL, id TEXT NOT NULL, made REAL NOT NULL, kind TEXT NOT NULL, value BLOB NOT NULL,
        digest BLOB NOT NULL, accessed REAL NOT NULL DEFAULT 0.0, PRIMARY KEY (secret, id)) WITHOUT ROWID;
    """
]
CURRENT, PREVIOUS, PENDING = "AWSCURRENT", "AWSPREVIOUS", "AWSPENDING"


class Secret(msgspec.Struct, frozen=True, omit_defaults=True):
    """A secret without its values; its name in the store is its name."""

    name: str
    arn: str
    created: float
    changed: float
    description: str = ""
    kms_key: str = ""
    stages: dict[str, str] = {}  # staging label -> version id
    tags: dict[str, str] = {}
    policy: str = ""
    deletes_at: float = 0.0  # 0: it does not
    accessed: float = 0.0  # the day's beginning
    function: str = ""  # the ARN of the function that rotates it
    rules: dict[str, Any] = {}
    rotates: bool | None = None  # None: never was told to
    rotated: float = 0.0
    rotates_at: float = 0.0
    rotating: str = ""  # the version that a rotation is making

    def stages_of(self, version: str) -> list[str]:
        """A version's staging labels."""
        return sorted(stage for stage, id in self.stages.items() if id == version)

    @property
    def versions(self) -> dict[str, list[str]]:
        """The versions that have staging labels, and which."""
        return {id: self.stages_of(id) for id in dict.fromkeys(self.stages.values())}


class Version(NamedTuple):
    """A version of a secret. ``kind`` is SecretString or SecretBinary, or nothing while it has no value."""

    id: str
    made: float
    kind: str
    value: bytes  # encrypted
    digest: bytes  # of the plaintext with the version's id, to know a request that is repeated
    accessed: float = 0.0


def put(tx: Tx, arn: str, version: Version) -> None:
    """Store a version, or give one its value."""
    tx.execute("INSERT OR REPLACE INTO version VALUES (?, ?, ?, ?, ?, ?, ?)", (arn, *version))


def get(tx: Tx, arn: str, id: str) -> Version | None:
    """A version, or None."""
    row = tx.execute(
        "SELECT id, made, kind, value, digest, accessed FROM version WHERE secret = ? AND id = ?", (arn, id)
    ).fetchone()
    return None if row is None else Version(*row)


def versions(tx: Tx, arn: str) -> list[Version]:
    """Every version of a secret, the oldest first."""
    rows = tx.execute(
        "SELECT id, made, kind, value, digest, accessed FROM version WHERE secret = ? ORDER BY made, id", (arn,)
    )
    return [Version(*row) for row in rows]


def touch(tx: Tx, arn: str, id: str, day: float) -> None:
    """Note the day on which a version was read."""
    tx.execute("UPDATE version SET accessed = ? WHERE secret = ? AND id = ?", (day, arn, id))


def drop(tx: Tx, arn: str, id: str) -> None:
    """Delete a version."""
    tx.execute("DELETE FROM version WHERE secret = ? AND id = ?", (arn, id))


def forget(tx: Tx, arn: str) -> None:
    """Delete every version of a secret."""
    tx.execute("DELETE FROM version WHERE secret = ?", (arn,))
