"""Functions' log lines on their way to CloudWatch Logs."""

from __future__ import annotations

from cloudlet.engines.functions import Function
from cloudlet.services.api import Cloud
from cloudlet.services.loglines import Events, LogLines


class LogWriter(LogLines):
    """Takes lines from the engine. A group that somebody has deleted under a warm sandbox is made again."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud, "lambda.amazonaws.com", makes=lambda group: True)

    def write(self, function: Function, stream: str, lines: Events) -> None:
        """Take lines of a function's sandbox: milliseconds since the epoch, and text."""
        account, region, _ = function.key.split("/", 2)
        self.take((account, region, function.log_group, stream), lines)
