"""The door for OpenTelemetry: ``POST /v1/traces``, as SDKs send it to OTEL_EXPORTER_OTLP_ENDPOINT.

Metrics and log records have no door: exporters are told so with 404, which they do not try again.
https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.services.xray import segments, spans
from cloudlet.services.xray.groups import Groups
from cloudlet.services.xray.records import Segment

_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
_LARGEST = 64 * 1024 * 1024  # bytes of one export, unpacked
_INVALID, _UNIMPLEMENTED, _UNAUTHENTICATED = 3, 12, 16  # google.rpc.Code
_MALFORMED = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
_A_FEW = 20_000  # bytes that are read on the spot


class Otlp(Groups):
    """Spans from OpenTelemetry."""

    async def serve(self, request: Request, label: str) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.path != "/v1/traces":
            words = f"Cloudlet takes traces by OTLP, not {request.path.rpartition('/')[2]}."
            return _status(kind, 404, _UNIMPLEMENTED, words)
        if kind not in (_JSON, _PROTOBUF):
            return _status(_JSON, 415, _INVALID, f"Content-Type must be {_PROTOBUF} or {_JSON}.")
        assert request.identify is not None
        try:
            call = await request.identify("xray")
        except AwsError as error:
            return _status(kind, 401, _UNAUTHENTICATED, error.message)
        body = await request.read(_LARGEST)
        try:
            sender = _Sender(call.account, call.region, "authorization" in request.headers, self.clock.offset)
            work = (body, request.headers.get("content-encoding", ""), kind, sender)
            taken, refused = await asyncio.to_thread(_read, *work) if len(body) > _A_FEW else _read(*work)
        except ValueError as error:
            return _status(kind, 400, _INVALID, f"The request cannot be read: {error}")
        await self.store(taken)
        return _accepted(kind, refused)


class _Sender(NamedTuple):
    """Who exports: an account and a region by default, or for sure where the request is signed."""

    account: str
    region: str
    is_signed: bool
    behind: float  # seconds by which its clock is behind the cloud's

    def scope_of(self, resource: spans.Attributes) -> str:
        """Whose the spans of a resource are: it may say so itself, but not against a signature."""
        if self.is_signed:
            return f"{self.account}/{self.region}"
        return f"{resource.get('cloud.account.id') or self.account}/{resource.get('cloud.region') or self.region}"


def _read(body: bytes, encoding: str, kind: str, sender: _Sender) -> tuple[list[Segment], list[str]]:
    """The segments of an export, and why some spans are none. Raises ValueError."""
    if encoding in ("gzip", "deflate"):
        body = _unpacked(body)
    elif encoding not in ("", "identity"):
        raise ValueError(f"Content-Encoding {encoding}")
    if kind == _PROTOBUF:
        from cloudlet.services.xray.protobuf import export_request

        export = export_request(body)
    else:
        export = msgspec.json.decode(body)
    if not isinstance(export, dict):
        raise ValueError("no ExportTraceServiceRequest")
    taken, refused = [], []
    try:
        for span, resource, library in _spans(export):
            try:
                document = segments.moved(spans.document_of(span, resource, library), sender.behind)
                taken.append(segments.segment_of(sender.scope_of(resource), document))
            except segments.BadSegment as bad:
                refused.append(str(bad))
            except _MALFORMED as error:
                refused.append(f"Invalid span: {error!r}")
    except _MALFORMED as error:
        raise ValueError(repr(error)) from None
    return taken, refused


def _spans(export: dict[str, Any]) -> Iterator[tuple[dict[str, Any], spans.Attributes, str]]:
    """Each span with what it is of, and the library that has made it."""
    for group in export.get("resourceSpans", ()):
        resource = spans.attributes_of(group.get("resource"))
        for one in group.get("scopeSpans", ()):
            library = str((one.get("scope") or {}).get("name", ""))
            for span in one.get("spans", ()):
                yield span, resource, library


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=47)
    try:
        made = unpacker.decompress(body, _LARGEST)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not unpacker.eof:
        raise ValueError("the packed body is cut off or too large")
    return made


def _accepted(kind: str, refused: list[str]) -> Response:
    """ExportTraceServiceResponse: empty, or how many spans were not taken and why."""
    if kind == _JSON:
        answer: dict[str, Any] = {}
        if refused:
            answer["partialSuccess"] = {"rejectedSpans": str(len(refused)), "errorMessage": refused[0]}
        return Response(200, {"content-type": kind}, msgspec.json.encode(answer))
    body = b""
    if refused:
        body = _field(1, b"\x08" + _number(len(refused)) + _field(2, refused[0].encode()))
    return Response(200, {"content-type": kind}, body)


def _status(kind: str, status: int, code: int, words: str) -> Response:
    """google.rpc.Status, in the form in which the request came."""
    if kind == _PROTOBUF:
        return Response(status, {"content-type": kind}, b"\x08" + _number(code) + _field(2, words.encode()))
    return Response(status, {"content-type": _JSON}, msgspec.json.encode({"code": code, "message": words}))


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _number(len(data)) + data


def _number(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
