"""The server with resolvers of a test's own: what is forwarded, what is not, and how long that may take."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from cloudlet.services.route53.answers import View
from cloudlet.services.route53.forwarding import Forwarder
from cloudlet.services.route53.index import Index
from cloudlet.services.route53.listener import Listener, Respond
from cloudlet.services.route53.names import BadName, canonical
from cloudlet.services.route53.records import RecordSet, Zone
from cloudlet.services.route53.serving import DnsServer


class Upstream(asyncio.DatagramProtocol):
    """A resolver that knows every name's address, or says nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        self.asked.append(query.question[0].name.to_text())
        if not self.silent:
            reply = dns.message.make_response(query, recursion_available=True)
            reply.answer = [dns.rrset.from_text(query.question[0].name, 7, "IN", "A", "1.2.3.4")]
            self.transport.sendto(reply.to_wire(), addr)  # type: ignore[attr-defined]


async def start(tmp_path: Path) -> tuple[DnsServer, Upstream, Index]:
    transport, upstream = await asyncio.get_running_loop().create_datagram_endpoint(
        Upstream, local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    index = Index()

    async def balancers(name: str, kind: str) -> list[str]:
        return ["127.64.0.7"] if name.startswith("shop-1.") else []

    async def chosen(address: str, port: int, further: bool) -> None:
        pass

    server = DnsServer(
        lambda known, client: View(index, lambda check: True, random.randrange, "us-east-1", known),
        balancers,
        chosen,
        tmp_path / "resolv.conf",
        Forwarder(lambda: [("127.0.0.1", port)], patience=0.3),
    )
    await server.ensure(("127.0.0.1", 0))
    return server, upstream, index


async def ask(server: DnsServer, name: str, kind: str = "A", tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    call = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await call(query, server.address, 5, server.port)


def values(found: dns.message.Message) -> list[str]:
    return [record.to_text() for rrset in found.answer for record in rrset]


async def test_forwarding(tmp_path: Path) -> None:
    server, upstream, index = await start(tmp_path)
    try:
        for tcp in (False, True):
            found = await ask(server, "python.example", tcp=tcp)
            assert values(found) == ["1.2.3.4"]
            assert not found.flags & dns.flags.AA
        assert upstream.asked == ["python.example."] * 2
        chaos = dns.message.make_query("version.bind", "TXT", "CH")
        refused = await dns.asyncquery.udp(chaos, server.address, 5, server.port)
        assert refused.rcode() == dns.rcode.REFUSED
        assert values(await ask(server, "shop-1.us-east-1.elb.localhost")) == ["127.64.0.7"]
        assert values(await ask(server, "other-1.us-east-1.elb.localhost")) == []
        assert values(await ask(server, "x.execute-api.localhost")) == ["127.0.0.1"]
        index.add(Zone("Z", "1", "shop.example.", "r", 0.0, [])).put(
            "www.shop.example.", [RecordSet("www.shop.example.", "CNAME", 60, ("far.example",))]
        )
        assert values(await ask(server, "www.shop.example")) == ["far.example.", "1.2.3.4"]
        assert values(await ask(server, "www.shop.example", tcp=True)) == ["far.example.", "1.2.3.4"]
        assert len(upstream.asked) == 4

        upstream.silent = True
        # Our own names are answered while others wait.
        waiting = asyncio.ensure_future(ask(server, "slow.example"))
        assert values(await ask(server, "a.localhost")) == ["127.0.0.1"]
        assert not waiting.done()
        assert (await waiting).rcode() == dns.rcode.SERVFAIL
    finally:
        server.close()
        upstream.transport.close()


async def test_where_port_53_may_not_be_bound(tmp_path: Path) -> None:
    async def restricted(respond: Respond, address: str, port: int) -> Listener:
        if port == 53:
            raise PermissionError(13, "Permission denied")
        return await Listener.open(respond, address, port)

    stored: list[tuple[str, int, bool]] = []

    async def chosen(address: str, port: int, further: bool) -> None:
        stored.append((address, port, further))

    async def balancers(name: str, kind: str) -> list[str]:
        return []

    def make() -> DnsServer:
        index = Index()
        return DnsServer(
            lambda known, client: View(index, lambda check: True, random.randrange, "us-east-1", known),
            balancers,
            chosen,
            tmp_path / "resolv.conf",
            listen=restricted,
        )

    server = make()
    await server.ensure()
    assert stored == [("127.0.0.1", server.port, False)]
    # No other port can be named there: sandboxes keep the system's resolvers.
    assert "127.0.0.1\n" not in (tmp_path / "resolv.conf").read_text()
    assert values(await ask(server, "a.localhost")) == ["127.0.0.1"]
    server.close()
    await asyncio.sleep(0.01)  # the loop closes sockets in its next turn
    again = make()
    await again.ensure(stored[0][:2])
    assert (again.address, again.port) == stored[0][:2]
    assert len(stored) == 1
    again.close()


async def test_one_more_address(tmp_path: Path) -> None:
    server, upstream, _ = await start(tmp_path)
    try:
        port = await server.listen_on("127.0.0.77")
        found = await dns.asyncquery.udp(dns.message.make_query("a.localhost", "A"), "127.0.0.77", 5, port)
        assert values(found) == ["127.0.0.1"]
        assert await server.listen_on("127.0.0.77") == port
        with pytest.raises(OSError):
            await server.listen_on("192.0.2.1")
    finally:
        server.close()
        upstream.transport.close()


def test_names() -> None:
    assert canonical("WWW.Example.COM") == "www.example.com."
    assert canonical("*.example.com.") == canonical("\\052.example.com") == "\\052.example.com."
    assert canonical("a/b.example") == "a\\057b.example."
    for bad in ("", "a..b", "x" * 64 + ".example", "a b.example", ".".join(["abcdefgh"] * 30)):
        with pytest.raises(BadName, match="FATAL problem"):
            canonical(bad)


async def test_nonsense(tmp_path: Path) -> None:
    server, upstream, index = await start(tmp_path)
    index.add(Zone("Z", "1", "shop.example.", "r", 0.0, [])).put(
        "www.shop.example.", [RecordSet("www.shop.example.", "A", 60, ("10.0.0.1",))]
    )
    chance = random.Random(7)
    good = dns.message.make_query("www.shop.example", "A", use_edns=0, options=[dns.edns.ECSOption("10.1.2.0", 24)])
    wires = [good.to_wire(), dns.message.make_query("a.b.shop.example", "MX").to_wire()]
    try:
        for number in range(5000):
            wire = bytearray(chance.choice(wires)) if number % 3 else bytearray(chance.randbytes(chance.randrange(80)))
            for _ in range(chance.randrange(6)):
                if wire:
                    wire[chance.randrange(len(wire))] = chance.randrange(256)
            del wire[chance.randrange(len(wire) + 1) :]
            replies: list[bytes] = []
            server.respond(bytes(wire), chance.choice(("UDP", "TCP")), "127.0.0.1", replies.append)
            assert len(replies) <= 1
        # A name that points to itself, more names than there are, a response, and another version of EDNS.
        header = bytes((0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        replies = []
        for wire in (
            header + b"\xc0\x0c\x00\x01\x00\x01",
            header[:5] + b"\xff" + header[6:],
            header[:2] + b"\x81" + header[3:],
        ):
            server.respond(wire, "UDP", "127.0.0.1", replies.append)
        assert [dns.message.from_wire(reply).rcode() for reply in replies] == [dns.rcode.FORMERR] * 2
        newer = dns.message.make_query("www.shop.example", "A", use_edns=1)
        answered = await dns.asyncquery.udp(newer, server.address, 5, server.port)
        assert answered.rcode() == dns.rcode.BADVERS
        transfer = dns.message.make_query("shop.example", "AXFR")
        assert (await dns.asyncquery.tcp(transfer, server.address, 5, server.port)).rcode() == dns.rcode.REFUSED
        found = await dns.asyncquery.udp(good, server.address, 5, server.port)
        assert (values(found), found.options) == (["10.0.0.1"], (dns.edns.ECSOption("10.1.2.0", 24, 24),))
    finally:
        server.close()
        upstream.transport.close()
