"""A closed-loop load generator: each connection sends its next request when the last one is answered."""

from __future__ import annotations

import asyncio
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
    return uvloop.run(_run(host, port, script, connections, seconds))


async def _run(host: str, port: int, script: Callable[[int], Script], connections: int, seconds: float) -> Result:
    loop = asyncio.get_running_loop()
    warm_up = min(1.0, seconds / 3)
    started = time.perf_counter()
    begin, end = started + warm_up, started + warm_up + seconds
    clients = [_Client(script(number), begin, end, loop.create_future()) for number in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, host, port)
    await asyncio.gather(*(asyncio.wait_for(client.done, seconds * 3 + 60) for client in clients))
    latencies = sorted(latency for client in clients for latency in client.latencies)
    errors = sum(client.errors for client in clients)
    first = next((client.first_error for client in clients if client.first_error), "")
    if not latencies:
        return Result(0.0, 0.0, 0.0, errors, first)
    count = len(latencies)
    return Result(count / seconds, latencies[count // 2], latencies[int(count * 0.99)], errors, first)


class _Client(asyncio.Protocol):
    def __init__(self, script: Script, begin: float, end: float, done: asyncio.Future[None]) -> None:
        self._script = script
        self._begin = begin
        self._end = end
        self.done = done
        self.latencies: list[float] = []
        self.errors = 0
        self.first_error = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # uvloop's own kind of transport
        self._transport: Any = transport
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
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
        self._transport.write(request)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.errors += 1
            self.first_error = self.first_error or f"the connection was closed: {exc}"
            self.done.set_result(None)
