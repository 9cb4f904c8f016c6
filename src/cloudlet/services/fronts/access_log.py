"""Access logs of APIs' stages: a line in the stage's own format for each request, written to CloudWatch Logs."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.fronts.functions import SELF

log = logging.getLogger("cloudlet.apigateway")

_GATHER = 0.1  # seconds in which lines are gathered
_VARIABLE = re.compile(r"\$context\.([A-Za-z0-9_.\-]+?)(?=[^A-Za-z0-9_.\-]|\.?$)")
EXECUTIONS = "API-Gateway-Execution-Logs_"  # groups that API Gateway makes by itself


class AccessLog:
    """Takes lines at once and writes them a moment later."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._lines: dict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
        self._made: set[tuple[str, str, str]] = set()

    def write(self, scope: str, api_id: str, settings: dict[str, Any], look: Callable[[str], Any]) -> None:
        """Take a request's line; ``look`` finds a ``$context`` variable. ``settings`` as a stage has them."""
        arn = settings.get("DestinationArn") or settings.get("destinationArn") or ""
        form = settings.get("Format") or settings.get("format") or ""
        if ":log-group:" not in arn or not form:
            return
        group = arn.split(":log-group:", 1)[1].removesuffix(":*")
        self.take(scope, group, api_id, [_VARIABLE.sub(lambda found: _text(look(found[1])), form)])

    def take(self, scope: str, group: str, stream: str, lines: list[str]) -> None:
        """Take lines as they are."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_GATHER, self._begin)
        now = int(self._cloud.clock.now() * 1000)
        self._lines[scope, group, stream] += [(now, line) for line in lines]

    def _begin(self) -> None:
        lines, self._lines = self._lines, defaultdict(list)
        self._cloud.spawn(self._flush(lines), "access logs")

    async def _flush(self, lines: dict[tuple[str, str, str], list[tuple[int, str]]]) -> None:
        for (scope, group, stream), found in lines.items():
            account, region = scope.split("/", 1)
            where: dict[str, Any] = {"account": account, "region": region, "principal": SELF}
            named = {"logGroupName": group, "logStreamName": stream}
            events = [{"timestamp": when, "message": text} for when, text in found]
            try:
                if (scope, group, stream) not in self._made:
                    await self._make(named, where)
                    self._made.add((scope, group, stream))
                await self._cloud.call("logs", "PutLogEvents", {**named, "logEvents": events}, **where)
            except AwsError as error:
                self._made.discard((scope, group, stream))
                log.warning("access log lines of %s are lost: %s", group, error)

    async def _make(self, named: dict[str, Any], where: dict[str, Any]) -> None:
        if named["logGroupName"].startswith(EXECUTIONS):
            await self._unless_there("CreateLogGroup", {"logGroupName": named["logGroupName"]}, where)
        await self._unless_there("CreateLogStream", named, where)

    async def _unless_there(self, operation: str, input: dict[str, Any], where: dict[str, Any]) -> None:
        try:
            await self._cloud.call("logs", operation, input, **where)
        except AwsError as error:
            if error.code != "ResourceAlreadyExistsException":
                raise


def _text(value: Any) -> str:
    """A variable without a value is a dash."""
    return "-" if value is None or value == "" else str(value)
