"""Objects: put, get, look at, delete, copy."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import acl, checksums, conditions, contents, lifecycle, locks, records
from cloudlet.services.s3.buckets import access_denied
from cloudlet.services.s3.checksums import Expected
from cloudlet.services.s3.conditions import Span
from cloudlet.services.s3.contents import Content, Files
from cloudlet.services.s3.notifications import Notifications
from cloudlet.services.s3.records import NULL, Bucket, Stored
from cloudlet.services.s3.tags import Tags, of_header
from cloudlet.store import Tx

# What GetObject answers as it was put.
_KEPT = (
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
_ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled", "SSECustomerAlgorithm", "SSECustomerKeyMD5")
_OVERRIDES = (
    ("ResponseCacheControl", "CacheControl"),
    ("ResponseContentDisposition", "ContentDisposition"),
    ("ResponseContentEncoding", "ContentEncoding"),
    ("ResponseContentLanguage", "ContentLanguage"),
    ("ResponseContentType", "ContentType"),
    ("ResponseExpires", "Expires"),
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
_ARCHIVED = frozenset(("GLACIER", "DEEP_ARCHIVE"))
_LONGEST_KEY = 1024
_LARGEST_METADATA = 2048
_MOST_DELETED = 1000
_ONE_PIECE = 1024 * 1024

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class Draft(msgspec.Struct, frozen=True):
    """All of a new object but its bytes."""

    info: dict[str, Any]
    storage: str
    tags: bytes | None
    lock: bytes | None
    acl: bytes | None


class Objects(Notifications):
    """The operations on whole objects."""

    _last_seq = 0

    def next_seq(self) -> int:
        """A number for a new version, larger than every one before."""
        self._last_seq = max(self._last_seq + 1, int(self.clock.now() * 1_000_000))
        return self._last_seq

    # Writing.
    async def PutObject(self, call: Call, input: Input) -> Output:
        """Store an object; its current version is replaced or, with versioning, kept beside it."""
        bucket = self.find(call, input, "s3:PutObject")
        key = check_key(input["Key"])
        if "WriteOffsetBytes" in input:
            raise not_implemented("PutObject with WriteOffsetBytes")
        draft = self.draft(call, bucket, input)
        expected = Expected(call, input)
        content = await self.contents.receive(call, input.get("Body", b""), expected)
        new = self.made(bucket, key, draft, content, expected.algorithm)
        stored = await self.store(call, input, bucket, new, "ObjectCreated:Put")
        return self.written(bucket, stored, draft.info)

    def draft(self, call: Call, bucket: Bucket, input: Input) -> Draft:
        """What a request says of a new object. Raises AwsError for what S3 would not take."""
        info = {name: input[name] for name in _KEPT if name in input}
        info.setdefault("ContentType", "binary/octet-stream")
        if "ContentEncoding" in info:
            _drop_chunking(info)
        if "Metadata" in info:
            size = sum(len(name) + len(value) for name, value in info["Metadata"].items())
            if size > _LARGEST_METADATA:
                raise AwsError(
                    "MetadataTooLarge",
                    "Your metadata headers exceed the maximum allowed metadata size",
                    Size=size,
                    MaxSizeAllowed=_LARGEST_METADATA,
                )
        if "SSECustomerAlgorithm" in info or "SSECustomerKey" in input:
            info["SSECustomerKeyMD5"] = customer_key(input)
        elif "ServerSideEncryption" not in info:
            _encrypt_by_default(bucket, info)
        storage = input.get("StorageClass", "STANDARD")
        if storage not in _STORAGE_CLASSES:
            raise AwsError("InvalidStorageClass", "The storage class you specified is not valid")
        grants = acl.asked(input, call.account)
        acl.check_allowed(bucket, input, grants)
        tags = of_header(input["Tagging"]) if input.get("Tagging") else None
        return Draft(
            info,
            storage,
            _encode(tags) if tags else None,
            locks.of_new(bucket, input, self.clock.now()),
            _encode(grants) if grants is not None and not acl.enforced(bucket) else None,
        )

    def made(
        self,
        bucket: Bucket,
        key: str,
        draft: Draft,
        content: Content,
        algorithm: str,
        *,
        etag: str = "",
        checksum: str = "",
        parts: bytes | None = None,
    ) -> Stored:
        """The row of a new object; its version is given to it in the transaction."""
        return Stored(
            bucket.id,
            key,
            self.next_seq(),
            NULL,
            int(self.clock.now()),
            content.size,
            etag or f'"{content.md5.hex()}"',
            checksum or f"{algorithm} FULL_OBJECT {content.checksum}",
            draft.storage,
            _encode(draft.info),
            draft.tags,
            draft.lock,
            draft.acl,
            parts,
            _encode(content.files) if content.files else None,
            content.body,
        )

    async def store(
        self, call: Call, input: Input, bucket: Bucket, new: Stored, event: str, also: Any = None
    ) -> Stored:
        """Make a row its key's current version; ``also`` is done in the same transaction and may free files."""
        name = input["Bucket"]
        if_match, if_none_match = input.get("IfMatch"), input.get("IfNoneMatch")
        if if_none_match not in (None, "*"):
            raise AwsError(
                "NotImplemented",
                "A header you provided implies functionality that is not implemented",
                status=501,
                Header="If-None-Match",
            )

        def write(tx: Tx) -> tuple[Stored, Files, bool]:
            now = self.still(tx, name, bucket)
            stored = new._replace(version=records.new_version()) if now.versioning == "Enabled" else new
            if if_match is not None or if_none_match is not None:
                old = records.current_head(tx, bucket.id, new.key)
                conditions.check_write(if_match, if_none_match, new.key, old.etag if old is not None else None)
            if now.versioning == "Suspended":
                locks.check(self.version_head(tx, bucket.id, new.key, NULL), self.clock.now(), False)
            freed = records.put(tx, now, stored)
            if also is not None:
                freed += also(tx)
            told = "notification" in now.settings and self.announce(tx, call, name, now, event, stored)
            return stored, freed, told

        try:
            stored, freed, told = await self.db.write(write)
        except BaseException:
            if also is None:
                self.contents.discard(new.file_list())
            raise
        if freed:
            self.contents.discard(freed)
        if told:
            self.outbox.wake()
        return stored

    def written(self, bucket: Bucket, stored: Stored, info: dict[str, Any]) -> Output:
        """What is answered about a new object."""
        output: Output = {"ETag": stored.etag}
        if stored.checksum:
            output.update(checksums.members(stored.checksum))
        for name in _ENCRYPTION:
            if name in info:
                output[name] = info[name]
        if bucket.versioning:
            output["VersionId"] = stored.version
        if "lifecycle" in bucket.settings and (expiration := lifecycle.header(bucket, stored)) is not None:
            output["Expiration"] = expiration
        return output

    # Reading.
    async def GetObject(self, call: Call, input: Input) -> Output:
        """An object or a range of it, as a stream when it is large."""
        bucket = self.find(call, input)
        stored = await self.db.read(lambda tx: self.look_up(tx, call, bucket, input, whole=True))
        # Nothing may be awaited from here until the reader holds the files: they are deleted in later turns of the loop.
        output, span = self.describe(call, bucket, input, stored)
        start, length = (0, stored.size or 0) if span is None else (span.start, span.length)
        if stored.body is not None:
            output["Body"] = stored.body if span is None else stored.body[start : start + length]
        elif not length:
            output["Body"] = b""
        else:
            if stored.storage in _ARCHIVED:
                locks.check_restored(output, stored, self.clock.now())
            reader = self.contents.read(stored.file_list(), start, length)
            output["Body"] = reader if length > _ONE_PIECE else b"".join([chunk async for chunk in reader])
            return output
        if stored.storage in _ARCHIVED:
            locks.check_restored(output, stored, self.clock.now())
        return output

    async def HeadObject(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input)
        stored = await self.db.read(lambda tx: self.look_up(tx, call, bucket, input, whole=False))
        return self.describe(call, bucket, input, stored)[0]

    def look_up(self, tx: Tx, call: Call, bucket: Bucket, input: Input, *, whole: bool) -> Stored:
        """The version that a request names; ``whole`` with its bytes. Raises NoSuchKey and its like."""
        key = input["Key"]
        version = input.get("VersionId")
        if version is None:
            stored = (records.current if whole else records.current_head)(tx, bucket.id, encodable(key))
            if stored is None:
                if bucket.versioning and (marker := records.latest(tx, bucket.id, key)) is not None:
                    call.headers["x-amz-delete-marker"] = "true"
                    call.headers["x-amz-version-id"] = marker.version
                raise records.no_such_key(key)
        else:
            stored = self.version_head(tx, bucket.id, key, version, whole=whole)
            if stored is None:
                raise no_such_version(key, version)
            if stored.is_marker:
                call.headers["x-amz-delete-marker"] = "true"
                call.headers["x-amz-version-id"] = version
                call.headers["Allow"] = "DELETE"
                raise AwsError(
                    "MethodNotAllowed",
                    "The specified method is not allowed against this resource.",
                    status=405,
                    Method=call.request.method if call.request is not None else "GET",
                    ResourceType="DeleteMarker",
                )
        if not call.access_key and call.request is not None and self.cloud.config.auth == "enforce":
            self._check_public(bucket, input, stored)
        return stored

    def version_head(self, tx: Tx, bucket: int, key: str, version: str, *, whole: bool = False) -> Stored | None:
        """One version, a delete marker too; None where there is none."""
        return records.versioned(tx, bucket, encodable(key), version, whole=whole)

    def _check_public(self, bucket: Bucket, input: Input, stored: Stored) -> None:
        """A caller without credentials reads what a policy or the object's own list gives to everyone."""
        if self._is_public(bucket, input["Bucket"], "s3:GetObject", input):
            return
        if stored.acl and not acl.policy.blocks(bucket, "IgnorePublicAcls") and acl.public(_decode(stored.acl), "READ"):
            return
        raise access_denied()

    def describe(self, call: Call, bucket: Bucket, input: Input, stored: Stored) -> tuple[Output, Span | None]:
        """What an answer says of an object, and the bytes that it is about. Raises what the conditions demand."""
        assert stored.size is not None
        if "IfMatch" in input or "IfNoneMatch" in input or "IfModifiedSince" in input or "IfUnmodifiedSince" in input:
            conditions.check_read(call, input, stored)
        output: Output = _decode(stored.info)
        if "SSECustomerAlgorithm" in output or "SSECustomerKey" in input:
            check_customer_key(output, input)
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
        elif input.get("ChecksumMode") == "ENABLED":
            output.update(checksums.members(stored.checksum))
        output["ContentLength"] = size
        if bucket.versioning:
            output["VersionId"] = stored.version
        if stored.storage != "STANDARD":
            output["StorageClass"] = stored.storage
        if stored.tags is not None:
            output["TagCount"] = len(_decode(stored.tags, type=Tags))
        if stored.lock is not None:
            output.update(locks.members(stored.lock))
        if "lifecycle" in bucket.settings and (expiration := lifecycle.header(bucket, stored)) is not None:
            output["Expiration"] = expiration
        for override, member in _OVERRIDES:
            if override in input:
                output[member] = input[override]
        return output, span

    # Deleting.
    async def DeleteObject(self, call: Call, input: Input) -> Output:
        """Delete a version for good, or the object; with versioning the latter puts a delete marker over it."""
        found = self.find(call, input, "s3:DeleteObject")

        def delete(tx: Tx) -> tuple[Output, Files, bool]:
            bucket = self.still(tx, input["Bucket"], found)
            return self.delete_in(tx, call, input, bucket, check_key(input["Key"]), input.get("VersionId"))

        output, freed, told = await self.db.write(delete)
        self.contents.discard(freed)
        if told:
            self.outbox.wake()
        return output

    async def DeleteObjects(self, call: Call, input: Input) -> Output:
        """Delete up to 1000 objects; each fails on its own."""
        found = self.find(call, input, "s3:DeleteObject")
        wanted = input["Delete"]["Objects"]
        if not 1 <= len(wanted) <= _MOST_DELETED:
            raise AwsError(
                "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"
            )
        quiet = input["Delete"].get("Quiet", False)

        def delete(tx: Tx) -> tuple[Output, Files, bool]:
            bucket = self.still(tx, input["Bucket"], found)
            deleted: list[dict[str, Any]] = []
            errors: list[dict[str, Any]] = []
            freed: Files = []
            told = False
            for one in wanted:
                key, version = one["Key"], one.get("VersionId")
                named = {"Key": key, "VersionId": version} if version is not None else {"Key": key}
                conditional = {
                    **({"IfMatch": one["ETag"]} if "ETag" in one else {}),
                    **({"IfMatchLastModifiedTime": one["LastModifiedTime"]} if "LastModifiedTime" in one else {}),
                    **({"IfMatchSize": one["Size"]} if "Size" in one else {}),
                }
                try:
                    asked = {**conditional, "Bucket": input["Bucket"]}
                    if "BypassGovernanceRetention" in input:
                        asked["BypassGovernanceRetention"] = input["BypassGovernanceRetention"]
                    output, loose, tells = self.delete_in(tx, call, asked, bucket, check_key(key), version)
                except AwsError as error:
                    errors.append({**named, "Code": error.code, "Message": error.message})
                    continue
                freed += loose
                told = told or tells
                if output.get("DeleteMarker"):
                    named["DeleteMarker"] = True
                    named["DeleteMarkerVersionId"] = output["VersionId"]
                deleted.append(named)
            result: Output = {} if quiet else {"Deleted": deleted}
            return ({**result, "Errors": errors} if errors else result), freed, told

        output, freed, told = await self.db.write(delete, long=len(wanted) > 20)
        self.contents.discard(freed)
        if told:
            self.outbox.wake()
        return output

    def delete_in(
        self, tx: Tx, call: Call, input: Input, bucket: Bucket, key: str, version: str | None
    ) -> tuple[Output, Files, bool]:
        """Delete within a transaction: the answer, the files that became loose, and whether somebody is to be told."""
        if "IfMatch" in input or "IfMatchLastModifiedTime" in input or "IfMatchSize" in input:
            _check_delete(input, records.current_head(tx, bucket.id, key))
        tells = "notification" in bucket.settings
        name = input["Bucket"]
        if version is not None:
            stored = self.version_head(tx, bucket.id, key, version)
            if stored is None:
                return {"VersionId": version} if bucket.versioning else {}, [], False
            locks.check(stored, self.clock.now(), bool(input.get("BypassGovernanceRetention")))
            freed = records.remove(tx, bucket.id, key, version)
            records.promote(tx, bucket.id, key)
            told = tells and self.announce(tx, call, name, bucket, "ObjectRemoved:Delete", stored)
            output: Output = {"VersionId": version}
            if stored.is_marker:
                output["DeleteMarker"] = True
            return output, freed, told
        if not bucket.versioning:
            old = records.current_head(tx, bucket.id, key) if tells else None
            freed = records.delete_current(tx, bucket.id, key)
            told = old is not None and self.announce(tx, call, name, bucket, "ObjectRemoved:Delete", old)
            return {}, freed, told
        marker = self.marker(bucket, key)
        if marker.version == NULL:
            locks.check(self.version_head(tx, bucket.id, key, NULL), self.clock.now(), False)
        freed = records.mark_deleted(tx, bucket, marker)
        told = tells and self.announce(tx, call, name, bucket, "ObjectRemoved:DeleteMarkerCreated", marker)
        return {"DeleteMarker": True, "VersionId": marker.version}, freed, told

    def marker(self, bucket: Bucket, key: str) -> Stored:
        """A new delete marker."""
        version = records.new_version() if bucket.versioning == "Enabled" else NULL
        now = int(self.clock.now())
        return Stored(
            bucket.id, key, self.next_seq(), version, now, None, None, "", "STANDARD", b"{}", *(None,) * 6
        )  # fmt: skip

    # Copying.
    async def CopyObject(self, call: Call, input: Input) -> Output:
        """Copy an object within the cloud: large bytes are linked, not copied."""
        bucket = self.find(call, input, "s3:PutObject")
        key = check_key(input["Key"])
        source_bucket, stored = await self.source(call, input)
        assert stored.size is not None
        if stored.size > contents.LARGEST:
            raise AwsError(
                "InvalidRequest",
                f"The specified copy source is larger than the maximum allowable size for a copy source: {contents.LARGEST}",
            )
        draft = self._copied(call, bucket, input, source_bucket, stored)
        pin = self.contents.read(stored.file_list(), 0, 0) if stored.files else None
        algorithm, _, checksum = stored.checksum.partition(" FULL_OBJECT ")
        wanted = input.get("ChecksumAlgorithm") or algorithm.partition(" ")[0] or checksums.DEFAULT
        if wanted not in checksums.MEMBERS:
            raise AwsError("InvalidRequest", "Value for x-amz-checksum-algorithm header is invalid.")
        etag = stored.etag or ""
        if not checksum or wanted != algorithm or "-" in etag:
            # An upload in parts has neither an MD5 nor, perhaps, a checksum of the whole.
            data = stored.body if stored.body is not None else stored.file_list()
            md5, checksum = await self.contents.digests(data, wanted)
            etag = f'"{md5.hex()}"'
        files = await self.contents.duplicate(stored.file_list()) if stored.files else []
        content = Content(stored.size, b"", checksum, stored.body, files)
        new = self.made(bucket, key, draft, content, wanted, etag=etag)
        written = await self.store(call, input, bucket, new, "ObjectCreated:Copy")
        del pin
        output = self.written(bucket, written, draft.info)
        result = {"ETag": written.etag, "LastModified": written.modified, **checksums.members(written.checksum)}
        for name in ("ETag", "ChecksumType", *checksums.MEMBERS.values()):
            output.pop(name, None)
        output["CopyObjectResult"] = result
        if source_bucket.versioning:
            output["CopySourceVersionId"] = stored.version
        return output

    async def source(self, call: Call, input: Input) -> tuple[Bucket, Stored]:
        """The bucket and the version that ``CopySource`` names, its conditions checked."""
        given = input["CopySource"]
        if isinstance(given, dict):
            name, key, version = given["Bucket"], given["Key"], given.get("VersionId")
        else:
            path, _, query = given.partition("?versionId=")
            name, _, key = unquote(path.removeprefix("/"), errors="surrogateescape").partition("/")
            version = query or None
        if not name or not key:
            raise AwsError(
                "InvalidArgument",
                "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
                ArgumentName="x-amz-copy-source",
                ArgumentValue=str(given),
            )
        wanted: Input = {"Bucket": name, "Key": key}
        if "ExpectedSourceBucketOwner" in input:
            wanted["ExpectedBucketOwner"] = input["ExpectedSourceBucketOwner"]
        if version is not None:
            wanted["VersionId"] = version
        bucket = self.find(call, wanted, "s3:GetObject")
        try:
            stored = await self.db.read(lambda tx: self.look_up(tx, call, bucket, wanted, whole=True))
        except AwsError as error:
            if error.code == "MethodNotAllowed":
                raise AwsError(
                    "InvalidRequest",
                    "The source of a copy request may not specifically refer to a delete marker by version id.",
                ) from None
            raise
        finally:
            for header in ("x-amz-delete-marker", "x-amz-version-id", "Allow"):
                call.headers.pop(header, None)
        conditions.check_copy(input, stored)
        info = _decode(stored.info)
        customer = {
            member.removeprefix("CopySource"): input[member]
            for member in ("CopySourceSSECustomerAlgorithm", "CopySourceSSECustomerKey", "CopySourceSSECustomerKeyMD5")
            if member in input
        }
        if "SSECustomerAlgorithm" in info or customer:
            check_customer_key(info, customer)
        if stored.storage in _ARCHIVED:
            locks.check_restored(info, stored, self.clock.now())
        return bucket, stored

    def _copied(self, call: Call, bucket: Bucket, input: Input, source: Bucket, stored: Stored) -> Draft:
        """What the copy is to be: the source's own description unless the request replaces it."""
        directive = input.get("MetadataDirective", "COPY")
        tagging = input.get("TaggingDirective", "COPY")
        for name, value in (("metadata", directive), ("tagging", tagging)):
            if value not in ("COPY", "REPLACE"):
                raise AwsError("InvalidArgument", f"Unknown {name} directive.", ArgumentValue=value)
        asked = {name: value for name, value in input.items() if name not in ("Tagging", "Metadata")}
        draft = self.draft(call, bucket, {**input} if directive == "REPLACE" else {**asked})
        old = _decode(stored.info)
        info = draft.info
        if directive == "COPY":
            same_place = source.id == bucket.id and stored.key == input["Key"] and "VersionId" not in input
            named = isinstance(input["CopySource"], str) and "?versionId=" in input["CopySource"]
            changes = (
                "StorageClass", "WebsiteRedirectLocation", "ServerSideEncryption", "SSECustomerAlgorithm",
                "ChecksumAlgorithm", "BucketKeyEnabled",
            )  # fmt: skip
            if same_place and not named and not any(change in input for change in changes):
                raise AwsError(
                    "InvalidRequest",
                    "This copy request is illegal because it is trying to copy an object to itself without changing "
                    "the object's metadata, storage class, website redirect location or encryption attributes.",
                )
            kept = {name: value for name, value in old.items() if name not in (*_ENCRYPTION, "WebsiteRedirectLocation")}
            extra = {name: info[name] for name in (*_ENCRYPTION, "WebsiteRedirectLocation") if name in info}
            info = {**kept, **extra}
            info.pop("Restore", None)
        tags = stored.tags if tagging == "COPY" else None
        if tagging == "REPLACE" and input.get("Tagging"):
            tags = _encode(of_header(input["Tagging"]))
        return Draft(info, draft.storage, tags, draft.lock, draft.acl)


def check_key(key: str) -> str:
    """A key that can be stored. Raises KeyTooLongError and InvalidURI."""
    length = len(key) if key.isascii() else len(encodable(key).encode())
    if length > _LONGEST_KEY:
        raise AwsError("KeyTooLongError", "Your key is too long", Size=length, MaxSizeAllowed=_LONGEST_KEY)
    return key


def encodable(key: str) -> str:
    """The key, unless it is not text. Raises InvalidURI."""
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise AwsError("InvalidURI", "Couldn't parse the specified URI.") from None
    return key


def no_such_version(key: str, version: str) -> AwsError:
    """The error for a version that is not there."""
    return AwsError(
        "NoSuchVersion", "The specified version does not exist.", status=404, Key=key, VersionId=version
    )


def customer_key(input: Input) -> str:
    """The MD5 of a client's own encryption key, after a look at the key. Raises InvalidArgument, InvalidRequest."""
    if input.get("SSECustomerAlgorithm") != "AES256":
        raise AwsError("InvalidEncryptionAlgorithmError", "The Encryption request you specified is not valid. Supported value: AES256.")
    try:
        key = base64.b64decode(input.get("SSECustomerKey", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise AwsError("InvalidArgument", "The secret key was invalid for the specified algorithm.")
    md5 = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()
    if input.get("SSECustomerKeyMD5", md5) != md5:
        raise AwsError("InvalidArgument", "The calculated MD5 hash of the key did not match the hash that was provided.")
    return md5


def check_customer_key(info: dict[str, Any], input: Input) -> None:
    """An object under a client's own key is given only to who shows the key."""
    if "SSECustomerKey" not in input:
        raise AwsError(
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to "
            "retrieve the object.",
        )
    md5 = customer_key(input)
    if "SSECustomerKeyMD5" not in info:
        raise AwsError("InvalidRequest", "The encryption parameters are not applicable to this object.")
    if md5 != info["SSECustomerKeyMD5"]:
        raise access_denied()


def _drop_chunking(info: dict[str, Any]) -> None:
    """``aws-chunked`` was for the way here only."""
    codings = [coding.strip() for coding in info["ContentEncoding"].split(",")]
    kept = ",".join(coding for coding in codings if coding and coding != "aws-chunked")
    if kept:
        info["ContentEncoding"] = kept
    else:
        del info["ContentEncoding"]


def _encrypt_by_default(bucket: Bucket, info: dict[str, Any]) -> None:
    configured = bucket.settings.get("encryption")
    if configured is None:
        info["ServerSideEncryption"] = "AES256"
        return
    rule = configured["ServerSideEncryptionConfiguration"]["Rules"][0]
    default = rule.get("ApplyServerSideEncryptionByDefault", {})
    info["ServerSideEncryption"] = default.get("SSEAlgorithm", "AES256")
    if info["ServerSideEncryption"] != "AES256":
        if "KMSMasterKeyID" in default:
            info["SSEKMSKeyId"] = default["KMSMasterKeyID"]
        if rule.get("BucketKeyEnabled"):
            info["BucketKeyEnabled"] = True


def _part_span(stored: Stored, number: int, output: Output) -> Span:
    """The bytes of one part, for clients that download an upload as it was put together."""
    if stored.parts is None:
        sizes = [(1, stored.size or 0)]
    else:
        sizes = [(part[0], part[1]) for part in _decode(stored.parts)]
        output["PartsCount"] = len(sizes)
    start = 0
    for count, (_, size) in enumerate(sizes, 1):
        if count == number:
            return Span(start, size)
        start += size
    raise AwsError("InvalidPartNumber", "The requested partnumber is not satisfiable", status=416)


def _check_delete(input: Input, stored: Stored | None) -> None:
    if stored is None:
        raise AwsError("NoSuchKey", "The specified key does not exist.", status=404)
    if "IfMatch" in input:
        conditions.check_write(input["IfMatch"], None, stored.key, stored.etag)
    if input.get("IfMatchSize", stored.size) != stored.size:
        raise conditions.precondition_failed("x-amz-if-match-size")
    if int(input.get("IfMatchLastModifiedTime", stored.modified)) != stored.modified:
        raise conditions.precondition_failed("x-amz-if-match-last-modified-time")


async def whole(body: bytes | AsyncIterator[bytes]) -> bytes:
    """A body in memory."""
    return body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
