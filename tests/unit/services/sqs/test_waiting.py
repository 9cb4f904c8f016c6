"""Who is woken by a queue's bell."""

from __future__ import annotations

import asyncio

from cloudlet.control.clock import Clock
from cloudlet.services.sqs.waiting import Bells


async def test_one_ring_wakes_one_waiter_that_is_still_there() -> None:
    clock = Clock()
    bells = Bells(clock)
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with bells.listen(1) as bell:
        until = clock.now() + 1000
        left = asyncio.ensure_future(bell.hear(bell.rings, until, gone))
        first = asyncio.ensure_future(bell.hear(bell.rings, until, None))
        second = asyncio.ensure_future(bell.hear(bell.rings, until, None))
        await asyncio.sleep(0)
        # The ring is meant for a waiter whose client goes at the same moment, so the next one gets it.
        bells.ring(1)
        gone.set_result(None)
        assert await left is False
        assert await first is True
        assert not second.done()
        # A cancelled waiter passes its ring on as well.
        third = asyncio.ensure_future(bell.hear(bell.rings, until, None))
        await asyncio.sleep(0)
        bells.ring(1)
        second.cancel()
        assert await third is True
        # What rang since somebody last looked is not lost.
        assert await bell.hear(bell.rings - 1, until, None) is True
        late = asyncio.ensure_future(bell.hear(bell.rings, until, None))
        await asyncio.sleep(0)
        clock.advance(2000)
        assert await late is True
    assert bells._bells == {}
