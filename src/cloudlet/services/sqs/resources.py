"""CloudFormation's types of SQS."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, tags_of


class Queue(ResourceType):
    """A queue. ``Ref`` is its URL."""

    type = "AWS::SQS::Queue"
    replaces = frozenset(("QueueName", "FifoQueue"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        suffix = ".fifo" if _text(properties.get("FifoQueue", False)) == "true" else ""
        name = properties.get("QueueName") or do.name(80, suffix=suffix)
        made = await do.call(
            "sqs",
            "CreateQueue",
            {"QueueName": name, "Attributes": _attributes(properties), "tags": tags_of(do, properties)},
        )
        url = made["QueueUrl"]
        return Physical(
            url, {"Arn": f"arn:aws:sqs:{do.region}:{do.account}:{name}", "QueueName": name, "QueueUrl": url}
        )

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        before, after = _attributes(old), _attributes(new)
        # What the template no longer says goes back to its default.
        removed = {name: _DEFAULTS[name] for name in before.keys() - after.keys() if name in _DEFAULTS}
        changes = removed | {name: value for name, value in after.items() if before.get(name) != value}
        if changes:
            await do.call("sqs", "SetQueueAttributes", {"QueueUrl": physical.id, "Attributes": changes})
        tags, tags_before = tags_of(do, new), await do.call("sqs", "ListQueueTags", {"QueueUrl": physical.id})
        if gone := [key for key in tags_before.get("Tags", {}) if key not in tags]:
            await do.call("sqs", "UntagQueue", {"QueueUrl": physical.id, "TagKeys": gone})
        if tags:
            await do.call("sqs", "TagQueue", {"QueueUrl": physical.id, "Tags": tags})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteQueue", {"QueueUrl": physical.id})


_DEFAULTS = {
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "DelaySeconds": "0",
    "FifoThroughputLimit": "perQueue",
    "KmsDataKeyReusePeriodSeconds": "300",
    "KmsMasterKeyId": "",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "RedriveAllowPolicy": "",
    "RedrivePolicy": "",
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": "30",
}


class QueuePolicy(ResourceType):
    """One policy on some queues, named by their URLs."""

    type = "AWS::SQS::QueuePolicy"
    required = frozenset(("PolicyDocument", "Queues"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        for url in properties["Queues"]:
            await _set_policy(do, url, _text(properties["PolicyDocument"]))
        id = do.name()
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        for url in old["Queues"]:
            if url not in new["Queues"]:
                await _drop_policy(do, url)
        for url in new["Queues"]:
            await _set_policy(do, url, _text(new["PolicyDocument"]))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        for url in properties["Queues"]:
            await _drop_policy(do, url)


class QueueInlinePolicy(ResourceType):
    """The policy of one queue."""

    type = "AWS::SQS::QueueInlinePolicy"
    required = frozenset(("PolicyDocument", "Queue"))
    replaces = frozenset(("Queue",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        await _set_policy(do, properties["Queue"], _text(properties["PolicyDocument"]))
        return Physical(properties["Queue"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await _set_policy(do, physical.id, _text(new["PolicyDocument"]))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _drop_policy(do, physical.id)


def _attributes(properties: Properties) -> dict[str, str]:
    """Properties have the names of attributes, whose values are texts."""
    return {name: _text(value) for name, value in properties.items() if name not in ("QueueName", "Tags")}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


async def _set_policy(do: Deployment, url: str, policy: str) -> None:
    await do.call("sqs", "SetQueueAttributes", {"QueueUrl": url, "Attributes": {"Policy": policy}})


async def _drop_policy(do: Deployment, url: str) -> None:
    await _unless_gone(do, "SetQueueAttributes", {"QueueUrl": url, "Attributes": {"Policy": ""}})


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call("sqs", operation, input)
    except AwsError as error:
        if error.code != "QueueDoesNotExist":
            raise


TYPES = [Queue, QueuePolicy, QueueInlinePolicy]
