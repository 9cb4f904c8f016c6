"""Keeps the health of every check: a timer for each that looks at an endpoint, none for those that only combine.

Those of alarms look when they are made, and again when they hear that their alarm has changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from cloudlet.control.clock import Clock, Timer
from cloudlet.services.route53.probes import Sight
from cloudlet.services.route53.records import Health, HealthCheck

_INTERVAL = 30  # seconds
_DEEPEST = 8  # checks of checks of checks

# Looks once.
Look = Callable[[HealthCheck], Awaitable[Sight]]


class _Watch:
    """One check: how it was last seen, and how often in a row otherwise than it counts."""

    def __init__(self, check: HealthCheck, health: Health) -> None:
        self.check = check
        self.health = health
        self.checked = 0.0
        self.seen = health.status
        self.last_failure = "" if health.healthy else health.status
        self.failed_at = 0.0 if health.healthy else health.since
        self.against = 0
        self.timer: Timer | None = None
        self.looking = False
        self.stale = False  # something has changed since the look that is under way began


class Checker:
    """All health checks of all accounts, by their ids."""

    def __init__(
        self,
        clock: Clock,
        look: Look,
        spawn: Callable[[Any, str], object],
        changed: Callable[[HealthCheck, Health], Awaitable[None]],
        looked: Callable[[HealthCheck, bool, dict[str, float]], None],
    ) -> None:
        """``changed`` stores a check's new health before it counts; ``looked`` hears of every look."""
        self._clock = clock
        self._look = look
        self._spawn = spawn
        self._changed = changed
        self._looked = looked
        self._watches: dict[str, _Watch] = {}

    def put(self, check: HealthCheck, health: Health | None = None) -> None:
        """Begin to check, or go on with a changed configuration. A new check is well until it is seen not to be."""
        known = self._watches.get(check.id)
        if known is not None:
            known.check = check
            known.against = 0
        else:
            fresh = Health(True, self._clock.now(), "Success: Not checked yet")
            known = self._watches[check.id] = _Watch(check, health or fresh)
        self._arm(known, 0.0)

    def alarm_changed(self, account: str, region: str, name: str) -> None:
        """Look again wherever this alarm counts."""
        for watch in self._watches.values():
            alarm = watch.check.config.get("AlarmIdentifier")
            if watch.check.account == account and alarm == {"Region": region, "Name": name}:
                watch.stale = watch.looking
                self._arm(watch, 0.0)

    def remove(self, id: str) -> None:
        """Check no more."""
        watch = self._watches.pop(id, None)
        if watch is not None and watch.timer is not None:
            watch.timer.cancel()

    def stop(self) -> None:
        """End all checks."""
        for id in list(self._watches):
            self.remove(id)

    def healthy(self, id: str, depth: int = 0) -> bool:
        """Whether a check is well, as records see it; one that is not there is."""
        watch = self._watches.get(id)
        if watch is None:
            return True
        config = watch.check.config
        well = watch.health.healthy
        if config.get("Disabled"):
            well = True
        elif config["Type"] == "CALCULATED" and depth < _DEEPEST:
            well = self._count(config.get("ChildHealthChecks", ()), depth) >= config.get("HealthThreshold", 0)
        return well != bool(config.get("Inverted"))

    def _count(self, ids: Iterable[str], depth: int) -> int:
        return sum(self.healthy(id, depth + 1) for id in ids)

    def observation(self, id: str) -> tuple[str, float]:
        """What was seen last, and when."""
        watch = self._watches[id]
        config = watch.check.config
        if config["Type"] == "CALCULATED" and not config.get("Disabled"):
            children = config.get("ChildHealthChecks", ())
            words = f"{self._count(children, 0)} of {len(children)} health checks are healthy"
            return f"{'Success' if self.healthy(id) else 'Failure'}: {words}", self._clock.now()
        return watch.seen, watch.checked or watch.health.since

    def last_failure(self, id: str) -> tuple[str, float] | None:
        """The last thing that went wrong, and when."""
        watch = self._watches[id]
        return (watch.last_failure, watch.failed_at) if watch.last_failure else None

    def _arm(self, watch: _Watch, seconds: float) -> None:
        if watch.timer is not None:
            watch.timer.cancel()
            watch.timer = None
        config = watch.check.config
        if config["Type"] != "CALCULATED" and not config.get("Disabled") and not watch.looking:
            watch.timer = self._clock.call_later(
                seconds, lambda: self._spawn(self._run(watch), f"health check {watch.check.id}")
            )

    async def _run(self, watch: _Watch) -> None:
        watch.looking = True
        check = watch.check
        try:
            sight = await self._look(check)
            watch.checked = self._clock.now()
            watch.seen = sight.words
            if self._watches.get(check.id) is watch and watch.check is check:
                if sight.well is not None:
                    await self._take(watch, sight.well, sight.words)
                self._looked(check, self.healthy(check.id), sight.latencies)
        finally:
            watch.looking = False
            if self._watches.get(check.id) is watch:
                if watch.check is not check or watch.stale:
                    self._arm(watch, 0.0)
                elif check.config["Type"] != "CLOUDWATCH_METRIC":
                    self._arm(watch, check.config.get("RequestInterval", _INTERVAL))
            watch.stale = False

    async def _take(self, watch: _Watch, well: bool, words: str) -> None:
        """Count one look: as many in a row as the threshold says turn the check's health."""
        check = watch.check
        if not well:
            watch.last_failure, watch.failed_at = words, watch.checked
        watch.against = watch.against + 1 if well != watch.health.healthy else 0
        threshold = 1 if check.config["Type"] == "CLOUDWATCH_METRIC" else check.config.get("FailureThreshold", 3)
        if watch.against >= threshold:
            watch.against = 0
            health = Health(well, watch.checked, words)
            await self._changed(check, health)
            watch.health = health
