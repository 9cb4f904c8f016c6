"""The protocol between AWS's session-manager-plugin and what runs a command: messages over a WebSocket.

Each message has a header (big-endian) and a payload. Data messages are numbered on each side from 0, acknowledged by
the other, and sent again until they are: a client takes none while it gets itself ready.
https://github.com/aws/session-manager-plugin
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

INPUT, OUTPUT, ACKNOWLEDGE, CLOSED = "input_stream_data", "output_stream_data", "acknowledge", "channel_closed"
# Kinds of payload.
DATA, SIZE, HANDSHAKE_REQUEST, HANDSHAKE_RESPONSE, HANDSHAKE_COMPLETE, FLAG = 1, 3, 5, 6, 7, 10
TERMINATE = 2  # what a FLAG says when the client ends the session

# Header's length, type, version, created (ms), number, flags, id, digest, kind of payload, payload's length.
_HEADER = struct.Struct(">I32sIQqQ16s32sII")
_HEADER_LENGTH = _HEADER.size - 4
_AGAIN = 0.2  # seconds after which what is not acknowledged is sent again
_WINDOW = 64  # messages that wait for their acknowledgement


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the channel."""

    type: str
    payload: bytes = b""
    kind: int = 0
    number: int = 0
    flags: int = 0
    created: int = 0  # epoch milliseconds
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    def encode(self) -> bytes:
        """As it goes over the wire. The halves of its id are exchanged there."""
        id, digest = self.id.bytes, hashlib.sha256(self.payload).digest()
        head = _HEADER.pack(
            *(_HEADER_LENGTH, self.type.encode().ljust(32), 1, self.created, self.number, self.flags),
            *(id[8:] + id[:8], digest, self.kind, len(self.payload)),
        )
        return head + self.payload


def decode(data: bytes) -> Message:
    """A message of the wire. Raises ValueError."""
    if len(data) < _HEADER.size:
        raise ValueError("A message is shorter than its header.")
    length, type, _, created, number, flags, id, digest, kind, size = _HEADER.unpack_from(data)
    payload = data[length + 4 : length + 4 + size]
    if payload and hashlib.sha256(payload).digest() != digest:
        raise ValueError("A message's payload is not what its digest says.")
    name = type.decode("ascii", "replace").strip(" \0")
    return Message(name, payload, kind, number, flags, created, uuid.UUID(bytes=id[8:] + id[:8]))


def is_end(message: Message) -> bool:
    """Whether a flag of the client's ends the session."""
    return int.from_bytes(message.payload, "big") == TERMINATE


class Channel:
    """Our end: ``send`` waits while too much is not acknowledged, ``take`` gives a client's data once and in order."""

    def __init__(self, socket: Any, now: Callable[[], float]) -> None:
        self._socket = socket
        self._now = now
        self._sent = 0
        self._expected = 0
        self._waiting: dict[int, bytes] = {}  # what is not acknowledged, the oldest first
        self._early: dict[int, Message] = {}
        self._room = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None

    async def send(self, kind: int, payload: bytes) -> None:
        """Send one data message; returns at once when the connection is over."""
        while len(self._waiting) >= _WINDOW and not self._socket.is_over():
            self._room.clear()
            await self._room.wait()
        data = Message(OUTPUT, payload, kind, self._sent, created=self._created()).encode()
        self._waiting[self._sent] = data
        self._sent += 1
        self._socket.send(data)
        self._send_again_later()

    def take(self, data: bytes) -> list[Message]:
        """The data messages that a client's message makes complete, each once. Raises ValueError."""
        message = decode(data)
        if message.type == ACKNOWLEDGE:
            self._waiting.pop(json.loads(message.payload)["AcknowledgedMessageSequenceNumber"], None)
            self._room.set()
            return []
        if message.type != INPUT:
            return []
        self._acknowledge(message)
        if message.number >= self._expected:
            self._early[message.number] = message
        made = []
        while (found := self._early.pop(self._expected, None)) is not None:
            made.append(found)
            self._expected += 1
        return made

    async def drain(self) -> None:
        """Wait until the client has everything, or is gone."""
        while self._waiting and not self._socket.is_over():
            self._room.clear()
            await self._room.wait()

    def close(self, session: str, text: str = "") -> None:
        """Tell the client that the session is over, and why."""
        content = {
            "MessageType": CLOSED,
            "MessageId": str(uuid.uuid4()),
            "CreatedDate": str(self._created()),
            "SessionId": session,
            "SchemaVersion": 1,
            "Output": text,
        }
        self._socket.send(Message(CLOSED, json.dumps(content).encode(), created=self._created()).encode())
        self.over()

    def over(self) -> None:
        """The connection is over: whoever waits goes on."""
        if self._again is not None:
            self._again.cancel()
        self._room.set()

    def _acknowledge(self, message: Message) -> None:
        content = {
            "AcknowledgedMessageType": message.type,
            "AcknowledgedMessageId": str(message.id),
            "AcknowledgedMessageSequenceNumber": message.number,
            "IsSequentialMessage": True,
        }
        made = Message(ACKNOWLEDGE, json.dumps(content).encode(), flags=3, created=self._created())
        self._socket.send(made.encode())

    def _send_again_later(self) -> None:
        if self._again is None:
            self._again = asyncio.get_running_loop().call_later(_AGAIN, self._send_again, min(self._waiting))

    def _send_again(self, oldest: int) -> None:
        """Once more what has waited the longest, if that is still the same; as long as anything waits."""
        self._again = None
        if self._socket.is_over():
            self._room.set()
            return
        if oldest in self._waiting:
            for data in self._waiting.values():
                self._socket.send(data)
        if self._waiting:
            self._send_again_later()

    def _created(self) -> int:
        return int(self._now() * 1000)
