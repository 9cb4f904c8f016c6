"""Who follows new events: each follower has a bounded queue and is forgotten when nobody holds it any more."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

_BEHIND = 10_000  # events that a follower may be behind before it loses the oldest

Wish = Callable[[str, str], bool]  # whether a group and a stream are of interest


class Follower:
    """New events of the groups and streams of one scope that are of interest; an endless async iterator."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._events: deque[dict[str, Any]] = deque(maxlen=_BEHIND)
        self._arrived = asyncio.Event()

    def offer(self, group: str, stream: str, events: list[dict[str, Any]]) -> None:
        """Take events that have been stored, when they are of interest."""
        if self._wish(group, stream):
            for event in events:
                self._events.append(
                    {"group": group, "stream": stream, "timestamp": event["timestamp"], "message": event["message"]}
                )
            self._arrived.set()

    def taken(self) -> list[dict[str, Any]]:
        """Everything that has come."""
        events = list(self._events)
        self._events.clear()
        return events

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()


class Followers:
    """All followers, by scope."""

    def __init__(self) -> None:
        self._of: dict[str, weakref.WeakSet[Follower]] = {}

    def add(self, scope: str, wish: Wish) -> Follower:
        """A new follower, which hears of events from now on."""
        follower = Follower(wish)
        self._of.setdefault(scope, weakref.WeakSet()).add(follower)
        return follower

    def tell(self, scope: str, group: str, stream: str, events: list[dict[str, Any]]) -> None:
        """Events have been stored."""
        for follower in self._of.get(scope, ()):
            follower.offer(group, stream, events)
