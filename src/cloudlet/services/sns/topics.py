"""The operations on topics: their life, attributes, tags and permissions."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.policies import is_resource_policy
from cloudlet.services.sns import policies
from cloudlet.services.sns.base import Base, page, place
from cloudlet.services.sns.errors import invalid, no_topic
from cloudlet.services.sns.records import Topic
from cloudlet.store import Tx

_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")
_TAGS_AT_MOST = 50
_BOOLEANS = frozenset(("ContentBasedDeduplication",))
_FIFO_ONLY = frozenset(("ContentBasedDeduplication", "FifoThroughputScope"))
_PLAIN = frozenset(("DisplayName", "KmsMasterKeyId"))
_CHOICES = {
    "FifoThroughputScope": ("Topic", "MessageGroup"),
    "SignatureVersion": ("1", "2"),
    "TracingConfig": ("PassThrough", "Active"),
}
# Delivery status logs: a sample rate does nothing until a role is set, and that is refused by name.
_SAMPLE_RATE = re.compile(r"(HTTP|Firehose|Lambda|Application|SQS)SuccessFeedbackSampleRate")
_FEEDBACK_ROLE = re.compile(r"(HTTP|Firehose|Lambda|Application|SQS)(Success|Failure)FeedbackRoleArn")


class Topics(Base):
    """Operations on topics."""

    async def CreateTopic(self, call: Call, input: Input) -> Output:
        name, given = input["Name"], dict(input.get("Attributes", {}))
        is_fifo = given.pop("FifoTopic", "false").lower() == "true"
        _check_name(name, is_fifo)
        if input.get("DataProtectionPolicy"):
            raise not_implemented("CreateTopic with DataProtectionPolicy")
        attributes = {
            key: value.lower() if key in _BOOLEANS else value
            for key, value in given.items()
            if value or key == "DisplayName"
        }
        topic = Topic(call.account, call.region, name, secrets.token_hex(8), attributes, _tags(input.get("Tags", [])))
        for key, value in attributes.items():
            _check_attribute(topic, key, value)
        _check_count(topic.tags)

        def create(tx: Tx) -> None:
            existing = self._topics.get(call.scope, name, tx)
            if existing is None:
                self._topics.put(tx, call.scope, name, topic)
                return
            shown = _shown(existing.value)
            if any(shown.get(key, "") != value for key, value in attributes.items() if key not in _JSON) or any(
                _loads(shown.get(key)) != _loads(attributes[key]) for key in _JSON if key in attributes
            ):
                raise invalid("Attributes Reason: Topic already exists with different attributes")
            if topic.tags.items() - existing.value.tags.items():
                raise invalid("Tags Reason: Topic already exists with different tags")

        await self._db.write(create)
        return {"TopicArn": topic.arn}

    async def DeleteTopic(self, call: Call, input: Input) -> Output:
        arn = input["TopicArn"]
        try:
            topic = self._topic(arn)
        except AwsError as error:
            if error.code == "NotFoundException":
                return {}
            raise
        fanout = self._fanouts.get(arn)
        gone = [target.subscription for target in fanout.by_id.values()] if fanout is not None else []

        def delete(tx: Tx) -> None:
            self._topics.delete(tx, topic.scope, topic.name)
            for subscription in gone:
                self._subscriptions.delete(tx, *place(subscription))

        await self._db.write(delete, long=len(gone) > 100)
        self._fanouts.pop(arn, None)
        return {}

    async def ListTopics(self, call: Call, input: Input) -> Output:
        found = [record.value for record in self._topics.list(call.scope)]
        start, end, token = page([topic.name for topic in found], input.get("NextToken"))
        output: Output = {"Topics": [{"TopicArn": topic.arn} for topic in found[start:end]]}
        return output | ({"NextToken": token} if token else {})

    async def GetTopicAttributes(self, call: Call, input: Input) -> Output:
        topic = self._topic(input["TopicArn"])
        fanout = self._fanouts.get(topic.arn)
        known = len(fanout.by_id) if fanout is not None else 0
        confirmed = len(fanout.live) if fanout is not None else 0
        return {
            "Attributes": {
                "TopicArn": topic.arn,
                "Owner": topic.account,
                "DisplayName": "",
                "Policy": _dumps(policies.access(topic)),
                "EffectiveDeliveryPolicy": _dumps(policies.effective(topic)),
                "SubscriptionsConfirmed": str(confirmed),
                "SubscriptionsPending": str(known - confirmed),
                "SubscriptionsDeleted": str(topic.deleted),
                **_shown(topic),
            }
        }

    async def SetTopicAttributes(self, call: Call, input: Input) -> Output:
        topic, key, value = self._topic(input["TopicArn"]), input["AttributeName"], input.get("AttributeValue", "")
        if key in _BOOLEANS:
            value = value.lower()
        if value:
            _check_attribute(topic, key, value)
        elif not (key in _SETTABLE or _SAMPLE_RATE.fullmatch(key) or _FEEDBACK_ROLE.fullmatch(key)):
            raise _unknown()

        def change(current: Topic) -> dict[str, Any]:
            attributes = {name: text for name, text in current.attributes.items() if name != key}
            if value:
                attributes[key] = value
            return {"attributes": attributes}

        await self._change_topic(topic, change)
        return {}

    async def GetDataProtectionPolicy(self, call: Call, input: Input) -> Output:
        self._topic(input["ResourceArn"], "ResourceArn")
        return {}

    async def AddPermission(self, call: Call, input: Input) -> Output:
        topic, label, actions = self._topic(input["TopicArn"]), input["Label"], input["ActionName"]
        if not policies.ACTIONS.issuperset(actions):
            raise invalid("Policy statement action out of service scope!")
        statement = {
            "Sid": label,
            "Effect": "Allow",
            "Principal": {"AWS": _one_or_all([f"arn:aws:iam::{account}:root" for account in input["AWSAccountId"]])},
            "Action": _one_or_all([f"SNS:{action}" for action in actions]),
            "Resource": topic.arn,
        }

        def add(current: Topic) -> dict[str, Any]:
            policy = policies.access(current)
            if any(known.get("Sid") == label for known in policy["Statement"]):
                raise invalid("Statement already exists")
            policy["Statement"].append(statement)
            return {"attributes": {**current.attributes, "Policy": _dumps(policy)}}

        await self._change_topic(topic, add)
        return {}

    async def RemovePermission(self, call: Call, input: Input) -> Output:
        label = input["Label"]

        def remove(current: Topic) -> dict[str, Any]:
            policy = policies.access(current)
            left = [statement for statement in policy["Statement"] if statement.get("Sid") != label]
            return {"attributes": {**current.attributes, "Policy": _dumps({**policy, "Statement": left})}}

        await self._change_topic(self._topic(input["TopicArn"]), remove)
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        tags = self._tagged(input["ResourceArn"]).tags
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    async def TagResource(self, call: Call, input: Input) -> Output:
        added = _tags(input["Tags"])

        def tag(current: Topic) -> dict[str, Any]:
            tags = {**current.tags, **added}
            _check_count(tags)
            return {"tags": tags}

        await self._change_topic(self._tagged(input["ResourceArn"]), tag)
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        await self._change_topic(
            self._tagged(input["ResourceArn"]),
            lambda current: {"tags": {key: value for key, value in current.tags.items() if key not in gone}},
        )
        return {}

    def _tagged(self, arn: str) -> Topic:
        try:
            return self._topic(arn, "ResourceArn")
        except AwsError as error:
            if error.code == no_topic().code:
                raise AwsError("ResourceNotFoundException", "Resource does not exist") from None
            raise


_JSON = ("Policy", "DeliveryPolicy")
_SETTABLE = frozenset((*_PLAIN, *_BOOLEANS, *_CHOICES, *_JSON, "ArchivePolicy"))


def _check_name(name: str, is_fifo: bool) -> None:
    base = name.removesuffix(".fifo")
    if is_fifo:
        if base == name or len(name) > 256 or _NAME.fullmatch(base) is None:
            raise invalid("Topic Name")
    elif _NAME.fullmatch(name) is None:
        raise invalid("Topic Name")


def _check_attribute(topic: Topic, key: str, value: str) -> None:
    """Check one attribute that is to be set. Raises AWS's error."""
    if _FEEDBACK_ROLE.fullmatch(key) or key == "ArchivePolicy":
        raise not_implemented(f"SetTopicAttributes with {key}")
    if _SAMPLE_RATE.fullmatch(key):
        if not (value.isdigit() and int(value) <= 100):
            raise invalid(f"{key}: Invalid value [{value}]. Must be between 0 and 100.")
        return
    if key not in _SETTABLE:
        raise _unknown()
    if key in _FIFO_ONLY and not topic.fifo:
        raise _unknown()
    if key in _BOOLEANS and value not in ("true", "false"):
        raise invalid(f"{key}: Invalid value [{value}]. Must be true or false.")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise invalid(f"{key}: Invalid value [{value}]. Must be one of {', '.join(_CHOICES[key])}.")
    if key == "DeliveryPolicy":
        policies.check(value, of_topic=True)
    elif key == "Policy":
        if not is_resource_policy(value):
            raise invalid("Policy Error: null")
    elif key == "DisplayName" and len(value) > 100:
        raise invalid("DisplayName")


def _unknown() -> AwsError:
    return invalid("AttributeName")


def _shown(topic: Topic) -> dict[str, str]:
    """The attributes that a topic has set, and those that a FIFO topic has anyway."""
    if not topic.fifo:
        return topic.attributes
    return {
        "FifoTopic": "true",
        "ContentBasedDeduplication": "false",
        "FifoThroughputScope": "Topic",
        **topic.attributes,
    }


def _tags(tags: list[dict[str, str]]) -> dict[str, str]:
    found = {tag["Key"]: tag["Value"] for tag in tags}
    if len(found) != len(tags):
        raise invalid("Duplicated keys are not allowed.")
    return found


def _check_count(tags: dict[str, str]) -> None:
    if len(tags) > _TAGS_AT_MOST:
        raise AwsError("TagLimitExceededException", "Could not complete request: tag quota of per resource exceeded")


def _one_or_all(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _loads(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None
