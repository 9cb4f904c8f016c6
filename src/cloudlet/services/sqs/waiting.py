"""Long polling: who waits for a queue's messages, and what wakes them. Nothing exists for a queue nobody waits for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from cloudlet.control.clock import Clock


class Bell:
    """Rung when a queue may have a message. One ring wakes one waiter, who rings again when it found something."""

    __slots__ = ("_clock", "_waiters", "listeners", "rings")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.listeners = 0
        self.rings = 0

    def ring(self) -> None:
        """Wake the waiter that has waited longest."""
        self.rings += 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def hear(self, heard: int, until: float, gone: asyncio.Future[None] | None) -> bool:
        """Wait for the next ring after ``heard`` or until a time; False when ``gone`` came first."""
        if gone is not None and gone.done():
            self.ring()
            return False
        if self.rings != heard:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: object = None) -> None:
            if not waiter.done():
                waiter.set_result(None)

        self._waiters.append(waiter)
        timer = self._clock.call_at(until, wake)
        if gone is not None:
            gone.add_done_callback(wake)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.ring()
            raise
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if gone is not None:
                gone.remove_done_callback(wake)
        if gone is not None and gone.done():
            # The ring may have been meant for this waiter: somebody else takes it.
            self.ring()
            return False
        return True


class Bells:
    """The bells of the queues that somebody waits for, by the queue's identity."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bells: dict[int, Bell] = {}

    def ring(self, identity: int) -> None:
        """Say that a queue may have a message, or may have one sooner than it seemed."""
        if (bell := self._bells.get(identity)) is not None:
            bell.ring()

    @contextmanager
    def listen(self, identity: int) -> Iterator[Bell]:
        """A queue's bell, kept while somebody listens."""
        bell = self._bells.setdefault(identity, Bell(self._clock))
        bell.listeners += 1
        try:
            yield bell
        finally:
            bell.listeners -= 1
            if not bell.listeners:
                self._bells.pop(identity, None)
