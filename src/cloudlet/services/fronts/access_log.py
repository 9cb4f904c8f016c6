"""Access logs of APIs' stages: a line in the stage's own format for each request, written to CloudWatch Logs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cloudlet.services.api import Cloud
from cloudlet.services.fronts.functions import SELF
from cloudlet.services.loglines import LogLines

_VARIABLE = re.compile(r"\$context\.([A-Za-z0-9_.\-]+?)(?=[^A-Za-z0-9_.\-]|\.?$)")
EXECUTIONS = "API-Gateway-Execution-Logs_"  # groups that API Gateway makes by itself


class AccessLog:
    """Makes lines of requests, and hands them on."""

    def __init__(self, cloud: Cloud) -> None:
        self._clock = cloud.clock
        self._lines = LogLines(cloud, SELF, makes=lambda group: group.startswith(EXECUTIONS))

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
        account, region = scope.split("/", 1)
        now = int(self._clock.now() * 1000)
        self._lines.take((account, region, group, stream), [(now, line) for line in lines])


def _text(value: Any) -> str:
    """A variable without a value is a dash."""
    return "-" if value is None or value == "" else str(value)
