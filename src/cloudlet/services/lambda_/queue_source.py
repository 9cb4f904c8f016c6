"""SQS as an event source: long polls while the mapping is on, batches, and partial failures."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from cloudlet.engines.functions import Outcome
from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.lambda_.batches import Count, Filter, failures

log = logging.getLogger("cloudlet.lambda")

_AT_ONCE = 5  # batches under way, where the mapping does not say
_RECEIVE = 10  # messages of one ReceiveMessage
_POLL = 20  # seconds
_PAUSE = 1.0  # seconds after an error of the queue, or a throttle
_LARGEST = 6 * 1024 * 1024 - 64 * 1024  # bytes of a batch, with room for what surrounds the records

Run = Callable[[bytes, list[str]], Awaitable[Outcome]]  # an event, and the trace headers of its messages


class QueueSource:
    """Reads one queue for one mapping."""

    def __init__(
        self, cloud: Cloud, members: dict[str, Any], account: str, region: str, run: Run, count: Count
    ) -> None:
        self._cloud = cloud
        self._arn: str = members["EventSourceArn"]
        self._region = self._arn.split(":")[3]
        self._where: dict[str, Any] = {"account": account, "region": region, "principal": "lambda.amazonaws.com"}
        self._size: int = members["BatchSize"]
        self._window: int = members.get("MaximumBatchingWindowInSeconds", 0)
        self._reports = "ReportBatchItemFailures" in members.get("FunctionResponseTypes", ())
        self._filter = Filter(members.get("FilterCriteria"))
        at_once = (members.get("ScalingConfig") or {}).get("MaximumConcurrency", _AT_ONCE)
        self._free = asyncio.Semaphore(at_once)
        self._run = run
        self._count = count
        self._under_way: set[asyncio.Task[None]] = set()

    async def follow(self) -> None:
        """Read until cancelled; batches under way are finished by ``settle``."""
        while True:
            await self._free.acquire()
            try:
                messages = await self._batch()
            except AwsError as error:
                self._free.release()
                log.warning("reading %s failed: %s", self._arn, error)
                await self._cloud.clock.sleep(_PAUSE)
                continue
            except BaseException:
                self._free.release()
                raise
            if not messages:
                self._free.release()
                continue
            task = asyncio.ensure_future(self._work(messages))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def settle(self, seconds: float) -> None:
        """Give batches under way that long to end."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=seconds)
            for task in late:
                task.cancel()

    async def _batch(self) -> list[dict[str, Any]]:
        """Messages for one invocation: what there is, or within the batching window as many as fit."""
        messages = await self._receive(min(_RECEIVE, self._size), _POLL)
        if not messages or not self._window:
            return messages
        end = self._cloud.clock.now() + self._window
        size = sum(len(message["Body"]) for message in messages)
        while len(messages) < self._size and size < _LARGEST and (left := end - self._cloud.clock.now()) > 0:
            more = await self._receive(min(_RECEIVE, self._size - len(messages)), min(_POLL, left))
            messages += more
            size += sum(len(message["Body"]) for message in more)
        return messages

    async def _receive(self, count: int, seconds: float) -> list[dict[str, Any]]:
        request = {
            "QueueUrl": self._arn,
            "MaxNumberOfMessages": count,
            "WaitTimeSeconds": seconds,
            "AttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        }
        answer = await self._cloud.call("sqs", "ReceiveMessage", request, **self._where)
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        self._count("PolledEventCount", len(messages))
        return messages

    async def _work(self, messages: list[dict[str, Any]]) -> None:
        """Run the function on a batch, then delete what it has done; the rest comes back by itself."""
        try:
            records = [self._record(message) for message in messages]
            passed = [record for record in records if self._filter.passes(record)]
            if self._filter:
                self._count("FilteredOutEventCount", len(records) - len(passed))
            undone: set[str] = set()
            if passed:
                self._count("InvokedEventCount", len(passed))
                try:
                    links = [header for one in passed if (header := one["attributes"].get("AWSTraceHeader"))]
                    outcome = await self._run(msgspec.json.encode({"Records": passed}), links)
                except AwsError as error:
                    log.info("%s was not taken: %s", self._arn, error)
                    undone = {record["messageId"] for record in passed}
                    await self._cloud.clock.sleep(_PAUSE)
                else:
                    undone = set(failures(outcome, [record["messageId"] for record in passed], self._reports))
                self._count("FailedInvokeEventCount", len(undone))
            done = [message for message in messages if message["MessageId"] not in undone]
            for start in range(0, len(done), _RECEIVE):
                entries = [
                    {"Id": str(place), "ReceiptHandle": message["ReceiptHandle"]}
                    for place, message in enumerate(done[start : start + _RECEIVE])
                ]
                request = {"QueueUrl": self._arn, "Entries": entries}
                answer = await self._cloud.call("sqs", "DeleteMessageBatch", request, **self._where)
                self._count("DeletedEventCount", len(answer["Successful"]))
        except AwsError as error:
            log.warning("a batch of %s failed: %s", self._arn, error)
        finally:
            self._free.release()

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        record = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {
                name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()
            },
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._arn,
            "awsRegion": self._region,
        }
        if "MD5OfMessageAttributes" in message:
            record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
        return record


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    """A message attribute as Lambda writes it."""
    shown: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        shown["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        shown["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return shown
