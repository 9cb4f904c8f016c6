"""Export tasks: a group's events written to a bucket, one folder a stream, in the background and one task at a time."""

from __future__ import annotations

import gzip
import uuid
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.logs import records
from cloudlet.services.logs.base import Base, read_token
from cloudlet.services.logs.records import Event, ExportTask, Place
from cloudlet.services.pages import token_of
from cloudlet.store import Record, Tx

_ACTIVE = ("PENDING", "RUNNING")
_EVENTS = 10_000  # of one object
_STREAMS = 50  # that are looked up at once
_CHECK = "aws-logs-write-test"
_SELF = "logs.amazonaws.com"


class Exporting(Base):
    """Operations on export tasks."""

    async def start(self) -> None:
        await super().start()
        self.exports = self.db.resources(ExportTask)
        for record in self.exports.all():
            if record.value.status in _ACTIVE:
                self.cloud.spawn(self._export(record), f"logs exports {record.name}")

    async def CreateExportTask(self, call: Call, input: Input) -> Output:
        name, start, end = input["logGroupName"], input["from"], input["to"]
        if self.groups.get(call.scope, name) is None:
            raise AwsError("ResourceNotFoundException", "The specified log group does not exist.")
        if start > end:
            raise AwsError("InvalidParameterException", "Start time must not be after the end time.")
        check = {"Bucket": input["destination"], "Key": _CHECK, "Body": b"Permission Check Successful"}
        try:
            await self.cloud.call("s3", "PutObject", check, **_where(call.scope))
        except AwsError as error:
            words = "The given bucket does not exist. Please make sure the bucket is valid."
            if error.code != "NoSuchBucket":
                words = "PutObject call on the given bucket failed. Please check if CloudWatch Logs has been granted "
                words += "permission to perform this operation."
            raise AwsError("InvalidParameterException", words) from None
        members = {
            "taskId": str(uuid.uuid4()),
            "taskName": input.get("taskName", ""),
            "logGroupName": name,
            "from": start,
            "to": end,
            "destination": input["destination"],
            "destinationPrefix": input.get("destinationPrefix", "exportedlogs"),
        }
        task = ExportTask(members, "PENDING", self.now(), input.get("logStreamNamePrefix", ""))

        def put(tx: Tx) -> Record[ExportTask]:
            if any(record.value.status in _ACTIVE for record in self.exports.list(call.scope, tx=tx)):
                raise AwsError("LimitExceededException", "Resource limit exceeded.")
            return self.exports.put(tx, call.scope, members["taskId"], task)

        self.cloud.spawn(self._export(await self.db.write(put)), f"logs exports {members['taskId']}")
        return {"taskId": members["taskId"]}

    async def DescribeExportTasks(self, call: Call, input: Input) -> Output:
        if "taskId" in input:
            found = [self._export_task(call, input["taskId"]).value]
        else:
            found = [record.value for record in self.exports.list(call.scope)]
        found = [task for task in found if task.status == input.get("statusCode", task.status)]
        found.sort(key=lambda task: (-task.created, task.members["taskId"]))
        start = read_token(input["nextToken"], int)[0] if "nextToken" in input else 0
        end = start + input.get("limit", 50)
        more = {"nextToken": token_of(end)} if end < len(found) else {}
        return {"exportTasks": [_shown(task) for task in found[start:end]], **more}

    async def CancelExportTask(self, call: Call, input: Input) -> Output:
        self._export_task(call, input["taskId"])
        if not await self._move(call.scope, input["taskId"], "CANCELLED", "Cancelled by user"):
            raise AwsError("InvalidOperationException", "The specified export task has already finished")
        return {}

    def _export_task(self, call: Call, id: str) -> Record[ExportTask]:
        record = self.exports.get(call.scope, id)
        if record is None:
            raise AwsError("ResourceNotFoundException", "The specified export task does not exist.")
        return record

    async def _move(self, scope: str, id: str, status: str, message: str = "") -> bool:
        """Change an active task's state; False where it has ended."""
        now = self.now()

        def move(tx: Tx) -> bool:
            record = self.exports.get(scope, id, tx)
            if record is None or record.value.status not in _ACTIVE:
                return False
            ended = now if status not in _ACTIVE else 0
            self.exports.put(tx, scope, id, replace(record.value, status=status, message=message, ended=ended))
            return True

        return await self.db.write(move)

    async def _export(self, record: Record[ExportTask]) -> None:
        if not await self._move(record.scope, record.name, "RUNNING"):
            return
        try:
            await self._write_out(record)
        except AwsError as error:
            await self._move(record.scope, record.name, "FAILED", error.message)
        else:
            await self._move(record.scope, record.name, "COMPLETED", "Completed successfully")

    async def _write_out(self, record: Record[ExportTask]) -> None:
        """Write every stream's events. What a run that was cut off has written is written again, the same."""
        task = record.value
        group = self.groups.get(record.scope, task.members["logGroupName"])
        if group is None:
            raise AwsError("ResourceNotFoundException", "The specified log group does not exist.")
        volume, after = group.value.volume, None
        while True:
            streams = await self.db.scan(
                lambda tx, after=after: records.streams_by_name(  # type: ignore[misc]
                    tx, volume, task.streams, after, False, _STREAMS
                )
            )
            for stream in streams:
                await self._write_stream(record, stream)
            if len(streams) < _STREAMS:
                return
            after = streams[-1].name

    async def _write_stream(self, record: Record[ExportTask], stream: records.Stream) -> None:
        members = record.value.members
        folder = f"{members['destinationPrefix']}/{members['taskId']}/{stream.name.strip('/').replace('/', '-')}"
        place: Place | None = None
        number = 0
        while True:
            current = self.exports.get(record.scope, record.name)
            if current is None or current.value.status not in _ACTIVE:
                return  # cancelled

            def read(tx: Tx, place: Place | None = place) -> tuple[bytes, Place | None]:
                found = records.of_stream(tx, stream.number, members["from"], members["to"], place, False, _EVENTS)
                last = (found[-1].timestamp, found[-1].id) if len(found) == _EVENTS else None
                return (gzip.compress(_lines(found).encode()) if found else b""), last

            body, place = await self.db.scan(read)
            if body:
                object = {"Bucket": members["destination"], "Key": f"{folder}/{number:06}.gz", "Body": body}
                await self.cloud.call("s3", "PutObject", object, **_where(record.scope))
            if place is None:
                return
            number += 1


def _lines(events: list[Event]) -> str:
    return "".join(
        f"{datetime.fromtimestamp(event.timestamp / 1000, UTC):%Y-%m-%dT%H:%M:%S}.{event.timestamp % 1000:03}Z "
        f"{event.message}\n"
        for event in events
    )


def _shown(task: ExportTask) -> dict[str, Any]:
    times = {"creationTime": task.created, **({"completionTime": task.ended} if task.ended else {})}
    status = {"code": task.status, **({"message": task.message} if task.message else {})}
    members = {key: value for key, value in task.members.items() if value != ""}
    return {**members, "status": status, "executionInfo": times}


def _where(scope: str) -> dict[str, Any]:
    account, region = scope.split("/")
    return {"account": account, "region": region, "principal": _SELF}
