"""Security groups as nftables' rules."""

from __future__ import annotations

from typing import Any

from cloudlet.services.ec2.firewall import Peer, cleared, script

GATEWAY = "10.192.0.1"
PEERS = [
    Peer("10.192.0.2", frozenset({"sg-web"}), ("10.0.1.0/24",)),
    Peer("10.192.0.3", frozenset({"sg-web", "sg-db"}), ("10.0.2.0/24",)),
    Peer(GATEWAY, frozenset({"sg-alb"}), ("10.0.9.0/24",)),
]


def rule(protocol: str = "tcp", first: int = 80, last: int = 80, *, egress: bool = False, **peer: Any) -> Any:
    return {"IpProtocol": protocol, "FromPort": first, "ToPort": last, "IsEgress": egress, **peer}


def of_group(id: str) -> dict[str, Any]:
    return {"ReferencedGroupInfo": {"GroupId": id, "UserId": "000000000000"}}


def lines(chain: str, *rules: Any, **prefixes: list[str]) -> list[str]:
    """What a chain lets through beside what it always does."""
    text = script(rules, PEERS, GATEWAY, {id.replace("_", "-"): blocks for id, blocks in prefixes.items()})
    assert text.startswith(cleared())
    part = text.partition(f"chain {chain} {{")[2].partition("}\n")[0]
    assert "policy drop" in part
    return [line for each in part.splitlines()[2:] if (line := each.strip()) and "established" not in line][
        1 if chain == "inwards" else 3 :
    ]


def test_nothing_is_let_in_without_a_rule() -> None:
    assert lines("inwards") == []
    assert lines("outwards") == []
    assert lines("inwards", rule(CidrIpv6="::/0")) == []
    assert lines("inwards", rule(**of_group("sg-nobody"))) == []


def test_rules_say_protocols_ports_and_peers() -> None:
    assert lines("inwards", rule(CidrIpv4="0.0.0.0/0")) == ["meta l4proto 6 ct original proto-dst 80 accept"]
    assert lines("inwards", rule("-1", -1, -1, CidrIpv4="0.0.0.0/0")) == ["accept"]
    assert lines("inwards", rule("udp", 53, 54, CidrIpv4="192.0.2.0/24")) == [
        "meta l4proto 17 ct original proto-dst 53-54 ip saddr { 192.0.2.0/24 } accept"
    ]
    assert lines("inwards", rule("icmp", 8, -1, CidrIpv4="0.0.0.0/0")) == ["meta l4proto 1 icmp type 8 accept"]
    assert lines("inwards", rule("50", -1, -1, CidrIpv4="0.0.0.0/0")) == ["meta l4proto 50 accept"]
    assert lines("inwards", rule(PrefixListId="pl-1"), pl_1=["192.0.2.0/25", "192.0.2.128/25"]) == [
        "meta l4proto 6 ct original proto-dst 80 ip saddr { 192.0.2.0/24 } accept"
    ]


def test_groups_are_their_members_and_blocks_of_subnets_those_who_are_in_them() -> None:
    start = "meta l4proto 6 ct original proto-dst 80 ip saddr"
    assert lines("inwards", rule(**of_group("sg-web"))) == [f"{start} {{ 10.192.0.2/31 }} accept"]
    assert lines("inwards", rule(**of_group("sg-alb"))) == [f"{start} {{ 10.192.0.1 }} accept"]
    assert lines("inwards", rule(CidrIpv4="10.0.2.0/24")) == [f"{start} {{ 10.0.2.0/24, 10.192.0.3 }} accept"]
    assert lines("inwards", rule(CidrIpv4="10.0.2.4/32")) == [f"{start} {{ 10.0.2.4 }} accept"]


def test_a_sidecar_is_judged_by_the_port_that_it_stands_for() -> None:
    opened = [rule(CidrIpv4="0.0.0.0/0"), rule(first=443, last=443, egress=True, CidrIpv4="0.0.0.0/0")]
    text = script(opened, PEERS, GATEWAY, proxies={False: [(15000, 80), (15001, 81)], True: [(15002, 443)]})
    assert [line.strip() for line in text.splitlines() if "1500" in line] == [
        "meta l4proto 6 ct original proto-dst 15000 accept",
        "meta l4proto 6 ct original proto-dst 15002 accept",
    ]


def test_what_is_sent_may_always_go_to_this_machine() -> None:
    (line,) = lines("outwards", rule(egress=True, **of_group("sg-db")))
    assert line.endswith("ct original ip daddr { 10.192.0.1, 10.192.0.3, 127.0.0.0/8 } accept")
    assert lines("inwards", rule(egress=True, **of_group("sg-db"))) == []
