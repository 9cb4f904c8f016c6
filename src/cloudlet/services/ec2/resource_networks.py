"""CloudFormation's types of VPCs, subnets, routes and gateways."""

from __future__ import annotations

from cloudlet.services.ec2 import cidr, kinds
from cloudlet.services.ec2.stacking import Thing, Type, assign, is_true, made, picked, retag, specification, unless
from cloudlet.stacks.api import Deployment, Physical, Properties, changed

_DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
_TARGETS = (
    *("GatewayId", "NatGatewayId", "NetworkInterfaceId", "EgressOnlyInternetGatewayId", "InstanceId"),
    *("VpcPeeringConnectionId", "VpcEndpointId", "TransitGatewayId", "CarrierGatewayId", "LocalGatewayId"),
)
_TAGS = frozenset(("Tags",))


class VPC(Thing):
    """A VPC. ``Ref`` is its id."""

    kind = kinds.VPC
    replaces = frozenset(("CidrBlock",))
    changes = frozenset(("EnableDnsHostnames", "EnableDnsSupport", "InstanceTenancy", "Tags"))
    asked = frozenset(("CidrBlock", "InstanceTenancy"))
    gives = ("VpcId", "CidrBlock")

    async def attributes(self, do: Deployment, found: Properties) -> Properties:
        mine = {"Filters": [{"Name": "vpc-id", "Values": [found["VpcId"]]}]}
        acls = (await do.call("ec2", "DescribeNetworkAcls", mine))["NetworkAcls"]
        groups = (await do.call("ec2", "DescribeSecurityGroups", mine))["SecurityGroups"]
        return {
            "CidrBlockAssociations": [entry["AssociationId"] for entry in found["CidrBlockAssociationSet"]],
            "DefaultNetworkAcl": next(acl["NetworkAclId"] for acl in acls if acl["IsDefault"]),
            "DefaultSecurityGroup": next(group["GroupId"] for group in groups if group["GroupName"] == "default"),
            # Asked for when a VPCCidrBlock has given the VPC its block, which here is known from the beginning.
            "Ipv6CidrBlocks": [cidr.block6_of(found["VpcId"])],
        }

    async def settle(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        which = {"VpcId": id}
        attributes = {"EnableDnsSupport": True, "EnableDnsHostnames": False}
        await assign(do, "ModifyVpcAttribute", which, new, old, **attributes)

    async def change(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        await assign(do, "ModifyVpcTenancy", {"VpcId": id}, new, old, InstanceTenancy="default")


class VPCCidrBlock(Type):
    """A further block of a VPC. ``Ref`` is the id of its association."""

    required = frozenset(("VpcId",))
    replaces = frozenset(("VpcId", "CidrBlock", "AmazonProvidedIpv6CidrBlock"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        vpc = (await do.call("ec2", "DescribeVpcs", {"VpcIds": [properties["VpcId"]]}))["Vpcs"][0]
        if "CidrBlock" in properties:
            there = [e for e in vpc["CidrBlockAssociationSet"] if e["CidrBlock"] == properties["CidrBlock"]]
        else:
            there = vpc["Ipv6CidrBlockAssociationSet"]
        if not there:
            answer = await do.call("ec2", "AssociateVpcCidrBlock", dict(properties))
            there = [answer.get("CidrBlockAssociation") or answer["Ipv6CidrBlockAssociation"]]
        id = there[0]["AssociationId"]
        shown = {"Id": id, "VpcId": properties["VpcId"], **picked(there[0], "CidrBlock", "Ipv6CidrBlock")}
        return Physical(id, shown)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DisassociateVpcCidrBlock", {"AssociationId": physical.id})


class Subnet(Thing):
    """A subnet. ``Ref`` is its id."""

    kind = kinds.SUBNET
    required = frozenset(("VpcId",))
    replaces = frozenset(("VpcId", "CidrBlock", "AvailabilityZone", "AvailabilityZoneId", "Ipv6CidrBlock"))
    changes = frozenset(
        (
            *("MapPublicIpOnLaunch", "AssignIpv6AddressOnCreation", "EnableDns64", "Tags"),
            "PrivateDnsNameOptionsOnLaunch",
        )
    )
    gives = ("SubnetId", "AvailabilityZone", "AvailabilityZoneId", "CidrBlock", "VpcId")

    async def attributes(self, do: Deployment, found: Properties) -> Properties:
        by_subnet = {"Filters": [{"Name": "association.subnet-id", "Values": [found["SubnetId"]]}]}
        acls = (await do.call("ec2", "DescribeNetworkAcls", by_subnet))["NetworkAcls"]
        associations = [entry for acl in acls for entry in acl["Associations"]]
        (mine,) = (one for one in associations if one["SubnetId"] == found["SubnetId"])
        return {
            "Ipv6CidrBlocks": [entry["Ipv6CidrBlock"] for entry in found["Ipv6CidrBlockAssociationSet"]],
            "NetworkAclAssociationId": mine["NetworkAclAssociationId"],
        }

    async def settle(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        flags = dict.fromkeys(("MapPublicIpOnLaunch", "AssignIpv6AddressOnCreation", "EnableDns64"), False)
        await assign(do, "ModifySubnetAttribute", {"SubnetId": id}, new, old, **flags)
        if changed(old, new, "PrivateDnsNameOptionsOnLaunch"):
            options = new.get("PrivateDnsNameOptionsOnLaunch", {})
            settings: Properties = {"PrivateDnsHostnameTypeOnLaunch": options.get("HostnameType", "ip-name")}
            for name in ("EnableResourceNameDnsARecord", "EnableResourceNameDnsAAAARecord"):
                settings[f"{name}OnLaunch"] = {"Value": is_true(options.get(name, False))}
            for name, value in settings.items():
                await do.call("ec2", "ModifySubnetAttribute", {"SubnetId": id, name: value})


class SubnetCidrBlock(Type):
    """A subnet's block of IPv6 addresses. ``Ref`` is the id of its association."""

    required = replaces = frozenset(("SubnetId", "Ipv6CidrBlock"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        shown = (await do.call("ec2", "DescribeSubnets", {"SubnetIds": [properties["SubnetId"]]}))["Subnets"][0]
        there = [
            entry
            for entry in shown["Ipv6CidrBlockAssociationSet"]
            if cidr.network6(entry["Ipv6CidrBlock"]) == cidr.network6(properties["Ipv6CidrBlock"])
        ]
        if not there:
            answer = await do.call("ec2", "AssociateSubnetCidrBlock", dict(properties))
            there = [answer["Ipv6CidrBlockAssociation"]]
        return Physical(there[0]["AssociationId"], {"Id": there[0]["AssociationId"]})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DisassociateSubnetCidrBlock", {"AssociationId": physical.id})


class RouteTable(Thing):
    """A route table. ``Ref`` is its id."""

    kind = kinds.ROUTE_TABLE
    required = replaces = frozenset(("VpcId",))
    changes = _TAGS
    gives = ("RouteTableId",)


class Route(Type):
    """A route. ``Ref`` is the table and the destination."""

    required = frozenset(("RouteTableId",))
    replaces = frozenset(("RouteTableId", *_DESTINATIONS))
    changes = frozenset(_TARGETS)

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        await do.call("ec2", "CreateRoute", dict(properties))  # the same route once more is no error
        destination = next((properties[name] for name in _DESTINATIONS if name in properties), "")
        return Physical(f"{properties['RouteTableId']}|{destination}", {"CidrBlock": destination})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await do.call("ec2", "ReplaceRoute", dict(new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteRoute", picked(properties, "RouteTableId", *_DESTINATIONS))


class _RouteTableAssociation(Type):
    """That a subnet, or a gateway, follows a route table. ``Ref`` is the association's id."""

    follower = ""

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        # A new association takes the place of an old one of the same subnet, as in a replacement.
        table, follower = properties["RouteTableId"], properties[self.follower]
        name = "association.subnet-id" if self.follower == "SubnetId" else "association.gateway-id"
        there = await do.call("ec2", "DescribeRouteTables", {"Filters": [{"Name": name, "Values": [follower]}]})
        for entry in (entry for one in there["RouteTables"] for entry in one["Associations"]):
            if entry.get(self.follower) == follower and entry["RouteTableId"] != table:
                input = {"AssociationId": entry["RouteTableAssociationId"], "RouteTableId": table}
                id = (await do.call("ec2", "ReplaceRouteTableAssociation", input))["NewAssociationId"]
                break
        else:
            id = (await do.call("ec2", "AssociateRouteTable", dict(properties)))["AssociationId"]
        return Physical(id, {"Id": id, "AssociationId": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DisassociateRouteTable", {"AssociationId": physical.id})


class SubnetRouteTableAssociation(_RouteTableAssociation):
    """That a subnet follows a route table."""

    follower = "SubnetId"
    required = replaces = frozenset(("SubnetId", "RouteTableId"))


class GatewayRouteTableAssociation(_RouteTableAssociation):
    """That what comes in through a gateway follows a route table."""

    follower = "GatewayId"
    required = frozenset(("GatewayId", "RouteTableId"))
    replaces = frozenset(("GatewayId",))
    changes = frozenset(("RouteTableId",))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)


class InternetGateway(Thing):
    """An internet gateway. ``Ref`` is its id."""

    kind = kinds.INTERNET_GATEWAY
    changes = _TAGS
    gives = ("InternetGatewayId",)


class VPCGatewayAttachment(Type):
    """That an internet gateway, or a virtual private one, serves a VPC."""

    required = frozenset(("VpcId",))
    replaces = frozenset(("VpcId",))
    changes = frozenset(("InternetGatewayId", "VpnGatewayId"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        if "VpnGatewayId" in properties:
            await do.call("ec2", "AttachVpnGateway", dict(properties))  # once more is no error
            return Physical(f"VGW|{properties['VpcId']}", {"AttachmentType": "VGW"})
        by_vpc = {"Filters": [{"Name": "attachment.vpc-id", "Values": [properties["VpcId"]]}]}
        there = (await do.call("ec2", "DescribeInternetGateways", by_vpc))["InternetGateways"]
        if all(gateway["InternetGatewayId"] != properties.get("InternetGatewayId") for gateway in there):
            await do.call("ec2", "AttachInternetGateway", dict(properties))
        return Physical(f"IGW|{properties['VpcId']}", {"AttachmentType": "IGW"})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await self.delete(do, physical, old)
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        operation = "DetachVpnGateway" if "VpnGatewayId" in properties else "DetachInternetGateway"
        await unless(do, operation, dict(properties), "Gateway.NotAttached", "InvalidVpnGatewayAttachment.NotFound")


class EgressOnlyInternetGateway(Thing):
    """An egress-only internet gateway. ``Ref`` is its id."""

    kind = kinds.EGRESS_ONLY
    required = replaces = frozenset(("VpcId",))
    changes = _TAGS


class CarrierGateway(Thing):
    """A carrier gateway. ``Ref`` is its id."""

    kind = kinds.CARRIER_GATEWAY
    required = replaces = frozenset(("VpcId",))
    changes = _TAGS
    gives = ("CarrierGatewayId", "OwnerId", "State")


class NatGateway(Thing):
    """A NAT gateway. ``Ref`` is its id."""

    kind = kinds.NAT_GATEWAY
    required = frozenset(("SubnetId",))
    replaces = frozenset(("SubnetId", "AllocationId", "ConnectivityType", "PrivateIpAddress"))
    changes = _TAGS
    ignored = frozenset(("MaxDrainDurationSeconds",))
    gives = ("NatGatewayId",)

    async def attributes(self, do: Deployment, found: Properties) -> Properties:
        return {"EniId": found["NatGatewayAddresses"][0]["NetworkInterfaceId"]}


class EIP(Type):
    """An elastic IP address, perhaps an instance's. ``Ref`` is the address."""

    replaces = frozenset(("Domain", "NetworkBorderGroup", "PublicIpv4Pool", "Address"))
    changes = _TAGS | {"InstanceId"}

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        address = await made(do, "DescribeAddresses")
        if address is None:
            input = picked(properties, *self.replaces) | specification(do, properties, "elastic-ip")
            address = await do.call("ec2", "AllocateAddress", input)
        ip = address["PublicIp"]
        if instance := properties.get("InstanceId"):
            await do.call("ec2", "AssociateAddress", {"AllocationId": address["AllocationId"], "InstanceId": instance})
        return Physical(ip, {"AllocationId": address["AllocationId"], "PublicIp": ip})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        address = {"AllocationId": physical.attributes["AllocationId"]}
        await retag(do, physical.attributes["AllocationId"], new)
        if instance := new.get("InstanceId"):
            await do.call("ec2", "AssociateAddress", {**address, "InstanceId": instance})
        elif "InstanceId" in old:
            await unless(do, "DisassociateAddress", {"PublicIp": physical.id})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        if "InstanceId" in properties:
            await unless(do, "DisassociateAddress", {"PublicIp": physical.id})
        await unless(do, "ReleaseAddress", {"AllocationId": physical.attributes["AllocationId"]})


class EIPAssociation(Type):
    """That an elastic IP address is an interface's. ``Ref`` is the association's id."""

    replaces = frozenset(("AllocationId", "EIP", "NetworkInterfaceId", "PrivateIpAddress", "InstanceId"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        input = {("PublicIp" if name == "EIP" else name): value for name, value in properties.items()}
        id = (await do.call("ec2", "AssociateAddress", input))["AssociationId"]
        return Physical(id, {"Id": id})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DisassociateAddress", {"AssociationId": physical.id})


TYPES = [
    *(
        VPC,
        VPCCidrBlock,
        Subnet,
        SubnetCidrBlock,
        RouteTable,
        Route,
        SubnetRouteTableAssociation,
        GatewayRouteTableAssociation,
    ),
    *(InternetGateway, VPCGatewayAttachment, EgressOnlyInternetGateway, CarrierGateway, NatGateway),
    *(EIP, EIPAssociation),
]
