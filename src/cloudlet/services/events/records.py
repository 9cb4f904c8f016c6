"""What EventBridge keeps: buses, rules, archives, replays as resources; in tables the outbox, ticks, archived events.

A bus is stored once it was created or changed: every region has a default bus without that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from cloudlet.control.outbox import Outbox
from cloudlet.services.placed import Placed
from cloudlet.store import Tx

DEFAULT = "default"
MIGRATIONS = [
    Outbox.MIGRATION
    + """;
    CREATE TABLE tick (rule TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE archived (
        archive TEXT NOT NULL, at REAL NOT NULL, id INTEGER NOT NULL, event BLOB NOT NULL,
        PRIMARY KEY (archive, at, id)) WITHOUT ROWID;
    CREATE TABLE archive_size (archive TEXT PRIMARY KEY, events INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TRIGGER archived_in AFTER INSERT ON archived BEGIN
        INSERT INTO archive_size VALUES (NEW.archive, 1, length(NEW.event)) ON CONFLICT (archive)
        DO UPDATE SET events = events + 1, bytes = bytes + excluded.bytes; END;
    CREATE TRIGGER archived_out AFTER DELETE ON archived BEGIN
        UPDATE archive_size SET events = events - 1, bytes = bytes - length(OLD.event)
        WHERE archive = OLD.archive; END;
    """
]
_EXPIRE_AT_ONCE = 4


class Bus(Placed, frozen=True, omit_defaults=True):
    """An event bus. ``settings`` are the members of CreateEventBus that are only recorded."""

    name: str
    created: float = 0.0
    modified: float = 0.0
    settings: dict[str, Any] = {}
    policy: str = ""
    tags: dict[str, str] = {}

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:events:{self.region}:{self.account}:event-bus/{self.name}"


class Rule(Placed, frozen=True, omit_defaults=True):
    """A rule and its targets, as PutTargets takes them, by their ids. Its name in the store is ``<bus>:<name>``."""

    bus: str
    name: str
    state: str = "ENABLED"
    pattern: str = ""
    schedule: str = ""
    anchor: float = 0.0  # from when a rate counts
    description: str = ""
    role: str = ""
    targets: dict[str, dict[str, Any]] = {}
    tags: dict[str, str] = {}

    @property
    def place(self) -> str:
        """Its name in the store."""
        return f"{self.bus}:{self.name}"

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        path = self.name if self.bus == DEFAULT else f"{self.bus}/{self.name}"
        return f"arn:aws:events:{self.region}:{self.account}:rule/{path}"

    @property
    def enabled(self) -> bool:
        """Whether it matches and ticks."""
        return self.state != "DISABLED"


class Archive(Placed, frozen=True, omit_defaults=True):
    """An archive of a bus's events. ``number`` is its events' and never given again."""

    name: str
    number: str
    source: str  # the bus's ARN
    created: float
    pattern: str = ""
    description: str = ""
    days: int = 0  # 0 is for ever
    kms_key: str = ""

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:events:{self.region}:{self.account}:archive/{self.name}"


class Replay(Placed, frozen=True, omit_defaults=True):
    """A replay of an archive's events; ``at`` and ``id`` are those of the last event that was sent again."""

    name: str
    archive: str  # the archive's ARN
    number: str
    destination: dict[str, Any]
    begin: float
    end: float
    started: float
    state: str = "STARTING"
    description: str = ""
    at: float = 0.0
    id: int = 0
    ended: float = 0.0

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:events:{self.region}:{self.account}:replay/{self.name}"


class Connection(Placed, frozen=True, omit_defaults=True):
    """How API destinations authorize themselves; ``auth`` is AuthParameters with its secrets."""

    name: str
    identity: str
    created: float
    modified: float
    type: str
    auth: dict[str, Any]
    description: str = ""
    state: str = "AUTHORIZED"
    secret: str = ""  # the ARN of what Secrets Manager keeps of it
    kms_key: str = ""
    authorized: float = 0.0  # when it last was

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:events:{self.region}:{self.account}:connection/{self.name}/{self.identity}"


class ApiDestination(Placed, frozen=True, omit_defaults=True):
    """An HTTP endpoint as a target; ``rate`` is in requests per second."""

    name: str
    identity: str
    created: float
    modified: float
    connection: str  # the connection's ARN
    endpoint: str
    method: str
    rate: int = 300
    description: str = ""

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:events:{self.region}:{self.account}:api-destination/{self.name}/{self.identity}"


class Job(msgspec.Struct, array_like=True):
    """What the outbox keeps of a delivery: the event for a target, as JSON. The outbox's target is ``<rule> <id>``."""

    rule: str
    target: str
    event: msgspec.Raw
    ingested: float
    trace: str = ""  # X-Ray's header for the target


pack = msgspec.json.Encoder().encode
unpack = msgspec.json.Decoder(Job).decode


def tick(tx: Tx, rule: str, at: float) -> None:
    """Remember the last time at which a rule was due."""
    tx.execute("INSERT OR REPLACE INTO tick VALUES (?, ?)", (rule, at))


def last_tick(tx: Tx, rule: str) -> float | None:
    """The last time at which a rule was due."""
    row = tx.execute("SELECT at FROM tick WHERE rule = ?", (rule,)).fetchone()
    return row[0] if row else None


def forget_ticks(tx: Tx, rule: str) -> None:
    """The rule is gone, or begins anew."""
    tx.execute("DELETE FROM tick WHERE rule = ?", (rule,))


class Archived(NamedTuple):
    """An archived event."""

    at: float
    id: int
    event: bytes


def archive(tx: Tx, number: str, at: float, event: bytes, oldest: float) -> None:
    """Keep an event, and drop some of those that are older than the archive's retention."""
    (last,) = tx.execute("SELECT max(id) FROM archived WHERE archive = ? AND at = ?", (number, at)).fetchone()
    tx.execute("INSERT INTO archived VALUES (?, ?, ?, ?)", (number, at, (last or 0) + 1, event))
    old = tx.execute(
        "SELECT archive, at, id FROM archived WHERE archive = ? AND at < ? LIMIT ?", (number, oldest, _EXPIRE_AT_ONCE)
    ).fetchall()
    if old:
        tx.executemany("DELETE FROM archived WHERE archive = ? AND at = ? AND id = ?", old)


def archived(tx: Tx, number: str, after: tuple[float, int], before: float, limit: int) -> list[Archived]:
    """Events after one and before a time, oldest first."""
    rows = tx.execute(
        "SELECT at, id, event FROM archived WHERE archive = ? AND (at, id) > (?, ?) AND at < ? ORDER BY at, id LIMIT ?",
        (number, *after, before, limit),
    )
    return [Archived(*row) for row in rows]


def archive_size(tx: Tx, number: str) -> tuple[int, int]:
    """How many events an archive has, and how many bytes."""
    row = tx.execute("SELECT events, bytes FROM archive_size WHERE archive = ?", (number,)).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def drop_archive(tx: Tx, number: str) -> None:
    """Delete all events of an archive."""
    tx.execute("DELETE FROM archived WHERE archive = ?", (number,))
    tx.execute("DELETE FROM archive_size WHERE archive = ?", (number,))
