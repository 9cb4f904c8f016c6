"""A message: what is checked when it is published, and what subscribers see of it."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.sns.errors import invalid
from cloudlet.services.sns.records import Subscription, Topic
from cloudlet.services.sns.signing import Signer

LARGEST = 262_144  # bytes of a message, or of all messages of a batch
_TOKEN = re.compile(r"[!-~]{1,128}")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_NAME = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_LONGEST_SUBJECT = 100

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


class Message(msgspec.Struct, omit_defaults=True, array_like=True):
    """A published message, as it waits to be delivered."""

    id: str
    topic: str
    body: str
    at: float
    subject: str = ""
    attributes: dict[str, dict[str, Any]] = {}
    bodies: dict[str, str] | None = None  # by protocol, where the message's structure is JSON
    group: str = ""
    deduplication_id: str = ""
    sequence: int = 0
    confirms: str = ""  # the token, where this asks for the confirmation of a subscription
    trace: str = ""  # X-Ray's header for whoever gets it

    def body_for(self, protocol: str) -> str:
        """The text that subscribers of a protocol get."""
        return self.body if self.bodies is None else self.bodies.get(protocol, self.body)


pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Message).decode


def read(topic: Topic | None, input: dict[str, Any], message_id: str, now: float) -> Message:
    """Check a message that is to be published; without a topic it is for a phone. Raises AWS's error."""
    body: str = input["Message"]
    if not body:
        raise invalid("Empty message")
    arn = topic.arn if topic is not None else ""
    message = Message(message_id, arn, body, now)
    if (subject := input.get("Subject")) is not None:
        if not subject or len(subject) > _LONGEST_SUBJECT or not subject.isprintable():
            raise invalid("Subject")
        message.subject = subject
    attributes = input.get("MessageAttributes")
    if attributes:
        message.attributes = attributes
    if size(input) > LARGEST:
        raise invalid("Message too long")
    if attributes:
        _check_attributes(attributes)
    if (structure := input.get("MessageStructure")) is not None:
        if structure != "json":
            raise invalid("MessageStructure")
        message.bodies = _bodies(body)
        message.body = message.bodies["default"]
    group, key = input.get("MessageGroupId"), input.get("MessageDeduplicationId")
    if group is not None:
        if _TOKEN.fullmatch(group) is None:
            raise invalid("MessageGroupId")
        message.group = group
    if topic is not None and topic.fifo:
        if group is None:
            raise invalid("The MessageGroupId parameter is required for FIFO topics")
        if key is None:
            if topic.attributes.get("ContentBasedDeduplication") != "true":
                raise invalid(
                    "The topic should either have ContentBasedDeduplication enabled or "
                    "MessageDeduplicationId provided explicitly"
                )
            key = sha256(body.encode()).hexdigest()
        elif _TOKEN.fullmatch(key) is None:
            raise invalid("MessageDeduplicationId")
        message.deduplication_id = key
    elif key is not None:
        raise invalid("The request includes MessageDeduplicationId parameter that is not valid for this topic type")
    return message


def size(input: dict[str, Any]) -> int:
    """The bytes of a message that count: its body and its attributes."""
    body = input["Message"]
    total = len(body) if body.isascii() else len(body.encode())
    for name, value in input.get("MessageAttributes", {}).items():
        total += len(name.encode()) + len(value["DataType"])
        total += len(value.get("StringValue", "").encode()) + len(value.get("BinaryValue", b""))
    return total


def _bodies(body: str) -> dict[str, str]:
    try:
        bodies = _decode_json(body)
    except (msgspec.DecodeError, UnicodeError):
        raise invalid("Message Structure - JSON message body failed to parse") from None
    if not isinstance(bodies, dict):
        raise invalid("Message Structure - JSON message body failed to parse")
    if "default" not in bodies:
        raise invalid("Message Structure - No default entry in JSON message body")
    texts = {protocol: text for protocol, text in bodies.items() if isinstance(text, str)}
    if "default" not in texts:
        raise invalid("Message Structure - No default entry in JSON message body")
    return texts


def _check_attributes(attributes: dict[str, dict[str, Any]]) -> None:
    for name, attribute in attributes.items():
        kind = attribute["DataType"]
        if _NAME.fullmatch(name) is None:
            raise _bad_attribute(
                f"Invalid attribute name '{name}': it can contain A-Z, a-z, 0-9, underscore, hyphen and period."
            )
        if not kind:
            raise _bad_attribute(f"The message attribute '{name}' must contain non-empty message attribute type.")
        base, dot, label = kind.partition(".")
        if base not in ("String", "Number", "Binary") or (dot and not label):
            raise _bad_attribute(
                f"The message attribute '{name}' has an invalid message attribute type, the set of supported type "
                "prefixes is Binary, Number, and String."
            )
        member = "BinaryValue" if base == "Binary" else "StringValue"
        value = attribute.get(member)
        if not value:
            raise _bad_attribute(
                f"The message attribute '{name}' must contain non-empty message attribute value for message "
                f"attribute type '{kind}'."
            )
        if len(attribute) > 2:
            raise _bad_attribute(f"The message attribute '{name}' must contain one of StringValue and BinaryValue.")
        if base == "Number" and _NUMBER.fullmatch(value) is None:
            raise _bad_attribute(f"Could not cast message attribute '{name}' value to number.")


def _bad_attribute(text: str) -> AwsError:
    return AwsError("InvalidParameterValueException", text)


class Envelope:
    """How one message looks to its subscribers; what they share is made once."""

    __slots__ = ("_endpoint", "_heads", "_message", "_signer", "_tail", "_timestamp", "_version")

    def __init__(self, message: Message, endpoint: str, signer: Signer, version: str) -> None:
        self._message = message
        self._timestamp = timestamp(message.at)
        self._endpoint = f"{endpoint}/_cloudlet/sns/api/"
        self._signer = signer
        self._version = version
        self._heads: dict[str, str] = {}
        self._tail: str | None = None

    def text(self, subscription: Subscription) -> str:
        """The JSON that a queue or an HTTP endpoint gets."""
        body = self._message.body_for(subscription.protocol)
        head = self._heads.get(body)
        if head is None:
            head = self._heads[body] = self._head(body)
        if self._tail is None:
            self._tail = self._attributes()
        return f'{head}  "UnsubscribeURL" : "{self._unsubscribe(subscription)}"{self._tail}\n}}'

    def _unsubscribe(self, subscription: Subscription) -> str:
        return f"{self._endpoint}?Action=Unsubscribe&SubscriptionArn={subscription.arn}"

    def _head(self, body: str) -> str:
        message = self._message
        lines = f'{{\n  "Type" : "Notification",\n  "MessageId" : "{message.id}",\n'
        if message.sequence:
            lines += f'  "SequenceNumber" : "{sequence_number(message.sequence)}",\n'
        lines += f'  "TopicArn" : "{message.topic}",\n'
        if message.subject:
            lines += f'  "Subject" : {_json(message.subject)},\n'
        lines += f'  "Message" : {_json(body)},\n  "Timestamp" : "{self._timestamp}",\n'
        if not message.sequence:  # AWS does not sign what a FIFO topic sends
            lines += (
                f'  "SignatureVersion" : "{self._version}",\n  "Signature" : "{self._sign(body)}",\n'
                f'  "SigningCertURL" : "{self._endpoint}{self._signer.name}",\n'
            )
        return lines

    def _sign(self, body: str) -> str:
        """The signature of a notification with this body."""
        message = self._message
        subject = f"Subject\n{message.subject}\n" if message.subject else ""
        text = (
            f"Message\n{body}\nMessageId\n{message.id}\n{subject}Timestamp\n{self._timestamp}\n"
            f"TopicArn\n{message.topic}\nType\nNotification\n"
        )
        return self._signer.sign(text.encode(), self._version)

    def confirmation(self, token: str) -> str:
        """The JSON that asks an HTTP endpoint to confirm its subscription."""
        message = self._message
        url = f"{self._endpoint}?Action=ConfirmSubscription&TopicArn={message.topic}&Token={token}"
        text = (
            f"Message\n{message.body}\nMessageId\n{message.id}\nSubscribeURL\n{url}\nTimestamp\n{self._timestamp}\n"
            f"Token\n{token}\nTopicArn\n{message.topic}\nType\nSubscriptionConfirmation\n"
        )
        return _json(
            {
                "Type": "SubscriptionConfirmation",
                "MessageId": message.id,
                "Token": token,
                "TopicArn": message.topic,
                "Message": message.body,
                "SubscribeURL": url,
                "Timestamp": self._timestamp,
                "SignatureVersion": self._version,
                "Signature": self._signer.sign(text.encode(), self._version),
                "SigningCertURL": self._endpoint + self._signer.name,
            }
        )

    def _attributes(self) -> str:
        shown = _shown(self._message)
        return f',\n  "MessageAttributes" : {_json(shown)}' if shown else ""

    def event(self, subscription: Subscription) -> bytes:
        """The event that a function gets."""
        message = self._message
        body = message.body_for("lambda")
        return _encode_json(
            {
                "Records": [
                    {
                        "EventSource": "aws:sns",
                        "EventVersion": "1.0",
                        "EventSubscriptionArn": subscription.arn,
                        "Sns": {
                            "Type": "Notification",
                            "MessageId": message.id,
                            "TopicArn": message.topic,
                            "Subject": message.subject or None,
                            "Message": body,
                            "Timestamp": self._timestamp,
                            "SignatureVersion": self._version,
                            "Signature": self._sign(body),
                            "SigningCertUrl": self._endpoint + self._signer.name,
                            "UnsubscribeUrl": self._unsubscribe(subscription),
                            "MessageAttributes": _shown(message),
                        },
                    }
                ]
            }
        )


def _shown(message: Message) -> dict[str, dict[str, str]]:
    """Attributes as envelopes have them."""
    return {
        name: {
            "Type": value["DataType"],
            "Value": value["StringValue"] if "StringValue" in value else b64encode(value["BinaryValue"]).decode(),
        }
        for name, value in message.attributes.items()
    }


def _json(value: Any) -> str:
    return _encode_json(value).decode()


def timestamp(at: float) -> str:
    """A time as envelopes have it, in milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def sequence_number(number: int) -> str:
    """A FIFO topic's number as AWS shows it: 20 digits."""
    return str(10_000_000_000_000_000_000 + number)
