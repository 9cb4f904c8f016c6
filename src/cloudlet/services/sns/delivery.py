"""Delivery: what a subscriber is sent, how often it is tried, and where a message goes that cannot be delivered."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from cloudlet.control.outbox import Delivery, Outbox, Undeliverable
from cloudlet.errors import AwsError
from cloudlet.observe import traces
from cloudlet.services.api import Cloud, Input
from cloudlet.services.sns import messages, policies, records
from cloudlet.services.sns.messages import Envelope, Message
from cloudlet.services.sns.records import Subscription, Topic
from cloudlet.services.sns.reporting import Reporting
from cloudlet.services.sns.signing import Signer
from cloudlet.store import Database

if TYPE_CHECKING:
    import aiohttp

_PATIENCE = 15.0  # seconds that an HTTP endpoint has to answer
_SERVICE = "sns.amazonaws.com"
_FIRST_SECOND_TRIES, _IMMEDIATE_TRIES, _RISING_TRIES, _LONG_TRIES = 2, 3, 10, 100_000
_LONGEST_PAUSE = 20.0
# No further try helps with these: the endpoint is gone or does not take the message.
_FINAL = frozenset(
    (
        "QueueDoesNotExist",
        "InvalidAddress",
        "InvalidParameterValue",
        "MissingParameter",
        "InvalidMessageContents",
        "ResourceNotFoundException",
        "AccessDenied",
        "AccessDeniedException",
    )
)


class Courier:
    """Delivers what waits in the outbox."""

    def __init__(
        self,
        cloud: Cloud,
        db: Database,
        find: Callable[[str], tuple[Topic, Subscription] | None],
        signing: Callable[[], Awaitable[Signer]],
        reports: Reporting,
    ) -> None:
        """``find`` gives a subscription and its topic by the subscription's ARN."""
        self._cloud = cloud
        self._db = db
        self._find = find
        self._signing = signing
        self._reports = reports
        self._session: aiohttp.ClientSession | None = None
        self.outbox = Outbox(db, cloud.clock, self._deliver, retries=self._pause, given_up=self._bury)

    async def stop(self) -> None:
        """Finish what is under way."""
        await self.outbox.stop()
        if self._session is not None:
            await self._session.close()

    async def envelope(self, topic: Topic, message: Message) -> Envelope:
        """A message as its subscribers will see it."""
        signer = await self._signing()
        return Envelope(message, self._cloud.endpoint, signer, topic.attributes.get("SignatureVersion", "1"))

    async def to_queue(self, topic: Topic, subscription: Subscription, message: Message) -> None:
        """Send a message to a queue. Raises AwsError."""
        raw = subscription.attributes.get("RawMessageDelivery") == "true"
        body = message.body_for("sqs") if raw else (await self.envelope(topic, message)).text(subscription)
        await self.send(subscription.endpoint, to_sqs(subscription.endpoint, message, body, raw))

    async def send(self, queue: str, input: Input, operation: str = "SendMessage") -> Input:
        """Call SQS where a queue is. Raises AwsError."""
        _, _, _, region, account, _ = queue.split(":", 5)
        return await self._cloud.call("sqs", operation, input, account=account, region=region, principal=_SERVICE)

    async def _deliver(self, delivery: Delivery) -> None:
        found = self._find(delivery.target)
        if found is None:
            return  # unsubscribed meanwhile
        topic, subscription = found
        message = messages.unpack(delivery.payload)
        try:
            await self._to(topic, subscription, message)
        except AwsError as error:
            if error.code in _FINAL:
                raise Undeliverable(str(error)) from error
            raise
        if not message.confirms:
            self._reports.delivered(topic)

    async def _to(self, topic: Topic, subscription: Subscription, message: Message) -> None:
        match subscription.protocol:
            case "sqs":
                await self.to_queue(topic, subscription, message)
            case "lambda":
                envelope = await self.envelope(topic, message)
                _, _, _, region, account, _ = subscription.endpoint.split(":", 5)
                with traces.within(message.trace):
                    await self._cloud.call(
                        "lambda",
                        "Invoke",
                        {
                            "FunctionName": subscription.endpoint,
                            "InvocationType": "Event",
                            "Payload": envelope.event(subscription),
                        },
                        account=account,
                        region=region,
                        principal=_SERVICE,
                    )
            case "http" | "https":
                await self._post(topic, subscription, message)
            case _:
                await self._write(topic, subscription, message)

    async def _post(self, topic: Topic, subscription: Subscription, message: Message) -> None:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE))
        envelope = await self.envelope(topic, message)
        raw = subscription.attributes.get("RawMessageDelivery") == "true"
        request = policies.request_of(topic, subscription)
        headers = {
            "x-amz-sns-message-id": message.id,
            "x-amz-sns-topic-arn": message.topic,
            "Content-Type": request.get("headerContentType", "text/plain; charset=UTF-8"),
            "User-Agent": "Amazon Simple Notification Service Agent",
            **({"X-Amzn-Trace-Id": message.trace} if message.trace else {}),
        }
        if message.confirms:
            headers["x-amz-sns-message-type"] = "SubscriptionConfirmation"
            body = envelope.confirmation(message.confirms)
        else:
            headers["x-amz-sns-message-type"] = "Notification"
            headers["x-amz-sns-subscription-arn"] = subscription.arn
            if raw:
                headers["x-amz-sns-rawdelivery"] = "true"
                body = message.body_for(subscription.protocol)
            else:
                body = envelope.text(subscription)
        try:
            async with self._session.post(
                subscription.endpoint, data=body.encode(), headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except aiohttp.InvalidURL as error:
            raise Undeliverable(str(error)) from error
        if 200 <= status < 300:
            return
        if 400 <= status < 500 and status != 429:
            raise Undeliverable(f"the endpoint answered {status}")
        raise ConnectionError(f"the endpoint answered {status}")

    async def _write(self, topic: Topic, subscription: Subscription, message: Message) -> None:
        """Keep an e-mail or a text message as a letter."""
        kind = subscription.protocol
        if message.confirms:
            envelope = await self.envelope(topic, message)
            body = envelope.confirmation(message.confirms)
            subject = "AWS Notification - Subscription Confirmation"
        elif kind == "email-json":
            body, subject = (await self.envelope(topic, message)).text(subscription), "AWS Notification Message"
        else:
            body, subject = message.body_for(kind), message.subject or "AWS Notification Message"
        now = self._cloud.clock.now()
        await self._db.write(
            lambda tx: records.write_letter(
                tx, topic.scope, now, kind, subscription.endpoint, "" if kind == "sms" else subject, body
            )
        )

    def _pause(self, failed: int, delivery: Delivery) -> float | None:
        found = self._find(delivery.target)
        if found is None:
            return None
        topic, subscription = found
        if subscription.protocol in ("http", "https"):
            return policies.pause_after(failed, policies.retries_of(topic, subscription))
        if failed <= _IMMEDIATE_TRIES:
            return 0.0
        failed -= _IMMEDIATE_TRIES
        if failed <= _FIRST_SECOND_TRIES:
            return 1.0
        failed -= _FIRST_SECOND_TRIES
        if failed <= _RISING_TRIES:
            return min(_LONGEST_PAUSE, math.exp2(failed / 2))
        return _LONGEST_PAUSE if failed <= _RISING_TRIES + _LONG_TRIES else None

    async def _bury(self, delivery: Delivery, error: Exception) -> None:
        """Send what cannot be delivered to the subscription's dead-letter queue."""
        found = self._find(delivery.target)
        policy = found[1].attributes.get("RedrivePolicy") if found is not None else None
        message = messages.unpack(delivery.payload)
        if found is None or message.confirms:
            return
        topic, subscription = found
        self._reports.failed(topic, dead_lettered=bool(policy))
        if not policy:
            return
        queue = msgspec.json.decode(policy)["deadLetterTargetArn"]
        raw = subscription.attributes.get("RawMessageDelivery") == "true"
        if raw:
            body = message.body_for(subscription.protocol)
        else:
            body = (await self.envelope(topic, message)).text(subscription)
        input = to_sqs(queue, message, body, raw)
        while True:
            try:
                await self.send(queue, input)
                return
            except AwsError as refused:
                if refused.code in _FINAL:
                    raise
                await self._cloud.clock.sleep(_LONGEST_PAUSE)


def to_sqs(queue: str, message: Message, body: str, raw: bool) -> dict[str, Any]:
    """What SendMessage takes for a message."""
    input: dict[str, Any] = {"QueueUrl": queue, "MessageBody": body}
    if raw and message.attributes:
        input["MessageAttributes"] = message.attributes
    if message.trace:
        input["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": message.trace}}
    if message.group:
        input["MessageGroupId"] = message.group
    if queue.endswith(".fifo"):
        input.setdefault("MessageGroupId", message.id)
        input["MessageDeduplicationId"] = message.deduplication_id or message.id
    return input
