"""What containers print, on its way to CloudWatch Logs: gathered, and written beside the tasks."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud

log = logging.getLogger("cloudlet.ecs")

SELF = "ecs-tasks.amazonaws.com"
_GATHER = 0.05  # seconds in which lines are gathered
_MOST = 5_000  # events of one PutLogEvents
_LONGEST = 256 * 1024 - 26

Stream = tuple[str, str, str, str]  # account, region, group, stream


class Shipping:
    """Takes lines at once, and writes them a moment later."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._streams: dict[str, Stream] = {}
        self._routers: dict[str, Callable[[str, bytes], None]] = {}
        self._lines: dict[Stream, list[tuple[int, str]]] = defaultdict(list)
        self._writing = asyncio.Lock()
        self._planned = False

    def direct(self, container: str, stream: Stream) -> None:
        """From here on what this container prints goes to that stream."""
        self._streams[container] = stream

    def route(self, container: str, router: Callable[[str, bytes], None]) -> None:
        """From here on what this container prints (source, line) goes there."""
        self._routers[container] = router

    def forget(self, container: str) -> None:
        """The container is gone."""
        self._routers.pop(container, None)
        self._streams.pop(container, None)

    def take(self, container: str, source: str, line: bytes) -> None:
        """A line of a container; without a log configuration nobody keeps it."""
        if (router := self._routers.get(container)) is not None:
            router(source, line)
        stream = self._streams.get(container)
        if stream is None:
            return
        text = line.decode(errors="replace").rstrip("\r\n")
        if text:
            self._lines[stream].append((int(self._cloud.clock.now() * 1000), text[:_LONGEST]))
            if not self._planned:
                self._planned = True
                asyncio.get_running_loop().call_later(_GATHER, self._begin)

    def _begin(self) -> None:
        self._cloud.spawn(self.flush(), "logs of tasks")

    async def flush(self) -> None:
        """Write what has been taken."""
        async with self._writing:
            self._planned = False
            lines, self._lines = self._lines, defaultdict(list)
            for stream, events in lines.items():
                try:
                    await self.put(stream, events)
                except AwsError as error:
                    log.warning("log lines of %s are lost: %s", stream[2], error)

    async def put(self, stream: Stream, events: list[tuple[int, str]]) -> None:
        """Write events (epoch milliseconds, text) now. Raises AwsError."""
        account, region, group, name = stream
        for start in range(0, len(events), _MOST):
            batch = [{"timestamp": when, "message": text} for when, text in events[start : start + _MOST]]
            input = {"logGroupName": group, "logStreamName": name, "logEvents": batch}
            await self._cloud.call("logs", "PutLogEvents", input, account=account, region=region, principal=SELF)

    async def make(self, stream: Stream, with_group: bool) -> None:
        """Create a stream, and its group where the definition says so. Raises AwsError."""
        account, region, group, name = stream
        operations = [("CreateLogStream", {"logGroupName": group, "logStreamName": name})]
        if with_group:
            operations.insert(0, ("CreateLogGroup", {"logGroupName": group}))
        for operation, input in operations:
            try:
                await self._cloud.call("logs", operation, input, account=account, region=region, principal=SELF)
            except AwsError as error:
                if error.code != "ResourceAlreadyExistsException":
                    raise
