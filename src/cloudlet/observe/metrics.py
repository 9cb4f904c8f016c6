"""What services count: gathered in memory for a minute, then given to CloudWatch at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from cloudlet.control.clock import Clock, Timer

log = logging.getLogger("cloudlet.metrics")

_MINUTE = 60
_DISTINCT = 1000  # different values of one metric in a minute; further ones are rounded

Dimensions = tuple[tuple[str, str], ...]


class Report(NamedTuple):
    """The values of one metric in the minute that starts at ``time``, each with how often it was there."""

    scope: str  # account/region
    namespace: str
    name: str
    dimensions: Dimensions
    unit: str
    time: int
    values: dict[float, int]


class Gauge(NamedTuple):
    """How much of something there is right now."""

    scope: str
    namespace: str
    name: str
    dimensions: Dimensions
    unit: str
    value: float


class Metrics:
    """Counts of the running minute. While nothing is counted nothing happens; a crash loses at most this minute."""

    def __init__(
        self, clock: Clock, deliver: Callable[[list[Report]], Awaitable[None]], collect_soon: Callable[[], object]
    ) -> None:
        """``deliver`` stores reports; ``collect_soon`` is called at a minute's end and has ``collect`` run."""
        self._clock = clock
        self._deliver = deliver
        self._minute = 0
        self._values: dict[tuple[str, str, str, Dimensions, str], dict[float, int]] = {}
        self._done: list[Report] = []
        self._gauges: list[Callable[[], Awaitable[Iterable[Gauge]]]] = []
        self._tallies: list[Callable[[], Iterable[Report]]] = []
        self._timer: Timer | None = None
        self._collect_soon = collect_soon
        self._collecting = asyncio.Lock()

    def add(
        self, scope: str, namespace: str, name: str, dimensions: Dimensions, value: float, unit: str, times: int = 1
    ) -> None:
        """Count a value. ``dimensions`` are sorted by name. Costs about a microsecond."""
        minute = int(self._clock.now()) // _MINUTE
        if minute != self._minute:
            self._turn(minute)
        tally(self._values.setdefault((scope, namespace, name, dimensions, unit), {}), value, times)

    def tallied(self, hand_over: Callable[[], Iterable[Report]]) -> None:
        """Take what ``hand_over`` gives, once, when the running minute ends or the cloud stops before.

        For what happens too often for ``add``: who counts by ``tally`` in values of its own calls this with the first
        of them after each time that it has handed them over.
        """
        minute = int(self._clock.now()) // _MINUTE
        if minute != self._minute:
            self._turn(minute)
        self._tallies.append(hand_over)

    def gauge(self, measure: Callable[[], Awaitable[Iterable[Gauge]]]) -> None:
        """Ask ``measure`` at the end of each minute in which something was counted, and on while it has an answer."""
        self._gauges.append(measure)

    async def collect(self) -> None:
        """Deliver what has been counted in minutes that are over; returns when it has been stored."""
        async with self._collecting:
            minute = int(self._clock.now()) // _MINUTE
            if self._minute not in (0, minute):
                self._turn(0)
                measured = await self._measure((minute - 1) * _MINUTE)
                if measured and not self._minute:
                    self._turn(minute)
            await self._flush()

    async def flush(self) -> None:
        """Deliver everything, also of the running minute, before the cloud stops."""
        self._turn(0)
        try:
            await self._flush()
        except Exception:
            log.exception("the last metrics are lost")

    def clear(self) -> None:
        """Forget everything."""
        self._turn(0)
        self._done, self._gauges = [], []

    async def _measure(self, time: int) -> int:
        """Take all gauges; how many there are."""
        count = 0
        for measure in self._gauges:
            try:
                found = [Report(*gauge[:5], time, {gauge.value: 1}) for gauge in await measure()]
            except Exception:
                log.exception("a gauge failed")
                continue
            self._done += found
            count += len(found)
        return count

    async def _flush(self) -> None:
        done, self._done = self._done, []
        if done:
            await self._deliver(done)

    def _turn(self, minute: int) -> None:
        """Begin another minute; 0 is none, until something is counted again."""
        for (scope, namespace, name, dimensions, unit), values in self._values.items():
            self._done.append(Report(scope, namespace, name, dimensions, unit, self._minute * _MINUTE, values))
        tallies, self._tallies = self._tallies, []
        for hand_over in tallies:
            self._done += hand_over()
        self._values, self._minute = {}, minute
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_at((minute + 1) * _MINUTE, self._collect_soon) if minute else None


def tally(values: dict[float, int], value: float, times: int = 1) -> None:
    """Count a value of one metric in one minute; where there are very many different ones it is rounded."""
    if value in values:
        values[value] += times
    elif len(values) < _DISTINCT:
        values[value] = times
    else:
        value = float(f"{value:.2g}")
        values[value] = values.get(value, 0) + times
