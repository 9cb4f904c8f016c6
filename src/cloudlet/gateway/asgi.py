"""The gateway as an ASGI application, so that the HTTP server can be exchanged."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from cloudlet.gateway.pipeline import Gateway
from cloudlet.http import ClientGone, Request, Response

log = logging.getLogger("cloudlet.gateway")

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Application:
    """ASGI in, ``Gateway.handle``, ASGI out."""

    def __init__(self, gateway: Gateway) -> None:
        self._handle = gateway.handle

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["type"] != "http":
            return
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        client = scope.get("client")
        request = Request(
            scope["method"],
            scope["raw_path"].decode("latin-1"),
            scope["query_string"].decode("latin-1"),
            headers,
            scheme=scope["scheme"],
            client=client[0] if client else "",
            raw_headers=scope["headers"],
            receive=receive,
        )
        try:
            response = await self._handle(request)
            await _send(response, request.method, send)
        except ClientGone:
            return


async def _send(response: Response, method: str, send: Send) -> None:
    body, headers = response.body, response.headers
    raw = [(name.lower().encode("latin-1"), str(value).encode("utf-8")) for name, value in headers.items()]
    for cookie in response.cookies:
        raw.append((b"set-cookie", cookie.encode("utf-8")))
    if isinstance(body, bytes):
        if response.status not in (204, 304) and "content-length" not in headers and "Content-Length" not in headers:
            raw.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
        return
    await send({"type": "http.response.start", "status": response.status, "headers": raw})
    if method != "HEAD":
        async for chunk in body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
