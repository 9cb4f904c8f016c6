"""Route tables of transit gateways: what is associated with them, what they propagate, and where their routes lead."""

from __future__ import annotations

import fnmatch
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import cidr, filters
from cloudlet.services.ec2.base import Base, page
from cloudlet.services.ec2.kinds import PREFIX_LIST, TRANSIT_ATTACHMENT, TRANSIT_TABLE
from cloudlet.services.ec2.operations import creates, deletes, describes
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.transit import (
    associate,
    attachment_of,
    gateway_of,
    is_associated,
    is_there,
    new_table,
    propagate,
)
from cloudlet.services.ec2.vpcs import blocks_of
from cloudlet.services.ec2.world import Members, World, missing

_ROUTE_PATHS = {
    "type": ("Type",),
    "state": ("State",),
    "prefix-list-id": ("PrefixListId",),
    "attachment.transit-gateway-attachment-id": ("TransitGatewayAttachments", "TransitGatewayAttachmentId"),
    "attachment.resource-id": ("TransitGatewayAttachments", "ResourceId"),
    "attachment.resource-type": ("TransitGatewayAttachments", "ResourceType"),
}
_REFERENCE_PATHS = {
    "prefix-list-id": ("PrefixListId",),
    "prefix-list-owner-id": ("PrefixListOwnerId",),
    "state": ("State",),
}
_RESOURCE_PATHS = {
    "transit-gateway-attachment-id": ("TransitGatewayAttachmentId",),
    "transit-gateway-route-table-id": ("TransitGatewayRouteTableId",),
    "resource-id": ("ResourceId",),
    "resource-type": ("ResourceType",),
}


def _table(world: World, input: Input) -> Members:
    return new_table(world, gateway_of(world, input["TransitGatewayId"]).id, is_default=False)


def _check_table(world: World, table: Item) -> None:
    if table.shown["DefaultAssociationRouteTable"] or table.shown["DefaultPropagationRouteTable"]:
        raise AwsError("IncorrectState", f"Cannot delete a default route table {table.id}.")
    if any(is_associated(one, table.id) for one in world.all(TRANSIT_ATTACHMENT)):
        raise AwsError("IncorrectState", f"{table.id} has associations.")


class TransitTables(Base):
    """Operations on route tables of transit gateways."""

    CreateTransitGatewayRouteTable = creates(TRANSIT_TABLE, _table, ["TransitGatewayId"])
    DescribeTransitGatewayRouteTables = describes(TRANSIT_TABLE)
    DeleteTransitGatewayRouteTable = deletes(TRANSIT_TABLE, _check_table)

    async def CreateTransitGatewayRoute(self, call: Call, input: Input) -> Output:
        return await self._put_route(call, input, replaces=False)

    async def ReplaceTransitGatewayRoute(self, call: Call, input: Input) -> Output:
        return await self._put_route(call, input, replaces=True)

    async def DeleteTransitGatewayRoute(self, call: Call, input: Input) -> Output:
        block = _block(input["DestinationCidrBlock"])

        def work(world: World) -> Output:
            table = world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"])
            routes = table.hidden.get("routes", [])
            gone = [one for one in routes if one.get("DestinationCidrBlock") == block]
            if not gone:
                raise _no_route(table, block)
            world.change(table, hidden={"routes": [one for one in routes if one not in gone]})
            return {"Route": {**gone[0], "State": "deleted"}}

        return await self.write(call.scope, work)

    async def SearchTransitGatewayRoutes(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        found = _routes(world, world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"]))
        given = []
        for entry in input["Filters"]:
            if entry.get("Name", "").startswith("route-search."):
                found = [one for one in found if _is_searched(one, entry["Name"], entry.get("Values", []))]
            else:
                given.append(entry)
        found = filters.chosen(found, given, _ROUTE_PATHS)
        most = input.get("MaxResults", 1000)
        return {"Routes": found[:most], "AdditionalRoutesAvailable": len(found) > most}

    async def CreateTransitGatewayPrefixListReference(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            table = world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"])
            prefixes = world.get(PREFIX_LIST, input["PrefixListId"])
            route = _route(world, input) | {"PrefixListId": prefixes.id}
            others = [one for one in table.hidden.get("routes", []) if one.get("PrefixListId") != prefixes.id]
            world.change(table, hidden={"routes": [*others, route]})
            return {"TransitGatewayPrefixListReference": _reference(world, table, route)}

        return await self.write(call.scope, work)

    async def GetTransitGatewayPrefixListReferences(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        table = world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"])
        found = [_reference(world, table, one) for one in table.hidden.get("routes", []) if "PrefixListId" in one]
        found = filters.chosen(found, input.get("Filters", []), _REFERENCE_PATHS)
        return page("TransitGatewayPrefixListReferences", found, input)

    async def DeleteTransitGatewayPrefixListReference(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            table = world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"])
            routes = table.hidden.get("routes", [])
            gone = [one for one in routes if one.get("PrefixListId") == input["PrefixListId"]]
            if not gone:
                raise _no_route(table, input["PrefixListId"])
            world.change(table, hidden={"routes": [one for one in routes if one not in gone]})
            return {"TransitGatewayPrefixListReference": {**_reference(world, table, gone[0]), "State": "deleting"}}

        return await self.write(call.scope, work)

    async def AssociateTransitGatewayRouteTable(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item, table = _attachment_and_table(world, input)
            if "Association" in item.shown:
                raise AwsError(
                    "Resource.AlreadyAssociated",
                    f"Transit Gateway Attachment {item.id} is already associated to a route table.",
                )
            associate(world, item, table.id)
            return {"Association": _between(item, table) | {"State": "associating"}}

        return await self.write(call.scope, work)

    async def DisassociateTransitGatewayRouteTable(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item, table = _attachment_and_table(world, input)
            if not is_associated(item, table.id):
                raise AwsError(
                    "InvalidAssociation.NotFound",
                    f"Transit Gateway Attachment {item.id} is not associated with route table {table.id}.",
                )
            world.change(item, {"Association": None})
            return {"Association": _between(item, table) | {"State": "disassociated"}}

        return await self.write(call.scope, work)

    async def EnableTransitGatewayRouteTablePropagation(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item, table = _attachment_and_table(world, input)
            if table.id in item.hidden.get("propagates", []):
                raise AwsError(
                    "TransitGatewayRouteTablePropagation.Duplicate",
                    f"Propagation already exists between {item.id} and {table.id}.",
                )
            propagate(world, item, table.id)
            return {"Propagation": _between(item, table) | {"State": "enabled"}}

        return await self.write(call.scope, work)

    async def DisableTransitGatewayRouteTablePropagation(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item, table = _attachment_and_table(world, input)
            tables = item.hidden.get("propagates", [])
            if table.id not in tables:
                raise AwsError(
                    "TransitGatewayRouteTablePropagation.NotFound",
                    f"Propagation does not exist between {item.id} and {table.id}.",
                )
            world.change(item, hidden={"propagates": [id for id in tables if id != table.id]})
            return {"Propagation": _between(item, table) | {"State": "disabled"}}

        return await self.write(call.scope, work)

    async def GetTransitGatewayRouteTableAssociations(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        table = world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"])
        found = [
            _between(one) | {"State": "associated"}
            for one in world.all(TRANSIT_ATTACHMENT)
            if is_associated(one, table.id)
        ]
        return page("Associations", filters.chosen(found, input.get("Filters", []), _RESOURCE_PATHS), input)

    async def GetTransitGatewayRouteTablePropagations(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        table = world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"])
        found = [_between(one) | {"State": "enabled"} for one in _propagating(world, table)]
        found = filters.chosen(found, input.get("Filters", []), _RESOURCE_PATHS)
        return page("TransitGatewayRouteTablePropagations", found, input)

    async def GetTransitGatewayAttachmentPropagations(self, call: Call, input: Input) -> Output:
        item = attachment_of(self.world(call.scope), input["TransitGatewayAttachmentId"])
        found = [{"TransitGatewayRouteTableId": id, "State": "enabled"} for id in item.hidden.get("propagates", [])]
        found = filters.chosen(found, input.get("Filters", []), _RESOURCE_PATHS)
        return page("TransitGatewayAttachmentPropagations", found, input)

    async def _put_route(self, call: Call, input: Input, *, replaces: bool) -> Output:
        block = _block(input["DestinationCidrBlock"])

        def work(world: World) -> Output:
            table = world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"])
            route = {"DestinationCidrBlock": block, **_route(world, input)}
            routes = table.hidden.get("routes", [])
            others = [one for one in routes if one.get("DestinationCidrBlock") != block]
            if len(others) != len(routes) and not replaces:
                raise AwsError("RouteAlreadyExists", f"Route {block} already exists in Transit Gateway Route Table.")
            if len(others) == len(routes) and replaces:
                raise _no_route(table, block)
            world.change(table, hidden={"routes": [*others, route]})
            return {"Route": route}

        return await self.write(call.scope, work)


def _attachment_and_table(world: World, input: Input) -> tuple[Item, Item]:
    if "TransitGatewayAttachmentId" not in input:
        raise missing("transitGatewayAttachmentId")
    table = world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"])
    return attachment_of(world, input["TransitGatewayAttachmentId"]), table


def _propagating(world: World, table: Item) -> list[Item]:
    return [one for one in world.all(TRANSIT_ATTACHMENT) if table.id in one.hidden.get("propagates", [])]


def _between(item: Item, table: Item | None = None) -> Members:
    """An attachment as a table's associations and propagations show it."""
    names = ("TransitGatewayAttachmentId", "ResourceId", "ResourceType")
    shown: Members = {name: item.shown[name] for name in names}
    return shown | ({"TransitGatewayRouteTableId": table.id} if table is not None else {})


def _block(text: str) -> str:
    return str(cidr.network6(text) if ":" in text else cidr.network(text, "destinationCidrBlock"))


def _route(world: World, input: Input) -> Members:
    """Where a static route leads: to an attachment, or nowhere."""
    if input.get("Blackhole"):
        return {"Type": "static", "State": "blackhole"}
    item = attachment_of(world, input.get("TransitGatewayAttachmentId", ""))
    return {"Type": "static", "State": "active", "TransitGatewayAttachments": [_between(item)]}


def _routes(world: World, table: Item) -> list[dict[str, Any]]:
    """A table's routes; one whose attachment is gone leads nowhere."""
    found = []
    for route in table.hidden.get("routes", []):
        ids = [one["TransitGatewayAttachmentId"] for one in route.get("TransitGatewayAttachments", [])]
        there = [item for id in ids if (item := world.find(id)) is not None and is_there(item)]
        found.append(route if there or not ids else {**route, "State": "blackhole"})
    taken = {one.get("DestinationCidrBlock") for one in found}
    for item in _propagating(world, table):
        vpc = world.find(item.shown["ResourceId"]) if item.shown["ResourceType"] == "vpc" else None
        for block in blocks_of(vpc) if vpc is not None else []:
            if block not in taken:
                through = {"TransitGatewayAttachments": [_between(item)], "Type": "propagated", "State": "active"}
                found.append({"DestinationCidrBlock": block, **through})
    return found


def _is_searched(route: dict[str, Any], how: str, values: list[str]) -> bool:
    text = route.get("DestinationCidrBlock", "")
    for value in values:
        if how == "route-search.exact-match" and fnmatch.fnmatchcase(text, value):
            return True
        if not text or ":" in text or how == "route-search.exact-match":
            continue
        block, wanted = cidr.network(text), cidr.network(value if "/" in value else f"{value}/32")
        if how == "route-search.subnet-of-match" and block.subnet_of(wanted):
            return True
        if how in ("route-search.supernet-of-match", "route-search.longest-prefix-match") and wanted.subnet_of(block):
            return True
    return False


def _reference(world: World, table: Item, route: Members) -> Members:
    owner = world.get(PREFIX_LIST, route["PrefixListId"]).shown["OwnerId"]
    through = route.get("TransitGatewayAttachments", [])
    return {
        "TransitGatewayRouteTableId": table.id,
        "PrefixListId": route["PrefixListId"],
        "PrefixListOwnerId": owner,
        "State": "available",
        "Blackhole": route["State"] == "blackhole",
        **({"TransitGatewayAttachment": through[0]} if through else {}),
    }


def _no_route(table: Item, destination: str) -> AwsError:
    return AwsError("InvalidRoute.NotFound", f"Route {destination} does not exist in route table {table.id}.")
