"""One address that DNS questions come to, by UDP and by TCP. Needs nothing but Python: ``front.py`` runs it too."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

_IDLE = 10.0  # seconds that a TCP connection may be silent

# Answers a message that came by "UDP" or "TCP" from a client's address, by handing the answer's bytes on.
Respond = Callable[[bytes, str, str, Callable[[bytes], None]], None]


class Listener:
    """A pair of sockets of one port."""

    def __init__(self, transport: asyncio.DatagramTransport, server: asyncio.Server, port: int) -> None:
        self._transport = transport
        self._server = server
        self.port = port

    @classmethod
    async def open(cls, respond: Respond, address: str, port: int) -> Listener:
        """Listen; port 0 picks a free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        stream = socket.socket(family, socket.SOCK_STREAM)
        datagram = socket.socket(family, socket.SOCK_DGRAM)
        try:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stream.bind((address, port))
            port = stream.getsockname()[1]
            datagram.bind((address, port))
            for one in (stream, datagram):
                one.setblocking(False)
            accepting = await loop.create_server(lambda: _Tcp(respond), sock=stream)
            transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(respond), sock=datagram)
        except BaseException:
            stream.close()
            datagram.close()
            raise
        return cls(transport, accepting, port)

    def close(self) -> None:
        """Stop listening."""
        self._transport.close()
        self._server.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._respond(data, "UDP", addr[0], lambda reply: self._send(reply, addr))

    def _send(self, reply: bytes, addr: tuple[str, int]) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(reply, addr)


class _Tcp(asyncio.Protocol):
    """One connection: messages with their lengths before them, answered as they become ready."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._buffer = b""
        self._client = ""
        self._transport: asyncio.Transport
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._client = (transport.get_extra_info("peername") or ("",))[0]
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._idle is not None:
            self._idle.cancel()

    def data_received(self, data: bytes) -> None:
        self._wait()
        self._buffer += data
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                return
            wire, self._buffer = self._buffer[2:end], self._buffer[end:]
            self._respond(wire, "TCP", self._client, self._send)

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(_IDLE, self._transport.close)

    def _send(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(len(reply).to_bytes(2, "big") + reply)
