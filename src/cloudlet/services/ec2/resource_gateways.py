"""CloudFormation's types of transit and private gateways and of endpoint services."""

from __future__ import annotations

from cloudlet.services.ec2 import kinds
from cloudlet.services.ec2.stacking import Joint, Thing, Type, is_true, picked, unless
from cloudlet.stacks.api import Deployment, Physical, Properties, changed

_TAGS = frozenset(("Tags",))
_TRANSIT_OPTIONS = frozenset(
    (
        *("AutoAcceptSharedAttachments", "DefaultRouteTableAssociation", "DefaultRouteTablePropagation", "DnsSupport"),
        *("VpnEcmpSupport", "SecurityGroupReferencingSupport", "TransitGatewayCidrBlocks"),
    )
)


_VPN_CONNECTION = ("CustomerGatewayId", "Type", "VpnGatewayId", "TransitGatewayId")
_VPN_OPTIONS = (
    *("EnableAcceleration", "LocalIpv4NetworkCidr", "LocalIpv6NetworkCidr", "OutsideIpAddressType"),
    *("RemoteIpv4NetworkCidr", "RemoteIpv6NetworkCidr", "StaticRoutesOnly", "TunnelBandwidth"),
    *("TransportTransitGatewayAttachmentId", "TunnelInsideIpVersion"),
)


class TransitGateway(Thing):
    """A transit gateway. ``Ref`` is its id."""

    kind = kinds.TRANSIT_GATEWAY
    replaces = frozenset(("AmazonSideAsn", "MulticastSupport"))
    changes = _TRANSIT_OPTIONS | {"Description", "Tags"}
    gives = ("TransitGatewayArn",)

    def input(self, do: Deployment, properties: Properties) -> Properties:
        options = picked(properties, *_TRANSIT_OPTIONS, *self.replaces)
        return picked(properties, "Description") | ({"Options": options} if options else {})

    async def change(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        if not changed(old, new, "Description", *_TRANSIT_OPTIONS):
            return
        options = picked(new, *(_TRANSIT_OPTIONS - {"TransitGatewayCidrBlocks"}))
        before, after = (each.get("TransitGatewayCidrBlocks", []) for each in (old, new))
        options["AddTransitGatewayCidrBlocks"] = [block for block in after if block not in before]
        options["RemoveTransitGatewayCidrBlocks"] = [block for block in before if block not in after]
        input = {"TransitGatewayId": id, "Description": new.get("Description", ""), "Options": options}
        await do.call("ec2", "ModifyTransitGateway", input)


class TransitGatewayVpcAttachment(Thing):
    """That a VPC is attached to a transit gateway. ``Ref`` is the attachment's id."""

    kind = kinds.TRANSIT_ATTACHMENT
    noun = "TransitGatewayVpcAttachment"
    required = frozenset(("TransitGatewayId", "VpcId", "SubnetIds"))
    replaces = required
    changes = frozenset(("AddSubnetIds", "RemoveSubnetIds", "Options", "Tags"))
    asked = frozenset((*required, "Options"))

    async def settle(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        if changed(old, new, "AddSubnetIds", "RemoveSubnetIds") or changed(old or new, new, "Options"):
            more = picked(new, "AddSubnetIds", "RemoveSubnetIds", "Options")
            await do.call("ec2", "ModifyTransitGatewayVpcAttachment", {"TransitGatewayAttachmentId": id, **more})


class TransitGatewayAttachment(TransitGatewayVpcAttachment):
    """The same under its older name, whose subnets are changed in place."""

    replaces = frozenset(("TransitGatewayId", "VpcId"))
    changes = frozenset(("SubnetIds", "Options", "Tags"))

    async def settle(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        if old and changed(old, new, "SubnetIds", "Options"):
            before, after = old["SubnetIds"], new["SubnetIds"]
            input = {
                "TransitGatewayAttachmentId": id,
                "AddSubnetIds": [one for one in after if one not in before],
                "RemoveSubnetIds": [one for one in before if one not in after],
            }
            await do.call("ec2", "ModifyTransitGatewayVpcAttachment", input | picked(new, "Options"))


class TransitGatewayRouteTable(Thing):
    """A transit gateway's route table. ``Ref`` is its id."""

    kind = kinds.TRANSIT_TABLE
    required = replaces = frozenset(("TransitGatewayId",))
    changes = _TAGS
    gives = ("TransitGatewayRouteTableId",)


class TransitGatewayRouteTableAssociation(Joint):
    """That an attachment follows a route table."""

    makes, ends = "AssociateTransitGatewayRouteTable", "DisassociateTransitGatewayRouteTable"
    parts = ("TransitGatewayRouteTableId", "TransitGatewayAttachmentId")
    there = "Resource.AlreadyAssociated"


class TransitGatewayRouteTablePropagation(Joint):
    """That an attachment's routes are known to a route table."""

    makes, ends = "EnableTransitGatewayRouteTablePropagation", "DisableTransitGatewayRouteTablePropagation"
    parts = ("TransitGatewayRouteTableId", "TransitGatewayAttachmentId")
    there = "TransitGatewayRouteTablePropagation.Duplicate"


class TransitGatewayRoute(Joint):
    """A static route of a transit gateway's route table."""

    makes, ends = "CreateTransitGatewayRoute", "DeleteTransitGatewayRoute"
    parts = ("TransitGatewayRouteTableId", "DestinationCidrBlock")
    replaces = frozenset(("Blackhole", "TransitGatewayAttachmentId"))
    there = "RouteAlreadyExists"


class CustomerGateway(Thing):
    """A customer gateway. ``Ref`` is its id."""

    kind = kinds.CUSTOMER_GATEWAY
    required = frozenset(("Type",))
    replaces = frozenset(("BgpAsn", "BgpAsnExtended", "CertificateArn", "DeviceName", "IpAddress", "Type"))
    changes = _TAGS
    gives = ("CustomerGatewayId",)


class VPNGateway(Thing):
    """A virtual private gateway. ``Ref`` is its id."""

    kind = kinds.VPN_GATEWAY
    required = frozenset(("Type",))
    replaces = frozenset(("AmazonSideAsn", "Type"))
    changes = _TAGS

    async def attributes(self, do: Deployment, found: Properties) -> Properties:
        return {"VPNGatewayId": found["VpnGatewayId"]}


class VPNConnection(Thing):
    """A VPN connection. ``Ref`` is its id."""

    kind = kinds.VPN_CONNECTION
    required = frozenset(("CustomerGatewayId", "Type"))
    replaces = frozenset((*_VPN_CONNECTION, *_VPN_OPTIONS, "VpnTunnelOptionsSpecifications"))
    changes = _TAGS
    gives = ("VpnConnectionId",)

    def input(self, do: Deployment, properties: Properties) -> Properties:
        options = {"StaticRoutesOnly": False, **picked(properties, *_VPN_OPTIONS)}
        if "VpnTunnelOptionsSpecifications" in properties:
            options["TunnelOptions"] = properties["VpnTunnelOptionsSpecifications"]
        return picked(properties, *_VPN_CONNECTION) | {"Options": options}


class VPNConnectionRoute(Joint):
    """A static route of a VPN connection."""

    makes, ends = "CreateVpnConnectionRoute", "DeleteVpnConnectionRoute"
    parts = ("DestinationCidrBlock", "VpnConnectionId")


class VPNGatewayRoutePropagation(Type):
    """That the routes of a virtual private gateway are known to route tables."""

    required = changes = frozenset(("RouteTableIds", "VpnGatewayId"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        return await self.update(do, Physical(do.name(255)), {}, properties)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        kept = new["RouteTableIds"] if old.get("VpnGatewayId") == new["VpnGatewayId"] else []
        gone = [table for table in old.get("RouteTableIds", []) if table not in kept]
        await self.delete(do, physical, {**old, "RouteTableIds": gone})
        for table in new["RouteTableIds"]:
            input = {"RouteTableId": table, "GatewayId": new["VpnGatewayId"]}
            await do.call("ec2", "EnableVgwRoutePropagation", input)
        return Physical(physical.id, {"Id": physical.id})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        for table in properties["RouteTableIds"]:
            input = {"RouteTableId": table, "GatewayId": properties["VpnGatewayId"]}
            await unless(do, "DisableVgwRoutePropagation", input)


class VPCEndpointService(Thing):
    """An endpoint service. ``Ref`` is its id."""

    kind = kinds.ENDPOINT_SERVICE
    noun = "VpcEndpointServiceConfiguration"
    changes = frozenset(("AcceptanceRequired", "NetworkLoadBalancerArns", "GatewayLoadBalancerArns", "Tags"))
    ignored = frozenset(("ContributorInsightsEnabled",))
    asked = changes - {"Tags"}
    gives = ("ServiceId",)

    async def change(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        input = {"ServiceId": id, "AcceptanceRequired": is_true(new.get("AcceptanceRequired", True))}
        for name in ("NetworkLoadBalancerArns", "GatewayLoadBalancerArns"):
            before, after = old.get(name, []), new.get(name, [])
            input[f"Add{name}"] = [arn for arn in after if arn not in before]
            input[f"Remove{name}"] = [arn for arn in before if arn not in after]
        await do.call("ec2", "ModifyVpcEndpointServiceConfiguration", input)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeleteVpcEndpointServiceConfigurations", {"ServiceIds": [physical.id]})


class VPCEndpointServicePermissions(Type):
    """Who may make endpoints of an endpoint service."""

    required = frozenset(("ServiceId",))
    replaces = frozenset(("ServiceId",))
    changes = frozenset(("AllowedPrincipals",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        await self._set(do, properties["ServiceId"], [], properties.get("AllowedPrincipals", []))
        return Physical(properties["ServiceId"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await self._set(do, physical.id, old.get("AllowedPrincipals", []), new.get("AllowedPrincipals", []))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        gone = {"ServiceId": physical.id, "RemoveAllowedPrincipals": properties.get("AllowedPrincipals", [])}
        await unless(do, "ModifyVpcEndpointServicePermissions", gone)

    async def _set(self, do: Deployment, id: str, old: list[str], new: list[str]) -> None:
        input = {
            "ServiceId": id,
            "AddAllowedPrincipals": [one for one in new if one not in old],
            "RemoveAllowedPrincipals": [one for one in old if one not in new],
        }
        await do.call("ec2", "ModifyVpcEndpointServicePermissions", input)


TYPES = [
    *(TransitGateway, TransitGatewayVpcAttachment, TransitGatewayAttachment, TransitGatewayRouteTable),
    *(TransitGatewayRouteTableAssociation, TransitGatewayRouteTablePropagation, TransitGatewayRoute),
    *(CustomerGateway, VPNGateway, VPNConnection, VPNConnectionRoute, VPNGatewayRoutePropagation),
    *(VPCEndpointService, VPCEndpointServicePermissions),
]
