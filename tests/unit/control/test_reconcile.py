"""The reconcile loop: it converges, retries what failed, and then rests."""

from __future__ import annotations

import asyncio

from cloudlet.control.clock import Clock
from cloudlet.control.reconcile import Reconciler, Step


class Machine:
    """Things that should run and things that do."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self.running: set[str] = set()
        self.failing: set[str] = set()
        self.rounds = 0

    def plan(self) -> list[Step]:
        self.rounds += 1
        starts = [Step(f"start {name}", lambda name=name: self._start(name)) for name in self.wanted - self.running]
        stops = [Step(f"stop {name}", lambda name=name: self._stop(name)) for name in self.running - self.wanted]
        return starts + stops

    async def _start(self, name: str) -> None:
        if name in self.failing:
            raise OSError(name)
        self.running.add(name)

    async def _stop(self, name: str) -> None:
        self.running.remove(name)


async def test_it_converges_and_then_does_nothing() -> None:
    machine = Machine()
    reconciler = Reconciler("test", machine.plan, Clock())
    machine.wanted = {"a", "b"}
    reconciler.start()
    await asyncio.wait_for(reconciler.settled(), 5)
    assert machine.running == {"a", "b"}

    machine.wanted = {"b", "c"}
    reconciler.trigger()
    reconciler.trigger()
    await asyncio.wait_for(reconciler.settled(), 5)
    assert machine.running == {"b", "c"}

    rounds = machine.rounds
    await asyncio.sleep(0.05)
    assert machine.rounds == rounds
    await reconciler.stop()


async def test_a_failing_step_holds_up_no_other_and_is_tried_again() -> None:
    machine, clock = Machine(), Clock()
    reconciler = Reconciler("test", machine.plan, clock)
    machine.wanted, machine.failing = {"good", "bad"}, {"bad"}
    reconciler.start()
    while "good" not in machine.running:
        await asyncio.sleep(0)
    assert machine.running == {"good"}
    machine.failing = set()
    await asyncio.sleep(0.01)
    clock.advance(1)
    await asyncio.wait_for(reconciler.settled(), 5)
    assert machine.running == {"good", "bad"}
    await reconciler.stop()
