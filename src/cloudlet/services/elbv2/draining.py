"""Draining: a deregistered target gets nothing new, and is forgotten once it has finished what it had under way."""

from __future__ import annotations

from cloudlet.control.clock import Timer
from cloudlet.services.elbv2.base import Base
from cloudlet.services.elbv2.records import Target
from cloudlet.store import Tx

# The proxy is looked at after these seconds, then after twice as many each time.
_FIRST_LOOK = 0.25
_LONGEST_PAUSE = 5.0


class Draining(Base):
    """Looks after deregistered targets, while there are any."""

    _look: Timer | None = None

    def drain(self, pause: float = _FIRST_LOOK) -> None:
        """Look after ``pause`` seconds, or when the next delay is over, which targets have finished."""
        self.stop_draining()
        ends = [record.value.draining_until for record in self.targets.all() if record.value.draining_until]
        if ends:
            self._look = self.clock.call_at(min(*ends, self.clock.now() + pause), lambda: self._due(pause))

    def stop_draining(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _due(self, pause: float) -> None:
        self._look = None
        self.cloud.spawn(self._forget_finished(pause), "elbv2 forgets drained targets")

    async def _forget_finished(self, pause: float) -> None:
        draining = [record for record in self.targets.all() if record.value.draining_until]
        known = {(one.cluster, one.address, one.port): one for one in await self.controller.endpoints()}
        now = self.clock.now()

        def is_over(one: Target) -> bool:
            there = known.get((one.group, one.address, one.port))
            if one.draining_until <= now:
                return True
            if there is None:  # of no listener; or for a moment, while the proxy is told something
                return pause > _FIRST_LOOK
            # A proxy that does not know yet that a target is draining may still give it something.
            return there.draining and not there.active

        over = [record for record in draining if is_over(record.value)]

        def forget(tx: Tx) -> None:
            for record in over:
                there = self.targets.get(record.scope, record.name, tx)
                if there is not None and there.revision == record.revision:
                    self.targets.delete(tx, record.scope, record.name)

        if over:
            await self.db.write(forget, long=len(over) > 20)
            self.changed()
        if self._look is None:  # else somebody has deregistered another one meanwhile
            self.drain(min(2 * pause, _LONGEST_PAUSE))
