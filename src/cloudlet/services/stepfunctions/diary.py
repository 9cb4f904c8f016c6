"""Logging: an execution's events as lines in CloudWatch Logs, off its path."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.stepfunctions.data import text_of
from cloudlet.services.stepfunctions.records import Execution, Revision

_SELF = "delivery.logs.amazonaws.com"
_BATCH = 500
_FATAL = ("ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted")
_FAILURES = ("Failed", "TimedOut", "Aborted")
_DATA = ("input", "output", "parameters", "assignedVariables")


class Diary:
    """Writes lines in their order; nothing runs while there is nothing to write."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._lines: deque[tuple[str, str, dict[str, Any]]] = deque()
        self._streams: dict[tuple[str, str], str] = {}
        self._busy = False

    def teller(self, body: Execution, revision: Revision) -> Callable[[list[dict[str, Any]]], None] | None:
        """What takes an execution's events; None when its machine does not log."""
        level = revision.logging.get("level", "OFF")
        if level == "OFF":
            return None
        group = revision.logging["destinations"][0]["cloudWatchLogsLogGroup"]["logGroupArn"]
        with_data = revision.logging.get("includeExecutionData", False)
        machine = body.machine_arn.rpartition(":")[2]

        def tell(events: list[dict[str, Any]]) -> None:
            for event in events:
                if is_logged(event["type"], level):
                    self._lines.append((group, machine, _line(event, body, with_data)))
            if self._lines and not self._busy:
                self._busy = True
                self._cloud.spawn(self._write(), "stepfunctions logs")

        return tell

    async def _write(self) -> None:
        try:
            while self._lines:
                group, machine, _ = self._lines[0]
                batch: list[dict[str, Any]] = []
                while self._lines and self._lines[0][:2] == (group, machine) and len(batch) < _BATCH:
                    batch.append(self._lines.popleft()[2])
                await self._put(group, machine, batch)
        finally:
            self._busy = False

    async def _put(self, group_arn: str, machine: str, batch: list[dict[str, Any]]) -> None:
        """Write to the machine's stream; lines for a group that is gone are lost, as on AWS."""
        _, _, _, region, account, _, group = group_arn.removesuffix(":*").split(":", 6)
        stream = self._streams.get((group_arn, machine))
        try:
            if stream is None:
                moment = datetime.fromtimestamp(self._cloud.clock.now(), UTC)
                stream = f"states/{machine}/{moment:%Y-%m-%d-%H-%M}/{uuid4().hex[:8]}"
                made = {"logGroupName": group, "logStreamName": stream}
                await self._call("CreateLogStream", made, account, region)
                self._streams[group_arn, machine] = stream
            lines = {"logGroupName": group, "logStreamName": stream, "logEvents": batch}
            await self._call("PutLogEvents", lines, account, region)
        except AwsError:
            self._streams.pop((group_arn, machine), None)

    async def _call(self, operation: str, input: dict[str, Any], account: str, region: str) -> None:
        await self._cloud.call("logs", operation, input, account=account, region=region, principal=_SELF)


def is_logged(type: str, level: str) -> bool:
    """Whether an event is written at a level: ALL, ERROR or FATAL."""
    if level == "ALL":
        return True
    return type in _FATAL if level == "FATAL" else type.endswith(_FAILURES) or type == "FailStateEntered"


def _line(event: dict[str, Any], body: Execution, with_data: bool) -> dict[str, Any]:
    details: dict[str, Any] = next((value for key, value in event.items() if key.endswith("EventDetails")), {})
    if not with_data:
        details = {key: value for key, value in details.items() if key.removesuffix("Details") not in _DATA}
    message = {
        "id": str(event["id"]),
        "type": event["type"],
        "details": details,
        "previous_event_id": str(event["previousEventId"]),
        "event_timestamp": str(int(event["timestamp"] * 1000)),
        "execution_arn": body.arn,
        "redrive_count": str(body.redrives),
    }
    return {"timestamp": int(event["timestamp"] * 1000), "message": text_of(message)}
