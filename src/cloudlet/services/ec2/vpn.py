"""Virtual private networks: records. A connection's tunnels are down, as they are at AWS until a device dials in."""

from __future__ import annotations

import secrets
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import cidr, transit
from cloudlet.services.ec2.addresses import free_address
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import (
    CUSTOMER_GATEWAY,
    ROUTE_TABLE,
    TRANSIT_GATEWAY,
    VPC,
    VPN_CONNECTION,
    VPN_GATEWAY,
)
from cloudlet.services.ec2.operations import creates, deletes, describes, refuse_all_but
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import Members, World, invalid, missing, shown_tags

_SPELLED = {
    "DPDTimeoutAction": "DpdTimeoutAction",
    "DPDTimeoutSeconds": "DpdTimeoutSeconds",
    "IKEVersions": "IkeVersions",
}
_TUNNEL = {  # what AWS uses where a tunnel's options say nothing
    "Phase1LifetimeSeconds": 28800,
    "Phase2LifetimeSeconds": 3600,
    "RekeyMarginTimeSeconds": 540,
    "RekeyFuzzPercentage": 100,
    "ReplayWindowSize": 1024,
    "DpdTimeoutSeconds": 30,
    "DpdTimeoutAction": "clear",
    "StartupAction": "add",
}


def _customer_gateway(world: World, input: Input) -> Members:
    _check_type(input)
    address = input.get("IpAddress") or input.get("PublicIp")
    if address is None and "CertificateArn" not in input:
        raise missing("ipAddress")
    number = input.get("BgpAsn", input.get("BgpAsnExtended", 65000))
    shown = {"BgpAsn": str(number), "State": "available", "Type": input["Type"]}
    shown |= {"IpAddress": address} if address is not None else {}
    return shown | {name: input[name] for name in ("CertificateArn", "DeviceName") if name in input}


def _vpn_gateway(world: World, input: Input) -> Members:
    _check_type(input)
    zone = {"AvailabilityZone": input["AvailabilityZone"]} if "AvailabilityZone" in input else {}
    number = input.get("AmazonSideAsn", 64512)
    return {"AmazonSideAsn": number, "State": "available", "Type": input["Type"], "VpcAttachments": [], **zone}


def _check_customer_unused(world: World, item: Item) -> None:
    if any(one.shown["State"] != "deleted" for one in world.all(VPN_CONNECTION, CustomerGatewayId=item.id)):
        raise AwsError("IncorrectState", "The customer gateway is in use.")


def _check_gateway_unused(world: World, item: Item) -> None:
    attached = any(entry["State"] == "attached" for entry in item.shown["VpcAttachments"])
    if attached or any(one.shown["State"] != "deleted" for one in world.all(VPN_CONNECTION, VpnGatewayId=item.id)):
        raise AwsError("IncorrectState", "The vpnGateway is in use.")


class Vpns(Base):
    """Operations on customer gateways, virtual private gateways and their connections."""

    CreateCustomerGateway = creates(
        CUSTOMER_GATEWAY,
        _customer_gateway,
        ["BgpAsn", "BgpAsnExtended", "PublicIp", "IpAddress", "CertificateArn", "Type", "DeviceName"],
    )
    DescribeCustomerGateways = describes(CUSTOMER_GATEWAY)
    DeleteCustomerGateway = deletes(CUSTOMER_GATEWAY, _check_customer_unused)

    CreateVpnGateway = creates(VPN_GATEWAY, _vpn_gateway, ["AvailabilityZone", "Type", "AmazonSideAsn"])
    DescribeVpnGateways = describes(VPN_GATEWAY)
    DeleteVpnGateway = deletes(VPN_GATEWAY, _check_gateway_unused)

    async def AttachVpnGateway(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            gateway, vpc = _available(world, VPN_GATEWAY, input["VpnGatewayId"]), world.get(VPC, input["VpcId"])
            for entry in gateway.shown["VpcAttachments"]:
                if entry["State"] == "attached" and entry["VpcId"] != vpc.id:
                    raise invalid(f"vpn gateway {gateway.id} is already attached to network {entry['VpcId']}")
            for other in world.all(VPN_GATEWAY):
                if other.id != gateway.id and _is_attached(other, vpc.id):
                    raise invalid(f"Network {vpc.id} already has a vpn gateway attached")
            attachment = {"State": "attached", "VpcId": vpc.id}
            world.change(gateway, {"VpcAttachments": [attachment]})
            return {"VpcAttachment": attachment}

        return await self.write(call.scope, work)

    async def DetachVpnGateway(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            gateway = world.get(VPN_GATEWAY, input["VpnGatewayId"])
            if not _is_attached(gateway, input["VpcId"]):
                raise AwsError(
                    "InvalidVpnGatewayAttachment.NotFound",
                    f"The attachment with vpn gateway ID '{gateway.id}' and vpc ID '{input['VpcId']}' does not exist",
                )
            world.change(gateway, {"VpcAttachments": [{"State": "detached", "VpcId": input["VpcId"]}]})
            return {}

        return await self.write(call.scope, work)

    async def EnableVgwRoutePropagation(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            table, gateway = world.get(ROUTE_TABLE, input["RouteTableId"]), world.get(VPN_GATEWAY, input["GatewayId"])
            if not _is_attached(gateway, table.shown["VpcId"]):
                raise AwsError(
                    "Gateway.NotAttached", f"resource {gateway.id} is not attached to network {table.shown['VpcId']}"
                )
            others = [one for one in table.shown["PropagatingVgws"] if one["GatewayId"] != gateway.id]
            world.change(table, {"PropagatingVgws": [*others, {"GatewayId": gateway.id}]})
            return {}

        return await self.write(call.scope, work)

    async def DisableVgwRoutePropagation(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            table = world.get(ROUTE_TABLE, input["RouteTableId"])
            kept = [one for one in table.shown["PropagatingVgws"] if one["GatewayId"] != input["GatewayId"]]
            world.change(table, {"PropagatingVgws": kept})
            return {}

        return await self.write(call.scope, work)

    async def CreateVpnConnection(self, call: Call, input: Input) -> Output:
        if "VpnGatewayId" in input and "TransitGatewayId" in input:
            raise invalid("The request must not contain both parameter vpnGatewayId and transitGatewayId")
        known = ("CustomerGatewayId", "Type", "VpnGatewayId", "TransitGatewayId", "Options")
        refuse_all_but(call, input, *known, "TagSpecifications", "DryRun")
        tags = new_tags(call, input, VPN_CONNECTION)

        def work(world: World) -> Output:
            made = world.make(VPN_CONNECTION, _connection(world, input), tags)
            if (id := input.get("TransitGatewayId")) is not None:
                transit.attach(world, world.get(TRANSIT_GATEWAY, id), "vpn", made.id, {})
            return {"VpnConnection": {**made.shown, "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    DescribeVpnConnections = describes(VPN_CONNECTION)

    async def DeleteVpnConnection(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(VPN_CONNECTION, input["VpnConnectionId"])
            transit.detach(world, item.id)
            world.retire(VPN_CONNECTION, item)
            return {}

        return await self.write(call.scope, work)

    async def CreateVpnConnectionRoute(self, call: Call, input: Input) -> Output:
        block = str(cidr.network(input["DestinationCidrBlock"], "destinationCidrBlock"))

        def work(world: World) -> Output:
            item = _available(world, VPN_CONNECTION, input["VpnConnectionId"])
            if not item.shown["Options"]["StaticRoutesOnly"]:
                raise invalid(f"The VPN connection '{item.id}' does not support static routes.")
            others = [one for one in item.shown["Routes"] if one["DestinationCidrBlock"] != block]
            route = {"DestinationCidrBlock": block, "Source": "Static", "State": "available"}
            world.change(item, {"Routes": [*others, route]})
            return {}

        return await self.write(call.scope, work)

    async def DeleteVpnConnectionRoute(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(VPN_CONNECTION, input["VpnConnectionId"])
            kept = [one for one in item.shown["Routes"] if one["DestinationCidrBlock"] != input["DestinationCidrBlock"]]
            if len(kept) == len(item.shown["Routes"]):
                raise AwsError("InvalidRoute.NotFound", f"no route to {input['DestinationCidrBlock']} in {item.id}")
            world.change(item, {"Routes": kept})
            return {}

        return await self.write(call.scope, work)


def serves(world: World, vpc_id: str) -> bool:
    """Whether a virtual private gateway is attached to a VPC."""
    return any(_is_attached(gateway, vpc_id) for gateway in world.all(VPN_GATEWAY))


def _check_type(input: Input) -> None:
    if input["Type"] != "ipsec.1":
        raise invalid(f"Invalid value '{input['Type']}' for vpnType. Only 'ipsec.1' is supported.")


def _is_attached(gateway: Item, vpc_id: str) -> bool:
    return any(entry == {"State": "attached", "VpcId": vpc_id} for entry in gateway.shown["VpcAttachments"])


def _available(world: World, kind: Any, id: str) -> Item:
    item = world.get(kind, id)
    if item.shown["State"] == "deleted":
        raise kind.not_found(id)
    return item


def _connection(world: World, input: Input) -> Members:
    _check_type(input)
    customer = _available(world, CUSTOMER_GATEWAY, input["CustomerGatewayId"])
    shown: Members = {"CustomerGatewayId": customer.id, "Type": input["Type"], "Category": "VPN", "State": "available"}
    if "TransitGatewayId" in input:
        shown["TransitGatewayId"] = world.get(TRANSIT_GATEWAY, input["TransitGatewayId"]).id
    elif "VpnGatewayId" in input:
        shown["VpnGatewayId"] = _available(world, VPN_GATEWAY, input["VpnGatewayId"]).id
    shown["BgpAsn"] = customer.shown["BgpAsn"]  # only to be filtered by
    options = input.get("Options", {})
    tunnels = [_tunnel(world, given) for given in (*options.get("TunnelOptions", ()), {}, {})][:2]
    shown["Options"] = {
        "EnableAcceleration": False,
        "LocalIpv4NetworkCidr": "0.0.0.0/0",
        "OutsideIpAddressType": "PublicIpv4",
        "RemoteIpv4NetworkCidr": "0.0.0.0/0",
        "StaticRoutesOnly": False,
        "TunnelInsideIpVersion": "ipv4",
        **options,
        "TunnelOptions": tunnels,
    }
    down = {"AcceptedRouteCount": 0, "LastStatusChange": world.now, "Status": "DOWN", "StatusMessage": ""}
    shown["VgwTelemetry"] = [{**down, "OutsideIpAddress": tunnel["OutsideIpAddress"]} for tunnel in tunnels]
    shown["Routes"] = []
    shown["CustomerGatewayConfiguration"] = _configuration(shown, customer, tunnels)
    return shown


def _tunnel(world: World, given: Members) -> Members:
    inside = given.get("TunnelInsideCidr", f"169.254.{6 + secrets.randbelow(240)}.{4 * secrets.randbelow(64)}/30")
    secret = given.get("PreSharedKey") or secrets.token_urlsafe(24).replace("-", "_").lstrip("0")
    fixed = {"OutsideIpAddress": free_address(set()), "TunnelInsideCidr": inside, "PreSharedKey": secret}
    # Answers spell these three in another way than requests.
    spelled = {_SPELLED.get(name, name): value for name, value in given.items()}
    return {**_TUNNEL, **spelled, **fixed}


def _configuration(shown: Members, customer: Item, tunnels: list[Members]) -> str:
    """What a device is set up with, in the form of AWS's document."""
    inner = "".join(
        f"""<ipsec_tunnel>
<customer_gateway><tunnel_outside_address><ip_address>{customer.shown.get("IpAddress", "")}</ip_address>
</tunnel_outside_address><tunnel_inside_address>
<ip_address>{cidr.address_of(tunnel["TunnelInsideCidr"], 2)}</ip_address>
<network_mask>255.255.255.252</network_mask><network_cidr>30</network_cidr></tunnel_inside_address>
<bgp><asn>{customer.shown["BgpAsn"]}</asn><hold_time>30</hold_time></bgp></customer_gateway>
<vpn_gateway><tunnel_outside_address><ip_address>{tunnel["OutsideIpAddress"]}</ip_address></tunnel_outside_address>
<tunnel_inside_address><ip_address>{cidr.address_of(tunnel["TunnelInsideCidr"], 1)}</ip_address>
<network_mask>255.255.255.252</network_mask><network_cidr>30</network_cidr></tunnel_inside_address>
<bgp><asn>64512</asn><hold_time>30</hold_time></bgp></vpn_gateway>
<ike><pre_shared_key>{tunnel["PreSharedKey"]}</pre_shared_key></ike></ipsec_tunnel>
"""
        for tunnel in tunnels
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<vpn_connection>\n'
        f"<customer_gateway_id>{customer.id}</customer_gateway_id>\n"
        f"<vpn_gateway_id>{shown.get('VpnGatewayId', '')}</vpn_gateway_id>\n"
        f"<vpn_connection_type>ipsec.1</vpn_connection_type>\n{inner}</vpn_connection>"
    )
