"""What S3 tells of its objects: the records for queues, topics and functions, and the events for EventBridge."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple
from urllib.parse import quote_plus

import msgspec

from cloudlet.services.api import Call
from cloudlet.services.s3.records import NULL, Bucket, Stored

_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
_CREATED = {
    "Put": "PutObject",
    "Post": "POST Object",
    "Copy": "CopyObject",
    "CompleteMultipartUpload": "CompleteMultipartUpload",
}
# Event -> EventBridge's detail-type.
_DETAIL_TYPES = {
    "ObjectRestore:Post": "Object Restore Initiated",
    "ObjectRestore:Completed": "Object Restore Completed",
    "ObjectTagging:Put": "Object Tags Added",
    "ObjectTagging:Delete": "Object Tags Deleted",
    "ObjectAcl:Put": "Object ACL Updated",
}
KNOWN = frozenset(
    (
        *(f"ObjectCreated:{what}" for what in (*_CREATED, "*")),
        *(f"ObjectRemoved:{what}" for what in ("Delete", "DeleteMarkerCreated", "*")),
        *(f"ObjectRestore:{what}" for what in ("Post", "Completed", "Delete", "*")),
        *(f"LifecycleExpiration:{what}" for what in ("Delete", "DeleteMarkerCreated", "*")),
        *(f"ObjectTagging:{what}" for what in ("Put", "Delete", "*")),
        *(f"Replication:{what}" for what in ("OperationFailedReplication", "OperationMissedThreshold", "*")),
        *("Replication:OperationReplicatedAfterThreshold", "Replication:OperationNotTracked"),
        *("ReducedRedundancyLostObject", "ObjectAcl:Put", "LifecycleTransition", "IntelligentTiering"),
    )
)


class Happening(NamedTuple):
    """Something that happened to an object. ``event`` is its name without ``s3:``."""

    call: Call
    name: str
    bucket: Bucket
    event: str
    stored: Stored
    now: float


def iso(moment: float) -> str:
    """A time as S3's events have it."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def record(happening: Happening, configuration: str) -> bytes:
    """The document for a queue, a topic or a function."""
    call, name, bucket, event, stored, now = happening
    subject: dict[str, Any] = {"key": quote_plus(stored.key, safe="/")}
    if not event.startswith("ObjectRemoved:Delete") or stored.is_marker:
        if stored.size is not None and "Delete" not in event:
            subject["size"] = stored.size
        subject["eTag"] = stored.etag.strip('"') if stored.etag is not None else _NOTHING
    if bucket.versioning and stored.version != NULL:
        subject["versionId"] = stored.version
    subject["sequencer"] = _sequencer(stored)
    document = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": bucket.region,
        "eventTime": iso(now),
        "eventName": event,
        "userIdentity": {"principalId": _who(call)},
        "requestParameters": {"sourceIPAddress": _address(call)},
        "responseElements": {"x-amz-request-id": call.request_id, "x-amz-id-2": call.request_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration,
            "bucket": {
                "name": name,
                "ownerIdentity": {"principalId": bucket.account},
                "arn": f"arn:aws:s3:::{name}",
            },
            "object": subject,
        },
    }
    return msgspec.json.encode({"Records": [document]})


def bridge_entry(happening: Happening) -> bytes:
    """The entry of PutEvents for EventBridge."""
    call, name, bucket, event, stored, now = happening
    kind, _, what = event.partition(":")
    subject: dict[str, Any] = {"key": stored.key}
    if kind != "ObjectRemoved" and kind != "LifecycleExpiration" and stored.size is not None:
        subject["size"] = stored.size
    if stored.etag is not None or stored.is_marker:
        subject["etag"] = stored.etag.strip('"') if stored.etag is not None else _NOTHING
    if bucket.versioning and stored.version != NULL:
        subject["version-id"] = stored.version
    subject["sequencer"] = _sequencer(stored)
    detail: dict[str, Any] = {
        "version": "0",
        "bucket": {"name": name},
        "object": subject,
        "request-id": call.request_id,
        "requester": call.account if call.request is not None else "s3.amazonaws.com",
    }
    if call.request is not None:
        detail["source-ip-address"] = _address(call)
    if kind == "ObjectCreated":
        detail_type = "Object Created"
        detail["reason"] = _CREATED[what]
    elif kind in ("ObjectRemoved", "LifecycleExpiration"):
        detail_type = "Object Deleted"
        detail["reason"] = "DeleteObject" if kind == "ObjectRemoved" else "Lifecycle Expiration"
        detail["deletion-type"] = "Delete Marker Created" if what == "DeleteMarkerCreated" else "Permanently Deleted"
    else:
        detail_type = _DETAIL_TYPES[event]
    return msgspec.json.encode(
        {
            "Time": now,
            "Source": "aws.s3",
            "Resources": [f"arn:aws:s3:::{name}"],
            "DetailType": detail_type,
            "Detail": msgspec.json.encode(detail).decode(),
        }
    )


def test_event(call: Call, name: str, now: float) -> str:
    """What a new destination is sent to see whether it can be reached."""
    document = {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": iso(now),
        "Bucket": name,
        "RequestId": call.request_id,
        "HostId": call.request_id,
    }
    return msgspec.json.encode(document).decode()


def _sequencer(stored: Stored) -> str:
    return f"{stored.seq:018X}"


def _who(call: Call) -> str:
    if call.request is None:
        return "s3.amazonaws.com" if call.principal == "s3.amazonaws.com" else f"AWS:{call.account}"
    return f"AWS:{call.access_key}" if call.access_key else "Anonymous"


def _address(call: Call) -> str:
    return call.request.client if call.request is not None else "s3.amazonaws.com"
