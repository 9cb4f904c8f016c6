"""What SQS tells CloudWatch: what was sent, received and deleted, and how much is in active queues."""

from __future__ import annotations

from functools import partial

from cloudlet.control.clock import Clock
from cloudlet.observe.metrics import Dimensions, Gauge, Metrics
from cloudlet.services.sqs import records
from cloudlet.services.sqs.records import Queue
from cloudlet.store import Database, Resources

_NAMESPACE = "AWS/SQS"
_ACTIVE = 6 * 3600.0  # seconds for which a queue that nobody used is still measured, as AWS has it


class Reporting:
    """Counts of all queues. A queue that nobody has used for long costs nothing."""

    def __init__(self, metrics: Metrics, clock: Clock, db: Database, queues: Resources[Queue]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._db = db
        self._queues = queues
        self._used: dict[int, tuple[str, Dimensions]] = {}
        self._at: dict[int, float] = {}
        metrics.gauge(self._measure)

    def sent(self, queue: Queue, sizes: list[int]) -> None:
        """Messages of these sizes were sent."""
        scope, dimensions = self._touch(queue)
        self._metrics.add(scope, _NAMESPACE, "NumberOfMessagesSent", dimensions, len(sizes), "Count")
        for size in sizes:
            self._metrics.add(scope, _NAMESPACE, "SentMessageSize", dimensions, size, "Bytes")

    def received(self, queue: Queue, count: int) -> None:
        """A receive was answered with so many messages."""
        scope, dimensions = self._touch(queue)
        if count:
            self._metrics.add(scope, _NAMESPACE, "NumberOfMessagesReceived", dimensions, count, "Count")
        else:
            self._metrics.add(scope, _NAMESPACE, "NumberOfEmptyReceives", dimensions, 1, "Count")

    def deleted(self, queue: Queue, count: int) -> None:
        """Messages were deleted."""
        scope, dimensions = self._touch(queue)
        self._metrics.add(scope, _NAMESPACE, "NumberOfMessagesDeleted", dimensions, count, "Count")

    def _touch(self, queue: Queue) -> tuple[str, Dimensions]:
        identity = queue.identity
        self._at[identity] = self._clock.now()
        found = self._used.get(identity)
        if found is None:
            found = self._used[identity] = (queue.scope, (("QueueName", queue.name),))
        return found

    async def _measure(self) -> list[Gauge]:
        """How many messages are in each active queue, in each state."""
        now = self._clock.now()
        self._at = {identity: at for identity, at in self._at.items() if now - at < _ACTIVE}
        self._used = {identity: found for identity, found in self._used.items() if identity in self._at}
        gauges: list[Gauge] = []
        for identity, (scope, dimensions) in list(self._used.items()):
            record = self._queues.get(scope, dimensions[0][1])
            if record is None or record.value.identity != identity:
                continue
            counts = await self._db.read(partial(records.counts, number=record.value.number, now=now))
            assert counts is not None
            for state, value in (
                ("Visible", counts.visible),
                ("NotVisible", counts.in_flight),
                ("Delayed", counts.delayed),
            ):
                metric = f"ApproximateNumberOfMessages{state}"
                gauges.append(Gauge(scope, _NAMESPACE, metric, dimensions, "Count", value))
        return gauges
