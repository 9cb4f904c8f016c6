"""The DNS server: UDP and TCP on addresses of this machine, answers from our zones, everything else forwarded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from cloudlet.services.route53 import names
from cloudlet.services.route53.answers import HEALTH, Answer, Entry, Outside, Question, View, answer
from cloudlet.services.route53.forwarding import Forwarder, resolv_conf_lines
from cloudlet.services.route53.listener import Listener, Respond
from cloudlet.services.route53.messages import Exchange, read

log = logging.getLogger("cloudlet.dns")

PORT = 53
_ADDRESSES = (*(f"127.0.0.{last}" for last in range(2, 51)), "127.0.0.1")
_AT_ONCE = 200  # questions that wait for others' answers: each costs a millisecond, which our own must not wait for
_LOCAL_TTL = 5  # seconds
_MOST_OUTSIDE = 100  # other questions that one question may need answered first
_WELL = (Entry("", HEALTH, 0, ()),)
_FAILED = Answer("SERVFAIL")

# The addresses of a load balancer's name, or whether it is well; empty where there is none, or where it is not.
Balancers = Callable[[str, str], Awaitable[list[str]]]
# Hears of every question about our zones, and of its response's code.
Told = Callable[[Exchange, str], object]


class Listening(Protocol):
    """An address that is listened on."""

    @property
    def port(self) -> int: ...

    def close(self) -> None: ...


# Listens on an address and a port. Raises OSError.
Listen = Callable[[Respond, str, int], Awaitable[Listening]]


class DnsServer:
    """Starts with the first zone, or when it is asked for, and then with every start of the cloud."""

    def __init__(
        self,
        view: Callable[[dict[Question, tuple[Entry, ...]], str], View],
        balancers: Balancers,
        chosen: Callable[[str, int, bool], Awaitable[None]],
        resolv_conf: Path,
        forwarder: Forwarder | None = None,
        listen: Listen = Listener.open,
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
        self._open = listen
        self._listeners: dict[str, Listening] = {}
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
        self._listeners[address] = await self._open(self.respond, address, port)

    def _write_resolv_conf(self) -> None:
        """Write the file that sandboxes have as /etc/resolv.conf, in place, so that those that run see it."""
        lines = resolv_conf_lines()
        if self.port == PORT:  # the file can name no other
            kept = [line for line in lines if line.split()[:1] not in (["nameserver"], ["options"])]
            lines = [*kept, f"nameserver {self.address}", "options edns0"]
        self._resolv_conf.write_text("".join(f"{line}\n" for line in lines))


def _is_local(name: str) -> bool:
    return name == "localhost." or name.endswith(".localhost.")


def _is_ours(name: str) -> bool:
    return _is_local(name) or name.endswith("-127.0.0.1.")


def _is_balancer(name: str) -> bool:
    return name.endswith((".elb.localhost.", ".elb.amazonaws.com."))


def _addresses(name: str, kind: str, found: list[str]) -> tuple[Entry, ...]:
    fitting = tuple(one for one in found if (":" in one) == (kind == "AAAA"))
    return (Entry(name, kind, _LOCAL_TTL, fitting),) if fitting and kind in ("A", "AAAA") else ()
