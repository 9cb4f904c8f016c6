"""HTTP over a unix socket to a container engine: short answers, endless streams, and connections taken over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

_CHUNK = 256 * 1024
_LONGEST_LINE = 16 * 1024 * 1024


class DaemonError(Exception):
    """The engine has refused; ``status`` is HTTP's, or 0 when it could not be reached."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Daemon:
    """The Docker API (or Podman's own beside it) on one socket. Each request has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The decoded answer, None when it has no body. ``body`` is sent as JSON. Raises DaemonError."""
        data = b"".join([piece async for piece in self.stream(method, path, query, body, headers)]).strip()
        return msgspec.json.decode(data) if data else None

    async def documents(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """An answer of JSON documents, one a line, as they come. Raises DaemonError."""
        rest = b""
        async for piece in self.stream(method, path, query, body, headers):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.strip():
                    yield msgspec.json.decode(line)
        if rest.strip():
            yield msgspec.json.decode(rest)

    async def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[bytes]:
        """The answer's bytes as they come. ``body`` is the path of a file, or sent as JSON. Raises DaemonError."""
        reader, writer = await self._send(method, path, query, body, dict(headers or {}))
        try:
            status, fields = await _head(reader)
            pieces = _pieces(reader, fields, status)
            if status >= 400:
                raise DaemonError(status, _message(status, b"".join([piece async for piece in pieces])))
            async for piece in pieces:
                yield piece
        except (OSError, asyncio.IncompleteReadError) as error:
            raise DaemonError(0, f"The container engine ended the connection: {error}") from None
        finally:
            writer.close()

    async def take_over(self, path: str, body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Begin a session in which both sides send raw bytes. Raises DaemonError."""
        upgrade = {"connection": "Upgrade", "upgrade": "tcp"}
        reader, writer = await self._send("POST", path, None, body, upgrade)
        try:
            status, fields = await _head(reader)
            if status >= 300:
                raise DaemonError(
                    status, _message(status, b"".join([p async for p in _pieces(reader, fields, status)]))
                )
        except (OSError, asyncio.IncompleteReadError) as error:
            writer.close()
            raise DaemonError(0, f"The container engine ended the connection: {error}") from None
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def _send(
        self, method: str, path: str, query: Mapping[str, Any] | None, body: Any, headers: dict[str, str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.path), limit=_LONGEST_LINE)
        except OSError as error:
            raise DaemonError(0, f"The container engine at {self.path} does not answer: {error.strerror}") from None
        target = path + (f"?{urlencode(query)}" if query else "")
        fields = {"host": "engine", "connection": "close", **headers}
        data = b""
        if isinstance(body, Path):
            fields |= {"content-type": "application/x-tar", "content-length": str(body.stat().st_size)}
        elif body is not None or method == "POST":
            data = msgspec.json.encode(body) if body is not None else b""
            fields |= {"content-type": "application/json", "content-length": str(len(data))}
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(head.encode() + b"\r\n" + data)
        try:
            if isinstance(body, Path):
                with body.open("rb") as file:
                    while piece := await asyncio.to_thread(file.read, _CHUNK):
                        writer.write(piece)
                        await writer.drain()
            await writer.drain()
        except OSError:
            # It answers before it has read everything: the answer says why.
            pass
        return reader, writer


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in head[1:] if line)
    return int(head[0].split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in fields}


async def _pieces(reader: asyncio.StreamReader, fields: dict[str, str], status: int) -> AsyncIterator[bytes]:
    if status in (204, 304):
        return
    if fields.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).split(b";")[0] or b"0", 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
    elif "content-length" in fields:
        left = int(fields["content-length"])
        while left:
            piece = await reader.read(min(left, _CHUNK))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece
    else:
        while piece := await reader.read(_CHUNK):
            yield piece


def _message(status: int, body: bytes) -> str:
    """What the engine says about its refusal."""
    try:
        document = msgspec.json.decode(body)
        return str(document.get("message") or document.get("cause") or document)
    except (msgspec.DecodeError, AttributeError):
        return body.decode(errors="replace").strip() or f"HTTP status {status}"
