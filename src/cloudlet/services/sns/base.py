"""What all operations of SNS stand on: the database, who is subscribed to what, and the outbox."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input
from cloudlet.services.patterns import FilterPolicy, compile_filter_policy
from cloudlet.services.sns import records
from cloudlet.services.sns.delivery import Courier
from cloudlet.services.sns.errors import invalid, no_subscription, no_topic
from cloudlet.services.sns.records import Subscription, TextMessaging, Topic
from cloudlet.services.sns.reporting import Reporting
from cloudlet.services.sns.signing import Signer
from cloudlet.store import Database, Resources, Tx

_PAGE = 100


class Target:
    """A subscription as publishing sees it."""

    __slots__ = ("filter", "queue", "raw", "subscription")

    def __init__(self, subscription: Subscription) -> None:
        attributes = subscription.attributes
        self.subscription = subscription
        self.raw = attributes.get("RawMessageDelivery") == "true"
        self.filter: FilterPolicy | None = None
        if policy := attributes.get("FilterPolicy"):
            self.filter = compile_filter_policy(policy, attributes.get("FilterPolicyScope", "MessageAttributes"))
        self.queue = subscription.protocol == "sqs"


class Fanout:
    """The subscriptions of one topic."""

    __slots__ = ("_live", "by_endpoint", "by_id")

    def __init__(self) -> None:
        self.by_id: dict[str, Target] = {}
        self.by_endpoint: dict[tuple[str, str], str] = {}
        self._live: list[Target] | None = None

    @property
    def live(self) -> list[Target]:
        """The confirmed ones; put together anew after a change, when it is next asked for."""
        if self._live is None:
            self._live = [target for target in self.by_id.values() if target.subscription.confirmed]
        return self._live

    def put(self, subscription: Subscription) -> None:
        """A subscription is new or has changed."""
        self.by_id[subscription.id] = Target(subscription)
        self.by_endpoint[subscription.protocol, subscription.endpoint] = subscription.id
        self._live = None

    def remove(self, subscription: Subscription) -> None:
        """A subscription is gone."""
        if self.by_id.pop(subscription.id, None) is not None:
            self.by_endpoint.pop((subscription.protocol, subscription.endpoint), None)
            self._live = None


class Base(api.Service):
    """The state of the service."""

    name = "sns"

    _db: Database
    _topics: Resources[Topic]
    _subscriptions: Resources[Subscription]
    _texting: Resources[TextMessaging]
    _signer: Signer | None

    async def start(self) -> None:
        self._db = await self.cloud.store.database("sns", records.MIGRATIONS)
        self._topics = self._db.resources(Topic)
        self._subscriptions = self._db.resources(Subscription)
        self._texting = self._db.resources(TextMessaging)
        self._fanouts: dict[str, Fanout] = {}
        for record in self._subscriptions.all():
            self._fanout(record.value.topic).put(record.value)
        self._reports = Reporting(self.cloud.metrics)
        self._signer = None
        self._making_signer: asyncio.Future[Signer] | None = None
        self._courier = Courier(self.cloud, self._db, self._find, self._signing, self._reports)
        self._outbox = self._courier.outbox
        await self._outbox.start()

    async def stop(self) -> None:
        await self._courier.stop()

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        arn = next((input[name] for name in ("TopicArn", "TargetArn", "ResourceArn") if name in input), "")
        try:
            return self._topic(arn).attributes.get("Policy")
        except AwsError:
            return None

    def _fanout(self, topic: str) -> Fanout:
        fanout = self._fanouts.get(topic)
        if fanout is None:
            fanout = self._fanouts[topic] = Fanout()
        return fanout

    async def _signing(self) -> Signer:
        """The signer, made when it is first needed."""
        if self._signer is None:
            if self._making_signer is None:
                folder = self.cloud.data_dir / "sns"
                self._making_signer = asyncio.ensure_future(asyncio.to_thread(Signer, folder))
            self._signer = await asyncio.shield(self._making_signer)
        return self._signer

    def _topic(self, arn: str, parameter: str = "TopicArn", tx: Tx | None = None) -> Topic:
        """The topic of an ARN. Raises NotFound."""
        parts = arn.split(":")
        if len(parts) < 6:
            raise invalid(f"{parameter} Reason: An ARN must have at least 6 elements, not {len(parts)}")
        if len(parts) != 6 or parts[2] != "sns":
            raise invalid(parameter)
        record = self._topics.get(f"{parts[4]}/{parts[3]}", parts[5], tx)
        if record is None:
            raise no_topic()
        return record.value

    def _find(self, arn: str) -> tuple[Topic, Subscription] | None:
        """A subscription and its topic, or None when one is gone."""
        topic_arn, _, id = arn.rpartition(":")
        fanout = self._fanouts.get(topic_arn)
        target = fanout.by_id.get(id) if fanout is not None else None
        if target is None:
            return None
        try:
            return self._topic(topic_arn), target.subscription
        except AwsError:
            return None

    def _subscription(self, arn: str) -> Subscription:
        """The subscription of an ARN. Raises NotFound."""
        parts = arn.split(":")
        if len(parts) < 6:
            raise invalid(f"SubscriptionArn Reason: An ARN must have at least 6 elements, not {len(parts)}")
        if len(parts) != 7:
            raise invalid("SubscriptionId" if len(parts) == 6 else "SubscriptionArn")
        record = self._subscriptions.get(f"{parts[4]}/{parts[3]}", f"{parts[5]}:{parts[6]}")
        if record is None:
            raise no_subscription()
        return record.value

    async def _change_topic(self, topic: Topic, change: Callable[[Topic], dict[str, Any]]) -> None:
        """Set the fields that ``change`` makes of the topic as it is then."""

        def edit(tx: Tx) -> None:
            current = self._topic(topic.arn, tx=tx)
            self._topics.put(tx, topic.scope, topic.name, replace(current, **change(current)))

        await self._db.write(edit)

    async def _change_subscription(self, subscription: Subscription, **fields: Any) -> Subscription:
        scope, name = place(subscription)

        def edit(tx: Tx) -> Subscription:
            current = self._subscriptions.get(scope, name, tx)
            if current is None:
                raise no_subscription()
            changed = replace(current.value, **fields)
            self._subscriptions.put(tx, scope, name, changed)
            return changed

        changed = await self._db.write(edit)
        self._fanout(changed.topic).put(changed)
        return changed


def place(subscription: Subscription) -> tuple[str, str]:
    """A subscription's scope and name in the store."""
    _, _, _, region, account, topic = subscription.topic.split(":")
    return f"{account}/{region}", f"{topic}:{subscription.id}"


def page(names: list[str], token: str | None, limit: int = _PAGE) -> tuple[int, int, str | None]:
    """Where a page of sorted names begins and ends, and the token of the next one: the last name of this."""
    start = 0
    if token:
        try:
            start = bisect_right(names, b64decode(token, validate=True).decode())
        except ValueError:
            raise invalid("NextToken") from None
    end = start + limit
    return start, end, b64encode(names[end - 1].encode()).decode() if end < len(names) else None
