"""Objects read: get, look at, describe."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import checksums, conditions, encryption, lifecycle_rules, locks, records
from cloudlet.services.s3.buckets import JUDGED_LATER, Buckets, access_denied
from cloudlet.services.s3.conditions import Span
from cloudlet.services.s3.keys import check_version, method_not_allowed, no_such_key, no_such_version
from cloudlet.services.s3.records import Bucket, Stored
from cloudlet.services.s3.tags import Tags
from cloudlet.services.s3.uploads import Description
from cloudlet.store import Tx

_OVERRIDES = (
    ("ResponseCacheControl", "CacheControl"),
    ("ResponseContentDisposition", "ContentDisposition"),
    ("ResponseContentEncoding", "ContentEncoding"),
    ("ResponseContentLanguage", "ContentLanguage"),
    ("ResponseContentType", "ContentType"),
    ("ResponseExpires", "Expires"),
)
_ONE_PIECE = 1024 * 1024
_ATTRIBUTES = frozenset(("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"))
_MOST_PARTS = 1000
# Storage classes whose objects are read only after a restore.
ARCHIVED = frozenset(("GLACIER", "DEEP_ARCHIVE"))

_decode = msgspec.json.decode


class Reading(Buckets):
    """The operations that read objects."""

    async def GetObject(self, call: Call, input: Input) -> Output:
        """An object or a range of it, as a stream when it is large."""
        bucket = self.find(call, input, JUDGED_LATER)
        stored = await self.db.read(lambda tx: self.look_up(tx, call, bucket, input, whole=True))
        # Nothing may be awaited until the reader holds the files: they are deleted in later turns of the loop.
        output, span = self.describe(call, bucket, input, stored)
        start, length = (0, stored.size or 0) if span is None else (span.start, span.length)
        if stored.body is not None:
            output["Body"] = stored.body if span is None else stored.body[start : start + length]
        elif not length:
            output["Body"] = b""
        else:
            if stored.storage in ARCHIVED:
                check_restored(output, stored, self.clock.now())
            reader = self.contents.read(stored.file_list(), start, length)
            output["Body"] = reader if length > _ONE_PIECE else b"".join([chunk async for chunk in reader])
            return output
        if stored.storage in ARCHIVED:
            check_restored(output, stored, self.clock.now())
        return output

    async def HeadObject(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input, JUDGED_LATER)
        stored = await self.db.read(lambda tx: self.look_up(tx, call, bucket, input, whole=False))
        return self.describe(call, bucket, input, stored)[0]

    def look_up(self, tx: Tx, call: Call, bucket: Bucket, input: Input, *, whole: bool) -> Stored:
        """The version that a request names; ``whole`` with its bytes. Raises NoSuchKey and its like."""
        key = input["Key"]
        version = input.get("VersionId")
        if version is None:
            stored = (records.current if whole else records.current_head)(tx, bucket.id, key)
            if stored is None:
                if bucket.versioning and (marker := records.latest(tx, bucket.id, key)) is not None:
                    call.headers["x-amz-delete-marker"] = "true"
                    call.headers["x-amz-version-id"] = marker.version
                raise no_such_key(key)
        else:
            check_version(version)
            stored = records.versioned(tx, bucket.id, key, version, whole=whole)
            if stored is None:
                raise no_such_version(key, version)
            if stored.is_marker:
                call.headers["x-amz-delete-marker"] = "true"
                call.headers["x-amz-version-id"] = version
                call.headers["Allow"] = "DELETE"
                raise method_not_allowed(call.request.method if call.request is not None else "GET", "DeleteMarker")
        if not call.access_key and call.request is not None and self.cloud.config.auth == "enforce":
            self._check_public(call, bucket, input, stored)
        return stored

    def _check_public(self, call: Call, bucket: Bucket, input: Input, stored: Stored) -> None:
        """A caller without credentials reads what a policy or the object's own list gives to everyone."""
        grants = _decode(stored.acl) if stored.acl else []
        if not self._is_public(call, bucket, input["Bucket"], "s3:GetObject", input, grants):
            raise access_denied()

    def describe(self, call: Call, bucket: Bucket, input: Input, stored: Stored) -> tuple[Output, Span | None]:
        """What an answer says of an object, and the bytes that it is about. Raises what the conditions demand."""
        assert stored.size is not None
        if "IfMatch" in input or "IfNoneMatch" in input or "IfModifiedSince" in input or "IfUnmodifiedSince" in input:
            conditions.check_read(call, input, stored)
        output: Output = _decode(stored.info)
        if "Restore" in output and output["RestoredUntil"] <= self.clock.now():
            del output["Restore"]
        if "SSECustomerAlgorithm" in output or "SSECustomerKey" in input:
            encryption.check_customer_key(output, input)
        output["AcceptRanges"] = "bytes"
        output["LastModified"] = stored.modified
        output["ETag"] = stored.etag
        size = stored.size
        span = conditions.span(input.get("Range"), size) if "Range" in input else None
        if "PartNumber" in input:
            if "Range" in input:
                raise AwsError("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
            span = _part_span(stored, input["PartNumber"], output)
        if span is not None:
            output["ContentRange"] = span.header(size)
            size = span.length
        if input.get("ChecksumMode") == "ENABLED":
            output.update(_checksum(stored, input.get("PartNumber"), size))
        output["ContentLength"] = size
        if bucket.versioning:
            output["VersionId"] = stored.version
        if stored.storage != "STANDARD":
            output["StorageClass"] = stored.storage
        if stored.tags is not None:
            output["TagCount"] = len(_decode(stored.tags, type=Tags))
        if stored.lock is not None:
            output.update(locks.members(stored.lock))
        if "lifecycle" in bucket.settings and (expiration := lifecycle_rules.header(bucket, stored)) is not None:
            output["Expiration"] = expiration
        for override, member in _OVERRIDES:
            if override in input:
                output[member] = input[override]
        if isinstance(output.get("Expires"), float | int):
            output["Expires"] = formatdate(output["Expires"], usegmt=True)
        return output, span

    async def GetObjectAttributes(self, call: Call, input: Input) -> Output:
        """What is known of an object, as far as it is asked for."""
        bucket = self.find(call, input, JUDGED_LATER)
        stored = await self.db.read(lambda tx: self.look_up(tx, call, bucket, input, whole=False))
        info = _decode(stored.info)
        if "SSECustomerAlgorithm" in info or "SSECustomerKey" in input:
            encryption.check_customer_key(info, input)
        asked = set(input["ObjectAttributes"])
        if unknown := asked - _ATTRIBUTES:
            raise AwsError("InvalidArgument", "Invalid attribute name specified.", ArgumentValue=unknown.pop())
        output: Output = {"LastModified": stored.modified}
        if bucket.versioning:
            output["VersionId"] = stored.version
        if "ETag" in asked and stored.etag is not None:
            output["ETag"] = stored.etag.strip('"')
        if "Checksum" in asked and stored.checksum:
            # Here S3 does not say how many parts a checksum of checksums is of.
            output["Checksum"] = {n: value.partition("-")[0] for n, value in checksums.members(stored.checksum).items()}
        if "ObjectSize" in asked:
            output["ObjectSize"] = stored.size
        if "StorageClass" in asked:
            output["StorageClass"] = stored.storage
        if "ObjectParts" in asked and stored.parts is not None:
            output["ObjectParts"] = _parts(stored.parts, input)
        return output


def _part_span(stored: Stored, number: int, output: Output) -> Span:
    """The bytes of one part, for clients that download an upload as it was put together."""
    parts = [(1, stored.size or 0, "")]
    if stored.parts is not None:
        parts = _decode(stored.parts, type=Description).parts
        output["PartsCount"] = len(parts)
    start = 0
    for count, (_, size, _) in enumerate(parts, 1):
        if count == number:
            return Span(start, size)
        start += size
    raise AwsError(
        "InvalidPartNumber",
        "The requested partnumber is not satisfiable",
        status=416,
        ActualPartCount=str(len(parts)),
        PartNumberRequested=str(number),
    )


def _checksum(stored: Stored, number: int | None, size: int) -> dict[str, str]:
    """What an answer of so many bytes says of checksums: a part's own where they are kept, else only the whole's."""
    whole = checksums.members(stored.checksum)
    if number is not None and stored.parts is not None and whole.get("ChecksumType") == "COMPOSITE":
        part = _decode(stored.parts, type=Description).parts[number - 1]
        return {**_part_checksum(part[2]), "ChecksumType": "COMPOSITE"}
    return whole if size == stored.size else {}


def check_restored(info: dict[str, Any], stored: Stored, now: float, refusal: str = "") -> None:
    """Refuse to read an archived object that no restore has made readable. Raises InvalidObjectState."""
    if info.pop("RestoredUntil", 0) <= now:
        raise AwsError(
            "InvalidObjectState",
            refusal or "The operation is not valid for the object's storage class",
            status=403,
            StorageClass=stored.storage,
        )


def _parts(encoded: bytes, input: Input) -> Output:
    parts = _decode(encoded, type=Description).parts
    marker, most = int(input.get("PartNumberMarker", 0)), min(input.get("MaxParts", _MOST_PARTS), _MOST_PARTS)
    left = [part for part in parts if part[0] > marker]
    shown = left[:most]
    output: Output = {
        "TotalPartsCount": len(parts),
        "PartNumberMarker": str(marker),
        "NextPartNumberMarker": str(shown[-1][0] if shown else 0),
        "MaxParts": most,
        "IsTruncated": len(left) > most,
    }
    if shown:
        output["Parts"] = [
            {"PartNumber": number, "Size": size, **_part_checksum(checksum)} for number, size, checksum in shown
        ]
    return output


def _part_checksum(checksum: str) -> dict[str, str]:
    algorithm, _, value = checksum.partition(" ")
    return {checksums.MEMBERS[algorithm]: value}
