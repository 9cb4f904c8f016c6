"""Uploads in parts: each part is a file, and the finished object is the list of them."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import checksums, drafts, encryption, listing, records, uploads
from cloudlet.services.s3.buckets import malformed_xml, owner
from cloudlet.services.s3.checksums import Expected
from cloudlet.services.s3.contents import Body, Content, Files
from cloudlet.services.s3.copying import Copying
from cloudlet.services.s3.drafts import Draft
from cloudlet.services.s3.keys import check_key
from cloudlet.services.s3.records import Bucket, Stored
from cloudlet.services.s3.uploads import Part, Upload, no_such_upload
from cloudlet.store import Tx

_MOST_PARTS = 10_000
_SMALLEST = 5 * 1024 * 1024  # bytes of every part but the last
_MOST_LISTED = 1000


class Multipart(Copying):
    """The operations of uploads in parts."""

    async def CreateMultipartUpload(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input, "s3:PutObject")
        key = check_key(input["Key"])
        draft = drafts.draft(bucket, input, call.account, self.clock.now())
        algorithm = input.get("ChecksumAlgorithm")
        asked = algorithm is not None
        if not asked and "ChecksumType" in input:
            raise AwsError(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        algorithm = algorithm or checksums.DEFAULT
        kind = input.get("ChecksumType") or (checksums.default_type(algorithm) if asked else "FULL_OBJECT")
        checksums.check_type(algorithm, kind)
        upload = Upload(
            bucket.id,
            key,
            secrets.token_urlsafe(64),
            int(self.clock.now()),
            call.account,
            algorithm,
            kind,
            asked,
            draft.storage,
            msgspec.json.encode(draft.info),
            draft.tags,
            draft.lock,
            draft.acl,
        )

        def write(tx: Tx) -> None:
            self.still(tx, input["Bucket"], bucket)
            uploads.add(tx, upload)

        await self.db.write(write)
        output: Output = {"Bucket": input["Bucket"], "Key": key, "UploadId": upload.id}
        if asked:
            output.update(ChecksumAlgorithm=algorithm, ChecksumType=kind)
        output.update({name: draft.info[name] for name in encryption.MEMBERS if name in draft.info})
        return output

    async def UploadPart(self, call: Call, input: Input) -> Output:
        bucket, upload = await self._upload(call, input)
        number = _check_number(input["PartNumber"])
        info = msgspec.json.decode(upload.info)
        if "SSECustomerAlgorithm" in info or "SSECustomerKey" in input:
            encryption.check_customer_key(info, input)
        expected = Expected(call, input, upload.algorithm)
        self._check_algorithm(upload, expected)
        part = await self._receive(call, input, bucket, upload, number, input.get("Body", b""), expected)
        output: Output = {"ETag": part.etag}
        if upload.asked or expected.given:
            output[checksums.MEMBERS[expected.algorithm]] = part.checksum.partition(" ")[2]
        output.update({name: info[name] for name in encryption.MEMBERS if name in info})
        return output

    async def UploadPartCopy(self, call: Call, input: Input) -> Output:
        """A part out of an object that is there already."""
        bucket, upload = await self._upload(call, input)
        number = _check_number(input["PartNumber"])
        source_bucket, stored = await self.source(call, input)
        start, length = _copied_span(input.get("CopySourceRange"), stored.size or 0)
        body: Body
        if stored.body is not None:
            body = stored.body[start : start + length]
        else:
            body = self.contents.read(stored.file_list(), start, length) if length else b""
        expected = Expected(Call(call.account, call.region), {}, upload.algorithm)
        part = await self._receive(call, input, bucket, upload, number, body, expected)
        result: dict[str, Any] = {"ETag": part.etag, "LastModified": part.modified}
        if upload.asked:
            result[checksums.MEMBERS[upload.algorithm]] = part.checksum.partition(" ")[2]
        output: Output = {"CopyPartResult": result}
        if source_bucket.versioning:
            output["CopySourceVersionId"] = stored.version
        return output

    async def CompleteMultipartUpload(self, call: Call, input: Input) -> Output:
        """Make an object of the parts that the client lists."""
        bucket = self.find(call, input, "s3:PutObject")
        key = check_key(input["Key"])
        wanted = (input.get("MultipartUpload") or {}).get("Parts") or []
        if not wanted:
            raise malformed_xml()
        upload, parts = await self.db.scan(
            lambda tx: (uploads.get(tx, bucket.id, key, input["UploadId"]), uploads.parts(tx, input["UploadId"]))
        )
        if upload is None:
            return await self._completed_before(call, bucket, input)
        chosen = _choose(upload, wanted, {part.number: part for part in parts})
        size = sum(part.size for part in chosen)
        if input.get("MpuObjectSize", size) != size:
            raise AwsError(
                "InvalidRequest",
                f"The provided 'x-amz-mp-object-size' header value {input['MpuObjectSize']} does not match what was "
                f"computed: {size}",
            )
        digest = hashlib.md5(b"".join(bytes.fromhex(part.etag.strip('"')) for part in chosen), usedforsecurity=False)
        checksum = _checksum(upload, input, chosen)
        draft = Draft(msgspec.json.decode(upload.info), upload.storage, upload.tags, upload.lock, upload.acl)
        files: Files = [(part.file, part.size) for part in chosen if part.size]
        description = uploads.Description(upload.id, [(part.number, part.size, part.checksum) for part in chosen])
        new = self.made(
            bucket,
            key,
            draft,
            Content(size, b"", "", None if files else b"", files),
            upload.algorithm,
            etag=f'"{digest.hexdigest()}-{len(chosen)}"',
            checksum=checksum,
            parts=msgspec.json.encode(description),
        )
        kept = {part.file for part in chosen if part.size}

        def finish(tx: Tx) -> Files:
            if uploads.get(tx, bucket.id, key, upload.id) is None:
                raise no_such_upload(upload.id)
            return uploads.close(tx, upload, kept)

        stored = await self.store(call, input, bucket, new, "ObjectCreated:CompleteMultipartUpload", also=finish)
        return self._completed(call, bucket, input, stored)

    async def _completed_before(self, call: Call, bucket: Bucket, input: Input) -> Output:
        """A client that missed the answer asks again: the object that the upload became tells it."""
        current = await self.db.read(lambda tx: records.current_head(tx, bucket.id, input["Key"]))
        if current is None or current.parts is None:
            raise no_such_upload(input["UploadId"])
        if msgspec.json.decode(current.parts, type=uploads.Description).upload != input["UploadId"]:
            raise no_such_upload(input["UploadId"])
        return self._completed(call, bucket, input, current)

    def _completed(self, call: Call, bucket: Bucket, input: Input, stored: Stored) -> Output:
        info = msgspec.json.decode(stored.info)
        output = self.written(bucket, stored, info)
        request = call.request
        host = request.headers.get("host", "") if request is not None else ""
        endpoint = f"{request.scheme}://{host}" if request is not None and host else self.cloud.endpoint
        output.update(Bucket=input["Bucket"], Key=input["Key"])
        output["Location"] = f"{endpoint}/{input['Bucket']}/{listing.url_encoded(input['Key'])}"
        return output

    async def AbortMultipartUpload(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input, "s3:AbortMultipartUpload")

        def abort(tx: Tx) -> Files:
            upload = uploads.get(tx, bucket.id, input["Key"], input["UploadId"])
            if upload is None:
                raise no_such_upload(input["UploadId"])
            return uploads.close(tx, upload, set())

        self.contents.discard(await self.db.write(abort, long=True))
        return {}

    async def ListParts(self, call: Call, input: Input) -> Output:
        bucket, upload = await self._upload(call, input)
        most = min(listing.check_most(input, "MaxParts", "max-parts"), _MOST_LISTED)
        marker = listing.check_number(int(input.get("PartNumberMarker", 0)), "part-number-marker")
        found = await self.db.scan(lambda tx: uploads.parts(tx, upload.id, marker, most + 1))
        shown = found[:most]
        output: Output = {
            "Bucket": input["Bucket"],
            "Key": input["Key"],
            "UploadId": upload.id,
            "PartNumberMarker": marker,
            "NextPartNumberMarker": shown[-1].number if shown else 0,
            "MaxParts": most,
            "IsTruncated": len(found) > most,
            "Initiator": owner(upload.account),
            "Owner": owner(bucket.account),
            "StorageClass": upload.storage,
        }
        if upload.asked:
            output.update(ChecksumAlgorithm=upload.algorithm, ChecksumType=upload.kind)
        if shown:
            output["Parts"] = [_described(part, upload.asked) for part in shown]
        return output

    async def ListMultipartUploads(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input, "s3:ListBucketMultipartUploads")
        most = listing.check_most(input, "MaxUploads", "max-uploads")
        prefix, delimiter = input.get("Prefix", ""), input.get("Delimiter", "")
        text = listing.url_encoded if input.get("EncodingType") == "url" else str
        marker, id_marker = input.get("KeyMarker", ""), input.get("UploadIdMarker", "")
        found = await self.db.scan(lambda tx: uploads.open_ones(tx, bucket.id, prefix, marker, id_marker))
        shown: list[Upload | str] = []
        more = False
        for upload in found:
            end = upload.key.find(delimiter, len(prefix)) if delimiter else -1
            entry = upload if end < 0 else upload.key[: end + len(delimiter)]
            if entry in shown[-1:]:
                continue
            if len(shown) == most:
                more = True
                break
            shown.append(entry)
        output: Output = {
            "Bucket": input["Bucket"],
            "KeyMarker": text(marker),
            "UploadIdMarker": id_marker,
            "Prefix": text(prefix),
            "MaxUploads": most,
            "IsTruncated": more,
        }
        if delimiter:
            output["Delimiter"] = text(delimiter)
        if "EncodingType" in input:
            output["EncodingType"] = input["EncodingType"]
        listed = [
            {
                "UploadId": upload.id,
                "Key": text(upload.key),
                "Initiated": upload.started,
                "StorageClass": upload.storage,
                "Owner": owner(bucket.account),
                "Initiator": owner(upload.account),
                **({"ChecksumAlgorithm": upload.algorithm, "ChecksumType": upload.kind} if upload.asked else {}),
            }
            for upload in shown
            if not isinstance(upload, str)
        ]
        if listed:
            output["Uploads"] = listed
        if prefixes := [{"Prefix": text(entry)} for entry in shown if isinstance(entry, str)]:
            output["CommonPrefixes"] = prefixes
        if more and shown:
            last = shown[-1]
            output["NextKeyMarker"] = text(last if isinstance(last, str) else last.key)
            output["NextUploadIdMarker"] = "" if isinstance(last, str) else last.id
        return output

    async def _upload(self, call: Call, input: Input) -> tuple[Bucket, Upload]:
        bucket = self.find(call, input, "s3:PutObject")
        upload = await self.db.read(lambda tx: uploads.get(tx, bucket.id, input["Key"], input["UploadId"]))
        if upload is None:
            raise no_such_upload(input["UploadId"])
        return bucket, upload

    def _check_algorithm(self, upload: Upload, expected: Expected) -> None:
        if upload.asked and expected.given and expected.algorithm != upload.algorithm:
            raise AwsError(
                "InvalidRequest",
                f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm.lower()}, actual checksum "
                f"Type: {expected.algorithm.lower()}",
            )

    async def _receive(
        self, call: Call, input: Input, bucket: Bucket, upload: Upload, number: int, body: Body, expected: Expected
    ) -> Part:
        """Take in a part; one of the same number gives way to it."""
        content = await self.contents.receive(call, body, expected, inline=0)
        part = Part(
            upload.id,
            number,
            int(self.clock.now()),
            content.size,
            f'"{content.md5.hex()}"',
            f"{expected.algorithm} {content.checksum}",
            content.files[0][0],
        )

        def write(tx: Tx) -> Files:
            if uploads.get(tx, bucket.id, upload.key, upload.id) is None:
                raise no_such_upload(upload.id)
            return uploads.put_part(tx, part)

        try:
            freed = await self.db.write(write)
        except BaseException:
            self.contents.discard(content.files)
            raise
        self.contents.discard(freed)
        return part


def _check_number(number: int) -> int:
    if not 1 <= number <= _MOST_PARTS:
        raise AwsError(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {_MOST_PARTS}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=number,
        )
    return number


def _copied_span(text: str | None, size: int) -> tuple[int, int]:
    """Start and length of the bytes that ``x-amz-copy-source-range`` names."""
    if text is None:
        return 0, size
    first, dash, last = text.removeprefix("bytes=").partition("-")
    if not text.startswith("bytes=") or not dash or not first.isdigit() or not last.isdigit() or int(first) > int(last):
        raise AwsError(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=text,
        )
    if int(first) >= size:
        raise AwsError("InvalidRequest", "The specified copy range is invalid for the source object size")
    if int(last) >= size:
        raise AwsError(
            "InvalidArgument",
            f"Range specified is not valid for source object of size: {size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=text,
        )
    return int(first), int(last) - int(first) + 1


def _choose(upload: Upload, wanted: list[dict[str, Any]], parts: dict[int, Part]) -> list[Part]:
    """The parts that a client lists. Raises InvalidPart, InvalidPartOrder and EntityTooSmall."""
    numbers = [one.get("PartNumber", 0) for one in wanted]
    if any(after <= before for before, after in itertools.pairwise(numbers)):
        raise AwsError(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
            UploadId=upload.id,
        )
    chosen = []
    for one in wanted:
        number = one.get("PartNumber", 0)
        part = parts.get(number)
        given = next((one[member] for member in checksums.MEMBERS.values() if member in one), None)
        if upload.kind == "COMPOSITE" and given is None:
            raise AwsError(
                "InvalidRequest",
                f"The upload was created using a {upload.algorithm.lower()} checksum. The complete request must "
                f"include the checksum for each part. It was missing for part {number} in the request.",
            )
        if (
            part is None
            or one.get("ETag", "").strip('"') != part.etag.strip('"')
            or (given is not None and given != part.checksum.partition(" ")[2])
        ):
            raise AwsError(
                "InvalidPart",
                "One or more of the specified parts could not be found.  The part may not have been uploaded, or the "
                "specified entity tag may not match the part's entity tag.",
                UploadId=upload.id,
                PartNumber=number,
                ETag=one.get("ETag", "").strip('"'),
            )
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < _SMALLEST:
            raise AwsError(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                ProposedSize=part.size,
                MinSizeAllowed=_SMALLEST,
                PartNumber=part.number,
                ETag=part.etag.strip('"'),
            )
    return chosen


def _checksum(upload: Upload, input: Input, chosen: list[Part]) -> str:
    """The finished object's checksum, packed; empty where the parts have different ones. Raises BadDigest."""
    asked = input.get("ChecksumType")
    if asked is not None and asked != upload.kind:
        raise AwsError(
            "InvalidRequest",
            f"The upload was created using the {upload.kind} checksum mode. The complete request must use the same "
            "checksum mode.",
        )
    algorithms = {part.checksum.partition(" ")[0] for part in chosen}
    algorithm = algorithms.pop()
    if algorithms or (algorithm != upload.algorithm and not checksums.is_linear(algorithm)):
        return ""
    value = checksums.join(algorithm, upload.kind, [(part.checksum.partition(" ")[2], part.size) for part in chosen])
    given = input.get(checksums.MEMBERS[algorithm])
    if given is not None and given.partition("-")[0] != value.partition("-")[0]:
        raise AwsError("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
    return checksums.pack(algorithm, upload.kind, value)


def _described(part: Part, with_checksum: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "PartNumber": part.number,
        "LastModified": part.modified,
        "ETag": part.etag,
        "Size": part.size,
    }
    if with_checksum:
        algorithm, _, value = part.checksum.partition(" ")
        entry[checksums.MEMBERS[algorithm]] = value
    return entry
