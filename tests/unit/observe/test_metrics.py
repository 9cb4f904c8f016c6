"""Counts of a minute: gathered, delivered once it is over, and nothing while nothing is counted."""

from __future__ import annotations

import asyncio

from cloudlet.control.clock import Clock
from cloudlet.observe.metrics import Gauge, Metrics, Report


class SetClock(Clock):
    """A clock that stands where it is put; its timers are fired by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 6000.0

    def now(self) -> float:
        return self.time


def test_minutes() -> None:
    async def run() -> None:
        clock, delivered = SetClock(), []
        due: list[int] = []

        async def deliver(reports: list[Report]) -> None:
            delivered.append(reports)

        metrics = Metrics(clock, deliver, lambda: due.append(1))
        depth = [3.0]

        async def measure() -> list[Gauge]:
            return [Gauge("a/r", "N", "Depth", (), "Count", value) for value in depth]

        metrics.gauge(measure)
        await metrics.collect()
        assert delivered == []  # nothing is counted, so that nobody is asked
        for value in (1.0, 1.0, 5.0):
            metrics.add("a/r", "N", "Sent", (("Queue", "q"),), value, "Bytes")
        await metrics.collect()
        assert delivered == []  # the minute is not over
        clock.time += 60
        await metrics.collect()
        assert delivered.pop() == [
            Report("a/r", "N", "Sent", (("Queue", "q"),), "Bytes", 6000, {1.0: 2, 5.0: 1}),
            Report("a/r", "N", "Depth", (), "Count", 6000, {3.0: 1}),
        ]
        clock.time += 60
        depth.clear()
        await metrics.collect()  # the gauge had an answer, and is asked until it has none
        clock.time += 60
        await metrics.collect()
        assert delivered == []
        metrics.add("a/r", "N", "Sent", (), 2.0, "Bytes")
        await metrics.flush()
        assert [report.values for report in delivered.pop()] == [{2.0: 1}]
        metrics.clear()

    asyncio.run(run())
