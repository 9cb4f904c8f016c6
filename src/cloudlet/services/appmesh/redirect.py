"""The rules of a task's network namespace that lead its traffic through Envoy, as App Mesh's proxyConfiguration says.

They are one table of nftables for IPv4 and IPv6, which is put there and taken away as a whole.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable

import msgspec

_TABLE = "cloudlet_appmesh"
_METADATA = ("169.254.170.2", "169.254.169.254", "fd00:ec2::254")  # never the mesh's business


class CannotRedirect(RuntimeError):
    """This machine cannot redirect traffic; the message says what to install or allow."""


class Redirect(msgspec.Struct, frozen=True):
    """Whose traffic is led where. What the user ``uid`` sends is left alone."""

    uid: int = 1337
    gid: int | None = None
    ingress_port: int = 15000
    egress_port: int = 15001
    app_ports: tuple[int, ...] = ()
    egress_ignored_ips: tuple[str, ...] = ()
    egress_ignored_ports: tuple[int, ...] = ()


def redirect_of(properties: Iterable[dict[str, str]]) -> Redirect:
    """The properties of a proxyConfiguration. Raises ValueError for one that is not a number where it has to be."""
    given = {one["name"]: one["value"] for one in properties if one.get("value")}
    return Redirect(
        uid=int(given.get("IgnoredUID", 1337)),
        gid=int(given["IgnoredGID"]) if "IgnoredGID" in given else None,
        ingress_port=int(given.get("ProxyIngressPort", 15000)),
        egress_port=int(given.get("ProxyEgressPort", 15001)),
        app_ports=tuple(int(port) for port in _listed(given.get("AppPorts", ""))),
        egress_ignored_ips=tuple(_listed(given.get("EgressIgnoredIPs", ""))),
        egress_ignored_ports=tuple(int(port) for port in _listed(given.get("EgressIgnoredPorts", ""))),
    )


def rules(redirect: Redirect, envoy: int | None = None) -> str:
    """The script for ``nft``. It replaces what an earlier one has made, all at once. ``envoy`` is whom Envoy runs as
    where that is not ``redirect.uid``."""
    users = sorted({redirect.uid, redirect.uid if envoy is None else envoy})
    outgoing = [f"meta skuid {uid} return" for uid in users]
    if redirect.gid is not None:
        outgoing.append(f"meta skgid {redirect.gid} return")
    for family, mark in (("ip", False), ("ip6", True)):
        ignored = [one for one in (*_METADATA, *redirect.egress_ignored_ips) if (":" in one) is mark]
        outgoing.append(f"{family} daddr {{ {', '.join(ignored)} }} return")
    if redirect.egress_ignored_ports:
        outgoing.append(f"tcp dport {{ {_joined(redirect.egress_ignored_ports)} }} return")
    outgoing += ["fib daddr type local return", f"meta l4proto tcp redirect to :{redirect.egress_port}"]
    incoming = []
    if redirect.app_ports:
        ports = _joined(redirect.app_ports)
        incoming.append(f"fib saddr type != local tcp dport {{ {ports} }} redirect to :{redirect.ingress_port}")
    return (
        f"table inet {_TABLE}\ndelete table inet {_TABLE}\ntable inet {_TABLE} {{\n"
        f" chain egress {{ type nat hook output priority -100; {'; '.join(outgoing)}; }}\n"
        f" chain ingress {{ type nat hook prerouting priority -100; {'; '.join(incoming)}{';' if incoming else ''} }}\n"
        "}\n"
    )


async def install(namespace: str, redirect: Redirect, envoy: int | None = None) -> None:
    """Put the rules into a network namespace, given by its path. Raises CannotRedirect."""
    await apply(namespace, rules(redirect, envoy))


async def remove(namespace: str) -> None:
    """Take the rules away; neither they nor the namespace have to be there."""
    try:
        await apply(namespace, f"table inet {_TABLE}\ndelete table inet {_TABLE}\n")
    except CannotRedirect:
        pass  # gone with its namespace


async def apply(namespace: str, script: str) -> None:
    """Have ``nft`` carry out a script in a network namespace, all or nothing of it. Raises CannotRedirect."""
    programs = {name: shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") for name in ("nsenter", "nft")}
    if missing := [name for name, path in programs.items() if path is None]:
        package = "nftables" if "nft" in missing else "util-linux"
        raise CannotRedirect(f"{missing[0]} is not installed here; install the package {package}")
    process = await asyncio.create_subprocess_exec(
        *(str(programs["nsenter"]), f"--net={namespace}", str(programs["nft"]), "-f", "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(script.encode())
    if process.returncode:
        raise CannotRedirect(f"traffic of {namespace} cannot be redirected: {said.decode(errors='replace').strip()}")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _joined(ports: tuple[int, ...]) -> str:
    return ", ".join(str(port) for port in ports)
