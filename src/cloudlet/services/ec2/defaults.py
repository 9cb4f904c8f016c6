"""What AWS makes by itself: an account's default network in a region, and what every VPC has from its beginning."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from ipaddress import IPv4Network

from cloudlet.places import zones
from cloudlet.services.ec2 import rules
from cloudlet.services.ec2.kinds import (
    DHCP_OPTIONS,
    INTERNET_GATEWAY,
    NETWORK_ACL,
    PREFIX_LIST,
    ROUTE_TABLE,
    SECURITY_GROUP,
    SUBNET,
    VPC,
)
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import Members, World, new_id

_BLOCK = IPv4Network("172.31.0.0/16")
# AWS's own prefix lists: service -> its blocks.
_SERVICES = {"s3": ("192.0.2.0/25",), "dynamodb": ("192.0.2.128/25",)}


def make(world: World, *, stable: bool) -> Item:
    """The default VPC with all that belongs to it. ``stable``: with the ids that this scope always begins with."""
    counts: dict[str, int] = {}

    def stable_id(prefix: str) -> str:
        counts[prefix] = count = counts.get(prefix, -1) + 1
        digest = hashlib.sha256(f"{world.scope} {prefix} {count}".encode()).hexdigest()
        return f"{prefix}-0{digest[:16]}"

    id = stable_id if stable else new_id
    if stable:
        _make_regional(world, id)
    vpc = make_vpc(world, _BLOCK, {}, is_default=True, id=id)
    gateway = {"Attachments": [{"State": "available", "VpcId": vpc.id}], "OwnerId": world.account}
    igw = world.make(INTERNET_GATEWAY, gateway, id=id("igw"))
    (table,) = world.all(ROUTE_TABLE, VpcId=vpc.id)
    route = {"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": igw.id, "Origin": "CreateRoute", "State": "active"}
    world.change(table, {"Routes": [*table.shown["Routes"], route]})
    for block, zone in zip(_BLOCK.subnets(new_prefix=20), zones(world.region), strict=False):
        make_subnet(world, vpc, str(block), zone, is_default=True, id=id)
    return vpc


def make_vpc(
    world: World,
    block: IPv4Network,
    tags: dict[str, str],
    *,
    tenancy: str = "default",
    is_default: bool = False,
    id: Callable[[str], str] = new_id,
) -> Item:
    """A VPC with its main route table, its default network ACL and its default security group."""
    options = next(item for item in world.all(DHCP_OPTIONS) if item.hidden.get("default"))
    association = {
        "AssociationId": id("vpc-cidr-assoc"),
        "CidrBlock": str(block),
        "CidrBlockState": {"State": "associated"},
    }
    vpc = world.make(
        VPC,
        {
            "CidrBlock": str(block),
            "CidrBlockAssociationSet": [association],
            "Ipv6CidrBlockAssociationSet": [],
            "DhcpOptionsId": options.id,
            "InstanceTenancy": tenancy,
            "IsDefault": is_default,
            "OwnerId": world.account,
            "State": "available",
        },
        tags,
        {"enableDnsSupport": True, "enableDnsHostnames": is_default, "enableNetworkAddressUsageMetrics": False},
        id("vpc"),
    )
    main = {"Main": True, "RouteTableAssociationId": id("rtbassoc"), "AssociationState": {"State": "associated"}}
    make_route_table(world, vpc, {}, main, id=id)
    world.make(NETWORK_ACL, shown_acl(world, vpc, is_default=True), id=id("acl"))
    group = make_group(world, vpc, "default", "default VPC security group", {}, id=id)
    everything = {"IpProtocol": "-1", "FromPort": -1, "ToPort": -1}
    itself = {"ReferencedGroupInfo": {"GroupId": group.id, "UserId": world.account}}
    rules.add(world, group, False, [everything | itself], {}, id=id)
    return vpc


def make_route_table(
    world: World,
    vpc: Item,
    tags: dict[str, str],
    association: Members | None = None,
    id: Callable[[str], str] = new_id,
) -> Item:
    """A route table that leads to its own VPC."""
    table_id = id("rtb")
    local = {"GatewayId": "local", "Origin": "CreateRouteTable", "State": "active"}
    blocks = [{"DestinationCidrBlock": entry["CidrBlock"]} for entry in vpc.shown["CidrBlockAssociationSet"]]
    blocks += [
        {"DestinationIpv6CidrBlock": entry["Ipv6CidrBlock"]} for entry in vpc.shown["Ipv6CidrBlockAssociationSet"]
    ]
    shown = {
        "Associations": [{**association, "RouteTableId": table_id}] if association else [],
        "OwnerId": world.account,
        "PropagatingVgws": [],
        "Routes": [block | local for block in blocks],
        "VpcId": vpc.id,
    }
    return world.make(ROUTE_TABLE, shown, tags, id=table_id)


def shown_acl(world: World, vpc: Item, *, is_default: bool = False) -> Members:
    """A network ACL: a VPC's default one lets everything through, another one nothing."""
    last = {"CidrBlock": "0.0.0.0/0", "Protocol": "-1", "RuleAction": "deny", "RuleNumber": 32767}
    first = {**last, "RuleAction": "allow", "RuleNumber": 100}
    entries = [
        {**entry, "Egress": egress} for egress in (True, False) for entry in ([first, last] if is_default else [last])
    ]
    return {
        "Associations": [],
        "Entries": entries,
        "IsDefault": is_default,
        "OwnerId": world.account,
        "VpcId": vpc.id,
    }


def make_group(
    world: World, vpc: Item, name: str, description: str, tags: dict[str, str], id: Callable[[str], str] = new_id
) -> Item:
    """A security group that lets everything out."""
    group_id = id("sg")
    shown = {
        "GroupName": name,
        "Description": description,
        "OwnerId": world.account,
        "VpcId": vpc.id,
        "SecurityGroupArn": world.arn("security-group", group_id),
    }
    group = world.make(SECURITY_GROUP, shown, tags, {"rules": []}, group_id)
    out = {"IpProtocol": "-1", "FromPort": -1, "ToPort": -1, "CidrIpv4": "0.0.0.0/0"}
    out6 = {"IpProtocol": "-1", "FromPort": -1, "ToPort": -1, "CidrIpv6": "::/0"}
    everywhere = [out, out6] if vpc.shown["Ipv6CidrBlockAssociationSet"] else [out]
    rules.add(world, group, True, everywhere, {}, id=id)
    return world.get(SECURITY_GROUP, group_id)


def make_subnet(
    world: World,
    vpc: Item,
    block: str,
    zone: str,
    tags: dict[str, str] | None = None,
    *,
    is_default: bool = False,
    id: Callable[[str], str] = new_id,
) -> Item:
    """A subnet, under its VPC's default network ACL. One without an IPv4 block is for IPv6 alone."""
    subnet_id = id("subnet")
    shown = {
        "AssignIpv6AddressOnCreation": not block,
        "AvailabilityZone": zone,
        "AvailabilityZoneId": zones(world.region)[zone],
        **({"CidrBlock": block} if block else {}),
        "DefaultForAz": is_default,
        "EnableDns64": False,
        "Ipv6CidrBlockAssociationSet": [],
        "Ipv6Native": not block,
        "MapCustomerOwnedIpOnLaunch": False,
        "MapPublicIpOnLaunch": is_default,
        "OwnerId": world.account,
        "PrivateDnsNameOptionsOnLaunch": {
            "HostnameType": "ip-name",
            "EnableResourceNameDnsARecord": False,
            "EnableResourceNameDnsAAAARecord": False,
        },
        "State": "available",
        "SubnetArn": world.arn("subnet", subnet_id),
        "VpcId": vpc.id,
    }
    subnet = world.make(SUBNET, shown, tags, {"taken": []}, subnet_id)
    (acl,) = world.all(NETWORK_ACL, VpcId=vpc.id, IsDefault=True)
    association = {"NetworkAclAssociationId": id("aclassoc"), "NetworkAclId": acl.id, "SubnetId": subnet_id}
    world.change(acl, {"Associations": [*acl.shown["Associations"], association]})
    return subnet


def _make_regional(world: World, id: Callable[[str], str]) -> None:
    region = world.region
    domain = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
    configurations = [
        {"Key": "domain-name", "Values": [{"Value": domain}]},
        {"Key": "domain-name-servers", "Values": [{"Value": "AmazonProvidedDNS"}]},
    ]
    options = {"DhcpConfigurations": configurations, "OwnerId": world.account}
    world.make(DHCP_OPTIONS, options, {}, {"default": True}, id("dopt"))
    for service, blocks in _SERVICES.items():
        list_id = id("pl")
        shown = {
            "AddressFamily": "IPv4",
            "State": "create-complete",
            "PrefixListArn": f"arn:aws:ec2:{region}:aws:prefix-list/{list_id}",
            "PrefixListName": f"com.amazonaws.{region}.{service}",
            "OwnerId": "AWS",
        }
        world.make(PREFIX_LIST, shown, {}, {"versions": [[{"Cidr": block} for block in blocks]]}, list_id)
