"""An HTTP request and its answer, as the gateway hands them to the wire and to a service's front door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

# A body that is sent as it comes: nothing of it is kept in memory.
Stream = AsyncIterator[bytes]


class Request:
    """One HTTP request. Header names are lower case; a header sent twice is joined by a comma.

    ``path`` is still percent-encoded, ``query`` is the raw query string. ``body`` is filled by ``read``; an operation
    with a streaming body takes ``stream()`` instead, once.
    """

    __slots__ = (
        "_receive",
        "_replaced",
        "body",
        "client",
        "headers",
        "identify",
        "method",
        "path",
        "query",
        "raw_headers",
        "scheme",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        *,
        scheme: str = "http",
        client: str = "127.0.0.1",
        raw_headers: list[tuple[bytes, bytes]] | None = None,
        receive: Callable[[], Any] | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers: dict[str, str] = headers if headers is not None else {}
        self.body = body
        self.scheme = scheme
        self.client = client
        self.raw_headers = raw_headers or []
        # At a data plane's front door: who has signed the request for a service, as a Call of services.api.
        self.identify: Callable[[str], Any] | None = None
        self._receive = receive
        self._replaced: Stream | None = None

    @property
    def host(self) -> str:
        """The Host header without its port, lower case."""
        return self.headers.get("host", "").rsplit(":", 1)[0].lower()

    def params(self) -> list[tuple[str, str]]:
        """The decoded query parameters in their order, blank ones kept."""
        return parse_qsl(self.query, keep_blank_values=True)

    def decode_body(self, decode: Callable[[Stream], Stream]) -> None:
        """Let the body pass through ``decode`` on its way to whoever reads it."""
        source = Request("", "", body=self.body, receive=self._receive)
        source._replaced = self._replaced
        self.body, self._replaced = None, decode(source.stream())

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises ``BodyTooLarge`` beyond ``limit`` bytes and ``ClientGone`` when it is cut off."""
        if self.body is None:
            if self._replaced is not None:
                self.body = await self._gather(self._replaced, [], 0, limit)
                return self.body
            if self._receive is None:
                self.body = b""
                return self.body
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body: bytes = message.get("body", b"")
            if message.get("more_body"):
                body = await self._gather(self._rest(), [body], len(body), limit)
            if len(body) > limit:
                raise BodyTooLarge
            self.body = body
        return self.body

    async def stream(self) -> Stream:
        """The body, chunk by chunk as it arrives. Raises ``ClientGone`` when it is cut off."""
        if self._replaced is not None and self.body is None:
            source, self._replaced = self._replaced, None
            async for chunk in source:
                yield chunk
        elif self.body is not None or self._receive is None:
            yield self.body or b""
        else:
            async for chunk in self._rest():
                yield chunk

    async def gone(self) -> None:
        """Return when the client has closed the connection. For waiting after the body was read."""
        if self._receive is not None:
            # A server may say once more that the body is complete, and is then silent until the client goes.
            for _ in range(2):
                if (await self._receive())["type"] == "http.disconnect":
                    return
        await asyncio.Event().wait()

    @staticmethod
    async def _gather(source: Stream, chunks: list[bytes], size: int, limit: int) -> bytes:
        async for chunk in source:
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge
            chunks.append(chunk)
        return b"".join(chunks)

    async def _rest(self) -> Stream:
        assert self._receive is not None
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if chunk := message.get("body", b""):
                yield chunk
            if not message.get("more_body"):
                return


class Response:
    """One HTTP answer. ``body`` is bytes or a stream; the gateway adds Content-Length for bytes.

    ``cookies`` are Set-Cookie headers, the only ones that cannot be joined into one. ``upgrade`` makes a WebSocket of
    the connection of a request that has asked for it, and is given that (``gateway.websocket.Socket``).
    """

    __slots__ = ("body", "cookies", "headers", "status", "upgrade")

    def __init__(self, status: int = 200, headers: dict[str, str] | None = None, body: bytes | Stream = b"") -> None:
        self.status = status
        self.headers: dict[str, str] = headers if headers is not None else {}
        self.body = body
        self.cookies: list[str] = []
        self.upgrade: Callable[[Any], Awaitable[None]] | None = None


class BodyTooLarge(Exception):
    """The body is larger than this request may carry."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""
