"""Subnets."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.places import zones
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import cidr, defaults
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import INTERFACE, NAT_GATEWAY, NETWORK_ACL, RESERVATION, ROUTE_TABLE, SUBNET, VPC
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.vpcs import blocks_of
from cloudlet.services.ec2.world import World, in_use, invalid, new_id, shown_tags

# What can be changed of a subnet, and what becomes of it in its description.
_CHANGES = {
    "MapPublicIpOnLaunch": ("MapPublicIpOnLaunch",),
    "AssignIpv6AddressOnCreation": ("AssignIpv6AddressOnCreation",),
    "EnableDns64": ("EnableDns64",),
    "EnableResourceNameDnsARecordOnLaunch": ("PrivateDnsNameOptionsOnLaunch", "EnableResourceNameDnsARecord"),
    "EnableResourceNameDnsAAAARecordOnLaunch": ("PrivateDnsNameOptionsOnLaunch", "EnableResourceNameDnsAAAARecord"),
    "PrivateDnsHostnameTypeOnLaunch": ("PrivateDnsNameOptionsOnLaunch", "HostnameType"),
}


class Subnets(Base):
    """Operations on subnets."""

    async def CreateSubnet(self, call: Call, input: Input) -> Output:
        for parameter in ("OutpostArn", "Ipv4IpamPoolId", "Ipv6IpamPoolId"):
            if parameter in input:
                raise not_implemented(f"CreateSubnet with {parameter}")
        _check_blocks(input)
        zone = _zone(call.region, input)
        tags = new_tags(call, input, SUBNET)

        def work(world: World) -> Output:
            vpc = world.get(VPC, input["VpcId"])
            others = world.all(SUBNET, VpcId=vpc.id, Ipv6Native=False)
            block = ""
            if "CidrBlock" in input:
                taken = [subnet.shown["CidrBlock"] for subnet in others]
                block = str(cidr.of_subnet(input["CidrBlock"], blocks_of(vpc), taken))
            subnet = defaults.make_subnet(world, vpc, block, zone, tags)
            if "Ipv6CidrBlock" in input:
                subnet = _add_block6(world, subnet, input["Ipv6CidrBlock"])
            return {"Subnet": {**shown_subnet(world, subnet), "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    async def CreateDefaultSubnet(self, call: Call, input: Input) -> Output:
        zone = _zone(call.region, input)

        def work(world: World) -> Output:
            vpcs = world.all(VPC, IsDefault=True)
            if not vpcs:
                raise AwsError("DefaultVpcDoesNotExist", "No default VPC exists for this account in this region.")
            there = world.all(SUBNET, VpcId=vpcs[0].id, Ipv6Native=False)
            for subnet in there:
                if subnet.shown["DefaultForAz"] and subnet.shown["AvailabilityZone"] == zone:
                    raise AwsError(
                        "DefaultSubnetAlreadyExistsInAvailabilityZone",
                        f"'{subnet.id}' is already the default subnet in {zone}.",
                    )
            taken = [cidr.network(subnet.shown["CidrBlock"]) for subnet in there]
            for block in cidr.network(vpcs[0].shown["CidrBlock"]).subnets(new_prefix=20):
                if not any(block.overlaps(other) for other in taken):
                    made = defaults.make_subnet(world, vpcs[0], str(block), zone, is_default=True)
                    return {"Subnet": {**shown_subnet(world, made), "Tags": []}}
            raise AwsError("InvalidSubnet.Conflict", "The default VPC has no room for another subnet.")

        return await self.write(call.scope, work)

    async def DescribeSubnets(self, call: Call, input: Input) -> Output:
        return self.described(call, input, SUBNET, shown_subnet)

    async def DeleteSubnet(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            subnet = world.get(SUBNET, input["SubnetId"])
            nat = world.all(NAT_GATEWAY, SubnetId=subnet.id, State="available")
            if world.all(INTERFACE, SubnetId=subnet.id) or nat:
                raise in_use(f"The subnet '{subnet.id}' has dependencies and cannot be deleted.")
            for kind in (ROUTE_TABLE, NETWORK_ACL):
                for item in world.all(kind, VpcId=subnet.shown["VpcId"]):
                    kept = [one for one in item.shown["Associations"] if one.get("SubnetId") != subnet.id]
                    if len(kept) != len(item.shown["Associations"]):
                        world.change(item, {"Associations": kept})
            for reservation in world.all(RESERVATION, SubnetId=subnet.id):
                world.delete(reservation)
            world.delete(subnet)
            return {}

        return await self.write(call.scope, work)

    async def ModifySubnetAttribute(self, call: Call, input: Input) -> Output:
        for parameter in input:
            if parameter not in (*_CHANGES, "SubnetId", "DryRun"):
                raise not_implemented(f"ModifySubnetAttribute with {parameter}")
        given = [name for name in _CHANGES if name in input]
        if len(given) != 1:
            raise AwsError("InvalidParameterCombination", "Fields for multiple attribute types specified")
        value = input[given[0]]
        if isinstance(value, dict):
            value = value.get("Value", False)

        def work(world: World) -> Output:
            subnet = world.get(SUBNET, input["SubnetId"])
            path = _CHANGES[given[0]]
            if len(path) == 2:
                world.change(subnet, {path[0]: {**subnet.shown[path[0]], path[1]: value}})
                return {}
            if value and path[0] == "AssignIpv6AddressOnCreation" and not subnet.shown["Ipv6CidrBlockAssociationSet"]:
                raise invalid(
                    f"Invalid value 'true' for assignIpv6AddressOnCreation. Subnet {subnet.id} does not have "
                    "associated IPv6 CIDR block."
                )
            world.change(subnet, {path[0]: value})
            return {}

        return await self.write(call.scope, work)

    async def AssociateSubnetCidrBlock(self, call: Call, input: Input) -> Output:
        if "Ipv6CidrBlock" not in input:
            raise not_implemented("AssociateSubnetCidrBlock without Ipv6CidrBlock")

        def work(world: World) -> Output:
            subnet = _add_block6(world, world.get(SUBNET, input["SubnetId"]), input["Ipv6CidrBlock"])
            added = subnet.shown["Ipv6CidrBlockAssociationSet"][-1]
            shown = {**added, "Ipv6CidrBlockState": {"State": "associating"}}
            return {"SubnetId": subnet.id, "Ipv6CidrBlockAssociation": shown}

        return await self.write(call.scope, work)

    async def DisassociateSubnetCidrBlock(self, call: Call, input: Input) -> Output:
        id = input["AssociationId"]

        def work(world: World) -> Output:
            for subnet in world.all(SUBNET):
                there = subnet.shown["Ipv6CidrBlockAssociationSet"]
                for entry in there:
                    if entry["AssociationId"] == id:
                        kept = [one for one in there if one != entry]
                        world.change(subnet, {"Ipv6CidrBlockAssociationSet": kept})
                        gone = {**entry, "Ipv6CidrBlockState": {"State": "disassociating"}}
                        return {"SubnetId": subnet.id, "Ipv6CidrBlockAssociation": gone}
            raise AwsError(
                "InvalidSubnetCidrBlockAssociationID.NotFound",
                f"The subnet CIDR block with association ID '{id}' does not exist",
            )

        return await self.write(call.scope, work)

    async def CreateSubnetCidrReservation(self, call: Call, input: Input) -> Output:
        tags = new_tags(call, input, RESERVATION)
        kind = input["ReservationType"]
        if kind not in ("prefix", "explicit"):
            raise invalid(f"Value ({kind}) for parameter reservationType is invalid.")

        def work(world: World) -> Output:
            subnet = world.get(SUBNET, input["SubnetId"])
            block = cidr.either(input["Cidr"])
            outer = [subnet.shown["CidrBlock"]] if "CidrBlock" in subnet.shown else []
            outer += [entry["Ipv6CidrBlock"] for entry in subnet.shown["Ipv6CidrBlockAssociationSet"]]
            if not any(cidr.is_within(block, one) for one in outer):
                raise invalid(f"The CIDR '{block}' is not within the CIDR block of subnet '{subnet.id}'")
            others = world.all(RESERVATION, SubnetId=subnet.id)
            if any(cidr.either(one.shown["Cidr"]).overlaps(block) for one in others):
                raise invalid(f"The CIDR '{block}' overlaps with another reservation of subnet '{subnet.id}'")
            shown = {
                "Cidr": str(block),
                "OwnerId": world.account,
                "ReservationType": kind,
                "SubnetId": subnet.id,
                **({"Description": input["Description"]} if "Description" in input else {}),
            }
            item = world.make(RESERVATION, shown, tags)
            return {"SubnetCidrReservation": {**item.shown, "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    async def GetSubnetCidrReservations(self, call: Call, input: Input) -> Output:
        subnet = self.world(call.scope).get(SUBNET, input["SubnetId"])
        found = self.described(call, input, RESERVATION)
        mine = [one for one in found[RESERVATION.plural] if one["SubnetId"] == subnet.id]
        return {
            **found,
            "SubnetIpv4CidrReservations": [one for one in mine if ":" not in one["Cidr"]],
            "SubnetIpv6CidrReservations": [one for one in mine if ":" in one["Cidr"]],
        }

    async def DeleteSubnetCidrReservation(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(RESERVATION, input["SubnetCidrReservationId"])
            world.delete(item)
            return {"DeletedSubnetCidrReservation": {**item.shown, "Tags": shown_tags(item.tags)}}

        return await self.write(call.scope, work)


def shown_subnet(world: World, subnet: Item) -> dict[str, Any]:
    """A subnet with the number of its free addresses."""
    size = cidr.size(subnet.shown["CidrBlock"]) if "CidrBlock" in subnet.shown else 0
    free = size - len(subnet.hidden["taken"])
    return {**subnet.shown, "AvailableIpAddressCount": free}


def _zone(region: str, input: Input) -> str:
    known = zones(region)
    if "AvailabilityZoneId" in input:
        for name, id in known.items():
            if id == input["AvailabilityZoneId"]:
                return name
        raise invalid(
            f"Value ({input['AvailabilityZoneId']}) for parameter availabilityZoneId is invalid. Subnets can currently "
            f"only be created in the following availability zones: {', '.join(known.values())}."
        )
    zone = input.get("AvailabilityZone", next(iter(known)))
    if zone not in known:
        raise invalid(
            f"Value ({zone}) for parameter availabilityZone is invalid. Subnets can currently only be created in the "
            f"following availability zones: {', '.join(known)}."
        )
    return str(zone)


def _check_blocks(input: Input) -> None:
    """That a subnet is given the block that its kind needs. Raises MissingParameter, InvalidParameterCombination."""
    is_native = input.get("Ipv6Native")
    if is_native and "Ipv6CidrBlock" not in input:
        raise AwsError("MissingParameter", "Either 'ipv6CidrBlock' or 'ipv6IpamPoolId' should be provided.")
    if is_native and "CidrBlock" in input:
        raise AwsError(
            "InvalidParameterCombination",
            "When specifying ipv4 parameters, cidrBlock or ipv4IpamPoolId, you cannot set ipv6Native to true.",
        )
    if not is_native and "CidrBlock" not in input:
        raise AwsError("MissingParameter", "Either 'cidrBlock' or 'ipv4IpamPoolId' should be provided.")


def _add_block6(world: World, subnet: Item, text: str) -> Item:
    block = cidr.network6(text)
    vpc = world.get(VPC, subnet.shown["VpcId"])
    outer = [cidr.network6(entry["Ipv6CidrBlock"]) for entry in vpc.shown["Ipv6CidrBlockAssociationSet"]]
    if not any(block.subnet_of(one) for one in outer):
        raise AwsError("InvalidSubnet.Range", f"The CIDR '{text}' is invalid.")
    for other in world.all(SUBNET, VpcId=vpc.id):
        for entry in other.shown["Ipv6CidrBlockAssociationSet"]:
            if block.overlaps(cidr.network6(entry["Ipv6CidrBlock"])):
                raise AwsError("InvalidSubnet.Conflict", f"The CIDR '{text}' conflicts with another subnet")
    entry = {
        "AssociationId": new_id("subnet-cidr-assoc"),
        "Ipv6CidrBlock": str(block),
        "Ipv6CidrBlockState": {"State": "associated"},
    }
    there = subnet.shown["Ipv6CidrBlockAssociationSet"]
    return world.change(subnet, {"Ipv6CidrBlockAssociationSet": [*there, entry]})
