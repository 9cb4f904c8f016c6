"""A pipe on the event loop: pieces, its end, and being closed while somebody waits."""

from __future__ import annotations

import asyncio
import os

from cloudlet.engines.pipes import Pipe


async def test_pieces_until_the_end() -> None:
    reading, writing = os.pipe()
    pipe = Pipe(reading)
    waiting = asyncio.ensure_future(pipe.read())
    await asyncio.sleep(0)
    os.write(writing, b"one")
    assert await waiting == b"one"
    os.write(writing, b"two")
    os.close(writing)
    assert [await pipe.read(), await pipe.read(), await pipe.read()] == [b"two", b"", b""]


async def test_closed_once_while_somebody_waits() -> None:
    reading, writing = os.pipe()
    pipe = Pipe(reading)
    waiting = asyncio.ensure_future(pipe.read())
    await asyncio.sleep(0)
    pipe.close()
    mine = os.dup(writing)  # it gets the number that has just become free
    assert await waiting == b""
    pipe.close()
    os.fstat(mine)
    for descriptor in (mine, writing):
        os.close(descriptor)
