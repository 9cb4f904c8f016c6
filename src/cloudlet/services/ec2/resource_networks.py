"""CloudFormation's types of VPCs, subnets, routes and gateways."""

from __future__ import annotations

from cloudlet.services.ec2 import cidr
from cloudlet.services.ec2.stacking import Type, is_true, made, picked, retag, specification, unless
from cloudlet.stacks.api import Deployment, Physical, Properties, changed

_DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
_TARGETS = (
    *("GatewayId", "NatGatewayId", "NetworkInterfaceId", "EgressOnlyInternetGatewayId", "InstanceId"),
    *("VpcPeeringConnectionId", "VpcEndpointId", "TransitGatewayId", "CarrierGatewayId", "LocalGatewayId"),
)


class VPC(Type):
    """A VPC. ``Ref`` is its id."""

    type = "AWS::EC2::VPC"
    replaces = frozenset(("CidrBlock",))
    changes = frozenset(("EnableDnsHostnames", "EnableDnsSupport", "InstanceTenancy", "Tags"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        vpc = await made(do, "DescribeVpcs", "Vpcs")
        if vpc is None:
            input = picked(properties, "CidrBlock", "InstanceTenancy")
            vpc = (await do.call("ec2", "CreateVpc", input | specification(do, properties, "vpc")))["Vpc"]
        id = vpc["VpcId"]
        await self._set(do, id, {}, properties)
        mine = {"Filters": [{"Name": "vpc-id", "Values": [id]}]}
        acls = (await do.call("ec2", "DescribeNetworkAcls", mine))["NetworkAcls"]
        groups = (await do.call("ec2", "DescribeSecurityGroups", mine))["SecurityGroups"]
        attributes = {
            "VpcId": id,
            "CidrBlock": vpc["CidrBlock"],
            "CidrBlockAssociations": [entry["AssociationId"] for entry in vpc["CidrBlockAssociationSet"]],
            "DefaultNetworkAcl": next(acl["NetworkAclId"] for acl in acls if acl["IsDefault"]),
            "DefaultSecurityGroup": next(group["GroupId"] for group in groups if group["GroupName"] == "default"),
            # Asked for when a VPCCidrBlock has given the VPC its block, which here is known from the beginning.
            "Ipv6CidrBlocks": [cidr.block6_of(id)],
        }
        return Physical(id, attributes)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await self._set(do, physical.id, old, new)
        if changed(old, new, "InstanceTenancy"):
            tenancy = new.get("InstanceTenancy", "default")
            await do.call("ec2", "ModifyVpcTenancy", {"VpcId": physical.id, "InstanceTenancy": tenancy})
        await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteVpc", {"VpcId": physical.id})

    async def _set(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        for name, default in (("EnableDnsSupport", True), ("EnableDnsHostnames", False)):
            if changed(old, new, name):
                value = is_true(new.get(name, default))
                await do.call("ec2", "ModifyVpcAttribute", {"VpcId": id, name: {"Value": value}})


class VPCCidrBlock(Type):
    """A further block of a VPC. ``Ref`` is the id of its association."""

    type = "AWS::EC2::VPCCidrBlock"
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


class Subnet(Type):
    """A subnet. ``Ref`` is its id."""

    type = "AWS::EC2::Subnet"
    required = frozenset(("VpcId",))
    replaces = frozenset(("VpcId", "CidrBlock", "AvailabilityZone", "AvailabilityZoneId", "Ipv6CidrBlock"))
    changes = frozenset(
        (
            *("MapPublicIpOnLaunch", "AssignIpv6AddressOnCreation", "EnableDns64", "Tags"),
            "PrivateDnsNameOptionsOnLaunch",
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        subnet = await made(do, "DescribeSubnets", "Subnets")
        if subnet is None:
            names = ("VpcId", "CidrBlock", "AvailabilityZone", "AvailabilityZoneId", "Ipv6CidrBlock")
            input = picked(properties, *names) | specification(do, properties, "subnet")
            subnet = (await do.call("ec2", "CreateSubnet", input))["Subnet"]
        id = subnet["SubnetId"]
        await self._set(do, id, {}, properties)
        by_subnet = {"Filters": [{"Name": "association.subnet-id", "Values": [id]}]}
        acls = (await do.call("ec2", "DescribeNetworkAcls", by_subnet))["NetworkAcls"]
        associations = [entry for acl in acls for entry in acl["Associations"] if entry["SubnetId"] == id]
        attributes = {
            **picked(subnet, "SubnetId", "AvailabilityZone", "AvailabilityZoneId", "CidrBlock", "VpcId"),
            "Ipv6CidrBlocks": [entry["Ipv6CidrBlock"] for entry in subnet["Ipv6CidrBlockAssociationSet"]],
            "NetworkAclAssociationId": associations[0]["NetworkAclAssociationId"],
        }
        return Physical(id, attributes)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await self._set(do, physical.id, old, new)
        await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteSubnet", {"SubnetId": physical.id})

    async def _set(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        settings: Properties = {}
        for name in ("MapPublicIpOnLaunch", "AssignIpv6AddressOnCreation", "EnableDns64"):
            if changed(old, new, name):
                settings[name] = {"Value": is_true(new.get(name, False))}
        if changed(old, new, "PrivateDnsNameOptionsOnLaunch"):
            options = new.get("PrivateDnsNameOptionsOnLaunch", {})
            settings["PrivateDnsHostnameTypeOnLaunch"] = options.get("HostnameType", "ip-name")
            for name in ("EnableResourceNameDnsARecord", "EnableResourceNameDnsAAAARecord"):
                settings[f"{name}OnLaunch"] = {"Value": is_true(options.get(name, False))}
        for name, value in settings.items():
            await do.call("ec2", "ModifySubnetAttribute", {"SubnetId": id, name: value})


class RouteTable(Type):
    """A route table. ``Ref`` is its id."""

    type = "AWS::EC2::RouteTable"
    required = frozenset(("VpcId",))
    replaces = frozenset(("VpcId",))
    changes = frozenset(("Tags",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        table = await made(do, "DescribeRouteTables", "RouteTables")
        if table is None:
            input = {"VpcId": properties["VpcId"]} | specification(do, properties, "route-table")
            table = (await do.call("ec2", "CreateRouteTable", input))["RouteTable"]
        return Physical(table["RouteTableId"], {"RouteTableId": table["RouteTableId"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteRouteTable", {"RouteTableId": physical.id})


class Route(Type):
    """A route. ``Ref`` is the table and the destination."""

    type = "AWS::EC2::Route"
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


class SubnetRouteTableAssociation(Type):
    """That a subnet follows a route table. ``Ref`` is the association's id."""

    type = "AWS::EC2::SubnetRouteTableAssociation"
    required = frozenset(("RouteTableId", "SubnetId"))
    replaces = frozenset(("SubnetId", "RouteTableId"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        # A new association takes the place of an old one of the same subnet, as in a replacement.
        by_subnet = {"Filters": [{"Name": "association.subnet-id", "Values": [properties["SubnetId"]]}]}
        for table in (await do.call("ec2", "DescribeRouteTables", by_subnet))["RouteTables"]:
            for entry in table["Associations"]:
                if (
                    entry.get("SubnetId") == properties["SubnetId"]
                    and table["RouteTableId"] != properties["RouteTableId"]
                ):
                    input = {
                        "AssociationId": entry["RouteTableAssociationId"],
                        "RouteTableId": properties["RouteTableId"],
                    }
                    answer = await do.call("ec2", "ReplaceRouteTableAssociation", input)
                    return Physical(answer["NewAssociationId"], {"Id": answer["NewAssociationId"]})
        id = (await do.call("ec2", "AssociateRouteTable", dict(properties)))["AssociationId"]
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DisassociateRouteTable", {"AssociationId": physical.id})


class InternetGateway(Type):
    """An internet gateway. ``Ref`` is its id."""

    type = "AWS::EC2::InternetGateway"
    changes = frozenset(("Tags",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        gateway = await made(do, "DescribeInternetGateways", "InternetGateways")
        if gateway is None:
            input = specification(do, properties, "internet-gateway")
            gateway = (await do.call("ec2", "CreateInternetGateway", input))["InternetGateway"]
        return Physical(gateway["InternetGatewayId"], {"InternetGatewayId": gateway["InternetGatewayId"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteInternetGateway", {"InternetGatewayId": physical.id})


class VPCGatewayAttachment(Type):
    """That an internet gateway serves a VPC."""

    type = "AWS::EC2::VPCGatewayAttachment"
    required = frozenset(("VpcId",))
    replaces = frozenset(("VpcId", "InternetGatewayId"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        by_vpc = {"Filters": [{"Name": "attachment.vpc-id", "Values": [properties["VpcId"]]}]}
        there = (await do.call("ec2", "DescribeInternetGateways", by_vpc))["InternetGateways"]
        if all(gateway["InternetGatewayId"] != properties.get("InternetGatewayId") for gateway in there):
            await do.call("ec2", "AttachInternetGateway", dict(properties))
        return Physical(f"IGW|{properties['VpcId']}", {"AttachmentType": "IGW"})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DetachInternetGateway", dict(properties), "Gateway.NotAttached")


class EgressOnlyInternetGateway(Type):
    """An egress-only internet gateway. ``Ref`` is its id."""

    type = "AWS::EC2::EgressOnlyInternetGateway"
    required = frozenset(("VpcId",))
    replaces = frozenset(("VpcId",))
    changes = frozenset(("Tags",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        plural = "EgressOnlyInternetGateways"
        gateway = await made(do, f"Describe{plural}", plural)
        if gateway is None:
            input = {"VpcId": properties["VpcId"]}
            input |= specification(do, properties, "egress-only-internet-gateway")
            gateway = (await do.call("ec2", "CreateEgressOnlyInternetGateway", input))["EgressOnlyInternetGateway"]
        id = gateway["EgressOnlyInternetGatewayId"]
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteEgressOnlyInternetGateway", {"EgressOnlyInternetGatewayId": physical.id})


class NatGateway(Type):
    """A NAT gateway. ``Ref`` is its id."""

    type = "AWS::EC2::NatGateway"
    required = frozenset(("SubnetId",))
    replaces = frozenset(("SubnetId", "AllocationId", "ConnectivityType", "PrivateIpAddress"))
    changes = frozenset(("Tags",))
    ignored = frozenset(("MaxDrainDurationSeconds",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        nat = await made(do, "DescribeNatGateways", "NatGateways")
        if nat is None:
            input = picked(properties, *self.replaces) | specification(do, properties, "natgateway")
            nat = (await do.call("ec2", "CreateNatGateway", input))["NatGateway"]
        return Physical(nat["NatGatewayId"], {"NatGatewayId": nat["NatGatewayId"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteNatGateway", {"NatGatewayId": physical.id})


class EIP(Type):
    """An elastic IP address. ``Ref`` is the address."""

    type = "AWS::EC2::EIP"
    replaces = frozenset(("Domain", "NetworkBorderGroup", "PublicIpv4Pool", "Address"))
    changes = frozenset(("Tags",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        address = await made(do, "DescribeAddresses", "Addresses")
        if address is None:
            input = picked(properties, *self.replaces) | specification(do, properties, "elastic-ip")
            address = await do.call("ec2", "AllocateAddress", input)
        ip = address["PublicIp"]
        return Physical(ip, {"AllocationId": address["AllocationId"], "PublicIp": ip})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await retag(do, physical.attributes["AllocationId"], new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "ReleaseAddress", {"AllocationId": physical.attributes["AllocationId"]})


class EIPAssociation(Type):
    """That an elastic IP address is an interface's. ``Ref`` is the association's id."""

    type = "AWS::EC2::EIPAssociation"
    required = frozenset(("AllocationId",))
    replaces = frozenset(("AllocationId", "NetworkInterfaceId", "PrivateIpAddress", "InstanceId"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        id = (await do.call("ec2", "AssociateAddress", dict(properties)))["AssociationId"]
        return Physical(id, {"Id": id})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DisassociateAddress", {"AssociationId": physical.id})


TYPES = [
    VPC,
    VPCCidrBlock,
    Subnet,
    RouteTable,
    Route,
    SubnetRouteTableAssociation,
    InternetGateway,
    VPCGatewayAttachment,
    EgressOnlyInternetGateway,
    NatGateway,
    EIP,
    EIPAssociation,
]
