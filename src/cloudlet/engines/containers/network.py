"""The network between pods and this machine, where we may set it up: a bridge, namespaces, and ways to its loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import shutil
from pathlib import Path

# What listens on these addresses of this machine (load balancers, our DNS server) is the same from within a pod.
SHARED = ("127.64.0.0/10", "127.0.0.2/32")
_POOL = ipaddress.IPv4Network("10.192.0.0/11")
_SIZE = 20  # bits: room for 4,000 pods
_SETTING = "/proc/sys/net/ipv4/conf/{}/route_localnet"


class NetworkError(Exception):
    """The machine refuses; the message is that of the program that was asked."""


class HostReach:
    """Lets the pods behind one bridge reach what listens on this machine's loopback.

    The gateway's address stands for 127.0.0.1 and the addresses of ``SHARED`` for themselves. Only pods come this way:
    the rules name the bridge.
    """

    def __init__(self, table: str, bridge: str, gateway: str) -> None:
        self._table = table.replace("-", "_")
        self._bridge = bridge
        self._gateway = gateway

    async def open(self) -> bool:
        """Make the rules; False where this machine does not let us."""
        if os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("nsenter") is None:
            return False
        rules = (
            f"table ip {self._table}\ndelete table ip {self._table}\n"
            f"table ip {self._table} {{\n chain prerouting {{\n  type nat hook prerouting priority -101;\n"
            f'  iifname "{self._bridge}" ip daddr {self._gateway} meta l4proto {{ tcp, udp }} dnat to 127.0.0.1\n'
            " }\n}\n"
        )
        try:
            await command("nft", "-f", "-", given=rules)
        except NetworkError:
            return False
        return True

    async def join(self, namespace: str) -> None:
        """Open the ways of one pod. What is there already is no error."""
        with contextlib.suppress(OSError):
            await asyncio.to_thread(Path(_SETTING.format(self._bridge)).write_text, "1")
        # In the table where the kernel looks first, whose longest prefix wins over 127.0.0.0/8.
        routes = "".join(f"ip route replace {block} via {self._gateway} table local; " for block in SHARED)
        script = f"echo 1 > {_SETTING.format('all')}; {routes}"
        with contextlib.suppress(NetworkError):
            await command("nsenter", f"--net={namespace}", "sh", "-c", script)

    async def close(self) -> None:
        """Take the rules away."""
        with contextlib.suppress(NetworkError):
            await command("nft", "delete", "table", "ip", self._table)


def subnets(cloud: str) -> list[ipaddress.IPv4Network]:
    """Blocks of addresses that this machine has no route to, in an order of this cloud's own."""
    blocks = list(_POOL.subnets(new_prefix=_SIZE))
    first = int(cloud[:8], 16) % len(blocks) if cloud else 0
    taken = _routes()
    return [block for block in blocks[first:] + blocks[:first] if not any(block.overlaps(other) for other in taken)]


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
    out, said = await process.communicate(given.encode() or None)
    if process.returncode:
        raise NetworkError(said.decode(errors="replace").strip() or f"{argv[0]} has failed")
    return out.decode()
