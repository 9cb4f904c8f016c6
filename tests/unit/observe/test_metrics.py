"""Counts of a minute: gathered, delivered once it is over, and nothing while nothing is counted."""

from __future__ import annotations

import asyncio

from cloudlet.control.clock import Clock
from cloudlet.observe.metrics import Gauge, Metrics, Report, tally


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


def test_who_counts_himself_hands_over_when_the_minute_ends_and_when_the_cloud_stops() -> None:
    async def run() -> None:
        clock, delivered = SetClock(), []

        async def deliver(reports: list[Report]) -> None:
            delivered.append(reports)

        metrics, values = Metrics(clock, deliver, lambda: None), {}

        def hand_over() -> list[Report]:
            report = Report("a/r", "N", "Taken", (), "Count", 6000, dict(values))
            values.clear()
            return [report]

        metrics.tallied(hand_over)
        for value in (1.0, 1.0, 2.0):
            tally(values, value)
        await metrics.collect()
        assert delivered == []
        assert len(values) == 2
        clock.time += 60
        await metrics.collect()
        assert delivered.pop() == [Report("a/r", "N", "Taken", (), "Count", 6000, {1.0: 2, 2.0: 1})]
        clock.time += 60
        await metrics.collect()
        assert delivered == []  # it is asked once
        metrics.tallied(hand_over)
        tally(values, 3.0)
        await metrics.flush()
        assert [report.values for report in delivered.pop()] == [{3.0: 1}]
        many: dict[float, int] = {}
        for number in range(5000):
            tally(many, 100 + number / 7)
        assert len(many) < 1100
        assert sum(many.values()) == 5000
        metrics.clear()

    asyncio.run(run())
