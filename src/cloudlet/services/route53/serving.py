"""The DNS server: UDP and TCP on addresses of this machine, answers from our zones, everything else forwarded."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from cloudlet.services.route53 import names
from cloudlet.services.route53.answers import HEALTH, Answer, Entry, Outside, Question, View, answer
from cloudlet.services.route53.forwarding import Forwarder, resolv_conf_lines
from cloudlet.services.route53.messages import Exchange, read

log = logging.getLogger("cloudlet.dns")

PORT = 53
_ADDRESSES = (*(f"127.0.0.{last}" for last in range(2, 51)), "127.0.0.1")
_IDLE = 10.0  # seconds that a TCP connection may be silent
_AT_ONCE = 1000  # questions that wait for others' answers
_LOCAL_TTL = 5  # seconds
_MOST_OUTSIDE = 100  # other questions that one question may need answered first
_WELL = (Entry("", HEALTH, 0, ()),)
_FAILED = Answer("SERVFAIL")

# The addresses of a load balancer's name, or whether it is well; empty where there is none, or where it is not.
Balancers = Callable[[str, str], Awaitable[list[str]]]
# Hears of every question about our zones, and of its response's code.
Told = Callable[[Exchange, str], object]


class DnsServer:
    """Starts with the first zone, or when it is asked for, and then with every start of the cloud."""

    def __init__(
        self,
        view: Callable[[dict[Question, tuple[Entry, ...]], str], View],
        balancers: Balancers,
        chosen: Callable[[str, int, bool], Awaitable[None]],
        resolv_conf: Path,
        forwarder: Forwarder | None = None,
        told: Told = lambda *_: None,
    ) -> None:
        """``view`` is what answers depend on, given what is known from outside and the client's address. ``chosen``
        stores an address that is listened on, and whether it is a further one beside the server's own;
        ``resolv_conf`` is written for sandboxes."""
        self._view = view
        self._balancers = balancers
        self._chosen = chosen
        self._resolv_conf = resolv_conf
        self._forwarder = forwarder or Forwarder()
        self._told = told
        self._listeners: dict[str, _Listener] = {}
        self._wanted: tuple[str, int] | None = None
        self._starting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        self.port = 0

    async def ensure(self, wanted: tuple[str, int] | None = None) -> None:
        """Listen, at ``wanted`` if that can still be had. Raises OSError where no address can be had at all."""
        async with self._starting:
            if self.address:
                return
            for address, port in [*([wanted] if wanted else []), *((one, PORT) for one in _ADDRESSES)]:
                try:
                    await self._listen(address, port)
                    break
                except OSError as error:
                    if isinstance(error, PermissionError):
                        break
            if not self._listeners:
                await self._listen("127.0.0.1", 0)
            self.address, listener = next(iter(self._listeners.items()))
            self.port = listener.port
            self._forwarder.avoid.add((self.address, self.port))
            if (self.address, self.port) != wanted:
                await self._chosen(self.address, self.port, False)
            self._write_resolv_conf()

    async def listen_on(self, address: str) -> int:
        """Listen on one more address, and return the port: 53 where that may be had. Raises OSError."""
        await self.ensure()
        async with self._starting:
            if address not in self._listeners:
                try:
                    await self._listen(address, PORT)
                except PermissionError:
                    await self._listen(address, 0)
                await self._chosen(address, self._listeners[address].port, True)
            self._forwarder.avoid.add((address, self._listeners[address].port))
            return self._listeners[address].port

    def close(self) -> None:
        """Stop listening."""
        for listener in self._listeners.values():
            listener.close()
        for task in self._tasks:
            task.cancel()
        self._listeners.clear()
        self.address, self.port = "", 0

    async def address_of(self, host: str) -> str:
        """The address of a host, as our own answers give it. Raises OSError."""
        for kind in ("A", "AAAA"):
            found = await self.lookup(Question(names.canonical(host), kind))
            for entry in found.entries if found is not None else ():
                if entry.type == kind:
                    return entry.values[0]
        raise OSError(f"The name {host} could not be resolved")

    async def lookup(self, question: Question, client: str = "127.0.0.1") -> Answer | None:
        """The answer to a question about any name; None where the resolvers of this machine have none."""
        known: dict[Question, tuple[Entry, ...]] = {}
        for _ in range(_MOST_OUTSIDE):
            found = self._answer(question, known, client)
            if not isinstance(found, Outside):
                return found
            known[found.question] = await self.outside(found)
        return None

    async def outside(self, needed: Outside) -> tuple[Entry, ...]:
        """What is known of a name that is in no zone of ours."""
        name, kind = needed.question
        if _is_balancer(name):
            found = await self._balancers(name.rstrip("."), kind)
            return (_WELL if found else ()) if kind == HEALTH else _addresses(name, kind, found)
        if kind == HEALTH:
            return _WELL
        # SDKs put a word before the endpoint's host for some operations: data-127.0.0.1 for DiscoverInstances.
        # Everything else of AWS that an alias may lead to is served at our one endpoint.
        if _is_ours(name) or (needed.alias and name.endswith((".amazonaws.com.", ".cloudfront.net."))):
            return _addresses(name, kind, ["127.0.0.1"])
        return await self._forwarder.ask(name, kind)

    def _answer(
        self, question: Question, known: dict[Question, tuple[Entry, ...]], client: str
    ) -> Answer | Outside | None:
        found = answer(question, self._view(known, client))
        if found is not None:
            return found
        if question in known:
            return Answer("NOERROR", known[question])
        return Outside(question, alias=False)

    def respond(self, wire: bytes, protocol: str, client: str, send: Callable[[bytes], None]) -> None:
        """Answer a message that came by UDP or TCP, at once where our zones know the answer."""
        asked = read(wire, protocol, client)
        if isinstance(asked, bytes):
            send(asked)
        if not isinstance(asked, Exchange):
            return
        found = answer(asked.question, self._view({}, asked.client))
        if isinstance(found, Answer):
            self._told(asked, found.rcode)
            send(asked.answered(found))
        elif len(self._tasks) < _AT_ONCE:
            task = asyncio.ensure_future(self._respond_later(asked, found, send))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            send(asked.answered(_FAILED))

    async def _respond_later(self, asked: Exchange, found: Outside | None, send: Callable[[bytes], None]) -> None:
        try:
            if found is None and not _is_ours(asked.question.name):
                forwarded = await self._forwarder.forward(asked.message)
                send(asked.answered(_FAILED) if forwarded is None else asked.packed(forwarded))
                return
            final = await self.lookup(asked.question, asked.client) or _FAILED
            if found is not None:
                self._told(asked, final.rcode)
            send(asked.answered(final))
        except Exception:
            log.exception("the question for %s %s failed", *asked.question)
            send(asked.answered(_FAILED))

    async def _listen(self, address: str, port: int) -> None:
        self._listeners[address] = await _Listener.open(self, address, port)

    def _write_resolv_conf(self) -> None:
        """Write the file that sandboxes have as /etc/resolv.conf, in place, so that those that run see it."""
        lines = resolv_conf_lines()
        if self.port == PORT:  # the file can name no other
            kept = [line for line in lines if line.split()[:1] not in (["nameserver"], ["options"])]
            lines = [*kept, f"nameserver {self.address}", "options edns0"]
        self._resolv_conf.write_text("".join(f"{line}\n" for line in lines))


class _Listener:
    """One address, by UDP and by TCP."""

    def __init__(self, transport: asyncio.DatagramTransport, server: asyncio.Server, port: int) -> None:
        self._transport = transport
        self._server = server
        self.port = port

    @classmethod
    async def open(cls, server: DnsServer, address: str, port: int) -> _Listener:
        """Listen. Raises OSError."""
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
            accepting = await loop.create_server(lambda: _Tcp(server), sock=stream)
            transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(server), sock=datagram)
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
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.respond(data, "UDP", addr[0], lambda reply: self._send(reply, addr))

    def _send(self, reply: bytes, addr: tuple[str, int]) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(reply, addr)


class _Tcp(asyncio.Protocol):
    """One connection: messages with their lengths before them, answered as they become ready."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
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
            self._server.respond(wire, "TCP", self._client, self._send)

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(_IDLE, self._transport.close)

    def _send(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(len(reply).to_bytes(2, "big") + reply)


def _is_local(name: str) -> bool:
    return name == "localhost." or name.endswith(".localhost.")


def _is_ours(name: str) -> bool:
    return _is_local(name) or name.endswith("-127.0.0.1.")


def _is_balancer(name: str) -> bool:
    return name.endswith((".elb.localhost.", ".elb.amazonaws.com."))


def _addresses(name: str, kind: str, found: list[str]) -> tuple[Entry, ...]:
    fitting = tuple(one for one in found if (":" in one) == (kind == "AAAA"))
    return (Entry(name, kind, _LOCAL_TTL, fitting),) if fitting and kind in ("A", "AAAA") else ()
