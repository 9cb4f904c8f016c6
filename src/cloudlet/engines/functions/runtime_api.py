"""Lambda's Runtime API, one server for each sandbox: the runtime asks for the next event and posts what came of it.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Any, Protocol

import httptools

from cloudlet.engines.functions.extensions import Extensions, Refused

_EXTENSION = b"/2020-01-01/extension/"
# What extensions may ask for, and what they hear where there is none of it, as when they are tried out locally.
_SUBSCRIPTIONS = {b"/2022-07-01/telemetry": "Telemetry", b"/2020-08-15/logs": "Logs"}
_PREFIX = b"/2018-06-01/runtime/"
_ACCEPTED = b'HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{"status":"OK"}\n'
_REFUSED = b"HTTP/1.1 %d Refused\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


class Listener(Protocol):
    """What a sandbox hears from its runtime."""

    extensions: Extensions

    def about(self) -> bytes:
        """What an extension is told when it registers."""

    def extension_failed(self, body: bytes) -> None:
        """An extension gives up."""

    def ready(self) -> None:
        """The runtime waits for an event."""

    def answered(self, request_id: str, body: bytes | AsyncIterator[bytes], content_type: str) -> bool:
        """A result; False when nobody waits for that one."""

    def failed(self, request_id: str, body: bytes) -> bool:
        """An error of an invocation, or with an empty id of the start."""

    async def provide(self, package: str) -> bool:
        """Whether a package that the runtime should bring is there now. Our own runtimes ask that."""


class RuntimeApi:
    """The server of one sandbox."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.waiting: Connection | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self.address = ""

    async def start(self) -> None:
        """Listen on a port of its own: that is what tells sandboxes apart."""
        loop = asyncio.get_running_loop()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self._server = await loop.create_server(lambda: Connection(self), sock=listener)

    def send(self, headers: bytes, event: bytes) -> None:
        """Give the waiting runtime its next event."""
        connection, self.waiting = self.waiting, None
        assert connection is not None
        # One write, with a content type: the official clients depend on both.
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n" % (
            len(event),
            headers,
        )
        connection.write(head + event)

    def close(self) -> None:
        """End it, and every connection."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection of a runtime."""

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._transport: Any = None
        self._parser: Any = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._stream: Stream | None = None
        self._providing: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._api._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._api._connections.discard(self)
        if self._api.waiting is self:
            self._api.waiting = None
        if self._stream is not None:
            self._stream.end()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def write(self, data: bytes) -> None:
        """Send to the runtime."""
        self._transport.write(data)

    def abort(self) -> None:
        """Cut it off."""
        self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._headers.get(b"lambda-runtime-function-response-mode", b"").lower() == b"streaming":
            parts = self._url.split(b"?")[0].removeprefix(_PREFIX).split(b"/")
            if len(parts) == 3:
                self._stream = Stream()
                kind = self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1")
                self._api.listener.answered(parts[1].decode(), self._stream.pieces(), kind)

    def on_body(self, data: bytes) -> None:
        if self._stream is not None:
            self._stream.feed(data)
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        url, self._url = self._url.split(b"?")[0], b""
        headers, self._headers = self._headers, {}
        body = b"".join(self._body)
        self._body.clear()
        if self._stream is not None:
            self._stream.end()
            self._stream = None
            self.write(_ACCEPTED)
            return
        if url.startswith(_EXTENSION):
            self._extension(url.removeprefix(_EXTENSION), headers, body)
            return
        if (kind := _SUBSCRIPTIONS.get(url)) is not None:
            refusal = {"errorMessage": f"{kind} API is not supported", "errorType": f"{kind}.NotSupported"}
            self._refuse(202, json.dumps(refusal).encode())
            return
        path = url.removeprefix(_PREFIX)
        if path == b"invocation/next":
            self._api.waiting = self
            self._api.listener.ready()
            return
        parts = path.split(b"/")
        known = True
        if len(parts) == 3 and parts[0] == b"invocation" and parts[2] == b"response":
            kind = headers.get(b"content-type", b"application/json").decode("latin-1")
            known = self._api.listener.answered(parts[1].decode(), body, kind)
        elif len(parts) == 3 and parts[0] == b"invocation" and parts[2] == b"error":
            known = self._api.listener.failed(parts[1].decode(), body)
        elif path == b"init/error":
            self._api.listener.failed("", body)
        elif parts[0] == b"package":
            self._providing = asyncio.ensure_future(self._provide(b"/".join(parts[1:]).decode("latin-1")))
            return
        else:
            self._refuse(404, b'{"errorType":"NotFound","errorMessage":"There is no such path in the Runtime API."}')
            return
        if known:
            self.write(_ACCEPTED)
        else:
            self._refuse(400, b'{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}')

    def _extension(self, path: bytes, headers: dict[bytes, bytes], body: bytes) -> None:
        """The Extensions API."""
        listener = self._api.listener
        name = headers.get(b"lambda-extension-name", b"").decode("latin-1")
        identifier = headers.get(b"lambda-extension-identifier", b"").decode("latin-1")
        try:
            if path == b"register":
                try:
                    events = json.loads(body or b"{}").get("events", [])
                except (ValueError, AttributeError):
                    raise Refused("InvalidRequestFormat", "Invalid request format") from None
                self._answer(listener.about(), listener.extensions.register(name, events))
            elif path == b"event/next":
                listener.extensions.wait(identifier, lambda event: self._answer(json.dumps(event).encode(), identifier))
            elif path in (b"init/error", b"exit/error"):
                self.write(_ACCEPTED)
                listener.extension_failed(body)
            else:
                raise Refused("NotFound", "There is no such path in the Extensions API.")
        except Refused as refusal:
            document = {"errorType": refusal.kind, "errorMessage": str(refusal)}
            self._refuse(403 if refusal.kind != "NotFound" else 404, json.dumps(document).encode())

    def _answer(self, body: bytes, identifier: str) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"lambda-extension-identifier: {identifier}\r\nlambda-extension-event-identifier: {uuid.uuid4()}\r\n\r\n"
        )
        self.write(head.encode() + body)

    async def _provide(self, package: str) -> None:
        if await self._api.listener.provide(package):
            self.write(_ACCEPTED)
        else:
            self._refuse(404, b"{}")

    def _refuse(self, status: int, body: bytes) -> None:
        self.write(_REFUSED % (status, len(body), body))


class Stream:
    """A result that comes piece by piece."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    def feed(self, data: bytes) -> None:
        """A piece from the runtime."""
        self._pieces.put_nowait(data)

    def end(self) -> None:
        """There is no more."""
        self._pieces.put_nowait(None)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The result as it comes."""
        while (piece := await self._pieces.get()) is not None:
            yield piece
