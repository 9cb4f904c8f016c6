"""A queue's attributes: AWS's names and words for the fields of ``Queue``."""

from __future__ import annotations

import json
import re
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.policies import is_resource_policy
from cloudlet.services.sqs.records import Counts, Queue

# Attribute -> field, least and greatest value.
_NUMBERS = {
    "DelaySeconds": ("delay", 0, 900),
    "MaximumMessageSize": ("maximum_size", 1024, 1_048_576),
    "MessageRetentionPeriod": ("retention", 60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": ("wait", 0, 20),
    "VisibilityTimeout": ("visibility", 0, 43_200),
    "KmsDataKeyReusePeriodSeconds": ("kms_reuse", 60, 86_400),
}
_FLAGS = {
    "FifoQueue": "fifo",
    "ContentBasedDeduplication": "content_deduplication",
    "SqsManagedSseEnabled": "managed_sse",
}
_CHOICES = {
    "DeduplicationScope": ("deduplication_scope", ("queue", "messageGroup")),
    "FifoThroughputLimit": ("throughput_limit", ("perQueue", "perMessageGroupId")),
}
_TEXTS = {
    "Policy": "policy",
    "RedrivePolicy": "redrive",
    "RedriveAllowPolicy": "redrive_allow",
    "KmsMasterKeyId": "kms_key",
}
_FIFO_ONLY = ("FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit")
_READ_ONLY = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
)
COUNTS = frozenset(_READ_ONLY[:3])
_KNOWN = frozenset(("All", *_READ_ONLY, *_NUMBERS, *_FLAGS, *_CHOICES, *_TEXTS))
_ARN = re.compile(r"arn:[^:]+:sqs:([^:]+):(\d{12}):([^:]+)")


def fields_of(attributes: dict[str, str], *, fifo: bool) -> dict[str, Any]:
    """The fields that these attributes set. Raises InvalidAttributeName and InvalidAttributeValue."""
    fields: dict[str, Any] = {}
    for name, value in attributes.items():
        if name in _FIFO_ONLY and not fifo:
            if name in _CHOICES:
                raise AwsError(
                    "InvalidAttributeName", f"You can specify the {name} only when FifoQueue is set to true."
                )
            raise unknown(name)
        if name in _NUMBERS:
            field, least, greatest = _NUMBERS[name]
            if not (value.isascii() and value.isdigit() and least <= int(value) <= greatest):
                raise _invalid(name)
            fields[field] = int(value)
        elif name in _FLAGS:
            if value.lower() not in ("true", "false"):
                raise _invalid(name)
            fields[_FLAGS[name]] = value.lower() == "true"
        elif name in _CHOICES:
            field, choices = _CHOICES[name]
            if value not in choices:
                raise _invalid(name)
            fields[field] = value
        elif name in _TEXTS:
            fields[_TEXTS[name]] = value
        else:
            raise unknown(name)
    if fields.get("fifo") is False:
        raise AwsError(
            "InvalidAttributeValue",
            "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
        )
    _check_policies(fields)
    if fields.get("kms_key"):
        if fields.get("managed_sse"):
            raise AwsError(
                "InvalidAttributeName",
                "You can use one type of server-side encryption (SSE) at one time. "
                "You can either enable KMS SSE or SQS SSE.",
            )
        fields["managed_sse"] = False
    elif fields.get("managed_sse"):
        fields["kms_key"] = ""
    return fields


def _check_policies(fields: dict[str, Any]) -> None:
    if (policy := fields.get("policy")) and not is_resource_policy(policy):
        raise _invalid("Policy")
    if allow := fields.get("redrive_allow"):
        document = _json(allow)
        permission = document.get("redrivePermission") if isinstance(document, dict) else None
        sources = document.get("sourceQueueArns") if isinstance(document, dict) else None
        if permission not in ("allowAll", "denyAll", "byQueue") or (permission == "byQueue") != bool(sources):
            raise AwsError(
                "InvalidAttributeValue",
                "Invalid value for the parameter RedriveAllowPolicy. Reason: Amazon SQS can't create the redrive allow "
                "policy, as it’s in an unsupported format.",
            )
    if "redrive" in fields:
        arn, receives = _redrive(fields["redrive"])
        fields["dead_letter_arn"], fields["max_receives"] = arn, receives
        if arn and '"maxReceiveCount":"' in fields["redrive"].replace(" ", ""):
            # AWS shows the number that it has read.
            policy = {"deadLetterTargetArn": arn, "maxReceiveCount": receives}
            fields["redrive"] = json.dumps(policy, separators=(",", ":"))


def _redrive(text: str) -> tuple[str, int]:
    """The dead-letter queue's ARN and the number of receives that a RedrivePolicy names."""
    if not text:
        return "", 0
    document = _json(text)
    if not isinstance(document, dict):
        raise redrive_refused(text, "Redrive policy is not a valid JSON map.")
    for key in ("deadLetterTargetArn", "maxReceiveCount"):
        if not document.get(key):
            raise redrive_refused(text, f"Redrive policy does not contain mandatory attribute: {key}.")
    arn, receives = str(document["deadLetterTargetArn"]), str(document["maxReceiveCount"])
    if not (receives.isascii() and receives.isdigit() and 1 <= int(receives) <= 1000):
        raise redrive_refused(
            text, f"Invalid value for maxReceiveCount: {receives}, valid values are from 1 to 1000 both inclusive."
        )
    if _ARN.fullmatch(arn) is None:
        raise redrive_refused(text, "Invalid value for deadLetterTargetArn.")
    return arn, int(receives)


def redrive_refused(text: str, reason: str) -> AwsError:
    """A RedrivePolicy that cannot be."""
    return AwsError("InvalidParameterValue", f"Value {text} for parameter RedrivePolicy is invalid. Reason: {reason}")


def check_redrive(source: Queue, target: Queue | None) -> None:
    """Whether a queue may give its messages up to another. Raises InvalidParameterValue."""
    if target is None:
        raise redrive_refused(source.redrive, "Dead letter target does not exist.")
    if target.account != source.account or target.region != source.region:
        raise redrive_refused(source.redrive, "Dead letter target owner should be same as the source.")
    if target.fifo != source.fifo:
        raise redrive_refused(source.redrive, "Dead-letter queue must be same type of queue as the source.")
    if target.redrive_allow:
        allow = json.loads(target.redrive_allow)
        permission = allow["redrivePermission"]
        if permission == "denyAll" or (permission == "byQueue" and source.arn not in allow["sourceQueueArns"]):
            raise redrive_refused(source.redrive, "The dead-letter queue's redrive allow policy does not permit it.")


def place(arn: str) -> tuple[str, str] | None:
    """The scope and the name of the queue that an ARN names, or None."""
    match = _ARN.fullmatch(arn)
    return (f"{match[2]}/{match[1]}", match[3]) if match is not None else None


def differing(queue: Queue, fields: dict[str, Any]) -> str | None:
    """The first attribute whose value in ``fields`` is not the queue's."""
    names = {field: name for name, (field, *_) in (_NUMBERS | _CHOICES).items()}
    names |= {field: name for name, field in (_FLAGS | _TEXTS).items()}
    for field, value in fields.items():
        if field in names and getattr(queue, field) != value:
            if field in ("policy", "redrive", "redrive_allow") and _json(value) == _json(getattr(queue, field)):
                continue
            return names[field]
    return None


def check_names(names: list[str]) -> None:
    """Raises InvalidAttributeName for one that does not exist."""
    for name in names:
        if name not in _KNOWN:
            raise unknown(name)


def shown(queue: Queue, counts: Counts | None, names: list[str]) -> dict[str, str]:
    """Those attributes of ``names`` that the queue has, as AWS shows them."""
    values = {
        "QueueArn": queue.arn,
        "CreatedTimestamp": str(queue.created),
        "LastModifiedTimestamp": str(queue.modified),
        "VisibilityTimeout": str(queue.visibility),
        "MaximumMessageSize": str(queue.maximum_size),
        "MessageRetentionPeriod": str(queue.retention),
        "DelaySeconds": str(queue.delay),
        "ReceiveMessageWaitTimeSeconds": str(queue.wait),
        "SqsManagedSseEnabled": _flag(queue.managed_sse),
    }
    if counts is not None:
        values["ApproximateNumberOfMessages"] = str(counts.visible)
        values["ApproximateNumberOfMessagesNotVisible"] = str(counts.in_flight)
        values["ApproximateNumberOfMessagesDelayed"] = str(counts.delayed)
    if queue.kms_key:
        values["KmsDataKeyReusePeriodSeconds"] = str(queue.kms_reuse)
    if queue.fifo:
        values["FifoQueue"] = "true"
        values["ContentBasedDeduplication"] = _flag(queue.content_deduplication)
        values["DeduplicationScope"] = queue.deduplication_scope
        values["FifoThroughputLimit"] = queue.throughput_limit
    values |= {name: value for name, field in _TEXTS.items() if (value := getattr(queue, field))}
    if "All" in names:
        return values
    return {name: values[name] for name in names if name in values}


def unknown(name: str) -> AwsError:
    """An attribute that does not exist, or not for this kind of queue."""
    return AwsError("InvalidAttributeName", f"Unknown Attribute {name}.")


def _invalid(name: str) -> AwsError:
    return AwsError("InvalidAttributeValue", f"Invalid value for the parameter {name}.")


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
