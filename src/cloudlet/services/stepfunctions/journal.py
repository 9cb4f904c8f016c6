"""An execution's history and its frames, written together before the next step acts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cloudlet.control.clock import Clock
from cloudlet.services.stepfunctions import records
from cloudlet.services.stepfunctions.data import text_of
from cloudlet.services.stepfunctions.records import Execution, Frame
from cloudlet.store import Database, Tx

if TYPE_CHECKING:
    from cloudlet.services.stepfunctions.announcing import Announcer

MOST_EVENTS = 25_000
_WHOLE = {"truncated": False}


class Journal:
    """What has happened in one execution. Without a database it is kept nowhere: Express executions have no history."""

    def __init__(self, clock: Clock, number: int, body: Execution, db: Database | None, last: int = 0) -> None:
        """``last`` is the id of the last event that is stored."""
        self.clock = clock
        self.number = number
        self.body = body
        self.frames: dict[str, Frame] = {}
        self.last = last
        self.told: Any = None  # gets the events of each flush: logging
        self.announcer: Announcer | None = None
        self.announced: bytes | None = None  # the event of the end, for EventBridge
        self._db = db
        self._events: list[dict[str, Any]] = []
        self._touched: set[str] = set()
        self._dropped: set[str] = set()
        self._writing: asyncio.Future[None] | None = None

    def emit(self, previous: int, type: str, key: str = "", details: dict[str, Any] | None = None) -> int:
        """Note an event; its id. ``key`` names its details where the type's name does not."""
        self.last += 1
        event: dict[str, Any] = {
            "timestamp": self.clock.now(),
            "type": type,
            "id": self.last,
            "previousEventId": previous,
        }
        if details is not None:
            key = key or type[0].lower() + type[1:]
            event[f"{key}EventDetails"] = details
        self._events.append(event)
        return self.last

    def put(self, path: str, frame: Frame) -> Frame:
        """A new thread."""
        self.frames[path] = frame
        self._dropped.discard(path)
        self._touched.add(path)
        return frame

    def touch(self, path: str) -> None:
        """The frame of this path has changed."""
        self._touched.add(path)

    def drop(self, under: str) -> None:
        """Forget the threads below a path."""
        for path in [path for path in self.frames if path.startswith(f"{under}/")]:
            self._drop(path)

    def _drop(self, path: str) -> None:
        del self.frames[path]
        self._touched.discard(path)
        self._dropped.add(path)

    async def flush(self, status: str = "", stopped: float | None = None) -> None:
        """Store what has been noted, and what has become of the execution. Returns after the commit."""
        if status == "SUCCEEDED":
            for path in list(self.frames):
                self._drop(path)
        events, self._events = self._events, []
        if self._db is None:
            if self.told is not None and events:
                self.told(events)
            await asyncio.sleep(0)
            return
        if events or self._touched or self._dropped or status:
            self._writing = asyncio.ensure_future(self._db.write(self._written(events, status, stopped)))
            if self.told is not None and events:
                self.told(events)
        if self._writing is not None and not self._writing.done():
            await asyncio.shield(self._writing)

    def _written(self, events: list[dict[str, Any]], status: str, stopped: float | None) -> Any:
        number = self.number
        rows = [(number, event["id"], records.encode(event)) for event in events]
        frames = [(number, path, records.encode(self.frames[path])) for path in self._touched]
        dropped = [(number, path) for path in self._dropped]
        body = records.encode(self.body) if status else b""
        announced, announcer = self.announced, self.announcer
        self._touched, self._dropped = set(), set()

        def write(tx: Tx) -> None:
            records.add_events(tx, rows)
            if dropped:
                records.drop_frames(tx, dropped)
            if frames:
                records.put_frames(tx, frames)
            if status:
                records.save(tx, number, status, stopped, body)
            if announced is not None and announcer is not None:
                announcer.add(tx, announced)

        return write


def shown(name: str, value: Any) -> dict[str, Any]:
    """An input or output in an event's details."""
    return {name: value if isinstance(value, str) else text_of(value), f"{name}Details": _WHOLE}
