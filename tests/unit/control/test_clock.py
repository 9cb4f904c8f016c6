"""The clock: timers fire in order when it is moved, and sleeping takes the clock's time."""

from __future__ import annotations

import asyncio
import time

import pytest

from cloudlet.control.clock import Clock


async def test_moving_the_clock_fires_what_is_due_in_order() -> None:
    clock, fired = Clock(), []
    start = clock.now()
    for minutes in (3, 1, 2, 60):
        clock.call_later(minutes * 60, lambda minutes=minutes: fired.append(minutes))
    cancelled = clock.call_later(60, lambda: fired.append("cancelled"))
    cancelled.cancel()
    clock.advance(200)
    await asyncio.sleep(0.01)
    assert fired == [1, 2, 3]
    assert clock.now() - start >= 200
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)


async def test_a_sleeper_wakes_by_the_clock_or_by_real_time() -> None:
    clock = Clock()
    long = asyncio.ensure_future(clock.sleep(3600))
    started = time.perf_counter()
    await clock.sleep(0.02)
    assert time.perf_counter() - started >= 0.02
    assert not long.done()
    clock.advance(3600)
    await asyncio.wait_for(long, 5)
