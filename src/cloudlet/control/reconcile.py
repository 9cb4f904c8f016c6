"""Keeping what is as it should be: observe, plan, carry out, again until nothing is left to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cloudlet.control.clock import Clock, Timer

log = logging.getLogger("cloudlet.reconcile")

_FIRST_RETRY = 0.5
_LONGEST_RETRY = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. ``name`` says what, for the log and for tests; ``run`` is idempotent."""

    name: str
    run: Callable[[], Awaitable[object]]


class Planner(Protocol):
    """Compares what should be with what is. Pure: it starts nothing and changes nothing."""

    def __call__(self) -> Sequence[Step]: ...


class Reconciler:
    """Carries out one controller's plans, one round at a time.

    It is level-triggered: ``trigger`` says that something may have changed, however often and for whatever reason, and
    a round looks at everything anew. A failed step is tried again with growing pauses and holds up no other.
    """

    def __init__(self, name: str, plan: Planner, clock: Clock) -> None:
        self._name = name
        self._plan = plan
        self._clock = clock
        self._wanted = asyncio.Event()
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retry: Timer | None = None
        self._failures = 0

    def start(self) -> None:
        """Begin with a first round."""
        self._wanted.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"reconcile-{self._name}")

    def trigger(self) -> None:
        """Look again; costs nothing when a round is wanted already."""
        self._settled.clear()
        self._wanted.set()

    async def settled(self) -> None:
        """Wait until a round has found nothing to do."""
        await self._settled.wait()

    async def stop(self) -> None:
        """Begin no further step and wait for those under way to end or be cancelled."""
        if self._retry is not None:
            self._retry.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            steps = self._plan()
            if not steps:
                self._failures = 0
                if not self._wanted.is_set():
                    self._settled.set()
                continue
            outcomes = await asyncio.gather(*(self._carry_out(step) for step in steps))
            if all(outcomes):
                self._failures = 0
                # Another round shows that the plan is now empty, or finds what has changed meanwhile.
                self._wanted.set()
            else:
                self._failures += 1
                pause = min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** (self._failures - 1))
                self._retry = self._clock.call_later(pause, self.trigger)

    async def _carry_out(self, step: Step) -> bool:
        try:
            await step.run()
            return True
        except Exception as error:
            log.warning("%s: %s failed, will be tried again: %s", self._name, step.name, error)
            return False
