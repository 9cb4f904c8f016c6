"""HTTP/1.1 on a socket: httptools parses, the gateway answers, one request of a connection after the other.

A general server would do; this one exists because of what that costs beside an answer of ours (ADR 5). ``asgi.py`` puts
the same gateway behind any ASGI server.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import httptools

from cloudlet.gateway import websocket
from cloudlet.http import ClientGone, Request, Response

log = logging.getLogger("cloudlet.gateway")

_LONGEST_HEAD = 64 * 1024  # bytes of a request's line and headers
_MANY_BYTES = 256 * 1024  # of a body that wait to be read; the client is held up beyond that
_MANY_REQUESTS = 16  # pipelined on one connection; likewise
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

Handler = Callable[[Request], Awaitable[Response]]


class Connections:
    """The open connections of a server, and what is under way on them."""

    def __init__(self, handle: Handler) -> None:
        self.handle = handle
        self.open: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        self._connections = connections
        self._loop = loop
        self._transport: Any = None
        self._client = ""
        self._parser: Any = None
        self._head_size = 0
        self._in_head = True
        self._path = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: Body | None = None
        self._waiting: deque[tuple[Request, Body]] = deque()
        self._busy = False
        self._under_way: Body | None = None  # of the request that is being answered
        self._closing = False
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        self._upgrading = False  # the request under way may become a WebSocket; what follows it is kept
        self._rest = b""
        self._socket: websocket.Socket | None = None

    # The transport's side

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if peer else ""
        self._connections.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.open.discard(self)
        self._closing = True
        if self._socket is not None:
            self._socket.lost()
        for body in (self._body, self._under_way):
            if body is not None:
                body.cut_off()
        for _, body in self._waiting:
            body.cut_off()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._socket is not None:
            self._socket.feed(data)
            return
        if self._upgrading:
            self._rest += data
            if len(self._rest) > _LONGEST_HEAD:
                self.hold()
            return
        if self._in_head:
            # Counted before the parser sees it: it would gather a header that never ends.
            self._head_size += len(data)
            if self._head_size > _LONGEST_HEAD and b"\r\n\r\n" not in data[:_LONGEST_HEAD]:
                self._refuse(431)
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._may_become_socket():
                self._rest = rest
            else:
                # Another protocol than ours, HTTP/2 for example: the request is answered as what it is.
                self._parser = httptools.HttpRequestParser(self)
                if rest:
                    self.data_received(rest)
        except httptools.HttpParserError:
            if not self._closing:
                self._refuse(400)

    def eof_received(self) -> bool:
        # A client that has said all may still wait for its answer; what waits for something to happen waits no more.
        if self._under_way is not None:
            self._under_way.cut_off()
        return self._busy or bool(self._waiting)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # The parser's side

    def on_message_begin(self) -> None:
        self._path = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_size = 0
        if len(self._path) > _LONGEST_HEAD:
            self._refuse(414)
            return
        headers: dict[str, str] = {}
        for raw_name, raw_value in self._headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        path, _, query = self._path.decode("latin-1").partition("?")
        if not path.startswith("/"):
            # The absolute form, which proxies send.
            path = "/" + path.partition("://")[2].partition("/")[2] if "://" in path else path
        body = self._body = Body(self, expects_continue=headers.get("expect", "").lower() == "100-continue")
        body.keep_alive = self._parser.should_keep_alive()
        self._upgrading = websocket.is_wanted(headers)
        request = Request(
            self._parser.get_method().decode("latin-1"),
            path,
            query.partition("#")[0],
            headers,
            client=self._client,
            raw_headers=self._headers,
            receive=body.receive,
        )
        if self._busy:
            self._waiting.append((request, body))
            if len(self._waiting) >= _MANY_REQUESTS:
                self.hold()
        else:
            self._begin(request, body)

    def on_body(self, data: bytes) -> None:
        if self._body is not None:
            self._body.arrived(data)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_size = 0
        if self._body is not None:
            self._body.completed()
            self._body = None

    # A request's way

    def _begin(self, request: Request, body: Body) -> None:
        self._busy = True
        self._under_way = body
        task = self._loop.create_task(self._serve(request, body))
        self._connections.tasks.add(task)
        task.add_done_callback(self._connections.tasks.discard)

    async def _serve(self, request: Request, body: Body) -> None:
        try:
            response = await self._connections.handle(request)
            if response.upgrade is not None and self._upgrading and not self._closing:
                await self._become_socket(request, response)
                return
            if self._upgrading:
                body.keep_alive = False
            await self._answer(request, body, response)
        except ClientGone:
            self.close()
        except Exception:
            log.exception("%s %s could not be answered", request.method, request.path)
            self._transport.abort()
        finally:
            self._busy = False
            self._under_way = None
        if not self._closing and self._waiting:
            self.go_on()
            self._begin(*self._waiting.popleft())

    def _may_become_socket(self) -> bool:
        return self._upgrading

    async def _become_socket(self, request: Request, response: Response) -> None:
        """Speak WebSocket from now on, until it is over."""
        assert response.upgrade is not None
        self._transport.write(websocket.handshake(request, response.headers))
        self._socket = websocket.Socket(self._transport)
        rest, self._rest = self._rest, b""
        self.go_on()
        if rest:
            self._socket.feed(rest)
        try:
            await response.upgrade(self._socket)
        finally:
            self._socket.close()

    async def _answer(self, request: Request, body: Body, response: Response) -> None:
        status, content = response.status, response.body
        head = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        has_length = has_date = False
        for name, value in response.headers.items():
            line = f"{name}: {value}\r\n"
            if "\n" in line[:-2] or "\r" in line[:-2]:
                line = line[:-2].replace("\r", " ").replace("\n", " ") + "\r\n"
            head.append(line.encode("utf-8"))
            lower = name.lower()
            if lower == "content-length":
                has_length = True
            elif lower == "date":
                has_date = True
        if not has_date:
            head.append(_date_line(int(time.time())))
        for cookie in response.cookies:
            head.append(f"set-cookie: {cookie}\r\n".encode())
        # What the client has not sent yet it may never send after this answer: the connection ends with it.
        keep_alive = body.keep_alive and (body.complete or not body.expects_continue) and not self._closing
        if not keep_alive:
            head.append(b"connection: close\r\n")
        is_bytes = isinstance(content, bytes)
        chunked = False
        if is_bytes and not has_length and status not in (204, 304):
            head.append(b"content-length: %d\r\n" % len(content))  # type: ignore[arg-type]
        elif not is_bytes and not has_length:
            chunked = True
            head.append(b"transfer-encoding: chunked\r\n")
        head.append(b"\r\n")
        if is_bytes:
            if request.method != "HEAD" and status not in (204, 304):
                head.append(content)  # type: ignore[arg-type]
            self._transport.write(b"".join(head))
        else:
            self._transport.write(b"".join(head))
            if request.method != "HEAD":
                await self._stream(content, chunked)
        if not keep_alive:
            self.close()
        elif not body.complete:
            body.skip()

    async def _stream(self, content: Any, chunked: bool) -> None:
        async for piece in content:
            if self._closing:
                raise ClientGone
            if piece:
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if self._writable is not None:
                await self._writable
        if chunked:
            self._transport.write(b"0\r\n\r\n")

    def _refuse(self, status: int) -> None:
        """Answer what cannot be understood, and close."""
        if not self._closing:
            if not self._busy:
                self._transport.write(_STATUS_LINES[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.close()

    # What a body and the server ask of it

    def hold(self) -> None:
        """Take no more from the client for now."""
        if not self._paused and not self._closing:
            self._paused = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Take from the client again."""
        if self._paused and not self._closing:
            self._paused = False
            self._transport.resume_reading()

    def say_continue(self) -> None:
        """Tell a client that waits with its body that it may send it."""
        if not self._closing:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def close(self) -> None:
        """Close after what has been written."""
        self._closing = True
        self._transport.close()

    def close_when_idle(self) -> None:
        """Close now, or let the request under way end first."""
        if self._socket is not None:
            self._socket.going_away()
        elif not self._busy:
            self.close()


class Body:
    """A request's body as it arrives; ``receive`` is ASGI's."""

    __slots__ = (
        "_connection",
        "_cut",
        "_pieces",
        "_size",
        "_skipping",
        "_told",
        "_wake",
        "complete",
        "expects_continue",
        "keep_alive",
    )

    def __init__(self, connection: Connection, expects_continue: bool) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []
        self._size = 0
        self._wake: asyncio.Future[None] | None = None
        self._cut = False
        self._skipping = False
        self._told = False  # that it is complete
        self.complete = False
        self.expects_continue = expects_continue
        self.keep_alive = True

    async def receive(self) -> dict[str, Any]:
        """The next piece, whether there are more, or that the client is gone."""
        if self.expects_continue and not self.complete:
            self.expects_continue = False
            self._connection.say_continue()
        while not (self._cut or (not self._told and (self._pieces or self.complete))):
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if self._told or (self._cut and not self.complete):
            return {"type": "http.disconnect"}
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._size > _MANY_BYTES:
            self._connection.go_on()
        self._size = 0
        self._told = self.complete
        return {"type": "http.request", "body": data, "more_body": not self.complete}

    def arrived(self, data: bytes) -> None:
        """A piece from the client."""
        if self._skipping:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _MANY_BYTES:
            self._connection.hold()
        self._notify()

    def completed(self) -> None:
        """The last piece has come."""
        self.complete = True
        self._notify()

    def cut_off(self) -> None:
        """The client has gone, perhaps before its request was complete."""
        self._cut = True
        self._notify()

    def skip(self) -> None:
        """Nobody reads the rest; it is taken off the connection."""
        self._skipping = True
        self._pieces.clear()
        self._connection.go_on()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


@functools.lru_cache(1)
def _date_line(second: int) -> bytes:
    """The Date header, by which clients correct their clocks: the machine's own time, made once a second."""
    return f"date: {formatdate(second, usegmt=True)}\r\n".encode()
