"""What SNS keeps: topics and subscriptions as resources; in tables the outbox, what FIFO topics had, and letters.

A letter is an e-mail or a text message: it has no way out of this machine and is kept to be read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from cloudlet.control.outbox import Outbox
from cloudlet.services.placed import Placed
from cloudlet.store import Tx

MIGRATIONS = [
    Outbox.MIGRATION
    + """;
    CREATE TABLE sequence (topic TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE published (
        topic TEXT NOT NULL, scope TEXT NOT NULL, deduplication_id TEXT NOT NULL, at REAL NOT NULL,
        message_id TEXT NOT NULL, sequence INTEGER NOT NULL,
        PRIMARY KEY (topic, scope, deduplication_id)) WITHOUT ROWID;
    CREATE INDEX published_by_time ON published (at);
    CREATE TABLE letter (
        id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
        address TEXT NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL);
    CREATE INDEX letter_by_scope ON letter (scope, id);
    """
]

_DEDUPLICATION = 300.0
_FORGET_AT_ONCE = 4


class Topic(Placed, frozen=True, omit_defaults=True):
    """A topic. ``attributes`` are those that were set, by their API names."""

    name: str
    identity: str  # another for a topic that was deleted and created again
    attributes: dict[str, str] = {}
    tags: dict[str, str] = {}
    deleted: int = 0  # subscriptions that there were

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:sns:{self.region}:{self.account}:{self.name}"

    @property
    def fifo(self) -> bool:
        """Whether it keeps the order of a message group."""
        return self.name.endswith(".fifo")


class Subscription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A subscription; its name in the store is ``<topic's name>:<id>``, the end of its ARN."""

    topic: str  # the topic's ARN
    id: str
    owner: str
    protocol: str
    endpoint: str
    created: float
    attributes: dict[str, str] = {}
    confirmed: bool = True
    authenticated: bool = True  # only the owner may unsubscribe
    token: str = ""
    principal: str = ""  # who subscribed; nothing: the account's root

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"{self.topic}:{self.id}"

    @property
    def shown_arn(self) -> str:
        """What lists show."""
        return self.arn if self.confirmed else "PendingConfirmation"


class TextMessaging(msgspec.Struct, frozen=True):
    """The attributes of an account for text messages."""

    attributes: dict[str, str]


class Sent(NamedTuple):
    """What a FIFO topic answers."""

    message_id: str
    sequence: int
    again: bool  # a duplicate, which is not delivered


def publish(tx: Tx, topic: Topic, scope: str, deduplication_id: str, message_id: str, now: float) -> Sent:
    """Number a message of a FIFO topic, or find the one that it repeats."""
    known = tx.execute(
        "SELECT message_id, sequence, at FROM published WHERE topic = ? AND scope = ? AND deduplication_id = ?",
        (topic.identity, scope, deduplication_id),
    ).fetchone()
    if known is not None and known[2] > now - _DEDUPLICATION:
        return Sent(known[0], known[1], True)
    (number,) = tx.execute(
        "INSERT INTO sequence VALUES (?, 1) ON CONFLICT (topic) DO UPDATE SET last = last + 1 RETURNING last",
        (topic.identity,),
    ).fetchone()
    tx.execute(
        "INSERT OR REPLACE INTO published VALUES (?, ?, ?, ?, ?, ?)",
        (topic.identity, scope, deduplication_id, now, message_id, number),
    )
    old = tx.execute(
        "SELECT topic, scope, deduplication_id FROM published WHERE at < ? ORDER BY at LIMIT ?",
        (now - _DEDUPLICATION, _FORGET_AT_ONCE),
    ).fetchall()
    if old:
        tx.executemany("DELETE FROM published WHERE topic = ? AND scope = ? AND deduplication_id = ?", old)
    return Sent(message_id, number, False)


def write_letter(tx: Tx, scope: str, at: float, kind: str, address: str, subject: str, body: str) -> None:
    """Keep an e-mail or a text message."""
    tx.execute(
        "INSERT INTO letter (scope, at, kind, address, subject, body) VALUES (?, ?, ?, ?, ?, ?)",
        (scope, at, kind, address, subject, body),
    )


def letters(tx: Tx, scope: str, after: int, limit: int) -> list[dict[str, Any]]:
    """The letters of a world after the one of that id, oldest first."""
    rows = tx.execute(
        "SELECT id, at, kind, address, subject, body FROM letter WHERE scope = ? AND id > ? ORDER BY id LIMIT ?",
        (scope, after, limit),
    )
    return [dict(zip(("id", "at", "kind", "address", "subject", "body"), row, strict=True)) for row in rows]
