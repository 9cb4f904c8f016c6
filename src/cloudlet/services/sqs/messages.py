"""A message as clients send and see it: what is checked, how it is hashed, what is shown."""

from __future__ import annotations

import re
from hashlib import md5, sha256
from typing import Any, NamedTuple

from cloudlet.errors import AwsError
from cloudlet.services.sqs.attributes import unknown
from cloudlet.services.sqs.fifo import sequence_number
from cloudlet.services.sqs.records import Extra, Queue, Stored, receipt, unpack

LARGEST_BATCH = 1_048_576  # bytes of all messages together
_CONTROL = bytes(set(range(32)) - {9, 10, 13})
_NONCHARACTERS = (b"\xef\xbf\xbe", b"\xef\xbf\xbf")
_NAME = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_TOKEN = re.compile(r"[!-~]{1,128}")
_ATTRIBUTES_AT_MOST = 10
_SYSTEM = frozenset(
    (
        "All",
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
        "SequenceNumber",
        "MessageDeduplicationId",
        "MessageGroupId",
        "AWSTraceHeader",
        "DeadLetterQueueSourceArn",
    )
)


class Draft(NamedTuple):
    """A message that may be sent."""

    body: str
    size: int  # bytes, attributes included
    md5: str
    attributes_md5: str
    trace_md5: str
    delay: int
    extra: Extra | None
    group: str  # empty: none
    deduplication_id: str

    def within(self, trace: str) -> Draft:
        """The message as part of a trace, if it does not say of itself of which."""
        extra = self.extra or Extra()
        extra.trace = extra.trace or trace
        return self._replace(extra=extra)


def invalid(value: object, parameter: str, reason: str) -> AwsError:
    """A parameter whose value cannot be."""
    return AwsError("InvalidParameterValue", f"Value {value} for parameter {parameter} is invalid. Reason: {reason}")


def missing(parameter: str) -> AwsError:
    """A parameter that must be given."""
    return AwsError("MissingParameter", f"The request must contain the parameter {parameter}.")


def _raw(body: str) -> bytes:
    """A body's bytes. Raises AWS's error for one that is empty, or holds what is no text."""
    if not body:
        raise missing("MessageBody")
    try:
        raw = body.encode()
    except UnicodeEncodeError:
        raise _not_text() from None
    if len(raw.translate(None, _CONTROL)) != len(raw) or (
        len(raw) != len(body) and any(bad in raw for bad in _NONCHARACTERS)
    ):
        raise _not_text()
    return raw


def _deduplication_id(queue: Queue, raw: bytes, given: str | None) -> str:
    """What tells a message of a FIFO queue from others: the id that is given, else its content's hash."""
    if given is None:
        if not queue.content_deduplication:
            raise AwsError(
                "InvalidParameterValue",
                "The queue should either have ContentBasedDeduplication enabled or "
                "MessageDeduplicationId provided explicitly",
            )
        return sha256(raw).hexdigest()
    if _TOKEN.fullmatch(given) is None:
        raise _bad_token(given, "MessageDeduplicationId")
    return given


def read(queue: Queue, input: dict[str, Any]) -> Draft:
    """Check a message that is to be sent. Raises AWS's error for what is wrong with it."""
    body: str = input["MessageBody"]
    raw = _raw(body)
    size, attributes_md5, trace_md5, extra = len(raw), "", "", None
    if attributes := input.get("MessageAttributes"):
        size += _check_attributes(attributes)
        attributes_md5, extra = md5_of(attributes), Extra(attributes)
    if system := input.get("MessageSystemAttributes"):
        extra = extra or Extra()
        extra.trace, trace_md5 = _trace(system), md5_of(system)
    if size > queue.maximum_size:
        raise AwsError(
            "InvalidParameterValue",
            f"One or more parameters are invalid. Reason: Message must be shorter than {queue.maximum_size} bytes.",
        )
    delay, group, key = input.get("DelaySeconds"), input.get("MessageGroupId"), input.get("MessageDeduplicationId")
    if delay is not None and not 0 <= delay <= 900:
        raise invalid(delay, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900.")
    if group is not None and _TOKEN.fullmatch(group) is None:
        raise _bad_token(group, "MessageGroupId")
    if queue.fifo:
        if group is None:
            raise missing("MessageGroupId")
        if delay:
            raise _not_for_this_type(delay, "DelaySeconds")
        key, delay = _deduplication_id(queue, raw, key), None
        extra = extra or Extra()
        extra.deduplication_id = key
    elif key is not None:
        raise _not_for_this_type(key, "MessageDeduplicationId")
    elif group is not None:
        extra = extra or Extra()
        extra.group = group
    return Draft(
        body,
        size,
        md5(raw, usedforsecurity=False).hexdigest(),
        attributes_md5,
        trace_md5,
        queue.delay if delay is None else delay,
        extra,
        group or "",
        key or "",
    )


def _check_attributes(attributes: dict[str, dict[str, Any]]) -> int:
    """The bytes that message attributes take."""
    if len(attributes) > _ATTRIBUTES_AT_MOST:
        raise _bad(
            f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [{_ATTRIBUTES_AT_MOST}]."
        )
    size = 0
    for name, attribute in attributes.items():
        if _NAME.fullmatch(name) is None or name.lower().startswith(("aws.", "amazon.")):
            raise _bad(
                f"The message attribute name '{name}' is invalid. Attribute name can contain A-Z, a-z, 0-9, "
                "underscore (_), hyphen (-), and period (.) characters."
            )
        if attribute.get("StringListValues") or attribute.get("BinaryListValues"):
            raise AwsError(
                "UnsupportedOperation", "Message attribute list values in SendMessage operation are not supported."
            )
        size += len(name.encode()) + len(attribute["DataType"].encode()) + len(_value(name, attribute))
    return size


def _value(name: str, attribute: dict[str, Any]) -> bytes:
    """The bytes of one attribute's value, checked against its type."""
    data_type: str = attribute["DataType"]
    if not data_type:
        raise _bad(f"The message attribute '{name}' must contain non-empty message attribute type.")
    prefix = data_type.partition(".")[0]
    if prefix not in ("String", "Number", "Binary") or len(data_type) > 256:
        raise _bad(
            f"The message attribute '{name}' has an invalid message attribute type, "
            "the set of supported type prefixes is Binary, Number, and String."
        )
    if prefix == "Binary":
        value: bytes = attribute.get("BinaryValue") or b""
    else:
        text: str = attribute.get("StringValue") or ""
        if prefix == "Number" and text and _NUMBER.fullmatch(text) is None:
            raise _bad(f"Can't cast the value of message (user) attribute '{name}' to a number.")
        try:
            value = text.encode()
        except UnicodeEncodeError:
            raise _not_text() from None
    if not value:
        raise _bad(f"Message (user) attribute '{name}' must contain a non-empty value of type '{data_type}'.")
    return value


def _trace(system: dict[str, dict[str, Any]]) -> str:
    for name in system:
        if name != "AWSTraceHeader":
            raise _bad(f"Message (system) attribute name '{name}' is invalid.")
    trace = system["AWSTraceHeader"]
    if trace["DataType"] != "String" or not trace.get("StringValue"):
        raise _bad("Message (system) attribute 'AWSTraceHeader' must contain a non-empty value of type 'String'.")
    return str(trace["StringValue"])


def md5_of(attributes: dict[str, dict[str, Any]]) -> str:
    """The hash of message attributes that clients check: each name, type and value with its length, sorted by name."""
    hashed = md5(usedforsecurity=False)
    for name in sorted(attributes):
        attribute = attributes[name]
        for text in (name, attribute["DataType"]):
            raw = text.encode()
            hashed.update(len(raw).to_bytes(4, "big") + raw)
        binary = attribute["DataType"].startswith("Binary")
        value = attribute["BinaryValue"] if binary else attribute["StringValue"].encode()
        hashed.update((b"\x02" if binary else b"\x01") + len(value).to_bytes(4, "big") + value)
    return hashed.hexdigest()


class View:
    """What a receiver wants to see of each message besides its body."""

    __slots__ = ("_all_attributes", "_all_system", "_attributes", "_prefixes", "_queue", "_system")

    def __init__(self, queue: Queue, input: dict[str, Any]) -> None:
        self._queue = queue
        self._system = {*input.get("AttributeNames", ()), *input.get("MessageSystemAttributeNames", ())}
        self._all_system = "All" in self._system
        if unheard_of := self._system - _SYSTEM:
            raise unknown(min(unheard_of))
        self._attributes = input.get("MessageAttributeNames", ())
        self._all_attributes = not {"All", "*"}.isdisjoint(self._attributes)
        self._prefixes = tuple(name[:-2] for name in self._attributes if name.endswith(".*"))

    def show(self, row: Stored, now: float) -> dict[str, Any]:
        """A message, received now, as ReceiveMessage returns it."""
        message: dict[str, Any] = {
            "MessageId": row.message_id,
            "ReceiptHandle": receipt(self._queue, row.id, row.receives + 1),
            "MD5OfBody": row.md5,
            "Body": row.body,
        }
        if not (self._system or self._attributes):
            return message
        extra = unpack(row.extra) if row.extra else None
        if self._system:
            message["Attributes"] = self._of_system(row, extra or Extra(), now)
        if self._attributes and extra is not None and extra.attributes:
            wanted = {name: value for name, value in extra.attributes.items() if self._wants(name)}
            if wanted:
                message["MessageAttributes"] = wanted
                message["MD5OfMessageAttributes"] = md5_of(wanted)
        return message

    def _wants(self, name: str) -> bool:
        return self._all_attributes or name in self._attributes or name.startswith(self._prefixes)

    def _of_system(self, row: Stored, extra: Extra, now: float) -> dict[str, str]:
        values = {
            "SenderId": row.sender,
            "SentTimestamp": str(row.id // 1000),
            "ApproximateReceiveCount": str(row.receives + 1),
            "ApproximateFirstReceiveTimestamp": str(int((row.first_received_at or now) * 1000)),
            "SequenceNumber": sequence_number(row.id) if self._queue.fifo else None,
            "MessageGroupId": row.lane or extra.group,
            "MessageDeduplicationId": extra.deduplication_id,
            "AWSTraceHeader": extra.trace,
            "DeadLetterQueueSourceArn": extra.source_arn,
        }
        return {name: value for name, value in values.items() if value and (self._all_system or name in self._system)}


def _bad(message: str) -> AwsError:
    return AwsError("InvalidParameterValue", message)


def _not_text() -> AwsError:
    return AwsError("InvalidMessageContents", "The message contains characters outside the allowed set.")


def _not_for_this_type(value: object, parameter: str) -> AwsError:
    return invalid(value, parameter, "The request include parameter that is not valid for this queue type.")


def _bad_token(value: str, parameter: str) -> AwsError:
    reason = f"{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length."
    return invalid(value, parameter, reason)
