"""Event streams: messages of ``application/vnd.amazon.eventstream``."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.wire.model import Model, Shape

_Document = Callable[[dict[str, Any]], tuple[str, Any]]


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message with text headers."""
    packed = bytearray()
    for name, value in headers.items():
        key, text = name.encode(), value.encode()
        packed += bytes((len(key),)) + key + b"\x07" + len(text).to_bytes(2, "big") + text
    prelude = (len(packed) + len(payload) + 16).to_bytes(4, "big") + len(packed).to_bytes(4, "big")
    framed = prelude + zlib.crc32(prelude).to_bytes(4, "big") + bytes(packed) + payload
    return framed + zlib.crc32(framed).to_bytes(4, "big")


def writer(model: Model, shape: Shape, document: Callable[[Shape], _Document]) -> Callable[[dict[str, Any]], bytes]:
    """The writer of an event, given as ``{event's name: its members}``; ``document`` writes members in the protocol."""
    written: dict[str, Callable[[dict[str, Any]], bytes]] = {}
    for name, ref in shape.members.items():
        written[name] = _event(model, name, model.shapes[ref.shape], document)

    def write(event: dict[str, Any]) -> bytes:
        ((name, members),) = event.items()
        return written[name](members)

    return write


def _event(
    model: Model, name: str, shape: Shape, document: Callable[[Shape], _Document]
) -> Callable[[dict[str, Any]], bytes]:
    kind = {":message-type": "exception", ":exception-type": name} if shape.exception else {}
    kind = kind or {":message-type": "event", ":event-type": name}
    headed = [member for member, ref in shape.members.items() if ref.eventheader]
    payload = next((member for member, ref in shape.members.items() if ref.eventpayload), None)
    target = model.shapes[shape.members[payload].shape] if payload is not None else None
    write_members = document(target if target is not None and target.type == "structure" else shape)

    def write(members: dict[str, Any]) -> bytes:
        headers = dict(kind)
        for member in headed:
            if member in members:
                headers[member] = str(members[member])
        rest = {member: value for member, value in members.items() if member not in headed}
        if payload is None:
            if not shape.members:
                return message(headers, b"")
            content_type, body = write_members(rest)
        else:
            value = rest.get(payload, b"")
            if isinstance(value, dict):
                content_type, body = write_members(value)
            elif isinstance(value, str):
                content_type, body = "text/plain", value.encode()
            else:
                content_type, body = "application/octet-stream", bytes(value)
        return message({**headers, ":content-type": content_type}, body)

    return write


async def stream(
    given: AsyncIterator[dict[str, Any]], write: Callable[[dict[str, Any]], bytes], first: bytes = b""
) -> AsyncIterator[bytes]:
    """Events as they come; an AwsError on the way becomes the stream's last message."""
    if first:
        yield first
    try:
        async for event in given:
            yield write(event)
    except AwsError as error:
        yield message({":message-type": "error", ":error-code": error.code, ":error-message": error.message}, b"")
