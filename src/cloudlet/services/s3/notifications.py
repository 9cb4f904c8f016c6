"""Notifications: a bucket's events, delivered to queues, topics, functions and EventBridge through the outbox."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from cloudlet.control.outbox import Delivery, Undeliverable
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import events
from cloudlet.services.s3.buckets import Buckets, malformed_xml
from cloudlet.services.s3.events import Happening
from cloudlet.services.s3.records import Bucket, Stored
from cloudlet.store import Tx

_SERVICE = "s3.amazonaws.com"
_BRIDGE = "eventbridge"
# Kind of configuration -> the member with the destination's ARN, and the service in that ARN.
_KINDS = {
    "QueueConfigurations": ("QueueArn", "sqs"),
    "TopicConfigurations": ("TopicArn", "sns"),
    "LambdaFunctionConfigurations": ("LambdaFunctionArn", "lambda"),
}
# No further try helps with these: the destination is gone or does not take the event.
_FINAL = frozenset(
    (
        "AccessDeniedException",
        "AuthorizationError",
        "InvalidParameter",
        "InvalidParameterValue",
        "NotFound",
        "NotFoundException",
        "NotImplemented",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    )
)
_FIRST_PAUSE, _LONGEST_PAUSE, _TRIES = 0.5, 600.0, 150


class Notifications(Buckets):
    """The operations on a bucket's notifications, the announcing and the delivery."""

    async def GetBucketNotificationConfiguration(self, call: Call, input: Input) -> Output:
        return dict(self.find(call, input).settings.get("notification", {}))

    async def PutBucketNotificationConfiguration(self, call: Call, input: Input) -> Output:
        """Replace all notifications of a bucket; each new destination is sent a test event."""
        bucket = self.find(call, input)
        asked = input["NotificationConfiguration"]
        _check(asked)
        if not input.get("SkipDestinationValidation"):
            known = _destinations(bucket.settings.get("notification", {}))
            for service, arn in dict.fromkeys(_destinations(asked)):
                if arn.split(":")[3:4] not in ([], [bucket.region]):
                    raise AwsError(
                        "InvalidArgument",
                        "The notification destination service region is not valid for the bucket location constraint",
                        ArgumentName=arn,
                    )
                await self._validate(call, input["Bucket"], arn, service, is_new=(service, arn) not in known)
        await self.set(call, input, "notification", asked or None)
        return {}

    def announce(self, tx: Tx, call: Call, name: str, bucket: Bucket, event: str, stored: Stored) -> bool:
        """Write an event's deliveries in its own transaction; True when there are any, so that the outbox is woken."""
        asked: dict[str, Any] = bucket.settings["notification"]
        happening = Happening(call, name, bucket, event, stored, self.clock.now())
        told = False
        for kind, (member, _) in _KINDS.items():
            for configuration in asked.get(kind, ()):
                if _wants(configuration, event, stored.key):
                    document = events.record(happening, configuration["Id"])
                    self.outbox.add(tx, configuration[member], document)
                    told = True
        if "EventBridgeConfiguration" in asked:
            self.outbox.add(tx, f"{_BRIDGE}:{bucket.account}:{bucket.region}", events.bridge_entry(happening))
            told = True
        return told

    async def deliver(self, delivery: Delivery) -> None:
        """Make one delivery. Raises AwsError when it is to be tried again, Undeliverable when that is of no use."""
        try:
            if delivery.target.startswith(f"{_BRIDGE}:"):
                _, account, region = delivery.target.split(":")
                entry = msgspec.json.decode(delivery.payload)
                await self.cloud.call(
                    "events", "PutEvents", {"Entries": [entry]}, account=account, region=region, principal=_SERVICE
                )
            else:
                await self._send(delivery.target, delivery.payload.decode())
        except AwsError as error:
            if error.code in _FINAL:
                raise Undeliverable(str(error)) from error
            raise

    def pause_after(self, failed: int, delivery: Delivery) -> float | None:
        """Seconds to the next try; None after about a day of them."""
        return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**failed) if failed <= _TRIES else None

    async def _send(self, arn: str, document: str) -> None:
        service, region, account = arn.split(":")[2:5]
        input: Input
        if service == "sqs":
            operation, input = "SendMessage", {"QueueUrl": arn, "MessageBody": document}
        elif service == "sns":
            operation = "Publish"
            input = {"TopicArn": arn, "Message": document, "Subject": "Amazon S3 Notification"}
        else:
            operation = "Invoke"
            input = {"FunctionName": arn, "InvocationType": "Event", "Payload": document.encode()}
        await self.cloud.call(service, operation, input, account=account, region=region, principal=_SERVICE)

    async def _validate(self, call: Call, name: str, arn: str, service: str, is_new: bool) -> None:
        """Look whether a destination is there; queues and topics are sent a test event."""
        if arn.split(":")[2:3] != [service] or arn.count(":") < 5:
            raise AwsError("InvalidArgument", "The ARN is not well formed", ArgumentName=arn, ArgumentValue=arn)
        if service == "sqs" and arn.endswith(".fifo"):
            raise _unreachable(arn, "FIFO SQS queues are not supported")
        try:
            if service == "lambda":
                _, _, _, region, account = arn.split(":")[:5]
                await self.cloud.call(
                    "lambda",
                    "GetFunctionConfiguration",
                    {"FunctionName": arn},
                    account=account,
                    region=region,
                    principal=_SERVICE,
                )
            elif is_new:
                await self._send(arn, events.test_event(call, name, self.clock.now()))
        except AwsError as error:
            what = {"sqs": "queue", "sns": "topic", "lambda": "Lambda"}[service]
            raise _unreachable(arn, f"The destination {what} does not exist ({error.code}: {error.message})") from error


def _unreachable(arn: str, reason: str) -> AwsError:
    return AwsError(
        "InvalidArgument",
        "Unable to validate the following destination configurations",
        ArgumentName1=arn,
        ArgumentValue1=reason,
    )


def _destinations(asked: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (service, configuration[member])
        for kind, (member, service) in _KINDS.items()
        for configuration in asked.get(kind, ())
    ]


def _check(asked: dict[str, Any]) -> None:
    """Judge a configuration, give ids to what has none, and write filters as S3 does."""
    taken: list[tuple[str, str, str]] = []
    for kind, (member, _) in _KINDS.items():
        for configuration in asked.get(kind, ()):
            configuration.setdefault("Id", secrets.token_urlsafe(36))
            if not configuration.get("Events") or member not in configuration:
                raise malformed_xml()
            for event in configuration["Events"]:
                name = event.removeprefix("s3:")
                if name == event or name not in events.KNOWN:
                    raise AwsError(
                        "InvalidArgument",
                        "The event is not supported for notifications",
                        ArgumentName="Event",
                        ArgumentValue=event,
                    )
                if name.startswith(("Replication:", "LifecycleTransition", "IntelligentTiering", "ReducedRedundancy")):
                    raise not_implemented(f"PutBucketNotificationConfiguration with the event {event}")
            rules = configuration.get("Filter", {}).get("Key", {}).get("FilterRules", [])
            for rule in rules:
                rule["Name"] = str(rule.get("Name", "")).capitalize()
                if rule["Name"] not in ("Prefix", "Suffix"):
                    raise AwsError("InvalidArgument", "filter rule name must be either prefix or suffix")
            named = [rule["Name"] for rule in rules]
            for one in set(named):
                if named.count(one) > 1:
                    raise AwsError(
                        "InvalidArgument",
                        f"Cannot specify more than one {one.lower()} rule in a filter.",
                        ArgumentName=f"filterRule.{one.lower()}",
                    )
            prefix, suffix = _filter(configuration)
            for event in configuration["Events"]:
                if any(_overlap(event, prefix, suffix, other) for other in taken):
                    raise AwsError(
                        "InvalidArgument",
                        "Configurations overlap. Configurations on the same bucket cannot share a common event type.",
                    )
            taken += [(event, prefix, suffix) for event in configuration["Events"]]


def _filter(configuration: dict[str, Any]) -> tuple[str, str]:
    """The prefix and the suffix that a configuration wants of a key."""
    rules = configuration.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    found = {rule["Name"]: rule.get("Value", "") for rule in rules}
    return found.get("Prefix", ""), found.get("Suffix", "")


def _overlap(event: str, prefix: str, suffix: str, other: tuple[str, str, str]) -> bool:
    """Whether an event of a key could be wanted by two configurations."""
    other_event, other_prefix, other_suffix = other
    return (
        (_covers(event, other_event.removeprefix("s3:")) or _covers(other_event, event.removeprefix("s3:")))
        and (prefix.startswith(other_prefix) or other_prefix.startswith(prefix))
        and (suffix.endswith(other_suffix) or other_suffix.endswith(suffix))
    )


def _covers(wanted: str, event: str) -> bool:
    """Whether a configured event (``s3:ObjectCreated:*``) takes in another."""
    name = wanted.removeprefix("s3:")
    return name == event or (name.endswith("*") and event.startswith(name[:-1]))


def _wants(configuration: dict[str, Any], event: str, key: str) -> bool:
    if not any(_covers(wanted, event) for wanted in configuration["Events"]):
        return False
    prefix, suffix = _filter(configuration)
    return key.startswith(prefix) and key.endswith(suffix)
