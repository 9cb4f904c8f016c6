"""Publishing. What a standard topic sends to queues is in them before Publish answers, in one transaction of SQS; what
goes elsewhere, or could not be sent, is in the outbox. A FIFO topic's messages all go through the outbox, in order."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.observe import traces
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.sns import messages, records
from cloudlet.services.sns.base import Base, Target
from cloudlet.services.sns.delivery import to_sqs
from cloudlet.services.sns.errors import invalid
from cloudlet.services.sns.messages import LARGEST, Envelope, Message, sequence_number
from cloudlet.services.sns.records import Sent, Topic
from cloudlet.store import Tx

_ENTRIES_AT_MOST = 10
_LONGEST_ID = 80
_ENTRY_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{_LONGEST_ID}}}")


class Publishing(Base):
    """Operations that send messages."""

    async def Publish(self, call: Call, input: Input) -> Output:
        if (phone := input.get("PhoneNumber")) is not None:
            return await self._text(call, phone, input)
        topic = self._topic_of(call, input)
        message = messages.read(topic, input, str(uuid.uuid4()), self.clock.now())
        message.trace = await self._traced(call, topic, message.at)
        self._reports.published(topic, [messages.size(input)])
        if topic.fifo:
            (sent,) = await self._send_in_order(topic, [message])
            return {"MessageId": sent.message_id, "SequenceNumber": sequence_number(sent.sequence)}
        await self._send(topic, message)
        return {"MessageId": message.id}

    async def PublishBatch(self, call: Call, input: Input) -> Output:
        topic, entries = self._topic_here(call, input["TopicArn"], "TopicArn"), input["PublishBatchRequestEntries"]
        _check_entries(entries)
        now = self.clock.now()
        ready: list[tuple[str, Message]] = []
        failed: list[dict[str, Any]] = []
        for entry in entries:
            try:
                ready.append((entry["Id"], messages.read(topic, entry, str(uuid.uuid4()), now)))
            except AwsError as error:
                if error.message != invalid("Empty message").message:
                    raise  # Nothing of a batch is sent of which an entry cannot be understood.
                code = error.code.removesuffix("Exception")
                failed.append({"Id": entry["Id"], "Code": code, "Message": error.message, "SenderFault": True})
        drafts = [message for _, message in ready]
        trace = await self._traced(call, topic, now) if drafts else ""
        for message in drafts:
            message.trace = trace
        accepted = {id for id, _ in ready}
        self._reports.published(topic, [messages.size(entry) for entry in entries if entry["Id"] in accepted])
        successful = [{"Id": id, "MessageId": message.id} for id, message in ready]
        if topic.fifo:
            for shown, sent in zip(successful, await self._send_in_order(topic, drafts), strict=True):
                shown["MessageId"], shown["SequenceNumber"] = sent.message_id, sequence_number(sent.sequence)
        else:
            await self._send_all(topic, drafts)
        return {"Successful": successful, "Failed": failed}

    async def _traced(self, call: Call, topic: Topic, started: float) -> str:
        """The trace header that messages carry on. An active topic is a part of a trace that its caller samples."""
        header = traces.header_of(call)
        if not header or topic.attributes.get("TracingConfig") != "Active":
            return header
        place = traces.place_of(header)
        if place is None or not place.sampled:
            return header
        xray: Any = await self.cloud.service("xray")
        own = traces.new_id()
        segment = {
            "trace_id": place.root,
            "id": own,
            "name": topic.arn.rpartition(":")[2],
            "origin": "AWS::SNS::Topic",
            "resource_arn": topic.arn,
            "start_time": started,
            "end_time": self.clock.now(),
            **({"parent_id": place.parent} if place.parent else {}),
        }
        xray.record(topic.scope, segment)
        return place._replace(parent=own).header

    def _topic_of(self, call: Call, input: Input) -> Topic:
        for parameter in ("TopicArn", "TargetArn"):
            if (arn := input.get(parameter)) is not None:
                if ":endpoint/" in arn:
                    raise not_implemented("Publish to a platform endpoint")
                return self._topic_here(call, arn, parameter)
        raise invalid("TopicArn or TargetArn Reason: no value for required parameter")

    def _topic_here(self, call: Call, arn: str, parameter: str) -> Topic:
        """The topic of an ARN of the caller's region: from another one nothing can be published. Raises NotFound."""
        topic = self._topic(arn, parameter)
        if topic.region != call.region:
            raise invalid(parameter)
        return topic

    async def _text(self, call: Call, phone: str, input: Input) -> Output:
        """Keep a text message as a letter."""
        message = messages.read(None, input, str(uuid.uuid4()), self.clock.now())
        if re.fullmatch(r"\+?[0-9]{4,15}", phone) is None:
            raise invalid(f"PhoneNumber Reason: {phone} is not valid to publish to")
        body = message.body_for("sms")
        await self._db.write(lambda tx: records.write_letter(tx, call.scope, message.at, "sms", phone, "", body))
        return {"MessageId": message.id}

    async def _send(self, topic: Topic, message: Message) -> None:
        """Deliver a message of a standard topic to queues, and put what else there is into the outbox."""
        now, later = self._targets(topic, message)
        if now:
            envelope = None if all(target.raw for target in now) else await self._courier.envelope(topic, message)
            unsent: list[Target] = []
            if len(now) == 1:
                try:
                    await self._to_queue(now[0], message, envelope)
                except AwsError:
                    unsent = now
            else:
                outcomes = await asyncio.gather(
                    *(self._to_queue(target, message, envelope) for target in now), return_exceptions=True
                )
                unsent = _unsent(now, outcomes)
            self._reports.delivered(topic, len(now) - len(unsent))
            later += unsent
        if later:
            payload = messages.pack(message)
            await self._put([(target, payload) for target in later])

    async def _send_all(self, topic: Topic, drafts: list[Message]) -> None:
        """Deliver a batch: each queue gets its messages as one batch."""
        batches: dict[str, tuple[Target, list[tuple[Message, dict[str, Any]]]]] = {}
        left: list[tuple[Target, bytes]] = []
        for message in drafts:
            now, later = self._targets(topic, message)
            left += [(target, messages.pack(message)) for target in later]
            envelope = None if all(target.raw for target in now) else await self._courier.envelope(topic, message)
            for target in now:
                queue = target.subscription.endpoint
                input = to_sqs(queue, message, _body(target, message, envelope), target.raw)
                del input["QueueUrl"]
                batches.setdefault(queue, (target, []))[1].append((message, input))

        async def send(queue: str, entries: list[tuple[Message, dict[str, Any]]]) -> list[Message]:
            """The messages of a batch that the queue did not take."""
            numbered = [{"Id": str(number), **input} for number, (_, input) in enumerate(entries)]
            try:
                answer = await self._courier.send(queue, {"QueueUrl": queue, "Entries": numbered}, "SendMessageBatch")
            except AwsError:
                return [message for message, _ in entries]
            return [entries[int(entry["Id"])][0] for entry in answer.get("Failed", [])]

        unsent = await asyncio.gather(*(send(queue, entries) for queue, (_, entries) in batches.items()))
        for (target, sent), refused in zip(batches.values(), unsent, strict=True):
            self._reports.delivered(topic, len(sent) - len(refused))
            left += [(target, messages.pack(message)) for message in refused]
        if left:
            await self._put(left)

    async def _send_in_order(self, topic: Topic, drafts: list[Message]) -> list[Sent]:
        """Number messages of a FIFO topic and put them into the outbox, each subscriber's groups in lanes."""
        per_group = topic.attributes.get("FifoThroughputScope") == "MessageGroup"
        receivers = [
            [target.subscription.arn for targets in self._targets(topic, draft) for target in targets]
            for draft in drafts
        ]
        add = self._outbox.add

        def publish(tx: Tx) -> list[Sent]:
            outcomes = []
            for draft, arns in zip(drafts, receivers, strict=True):
                scope = draft.group if per_group else ""
                sent = records.publish(tx, topic, scope, draft.deduplication_id, draft.id, draft.at)
                outcomes.append(sent)
                if not sent.again:
                    draft.sequence = sent.sequence
                    payload = messages.pack(draft)
                    for arn in arns:
                        add(tx, arn, payload, lane=f"{arn} {draft.group}")
            return outcomes

        outcomes = await self._db.write(publish)
        self._outbox.wake()
        return outcomes

    def _targets(self, topic: Topic, message: Message) -> tuple[list[Target], list[Target]]:
        """Who gets a message: queues, and others."""
        fanout = self._fanouts.get(topic.arn)
        now: list[Target] = []
        later: list[Target] = []
        if fanout is not None:
            for target in fanout.live:
                if target.filter is None or target.filter.accepts(
                    message.attributes, message.body_for(target.subscription.protocol)
                ):
                    (now if target.queue else later).append(target)
            self._reports.filtered(topic, len(fanout.live) - len(now) - len(later))
        return now, later

    async def _to_queue(self, target: Target, message: Message, envelope: Envelope | None) -> None:
        queue = target.subscription.endpoint
        await self._courier.send(queue, to_sqs(queue, message, _body(target, message, envelope), target.raw))

    async def _put(self, deliveries: list[tuple[Target, bytes]]) -> None:
        """Put deliveries into the outbox."""
        add: Callable[[Tx, str, bytes], None] = self._outbox.add
        rows = [(target.subscription.arn, payload) for target, payload in deliveries]

        def put(tx: Tx) -> None:
            for arn, payload in rows:
                add(tx, arn, payload)

        await self._db.write(put)
        self._outbox.wake()


def _body(target: Target, message: Message, envelope: Envelope | None) -> str:
    if target.raw or envelope is None:
        return message.body_for("sqs")
    return envelope.text(target.subscription)


def _unsent(targets: list[Target], outcomes: list[Any]) -> list[Target]:
    """The targets whose delivery failed; raises what is not SQS's answer."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, AwsError):
            raise outcome
    return [target for target, outcome in zip(targets, outcomes, strict=True) if isinstance(outcome, AwsError)]


def _check_id(id: str) -> None:
    if _ENTRY_ID.fullmatch(id):
        return
    if len(id) > _LONGEST_ID:
        reason = "is too long"
    else:
        reason = "contains an impermissible character"
    raise AwsError("InvalidBatchEntryIdException", f"The Id of a batch entry in the batch request {reason}: {id}")


def _check_entries(entries: list[dict[str, Any]]) -> None:
    if not entries:
        raise AwsError("EmptyBatchRequestException", "The batch request doesn't contain any entries.")
    if len(entries) > _ENTRIES_AT_MOST:
        raise AwsError(
            "TooManyEntriesInBatchRequestException", "The batch request contains more entries than permissible."
        )
    ids = {entry["Id"] for entry in entries}
    if len(ids) != len(entries):
        raise AwsError(
            "BatchEntryIdsNotDistinctException", "Two or more batch entries in the request have the same Id."
        )
    for id in ids:
        _check_id(id)
    if sum(messages.size(entry) for entry in entries) > LARGEST:
        raise AwsError(
            "BatchRequestTooLongException", "The length of all the messages put together is more than the limit."
        )
