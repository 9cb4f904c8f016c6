"""WebSockets (RFC 6455) on a connection that has begun as HTTP/1.1; wsproto reads and writes the frames."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import deque
from typing import Any

from cloudlet.http import Request

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LARGEST = 128 * 1024  # bytes of a message; API Gateway's limit
_WAITING = 64  # messages that wait to be handled; the client is held up beyond that
_TOO_BIG, _NORMAL, _GOING_AWAY, _LOST = 1009, 1000, 1001, 1006


def is_wanted(headers: dict[str, str]) -> bool:
    """Whether a request asks to become a WebSocket."""
    return (
        headers.get("upgrade", "").lower() == "websocket"
        and "upgrade" in headers.get("connection", "").lower()
        and headers.get("sec-websocket-version") == "13"
        and "sec-websocket-key" in headers
    )


def handshake(request: Request, extra: dict[str, str]) -> bytes:
    """The answer with which a connection becomes a WebSocket."""
    key = request.headers["sec-websocket-key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: Upgrade"]
    lines.append(f"sec-websocket-accept: {accept}")
    lines += [f"{name}: {value}" for name, value in extra.items()]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"


class Socket:
    """The server's end of one WebSocket. ``close_code`` and ``close_reason`` are set once it is over."""

    def __init__(self, transport: Any) -> None:
        from wsproto.connection import Connection, ConnectionType

        self._transport = transport
        self._frames = Connection(ConnectionType.SERVER)
        self._messages: deque[str | bytes] = deque()
        self._parts: list[Any] = []
        self._size = 0
        self._wake: asyncio.Future[None] | None = None
        self._held = False
        self.close_code = 0
        self.close_reason = ""

    async def receive(self) -> str | bytes | None:
        """The next whole message; None once the connection is over."""
        while not self._messages:
            if self.close_code:
                return None
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if self._held and len(self._messages) <= _WAITING // 2:
            self._held = False
            self._transport.resume_reading()
        return self._messages.popleft()

    def send(self, message: str | bytes) -> bool:
        """Send a message; False when the connection is over."""
        from wsproto.events import BytesMessage, TextMessage

        if self.close_code or self._transport.is_closing():
            return False
        event = TextMessage(message) if isinstance(message, str) else BytesMessage(message)
        self._transport.write(self._frames.send(event))
        return True

    def close(self, code: int = _NORMAL, reason: str = "") -> None:
        """End the connection from our side."""
        from wsproto.events import CloseConnection

        if not self.close_code:
            self._over(code, reason)
            self._transport.write(self._frames.send(CloseConnection(code, reason)))
            self._transport.close()

    def is_over(self) -> bool:
        """Whether either side has closed it."""
        return self.close_code != 0

    # What the connection hears

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
        from wsproto.utilities import RemoteProtocolError

        if self.close_code:
            return
        try:
            self._frames.receive_data(data)
            for event in self._frames.events():
                if isinstance(event, TextMessage | BytesMessage):
                    self._take(event.data, event.message_finished)
                elif isinstance(event, Ping):
                    self._transport.write(self._frames.send(event.response()))
                elif isinstance(event, CloseConnection):
                    self._transport.write(self._frames.send(event.response()))
                    self._over(event.code or _NORMAL, event.reason or "")
                    self._transport.close()
                if self.is_over():
                    return
        except RemoteProtocolError as error:
            self.close(int(error.event_hint.code) if error.event_hint is not None else 1002)  # type: ignore[attr-defined]

    def lost(self) -> None:
        """The client is gone."""
        if not self.close_code:
            self._over(_LOST, "Connection Closed Abnormally")

    def going_away(self) -> None:
        """The cloud stops."""
        self.close(_GOING_AWAY, "Going away")

    def _take(self, piece: Any, finished: bool) -> None:
        self._parts.append(piece)
        self._size += len(piece)
        if self._size > _LARGEST:
            self.close(_TOO_BIG, "Message too big")
        elif finished:
            kind = "" if isinstance(piece, str) else b""
            self._messages.append(kind.join(self._parts) if isinstance(kind, str) else bytes(kind.join(self._parts)))
            self._parts, self._size = [], 0
            if len(self._messages) >= _WAITING and not self._held:
                self._held = True
                self._transport.pause_reading()
            self._notify()

    def _over(self, code: int, reason: str) -> None:
        self.close_code, self.close_reason = code, reason
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
