"""Deliveries between services: written in the transaction of their cause, then made at least once.

A delivery's row is only needed after a crash, or while its next try is in the future; what can be delivered now waits
in memory, a little of it for each target, so that neither a long backlog nor a failing target holds up the others.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, ClassVar

import msgspec

from cloudlet.control.clock import Clock, Timer
from cloudlet.store import Database, Tx

log = logging.getLogger("cloudlet.outbox")

_IN_MEMORY = 64  # deliveries of one lane; further ones stay in the table until these are made
_AT_ONCE = 4  # a target has at most this part of all deliveries under way
_GATHER_DONE = 0.005  # seconds in which finished deliveries are gathered, to be deleted together
_LAST_CHANCE = 2.0  # seconds that deliveries under way are given when the cloud stops
_COLUMNS = "id, target, payload, attempt, added, lane, due, line"


class Delivery(msgspec.Struct):
    """Something to be delivered. ``attempt`` counts the tries that have failed; ``added`` is in epoch seconds."""

    id: int
    target: str
    payload: bytes
    attempt: int
    added: float
    lane: str


class Undeliverable(Exception):
    """Raised by ``deliver``: no further try will help."""


class _Line:
    """The deliveries that wait for each other: those of one lane, in order, or those of one target."""

    __slots__ = ("busy", "held", "key", "limit", "ordered", "paused", "queue", "stored", "timer", "waiting")

    def __init__(self, key: str, ordered: bool, limit: int) -> None:
        self.key = key
        self.ordered = ordered
        self.limit = limit  # deliveries at once; 1 while the target fails
        self.queue: deque[Delivery] = deque()
        self.held: set[int] = set()  # in the queue, under way, or made but not yet deleted
        self.busy = 0
        self.stored = False  # the table holds more than this knows
        self.paused = False  # an ordered line waits for the next try of its first delivery
        self.waiting = False  # it has its turn among the lines that can deliver
        self.timer: Timer | None = None


class Outbox:
    """The deliveries of one service, in the service's own database."""

    MIGRATION: ClassVar[str] = """
        CREATE TABLE outbox (id INTEGER PRIMARY KEY, line TEXT NOT NULL, due REAL NOT NULL, lane TEXT NOT NULL,
            target TEXT NOT NULL, attempt INTEGER NOT NULL, added REAL NOT NULL, payload BLOB NOT NULL);
        CREATE INDEX outbox_line ON outbox (line, due, id)"""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        deliver: Callable[[Delivery], Awaitable[None]],
        *,
        retries: Callable[[int, Delivery], float | None],
        concurrency: int = 64,
        given_up: Callable[[Delivery, Exception], Awaitable[None]] | None = None,
    ) -> None:
        """``retries(failed tries, delivery)`` gives the seconds to the next try, or None: ``given_up`` takes it."""
        self._db = db
        self._clock = clock
        self._deliver = deliver
        self._retries = retries
        self._given_up = given_up
        self._concurrency = concurrency
        self._at_once = max(1, concurrency // _AT_ONCE)
        self._ids = itertools.count(1)
        self._seen = 0
        self._lines: dict[str, _Line] = {}
        self._ready: deque[_Line] = deque()
        self._busy = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking = False
        self._look_again = False
        self._done: list[tuple[_Line, int]] = []
        self._stopping = False

    def add(self, tx: Tx, target: str, payload: bytes, *, lane: str = "", due: float | None = None) -> None:
        """Write a delivery in the transaction of its cause. Those of one lane go one after another, in order."""
        now = self._clock.now()
        tx.execute(
            "INSERT INTO outbox (id, line, due, lane, target, attempt, added, payload) VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
            (next(self._ids), _line_of(target, lane), now if due is None else due, lane, target, now, payload),
        )

    def wake(self) -> None:
        """Deliver what has been added and is due; called after the commit."""
        if self._looking:
            self._look_again = True
        elif not self._stopping:
            self._looking = True
            self._spawn(self._look())

    async def start(self) -> None:
        """Take up what an earlier run has left."""

        def left(tx: Tx) -> tuple[int, list[str]]:
            (highest,) = tx.execute("SELECT max(id) FROM outbox").fetchone()
            lines, last = [], ""
            while row := tx.execute("SELECT min(line) FROM outbox WHERE line > ?", (last,)).fetchone():
                if row[0] is None:
                    break
                last = row[0]
                lines.append(last)
            return highest or 0, lines

        self._seen, lines = await self._db.scan(left)
        self._ids = itertools.count(self._seen + 1)
        for key in lines:
            line = self._line(key)
            line.stored = True
            await self._refill(line)
            self._turn(line)
        self._pump()

    async def stop(self) -> None:
        """Give deliveries under way a moment to end; what is not made by then is kept for the next start."""
        self._stopping = True
        for line in self._lines.values():
            if line.timer is not None:
                line.timer.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=_LAST_CHANCE)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        await self._forget()

    def _line(self, key: str) -> _Line:
        line = self._lines.get(key)
        if line is None:
            ordered = key[0] == "o"
            line = self._lines[key] = _Line(key, ordered, 1 if ordered else self._at_once)
        return line

    async def _look(self) -> None:
        """Read what has been added since the last look."""
        try:
            while True:
                self._look_again = False
                rows = await self._db.read(
                    lambda tx: tx.execute(
                        f"SELECT {_COLUMNS} FROM outbox WHERE id > ? ORDER BY id LIMIT ?", (self._seen, _IN_MEMORY)
                    ).fetchall()
                )
                now = self._clock.now()
                for row in rows:
                    self._take(row, now)
                if rows:
                    self._seen = rows[-1][0]
                self._pump()
                if len(rows) < _IN_MEMORY and not self._look_again:
                    return
                await asyncio.sleep(0)
        finally:
            self._looking = False

    def _take(self, row: tuple[int, str, bytes, int, float, str, float, str], now: float) -> None:
        """A new row: into the queue of its line, or left in the table when it isn't due or the queue is full."""
        line = self._line(row[7])
        if row[0] in line.held:
            return
        if row[6] > now:
            line.stored = True
            if not line.queue and not line.busy:
                self._wait(line, row[6])
        elif len(line.queue) >= _IN_MEMORY or (line.ordered and line.stored):
            line.stored = True
        else:
            line.queue.append(Delivery(*row[:6]))
            line.held.add(row[0])
        self._turn(line)

    def _turn(self, line: _Line) -> None:
        """Give a line its turn when it has something that can be delivered."""
        if line.queue and not line.waiting and not line.paused and line.busy < line.limit:
            line.waiting = True
            self._ready.append(line)

    def _pump(self) -> None:
        """Begin deliveries, a line after the other, as many as may be under way."""
        while self._ready and self._busy < self._concurrency and not self._stopping:
            line = self._ready.popleft()
            line.waiting = False
            if not line.queue or line.paused or line.busy >= line.limit:
                continue
            line.busy += 1
            self._busy += 1
            self._spawn(self._attempt(line, line.queue.popleft()))
            self._turn(line)

    async def _attempt(self, line: _Line, delivery: Delivery) -> None:
        try:
            try:
                await self._deliver(delivery)
            except Exception as error:
                await self._failed(line, delivery, error)
            else:
                if not line.ordered:
                    line.limit = self._at_once
                self._finished(line, delivery)
        finally:
            line.busy -= 1
            self._busy -= 1
        if not line.queue and line.stored and not line.busy and not self._stopping:
            await self._refill(line)
        self._turn(line)
        self._pump()

    def _finished(self, line: _Line, delivery: Delivery) -> None:
        self._done.append((line, delivery.id))
        if len(self._done) == 1:
            asyncio.get_running_loop().call_later(_GATHER_DONE, lambda: self._spawn(self._forget()))

    async def _forget(self) -> None:
        """Delete the rows of what has been made."""
        done, self._done = self._done, []
        if not done:
            return
        await self._db.write(
            lambda tx: tx.executemany("DELETE FROM outbox WHERE id = ?", [(number,) for _, number in done])
        )
        for line, number in done:
            line.held.discard(number)
            if not line.held and not line.stored and self._lines.get(line.key) is line:
                del self._lines[line.key]

    async def _failed(self, line: _Line, delivery: Delivery, error: Exception) -> None:
        """Plan the next try, or give the delivery up."""
        delivery.attempt += 1
        pause = None if isinstance(error, Undeliverable) else self._retries(delivery.attempt, delivery)
        if pause is None:
            log.info("delivery to %s given up after %d tries: %s", delivery.target, delivery.attempt, error)
            if self._given_up is not None:
                try:
                    await self._given_up(delivery, error)
                except Exception:
                    log.exception("a delivery to %s is lost: it could not be dead-lettered", delivery.target)
            self._finished(line, delivery)
            return
        log.debug("delivery to %s failed, next try in %.1f s: %s", delivery.target, pause, error)
        due = self._clock.now() + pause
        if line.ordered:
            # The first of a lane keeps its place, and the others wait for it.
            line.paused = True
            line.queue.appendleft(delivery)
            await self._db.write(
                lambda tx: tx.execute("UPDATE outbox SET attempt = ? WHERE id = ?", (delivery.attempt, delivery.id))
            )
        else:
            line.limit = 1
            line.stored = True
            await self._db.write(
                lambda tx: tx.execute(
                    "UPDATE outbox SET attempt = ?, due = ? WHERE id = ?", (delivery.attempt, due, delivery.id)
                )
            )
            line.held.discard(delivery.id)
        self._wait(line, due)

    def _wait(self, line: _Line, due: float) -> None:
        """Look at a line again at that time, unless it is looked at before."""
        if line.timer is not None:
            if line.timer.when <= due:
                return
            line.timer.cancel()

        def rung() -> None:
            line.timer = None
            line.paused = False
            if not self._stopping:
                self._spawn(self._resume(line))

        line.timer = self._clock.call_at(due, rung)

    async def _resume(self, line: _Line) -> None:
        if not line.queue and line.stored:
            await self._refill(line)
        self._turn(line)
        self._pump()

    async def _refill(self, line: _Line) -> None:
        """Read what is due of a line from the table, as much as is kept in memory, or find when something will be."""
        now = self._clock.now()
        limit = _IN_MEMORY + len(line.held)

        def due(tx: Tx) -> tuple[list[tuple[int, str, bytes, int, float, str]], float | None]:
            rows = tx.execute(
                "SELECT id, target, payload, attempt, added, lane FROM outbox WHERE line = ? AND due <= ? "
                "ORDER BY due, id LIMIT ?",
                (line.key, now, limit),
            ).fetchall()
            if len(rows) == limit:
                return rows, now
            later = tx.execute(
                "SELECT due FROM outbox WHERE line = ? AND due > ? ORDER BY due LIMIT 1", (line.key, now)
            ).fetchone()
            return rows, later[0] if later else None

        rows, later = await self._db.read(due)
        fresh = [row for row in rows if row[0] not in line.held]
        line.queue.extend(Delivery(*row) for row in fresh)
        line.held.update(row[0] for row in fresh)
        line.stored = later is not None
        if later is not None and later > now:
            self._wait(line, later)
        elif not line.held and not line.stored:
            self._lines.pop(line.key, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # Not in the context of whoever has woken us: deliveries of others come in the same task.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the outbox stumbled", exc_info=error)


def _line_of(target: str, lane: str) -> str:
    return f"o{lane}" if lane else f"t{target}"
