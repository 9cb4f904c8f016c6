"""Route tables, their routes and their associations."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import cidr, defaults
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import (
    CARRIER_GATEWAY,
    EGRESS_ONLY,
    INTERFACE,
    INTERNET_GATEWAY,
    NAT_GATEWAY,
    PEERING,
    PREFIX_LIST,
    ROUTE_TABLE,
    SUBNET,
    TRANSIT_GATEWAY,
    VPC,
    VPN_GATEWAY,
)
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, in_use, invalid, missing, new_id, shown_tags

Route = dict[str, Any]

_DESTINATIONS = {
    "DestinationCidrBlock": "destination-cidr-block",
    "DestinationIpv6CidrBlock": "destination-ipv6-cidr-block",
    "DestinationPrefixListId": "destination-prefix-list-id",
}
_TARGETS = {
    "NatGatewayId": NAT_GATEWAY,
    "EgressOnlyInternetGatewayId": EGRESS_ONLY,
    "NetworkInterfaceId": INTERFACE,
    "VpcPeeringConnectionId": PEERING,
    "TransitGatewayId": TRANSIT_GATEWAY,
    "CarrierGatewayId": CARRIER_GATEWAY,
}
_ATTACHMENTS = {INTERNET_GATEWAY: "Attachments", VPN_GATEWAY: "VpcAttachments"}
_UNKNOWN_TARGETS = ("LocalGatewayId", "CoreNetworkArn", "OdbNetworkArn")


class Routes(Base):
    """Operations on route tables."""

    async def CreateRouteTable(self, call: Call, input: Input) -> Output:
        tags = new_tags(call, input, ROUTE_TABLE)

        def work(world: World) -> Output:
            table = defaults.make_route_table(world, world.get(VPC, input["VpcId"]), tags)
            return {"RouteTable": {**table.shown, "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    async def DescribeRouteTables(self, call: Call, input: Input) -> Output:
        return self.described(call, input, ROUTE_TABLE, _shown)

    async def DeleteRouteTable(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            table = world.get(ROUTE_TABLE, input["RouteTableId"])
            if table.shown["Associations"]:
                raise in_use(f"The routeTable '{table.id}' has dependencies and cannot be deleted.")
            world.delete(table)
            return {}

        return await self.write(call.scope, work)

    async def CreateRoute(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            table = world.get(ROUTE_TABLE, input["RouteTableId"])
            member, destination = _destination(world, input)
            target = _target(world, table, input)
            there = next((route for route in table.shown["Routes"] if route.get(member) == destination), None)
            if there is not None and all(there.get(key) == value for key, value in target.items()):
                return {"Return": True}
            if there is not None:
                raise AwsError("RouteAlreadyExists", f"The route identified by {destination} already exists.")
            route = {member: destination, **target, "Origin": "CreateRoute", "State": "active"}
            world.change(table, {"Routes": [*table.shown["Routes"], route]})
            return {"Return": True}

        return await self.write(call.scope, work)

    async def ReplaceRoute(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            table = world.get(ROUTE_TABLE, input["RouteTableId"])
            member, destination = _destination(world, input)
            routes = table.shown["Routes"]
            places = [at for at, route in enumerate(routes) if route.get(member) == destination]
            if not places:
                raise invalid(
                    f"There is no route defined for '{destination}' in the route table. Use CreateRoute instead."
                )
            old = routes[places[0]]
            target = {"GatewayId": "local"} if input.get("LocalTarget") else _target(world, table, input)
            new = {member: destination, **target, "Origin": old["Origin"], "State": "active"}
            world.change(table, {"Routes": [new if route is old else route for route in routes]})
            return {}

        return await self.write(call.scope, work)

    async def DeleteRoute(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            table = world.get(ROUTE_TABLE, input["RouteTableId"])
            member, destination = _destination(world, input)
            kept = [route for route in table.shown["Routes"] if route.get(member) != destination]
            gone = [route for route in table.shown["Routes"] if route.get(member) == destination]
            if not gone:
                raise AwsError(
                    "InvalidRoute.NotFound",
                    f"no route with {_DESTINATIONS[member]} {destination} in route table {table.id}",
                )
            if gone[0]["Origin"] == "CreateRouteTable":
                raise invalid(f"cannot remove local route {destination} in route table {table.id}")
            world.change(table, {"Routes": kept})
            return {}

        return await self.write(call.scope, work)

    async def AssociateRouteTable(self, call: Call, input: Input) -> Output:
        if "PublicIpv4Pool" in input:
            raise not_implemented("AssociateRouteTable with PublicIpv4Pool")
        member = "SubnetId" if "SubnetId" in input else "GatewayId"
        if member not in input:
            raise missing("subnetId or gatewayId")

        def work(world: World) -> Output:
            table = world.get(ROUTE_TABLE, input["RouteTableId"])
            other = world.get(SUBNET if member == "SubnetId" else INTERNET_GATEWAY, input[member])
            if member == "SubnetId" and other.shown["VpcId"] != table.shown["VpcId"]:
                raise invalid(f"Route table {table.id} and subnet {other.id} belong to different networks")
            for one in world.all(ROUTE_TABLE, VpcId=table.shown["VpcId"]):
                for association in one.shown["Associations"]:
                    if association.get(member) != other.id:
                        continue
                    if one.id == table.id:
                        return _associated(association)
                    raise AwsError(
                        "Resource.AlreadyAssociated",
                        f"the specified association for route table {table.id} conflicts with an existing association",
                    )
            members: dict[str, Any] = {"Main": False, member: other.id}
            association = _association(table, members)
            world.change(table, {"Associations": [*table.shown["Associations"], association]})
            return _associated(association)

        return await self.write(call.scope, work)

    async def DisassociateRouteTable(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            table, association = _find(world, input["AssociationId"])
            if association["Main"]:
                raise invalid(f"cannot disassociate the main route table association {input['AssociationId']}")
            world.change(table, {"Associations": [one for one in table.shown["Associations"] if one != association]})
            return {}

        return await self.write(call.scope, work)

    async def ReplaceRouteTableAssociation(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            target = world.get(ROUTE_TABLE, input["RouteTableId"])
            table, association = _find(world, input["AssociationId"])
            if table.id == target.id:
                answer = _associated(association)
                return {**answer, "NewAssociationId": answer.pop("AssociationId")}
            if table.shown["VpcId"] != target.shown["VpcId"]:
                raise invalid(f"Route tables {table.id} and {target.id} belong to different networks")
            world.change(table, {"Associations": [one for one in table.shown["Associations"] if one != association]})
            kept: dict[str, Any] = {
                name: association[name] for name in ("Main", "SubnetId", "GatewayId") if name in association
            }
            moved = _association(target, kept)
            world.change(target, {"Associations": [*target.shown["Associations"], moved]})
            return {"NewAssociationId": moved["RouteTableAssociationId"], "AssociationState": {"State": "associated"}}

        return await self.write(call.scope, work)


def _shown(world: World, table: Item) -> dict[str, Any]:
    """A route table; a route whose target is gone leads nowhere."""
    routes = [{**route, "State": "active" if _leads(world, route) else "blackhole"} for route in table.shown["Routes"]]
    return {**table.shown, "Routes": routes}


def _leads(world: World, route: Route) -> bool:
    gateway = route.get("GatewayId", "local")
    if gateway == "local" and not any(name in route for name in _TARGETS):
        return True
    for kind, member in _ATTACHMENTS.items():
        if kind.has(gateway):
            found = world.find(gateway)
            return found is not None and any(entry["State"] != "detached" for entry in found.shown.get(member, ()))
    ids = [route[name] for name in _TARGETS if name in route] or [gateway]
    target = world.find(ids[0])
    if target is None or target.shown.get("State") == "deleted":
        return False
    return "Status" not in target.shown or target.id.startswith("eni-") or target.shown["Status"]["Code"] == "active"


def _destination(world: World, input: Input) -> tuple[str, str]:
    """The member of the destination, and the destination."""
    given = [name for name in _DESTINATIONS if input.get(name)]
    if len(given) != 1:
        raise missing("destinationCidrBlock") if not given else invalid("Exactly one destination must be given.")
    member = given[0]
    if member == "DestinationCidrBlock":
        return member, str(cidr.network(input[member], "destinationCidrBlock"))
    if member == "DestinationIpv6CidrBlock":
        return member, str(cidr.network6(input[member]))
    return member, world.get(PREFIX_LIST, input[member]).id


def _target(world: World, table: Item, input: Input) -> dict[str, str]:
    """Where a route leads. Raises Invalid<Kind>.NotFound, InvalidParameterValue."""
    for name in _UNKNOWN_TARGETS:
        if name in input:
            raise not_implemented(f"routes with {name}")
    for name, kind in _TARGETS.items():
        if name in input:
            return {name: world.get(kind, input[name]).id}
    if "InstanceId" in input:
        raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{input['InstanceId']}' does not exist")
    id = input.get("GatewayId") or input.get("VpcEndpointId")
    if id is None:
        raise missing("gatewayId, natGatewayId, networkInterfaceId, vpcPeeringConnectionId or transitGatewayId")
    if id.startswith("vpce-"):
        raise AwsError("RouteNotSupported", f"Route table contains unsupported route target: {id}. ")
    of = next((kind for kind in _ATTACHMENTS if kind.has(id)), None)
    if of is None:
        raise AwsError("InvalidGatewayID.NotFound", f"The gateway ID '{id}' does not exist")
    attachments = world.get(of, id).shown[_ATTACHMENTS[of]]
    if all(entry["VpcId"] != table.shown["VpcId"] or entry["State"] == "detached" for entry in attachments):
        raise invalid(f"route table {table.id} and network gateway {id} belong to different networks")
    return {"GatewayId": id}


def _association(table: Item, members: dict[str, Any]) -> dict[str, Any]:
    return {
        **members,
        "RouteTableAssociationId": new_id("rtbassoc"),
        "RouteTableId": table.id,
        "AssociationState": {"State": "associated"},
    }


def _associated(association: dict[str, Any]) -> Output:
    return {
        "AssociationId": association["RouteTableAssociationId"],
        "AssociationState": {"State": "associated"},
    }


def _find(world: World, id: str) -> tuple[Item, dict[str, Any]]:
    for table in world.all(ROUTE_TABLE):
        for association in table.shown["Associations"]:
            if association["RouteTableAssociationId"] == id:
                return table, association
    raise AwsError("InvalidAssociationID.NotFound", f"The association ID '{id}' does not exist")
