"""Packets of a network namespace counted by nftables, in the table of its security groups: pure.

What the groups let through comes to chains behind theirs, and what they drop to chains that they jump to last; both
count in sets that are named by the second in which their window began. So a set says by itself what it counted since
when, also after a kill, and nothing is counted twice or lost when the next window begins, which is one transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from cloudlet.services.ec2.firewall import REJECTED, TABLE

_ROOM = 65535  # flows that a set can hold
_SYN, _FIN, _RST, _SYN_ACK = 2, 1, 4, 18
# A key ends with a number that says what its packets were: TCP's flags, and these bits.
_OUTWARDS, _REJECTED = 64, 128
_FLAGS = (
    ("tcp flags & (syn | ack) == syn", _SYN),
    ("tcp flags & (syn | ack) == syn | ack", _SYN_ACK),
    ("tcp flags & rst == rst", _RST),
    ("tcp flags & fin == fin", _FIN),
    ("meta l4proto tcp", 0),
)
_NUMBERS = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "sctp": 132, "udplite": 136}
# A redirection to a sidecar is not seen from outside: the ports are those that were asked for.
_SENT = "ct original ip saddr . ct original ip daddr . ct original proto-src . ct original proto-dst"
_ANSWERED = "ct original ip daddr . ct original ip saddr . ct original proto-dst . ct original proto-src"
# As at AWS, nothing is logged of what is said with its name servers and with the metadata service.
_UNLOGGED = [f"ip {side} {{ 127.127.0.0/16, 169.254.0.0/16 }} return" for side in ("saddr", "daddr")]
# The sets of a window, and their keys. A key has five parts at most.
_PORTS = "ipv4_addr . ipv4_addr . inet_service . inet_service . inet_service"
_SETS = {"tcp": _PORTS, "udp": _PORTS, "others": "ipv4_addr . ipv4_addr . inet_proto . inet_service"}
_CHAINS = (
    ("accepted_in", "type filter hook input priority 20; policy accept;", 0),
    ("accepted_out", "type filter hook output priority 20; policy accept;", _OUTWARDS),
    (REJECTED[False], "", _REJECTED),
    (REJECTED[True], "", _REJECTED | _OUTWARDS),
)


class Flow(NamedTuple):
    """The packets of one direction between two addresses and ports within a window, all let through or all dropped."""

    source: str
    target: str
    protocol: int
    source_port: int
    target_port: int
    is_outwards: bool
    is_accepted: bool
    flags: int = 0  # those of TCP that AWS tells, of all packets
    packets: int = 0
    bytes: int = 0


class Window(NamedTuple):
    """What was counted since a time."""

    start: int  # epoch seconds
    flows: list[Flow]
    is_full: bool  # so that some flows were not counted


def begin(start: int) -> str:
    """Count from now on in sets of a new window, in nft's language."""
    text = f"table ip {TABLE} {{\n"
    for kind, key in _SETS.items():
        text += f" set w{start}_{kind} {{ type {key}; flags dynamic; size {_ROOM}; counter; }}\n"
    text += "".join(f" chain {name} {{ {hook} }}\n" for name, hook, _ in _CHAINS) + "}\n"
    for name, _, bits in _CHAINS:
        text += f"flush chain ip {TABLE} {name}\ntable ip {TABLE} {{\n chain {name} {{\n"
        own = ["oif lo return", "fib daddr type local return"] if bits & _OUTWARDS else ["iif lo return"]
        lines = [*own, *_UNLOGGED, *_counts(f"w{start}", bits)]
        text += "".join(f"  {line}\n" for line in lines) + " }\n}\n"
    return text


def end(starts: Iterable[int]) -> str:
    """Take the sets of these windows away."""
    return "".join(f"delete set ip {TABLE} w{start}_{kind}\n" for start in starts for kind in _SETS)


def windows(listed: dict[str, Any]) -> list[Window]:
    """What the sets of the table hold, as ``nft --json list table`` shows it, in the order of time."""
    sets = {one["set"]["name"]: one["set"].get("elem", []) for one in listed["nftables"] if "set" in one}
    found = []
    for start in sorted({int(name[1:].partition("_")[0]) for name in sets if name.endswith("_others")}):
        held = {kind: sets.get(f"w{start}_{kind}", []) for kind in _SETS}
        flows = [_flow(kind, entry["elem"]) for kind, entries in held.items() for entry in entries]
        found.append(Window(start, list(_joined(flows)), any(len(entries) >= _ROOM for entries in held.values())))
    return found


def _counts(window: str, bits: int) -> Iterator[str]:
    for which, flags in _FLAGS:
        for direction, key in (("original", _SENT), ("reply", _ANSWERED)):
            yield f"{which} ct direction {direction} update @{window}_tcp {{ {key} . {bits | flags} }} return"
    for direction, key in (("original", _SENT), ("reply", _ANSWERED)):
        yield f"meta l4proto udp ct direction {direction} update @{window}_udp {{ {key} . {bits} }} return"
    # What belongs to no connection that the kernel knows.
    for kind in ("tcp", "udp"):
        key = f"ip saddr . ip daddr . {kind} sport . {kind} dport"
        yield f"meta l4proto {kind} update @{window}_{kind} {{ {key} . {bits} }} return"
    yield f"update @{window}_others {{ ip saddr . ip daddr . meta l4proto . {bits} }}"


def _flow(kind: str, entry: dict[str, Any]) -> Flow:
    source, target, *parts, bits = entry["val"]["concat"]
    first, second, protocol = (0, 0, parts[0]) if kind == "others" else (parts[0], parts[1], kind)
    number = protocol if isinstance(protocol, int) else _NUMBERS[protocol]
    flags, counter = bits & 31, entry["counter"]
    way = (bool(bits & _OUTWARDS), not bits & _REJECTED)
    return Flow(source, target, number, first, second, *way, flags, counter["packets"], counter["bytes"])


def _joined(flows: Iterable[Flow]) -> Iterator[Flow]:
    by_key: dict[tuple[Any, ...], list[Flow]] = defaultdict(list)
    for flow in flows:
        by_key[flow[:7]].append(flow)
    for same in by_key.values():
        flags = 0
        for one in same:
            flags |= one.flags
        packets, size = sum(one.packets for one in same), sum(one.bytes for one in same)
        yield same[0]._replace(flags=flags, packets=packets, bytes=size)
