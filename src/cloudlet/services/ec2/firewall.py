"""What the security groups of an interface let in and out, as nftables' rules for its network namespace: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, collapse_addresses

from cloudlet.services.ec2.rules import Rule

TABLE = "cloudlet_groups"
REJECTED = {False: "rejected_in", True: "rejected_out"}  # where what is dropped is counted, by whether it goes out
# What reaches this machine's own services from a pod: load balancers, databases, brokers, caches.
_HERE = ("127.0.0.0/8",)
_NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1}
_ANYWHERE = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True)
class Peer:
    """Something that has security groups. ``blocks`` are those of its subnets: a rule for one of them means it."""

    address: str
    groups: frozenset[str]
    blocks: tuple[str, ...] = ()


def script(
    rules: Iterable[Rule],
    peers: Sequence[Peer],
    gateway: str,
    prefixes: Mapping[str, Sequence[str]] | None = None,
    proxies: Mapping[bool, Iterable[tuple[int, int]]] | None = None,
    is_counted: bool = False,
) -> str:
    """The rules in nft's language: all of a namespace's at once, instead of those that are there.

    ``rules`` are those of all groups of the interface, as DescribeSecurityGroupRules shows them; ``gateway`` is this
    machine's address as the pod sees it; ``prefixes`` are the blocks of prefix lists. ``proxies`` are ports of
    sidecars, each with the port that it stands for: the pod's own (False), and those that it sends to (True). What is
    not let through is dropped, so a connection times out as at AWS; answers pass, and what is connected stays so.
    ``is_counted``: for a flow log, whose sets and chains in the table stay as they are.
    """
    inwards: list[str] = []
    outwards: list[str] = []
    for rule in rules:
        if (protocol := _protocol(rule)) is None:
            continue
        stood_for = _proxied(rule, (proxies or {}).get(rule["IsEgress"], ()))
        blocks = _peers(rule, peers, prefixes or {})
        if rule["IsEgress"]:
            # The groups of this machine's services are not asked: what a task may send to anyone, it may send there.
            blocks = _joined([*blocks, IPv4Network(gateway), *map(IPv4Network, _HERE)])
        if blocks:
            side = "ct original ip daddr" if rule["IsEgress"] else "ip saddr"
            where = [] if _ANYWHERE in blocks else [f"{side} {{ {', '.join(map(_text, blocks))} }}"]
            for which in (protocol, *stood_for):
                (outwards if rule["IsEgress"] else inwards).append(" ".join([*which, *where, "accept"]))
    # AWS's own name servers and metadata are outside of security groups.
    free = ["ip daddr 127.127.0.0/16 th dport 53 accept", "ip daddr 169.254.0.0/16 accept"]
    chains = (("inwards", "input", "iif", inwards), ("outwards", "output", "oif", outwards))
    text = _kept() if is_counted else cleared()
    text += f"table ip {TABLE} {{\n"
    for chain, hook, own, lines in chains:
        always = ["ct state established,related accept", f"{own} lo accept", *(free if hook == "output" else ())]
        last = [f"jump {REJECTED[hook == 'output']}"] if is_counted else []
        text += f" chain {chain} {{\n  type filter hook {hook} priority 10; policy drop;\n"
        text += "".join(f"  {line}\n" for line in [*always, *dict.fromkeys(lines), *last]) + " }\n"
    return text + "}\n"


def _kept() -> str:
    """What empties the chains of rules and keeps the rest of the table; it need not be there."""
    text = f"table ip {TABLE} {{\n"
    for chain, hook in (("inwards", "input"), ("outwards", "output")):
        text += f" chain {chain} {{ type filter hook {hook} priority 10; policy drop; }}\n"
    text += "".join(f" chain {name} {{ }}\n" for name in REJECTED.values()) + "}\n"
    return text + "".join(f"flush chain ip {TABLE} {chain}\n" for chain in ("inwards", "outwards"))


def is_counted(text: str) -> bool:
    """Whether these rules are those of something that is counted."""
    return f"jump {REJECTED[True]}" in text


def cleared() -> str:
    """What takes the rules away; they need not be there."""
    return f"table ip {TABLE}\ndelete table ip {TABLE}\n"


def _protocol(rule: Rule) -> list[str] | None:
    """The part of a line that chooses protocol and ports; None for what pods do not speak: IPv6.

    A port is the one that was asked for: a sidecar's redirection may have changed it since.
    """
    protocol, first, last = rule["IpProtocol"], rule.get("FromPort", -1), rule.get("ToPort", -1)
    if protocol == "-1":
        return []
    if protocol in ("icmpv6", "58"):
        return None
    which = [f"meta l4proto {_NUMBERS.get(protocol, protocol)}"]
    if protocol == "icmp":
        which += [f"icmp type {first}"] if first != -1 else []
        which += [f"icmp code {last}"] if first != -1 and last != -1 else []
    elif protocol in ("tcp", "udp") and (first, last) not in ((-1, -1), (0, 65535)):
        which.append(f"ct original proto-dst {first}" + (f"-{last}" if last != first else ""))
    return which


def _proxied(rule: Rule, proxies: Iterable[tuple[int, int]]) -> list[list[str]]:
    """The same part for the ports of sidecars that stand for the rule's ports."""
    if rule["IpProtocol"] != "tcp" or rule["FromPort"] == -1:
        return []
    ports = sorted({port for port, real in proxies if rule["FromPort"] <= real <= rule["ToPort"]})
    return [["meta l4proto 6", f"ct original proto-dst {port}"] for port in ports]


def _peers(rule: Rule, peers: Sequence[Peer], prefixes: Mapping[str, Sequence[str]]) -> list[IPv4Network]:
    """The blocks of addresses that a rule is about."""
    if (info := rule.get("ReferencedGroupInfo")) is not None:
        return _joined(IPv4Network(peer.address) for peer in peers if info["GroupId"] in peer.groups)
    given = prefixes.get(rule["PrefixListId"], ()) if "PrefixListId" in rule else [rule.get("CidrIpv4", "")]
    blocks = [IPv4Network(block) for block in given if block and ":" not in block]
    inside = [
        IPv4Network(peer.address)
        for peer in peers
        if any(IPv4Network(own).subnet_of(block) for own in peer.blocks for block in blocks)
    ]
    return _joined([*blocks, *inside])


def _joined(blocks: Iterable[IPv4Network]) -> list[IPv4Network]:
    return list(collapse_addresses(blocks))


def _text(block: IPv4Network) -> str:
    return str(block.network_address) if block.prefixlen == 32 else str(block)
