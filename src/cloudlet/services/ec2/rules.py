"""The rules of security groups: what a group lets in and out, in the form of single rules and of permissions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.ec2.kinds import PREFIX_LIST, RULE, SECURITY_GROUP
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, invalid, new_id

Rule = dict[str, Any]
Permission = dict[str, Any]

_MOST = 60
_NUMBERS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6", "all": "-1"}
_WITH_PORTS = ("tcp", "udp", "icmp", "icmpv6")
# Where a rule's peer is: its member, the permission's list and the member there.
_PEERS = (
    ("CidrIpv4", "IpRanges", "CidrIp"),
    ("CidrIpv6", "Ipv6Ranges", "CidrIpv6"),
    ("PrefixListId", "PrefixListIds", "PrefixListId"),
)
_IDENTITY = ("IsEgress", "IpProtocol", "FromPort", "ToPort", "CidrIpv4", "CidrIpv6", "PrefixListId")


def allowed(
    rules: Iterable[Rule],
    protocol: str,
    port: int,
    *,
    peer_address: str = "",
    peer_groups: Iterable[str] = (),
    egress: bool = False,
) -> bool:
    """Whether rules let traffic through: to ``port`` (of ``tcp``, ``udp``) from a peer, or to it when ``egress``.

    ``rules`` are those of all groups of an interface, as DescribeSecurityGroupRules shows them. A pure function.
    """
    groups = set(peer_groups)
    address = ip_address(peer_address) if peer_address else None
    for rule in rules:
        if rule["IsEgress"] != egress or rule["IpProtocol"] not in ("-1", protocol):
            continue
        if rule["IpProtocol"] != "-1" and not _spans(rule, port):
            continue
        block = rule.get("CidrIpv4") or rule.get("CidrIpv6")
        if block is not None and address is not None and address in ip_network(block):
            return True
        if rule.get("ReferencedGroupInfo", {}).get("GroupId") in groups:
            return True
    return False


def _spans(rule: Rule, port: int) -> bool:
    return bool(rule["FromPort"] == -1 or rule["FromPort"] <= port <= rule["ToPort"])


def of_group(world: World, group: Item, egress: bool | None = None) -> list[Item]:
    """A group's rules, perhaps only those of one direction."""
    found = [item for id in group.hidden["rules"] if (item := world.find(id)) is not None]
    return found if egress is None else [item for item in found if item.shown["IsEgress"] == egress]


def add(
    world: World,
    group: Item,
    egress: bool,
    new: list[Rule],
    tags: dict[str, str],
    id: Callable[[str], str] = new_id,
) -> list[Item]:
    """Give a group rules. Raises InvalidPermission.Duplicate, RulesPerSecurityGroupLimitExceeded."""
    group = world.get(SECURITY_GROUP, group.id)
    there = {_identity(item.shown) for item in of_group(world, group, egress)}
    if len(there) + len(new) > _MOST:
        raise AwsError(
            "RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached."
        )
    made = []
    for rule in new:
        rule = {**rule, "IsEgress": egress}
        if (identity := _identity(rule)) in there:
            raise AwsError("InvalidPermission.Duplicate", f'the specified rule "{_words(rule)}, ALLOW" already exists')
        there.add(identity)
        rule_id = id("sgr")
        shown = {
            **rule,
            "GroupId": group.id,
            "GroupOwnerId": world.account,
            "SecurityGroupRuleArn": world.arn("security-group-rule", rule_id),
        }
        made.append(world.make(RULE, shown, tags, id=rule_id))
    world.change(group, hidden={"rules": [*group.hidden["rules"], *(item.id for item in made)]})
    return made


def remove(world: World, group: Item, gone: list[Item]) -> None:
    """Take rules from a group."""
    ids = {item.id for item in gone}
    for item in gone:
        world.delete(item)
    group = world.get(SECURITY_GROUP, group.id)
    world.change(group, hidden={"rules": [id for id in group.hidden["rules"] if id not in ids]})


def matching(world: World, group: Item, egress: bool, wanted: list[Rule]) -> list[Item]:
    """The rules of a group that are to be revoked. Raises InvalidPermission.NotFound."""
    there = {_identity(item.shown): item for item in of_group(world, group, egress)}
    identities = [_identity({**rule, "IsEgress": egress}) for rule in wanted]
    if any(identity not in there for identity in identities):
        raise AwsError("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
    return [there[identity] for identity in dict.fromkeys(identities)]


def describe(world: World, group: Item, old: list[Rule], egress: bool) -> None:
    """Give rules other descriptions. Raises InvalidPermission.NotFound."""
    for item, rule in zip(matching(world, group, egress, old), old, strict=False):
        world.change(item, {"Description": rule.get("Description")})


def read(world: World, group: Item, permissions: list[Permission]) -> list[Rule]:
    """The single rules that permissions stand for. Raises InvalidParameterValue, InvalidGroup.NotFound."""
    found: list[Rule] = []
    for permission in permissions:
        ports = _ports(permission)
        before = len(found)
        for member, plural, singular in _PEERS:
            for entry in permission.get(plural, []):
                found.append({**ports, member: _peer(world, member, entry.get(singular, "")), **_described(entry)})
        for entry in permission.get("UserIdGroupPairs", []):
            found.append({**ports, "ReferencedGroupInfo": _referenced(world, group, entry), **_described(entry)})
        if len(found) == before:
            raise AwsError("InvalidParameterValue", "Invalid rule: no source or destination is given for it.")
    if len({_identity(rule) for rule in found}) < len(found):
        raise invalid("The same permission must not appear multiple times")
    return found


def _ports(permission: Permission) -> Rule:
    protocol = str(permission.get("IpProtocol", "")).lower()
    if not protocol:
        raise invalid("Invalid value 'null' for protocol. VPC security group rules must specify protocols explicitly.")
    protocol = _NUMBERS.get(protocol, protocol)
    if protocol not in (*_WITH_PORTS, "-1") and not (protocol.isdigit() and int(protocol) < 256):
        raise invalid(f"Invalid value '{protocol}' for IP protocol. Unknown protocol.")
    first, last = permission.get("FromPort"), permission.get("ToPort")
    if protocol in ("tcp", "udp"):
        if first is None or last is None:
            raise invalid("Invalid value for portRange. Must specify both from and to ports with TCP/UDP.")
        if not (0 <= first <= 65535 and 0 <= last <= 65535) or first > last:
            raise invalid(f"Invalid TCP/UDP port range ({first}:{last})")
    elif protocol in ("icmp", "icmpv6"):
        first, last = -1 if first is None else first, -1 if last is None else last
    else:
        first = last = -1
    return {"IpProtocol": protocol, "FromPort": first, "ToPort": last}


def _peer(world: World, member: str, value: str) -> str:
    if member == "PrefixListId":
        return world.get(PREFIX_LIST, value).id
    try:
        found = ip_network(value, strict=False)
    except ValueError:
        raise invalid(f"CIDR block {value} is malformed") from None
    if isinstance(found, IPv4Network) != (member == "CidrIpv4") or "/" not in value:
        raise invalid(f"CIDR block {value} is malformed")
    return str(found)


def _referenced(world: World, group: Item, entry: dict[str, str]) -> dict[str, str]:
    name = entry.get("GroupName")
    if (id := entry.get("GroupId")) is not None:
        owner = entry.get("UserId", world.account)
        if owner == world.account and world.find(id) is None:
            raise SECURITY_GROUP.not_found(id)
        info = {"GroupId": id, "UserId": owner}
    else:
        named = world.all(SECURITY_GROUP, VpcId=group.shown["VpcId"], GroupName=name)
        if not named:
            raise SECURITY_GROUP.not_found(name or "")
        info = {"GroupId": named[0].id, "UserId": world.account}
    for member in ("VpcId", "VpcPeeringConnectionId", "PeeringStatus"):
        if member in entry:
            info[member] = entry[member]
    return info


def _described(entry: dict[str, str]) -> dict[str, str]:
    if "Description" not in entry:
        return {}
    if len(entry["Description"]) > 255:
        raise invalid("Invalid rule description. Its length must be below 256 characters.")
    return {"Description": entry["Description"]}


def one(world: World, request: dict[str, Any]) -> Rule:
    """A single rule as ModifySecurityGroupRules gives it. Raises InvalidParameterValue, MissingParameter."""
    peers = [name for name in ("CidrIpv4", "CidrIpv6", "PrefixListId", "ReferencedGroupId") if request.get(name)]
    if not peers:
        raise AwsError(
            "MissingParameter",
            "The request must contain exactly one of: cidrIp, cidrIpv6, prefixListId, or referencedGroupId",
        )
    if len(peers) > 1:
        raise AwsError(
            "InvalidParameterCombination",
            "Only one of cidrIp, cidrIpv6, prefixListId, or referencedGroupId can be specified",
        )
    rule = _ports(request)
    if peers[0] == "ReferencedGroupId":
        group = world.get(SECURITY_GROUP, request["ReferencedGroupId"])
        rule["ReferencedGroupInfo"] = {"GroupId": group.id, "UserId": world.account}
    else:
        rule[peers[0]] = _peer(world, peers[0], request[peers[0]])
    return {**rule, **_described(request)}


def change(world: World, item: Item, rule: Rule) -> None:
    """Make a rule another one, with the same id."""
    kept = {name: item.shown[name] for name in ("SecurityGroupRuleId", "GroupId", "GroupOwnerId", "IsEgress")}
    world.put(replace(item, shown={**kept, "SecurityGroupRuleArn": item.shown["SecurityGroupRuleArn"], **rule}))


def permissions(items: list[Item]) -> list[Permission]:
    """Rules as permissions: those for the same protocol and ports together."""
    together: dict[tuple[Any, ...], Permission] = {}
    for item in items:
        rule = item.shown
        key = (rule["IpProtocol"], rule["FromPort"], rule["ToPort"])
        permission = together.get(key)
        if permission is None:
            ports = {} if key[0] == "-1" else {"FromPort": key[1], "ToPort": key[2]}
            lists: Permission = {"IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [], "UserIdGroupPairs": []}
            permission = together[key] = {"IpProtocol": key[0], **ports, **lists}
        text = {"Description": rule["Description"]} if "Description" in rule else {}
        for member, plural, singular in _PEERS:
            if member in rule:
                permission[plural].append({singular: rule[member], **text})
        if (info := rule.get("ReferencedGroupInfo")) is not None:
            permission["UserIdGroupPairs"].append({**info, **text})
    return list(together.values())


def _identity(rule: Rule) -> tuple[Any, ...]:
    return (*(rule.get(name) for name in _IDENTITY), rule.get("ReferencedGroupInfo", {}).get("GroupId"))


def _words(rule: Rule) -> str:
    peer = rule.get("CidrIpv4") or rule.get("CidrIpv6") or rule.get("PrefixListId")
    peer = peer or rule["ReferencedGroupInfo"]["GroupId"]
    if rule["IpProtocol"] == "-1":
        return f"peer: {peer}, ALL"
    return f"peer: {peer}, {rule['IpProtocol'].upper()}, from port: {rule['FromPort']}, to port: {rule['ToPort']}"
