"""What is in a bucket: objects and versions by key, with prefixes folded at a delimiter."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import records
from cloudlet.services.s3.buckets import Buckets, owner
from cloudlet.services.s3.records import Bucket, Stored
from cloudlet.store import Tx

_MOST = 1000
_LARGEST = 2**31 - 1
_FEW = 2
_LAST = "\U0010ffff"

Rows = Callable[[str, int, int], list[Stored]]


class Page(NamedTuple):
    """A stretch of a listing: entries are rows or, as texts, common prefixes."""

    entries: list[Stored | str]
    more: bool

    @property
    def rows(self) -> list[Stored]:
        """The entries that are rows."""
        return [entry for entry in self.entries if not isinstance(entry, str)]

    @property
    def prefixes(self) -> list[str]:
        """The entries that are common prefixes."""
        return [entry for entry in self.entries if isinstance(entry, str)]


def successor(text: str) -> str:
    """The first text after all those that start with ``text``; empty when there is none."""
    text = text.rstrip(_LAST)
    if not text:
        return ""
    code = ord(text[-1]) + 1
    return text[:-1] + chr(0xE000 if 0xD800 <= code < 0xE000 else code)


def folded(marker: str, prefix: str, delimiter: str) -> str:
    """The common prefix that a marker lies in, empty when in none: the marker is past all of it."""
    if not delimiter or not marker.startswith(prefix):
        return ""
    end = marker.find(delimiter, len(prefix))
    return marker[: end + len(delimiter)] if end >= 0 else ""


def page(rows: Rows, prefix: str, delimiter: str, after: str, after_seq: int, most: int) -> Page:
    """Read up to ``most`` entries; a common prefix counts as one, and what it holds is jumped over.

    ``rows(start, seq, limit)`` gives rows from key ``start`` on, of that key only those older than ``seq``.
    """
    if after and after_seq == 0 and after == folded(after, prefix, delimiter):
        after, after_seq = successor(after), records.NEWEST
        if not after:
            return Page([], False)
    entries: list[Stored | str] = []
    start, seq = (after, after_seq) if after >= prefix else (prefix, records.NEWEST)
    # After a folded prefix the next key is likely to be in another: few rows are read until there are single ones.
    ahead = _FEW if delimiter else most + 1
    while True:
        limit = min(most + 1 - len(entries), ahead)
        found = rows(start, seq, limit)
        for stored in found:
            end = stored.key.find(delimiter, len(prefix)) if delimiter else -1
            if len(entries) == most:
                return Page(entries, True)
            if end >= 0:
                common = stored.key[: end + len(delimiter)]
                entries.append(common)
                start, seq = successor(common), records.NEWEST
                if not start:
                    return Page(entries, False)
                ahead = _FEW
                break
            entries.append(stored)
            start, seq = stored.key, stored.seq
        else:
            if len(found) < limit:
                return Page(entries, False)
            ahead *= 4


class Listing(Buckets):
    """The operations that list objects and versions."""

    async def ListObjects(self, call: Call, input: Input) -> Output:
        """Version 1: the marker is a key."""
        bucket = self.find(call, input, "s3:ListBucket")
        marker = input.get("Marker", "")
        after = folded(marker, input.get("Prefix", ""), input.get("Delimiter", "")) or marker
        most, found = await self._objects(bucket, input, after)
        text = _encoder(input)
        output = _head(input, most, found.more, text)
        output["Marker"] = text(marker)
        output["Contents"] = [_described(stored, bucket, text, with_owner=True) for stored in found.rows]
        if found.more and found.entries and input.get("Delimiter"):
            output["NextMarker"] = text(_last(found))
        return _folded(output, found, text)

    async def ListObjectsV2(self, call: Call, input: Input) -> Output:
        """Version 2: the continuation token is opaque."""
        bucket = self.find(call, input, "s3:ListBucket")
        token = input.get("ContinuationToken")
        if token is None:
            after = input.get("StartAfter", "")
        else:
            after = _read_token(token)
        most, found = await self._objects(bucket, input, after)
        text = _encoder(input)
        output = _head(input, most, found.more, text)
        output["KeyCount"] = len(found.entries)
        with_owner = bool(input.get("FetchOwner"))
        output["Contents"] = [_described(stored, bucket, text, with_owner) for stored in found.rows]
        if token is not None:
            output["ContinuationToken"] = token
        elif "StartAfter" in input:
            output["StartAfter"] = text(input["StartAfter"])
        if found.more and found.entries:
            output["NextContinuationToken"] = base64.urlsafe_b64encode(_last(found).encode()).decode()
        return _folded(output, found, text)

    async def ListObjectVersions(self, call: Call, input: Input) -> Output:
        """All versions and delete markers, of each key the newest first."""
        bucket = self.find(call, input, "s3:ListBucketVersions")
        most = check_most(input, "MaxKeys", "max-keys")
        marker, version = input.get("KeyMarker", ""), input.get("VersionIdMarker", "")
        if version and not marker:
            raise AwsError(
                "InvalidArgument",
                "A version-id marker cannot be specified without a key marker.",
                ArgumentName="version-id-marker",
                ArgumentValue=version,
            )
        prefix, delimiter = input.get("Prefix", ""), input.get("Delimiter", "")
        end = successor(prefix) or records.END
        after = marker if version else folded(marker, prefix, delimiter) or marker

        def read(tx: Tx) -> Page:
            seq = 0
            if version:
                at = records.versioned(tx, bucket.id, marker, version)
                seq = at.seq if at is not None else 0
            return page(
                lambda start, older, limit: records.versions(tx, bucket.id, start, older, end, limit),
                prefix,
                delimiter,
                after,
                seq,
                most,
            )

        found = Page([], False) if most == 0 else await self.db.scan(read)
        text = _encoder(input)
        output = _head(input, most, found.more, text)
        output.update(KeyMarker=text(marker), VersionIdMarker=version)
        output.update(_versions(found, bucket, text, marker if version else None))
        if found.more and found.entries:
            last = found.entries[-1]
            output["NextKeyMarker"] = text(_last(found))
            if not isinstance(last, str):
                output["NextVersionIdMarker"] = last.version
        return _folded(output, found, text)

    async def _objects(self, bucket: Bucket, input: Input, after: str) -> tuple[int, Page]:
        most = check_most(input, "MaxKeys", "max-keys")
        prefix, delimiter = input.get("Prefix", ""), input.get("Delimiter", "")
        if most == 0:
            return 0, Page([], False)
        end = successor(prefix) or records.END
        return most, await self.db.scan(
            lambda tx: page(
                lambda start, seq, limit: records.objects(tx, bucket.id, start, seq, end, limit),
                prefix,
                delimiter,
                after,
                0,
                most,
            )
        )


def check_most(input: Input, member: str, name: str) -> int:
    """How many entries a listing may have. Raises InvalidArgument."""
    return min(check_number(input.get(member, _MOST), name), _MOST)


def check_number(number: int, name: str) -> int:
    """A number of a listing's query. Raises InvalidArgument."""
    if 0 <= number <= _LARGEST:
        return number
    words = f"Argument {name} must be an integer between 0 and {_LARGEST}"
    if number > _LARGEST:
        words = f"Provided {name} not an integer or within integer range"
    raise AwsError("InvalidArgument", words, ArgumentName=name, ArgumentValue=number)


def _head(input: Input, most: int, more: bool, text: Callable[[str], str]) -> Output:
    output: Output = {
        "Name": input["Bucket"],
        "Prefix": text(input.get("Prefix", "")),
        "MaxKeys": most,
        "IsTruncated": more,
    }
    if input.get("Delimiter"):
        output["Delimiter"] = text(input["Delimiter"])
    if "EncodingType" in input:
        output["EncodingType"] = input["EncodingType"]
    return output


def _folded(output: Output, found: Page, text: Callable[[str], str]) -> Output:
    if not output.get("Contents", True):
        del output["Contents"]
    if prefixes := found.prefixes:
        output["CommonPrefixes"] = [{"Prefix": text(prefix)} for prefix in prefixes]
    return output


def _versions(found: Page, bucket: Bucket, text: Callable[[str], str], before: str | None) -> Output:
    """Versions and delete markers of a page; ``before`` is the key that the page before has ended with."""
    versions: list[dict[str, Any]] = []
    markers: list[dict[str, Any]] = []
    for stored in found.rows:
        entry: dict[str, Any] = {"IsLatest": stored.key != before, "VersionId": stored.version}
        before = stored.key
        if stored.is_marker:
            entry.update(Key=text(stored.key), LastModified=stored.modified, Owner=owner(bucket.account))
            markers.append(entry)
        else:
            versions.append({**_described(stored, bucket, text, with_owner=True), **entry})
    return {key: entries for key, entries in (("Versions", versions), ("DeleteMarkers", markers)) if entries}


def _described(stored: Stored, bucket: Bucket, text: Callable[[str], str], with_owner: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "Key": text(stored.key),
        "LastModified": stored.modified,
        "ETag": stored.etag,
        "Size": stored.size,
        "StorageClass": stored.storage,
    }
    if stored.checksum:
        algorithm, kind, _ = stored.checksum.split(" ")
        entry["ChecksumAlgorithm"] = [algorithm]
        entry["ChecksumType"] = kind
    if with_owner:
        entry["Owner"] = owner(bucket.account)
    return entry


def _encoder(input: Input) -> Callable[[str], str]:
    asked = input.get("EncodingType")
    if asked is None:
        return lambda text: text
    if asked != "url":
        raise AwsError(
            "InvalidArgument",
            "Invalid Encoding Method specified in Request",
            ArgumentName="encoding-type",
            ArgumentValue=asked,
        )
    return url_encoded


def url_encoded(text: str) -> str:
    """A key as ``encoding-type=url`` has it."""
    return quote_plus(text, safe="/*")


def _last(found: Page) -> str:
    last = found.entries[-1]
    return last if isinstance(last, str) else last.key


def _read_token(token: str) -> str:
    try:
        if not token:
            raise ValueError
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise AwsError(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            ArgumentName="continuation-token",
        ) from None
