"""Schedules as they run: each enabled one has one timer of the clock, and each time that is due becomes one call.

What was due while the cloud was down, or while its clock was moved, is made up for once, not once for each time.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

from cloudlet.control.clock import Clock, Timer
from cloudlet.control.outbox import Outbox
from cloudlet.services import schedules
from cloudlet.services.scheduler import records
from cloudlet.services.scheduler.records import Job, Schedule
from cloudlet.services.schedules.expressions import At, Rate
from cloudlet.store import Database, Tx


def moments(schedule: Schedule) -> schedules.Schedule:
    """When a schedule is due. Raises ScheduleError."""
    settings = schedule.settings
    anchor = settings.get("StartDate", schedule.anchor)
    found = schedules.parse(
        settings["ScheduleExpression"], anchor=anchor, zone=settings.get("ScheduleExpressionTimezone", "UTC")
    )
    # A schedule's rate begins with its anchor.
    return Rate(found.period, anchor - found.period) if isinstance(found, Rate) else found


def next_due(schedule: Schedule, after: float) -> float | None:
    """The first time after a moment, between the schedule's StartDate and EndDate, or None."""
    settings, found = schedule.settings, moments(schedule)
    if isinstance(found, At):
        return found.after(after)
    if "StartDate" in settings:
        after = max(after, settings["StartDate"] - 0.001)
    due = found.after(after)
    return None if due is None or due > settings.get("EndDate", due) else due


class Running:
    """The timers of all schedules."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        outbox: Outbox,
        find: Callable[[Schedule], Schedule | None],
        complete: Callable[[Tx, Schedule], None],
    ) -> None:
        """``find`` gives a schedule as it is now; ``complete`` deletes one after its last call."""
        self._db = db
        self._clock = clock
        self._outbox = outbox
        self._find = find
        self._complete = complete
        self._timers: dict[str, Timer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Forget all timers."""
        for timer in self._timers.values():
            timer.cancel()

    def begin(self, schedule: Schedule, after: float) -> None:
        """Set the timer of a schedule: its next time is later than ``after``."""
        self.drop(schedule.arn)
        if schedule.enabled and (due := next_due(schedule, after)) is not None:
            self._timers[schedule.arn] = self._clock.call_at(due, partial(self._rung, schedule, due))

    def drop(self, arn: str) -> None:
        """A schedule runs no longer."""
        timer = self._timers.pop(arn, None)
        if timer is not None:
            timer.cancel()

    def _rung(self, known: Schedule, due: float) -> None:
        schedule = self._find(known)
        if schedule is None:
            return
        later = next_due(schedule, max(due, self._clock.now()))
        self._keep(self._tick(schedule, due, last=later is None))
        if later is not None:
            self._timers[schedule.arn] = self._clock.call_at(later, partial(self._rung, schedule, later))

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tick(self, schedule: Schedule, due: float, last: bool) -> None:
        """Write the call into the outbox; a flexible one is made at a random time of its window."""
        now, settings = self._clock.now(), schedule.settings
        window = settings["FlexibleTimeWindow"]
        minutes = window.get("MaximumWindowInMinutes", 0) if window["Mode"] == "FLEXIBLE" else 0
        job = Job(schedule.arn, settings["Target"], due, secrets.token_hex(8))

        def add(tx: Tx) -> None:
            records.tick(tx, schedule.arn, now)
            begins = now + random.uniform(0, minutes * 60.0) if minutes else now
            self._outbox.add(tx, schedule.arn, records.pack(job), due=begins)
            if last and settings.get("ActionAfterCompletion") == "DELETE":
                self._complete(tx, schedule)

        await self._db.write(add)
        self._outbox.wake()
