"""Segment documents: what X-Ray takes, and how the parts of a trace are put together again.

https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from cloudlet.observe.traces import to_xray
from cloudlet.services.xray.records import Document, Segment

_ID = re.compile(r"[0-9a-fA-F]{16}")
_TRACE = re.compile(r"1-[0-9a-fA-F]{8}-[0-9a-fA-F]{24}")
# Letters, digits, white space and some signs.
_LONGEST_NAME = 200
_NOT_IN_NAMES = re.compile(r"[^\w\s.:/%&#=+\\\-@]+")
_TEXTS = ("id", "origin", "namespace", "user", "resource_arn")
# What has members of its own.
_OBJECTS = (("http", "request"), ("http", "response"), ("aws", "ec2"), ("annotations",), ("metadata",))


class BadSegment(Exception):
    """A document that X-Ray does not take: ``code`` as UnprocessedTraceSegments has it."""

    def __init__(self, code: str, id: str = "", kind: str = "segment") -> None:
        super().__init__(f"Invalid {kind}. ErrorCode: {code}")
        self.code = code
        self.id = id


def read(scope: str, text: str | bytes, ahead: float = 0.0) -> Segment:
    """A document as it is stored; the cloud's clock is ``ahead`` of its sender's (seconds). Raises BadSegment."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise BadSegment("ParseError") from None
    if not isinstance(document, dict):
        raise BadSegment("ParseError")
    return segment_of(scope, moved(document, ahead) if ahead else document)


def segment_of(scope: str, document: Document) -> Segment:
    """A decoded document as it is stored. Raises BadSegment."""
    kind = "subsegment" if document.get("type") == "subsegment" else "segment"
    id = str(document.get("id") or "")
    if not id:
        raise BadSegment("MissingId", kind=kind)
    if not _ID.fullmatch(id):
        raise BadSegment("InvalidId", id, kind)
    trace = document.get("trace_id")
    if trace is None:
        raise BadSegment("MissingTraceId", id, kind)
    trace = to_xray(str(trace))
    if not _TRACE.fullmatch(trace):
        raise BadSegment("InvalidTraceId", id, kind)
    if kind == "subsegment" and "parent_id" not in document:
        raise BadSegment("MissingParentId", id, kind)
    if "parent_id" in document and not (document["parent_id"] is None or _ID.fullmatch(str(document["parent_id"]))):
        raise BadSegment("InvalidParentId", id, kind)
    try:
        _check(document, id, kind)
        text = msgspec.json.encode({**document, "trace_id": trace}).decode()
    except RecursionError:
        raise BadSegment("ParseError", id, kind) from None
    start = float(document["start_time"])
    return Segment(scope, trace, id, start, finish_of(document), text)


def _check(document: Document, id: str, kind: str) -> None:
    """What segments and the subsegments in them have in common."""
    if not isinstance(name := document.get("name"), str) or not name:
        raise BadSegment("MissingName", id, kind)
    if len(name) > _LONGEST_NAME or _NOT_IN_NAMES.search(name):
        raise BadSegment("InvalidName", id, kind)
    if not _is_time(document.get("start_time")):
        raise BadSegment("MissingStartTime" if "start_time" not in document else "InvalidStartTime", id, kind)
    if "end_time" in document and not _is_time(document["end_time"]):
        raise BadSegment("InvalidEndTime", id, kind)
    if "end_time" not in document and not document.get("in_progress"):
        raise BadSegment("MissingEndTime", id, kind)
    if not all(isinstance(document.get(member, ""), str) for member in _TEXTS):
        raise BadSegment("ParseError", id, kind)
    for path in _OBJECTS:
        within: Any = document
        for member in path:
            within = within.get(member, {})
            if not isinstance(within, dict):
                raise BadSegment("ParseError", id, kind)
    inner = document.get("subsegments", [])
    if not isinstance(inner, list) or not all(isinstance(one, dict) for one in inner):
        raise BadSegment("ParseError", id, kind)
    for one in inner:
        _check(one, id, "subsegment")


def possible_name(name: str) -> str:
    """A name without what X-Ray does not take."""
    return _NOT_IN_NAMES.sub("", name).strip()[:_LONGEST_NAME] or "unknown"


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def joined(documents: list[Document]) -> list[Document]:
    """The segments of a trace in their order, each with the subsegments that came by themselves.

    A subsegment whose segment has not come stands alone, as X-Ray shows it.
    """
    documents = sorted(documents, key=lambda one: float(one["start_time"]))
    known = {id(part): part for document in documents for part in parts_of(document)}
    by_id = {part.get("id"): part for part in known.values()}
    tops = []
    for document in documents:
        parent = by_id.get(document.get("parent_id")) if document.get("type") == "subsegment" else None
        if parent is None or parent is document:
            tops.append(document)
        else:
            inner = parent.setdefault("subsegments", [])
            if document["id"] not in [one.get("id") for one in inner]:
                inner.append(document)
    return tops


def parts_of(document: Document) -> Iterator[Document]:
    """A document and all subsegments in it, from the outside in."""
    yield document
    for inner in document.get("subsegments", ()):
        yield from parts_of(inner)


def moved(document: Document, seconds: float) -> Document:
    """A document of a program, which lives in the machine's time, in the cloud's time."""
    times = {name: document[name] + seconds for name in ("start_time", "end_time") if _is_time(document.get(name))}
    inner = document.get("subsegments")
    if not isinstance(inner, list) or not all(isinstance(one, dict) for one in inner):
        return {**document, **times}
    return {**document, **times, "subsegments": [moved(one, seconds) for one in inner]}


def status_of(document: Document) -> tuple[bool, bool, bool]:
    """Whether a part says fault, error, throttle."""
    return bool(document.get("fault")), bool(document.get("error")), bool(document.get("throttle"))


def seconds_of(document: Document) -> float:
    """How long a part took, 0 while it is in progress."""
    return max(0.0, finish_of(document) - float(document["start_time"]))


def finish_of(document: Document) -> float:
    """When a part ended, or began while it is in progress."""
    return float(document["end_time"] if "end_time" in document else document["start_time"])
