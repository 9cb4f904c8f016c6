"""Message move tasks: back from a dead-letter queue, at a given rate, over restarts."""

from __future__ import annotations

import json
import uuid
from base64 import b64decode, b64encode
from collections.abc import Awaitable
from itertools import count

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.sqs import fifo, records
from cloudlet.services.sqs.messages import invalid
from cloudlet.services.sqs.queues import Queues
from cloudlet.services.sqs.records import MoveTask, Queue, Stored
from cloudlet.store import Record, Tx

_FASTEST = 500
_CHUNK = 10
_KEPT = 10  # tasks that are listed of one queue


class Moving(Queues):
    """Operations on message move tasks."""

    async def start(self) -> None:
        await super().start()
        for record in self._tasks.all():
            if record.value.status == "RUNNING":
                self.cloud.spawn(self._run(record.scope, record.name), f"sqs moves {record.name}")

    async def StartMessageMoveTask(self, call: Call, input: Input) -> Output:
        source = self._named(input["SourceArn"], "SourceArn")
        if not self._sources_of(source.arn, source.scope):
            raise AwsError("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
        destination = input.get("DestinationArn", "")
        if destination:
            target = self._named(destination, "DestinationArn")
            if target.identity == source.identity or target.fifo != source.fifo:
                raise invalid(destination, "DestinationArn", "It must be another queue of the same type.")
        rate = input.get("MaxNumberOfMessagesPerSecond", 0)
        if "MaxNumberOfMessagesPerSecond" in input and not 1 <= rate <= _FASTEST:
            raise invalid(rate, "MaxNumberOfMessagesPerSecond", f"Must be between 1 and {_FASTEST}, if provided.")
        id, now = str(uuid.uuid4()), self.clock.now()

        def begin(tx: Tx) -> None:
            tasks = self._of(source, tx)
            if any(task.value.status == "RUNNING" for task in tasks):
                raise AwsError(
                    "InvalidParameterValue",
                    "There is already a task running. "
                    "Only one active task is allowed for a source queue arn at a given time.",
                )
            for old in tasks[_KEPT - 1 :]:
                self._tasks.delete(tx, old.scope, old.name)
            counts = records.counts(tx, source.number, now)
            to_move = counts.visible if counts is not None else 0
            self._tasks.put(tx, source.scope, id, MoveTask(source.arn, destination, rate, "RUNNING", now, to_move))

        await self._db.write(begin)
        self.cloud.spawn(self._run(source.scope, id), f"sqs moves {id}")
        return {"TaskHandle": _handle(id, source.arn)}

    async def ListMessageMoveTasks(self, call: Call, input: Input) -> Output:
        source = self._named(input["SourceArn"], "SourceArn")
        limit = input.get("MaxResults", 1)
        if not 1 <= limit <= _KEPT:
            raise invalid(limit, "MaxResults", f"Must be between 1 and {_KEPT}, if provided.")
        return {"Results": [_shown(record) for record in self._of(source)[:limit]]}

    async def CancelMessageMoveTask(self, call: Call, input: Input) -> Output:
        try:
            document = json.loads(b64decode(input["TaskHandle"].encode("ascii"), validate=True))
            id, arn = document["taskId"], document["sourceArn"]
        except (ValueError, KeyError, TypeError):
            raise AwsError("InvalidParameterValue", "Value for parameter TaskHandle is invalid.") from None
        source = self._named(str(arn), "SourceArn")

        def cancel(tx: Tx) -> int:
            record = self._tasks.get(source.scope, str(id), tx)
            if record is None or record.value.source_arn != source.arn:
                raise AwsError("ResourceNotFoundException", "Task does not exist.", status=404)
            if record.value.status != "RUNNING":
                raise AwsError("InvalidParameterValue", "Only active tasks can be cancelled.")
            self._tasks.put(tx, source.scope, record.name, replace(record.value, status="CANCELLED"))
            return record.value.moved

        return {"ApproximateNumberOfMessagesMoved": await self._db.write(cancel)}

    def _named(self, arn: str, parameter: str) -> Queue:
        queue = self._queue_at(arn)
        if queue is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"The resource that you specified for the {parameter} parameter doesn't exist.",
                status=404,
            )
        return queue

    def _of(self, source: Queue, tx: Tx | None = None) -> list[Record[MoveTask]]:
        """A queue's tasks, the newest first."""
        tasks = [record for record in self._tasks.list(source.scope, tx=tx) if record.value.source_arn == source.arn]
        return sorted(tasks, key=lambda record: record.value.started, reverse=True)

    async def _run(self, scope: str, id: str) -> None:
        """Move messages until none is visible, the task is cancelled, or it fails."""
        while (record := self._tasks.get(scope, id)) is not None and record.value.status == "RUNNING":
            chunk = min(_CHUNK, record.value.rate or _CHUNK)
            if (source := self._queue_at(record.value.source_arn)) is not None:
                await self._expire(source)
            for identity in await self._move_some(scope, id, chunk):
                self._bells.ring(identity)
            if record.value.rate:
                await self.clock.sleep(chunk / record.value.rate)

    def _move_some(self, scope: str, id: str, limit: int) -> Awaitable[set[int]]:
        now = self.clock.now()
        first = self._new_id(now, limit)
        return self._db.write(lambda tx: self._move(tx, scope, id, limit, now, first))

    def _move(self, tx: Tx, scope: str, id: str, limit: int, now: float, first: int) -> set[int]:
        """Move a few messages and note it in the task; the queues that got some."""
        record = self._tasks.get(scope, id, tx)
        if record is None or record.value.status != "RUNNING":
            return set()
        task = record.value
        source = self._queue_at(task.source_arn, tx)
        touched: set[int] = set()
        moved, status, failure = 0, "RUNNING", ""
        found: list[Stored] = []
        if source is not None:
            # Received for no time at all: what is in flight or behind such a message stays.
            take = fifo.take(tx, source, None, now, limit, now, count()) if source.fifo else None
            found = (take or records.take(tx, source, None, now, limit, now)).messages
        if source is None or not found:
            status = "COMPLETED"
        for new_id, row in enumerate(found, first):
            assert source is not None
            origin = records.unpack(row.extra).source_arn if row.extra else None
            destination = task.destination_arn or origin
            target = self._queue_at(destination, tx) if destination else None
            if target is None:
                status = "FAILED"
                failure = "AWS.SimpleQueueService.NonExistentQueue" if destination else "CouldNotDetermineMessageSource"
                break
            records.send_again(tx, source, target, row, new_id, now)
            if row.lane is not None:
                fifo.settle(tx, source.number, row.lane)
                fifo.join(tx, target.number, row.lane, now)
            touched.add(target.identity)
            moved += 1
        self._tasks.put(tx, scope, id, replace(task, moved=task.moved + moved, status=status, failure=failure))
        return touched


def _handle(id: str, arn: str) -> str:
    return b64encode(json.dumps({"taskId": id, "sourceArn": arn}).encode()).decode()


def _shown(record: Record[MoveTask]) -> Output:
    """A task as ListMessageMoveTasks shows it; only one that runs can be cancelled, so only it has a handle."""
    task = record.value
    output: Output = {
        "Status": task.status,
        "SourceArn": task.source_arn,
        "ApproximateNumberOfMessagesMoved": task.moved,
        "ApproximateNumberOfMessagesToMove": task.to_move,
        "StartedTimestamp": int(task.started * 1000),
    }
    if task.status == "RUNNING":
        output["TaskHandle"] = _handle(record.name, task.source_arn)
    if task.destination_arn:
        output["DestinationArn"] = task.destination_arn
    if task.rate:
        output["MaxNumberOfMessagesPerSecond"] = task.rate
    if task.failure:
        output["FailureReason"] = task.failure
    return output
