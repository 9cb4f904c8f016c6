"""What SQS keeps: queues and move tasks as resources, messages in a table, and every statement on messages.

A message's ``id`` is the microsecond in which it was sent, made unique, so that the primary key is a queue's messages
in the order of their sending: what is past its retention is the key's first part. The index by visibility is a queue's
messages in the order in which they may be received: one in flight lies at the end of its visibility timeout, a delayed
one at the end of its delay. So nothing has to happen when time passes, and no statement looks at more rows than it
returns.
"""

from __future__ import annotations

import struct
import uuid
from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64, crc32
from typing import Any, NamedTuple

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.placed import Placed
from cloudlet.store import Tx

MIGRATIONS = [
    """
    CREATE TABLE queue (number INTEGER PRIMARY KEY AUTOINCREMENT, total INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE message (
        queue INTEGER NOT NULL, id INTEGER NOT NULL, visible_at REAL NOT NULL, receives INTEGER NOT NULL,
        received_at REAL NOT NULL, first_received_at REAL NOT NULL, message_id TEXT NOT NULL, md5 TEXT NOT NULL,
        sender TEXT NOT NULL, lane TEXT, extra BLOB, body TEXT NOT NULL, PRIMARY KEY (queue, id)) WITHOUT ROWID;
    CREATE INDEX message_by_visibility ON message (queue, visible_at, receives);
    CREATE INDEX message_by_lane ON message (queue, lane) WHERE lane IS NOT NULL;
    CREATE TRIGGER message_in AFTER INSERT ON message BEGIN
        UPDATE queue SET total = total + 1 WHERE number = NEW.queue; END;
    CREATE TRIGGER message_out AFTER DELETE ON message BEGIN
        UPDATE queue SET total = total - 1 WHERE number = OLD.queue; END;
    CREATE TRIGGER message_moved AFTER UPDATE OF queue ON message BEGIN
        UPDATE queue SET total = total - 1 WHERE number = OLD.queue;
        UPDATE queue SET total = total + 1 WHERE number = NEW.queue; END;
    CREATE TABLE lane (
        queue INTEGER NOT NULL, name TEXT NOT NULL, ready_at REAL NOT NULL, PRIMARY KEY (queue, name)) WITHOUT ROWID;
    CREATE INDEX lane_by_time ON lane (queue, ready_at);
    CREATE TABLE sent (
        queue INTEGER NOT NULL, scope TEXT NOT NULL, deduplication_id TEXT NOT NULL, id INTEGER NOT NULL,
        message_id TEXT NOT NULL, sent_at REAL NOT NULL, PRIMARY KEY (queue, scope, deduplication_id)) WITHOUT ROWID;
    CREATE INDEX sent_by_time ON sent (sent_at);
    CREATE TABLE attempt (
        queue INTEGER NOT NULL, name TEXT NOT NULL, made_at REAL NOT NULL, visible_at REAL NOT NULL,
        receipts BLOB NOT NULL, PRIMARY KEY (queue, name)) WITHOUT ROWID;
    CREATE INDEX attempt_by_time ON attempt (made_at);
    """
]


class Queue(Placed, frozen=True, omit_defaults=True):
    """A queue. ``identity`` is its own for ever; ``number`` is its messages' and changes when they are purged."""

    name: str
    identity: int
    number: int
    created: int
    modified: int
    delay: int = 0
    maximum_size: int = 1_048_576
    retention: int = 345_600
    wait: int = 0
    visibility: int = 30
    fifo: bool = False
    content_deduplication: bool = False
    deduplication_scope: str = "queue"
    throughput_limit: str = "perQueue"
    policy: str = ""
    redrive: str = ""  # the RedrivePolicy; the next two are what it says
    dead_letter_arn: str = ""
    max_receives: int = 0
    redrive_allow: str = ""
    kms_key: str = ""
    kms_reuse: int = 300
    managed_sse: bool = True
    tags: dict[str, str] = {}
    purged_at: float = 0.0

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:sqs:{self.region}:{self.account}:{self.name}"


class MoveTask(msgspec.Struct, frozen=True):
    """A message move task; its name in the store is its id."""

    source_arn: str
    destination_arn: str  # empty: back to where each message came from
    rate: int  # messages per second; 0 is as fast as it goes
    status: str
    started: float
    to_move: int
    moved: int = 0
    failure: str = ""


class Extra(msgspec.Struct, omit_defaults=True):
    """What few messages have."""

    attributes: dict[str, dict[str, Any]] | None = None
    trace: str | None = None
    group: str | None = None
    deduplication_id: str | None = None
    source_arn: str | None = None  # of the queue that gave it up
    receives_before: int = 0  # in queues that gave it up


pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Extra).decode


# A new message: queue, id, visible at, message id, md5, sender, lane, extra, body.
Row = tuple[int, int, float, str, str, str, str | None, bytes | None, str]


class Stored(NamedTuple):
    """A message as it is received."""

    id: int
    receives: int
    first_received_at: float
    message_id: str
    md5: str
    sender: str
    lane: str | None
    extra: bytes | None
    body: str


class Taken(NamedTuple):
    """What a receive found, or when to look again. ``stale``: nothing was done, messages have to expire first."""

    messages: list[Stored] = []
    next_at: float | None = None
    dead_lettered: bool = False
    stale: bool = False


_COLUMNS = "id, receives, first_received_at, message_id, md5, sender, lane, extra, body"
INSERT = "INSERT INTO message VALUES (?, ?, ?, 0, 0.0, 0.0, ?, ?, ?, ?, ?, ?)"
_VISIBLE = f"SELECT {_COLUMNS} FROM message WHERE queue = ? AND visible_at <= ? ORDER BY visible_at LIMIT ?"
# BETWEEN a lane and itself: asked for ``lane = ?``, SQLite would rather walk the whole queue in the order of ids.
IN_LANE = "FROM message WHERE queue = ? AND lane BETWEEN ? AND ? ORDER BY lane, id LIMIT ?"
OF_LANE = f"SELECT {_COLUMNS}, visible_at {IN_LANE}"
_HIDE = (
    "UPDATE message SET visible_at = ?, receives = ?, received_at = ?, first_received_at = ? WHERE queue = ? AND id = ?"
)


def create(tx: Tx) -> int:
    """A number that no queue has had."""
    return int(tx.execute("INSERT INTO queue (total) VALUES (0) RETURNING number").fetchone()[0])


def numbers(tx: Tx) -> list[int]:
    """Every number, also those of deleted and purged queues whose messages are not swept up yet."""
    return [number for (number,) in tx.execute("SELECT number FROM queue")]


def newest(tx: Tx) -> int:
    """The highest id that is known, also of FIFO messages that are gone; 0 when there is none."""
    of_queue = "SELECT max(id) FROM message WHERE queue = ?"
    found = [tx.execute(of_queue, (number,)).fetchone()[0] for number in numbers(tx)]
    (sent,) = tx.execute("SELECT max(id) FROM sent WHERE sent_at = (SELECT max(sent_at) FROM sent)").fetchone()
    return max((id for id in (*found, sent) if id is not None), default=0)


def insert(tx: Tx, rows: list[Row]) -> None:
    """Store messages of a standard queue."""
    if len(rows) == 1:
        tx.execute(INSERT, rows[0])
    else:
        tx.executemany(INSERT, rows)


def cutoff(queue: Queue, now: float) -> int:
    """The id below which messages are past the queue's retention."""
    return int((now - queue.retention) * 1e6)


def take(tx: Tx, queue: Queue, dead_letter: Queue | None, now: float, limit: int, until: float) -> Taken:
    """Receive from a standard queue: hide what is visible until ``until``, and give up what was received too often."""
    rows = [Stored(*row) for row in tx.execute(_VISIBLE, (queue.number, now, limit))]
    if not rows:
        return Taken(next_at=_next_visible(tx, queue.number, now))
    oldest = cutoff(queue, now)
    if any(row.id < oldest for row in rows):
        return Taken(stale=True)
    if dead_letter is None or not any(worn_out(queue, row) for row in rows):
        hide(tx, queue.number, rows, now, until)
        return Taken(rows)
    kept: list[Stored] = []
    for row in rows:
        if worn_out(queue, row):
            give_up(tx, queue, dead_letter, row, now)
        else:
            kept.append(row)
    hide(tx, queue.number, kept, now, until)
    return Taken(kept, dead_lettered=True)


def worn_out(queue: Queue, row: Stored) -> bool:
    """Whether a message was received as often as its queue's redrive policy allows."""
    if not queue.max_receives or row.receives < queue.max_receives:
        return False
    before = unpack(row.extra).receives_before if row.extra else 0
    return row.receives - before >= queue.max_receives


def give_up(tx: Tx, queue: Queue, dead_letter: Queue, row: Stored, now: float, new_id: int | None = None) -> None:
    """Move a message to the dead-letter queue; ``new_id`` where it is sent anew (FIFO), else it keeps its age."""
    extra = unpack(row.extra) if row.extra else Extra()
    extra.source_arn, extra.receives_before = queue.arn, row.receives
    tx.execute(
        "UPDATE message SET queue = ?, id = ?, visible_at = ?, received_at = 0.0, extra = ? WHERE queue = ? AND id = ?",
        (dead_letter.number, new_id or row.id, now, pack(extra), queue.number, row.id),
    )


def send_again(tx: Tx, source: Queue, target: Queue, row: Stored, new_id: int, now: float) -> None:
    """Move a message to another queue as a new one: nothing is left of its past but what its sender gave it."""
    extra = unpack(row.extra) if row.extra else Extra()
    extra.source_arn, extra.receives_before = None, 0
    tx.execute(
        "UPDATE message SET queue = ?, id = ?, visible_at = ?, receives = 0, received_at = 0.0, "
        "first_received_at = 0.0, message_id = ?, extra = ? WHERE queue = ? AND id = ?",
        (target.number, new_id, now, str(uuid.uuid4()), pack(extra), source.number, row.id),
    )


def hide(tx: Tx, number: int, rows: list[Stored], now: float, until: float) -> None:
    """Count a receive of each message and keep it from others until ``until``."""
    changes = [(until, row.receives + 1, now, row.first_received_at or now, number, row.id) for row in rows]
    if len(changes) == 1:
        tx.execute(_HIDE, changes[0])
    else:
        tx.executemany(_HIDE, changes)


def _next_visible(tx: Tx, number: int, now: float) -> float | None:
    row = tx.execute("SELECT min(visible_at) FROM message WHERE queue = ? AND visible_at > ?", (number, now)).fetchone()
    return None if row is None else row[0]


class Flight(NamedTuple):
    """A message as its receipt handle finds it."""

    receives: int
    visible_at: float
    received_at: float  # 0 when its receiver gave it back
    lane: str | None


def flight(tx: Tx, number: int, id: int) -> Flight | None:
    """The state of a message, or None when it is gone."""
    row = tx.execute(
        "SELECT receives, visible_at, received_at, lane FROM message WHERE queue = ? AND id = ?", (number, id)
    ).fetchone()
    return None if row is None else Flight(*row)


def delete(tx: Tx, number: int, id: int, receives: int) -> None:
    """Delete a message, unless it was received again since."""
    tx.execute("DELETE FROM message WHERE queue = ? AND id = ? AND receives = ?", (number, id, receives))


def show(tx: Tx, number: int, id: int, visible_at: float, received_at: float) -> None:
    """Change when a message becomes visible."""
    tx.execute(
        "UPDATE message SET visible_at = ?, received_at = ? WHERE queue = ? AND id = ?",
        (visible_at, received_at, number, id),
    )


def has_older(tx: Tx, number: int, than: int) -> bool:
    """Whether a queue has messages with a lower id."""
    return tx.execute("SELECT 1 FROM message WHERE queue = ? AND id < ? LIMIT 1", (number, than)).fetchone() is not None


def drop_older(tx: Tx, number: int, than: int, limit: int) -> list[str | None]:
    """Delete the first messages with a lower id and return their message groups."""
    rows = tx.execute(
        "SELECT id, lane FROM message WHERE queue = ? AND id < ? ORDER BY id LIMIT ?", (number, than, limit)
    ).fetchall()
    if rows:
        tx.execute("DELETE FROM message WHERE queue = ? AND id BETWEEN ? AND ?", (number, rows[0][0], rows[-1][0]))
    return [lane for _, lane in rows]


def forget(tx: Tx, number: int) -> None:
    """Delete what is left of a number whose messages are gone."""
    tx.execute("DELETE FROM lane WHERE queue = ?", (number,))
    tx.execute("DELETE FROM queue WHERE number = ?", (number,))


class Counts(NamedTuple):
    """How many messages a queue has."""

    visible: int
    in_flight: int
    delayed: int


def total(tx: Tx, number: int) -> int:
    """How many messages a queue has, whatever their state."""
    row = tx.execute("SELECT total FROM queue WHERE number = ?", (number,)).fetchone()
    return row[0] if row is not None else 0


def counts(tx: Tx, number: int, now: float, at_most: int = -1) -> Counts | None:
    """How many messages are in which state, or None when more than ``at_most`` are in flight or delayed.

    Costs with those, not with the messages that wait to be received.
    """
    hidden, delayed = tx.execute(
        "SELECT count(*), coalesce(sum(receives = 0), 0) FROM "
        "(SELECT receives FROM message WHERE queue = ? AND visible_at > ? LIMIT ?) AS hidden",
        (number, now, at_most + 1 if at_most >= 0 else 2**62),
    ).fetchone()
    if 0 <= at_most < hidden:
        return None
    return Counts(total(tx, number) - hidden, hidden - delayed, delayed)


_RECEIPT = struct.Struct(">QQI")
_CHECK = struct.Struct(">BI")


def receipt(queue: Queue, id: int, receives: int) -> str:
    """The handle that one receive of a message gives."""
    plain = _RECEIPT.pack(queue.identity, id, receives)
    return b2a_base64(plain + _CHECK.pack(1, crc32(plain)), newline=False).decode()


def read_receipt(queue: Queue, handle: str) -> tuple[int, int]:
    """The message's id and the number of the receive that a handle stands for. Raises ReceiptHandleIsInvalid."""
    try:
        raw = a2b_base64(handle.encode("ascii"), strict_mode=True)
        plain, (_, check) = raw[: _RECEIPT.size], _CHECK.unpack(raw[_RECEIPT.size :])
        identity, id, receives = _RECEIPT.unpack(plain)
        if check == crc32(plain) and identity == queue.identity:
            return id, receives
    except (NotBase64, UnicodeError, struct.error):
        pass
    raise AwsError("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not a valid receipt handle.')
