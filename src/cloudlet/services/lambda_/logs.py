"""Functions' log lines on their way to CloudWatch Logs: gathered, and written beside the invocations."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from cloudlet.engines.functions import Function
from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud

log = logging.getLogger("cloudlet.lambda")

_GATHER = 0.05  # seconds in which lines are gathered
_MOST = 10_000  # events of one PutLogEvents

_Stream = tuple[str, str, str, str]  # account, region, group, stream


class LogWriter:
    """Takes lines from the engine at once, and writes them a moment later."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._lines: dict[_Stream, list[tuple[int, str]]] = defaultdict(list)
        self._known: set[_Stream] = set()
        self._writing = asyncio.Lock()
        self._planned = False

    def write(self, function: Function, stream: str, lines: list[tuple[int, str]]) -> None:
        """Take lines of a function's sandbox: milliseconds since the epoch, and text."""
        account, region, _ = function.key.split("/", 2)
        self._lines[account, region, function.log_group, stream] += lines
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_later(_GATHER, self._begin)

    def _begin(self) -> None:
        self._cloud.spawn(self.flush(), "function logs")

    async def flush(self) -> None:
        """Write what has been taken."""
        async with self._writing:
            self._planned = False
            lines, self._lines = self._lines, defaultdict(list)
            for stream, events in lines.items():
                try:
                    await self._put(stream, events)
                except AwsError as error:
                    log.warning("log lines of %s are lost: %s", stream[2], error)

    async def _put(self, stream: _Stream, events: list[tuple[int, str]]) -> None:
        account, region, group, name = stream
        where = {"logGroupName": group, "logStreamName": name}
        for start in range(0, len(events), _MOST):
            batch = [{"timestamp": when, "message": text} for when, text in events[start : start + _MOST]]
            input = {**where, "logEvents": batch}
            if stream not in self._known:
                await self._make(stream)
            try:
                await self._cloud.call("logs", "PutLogEvents", input, account=account, region=region, principal=_SELF)
            except AwsError as error:
                if error.code != "ResourceNotFoundException":
                    raise
                # Somebody has deleted the group under a warm sandbox.
                await self._make(stream)
                await self._cloud.call("logs", "PutLogEvents", input, account=account, region=region, principal=_SELF)

    async def _make(self, stream: _Stream) -> None:
        account, region, group, name = stream
        for operation, input in (
            ("CreateLogGroup", {"logGroupName": group}),
            ("CreateLogStream", {"logGroupName": group, "logStreamName": name}),
        ):
            try:
                await self._cloud.call("logs", operation, input, account=account, region=region, principal=_SELF)
            except AwsError as error:
                if error.code != "ResourceAlreadyExistsException":
                    raise
        self._known.add(stream)


_SELF = "lambda.amazonaws.com"
