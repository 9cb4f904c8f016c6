"""How a service's lines come to CloudWatch Logs: gathered for a moment, and written beside the work that made them."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud

log = logging.getLogger("cloudlet.logs")

_GATHER = 0.05  # seconds in which lines are gathered
_MOST = 5_000  # events of one PutLogEvents

Stream = tuple[str, str, str, str]  # account, region, group, stream
Events = list[tuple[int, str]]  # epoch milliseconds, text


class LogLines:
    """Takes lines at once, and writes them a moment later; those of a stream in their order."""

    def __init__(self, cloud: Cloud, principal: str, makes: Callable[[str], bool] | None = None) -> None:
        """``makes`` says of a group that is missing whether it is made with its stream; None: neither ever is."""
        self._cloud = cloud
        self._principal = principal
        self._makes = makes
        self._lines: dict[Stream, Events] = defaultdict(list)
        self._writing = asyncio.Lock()
        self._planned = False

    def take(self, stream: Stream, events: Events) -> None:
        """Take events; where they cannot be written they are lost, and our log says so."""
        self._lines[stream] += events
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_later(_GATHER, self._begin)

    def _begin(self) -> None:
        self._cloud.spawn(self.flush(), f"log lines of {self._principal}")

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

    async def put(self, stream: Stream, events: Events) -> None:
        """Write events now. Raises AwsError."""
        _, _, group, name = stream
        for start in range(0, len(events), _MOST):
            batch = [{"timestamp": when, "message": text} for when, text in events[start : start + _MOST]]
            input = {"logGroupName": group, "logStreamName": name, "logEvents": batch}
            try:
                await self._call(stream, "PutLogEvents", input)
            except AwsError as error:
                if error.code != "ResourceNotFoundException" or self._makes is None:
                    raise
                await self.make(stream, self._makes(group))
                await self._call(stream, "PutLogEvents", input)

    async def make(self, stream: Stream, with_group: bool) -> None:
        """Create a stream, and its group where that is wanted, unless they are there. Raises AwsError."""
        _, _, group, name = stream
        operations = [("CreateLogStream", {"logGroupName": group, "logStreamName": name})]
        if with_group:
            operations.insert(0, ("CreateLogGroup", {"logGroupName": group}))
        for operation, input in operations:
            try:
                await self._call(stream, operation, input)
            except AwsError as error:
                if error.code != "ResourceAlreadyExistsException":
                    raise

    async def _call(self, stream: Stream, operation: str, input: dict[str, Any]) -> None:
        account, region, _, _ = stream
        await self._cloud.call("logs", operation, input, account=account, region=region, principal=self._principal)
