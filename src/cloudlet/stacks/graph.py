"""Runs the work of a graph: what is independent side by side, what depends in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping


async def run(
    depends: Mapping[str, frozenset[str]],
    work: Callable[[str], Awaitable[bool]],
    stopping: asyncio.Event,
    limit: int = 64,
    stop_on_failure: bool = True,
) -> None:
    """Do the work of every name once all it depends on has succeeded; ``work`` says whether it has.

    Once ``stopping`` is set nothing more is started; a failure sets it when ``stop_on_failure``. What has started is
    always awaited.
    """
    waiting = {name: set(others) & depends.keys() for name, others in depends.items()}
    followers: dict[str, list[str]] = {name: [] for name in depends}
    for name, others in waiting.items():
        for other in others:
            followers[other].append(name)
    ready = [name for name, others in waiting.items() if not others]
    running: dict[asyncio.Task[bool], str] = {}
    try:
        while running or (ready and not stopping.is_set()):
            while ready and len(running) < limit and not stopping.is_set():
                name = ready.pop(0)
                running[asyncio.ensure_future(_as_task(work, name))] = name
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                name = running.pop(task)
                if not task.result():
                    if stop_on_failure:
                        stopping.set()
                    continue
                for follower in followers[name]:
                    waiting[follower].discard(name)
                    if not waiting[follower]:
                        ready.append(follower)
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


async def _as_task(work: Callable[[str], Awaitable[bool]], name: str) -> bool:
    return await work(name)
