"""Rules with a schedule: each enabled one has one timer of the clock.

What was due while the cloud was down, or while its clock was moved, is made up for once, not once for each time.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from functools import partial

import msgspec

from cloudlet.control.clock import Clock, Timer
from cloudlet.control.outbox import Outbox
from cloudlet.services.events import records
from cloudlet.services.events.records import Job, Rule
from cloudlet.services.events.reporting import Reporting
from cloudlet.services.schedules import parse
from cloudlet.services.schedules.expressions import text
from cloudlet.store import Database, Tx


class Ticking:
    """The timers of all rules."""

    def __init__(
        self, db: Database, clock: Clock, outbox: Outbox, find: Callable[[str], Rule | None], reports: Reporting
    ) -> None:
        """``find`` gives a rule by its ARN."""
        self._db = db
        self._clock = clock
        self._outbox = outbox
        self._find = find
        self._reports = reports
        self._timers: dict[str, Timer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Forget all timers."""
        for timer in self._timers.values():
            timer.cancel()

    async def resume(self, rule: Rule) -> None:
        """Set the timer of a rule as it was before the restart."""
        if rule.schedule and rule.enabled:
            last = await self._db.read(lambda tx: records.last_tick(tx, rule.arn))
            self._wait(rule, max(rule.anchor, last or 0.0))

    def set(self, rule: Rule) -> None:
        """A rule is new or has changed: it ticks from now on."""
        self.drop(rule.arn)
        if rule.schedule and rule.enabled:
            self._wait(rule, self._clock.now())

    def drop(self, rule: str) -> None:
        """A rule ticks no longer."""
        timer = self._timers.pop(rule, None)
        if timer is not None:
            timer.cancel()

    def _wait(self, rule: Rule, after: float) -> None:
        schedule = parse(rule.schedule, anchor=rule.anchor)
        due = schedule.after(after)
        if due is not None:
            self._timers[rule.arn] = self._clock.call_at(due, partial(self._rung, rule.arn, due))

    def _rung(self, arn: str, due: float) -> None:
        rule = self._find(arn)
        if rule is None:
            return
        task = asyncio.ensure_future(self._tick(rule, due))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._wait(rule, max(due, self._clock.now()))

    async def _tick(self, rule: Rule, due: float) -> None:
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": rule.account,
            "time": text(due),
            "region": rule.region,
            "resources": [rule.arn],
            "detail": {},
        }
        body, now = msgspec.Raw(records.pack(event)), self._clock.now()

        def add(tx: Tx) -> None:
            records.tick(tx, rule.arn, now)
            for target in rule.targets:
                job = Job(rule.arn, target, body, now)
                self._outbox.add(tx, f"{rule.arn} {target}", records.pack(job))

        await self._db.write(add)
        self._reports.matched(rule)
        self._outbox.wake()
