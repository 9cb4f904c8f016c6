"""What Lambda tells CloudWatch: of each resource, of its function, and of all functions.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from cloudlet.control.clock import Clock
from cloudlet.engines.functions import Outcome
from cloudlet.observe.calls import stopwatch
from cloudlet.observe.metrics import Dimensions, Metrics, Report, tally
from cloudlet.services.lambda_.records import LATEST

_NAMESPACE = "AWS/Lambda"
_MINUTE = 60
_MILLISECONDS = ("AsyncEventAge", "Duration", "IteratorAge", "UrlRequestLatency")  # all others are counts
_NOT_OF_ALL = ("ProvisionedConcurrency", "Url")  # how the names begin of what is not summed up over all functions

_Counted = dict[str, dict[float, int]]  # metric -> value -> how often it was there


class Level:
    """A set of dimensions. What is counted under it is summed up under those above it."""

    __slots__ = ("above", "counted", "dimensions", "measured", "provisioned", "running", "scope")

    def __init__(self, scope: str, dimensions: Dimensions, above: Level | None) -> None:
        self.scope = scope
        self.dimensions = dimensions
        self.above = above
        self.running = 0  # invocations that are under way
        self.provisioned = 0  # of them, those on provisioned concurrency
        self.counted: dict[int, _Counted] = {}  # by the start of the minute
        self.measured: dict[int, _Counted] = {}  # by the same: what holds for this level alone

    def and_above(self) -> Iterator[Level]:
        """This level and those that sum it up; the last one is that of all functions."""
        level: Level | None = self
        while level is not None:
            yield level
            level = level.above


class Begun:
    """An invocation under way. It counts for the minute in which it began, however long it takes."""

    __slots__ = ("is_provisioned", "level", "minute")

    def __init__(self, level: Level, minute: int, is_provisioned: bool) -> None:
        self.level = level
        self.minute = minute
        self.is_provisioned = is_provisioned


class Reporting:
    """Counts of all functions. Invocations are too many for ``Metrics.add``."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._levels: dict[tuple[str, ...], Level] = {}  # those that are in use
        self._counting: set[Level] = set()  # those that have something to hand over

    def level(self, scope: str, name: str, qualifier: str = "", version: str = "") -> Level:
        """That of a resource, a function as it was asked for; with ``version`` that of what an alias came to mean."""
        return self._levels.get((scope, name, qualifier, version)) or self._new(scope, name, qualifier, version)

    def _new(self, *place: str) -> Level:
        scope, name, qualifier, version = place
        function = ("FunctionName", name)
        resource = ("Resource", f"{name}:{qualifier}" if qualifier else name)
        levels: list[tuple[tuple[str, ...], Dimensions]] = [
            ((scope,), ()),
            ((scope, name), (function,)),
            ((scope, name, qualifier, ""), (function, resource)),
            (place, (("ExecutedVersion", version), function, resource)),
        ]
        level: Level | None = None
        for key, dimensions in levels[: 4 if version else 3]:
            level = self._levels.setdefault(key, Level(scope, dimensions, level))
        assert level is not None
        return level

    # Invocations

    def began(self, level: Level, unreserved: int, allocated: int) -> Begun:
        """An invocation begins, as one of so many ``unreserved`` ones; 0 where its function has a reservation.

        ``allocated`` is the provisioned concurrency of what is invoked: so many at a time are on it.
        """
        begun = Begun(level, int(self._clock.now()) // _MINUTE * _MINUTE, level.provisioned < allocated)
        one: Level | None = level
        while one is not None:
            one.running += 1
            measured = one.measured.get(begun.minute) or self._measured(one, begun.minute)
            tally(measured["ConcurrentExecutions"], one.running)
            if one.above is None and unreserved:
                tally(measured.setdefault("UnreservedConcurrentExecutions", {}), unreserved)
            one = one.above
        if allocated:
            self._on_provisioned(begun, allocated)
        return begun

    def _on_provisioned(self, begun: Begun, allocated: int) -> None:
        which = "" if begun.is_provisioned else "Spillover"
        self._count(begun.level, begun.minute, f"ProvisionedConcurrency{which}Invocations", 1.0)
        for level in begun.level.and_above():
            level.provisioned += begun.is_provisioned
            if level.above is not None:
                measured = level.measured[begun.minute]
                tally(measured.setdefault("ProvisionedConcurrentExecutions", {}), level.provisioned)
                if level.above.above is not None:  # of a function there is none: its aliases have theirs
                    share = level.provisioned / allocated
                    tally(measured.setdefault("ProvisionedConcurrencyUtilization", {}), share)

    def left(self, begun: Begun) -> None:
        """An invocation has given its place back."""
        one: Level | None = begun.level
        while one is not None:
            one.running -= 1
            one.provisioned -= begun.is_provisioned
            one = one.above

    def ended(self, begun: Begun, outcome: Outcome) -> None:
        """The function has answered, or will have when its stream ends."""
        if outcome.stream is not None:
            outcome.stream = self._until_the_end(outcome.stream, begun, outcome)
        else:
            self._came_to(begun, outcome.seconds, outcome.error)

    async def _until_the_end(
        self, stream: AsyncIterator[bytes], begun: Begun, outcome: Outcome
    ) -> AsyncIterator[bytes]:
        since = stopwatch() - outcome.seconds
        try:
            async for piece in stream:
                yield piece
        finally:
            self._came_to(begun, stopwatch() - since, outcome.error)

    def _came_to(self, begun: Begun, seconds: float, error: str) -> None:
        """From durations and errors follow the invocations and those that came to no error."""
        self._count(begun.level, begun.minute, "Duration", round(seconds * 1e3, 2))
        if error:
            self._count(begun.level, begun.minute, "Errors", 1.0)

    def throttled(self, scope: str, name: str, qualifier: str) -> None:
        """An invocation was refused for want of concurrency."""
        self.count(self.level(scope, name, qualifier), "Throttles")

    # Everything else

    def count(self, level: Level, metric: str, value: float = 1.0) -> None:
        """Count a value of now; what is a time is in milliseconds."""
        self._count(level, int(self._clock.now()) // _MINUTE * _MINUTE, metric, value)

    def answered_url(self, scope: str, name: str, qualifier: str, version: str, status: int, seconds: float) -> None:
        """A function URL has answered. One of no alias is of $LATEST."""
        level = self.level(scope, name, qualifier or LATEST, version)
        self.count(level, "UrlRequestCount")
        self.count(level, "Url4xxCount", float(400 <= status < 500))
        self.count(level, "Url5xxCount", float(status >= 500))
        self.count(level, "UrlRequestLatency", round(seconds * 1e3, 2))

    def of_mapping(self, scope: str, uuid: str, metric: str, value: int) -> None:
        """An event source mapping has done something with so many events."""
        self._metrics.add(scope, _NAMESPACE, metric, (("EventSourceMappingUUID", uuid),), value, "Count")

    # The minute

    def _count(self, level: Level, minute: int, metric: str, value: float) -> None:
        counted = level.counted.get(minute)
        if counted is None:
            self._begin_counting(level)
            counted = level.counted[minute] = {}
        values = counted.get(metric)
        if values is None:
            values = counted[metric] = {}
        tally(values, value)

    def _measured(self, level: Level, minute: int) -> _Counted:
        self._begin_counting(level)
        measured = level.measured[minute] = {"ConcurrentExecutions": {}}
        return measured

    def _begin_counting(self, level: Level) -> None:
        if not self._counting:
            self._metrics.tallied(self._hand_over)
        self._counting.add(level)

    def _hand_over(self) -> Iterator[Report]:
        """What has been counted since the last time. Levels that nobody is using are forgotten."""
        found: dict[tuple[Level, int], _Counted] = {}
        for level in self._counting:
            for minute, measured in level.measured.items():
                found.setdefault((level, minute), {}).update(measured)
            for minute, counted in level.counted.items():
                for each in level.and_above():
                    _add(found.setdefault((each, minute), {}), counted, each.above is None)
            level.measured, level.counted = {}, {}
        self._counting = set()
        self._levels = {key: level for key, level in self._levels.items() if level.running}
        for (level, minute), counted in found.items():
            for metric, values in counted.items():
                unit = "Milliseconds" if metric in _MILLISECONDS else "Count"
                yield Report(level.scope, _NAMESPACE, metric, level.dimensions, unit, minute, values)


def _add(total: _Counted, counted: _Counted, is_of_all: bool) -> None:
    """Add what was counted under one level to what is under another."""
    for metric, values in counted.items():
        if is_of_all and metric.startswith(_NOT_OF_ALL):
            continue
        for value, times in values.items():
            tally(total.setdefault(metric, {}), value, times)
    if durations := counted.get("Duration"):
        count = sum(durations.values())
        tally(total.setdefault("Invocations", {}), 1.0, count)
        # An invocation is one that came to no error, or was not throttled, just as well.
        tally(total.setdefault("Errors", {}), 0.0, count - sum(counted.get("Errors", {}).values()))
        tally(total.setdefault("Throttles", {}), 0.0, count)
