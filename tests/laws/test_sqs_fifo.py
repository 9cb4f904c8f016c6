"""A FIFO queue against a small model: order, blocked groups, deduplication, receipts and counts, over restarts."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudlet.control.clock import Clock
from cloudlet.errors import AwsError
from cloudlet.observe.metrics import Metrics, Report
from cloudlet.services.api import Call
from cloudlet.services.sqs.service import Service
from cloudlet.store.sqlite import SqliteStore

WINDOW, VISIBILITY = 300, 30
CALL = Call("000000000000", "us-east-1")


class StillClock(Clock):
    """A clock that only moves when it is told to."""

    time = 1_800_000_000.0

    def now(self) -> float:
        return self.time


class FakeCloud:
    """As much of a cloud as the service needs."""

    endpoint = "http://127.0.0.1:4566"

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        self.store = SqliteStore(folder, "off")
        self.metrics = Metrics(clock, self._keep_no_metrics, lambda: None)

    async def _keep_no_metrics(self, reports: list[Report]) -> None:
        """They are not what is tested here."""

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work)


@dataclass
class Expected:
    """What the model knows of a message that is in the queue."""

    message_id: str
    group: str
    visible_at: float = 0.0
    receives: int = 0
    receipt: str = ""

    def in_flight(self, now: float) -> bool:
        return self.receives > 0 and self.visible_at > now


class Fifo(RuleBasedStateMachine):
    """Random operations on the service, and the same on the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="cloudlet-law-"))
        self.clock = StillClock()
        self.queue: list[Expected] = []
        self.sent: dict[tuple[str, str], tuple[float, str]] = {}
        self.receipts: list[tuple[str, Expected, int]] = []
        self.sequence = 0

    @initialize(by_group=st.booleans())
    def open(self, by_group: bool) -> None:
        self.by_group = by_group
        self._start()
        scope = {"DeduplicationScope": "messageGroup"} if by_group else {}
        attributes = {"FifoQueue": "true", "VisibilityTimeout": str(VISIBILITY), **scope}
        self.url = self._do("CreateQueue", QueueName="q.fifo", Attributes=attributes)["QueueUrl"]

    def teardown(self) -> None:
        if hasattr(self, "cloud"):
            self.runner.run(self.cloud.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def _start(self) -> None:
        async def start() -> None:
            self.cloud = FakeCloud(self.folder, self.clock)
            self.service = Service(self.cloud)  # type: ignore[arg-type]
            await self.service.start()

        self.runner.run(start())

    def _do(self, operation: str, **input: Any) -> dict[str, Any]:
        if hasattr(self, "url"):
            input["QueueUrl"] = self.url
        answer: dict[str, Any] = self.runner.run(getattr(self.service, operation)(CALL, input))
        return answer

    @rule(group=st.sampled_from("abc"), key=st.sampled_from("123456"))
    def send(self, group: str, key: str) -> None:
        answer = self._do("SendMessage", MessageBody=key, MessageGroupId=group, MessageDeduplicationId=key)
        scope = (group if self.by_group else "", key)
        at, known = self.sent.get(scope, (0.0, ""))
        if self.clock.now() - at < WINDOW:
            assert answer["MessageId"] == known
            return
        assert int(answer["SequenceNumber"]) > self.sequence
        self.sequence = int(answer["SequenceNumber"])
        self.sent[scope] = (self.clock.now(), answer["MessageId"])
        self.queue.append(Expected(answer["MessageId"], group))

    @rule(count=st.integers(1, 10), visibility=st.sampled_from([None, 0, 5, 100]))
    def receive(self, count: int, visibility: int | None) -> None:
        timeout = {} if visibility is None else {"VisibilityTimeout": visibility}
        answer = self._do("ReceiveMessage", MaxNumberOfMessages=count, MessageSystemAttributeNames=["All"], **timeout)
        now = self.clock.now()
        # Of each group, what comes before its first message in flight.
        ready: list[Expected] = []
        blocked: set[str] = set()
        for message in self.queue:
            if message.in_flight(now):
                blocked.add(message.group)
            elif message.group not in blocked:
                ready.append(message)
        received = answer.get("Messages", [])
        assert len(received) == min(count, len(ready))
        known = {each.message_id: each for each in ready}
        taken: dict[str, list[str]] = {}
        for seen in received:
            expected = known[seen["MessageId"]]
            taken.setdefault(expected.group, []).append(expected.message_id)
            expected.receives += 1
            expected.visible_at = now + (VISIBILITY if visibility is None else visibility)
            assert seen["Attributes"]["ApproximateReceiveCount"] == str(expected.receives)
            self.receipts.append((seen["ReceiptHandle"], expected, expected.receives))
        for group, ids in taken.items():
            assert ids == [message.message_id for message in ready if message.group == group][: len(ids)]

    @precondition(lambda self: self.receipts)
    @rule(pick=st.integers(0, 1000))
    def delete(self, pick: int) -> None:
        handle, message, receives = self.receipts[pick % len(self.receipts)]
        valid = message.receives == receives and message.in_flight(self.clock.now())
        gone = message not in self.queue
        try:
            self._do("DeleteMessage", ReceiptHandle=handle)
        except AwsError:
            assert not valid
            assert not gone
        else:
            assert valid or gone
            if not gone:
                self.queue.remove(message)

    @precondition(lambda self: self.receipts)
    @rule(pick=st.integers(0, 1000), timeout=st.sampled_from([0, 1, 60]))
    def change_visibility(self, pick: int, timeout: int) -> None:
        handle, message, receives = self.receipts[pick % len(self.receipts)]
        now = self.clock.now()
        valid = message in self.queue and message.receives == receives and message.in_flight(now)
        try:
            self._do("ChangeMessageVisibility", ReceiptHandle=handle, VisibilityTimeout=timeout)
        except AwsError:
            assert not valid
        else:
            assert valid
            message.visible_at = now + timeout

    @rule(seconds=st.sampled_from([1, 6, 31, 101, 301]))
    def advance(self, seconds: int) -> None:
        self.clock.time += seconds

    @rule()
    def restart(self) -> None:
        self.runner.run(self.cloud.store.close())
        self._start()

    @invariant()
    def counts(self) -> None:
        if not hasattr(self, "url"):
            return
        found = self._do("GetQueueAttributes", AttributeNames=["All"])["Attributes"]
        in_flight = sum(message.in_flight(self.clock.now()) for message in self.queue)
        assert int(found["ApproximateNumberOfMessagesNotVisible"]) == in_flight
        assert int(found["ApproximateNumberOfMessages"]) == len(self.queue) - in_flight
        assert found["ApproximateNumberOfMessagesDelayed"] == "0"


TestFifo = Fifo.TestCase
TestFifo.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
