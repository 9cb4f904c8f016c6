"""A closed-loop load generator: each connection sends its next request when the last one is answered."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import httptools
import uvloop

# A script yields a request's bytes and is sent the answer's body; one cycle may take several requests.
# It yields None to say that a cycle is complete.
Script = Generator[bytes | None, bytes, None]


@dataclass(frozen=True)
class Result:
    """What one run showed: cycles per second, and seconds per cycle."""

    rate: float
    p50: float
    p99: float
    errors: int
    first_error: str = ""


def run(host: str, port: int, script: Callable[[int], Script], connections: int, seconds: float) -> Result:
    """Drive a server for some seconds after a short warm-up."""
    if connections == 1:
        # Without an event loop the generator's own share of a round trip is a third of what it is with one.
        return _run_one(host, port, script(0), seconds)
    return uvloop.run(_run(host, port, script, connections, seconds))


async def _run(host: str, port: int, script: Callable[[int], Script], connections: int, seconds: float) -> Result:
    loop = asyncio.get_running_loop()
    warm_up = min(1.0, seconds / 3)
    started = time.perf_counter()
    begin, end = started + warm_up, started + warm_up + seconds
    clients = [_Client(script(number), begin, end, loop.create_future()) for number in range(connections)]
    for client in clients:
        client.connect = lambda client=client: loop.create_connection(lambda: client, host, port)
        await client.connect()
    await asyncio.gather(*(asyncio.wait_for(client.done, seconds * 3 + 60) for client in clients))
    latencies = sorted(latency for client in clients for latency in client.latencies)
    errors = sum(client.errors for client in clients)
    first = next((client.first_error for client in clients if client.first_error), "")
    if not latencies:
        return Result(0.0, 0.0, 0.0, errors, first)
    count = len(latencies)
    return Result(count / seconds, latencies[count // 2], latencies[int(count * 0.99)], errors, first)


def _run_one(host: str, port: int, script: Script, seconds: float) -> Result:
    connection = _Connection(host, port)
    begin = time.perf_counter() + min(1.0, seconds / 3)
    end = begin + seconds
    latencies: list[float] = []
    started, errors, first = time.perf_counter(), 0, ""
    request = next(script)
    while True:
        while request is None:
            now = time.perf_counter()
            if started >= begin:
                latencies.append(now - started)
            if now >= end:
                connection.close()
                latencies.sort()
                count = len(latencies)
                return Result(count / seconds, latencies[count // 2], latencies[int(count * 0.99)], errors, first)
            started = now
            request = next(script)
        status, body = connection.ask(request)
        if status >= 300:
            errors, first = errors + 1, first or f"{status} {body[:200]!r}"
        request = script.send(body)


class _Connection:
    """A blocking connection that is opened again when the server has closed it."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket = socket.create_connection(self._address, timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and read its answer: the status and the body."""
        while True:
            try:
                self._socket.sendall(request)
                data = self._socket.recv(65536)
            except ConnectionError:
                data = b""
            if data:
                return self._read(data)
            self._socket.close()
            self.__init__(*self._address)  # type: ignore[misc]

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _read(self, data: bytes) -> tuple[int, bytes]:
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._socket.recv(65536)
        head = data[:end].lower()
        body = data[end + 4 :]
        at = head.find(b"content-length:")
        if at >= 0:
            size = int(head[at + 15 : (head + b"\r").find(b"\r", at)])
            while len(body) < size:
                body += self._socket.recv(65536)
        elif b"transfer-encoding: chunked" in head:
            while not body.endswith(b"0\r\n\r\n"):
                body += self._socket.recv(65536)
            body = _unchunked(body)
        return int(head[9:12]), body


def _unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
    return body


class _Client(asyncio.Protocol):
    def __init__(self, script: Script, begin: float, end: float, done: asyncio.Future[None]) -> None:
        self._script = script
        self._begin = begin
        self._end = end
        self.done = done
        self.latencies: list[float] = []
        self.errors = 0
        self.first_error = ""
        self.connect: Callable[[], Any]
        self._under_way: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # uvloop's own kind of transport
        self._transport: Any = transport
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        if self._under_way is not None:
            self._transport.write(self._under_way)
            return
        self._cycle_started = time.perf_counter()
        self._send(next(self._script))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        body, self._body = self._body, b""
        self._parser = httptools.HttpResponseParser(self)
        if status >= 300:
            self.errors += 1
            self.first_error = self.first_error or f"{status} {body[:200]!r}"
        self._send(self._script.send(body))

    def _send(self, request: bytes | None) -> None:
        while request is None:
            now = time.perf_counter()
            if now >= self._end:
                self._finish()
                return
            if self._cycle_started >= self._begin:
                self.latencies.append(now - self._cycle_started)
            self._cycle_started = now
            request = next(self._script)
        self._under_way = request
        self._transport.write(request)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        # Some servers close a connection after a number of requests: it goes on over another.
        if not self.done.done():
            if time.perf_counter() < self._end + 5:
                self._again = asyncio.ensure_future(self.connect())
            else:
                self.errors += 1
                self.first_error = self.first_error or f"the connection was closed: {exc}"
                self.done.set_result(None)
