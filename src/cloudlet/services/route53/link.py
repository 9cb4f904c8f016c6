"""The control plane's end of ``front.py``: the process is started or adopted, questions come, answers go."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudlet.control.supervisor import Supervisor
from cloudlet.services.route53.front import frame, frames, parse_question
from cloudlet.services.route53.listener import Respond

log = logging.getLogger("cloudlet.dns")

PROCESS = "dns"


@dataclass(slots=True, frozen=True)
class Address:
    """An address that the front listens on."""

    port: int

    def close(self) -> None:
        """The front ends as a whole, with the cloud."""


class Link:
    """One front of one cloud. It is started again when it dies, with all its addresses."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self._supervisor = supervisor
        self._folder = folder
        self._connection: _Connection | None = None
        self._ports: dict[str, int] = {}
        self._lock = asyncio.Lock()
        self._closing = False
        self._revival: asyncio.Task[None] | None = None

    async def listen(self, respond: Respond, address: str, port: int) -> Address:
        """Listen on an address; port 0 picks a free one. Raises OSError."""
        async with self._lock:
            connection = await self._connected(respond)
            self._ports[address] = await connection.listen(address, port)
            return Address(self._ports[address])

    def close(self) -> None:
        """Answer no more. The supervisor ends the process with the cloud."""
        self._closing = True
        if self._revival is not None:
            self._revival.cancel()
        if self._connection is not None:
            self._connection.close()

    async def _connected(self, respond: Respond) -> _Connection:
        if self._connection is not None:
            return self._connection
        self._folder.mkdir(parents=True, exist_ok=True)
        # A unix socket's path may have about a hundred bytes, a folder's any number.
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        path = f"/proc/self/fd/{folder}/front.sock"
        if not os.path.exists(f"/proc/self/fd/{folder}"):
            path = str(self._folder / "front.sock")
        try:
            if self._supervisor.has_leftover(PROCESS):
                self._run(0, respond)
            elif not any(child.name == PROCESS for child in self._supervisor.children):
                self._start(path, respond)
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_unix_connection(
                lambda: _Connection(respond, lambda: self._lost(respond)), path
            )
        finally:
            os.close(folder)
        self._connection = connection
        held = await connection.hello
        self._ports = {**self._ports, **held}
        return connection

    def _start(self, path: str, respond: Respond) -> None:
        if os.path.exists(path):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(path)
            os.chmod(path, 0o600)
            listening.listen()
            self._run(listening.fileno(), respond)

    def _run(self, descriptor: int, respond: Respond) -> None:
        self._supervisor.start(
            PROCESS,
            [sys.executable, "-m", "cloudlet.services.route53.front", str(descriptor)],
            env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            cwd=self._folder,
            lasting=True,
            on_exit=lambda child: self._lost(respond),
            pass_fds=[descriptor] if descriptor else [],
        )

    def _lost(self, respond: Respond) -> None:
        """The front or the connection to it has ended: both are there again at once, with all addresses."""
        self._connection = None
        if not self._closing and (self._revival is None or self._revival.done()):
            self._revival = asyncio.ensure_future(self._revive(respond))

    async def _revive(self, respond: Respond) -> None:
        for address, port in dict(self._ports).items():
            try:
                await self.listen(respond, address, port)
            except OSError as error:
                # The connection to a front that ends can go before it does; its end comes here once more.
                log.info("DNS does not listen on %s: %s", address, error)


class _Connection(asyncio.Protocol):
    """The stream to the front."""

    def __init__(self, respond: Respond, lost: Callable[[], None]) -> None:
        self._respond = respond
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport
        self._asked: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.hello: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in (self.hello, *self._asked.values()):
            if not waiting.done():
                waiting.set_exception(OSError("The DNS front has ended"))
        self._lost()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for number, body in frames(self._buffer):
            if number:
                self._answer(number, *parse_question(body))
            elif not self.hello.done():
                self.hello.set_result(json.loads(body))
            else:
                said = json.loads(body)
                self._asked.pop(said["address"]).set_result(said)

    async def listen(self, address: str, port: int) -> int:
        """Have the front listen on an address. Raises OSError."""
        self._asked[address] = asyncio.get_running_loop().create_future()
        self._transport.write(frame(0, json.dumps({"address": address, "port": port}).encode()))
        said = await self._asked[address]
        if "port" in said:
            return int(said["port"])
        raise OSError(said["errno"], said["error"])  # of the subclass of its number

    def close(self) -> None:
        self._transport.close()

    def _answer(self, number: int, protocol: str, client: str, wire: bytes) -> None:
        def send(reply: bytes) -> None:
            if not self._transport.is_closing():
                self._transport.write(frame(number, reply))

        self._respond(wire, protocol, client, send)
