"""Objects copied within the cloud: large bytes are linked, not copied."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import checksums, conditions, contents, drafts, encryption
from cloudlet.services.s3.contents import Content
from cloudlet.services.s3.drafts import Draft
from cloudlet.services.s3.keys import check_key
from cloudlet.services.s3.reading import ARCHIVED, Reading, check_restored
from cloudlet.services.s3.records import Bucket, Stored
from cloudlet.services.s3.tags import of_header
from cloudlet.services.s3.writing import Writing

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class Copying(Reading, Writing):
    """CopyObject, and the finding of what is copied."""

    async def CopyObject(self, call: Call, input: Input) -> Output:
        """Copy an object within the cloud: large bytes are linked, not copied."""
        bucket = self.find(call, input, "s3:PutObject")
        key = check_key(input["Key"])
        source_bucket, stored = await self.source(call, input)
        assert stored.size is not None
        if stored.size > contents.LARGEST:
            raise AwsError(
                "InvalidRequest",
                "The specified copy source is larger than the maximum allowable size for a copy source: "
                f"{contents.LARGEST}",
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
            encryption.check_customer_key(info, customer)
        if stored.storage in ARCHIVED:
            check_restored(
                info, stored, self.clock.now(), "Operation is not valid for the source object's storage class"
            )
        return bucket, stored

    def _copied(self, call: Call, bucket: Bucket, input: Input, source: Bucket, stored: Stored) -> Draft:
        """What the copy is to be: the source's own description unless the request replaces it."""
        directive = input.get("MetadataDirective", "COPY")
        tagging = input.get("TaggingDirective", "COPY")
        for name, value in (("metadata", directive), ("tagging", tagging)):
            if value not in ("COPY", "REPLACE"):
                raise AwsError("InvalidArgument", f"Unknown {name} directive.", ArgumentValue=value)
        asked = {name: value for name, value in input.items() if name not in ("Tagging", "Metadata")}
        draft = drafts.draft(bucket, input if directive == "REPLACE" else asked, call.account, self.clock.now())
        old = _decode(stored.info)
        info = draft.info
        if directive == "COPY":
            same_place = source.id == bucket.id and stored.key == input["Key"] and "VersionId" not in input
            named = isinstance(input["CopySource"], str) and "?versionId=" in input["CopySource"]
            changes = (
                "StorageClass", "WebsiteRedirectLocation", "ServerSideEncryption", "SSECustomerAlgorithm",
                "ChecksumAlgorithm", "BucketKeyEnabled",
            )  # fmt: skip
            encrypted = "encryption" in bucket.settings
            if same_place and not named and not encrypted and not any(change in input for change in changes):
                raise AwsError(
                    "InvalidRequest",
                    "This copy request is illegal because it is trying to copy an object to itself without changing "
                    "the object's metadata, storage class, website redirect location or encryption attributes.",
                )
            kept = {
                name: value
                for name, value in old.items()
                if name not in (*encryption.MEMBERS, "WebsiteRedirectLocation")
            }
            extra = {name: info[name] for name in (*encryption.MEMBERS, "WebsiteRedirectLocation") if name in info}
            info = {**kept, **extra}
            info.pop("Restore", None)
            info.pop("RestoredUntil", None)
        tags = stored.tags if tagging == "COPY" else None
        if tagging == "REPLACE" and input.get("Tagging"):
            tags = _encode(of_header(input["Tagging"]))
        return Draft(info, draft.storage, tags, draft.lock, draft.acl)
