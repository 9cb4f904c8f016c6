"""DynamoDB Streams as an event source: shards in order, a place kept for each, batches tried until they are done."""

from __future__ import annotations

import asyncio
import base64
import logging
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from cloudlet.engines.functions import Outcome
from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.lambda_.batches import Count, Filter, failures

log = logging.getLogger("cloudlet.lambda")

_LOOK = 1000  # records of one GetRecords
_PAUSE = 1.0  # seconds before the first further try; it doubles
_LONGEST_PAUSE = 60.0

Run = Callable[[bytes, float], Awaitable[Outcome]]  # an event, and the seconds since its last record came
Keep = Callable[[str, str], Awaitable[None]]  # a shard, and the sequence number that has been done
Tell = Callable[[dict[str, Any]], Awaitable[bool]]  # a record for the failure destination; whether it is there now


class StreamSource:
    """Reads the stream of one table for one mapping."""

    def __init__(
        self,
        cloud: Cloud,
        members: dict[str, Any],
        positions: dict[str, str],
        account: str,
        region: str,
        run: Run,
        keep: Keep,
        tell: Tell,
        count: Count,
    ) -> None:
        self._cloud = cloud
        self._arn: str = members["EventSourceArn"]
        self._function: str = members["FunctionArn"]
        self._where: dict[str, Any] = {"account": account, "region": region, "principal": "lambda.amazonaws.com"}
        self._size: int = members["BatchSize"]
        self._lanes: int = members.get("ParallelizationFactor", 1)
        self._window: int = members.get("MaximumBatchingWindowInSeconds", 0)
        self._tries: int = members.get("MaximumRetryAttempts", -1)
        self._age: int = members.get("MaximumRecordAgeInSeconds", -1)
        self._halves: bool = members.get("BisectBatchOnFunctionError", False)
        self._reports = "ReportBatchItemFailures" in members.get("FunctionResponseTypes", ())
        self._latest = members.get("StartingPosition") == "LATEST"
        self._filter = Filter(members.get("FilterCriteria"))
        self._positions = dict(positions)
        self._run = run
        self._keep = keep
        self._tell = tell
        self._count = count

    async def follow(self) -> None:
        """Read until cancelled."""
        dynamodb: Any = await self._cloud.service("dynamodb")
        while True:
            try:
                for shard in await self._shards():
                    await self._read(shard)
                await dynamodb.wait_for_change(self._arn, max(self._positions.values(), key=int, default=None))
            except AwsError as error:
                log.warning("reading %s failed: %s", self._arn, error)
                await self._cloud.clock.sleep(_LONGEST_PAUSE if error.code == "ResourceNotFoundException" else _PAUSE)

    async def settle(self, seconds: float) -> None:
        """A batch that was not finished is tried again after the next start."""

    async def _shards(self) -> list[str]:
        """The stream's shards, parents before their children."""
        answer = await self._cloud.call("dynamodbstreams", "DescribeStream", {"StreamArn": self._arn}, **self._where)
        return [shard["ShardId"] for shard in answer["StreamDescription"]["Shards"]]

    async def _read(self, shard: str) -> None:
        """Work off what a shard has now."""
        start: dict[str, Any] = {"StreamArn": self._arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        if position := self._positions.get(shard):
            start |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": position}
        begun = await self._cloud.call("dynamodbstreams", "GetShardIterator", start, **self._where)
        iterator = begun.get("ShardIterator")
        waited = False
        while iterator:
            most = _LOOK if self._filter else min(_LOOK, self._size * self._lanes)
            request = {"ShardIterator": iterator, "Limit": most}
            answer = await self._cloud.call("dynamodbstreams", "GetRecords", request, **self._where)
            records = answer.get("Records", [])
            if not records:
                return
            if self._window and not waited and len(records) < self._size:
                # A batch that is not full waits once for more.
                await self._cloud.clock.sleep(self._window)
                waited = True
                continue
            waited = False
            iterator = answer.get("NextShardIterator")
            shown = [_shown(record, self._arn) for record in records]
            progress = _Progress(shard, shown)
            passed = [record for record in shown if self._filter.passes(record)]
            self._count("PolledEventCount", len(shown))
            if self._filter:
                self._count("FilteredOutEventCount", len(shown) - len(passed))
            lanes: list[list[dict[str, Any]]] = [[] for _ in range(self._lanes)]
            for record in passed:
                lanes[_lane(record, self._lanes)].append(record)
            # What is done of one item is done in order; different items go side by side.
            work = [self._work_off(progress, lane) for lane in lanes if lane]
            for ended in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(ended, BaseException):
                    raise ended
            await self._done(progress, shown)

    async def _work_off(self, progress: _Progress, records: list[dict[str, Any]]) -> None:
        for first in range(0, len(records), self._size):
            await self._batch(progress, records[first : first + self._size])

    async def _done(self, progress: _Progress, records: list[dict[str, Any]]) -> None:
        """These records are done: the place that is kept is before the first one that is not."""
        number = progress.done(records)
        if number is not None and self._positions.get(progress.shard) != number:
            self._positions[progress.shard] = number
            await self._keep(progress.shard, number)

    async def _batch(self, progress: _Progress, batch: list[dict[str, Any]]) -> None:
        """Run the function on a batch until it is done or given up; records before a failed one are done."""
        tried, pause = 0, _PAUSE
        while batch:
            batch, given_up = self._young(batch)
            if given_up:
                await self._give_up(progress, given_up, "RecordAgeExceeded", tried, None)
                continue
            numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
            outcome: Outcome | None = None
            age = self._cloud.clock.now() - batch[-1]["dynamodb"]["ApproximateCreationDateTime"]
            self._count("InvokedEventCount", len(batch))
            try:
                outcome = await self._run(msgspec.json.encode({"Records": batch}), age)
                undone = failures(outcome, numbers, self._reports)
                self._count("FailedInvokeEventCount", len(undone))
            except AwsError:
                self._count("FailedInvokeEventCount", len(batch))  # throttled: it does not count as a try
                await self._cloud.clock.sleep(pause)
                continue
            if not undone:
                await self._done(progress, batch)
                return
            first = min(numbers.index(number) for number in undone)
            if first:
                # What comes before the first failure is done, and the rest begins its tries anew.
                await self._done(progress, batch[:first])
                batch, tried, pause = batch[first:], 0, _PAUSE
                continue
            tried += 1
            if 0 <= self._tries < tried:
                await self._give_up(progress, batch, "RetryAttemptsExhausted", tried, outcome)
                return
            await self._cloud.clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            if self._halves and len(batch) > 1:
                middle = len(batch) // 2
                await self._batch(progress, batch[:middle])
                batch, tried = batch[middle:], 0

    def _young(self, batch: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The records that are not too old, and those that are."""
        if self._age < 0:
            return batch, []
        oldest = self._cloud.clock.now() - self._age
        old = [record for record in batch if record["dynamodb"]["ApproximateCreationDateTime"] < oldest]
        return batch[len(old) :], old

    async def _give_up(
        self, progress: _Progress, batch: list[dict[str, Any]], condition: str, tried: int, outcome: Outcome | None
    ) -> None:
        created = [record["dynamodb"]["ApproximateCreationDateTime"] for record in batch]
        record: dict[str, Any] = {
            "requestContext": {
                "requestId": batch[0]["eventID"],
                "functionArn": self._function,
                "condition": condition,
                "approximateInvokeCount": tried,
            },
            "version": "1.0",
            "timestamp": _iso(self._cloud.clock.now()),
            "DDBStreamBatchInfo": {
                "shardId": progress.shard,
                "startSequenceNumber": batch[0]["dynamodb"]["SequenceNumber"],
                "endSequenceNumber": batch[-1]["dynamodb"]["SequenceNumber"],
                "approximateArrivalOfFirstRecord": _iso(created[0]),
                "approximateArrivalOfLastRecord": _iso(created[-1]),
                "batchSize": len(batch),
                "streamArn": self._arn,
            },
        }
        if outcome is not None:
            record["responseContext"] = {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": outcome.error,
            }
        is_told = await self._tell(record)
        self._count("OnFailureDestinationDeliveredEventCount" if is_told else "DroppedEventCount", len(batch))
        await self._done(progress, batch)


class _Progress:
    """How far the records of one reading are done, when several batches of it are under way."""

    def __init__(self, shard: str, records: list[dict[str, Any]]) -> None:
        self.shard = shard
        self._open = deque(_number(record) for record in records)
        self._done: set[str] = set()

    def done(self, records: list[dict[str, Any]]) -> str | None:
        """These are done; the last number before the first that is not, or None where that has not changed."""
        self._done.update(_number(record) for record in records)
        reached = None
        while self._open and self._open[0] in self._done:
            reached = self._open.popleft()
        return reached


def _number(record: dict[str, Any]) -> str:
    number: str = record["dynamodb"]["SequenceNumber"]
    return number


def _lane(record: dict[str, Any], count: int) -> int:
    """Where a record belongs among concurrent batches: all changes of an item, by its keys, go the same way."""
    return zlib.crc32(msgspec.json.encode(record["dynamodb"].get("Keys"), order="sorted")) % count if count > 1 else 0


def _shown(record: dict[str, Any], arn: str) -> dict[str, Any]:
    """A stream's record as a function sees it: binary values in base64, whole seconds, and the stream's ARN."""
    if "userIdentity" in record:
        identity = record["userIdentity"]
        record = {**record, "userIdentity": {"type": identity["Type"], "principalId": identity["PrincipalId"]}}
    change = dict(record["dynamodb"])
    for image in ("Keys", "NewImage", "OldImage"):
        if image in change:
            change[image] = {name: _plain(value) for name, value in change[image].items()}
    return {**record, "dynamodb": change, "eventSourceARN": arn}


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """An attribute value with its bytes as text."""
    ((kind, content),) = value.items()
    if kind == "B":
        return {kind: base64.b64encode(content).decode()}
    if kind == "BS":
        return {kind: [base64.b64encode(one).decode() for one in content]}
    if kind == "L":
        return {kind: [_plain(one) for one in content]}
    if kind == "M":
        return {kind: {name: _plain(one) for name, one in content.items()}}
    return value


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
