"""The operations on subscriptions: subscribe, confirm, change, list, unsubscribe."""

from __future__ import annotations

import re
import secrets
import uuid
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.patterns import PatternError, compile_filter_policy
from cloudlet.services.sns import messages, policies
from cloudlet.services.sns.base import Base, page, place
from cloudlet.services.sns.errors import invalid
from cloudlet.services.sns.messages import Message
from cloudlet.services.sns.records import Subscription, Topic
from cloudlet.store import Tx

_PROTOCOLS = frozenset(("http", "https", "email", "email-json", "sms", "sqs", "application", "lambda", "firehose"))
_CONFIRMED_BY_MESSAGE = frozenset(("http", "https", "email", "email-json"))
_RAW = frozenset(("sqs", "http", "https", "firehose"))
_TOKEN_LIFE = 172_800.0
_PHONE = re.compile(r"(?!.*(--|\.\.))\+?[0-9][0-9 ./()-]{4,18}[0-9]")
_SETTABLE = frozenset(
    (
        "DeliveryPolicy",
        "FilterPolicy",
        "FilterPolicyScope",
        "RawMessageDelivery",
        "RedrivePolicy",
        "SubscriptionRoleArn",
    )
)
_SCOPES = ("MessageAttributes", "MessageBody")
_DEFAULTS = {"FilterPolicyScope": _SCOPES[0], "RawMessageDelivery": "false"}


class Subscriptions(Base):
    """Operations on subscriptions."""

    async def Subscribe(self, call: Call, input: Input) -> Output:
        topic, protocol, endpoint = self._topic(input["TopicArn"]), input["Protocol"], input.get("Endpoint", "")
        _check_endpoint(topic, protocol, endpoint)
        attributes = {key: value for key, value in input.get("Attributes", {}).items() if value}
        _check_attributes(topic, protocol, endpoint, attributes, "Attributes Reason: ")
        fanout = self._fanout(topic.arn)
        if (known := fanout.by_endpoint.get((protocol, endpoint))) is not None:
            subscription = fanout.by_id[known].subscription
            current = {**_DEFAULTS, **subscription.attributes}
            if any(not _same(current.get(key), value) for key, value in attributes.items()):
                raise invalid("Attributes Reason: Subscription already exists with different attributes")
            if not subscription.confirmed:
                await self._ask(topic, subscription)
            return _subscribed(subscription, input)
        pending = protocol in _CONFIRMED_BY_MESSAGE
        id = str(uuid.uuid4())
        subscription = Subscription(
            topic.arn,
            id,
            call.account,
            protocol,
            endpoint,
            self.clock.now(),
            attributes,
            confirmed=not pending,
            authenticated=not pending,
            token=id.replace("-", "") + secrets.token_hex(64) if pending else "",
            principal=call.principal if call.principal.startswith("arn:") else "",
        )

        def subscribe(tx: Tx) -> None:
            self._topic(topic.arn, tx=tx)
            self._subscriptions.put(tx, *place(subscription), subscription)

        # Known before it is stored, so that a second request for the same endpoint does not make another one.
        fanout.put(subscription)
        try:
            await self._db.write(subscribe)
        except BaseException:
            fanout.remove(subscription)
            raise
        if pending:
            await self._ask(topic, subscription)
        return _subscribed(subscription, input)

    async def _ask(self, topic: Topic, subscription: Subscription) -> None:
        """Send the message by which an endpoint confirms that it wants the subscription."""
        message = Message(
            str(uuid.uuid4()),
            topic.arn,
            f"You have chosen to subscribe to the topic {topic.arn}.\n"
            "To confirm the subscription, visit the SubscribeURL included in this message.",
            self.clock.now(),
            confirms=subscription.token,
        )
        await self._db.write(lambda tx: self._outbox.add(tx, subscription.arn, messages.pack(message)))
        self._outbox.wake()

    async def ConfirmSubscription(self, call: Call, input: Input) -> Output:
        fanout, token = self._fanouts.get(input["TopicArn"]), input["Token"]
        target = None
        try:
            target = fanout.by_id.get(str(uuid.UUID(token[:32]))) if fanout is not None else None
        except ValueError:
            pass
        if target is None or not secrets.compare_digest(target.subscription.token.encode(), token.encode()):
            raise invalid("Token")
        subscription = target.subscription
        if not subscription.confirmed:
            if self.clock.now() - subscription.created > _TOKEN_LIFE:
                raise invalid("Token")
            authenticated = input.get("AuthenticateOnUnsubscribe", "false").lower() == "true"
            subscription = await self._change_subscription(subscription, confirmed=True, authenticated=authenticated)
        return {"SubscriptionArn": subscription.arn}

    async def Unsubscribe(self, call: Call, input: Input) -> Output:
        try:
            subscription = self._subscription(input["SubscriptionArn"])
        except AwsError as error:
            if error.code == "NotFoundException":
                return {}
            raise
        if not subscription.confirmed:
            raise invalid("This subscription is not confirmed")
        await self._unsubscribe(subscription)
        return {}

    async def _unsubscribe(self, subscription: Subscription) -> None:
        scope, name = place(subscription)

        def remove(tx: Tx) -> None:
            if not self._subscriptions.delete(tx, scope, name):
                return
            topic = self._topics.get(scope, name.partition(":")[0], tx)
            if topic is not None:
                self._topics.put(tx, scope, topic.name, replace(topic.value, deleted=topic.value.deleted + 1))

        await self._db.write(remove)
        self._fanout(subscription.topic).remove(subscription)

    async def GetSubscriptionAttributes(self, call: Call, input: Input) -> Output:
        subscription = self._subscription(input["SubscriptionArn"])
        topic = self._topic(subscription.topic)
        attributes = dict(subscription.attributes)
        if "FilterPolicy" in attributes:
            attributes.setdefault("FilterPolicyScope", _SCOPES[0])
        if subscription.protocol in ("http", "https"):
            attributes["EffectiveDeliveryPolicy"] = _text(policies.effective_of(topic, subscription))
        return {
            "Attributes": {
                "RawMessageDelivery": "false",
                **attributes,
                "SubscriptionArn": subscription.arn,
                "TopicArn": subscription.topic,
                "Owner": subscription.owner,
                "Protocol": subscription.protocol,
                "Endpoint": subscription.endpoint,
                "PendingConfirmation": "false" if subscription.confirmed else "true",
                "ConfirmationWasAuthenticated": "true" if subscription.authenticated else "false",
                "SubscriptionPrincipal": subscription.principal or f"arn:aws:iam::{subscription.owner}:root",
            }
        }

    async def SetSubscriptionAttributes(self, call: Call, input: Input) -> Output:
        subscription = self._subscription(input["SubscriptionArn"])
        key, value = input["AttributeName"], input.get("AttributeValue", "")
        attributes = {name: text for name, text in subscription.attributes.items() if name != key}
        if key == "FilterPolicy" and value.strip() == "{}":
            value = ""
        if value or key == "RawMessageDelivery":
            attributes[key] = value
            topic = self._topic(subscription.topic)
            _check_attributes(topic, subscription.protocol, subscription.endpoint, attributes, "")
        elif key not in _SETTABLE:
            raise invalid("AttributeName")
        elif key == "FilterPolicy":
            attributes.pop("FilterPolicyScope", None)
        await self._change_subscription(subscription, attributes=attributes)
        return {}

    async def ListSubscriptions(self, call: Call, input: Input) -> Output:
        return self._list(call.scope, "", input)

    async def ListSubscriptionsByTopic(self, call: Call, input: Input) -> Output:
        topic = self._topic(input["TopicArn"])
        return self._list(topic.scope, f"{topic.name}:", input)

    def _list(self, scope: str, prefix: str, input: Input) -> Output:
        found = self._subscriptions.list(scope, prefix)
        start, end, token = page([record.name for record in found], input.get("NextToken"))
        shown = [
            {
                "SubscriptionArn": record.value.shown_arn,
                "Owner": record.value.owner,
                "Protocol": record.value.protocol,
                "Endpoint": record.value.endpoint,
                "TopicArn": record.value.topic,
            }
            for record in found[start:end]
        ]
        return {"Subscriptions": shown} | ({"NextToken": token} if token else {})


def _subscribed(subscription: Subscription, input: Input) -> Output:
    shown = subscription.confirmed or input.get("ReturnSubscriptionArn", False)
    return {"SubscriptionArn": subscription.arn if shown else "pending confirmation"}


def _check_endpoint(topic: Topic, protocol: str, endpoint: str) -> None:
    """Check who is to be subscribed. Raises AWS's error."""
    if protocol not in _PROTOCOLS:
        raise invalid(f"Amazon SNS does not support this protocol string: {protocol}")
    if protocol in ("application", "firehose"):
        raise not_implemented(f"Subscribe with Protocol {protocol}")
    if not endpoint:
        raise invalid("Endpoint")
    arn = endpoint.split(":")
    match protocol:
        case "http" | "https":
            if not endpoint.startswith(f"{protocol}://"):
                raise invalid("Endpoint must match the specified protocol")
            if not urlsplit(endpoint).hostname:
                raise invalid(f"Unreachable Endpoint ({endpoint})")
        case "sqs":
            if len(arn) != 6 or arn[2] != "sqs":
                raise invalid("SQS endpoint ARN")
            if endpoint.endswith(".fifo") and not topic.fifo:
                raise invalid(
                    "Invalid parameter: Endpoint Reason: FIFO SQS Queues can not be subscribed to standard SNS topics"
                )
        case "lambda":
            if len(arn) < 7 or arn[2] != "lambda":
                raise invalid("Lambda endpoint ARN")
        case "sms":
            if _PHONE.fullmatch(endpoint) is None:
                raise AwsError("InvalidParameterException", f"Invalid SMS endpoint: {endpoint}")
        case _:
            if "@" not in endpoint.strip("@"):
                raise invalid("Email address")
    if topic.fifo and protocol != "sqs":
        raise invalid("Invalid parameter: Endpoint Reason: Please use FIFO SQS queue")


def _check_attributes(topic: Topic, protocol: str, endpoint: str, attributes: dict[str, str], prefix: str) -> None:
    """Check a subscription's attributes. Raises AWS's error."""
    for key, value in attributes.items():
        if key == "ReplayPolicy":
            raise not_implemented("Subscribe with ReplayPolicy")
        if key not in _SETTABLE:
            raise invalid(f"{prefix}Unknown attribute: {key}" if prefix else "AttributeName")
        match key:
            case "RawMessageDelivery":
                if value.lower() not in ("true", "false"):
                    raise invalid(f"{prefix}RawMessageDelivery: Invalid value [{value}]. Must be true or false.")
                if value.lower() == "true" and protocol not in _RAW:
                    raise invalid(
                        f"{prefix}RawMessageDelivery: Delivery protocol [{protocol}] does not support raw message "
                        "delivery."
                    )
                attributes[key] = value.lower()
            case "FilterPolicyScope":
                if value not in _SCOPES:
                    raise invalid(
                        f"{prefix}FilterPolicyScope: Invalid value [{value}]. "
                        "Please use either MessageBody or MessageAttributes"
                    )
            case "RedrivePolicy":
                _check_redrive(topic, endpoint, value, prefix)
            case "DeliveryPolicy":
                policies.check(value, of_topic=False)
    if "FilterPolicy" in attributes:
        try:
            compile_filter_policy(attributes["FilterPolicy"], attributes.get("FilterPolicyScope", _SCOPES[0]))
        except PatternError as error:
            raise invalid(f"{prefix}FilterPolicy: {error}") from None


def _check_redrive(topic: Topic, endpoint: str, value: str, prefix: str) -> None:
    try:
        policy = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError):
        raise invalid(f"{prefix}RedrivePolicy: failed to parse JSON.") from None
    arn = policy.get("deadLetterTargetArn") if isinstance(policy, dict) else None
    if not isinstance(arn, str) or len(arn.split(":")) != 6 or arn.split(":")[2] != "sqs":
        raise invalid(f"{prefix}RedrivePolicy: deadLetterTargetArn is an invalid arn")
    if arn.endswith(".fifo") and not topic.fifo:
        raise invalid(f"{prefix}RedrivePolicy: must use a standard queue as DLQ for a subscription to a standard topic")
    if endpoint.endswith(".fifo") and not arn.endswith(".fifo"):
        raise invalid(f"{prefix}RedrivePolicy: must use a FIFO queue as DLQ for a FIFO Subscription to a FIFO Topic.")


def _same(first: str | None, second: str) -> bool:
    """Whether two attribute values say the same; some are JSON."""
    if first == second:
        return True
    try:
        return first is not None and bool(msgspec.json.decode(first) == msgspec.json.decode(second))
    except msgspec.DecodeError:
        return False


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
