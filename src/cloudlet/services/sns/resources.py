"""CloudFormation's types of SNS."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, tags_of

_TOPIC_ATTRIBUTES = (
    "ArchivePolicy",
    "ContentBasedDeduplication",
    "DisplayName",
    "FifoThroughputScope",
    "KmsMasterKeyId",
    "SignatureVersion",
    "TracingConfig",
)
_SUBSCRIPTION_ATTRIBUTES = (
    "DeliveryPolicy",
    "FilterPolicy",
    "FilterPolicyScope",
    "RawMessageDelivery",
    "RedrivePolicy",
    "ReplayPolicy",
    "SubscriptionRoleArn",
)


class Topic(ResourceType):
    """A topic with subscriptions of its own. ``Ref`` is its ARN."""

    type = "AWS::SNS::Topic"
    replaces = frozenset(("TopicName", "FifoTopic"))
    refuses = frozenset(("MaximumMessageSize",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _refuse(properties)
        is_fifo = _text(properties.get("FifoTopic", False)) == "true"
        name = properties.get("TopicName") or do.name(256, suffix=".fifo" if is_fifo else "")
        attributes = _attributes(properties, _TOPIC_ATTRIBUTES) | ({"FifoTopic": "true"} if is_fifo else {})
        tags = [{"Key": key, "Value": value} for key, value in tags_of(do, properties).items()]
        made = await do.call("sns", "CreateTopic", {"Name": name, "Attributes": attributes, "Tags": tags})
        topic = made["TopicArn"]
        await do.initiated(topic)
        for protocol, endpoint in _inline(properties):
            await do.call("sns", "Subscribe", {"TopicArn": topic, "Protocol": protocol, "Endpoint": endpoint})
        return Physical(topic, {"TopicArn": topic, "TopicName": name})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        _refuse(new)
        topic = physical.id
        before, after = _attributes(old, _TOPIC_ATTRIBUTES), _attributes(new, _TOPIC_ATTRIBUTES)
        for name, value in _changes(before, after).items():
            await do.call(
                "sns", "SetTopicAttributes", {"TopicArn": topic, "AttributeName": name, "AttributeValue": value}
            )
        tags = tags_of(do, new)
        known = (await do.call("sns", "ListTagsForResource", {"ResourceArn": topic}))["Tags"]
        if gone := [tag["Key"] for tag in known if tag["Key"] not in tags]:
            await do.call("sns", "UntagResource", {"ResourceArn": topic, "TagKeys": gone})
        if tags:
            await do.call(
                "sns",
                "TagResource",
                {"ResourceArn": topic, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]},
            )
        dropped = set(_inline(old)) - set(_inline(new))
        if dropped:
            await _unsubscribe_all(do, topic, dropped)
        for protocol, endpoint in _inline(new):
            if (protocol, endpoint) not in _inline(old):
                await do.call("sns", "Subscribe", {"TopicArn": topic, "Protocol": protocol, "Endpoint": endpoint})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("sns", "DeleteTopic", {"TopicArn": physical.id})


def _refuse(properties: Properties) -> None:
    for name in ("DataProtectionPolicy", "DeliveryStatusLogging"):
        if properties.get(name):
            raise not_implemented(f"AWS::SNS::Topic with {name}")


def _inline(properties: Properties) -> list[tuple[str, str]]:
    """The subscriptions that a topic's own property names."""
    return [(entry["Protocol"], entry["Endpoint"]) for entry in properties.get("Subscription") or []]


async def _unsubscribe_all(do: Deployment, topic: str, which: set[tuple[str, str]]) -> None:
    token: dict[str, str] = {}
    while True:
        page = await do.call("sns", "ListSubscriptionsByTopic", {"TopicArn": topic, **token})
        for entry in page["Subscriptions"]:
            if (entry["Protocol"], entry["Endpoint"]) in which:
                await _unsubscribe(do, entry["SubscriptionArn"])
        if "NextToken" not in page:
            return
        token = {"NextToken": page["NextToken"]}


class Subscription(ResourceType):
    """A subscription. ``Ref`` is its ARN."""

    type = "AWS::SNS::Subscription"
    required = frozenset(("Protocol", "TopicArn"))
    replaces = frozenset(("Protocol", "Endpoint", "TopicArn"))
    ignored = frozenset(("Region",))  # the topic's ARN says it

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        made = await do.call(
            "sns",
            "Subscribe",
            {
                "TopicArn": properties["TopicArn"],
                "Protocol": properties["Protocol"],
                "Endpoint": properties.get("Endpoint", ""),
                "Attributes": _attributes(properties, _SUBSCRIPTION_ATTRIBUTES),
                "ReturnSubscriptionArn": True,
            },
        )
        return Physical(made["SubscriptionArn"], {"Arn": made["SubscriptionArn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        before, after = _attributes(old, _SUBSCRIPTION_ATTRIBUTES), _attributes(new, _SUBSCRIPTION_ATTRIBUTES)
        # A body's policy may not fit attributes: the scope is set first where there will be a policy.
        for name, value in sorted(_changes(before, after).items(), key=lambda item: item[0] != "FilterPolicyScope"):
            await do.call(
                "sns",
                "SetSubscriptionAttributes",
                {"SubscriptionArn": physical.id, "AttributeName": name, "AttributeValue": value or _unset(name)},
            )
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unsubscribe(do, physical.id)


class TopicPolicy(ResourceType):
    """One policy on some topics, named by their ARNs."""

    type = "AWS::SNS::TopicPolicy"
    required = frozenset(("PolicyDocument", "Topics"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        for topic in properties["Topics"]:
            await _set_policy(do, topic, _text(properties["PolicyDocument"]))
        id = do.name()
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        for topic in old["Topics"]:
            if topic not in new["Topics"]:
                await _drop_policy(do, topic)
        for topic in new["Topics"]:
            await _set_policy(do, topic, _text(new["PolicyDocument"]))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        for topic in properties["Topics"]:
            await _drop_policy(do, topic)


class TopicInlinePolicy(ResourceType):
    """The policy of one topic. ``Ref`` is the topic's ARN."""

    type = "AWS::SNS::TopicInlinePolicy"
    required = frozenset(("PolicyDocument", "TopicArn"))
    replaces = frozenset(("TopicArn",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        await _set_policy(do, properties["TopicArn"], _text(properties["PolicyDocument"]))
        return Physical(properties["TopicArn"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await _set_policy(do, physical.id, _text(new["PolicyDocument"]))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _drop_policy(do, physical.id)


def _attributes(properties: Properties, names: tuple[str, ...]) -> dict[str, str]:
    """Properties have the names of attributes, whose values are texts."""
    return {name: _text(properties[name]) for name in names if properties.get(name) is not None}


def _changes(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    """The attributes to set; an empty text sets one back to its default."""
    removed = {name: "" for name in before if name not in after}
    return removed | {name: value for name, value in after.items() if before.get(name) != value}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


async def _set_policy(do: Deployment, topic: str, policy: str) -> None:
    await do.call("sns", "SetTopicAttributes", {"TopicArn": topic, "AttributeName": "Policy", "AttributeValue": policy})


async def _drop_policy(do: Deployment, topic: str) -> None:
    try:
        await _set_policy(do, topic, "")
    except AwsError as error:
        if error.code != "NotFoundException":
            raise


async def _unsubscribe(do: Deployment, subscription: str) -> None:
    """Unsubscribe; one that nobody has confirmed cannot be, and ends by itself."""
    try:
        await do.call("sns", "Unsubscribe", {"SubscriptionArn": subscription})
    except AwsError as error:
        if error.code != "InvalidParameterException":
            raise


TYPES = [Topic, Subscription, TopicPolicy, TopicInlinePolicy]


def _unset(attribute: str) -> str:
    """What takes a subscription's attribute back to its default."""
    return "false" if attribute == "RawMessageDelivery" else ""
