"""The process that DNS questions come to. It outlives the control plane, as Envoy does, and so do names.

    python -m cloudlet.services.route53.front FD

It asks the control plane, over the listening unix socket ``FD``, and remembers the answers. While there is no control
plane, a question that was asked before gets the answer that it got last (as in RFC 8767), any other waits for it.

On the wire, in both directions: ``length number body``. Number 0 is about addresses, in JSON: the front first says
which it has; it is told of another to listen on, and says at which port, or why not. All other numbers are questions:
the body is ``protocol client message`` one way, and the answer's message the other.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from cloudlet.services.route53.listener import Listener

HEAD = struct.Struct("!II")
_MOST_REMEMBERED = 4096
_MOST_WAITING = 1000
_SERVFAIL = 2


def frame(number: int, body: bytes) -> bytes:
    """One message of the wire."""
    return HEAD.pack(len(body), number) + body


def frames(buffer: bytearray) -> list[tuple[int, bytes]]:
    """The complete messages, taken out of a buffer."""
    found = []
    while len(buffer) >= HEAD.size:
        length, number = HEAD.unpack_from(buffer)
        end = HEAD.size + length
        if len(buffer) < end:
            break
        found.append((number, bytes(buffer[HEAD.size : end])))
        del buffer[:end]
    return found


def question(protocol: str, client: str, wire: bytes) -> bytes:
    """A question's body."""
    return f"{protocol} {client} ".encode() + wire


def parse_question(body: bytes) -> tuple[str, str, bytes]:
    """A question's protocol, client and message."""
    protocol, client, wire = body.split(b" ", 2)
    return protocol.decode(), client.decode(), wire


class Front:
    """What listens, what was answered, and who answers."""

    def __init__(self) -> None:
        self._listeners: dict[str, Listener] = {}
        self._remembered: dict[bytes, bytes] = {}
        self._waiting: dict[int, tuple[bytes, Callable[[bytes], None]]] = {}
        self._number = 0
        self._control: _Control | None = None

    def respond(self, wire: bytes, protocol: str, client: str, send: Callable[[bytes], None]) -> None:
        """Have the control plane answer; without it, answer as it did last.

        What nobody answers, a response, goes no further. A flood is dropped here, as it would be at a full socket:
        whoever asks in earnest asks again.
        """
        if len(wire) < 12 or wire[2] & 0x80:
            return
        body = question(protocol, client, wire)
        if self._control is None and self._recall(body, send):
            return
        if len(self._waiting) >= _MOST_WAITING:
            if self._control is not None:
                return
            del self._waiting[next(iter(self._waiting))]
        self._number = self._number % 0xFFFFFFFF + 1
        self._waiting[self._number] = body, send
        if self._control is not None:
            self._control.send(self._number, body)

    def joined(self, control: _Control) -> None:
        """A control plane is there: it hears what is listened on, and every question that waits."""
        self._control = control
        ports = {address: listener.port for address, listener in self._listeners.items()}
        control.send(0, json.dumps(ports).encode())
        for number, (body, _) in self._waiting.items():
            control.send(number, body)

    def left(self, control: _Control) -> None:
        """It has gone: what it had not answered yet is answered from memory, as far as that goes."""
        if self._control is control:
            self._control = None
            for number, (body, send) in list(self._waiting.items()):
                if self._recall(body, send):
                    del self._waiting[number]

    def answered(self, number: int, reply: bytes) -> None:
        """The control plane's answer to a question."""
        body, send = self._waiting.pop(number, (b"", None))
        if send is not None:
            send(reply)
            if len(reply) > 3 and reply[3] & 0xF != _SERVFAIL:
                self._remember(body, reply)

    async def listen(self, address: str, port: int) -> dict[str, Any]:
        """Listen on one more address; the port, or the error's number."""
        try:
            if address not in self._listeners:
                self._listeners[address] = await Listener.open(self.respond, address, port)
        except OSError as error:
            return {"address": address, "errno": error.errno, "error": str(error)}
        return {"address": address, "port": self._listeners[address].port}

    def _remember(self, body: bytes, reply: bytes) -> None:
        key = _key(body)
        self._remembered.pop(key, None)  # the newest is the last
        if len(self._remembered) >= _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[key] = reply[2:]

    def _recall(self, body: bytes, send: Callable[[bytes], None]) -> bool:
        known = self._remembered.get(_key(body))
        if known is not None:
            send(parse_question(body)[2][:2] + known)
        return known is not None


def _key(body: bytes) -> bytes:
    """What makes two questions the same: everything but the message's id."""
    protocol, client, wire = parse_question(body)
    return question(protocol, client, wire[2:])


class _Control(asyncio.Protocol):
    """The connection of a control plane; there is one at a time."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._buffer = bytearray()
        self._transport: asyncio.Transport
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._front.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.left(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for number, body in frames(self._buffer):
            if number:
                self._front.answered(number, body)
            else:
                task = asyncio.ensure_future(self._listen(**json.loads(body)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def send(self, number: int, body: bytes) -> None:
        """Send one message."""
        self._transport.write(frame(number, body))

    async def _listen(self, address: str, port: int) -> None:
        self.send(0, json.dumps(await self._front.listen(address, port)).encode())


async def serve(descriptor: int) -> None:
    """Serve until this process is ended."""
    front = Front()
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: _Control(front), sock=socket.socket(fileno=descriptor))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
