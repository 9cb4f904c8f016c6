"""FIFO queues: message groups, deduplication, and receive attempts.

A message group that has messages is a row in ``lane``. Its ``ready_at`` is when its first message is visible: while
that one is in flight, the whole group waits. A receive takes messages from the head of a ready lane as far as they are
visible, lane after lane, as many of each as it may.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from cloudlet.services.sqs.records import (
    IN_LANE,
    INSERT,
    OF_LANE,
    Queue,
    Row,
    Stored,
    Taken,
    cutoff,
    flight,
    give_up,
    hide,
    show,
    worn_out,
)
from cloudlet.store import Tx

WINDOW = 300.0  # seconds in which a deduplication id or a receive attempt is remembered


def sequence_number(id: int) -> str:
    """A message's sequence number: 20 digits that grow."""
    return f"{id:020d}"


def send(tx: Tx, queue: Queue, row: Row, key: str, now: float) -> tuple[int, str]:
    """Store a message unless its deduplication id is known; the id and message id under which it is stored."""
    number, id, visible_at, message_id, _, _, lane, _, _ = row
    assert lane is not None
    scope = lane if queue.deduplication_scope == "messageGroup" else ""
    # Only what is past the window is deleted here, each row once.
    tx.execute("DELETE FROM sent WHERE sent_at <= ?", (now - WINDOW,))
    known = tx.execute(
        "SELECT id, message_id FROM sent WHERE queue = ? AND scope = ? AND deduplication_id = ?",
        (queue.identity, scope, key),
    ).fetchone()
    if known is not None:
        return known[0], known[1]
    tx.execute("INSERT INTO sent VALUES (?, ?, ?, ?, ?, ?)", (queue.identity, scope, key, id, message_id, now))
    tx.execute(INSERT, row)
    join(tx, number, lane, visible_at)
    return id, message_id


def join(tx: Tx, number: int, lane: str, ready_at: float) -> None:
    """Let a lane begin with its first message; one that has messages stays as it is."""
    tx.execute("INSERT INTO lane VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (number, lane, ready_at))


def forget(tx: Tx, queue: Queue) -> None:
    """Forget which deduplication ids were sent to a queue."""
    tx.execute("DELETE FROM sent WHERE queue = ?", (queue.identity,))


def settle(tx: Tx, number: int, lane: str) -> None:
    """Find out anew when a lane is ready, after one of its messages has changed."""
    first = tx.execute(f"SELECT visible_at {IN_LANE}", (number, lane, lane, 1)).fetchone()
    if first is None:
        tx.execute("DELETE FROM lane WHERE queue = ? AND name = ?", (number, lane))
    else:
        tx.execute("UPDATE lane SET ready_at = ? WHERE queue = ? AND name = ?", (first[0], number, lane))


def take(
    tx: Tx,
    queue: Queue,
    dead_letter: Queue | None,
    now: float,
    limit: int,
    until: float,
    new_ids: Iterator[int],
    attempt: str = "",
) -> Taken:
    """Receive from a FIFO queue; ``attempt`` repeats what it received before. Those given up are sent anew."""
    if attempt:
        tx.execute("DELETE FROM attempt WHERE made_at <= ?", (now - WINDOW,))
        if repeated := _repeat(tx, queue, attempt, now, until):
            return Taken(repeated)
    lanes = tx.execute(
        "SELECT name FROM lane WHERE queue = ? AND ready_at <= ? ORDER BY ready_at LIMIT ?", (queue.number, now, limit)
    ).fetchall()
    if not lanes:
        row = tx.execute(
            "SELECT min(ready_at) FROM lane WHERE queue = ? AND ready_at > ?", (queue.number, now)
        ).fetchone()
        return Taken(next_at=row[0])
    heads = {lane: tx.execute(OF_LANE, (queue.number, lane, lane, limit)).fetchall() for (lane,) in lanes}
    oldest = cutoff(queue, now)
    if any(row[0] < oldest for head in heads.values() for row in head):
        return Taken(stale=True)
    found: list[Stored] = []
    dead_lettered = False
    for lane, head in heads.items():
        if len(found) == limit:
            break
        taken: list[Stored] = []
        for *columns, visible_at in head[: limit - len(found)]:
            row = Stored(*columns)
            if visible_at > now:
                break
            if dead_letter is not None and worn_out(queue, row):
                give_up(tx, queue, dead_letter, row, now, next(new_ids))
                join(tx, dead_letter.number, lane, now)
                dead_lettered = True
            else:
                taken.append(row)
        hide(tx, queue.number, taken, now, until)
        settle(tx, queue.number, lane)
        found += taken
    if attempt and found:
        receipts = msgspec.msgpack.encode([(row.id, row.receives + 1) for row in found])
        tx.execute(
            "INSERT INTO attempt VALUES (?, ?, ?, ?, ?) ON CONFLICT (queue, name) DO UPDATE SET "
            "made_at = excluded.made_at, visible_at = excluded.visible_at, receipts = excluded.receipts",
            (queue.number, attempt, now, until, receipts),
        )
    return Taken(found, dead_lettered=dead_lettered)


def _repeat(tx: Tx, queue: Queue, attempt: str, now: float, until: float) -> list[Stored]:
    """What an attempt received, if it is all still as it was; its visibility timeout begins anew."""
    made = tx.execute(
        "SELECT visible_at, receipts FROM attempt WHERE queue = ? AND name = ?", (queue.number, attempt)
    ).fetchone()
    if made is None or made[0] <= now:
        return []
    again: list[Stored] = []
    for id, receives in msgspec.msgpack.decode(made[1]):
        state = flight(tx, queue.number, id)
        if state is None or state.receives != receives or state.visible_at != made[0]:
            return []
        row = tx.execute(
            "SELECT id, receives - 1, first_received_at, message_id, md5, sender, lane, extra, body "
            "FROM message WHERE queue = ? AND id = ?",
            (queue.number, id),
        ).fetchone()
        again.append(Stored(*row))
    for row in again:
        show(tx, queue.number, row.id, until, now)
    for lane in {row.lane for row in again}:
        assert lane is not None
        settle(tx, queue.number, lane)
    tx.execute("UPDATE attempt SET visible_at = ? WHERE queue = ? AND name = ?", (until, queue.number, attempt))
    return again
