"""The network between pods and this machine, where we may set it up: a bridge, namespaces, and ways to its loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

# What listens on these addresses of this machine (load balancers, our DNS server) is the same from within a pod.
SHARED = ("127.64.0.0/10", "127.0.0.2/32")
_POOL = ipaddress.IPv4Network("10.192.0.0/11")
_SIZE = 20  # bits: room for 4,000 pods
_SETTING = "/proc/sys/net/ipv4/conf/{}/route_localnet"


class Forward(NamedTuple):
    """A port of this machine that leads to one of a pod."""

    address: str
    port: int
    protocol: str
    pod: str
    target: int


class NetworkError(Exception):
    """The machine refuses; the message is that of the program that was asked."""


class Shared:
    """What is there as long as somebody needs it: made with the first, taken away with the last."""

    def __init__(self, open: Callable[[], Awaitable[object]], close: Callable[[], Awaitable[object]]) -> None:
        self._open = open
        self._close = close
        self._users: set[str] = set()
        self._lock = asyncio.Lock()
        self._is_open = False

    async def take(self, user: str) -> None:
        """See that it is there. Raises what making it raises."""
        async with self._lock:
            if not self._is_open:
                await self._open()
                self._is_open = True
            self._users.add(user)

    async def leave(self, user: str) -> None:
        """Need it no more."""
        async with self._lock:
            self._users.discard(user)
            if self._is_open and not self._users:
                self._is_open = False
                await self._close()


class HostReach:
    """Lets the pods behind one bridge reach what listens on this machine's loopback.

    The gateway's address stands for 127.0.0.1 and the addresses of ``SHARED`` for themselves. Only pods come this way:
    the rules name the bridge.
    """

    def __init__(self, table: str, bridge: str, gateway: str) -> None:
        self._table = table.replace("-", "_")
        self._bridge = bridge
        self._gateway = gateway

    @staticmethod
    def possible() -> bool:
        """Whether this machine lets us."""
        return os.geteuid() == 0 and all(shutil.which(program) is not None for program in ("ip", "nft", "nsenter"))

    async def open(self, subnet: str = "", forwards: Sequence[Forward] = ()) -> None:
        """Make the rules anew. See ``rules`` for the parameters. Raises NetworkError."""
        await command("nft", "-f", "-", given=rules(self._table, self._bridge, self._gateway, subnet, forwards))

    async def join(self, namespace: str) -> None:
        """Open the ways of one pod. What is there already is no error."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread(Path(_SETTING.format(self._bridge)).write_text, "1")
        # Else a bridge takes the lowest of its pods', and when that one goes the others do not find us for seconds.
        with contextlib.suppress(NetworkError):
            await command("ip", "link", "set", self._bridge, "address", hardware(self._gateway))
        # In the table where the kernel looks first, whose longest prefix wins over 127.0.0.0/8.
        routes = "".join(f"ip route replace {block} via {self._gateway} table local; " for block in SHARED)
        script = f"echo 1 > {_SETTING.format('all')}; {routes}"
        with contextlib.suppress(NetworkError):
            await command("nsenter", f"--net={namespace}", "sh", "-c", script)

    async def close(self) -> None:
        """Take the rules away."""
        with contextlib.suppress(NetworkError):
            await command("nft", "delete", "table", "ip", self._table)


class Bridge:
    """A bridge of our own, and a namespace for each pod at its ports."""

    def __init__(self, name: str, subnet: ipaddress.IPv4Network) -> None:
        self.name = name
        self.subnet = subnet
        self.gateway = str(subnet[1])

    async def open(self) -> None:
        """Make it, where it is not there. Raises NetworkError."""
        with contextlib.suppress(NetworkError):
            await command("ip", "link", "add", self.name, "type", "bridge")
        lines = f"link set {self.name} up\naddress replace {self.gateway}/{self.subnet.prefixlen} dev {self.name}\n"
        await command("ip", "-batch", "-", given=lines)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(Path("/proc/sys/net/ipv4/ip_forward").write_text, "1")

    async def add(self, namespace: str, device: str, address: str) -> None:
        """Make a namespace; with an address, also its connection. Raises NetworkError and leaves nothing then."""
        await command("ip", "netns", "add", namespace)
        lines = "link set lo up\n"
        try:
            if address:
                outside = (
                    f"link add {device} type veth peer name eth0 netns {namespace}\n"
                    f"link set {device} master {self.name} up\n"
                )
                await command("ip", "-batch", "-", given=outside)
                lines += (
                    f"link set eth0 address {hardware(address)}\n"
                    f"address add {address}/{self.subnet.prefixlen} dev eth0\n"
                    f"link set eth0 up\nroute add default via {self.gateway}\n"
                )
            await command("ip", "-netns", namespace, "-batch", "-", given=lines)
        except NetworkError:
            await self.remove(namespace)
            raise

    async def remove(self, namespace: str) -> None:
        """Remove a namespace and its connection; nothing when it is gone."""
        with contextlib.suppress(NetworkError):
            await command("ip", "netns", "delete", namespace)

    async def close(self) -> None:
        """Take the bridge away."""
        with contextlib.suppress(NetworkError):
            await command("ip", "link", "delete", self.name)


def hardware(address: str) -> str:
    """A hardware address that goes with an IP address: neighbours who knew its last owner find the next."""
    return ":".join(f"{part:02x}" for part in (2, 66, *ipaddress.IPv4Address(address).packed))


def rules(table: str, bridge: str, gateway: str, subnet: str, forwards: Sequence[Forward]) -> str:
    """What nft is told: all of a cloud's rules in one transaction, instead of those that are there.

    ``subnet`` are the pods that speak to the outside in this machine's name, ``forwards`` the ports of this machine
    that lead to pods; empty where an engine looks after both.
    """
    to = [f"ip daddr {one.address} {one.protocol} dport {one.port} dnat to {one.pod}:{one.target}" for one in forwards]
    inwards = [f'iifname "{bridge}" ip daddr {gateway} meta l4proto {{ tcp, udp }} dnat to 127.0.0.1', *to]
    outwards = []
    if subnet:
        outwards.append(f'ip saddr {subnet} oifname != "{bridge}" masquerade')
    if forwards:
        # What comes from 127.0.0.1 could not be answered by a pod.
        outwards.append(f'ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade')
    chains = (
        ("prerouting", "prerouting", -101, inwards),
        ("output", "output", -101, to),
        ("postrouting", "postrouting", 99, outwards),
    )
    text = f"table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n"
    for name, hook, priority, lines in chains:
        if lines:
            text += f" chain {name} {{\n  type nat hook {hook} priority {priority};\n"
            text += "".join(f"  {line}\n" for line in lines) + " }\n"
    return text + "}\n"


def free_subnet(cloud: str, taken: Sequence[ipaddress.IPv4Network] = ()) -> ipaddress.IPv4Network:
    """A block of addresses that this machine has no route to and that is not taken. Raises NetworkError."""
    blocks = list(_POOL.subnets(new_prefix=_SIZE))
    first = int(cloud[:8], 16) % len(blocks)
    others = [*taken, *_routes()]
    for block in blocks[first:] + blocks[:first]:
        if not any(block.overlaps(other) for other in others):
            return block
    raise NetworkError(f"no block of {_POOL} is free on this machine")


def _routes() -> list[ipaddress.IPv4Network]:
    try:
        lines = Path("/proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return []
    found = []
    for fields in map(str.split, lines):
        address, mask = (int.from_bytes(bytes.fromhex(fields[index]), "little") for index in (1, 7))
        if mask:
            found.append(ipaddress.IPv4Network((address, mask.bit_count())))
    return found


async def command(*argv: str, given: str = "") -> str:
    """Run a program and return what it prints. Raises NetworkError with its own words when it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if given else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise NetworkError(f"{argv[0]}: {error.strerror}") from None
    try:
        out, said = await process.communicate(given.encode() or None)
    except asyncio.CancelledError:
        # Whoever cleans up after this must find what it has done.
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise NetworkError(said.decode(errors="replace").strip() or f"{argv[0]} has failed")
    return out.decode()
