"""What all operations of SQS stand on: the database, the queues in it, and who waits for them."""

from __future__ import annotations

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input
from cloudlet.services.sqs import attributes, fifo, records
from cloudlet.services.sqs.records import MoveTask, Queue
from cloudlet.services.sqs.reporting import Reporting
from cloudlet.services.sqs.waiting import Bells
from cloudlet.store import Database, Resources, Tx

_CHUNK = 250  # messages that are deleted in one go, so that other writers need not wait long


class Base(api.Service):
    """The state of the service."""

    name = "sqs"

    _db: Database
    _queues: Resources[Queue]
    _tasks: Resources[MoveTask]

    async def start(self) -> None:
        self._db = await self.cloud.store.database("sqs", records.MIGRATIONS)
        self._queues = self._db.resources(Queue)
        self._tasks = self._db.resources(MoveTask)
        self._bells = Bells(self.clock)
        self._reports = Reporting(self.cloud.metrics, self.clock, self._db, self._queues)
        self._newest = await self._db.read(records.newest)
        known = {record.value.number for record in self._queues.all()}
        for number in await self._db.read(records.numbers):
            if number not in known:
                self.cloud.spawn(self._sweep(number), f"sqs sweeps {number}")

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        try:
            return self._queue(call, input["QueueUrl"]).policy or None
        except (KeyError, AwsError):
            return None

    def _queue(self, call: Call, url: str) -> Queue:
        """The queue of a URL, whose last two parts count, or of a name; services may give an ARN.

        Raises QueueDoesNotExist.
        """
        head, _, name = url.rpartition("/")
        if head:
            scope = f"{head.rpartition('/')[2]}/{call.region}"
        elif call.request is None and (place := attributes.place(url)) is not None:
            scope, name = place
        else:
            scope = call.scope
        record = self._queues.get(scope, name)
        if record is None:
            raise no_such_queue(call)
        return record.value

    def _queue_at(self, arn: str, tx: Tx | None = None) -> Queue | None:
        """The queue of an ARN, or None."""
        place = attributes.place(arn) if arn else None
        record = self._queues.get(*place, tx) if place is not None else None
        return record.value if record is not None else None

    def _url(self, call: Call, queue: Queue) -> str:
        """A queue's URL, at the address by which the client came."""
        request = call.request
        host = request.headers.get("host") if request is not None else None
        endpoint = f"{request.scheme}://{host}" if request is not None and host else self.cloud.endpoint
        return f"{endpoint}/{queue.account}/{queue.name}"

    def _new_id(self, now: float, count: int = 1) -> int:
        """The first of some ids that no message has: microseconds, or the next ones where the clock is too slow."""
        first = max(int(now * 1e6), self._newest + 1)
        self._newest = first + count - 1
        return first

    async def _expire(self, queue: Queue) -> None:
        """Delete the messages that are past their retention."""
        now = self.clock.now()
        oldest = records.cutoff(queue, now)

        def drop(tx: Tx) -> int:
            lanes = records.drop_older(tx, queue.number, oldest, _CHUNK)
            for lane in {lane for lane in lanes if lane is not None}:
                fifo.settle(tx, queue.number, lane)
            return len(lanes)

        while await self._db.read(lambda tx: records.has_older(tx, queue.number, oldest)):
            await self._db.write(drop, long=True)

    async def _sweep(self, number: int) -> None:
        """Delete what a deleted or purged queue has left behind."""
        while len(await self._db.write(lambda tx: records.drop_older(tx, number, 2**63 - 1, _CHUNK), long=True)):
            pass
        await self._db.write(lambda tx: records.forget(tx, number))


def no_such_queue(call: Call | None = None) -> AwsError:
    """The queue is not there; clients of the query protocol hear it in the words of its WSDL."""
    request = call.request if call is not None else None
    by_query = request is not None and "x-amz-target" not in request.headers
    return AwsError("QueueDoesNotExist", f"The specified queue does not exist{' for this wsdl version' * by_query}.")
