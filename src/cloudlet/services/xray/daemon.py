"""What X-Ray's daemon is to its SDKs: segments come by UDP, questions about sampling by TCP at the same port.

https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html#xray-api-daemon
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from cloudlet.engines.containers.namespaces import listen
from cloudlet.errors import AwsError
from cloudlet.services.api import Call
from cloudlet.services.xray import segments

if TYPE_CHECKING:
    from cloudlet.services.xray.otlp import Otlp

log = logging.getLogger("cloudlet.xray")

PORT = 2000
_BUFFER = 4 << 20  # bytes that wait while we are busy
_PATIENCE = 10.0  # seconds for a question to arrive
_OPERATIONS = {"/GetSamplingRules": "GetSamplingRules", "/SamplingTargets": "GetSamplingTargets"}


class _Door(asyncio.DatagramProtocol):
    """One listener, for one account and region: datagrams do not say whose they are."""

    def __init__(self, service: Otlp, scope: str) -> None:
        self._service = service
        self._scope = scope
        self._server: asyncio.Server | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self.port = 0

    async def open(self, stream: socket.socket, datagrams: socket.socket) -> None:
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.port = stream.getsockname()[1]
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=datagrams)
        self._server = await asyncio.start_server(self._answer, sock=stream)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        header, _, text = data.partition(b"\n")
        try:
            if msgspec.json.decode(header) != {"format": "json", "version": 1}:
                return
            self._service.take(segments.read(self._scope, text, self._service.clock.offset))
        except msgspec.DecodeError:
            log.warning("X-Ray: a datagram without its header line")
        except segments.BadSegment as bad:
            log.warning("X-Ray: %s (%s)", bad, text[:200].decode(errors="replace"))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Questions of an SDK, one after the other."""
        try:
            while (asked := await asyncio.wait_for(_question(reader), _PATIENCE)) is not None:
                status, body = await self._ask(*asked)
                head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _ask(self, path: str, body: bytes) -> tuple[str, bytes]:
        if path not in _OPERATIONS:
            return "404 Not Found", b"{}"
        operation = _OPERATIONS[path]
        account, region = self._scope.split("/")
        try:
            input = self._service.cloud.conform("xray", operation, msgspec.json.decode(body or b"{}"))
            answer = await getattr(self._service, operation)(Call(account, region), input)
        except msgspec.DecodeError as error:
            return "400 Bad Request", msgspec.json.encode({"message": str(error)})
        except AwsError as error:
            return "400 Bad Request", msgspec.json.encode({"__type": error.code, "message": error.message})
        return "200 OK", msgspec.json.encode(answer)


async def _question(reader: asyncio.StreamReader) -> tuple[str, bytes] | None:
    """The path and the body of the next request, None at the end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    size = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
    return first.split(" ")[1], await reader.readexactly(size)


class Daemon:
    """All listeners: one for each account and region on this machine, and one in each pod that wants one."""

    def __init__(self, service: Otlp) -> None:
        self._service = service
        self._doors: dict[str, _Door] = {}
        self._opening = asyncio.Lock()

    async def address(self, scope: str) -> str:
        """Where this machine's programs send the segments of an account and region: port 2000 where it is free."""
        async with self._opening:
            door = self._doors.get(scope)
            if door is None:
                door = _Door(self._service, scope)
                await door.open(*_both())
                self._doors[scope] = door
        return f"127.0.0.1:{door.port}"

    async def open(self, pod: str, namespace: str, scope: str) -> None:
        """Listen in a pod's own network. Raises OSError."""
        key = f"pod {pod}"
        async with self._opening:
            if key in self._doors:
                return
            stream = await asyncio.to_thread(listen, namespace, "127.0.0.1", PORT)
            try:
                datagrams = await asyncio.to_thread(listen, namespace, "127.0.0.1", PORT, socket.SOCK_DGRAM)
            except OSError:
                stream.close()
                raise
            door = self._doors[key] = _Door(self._service, scope)
            await door.open(stream, datagrams)

    def close(self, pod: str) -> None:
        """A pod goes."""
        if (door := self._doors.pop(f"pod {pod}", None)) is not None:
            door.close()

    def stop(self) -> None:
        """Close all."""
        for door in self._doors.values():
            door.close()
        self._doors.clear()


def _both() -> tuple[socket.socket, socket.socket]:
    """A listener and a UDP socket at the same port of the loopback. Raises OSError."""
    tries = [PORT, *[0] * 10]
    for number, port in enumerate(tries):
        stream, datagrams = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            stream.bind(("127.0.0.1", port))
            datagrams.bind(stream.getsockname())
            stream.listen(16)
            stream.setblocking(False)
            datagrams.setblocking(False)
            return stream, datagrams
        except OSError:
            stream.close()
            datagrams.close()
            if number == len(tries) - 1:
                raise
    raise OSError("no free port")
