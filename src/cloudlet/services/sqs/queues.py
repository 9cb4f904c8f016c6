"""The operations on queues: their life, attributes, tags and permissions."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.sqs import attributes, fifo, records
from cloudlet.services.sqs.base import Base, no_such_queue
from cloudlet.services.sqs.messages import invalid, missing
from cloudlet.services.sqs.records import Queue
from cloudlet.store import Tx

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_PURGE_INTERVAL = 60.0
_PAGE = 1000
_COUNTED_AT_ONCE = 2000  # more messages in flight are counted off the event loop
_TAGS_AT_MOST = 50
_ACTIONS_AT_MOST = 7


# What nobody but the owner may do, whatever a queue's policy says.
_OWNER_ONLY = frozenset(
    (
        "AddPermission",
        "CancelMessageMoveTask",
        "CreateQueue",
        "DeleteQueue",
        "ListMessageMoveTasks",
        "ListQueueTags",
        "ListQueues",
        "RemovePermission",
        "SetQueueAttributes",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    )
)


class Queues(Base):
    """Operations on queues."""

    async def CreateQueue(self, call: Call, input: Input) -> Output:
        name, given = input["QueueName"], dict(input.get("Attributes", {}))
        is_fifo = given.get("FifoQueue", "").lower() == "true"
        _check_name(name, is_fifo)
        fields = attributes.fields_of(given, fifo=is_fifo)
        now = self.clock.now()

        def create(tx: Tx) -> Queue:
            existing = self._queues.get(call.scope, name, tx)
            if existing is not None:
                if (different := attributes.differing(existing.value, fields)) is not None:
                    raise AwsError(
                        "QueueNameExists",
                        "A queue already exists with the same name and a different value for attribute " + different,
                    )
                return existing.value
            number = records.create(tx)
            at, tags = int(now), input.get("tags", {})
            queue = Queue(call.account, call.region, name, number, number, at, at, tags=tags, **fields)
            self._check(tx, queue, fields)
            self._queues.put(tx, call.scope, name, queue)
            return queue

        return {"QueueUrl": self._url(call, await self._db.write(create))}

    async def DeleteQueue(self, call: Call, input: Input) -> Output:
        # A queue of that name may be created again at once: AWS's QueueDeletedRecently is not enforced.
        queue = self._queue(call, input["QueueUrl"])
        if not await self._db.write(lambda tx: self._queues.delete(tx, queue.scope, queue.name)):
            raise no_such_queue()
        self.cloud.spawn(self._sweep(queue.number), f"sqs sweeps {queue.number}")
        self._bells.ring(queue.identity)
        return {}

    async def GetQueueUrl(self, call: Call, input: Input) -> Output:
        account = input.get("QueueOwnerAWSAccountId") or call.account
        record = self._queues.get(f"{account}/{call.region}", input["QueueName"])
        if record is None:
            raise no_such_queue(call)
        return {"QueueUrl": self._url(call, record.value)}

    async def ListQueues(self, call: Call, input: Input) -> Output:
        found = [record.value for record in self._queues.list(call.scope, input.get("QueueNamePrefix", ""))]
        page, token = _page(found, input)
        output: Output = {"QueueUrls": [self._url(call, queue) for queue in page]} if page else {}
        return output | token

    async def ListDeadLetterSourceQueues(self, call: Call, input: Input) -> Output:
        queue = self._queue(call, input["QueueUrl"])
        page, token = _page(self._sources_of(queue.arn, queue.scope), input)
        return {"queueUrls": [self._url(call, source) for source in page]} | token

    async def PurgeQueue(self, call: Call, input: Input) -> Output:
        queue = self._queue(call, input["QueueUrl"])
        now = self.clock.now()

        def purge(tx: Tx) -> int:
            current = self._current(tx, queue)
            if now - current.purged_at < _PURGE_INTERVAL:
                raise AwsError(
                    "PurgeQueueInProgress",
                    f"Only one PurgeQueue operation on {queue.name} is allowed every 60 seconds.",
                    status=403,
                )
            # What was sent before is no longer a duplicate. The messages stay behind under the old number, to be swept
            # up in peace.
            fifo.forget(tx, queue)
            self._queues.put(tx, queue.scope, queue.name, replace(current, number=records.create(tx), purged_at=now))
            return current.number

        number = await self._db.write(purge)
        self.cloud.spawn(self._sweep(number), f"sqs sweeps {number}")
        return {}

    async def GetQueueAttributes(self, call: Call, input: Input) -> Output:
        queue = self._queue(call, input["QueueUrl"])
        names = input.get("AttributeNames", [])
        attributes.check_names(names)
        counts = None
        if "All" in names or not attributes.COUNTS.isdisjoint(names):
            counts = await self._count(queue)
        found = attributes.shown(queue, counts, names)
        return {"Attributes": found} if found else {}

    async def _count(self, queue: Queue) -> records.Counts | None:
        await self._expire(queue)
        now = self.clock.now()
        counts = await self._db.read(lambda tx: records.counts(tx, queue.number, now, _COUNTED_AT_ONCE))
        return counts or await self._db.scan(lambda tx: records.counts(tx, queue.number, now))

    async def SetQueueAttributes(self, call: Call, input: Input) -> Output:
        queue = self._queue(call, input["QueueUrl"])
        fields = attributes.fields_of(input["Attributes"], fifo=queue.fifo)
        await self._change(queue, fields, check=True)
        # A shorter retention or another redrive policy counts for the messages that are there.
        self._bells.ring(queue.identity)
        return {}

    async def ListQueueTags(self, call: Call, input: Input) -> Output:
        tags = self._queue(call, input["QueueUrl"]).tags
        return {"Tags": tags} if tags else {}

    async def TagQueue(self, call: Call, input: Input) -> Output:
        queue = self._queue(call, input["QueueUrl"])
        if not input["Tags"]:
            raise missing("Tags")

        def tag(current: Queue) -> dict[str, Any]:
            tags = {**current.tags, **input["Tags"]}
            if len(tags) > _TAGS_AT_MOST:
                raise AwsError("InvalidParameterValue", f"Too many tags added for queue {queue.name}.")
            return {"tags": tags}

        await self._edit(queue, tag)
        return {}

    async def UntagQueue(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        if not gone:
            raise AwsError("InvalidParameterValue", "Tag keys must be between 1 and 128 characters in length.")
        await self._edit(
            self._queue(call, input["QueueUrl"]),
            lambda current: {"tags": {key: value for key, value in current.tags.items() if key not in gone}},
        )
        return {}

    async def AddPermission(self, call: Call, input: Input) -> Output:
        queue, label = self._queue(call, input["QueueUrl"]), input["Label"]
        actions, accounts = input["Actions"], input["AWSAccountIds"]
        if _NAME.fullmatch(label) is None:
            raise invalid(label, "Label", "Can only include alphanumeric characters, hyphens, or underscores.")
        if len(actions) > _ACTIONS_AT_MOST:
            raise AwsError("OverLimit", f"{len(actions)} Actions were found, maximum allowed is {_ACTIONS_AT_MOST}.")
        if not actions:
            raise missing("Actions")
        if not accounts:
            raise invalid("[]", "PrincipalId", "Unable to verify.")
        known = {name for name in dir(self) if name[0].isupper()} | {"*"}
        for action in actions:
            if action not in known:
                raise invalid(
                    f"SQS:{action}", "ActionName", "Please refer to the appropriate WSDL for a list of valid actions."
                )
            if action in _OWNER_ONLY:
                raise invalid(f"SQS:{action}", "ActionName", "Only the queue owner is allowed to invoke this action.")
        principals = [f"arn:aws:iam::{account}:root" for account in accounts]
        statement = {
            "Sid": label,
            "Effect": "Allow",
            "Principal": {"AWS": _one_or_all(principals)},
            "Action": _one_or_all([f"SQS:{action}" for action in actions]),
            "Resource": queue.arn,
        }

        def add(current: Queue) -> dict[str, Any]:
            policy = _policy(current)
            if any(known.get("Sid") == label for known in policy["Statement"]):
                raise invalid(label, "Label", "Already exists.")
            policy["Statement"].append(statement)
            return {"policy": json.dumps(policy, separators=(",", ":"))}

        await self._edit(queue, add)
        return {}

    async def RemovePermission(self, call: Call, input: Input) -> Output:
        label = input["Label"]

        def remove(current: Queue) -> dict[str, Any]:
            policy = _policy(current)
            left = [statement for statement in policy["Statement"] if statement.get("Sid") != label]
            if len(left) == len(policy["Statement"]):
                raise invalid(label, "Label", "can't find label.")
            return {"policy": json.dumps({**policy, "Statement": left}, separators=(",", ":")) if left else ""}

        await self._edit(self._queue(call, input["QueueUrl"]), remove)
        return {}

    def _sources_of(self, arn: str, scope: str) -> list[Queue]:
        """The queues that give their messages up to this one."""
        return [record.value for record in self._queues.list(scope) if record.value.dead_letter_arn == arn]

    def _current(self, tx: Tx, queue: Queue) -> Queue:
        record = self._queues.get(queue.scope, queue.name, tx)
        if record is None or record.value.identity != queue.identity:
            raise no_such_queue()
        return record.value

    async def _edit(self, queue: Queue, change: Any) -> None:
        """Set the fields that ``change`` makes of the queue as it is then."""

        def edit(tx: Tx) -> None:
            current = self._current(tx, queue)
            self._queues.put(tx, queue.scope, queue.name, replace(current, **change(current)))

        await self._db.write(edit)

    async def _change(self, queue: Queue, fields: dict[str, Any], check: bool) -> None:
        now = self.clock.now()

        def change(tx: Tx) -> None:
            changed = replace(self._current(tx, queue), **fields, modified=int(now))
            self._check(tx, changed, fields)
            self._queues.put(tx, queue.scope, queue.name, changed)

        await self._db.write(change)

    def _check(self, tx: Tx, queue: Queue, fields: dict[str, Any]) -> None:
        """What only holds of a queue as a whole, and of its dead-letter queue."""
        if queue.throughput_limit == "perMessageGroupId" and queue.deduplication_scope != "messageGroup":
            raise AwsError("InvalidAttributeValue", "Invalid value for the parameter FifoThroughputLimit.")
        if fields.get("redrive"):
            attributes.check_redrive(queue, self._queue_at(queue.dead_letter_arn, tx))


def _check_name(name: str, is_fifo: bool) -> None:
    if is_fifo:
        if not name.endswith(".fifo") or len(name) > 80 or _NAME.fullmatch(name[:-5]) is None:
            raise AwsError(
                "InvalidParameterValue",
                "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, "
                "must end with .fifo suffix and be 1 to 80 in length.",
            )
    elif _NAME.fullmatch(name) is None:
        raise AwsError(
            "InvalidParameterValue",
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        )


def _page(queues: list[Queue], input: Input) -> tuple[list[Queue], Output]:
    """The part of a list that is asked for, and the token of the next one."""
    size = input.get("MaxResults")
    if size is not None and not 1 <= size <= _PAGE:
        raise invalid(size, "MaxResults", f"MaxResults must be an integer between 1 and {_PAGE}.")
    if (token := input.get("NextToken")) is not None:
        try:
            after = b64decode(token.encode("ascii"), validate=True).decode()
        except ValueError:
            raise invalid(token, "NextToken", "Invalid or expired next token.") from None
        queues = [queue for queue in queues if queue.name > after]
    page = queues[: size or _PAGE]
    if size is None or len(queues) <= size:
        return page, {}
    return page, {"NextToken": b64encode(page[-1].name.encode()).decode()}


def _policy(queue: Queue) -> dict[str, Any]:
    """The queue's policy, or one without statements."""
    policy: dict[str, Any] = (
        json.loads(queue.policy)
        if queue.policy
        else {"Version": "2008-10-17", "Id": f"{queue.arn}/SQSDefaultPolicy", "Statement": []}
    )
    if isinstance(policy["Statement"], dict):
        policy["Statement"] = [policy["Statement"]]
    return policy


def _one_or_all(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values
