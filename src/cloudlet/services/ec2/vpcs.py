"""VPCs, their blocks of addresses and their attributes."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import cidr, defaults, rules, vpn
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import (
    ENDPOINT,
    INTERFACE,
    INTERNET_GATEWAY,
    NAT_GATEWAY,
    NETWORK_ACL,
    PEERING,
    ROUTE_TABLE,
    SECURITY_GROUP,
    SUBNET,
    VPC,
)
from cloudlet.services.ec2.operations import describes
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, in_use, invalid, new_id, shown_tags

_ATTRIBUTES = ("enableDnsSupport", "enableDnsHostnames", "enableNetworkAddressUsageMetrics")
_MOST_BLOCKS = 5


class Vpcs(Base):
    """Operations on VPCs."""

    async def CreateVpc(self, call: Call, input: Input) -> Output:
        for parameter in ("Ipv4IpamPoolId", "Ipv6IpamPoolId", "Ipv6Pool", "Ipv6CidrBlock"):
            if parameter in input:
                raise not_implemented(f"CreateVpc with {parameter}")
        if "CidrBlock" not in input:
            raise AwsError("MissingParameter", "Either 'cidrBlock' or 'ipv4IpamPoolId' should be provided.")
        block = cidr.of_vpc(input["CidrBlock"])
        tenancy = input.get("InstanceTenancy", "default")
        if tenancy not in ("default", "dedicated"):
            raise AwsError("UnsupportedTenancy", f"The tenancy value {tenancy} is not supported.")
        tags = new_tags(call, input, VPC)

        def work(world: World) -> Output:
            vpc = defaults.make_vpc(world, block, tags, tenancy=tenancy)
            if input.get("AmazonProvidedIpv6CidrBlock"):
                vpc = _add_block6(world, vpc, input.get("Ipv6CidrBlockNetworkBorderGroup", world.region))
            return {"Vpc": {**vpc.shown, "Tags": shown_tags(vpc.tags)}}

        return await self.write(call.scope, work)

    async def CreateDefaultVpc(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            if world.all(VPC, IsDefault=True):
                raise AwsError(
                    "DefaultVpcAlreadyExists", "A Default VPC already exists for this account in this region."
                )
            return {"Vpc": {**defaults.make(world, stable=False).shown, "Tags": []}}

        return await self.write(call.scope, work)

    DescribeVpcs = describes(VPC)

    async def DeleteVpc(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            vpc = world.get(VPC, input["VpcId"])
            if _is_needed(world, vpc):
                raise in_use(f"The vpc '{vpc.id}' has dependencies and cannot be deleted.")
            for kind in (ROUTE_TABLE, NETWORK_ACL):
                for item in world.all(kind, VpcId=vpc.id):
                    world.delete(item)
            for group in world.all(SECURITY_GROUP, VpcId=vpc.id):
                rules.remove(world, group, rules.of_group(world, group))
                world.delete(group)
            world.delete(vpc)
            return {}

        return await self.write(call.scope, work)

    async def DescribeVpcAttribute(self, call: Call, input: Input) -> Output:
        vpc, name = self.world(call.scope).get(VPC, input["VpcId"]), input["Attribute"]
        if name not in _ATTRIBUTES:
            raise invalid(f"Value ({name}) for parameter attribute is invalid. Unknown attribute.")
        return {"VpcId": vpc.id, name[:1].upper() + name[1:]: {"Value": vpc.hidden[name]}}

    async def ModifyVpcAttribute(self, call: Call, input: Input) -> Output:
        given = {name: input[key]["Value"] for name in _ATTRIBUTES if (key := name[:1].upper() + name[1:]) in input}
        if len(given) != 1:
            raise AwsError("InvalidParameterCombination", "Fields for multiple attribute types specified")

        def work(world: World) -> Output:
            world.change(world.get(VPC, input["VpcId"]), hidden=given)
            return {}

        return await self.write(call.scope, work)

    async def ModifyVpcTenancy(self, call: Call, input: Input) -> Output:
        if input["InstanceTenancy"] != "default":
            raise AwsError("UnsupportedTenancy", f"The tenancy value {input['InstanceTenancy']} is not supported.")

        def work(world: World) -> Output:
            world.change(world.get(VPC, input["VpcId"]), {"InstanceTenancy": "default"})
            return {"ReturnValue": True}

        return await self.write(call.scope, work)

    async def AssociateVpcCidrBlock(self, call: Call, input: Input) -> Output:
        for parameter in ("Ipv4IpamPoolId", "Ipv6IpamPoolId", "Ipv6Pool", "Ipv6CidrBlock"):
            if parameter in input:
                raise not_implemented(f"AssociateVpcCidrBlock with {parameter}")

        def work(world: World) -> Output:
            vpc = world.get(VPC, input["VpcId"])
            if input.get("AmazonProvidedIpv6CidrBlock"):
                if vpc.shown["Ipv6CidrBlockAssociationSet"]:
                    raise _too_many(vpc, 1)
                vpc = _add_block6(world, vpc, input.get("Ipv6CidrBlockNetworkBorderGroup", world.region))
                added = vpc.shown["Ipv6CidrBlockAssociationSet"][-1]
                shown = {**added, "Ipv6CidrBlockState": {"State": "associating"}}
                return {"VpcId": vpc.id, "Ipv6CidrBlockAssociation": shown}
            added = _add_block(world, vpc, input.get("CidrBlock", ""))
            return {
                "VpcId": vpc.id,
                "CidrBlockAssociation": {**added, "CidrBlockState": {"State": "associating"}},
            }

        return await self.write(call.scope, work)

    async def DisassociateVpcCidrBlock(self, call: Call, input: Input) -> Output:
        id = input["AssociationId"]

        def work(world: World) -> Output:
            for vpc in world.all(VPC):
                for member, answer, block in (
                    ("CidrBlockAssociationSet", "CidrBlockAssociation", "CidrBlock"),
                    ("Ipv6CidrBlockAssociationSet", "Ipv6CidrBlockAssociation", "Ipv6CidrBlock"),
                ):
                    for entry in vpc.shown[member]:
                        if entry["AssociationId"] == id:
                            _remove_block(world, vpc, member, block, entry)
                            gone = {**entry, f"{block}State": {"State": "disassociating"}}
                            return {"VpcId": vpc.id, answer: gone}
            raise AwsError(
                "InvalidVpcCidrBlockAssociationIdError.NotFound",
                f"The vpc CIDR block association ID '{id}' does not exist",
            )

        return await self.write(call.scope, work)

    async def DescribeVpcClassicLink(self, call: Call, input: Input) -> Output:
        vpcs = self.described(call, input, VPC)["Vpcs"]
        return {"Vpcs": [{"VpcId": v["VpcId"], "ClassicLinkEnabled": False, "Tags": v["Tags"]} for v in vpcs]}

    async def DescribeVpcClassicLinkDnsSupport(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        vpcs = [world.get(VPC, id) for id in input["VpcIds"]] if "VpcIds" in input else world.all(VPC)
        return {"Vpcs": [{"VpcId": vpc.id, "ClassicLinkDnsSupported": False} for vpc in vpcs]}


def blocks_of(vpc: Item) -> list[str]:
    """All IPv4 blocks of a VPC."""
    return [entry["CidrBlock"] for entry in vpc.shown["CidrBlockAssociationSet"]]


def _add_block(world: World, vpc: Item, text: str) -> dict[str, Any]:
    block, there = cidr.of_vpc(text), blocks_of(vpc)
    if any(block.overlaps(cidr.network(other)) for other in there):
        raise AwsError("InvalidVpc.Range", f"The CIDR '{text}' conflicts with a block of the VPC")
    if len(there) >= _MOST_BLOCKS:
        raise _too_many(vpc, _MOST_BLOCKS)
    entry = {
        "AssociationId": new_id("vpc-cidr-assoc"),
        "CidrBlock": str(block),
        "CidrBlockState": {"State": "associated"},
    }
    world.change(vpc, {"CidrBlockAssociationSet": [*vpc.shown["CidrBlockAssociationSet"], entry]})
    _route_locally(world, vpc, {"DestinationCidrBlock": str(block)})
    return entry


def _add_block6(world: World, vpc: Item, border: str) -> Item:
    block = cidr.block6_of(vpc.id)
    entry = {
        "AssociationId": new_id("vpc-cidr-assoc"),
        "Ipv6CidrBlock": block,
        "Ipv6CidrBlockState": {"State": "associated"},
        "NetworkBorderGroup": border,
        "Ipv6Pool": "Amazon",
    }
    _route_locally(world, vpc, {"DestinationIpv6CidrBlock": block})
    return world.change(vpc, {"Ipv6CidrBlockAssociationSet": [*vpc.shown["Ipv6CidrBlockAssociationSet"], entry]})


def _route_locally(world: World, vpc: Item, destination: dict[str, str]) -> None:
    route = {**destination, "GatewayId": "local", "Origin": "CreateRouteTable", "State": "active"}
    for table in world.all(ROUTE_TABLE, VpcId=vpc.id):
        world.change(table, {"Routes": [*table.shown["Routes"], route]})


def _remove_block(world: World, vpc: Item, member: str, block: str, entry: dict[str, Any]) -> None:
    if entry[block] == vpc.shown["CidrBlock"]:
        raise AwsError(
            "OperationNotPermitted",
            f"The vpc CIDR block with association ID {entry['AssociationId']} may not be disassociated. "
            "It is the primary IPv4 CIDR block of the VPC",
        )
    for subnet in world.all(SUBNET, VpcId=vpc.id):
        inner = [subnet.shown["CidrBlock"]] if block == "CidrBlock" else []
        if any(cidr.network(one).subnet_of(cidr.network(entry[block])) for one in inner):
            raise AwsError(
                "OperationNotPermitted",
                f"The vpc CIDR block with association ID {entry['AssociationId']} may not be disassociated. "
                "It is used by a subnet",
            )
    world.change(vpc, {member: [one for one in vpc.shown[member] if one != entry]})
    for table in world.all(ROUTE_TABLE, VpcId=vpc.id):
        routes = [route for route in table.shown["Routes"] if route.get(f"Destination{block}") != entry[block]]
        world.change(table, {"Routes": routes})


def _too_many(vpc: Item, most: int) -> AwsError:
    return AwsError("CidrLimitExceeded", f"This network {vpc.id} has met its maximum number of allowed CIDRs: {most}")


def _is_needed(world: World, vpc: Item) -> bool:
    if any(world.all(kind, VpcId=vpc.id) for kind in (SUBNET, INTERFACE)):
        return True
    if world.all(ENDPOINT, VpcId=vpc.id) or world.all(NAT_GATEWAY, VpcId=vpc.id, State="available"):
        return True
    if any(group.shown["GroupName"] != "default" for group in world.all(SECURITY_GROUP, VpcId=vpc.id)):
        return True
    if world.all(NETWORK_ACL, VpcId=vpc.id, IsDefault=False):
        return True
    for table in world.all(ROUTE_TABLE, VpcId=vpc.id):
        if not any(association["Main"] for association in table.shown["Associations"]):
            return True
    if vpn.serves(world, vpc.id):
        return True
    gateways = world.all(INTERNET_GATEWAY)
    if any(entry["VpcId"] == vpc.id for gateway in gateways for entry in gateway.shown["Attachments"]):
        return True
    return any(
        vpc.id in (pcx.shown["AccepterVpcInfo"].get("VpcId"), pcx.shown["RequesterVpcInfo"]["VpcId"])
        for pcx in world.all(PEERING)
        if pcx.shown["Status"]["Code"] == "active"
    )
