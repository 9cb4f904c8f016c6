"""OTLP's traces from protobuf into the form that they have in JSON.

The wire form is a list of (field, value), and the few messages are known: no library is needed for that.
https://protobuf.dev/programming-guides/encoding/
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_DOUBLE = struct.Struct("<d")


class BadMessage(ValueError):
    """Bytes that are no such message."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    read: Callable[[Any], Any]
    repeated: bool = False


_Message = dict[int, _Field]


def export_request(data: bytes) -> dict[str, Any]:
    """An ExportTraceServiceRequest as JSON has it. Raises BadMessage."""
    try:
        return _read(memoryview(data), _REQUEST)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, RecursionError) as error:
        raise BadMessage(str(error)) from None


def _read(data: memoryview, message: _Message) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for number, value in _fields(data):
        if (field := message.get(number)) is None:
            continue
        if field.repeated:
            made.setdefault(field.name, []).append(field.read(value))
        else:
            made[field.name] = field.read(value)
    return made


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """(number, value): an int of any size, or bytes."""
    place, end = 0, len(data)
    while place < end:
        key, place = _varint(data, place)
        kind = key & 7
        value: Any
        if kind == 0:
            value, place = _varint(data, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, place = int.from_bytes(data[place : place + size], "little"), place + size
        elif kind == 2:
            size, place = _varint(data, place)
            value, place = data[place : place + size], place + size
        else:
            raise BadMessage(f"wire type {kind}")
        if place > end:
            raise BadMessage("cut off")
        yield key >> 3, value


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise BadMessage("a number that is too long")


def _text(value: Any) -> str:
    return bytes(value).decode()


def _hex(value: Any) -> str:
    return bytes(value).hex()


def _int(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _double(value: int) -> float:
    return float(_DOUBLE.unpack(value.to_bytes(8, "little"))[0])


def _of(message: _Message) -> Callable[[Any], Any]:
    return lambda value: _read(value, message)


_VALUE: _Message = {
    1: _Field("stringValue", _text),
    2: _Field("boolValue", bool),
    3: _Field("intValue", _int),
    4: _Field("doubleValue", _double),
    7: _Field("bytesValue", _hex),
}
_KEY_VALUE: _Message = {1: _Field("key", _text), 2: _Field("value", _of(_VALUE))}
_VALUE[5] = _Field("arrayValue", _of({1: _Field("values", _of(_VALUE), True)}))
_VALUE[6] = _Field("kvlistValue", _of({1: _Field("values", _of(_KEY_VALUE), True)}))
_ATTRIBUTES = _Field("attributes", _of(_KEY_VALUE), True)
_EVENT: _Message = {1: _Field("timeUnixNano", int), 2: _Field("name", _text), 3: _ATTRIBUTES}
_LINK: _Message = {1: _Field("traceId", _hex), 2: _Field("spanId", _hex), 4: _ATTRIBUTES}
_STATUS: _Message = {2: _Field("message", _text), 3: _Field("code", int)}
_SPAN: _Message = {
    1: _Field("traceId", _hex),
    2: _Field("spanId", _hex),
    4: _Field("parentSpanId", _hex),
    5: _Field("name", _text),
    6: _Field("kind", int),
    7: _Field("startTimeUnixNano", int),
    8: _Field("endTimeUnixNano", int),
    9: _ATTRIBUTES,
    11: _Field("events", _of(_EVENT), True),
    13: _Field("links", _of(_LINK), True),
    15: _Field("status", _of(_STATUS)),
}
_SCOPE: _Message = {1: _Field("name", _text), 2: _Field("version", _text)}
_SCOPE_SPANS: _Message = {1: _Field("scope", _of(_SCOPE)), 2: _Field("spans", _of(_SPAN), True)}
_RESOURCE_SPANS: _Message = {
    1: _Field("resource", _of({1: _ATTRIBUTES})),
    2: _Field("scopeSpans", _of(_SCOPE_SPANS), True),
}
_REQUEST: _Message = {1: _Field("resourceSpans", _of(_RESOURCE_SPANS), True)}
