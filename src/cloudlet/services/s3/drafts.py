"""What a request says of a new object: all of it but its bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Input
from cloudlet.services.s3 import acl, encryption, locks
from cloudlet.services.s3.records import Bucket
from cloudlet.services.s3.tags import of_header

# What GetObject answers as it was put.
_KEPT = frozenset(
    (
        "CacheControl",
        "ContentDisposition",
        "ContentEncoding",
        "ContentLanguage",
        "ContentType",
        "Expires",
        "Metadata",
        "WebsiteRedirectLocation",
        "ServerSideEncryption",
        "SSEKMSKeyId",
        "BucketKeyEnabled",
        "SSECustomerAlgorithm",
        "SSECustomerKeyMD5",
    )
)
_STORAGE_CLASSES = frozenset(
    (
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "DEEP_ARCHIVE",
        "GLACIER_IR",
    )
)
_LARGEST_METADATA = 2048
_REDIRECTS = ("/", "http://", "https://")

_encode = msgspec.json.encode


class Draft(msgspec.Struct, frozen=True):
    """All of a new object but its bytes."""

    info: dict[str, Any]
    storage: str
    tags: bytes | None
    lock: bytes | None
    acl: bytes | None


def draft(bucket: Bucket, input: Input, account: str, now: float) -> Draft:
    """What a request says of a new object. Raises AwsError for what S3 would not take."""
    info = {name: input[name] for name in _KEPT & input.keys()}
    info.setdefault("ContentType", "binary/octet-stream")
    if "ContentEncoding" in info:
        _drop_chunking(info)
    if "Metadata" in info:
        size = sum(len(name) + len(value.encode()) for name, value in info["Metadata"].items())
        if size > _LARGEST_METADATA:
            raise AwsError(
                "MetadataTooLarge",
                "Your metadata headers exceed the maximum allowed metadata size",
                Size=size,
                MaxSizeAllowed=_LARGEST_METADATA,
            )
    if "WebsiteRedirectLocation" in info and not info["WebsiteRedirectLocation"].startswith(_REDIRECTS):
        raise AwsError(
            "InvalidRedirectLocation",
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
        )
    encryption.describe(bucket, input, info)
    storage = input.get("StorageClass", "STANDARD")
    if storage not in _STORAGE_CLASSES:
        raise AwsError("InvalidStorageClass", "The storage class you specified is not valid")
    grants = acl.asked(input, account)
    acl.check_allowed(bucket, input, grants)
    tags = of_header(input["Tagging"]) if input.get("Tagging") else None
    return Draft(
        info,
        storage,
        _encode(tags) if tags else None,
        locks.of_new(bucket, input, now),
        _encode(grants) if grants is not None and not acl.enforced(bucket) else None,
    )


def _drop_chunking(info: dict[str, Any]) -> None:
    """``aws-chunked`` was for the way here only."""
    codings = [coding.strip() for coding in info["ContentEncoding"].split(",")]
    kept = ",".join(coding for coding in codings if coding and coding != "aws-chunked")
    if kept:
        info["ContentEncoding"] = kept
    else:
        del info["ContentEncoding"]
