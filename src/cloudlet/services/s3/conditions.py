"""What a client makes its request depend on: entity tags, dates, and the range of bytes it wants."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input
from cloudlet.services.s3.records import Stored

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


def precondition_failed(condition: str) -> AwsError:
    """The error for a condition that does not hold."""
    return AwsError(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        status=412,
        Condition=condition,
    )


def _same(asked: str, etag: str | None) -> bool:
    """Whether one of the tags of a header, quoted or not, is the object's."""
    if etag is None:
        return False
    own = etag.strip('"')
    return any(tag.strip().removeprefix("W/").strip('"') in (own, "*") for tag in asked.split(","))


def check_read(call: Call, input: Input, stored: Stored) -> None:
    """Hold a reader's conditions against an object. Raises PreconditionFailed and NotModified."""
    if "IfMatch" in input:
        if not _same(input["IfMatch"], stored.etag):
            raise precondition_failed("If-Match")
    elif "IfUnmodifiedSince" in input and stored.modified > input["IfUnmodifiedSince"]:
        raise precondition_failed("If-Unmodified-Since")
    if "IfNoneMatch" in input:
        unchanged = _same(input["IfNoneMatch"], stored.etag)
    else:
        unchanged = "IfModifiedSince" in input and stored.modified <= input["IfModifiedSince"]
    if unchanged:
        if stored.etag is not None:
            call.headers["ETag"] = stored.etag
        raise AwsError("NotModified", "Not Modified", status=304)


def check_copy(input: Input, stored: Stored) -> None:
    """Hold a copier's conditions against its source: one that fails is always an error."""
    if "CopySourceIfMatch" in input:
        if not _same(input["CopySourceIfMatch"], stored.etag):
            raise precondition_failed("x-amz-copy-source-If-Match")
    elif "CopySourceIfUnmodifiedSince" in input and stored.modified > input["CopySourceIfUnmodifiedSince"]:
        raise precondition_failed("x-amz-copy-source-If-Unmodified-Since")
    if "CopySourceIfNoneMatch" in input:
        if _same(input["CopySourceIfNoneMatch"], stored.etag):
            raise precondition_failed("x-amz-copy-source-If-None-Match")
    elif "CopySourceIfModifiedSince" in input and stored.modified <= input["CopySourceIfModifiedSince"]:
        raise precondition_failed("x-amz-copy-source-If-Modified-Since")


def check_write(if_match: str | None, if_none_match: str | None, key: str, etag: str | None) -> None:
    """Hold a writer's conditions against what is there now (``etag`` None: nothing), in the writing transaction."""
    if if_none_match is not None and etag is not None:
        raise precondition_failed("If-None-Match")
    if if_match is not None:
        if etag is None:
            raise AwsError("NoSuchKey", "The specified key does not exist.", status=404, Key=key)
        if not _same(if_match, etag):
            raise precondition_failed("If-Match")


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive bytes of an object."""

    start: int
    length: int

    def header(self, size: int) -> str:
        """The span as ``Content-Range`` says it."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def span(text: str | None, size: int) -> Span | None:
    """The bytes that a Range header asks for; None where it asks for all, or is to be ignored. Raises InvalidRange."""
    if text is None or (found := _RANGE.match(text.strip())) is None:
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
    elif last:
        start, end = max(0, size - int(last)), size - 1
    else:
        return None
    if start >= size or end < start:
        raise AwsError(
            "InvalidRange",
            "The requested range is not satisfiable",
            status=416,
            RangeRequested=text,
            ActualObjectSize=size,
        )
    return Span(start, end - start + 1)


def check_asked(if_match: str | None, if_none_match: str | None) -> None:
    """Refuse the conditions on a write that S3 does not know. Raises NotImplemented as S3 does."""
    if if_match is not None and if_none_match is not None:
        raise _unknown("If-Match,If-None-Match", "Multiple conditional request headers present in the request")
    if if_match == "*":
        raise _unknown("If-Match", "We don't accept the provided value of If-Match header for this API")
    if if_none_match not in (None, "*"):
        raise _unknown("If-None-Match", "We don't accept the provided value of If-None-Match header for this API")


def _unknown(header: str, why: str) -> AwsError:
    words = "A header you provided implies functionality that is not implemented"
    return AwsError("NotImplemented", words, status=501, Header=header, additionalMessage=why)
