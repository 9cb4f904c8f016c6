"""Time as a seam: nothing else reads the wall clock, so that tests and users can move it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable


class Timer:
    """A call in the future. ``cancel`` is idempotent."""

    __slots__ = ("callback", "cancelled", "when")

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the call; nothing happens if it was made already."""
        self.cancelled = True


class Clock:
    """Real time plus an offset that only grows. Times are seconds since the epoch, UTC.

    All timers share one timer of the event loop, so that a thousand idle timers cost nothing, and moving the clock
    fires, in their order, those that have become due.
    """

    def __init__(self, offset: float = 0.0) -> None:
        self._offset = offset
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = 0.0

    @property
    def offset(self) -> float:
        """How far this clock is ahead of the machine's, in seconds."""
        return self._offset

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._offset

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` on the event loop once the clock reads ``when`` or later."""
        timer = Timer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        self._arm()
        return timer

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` after so many seconds of this clock."""
        return self.call_at(self.now() + seconds, callback)

    async def sleep(self, seconds: float) -> None:
        """Wait until so many seconds of this clock have passed."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        done = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        timer = self.call_later(seconds, wake)
        try:
            await done
        finally:
            timer.cancel()

    def advance(self, seconds: float) -> float:
        """Move the clock forward and return the new time. Raises ValueError for a negative number."""
        if not seconds >= 0:
            raise ValueError("the clock only moves forward")
        self._offset += seconds
        self._arm(moved=True)
        return self.now()

    def reset(self) -> None:
        """Back to the machine's time, for a cloud that starts anew. Timers stay: whoever set one cancels it."""
        self._offset = 0.0
        self._arm(moved=True)

    def _arm(self, moved: bool = False) -> None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        if not self._timers:
            return
        first = self._timers[0][0]
        if self._handle is not None:
            if not moved and self._armed_for <= first:
                return
            self._handle.cancel()
        self._armed_for = first
        self._handle = asyncio.get_running_loop().call_later(max(0.0, first - self.now()), self._fire)

    def _fire(self) -> None:
        self._handle = None
        now = self.now()
        while self._timers and (self._timers[0][0] <= now or self._timers[0][2].cancelled):
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.callback()
        self._arm()
