"""Transit gateways: records, as all pods of this machine reach each other by themselves."""

from __future__ import annotations

import fnmatch
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import cidr, filters
from cloudlet.services.ec2.base import Base, new_tags, page
from cloudlet.services.ec2.kinds import PREFIX_LIST, SUBNET, TRANSIT_ATTACHMENT, TRANSIT_GATEWAY, TRANSIT_TABLE, VPC
from cloudlet.services.ec2.operations import creates, deletes, describes, refuse_all_but
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.vpcs import blocks_of
from cloudlet.services.ec2.world import Members, World, invalid, missing, shown_tags

_OPTIONS = {
    "AmazonSideAsn": 64512,
    "AutoAcceptSharedAttachments": "disable",
    "DefaultRouteTableAssociation": "enable",
    "DefaultRouteTablePropagation": "enable",
    "DnsSupport": "enable",
    "MulticastSupport": "disable",
    "SecurityGroupReferencingSupport": "disable",
    "TransitGatewayCidrBlocks": [],
    "VpnEcmpSupport": "enable",
}
_ATTACHMENT_OPTIONS = {
    "ApplianceModeSupport": "disable",
    "DnsSupport": "enable",
    "Ipv6Support": "disable",
    "SecurityGroupReferencingSupport": "enable",
}
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
    return _new_table(world, _gateway(world, input["TransitGatewayId"]).id, is_default=False)


def _check_table(world: World, table: Item) -> None:
    if table.shown["DefaultAssociationRouteTable"] or table.shown["DefaultPropagationRouteTable"]:
        raise AwsError("IncorrectState", f"Cannot delete a default route table {table.id}.")
    if any(_is_associated(one, table.id) for one in world.all(TRANSIT_ATTACHMENT)):
        raise AwsError("IncorrectState", f"{table.id} has associations.")


def _check_gateway(world: World, gateway: Item) -> None:
    there = [one.id for one in world.all(TRANSIT_ATTACHMENT, TransitGatewayId=gateway.id) if _is_there(one)]
    if there:
        raise AwsError("IncorrectState", f"{gateway.id} has non-deleted Transit Gateway Attachments: {there[0]}.")
    for table in world.all(TRANSIT_TABLE, TransitGatewayId=gateway.id):
        world.delete(table)


def _of_vpc(item: Item) -> Members:
    members = ("TransitGatewayAttachmentId", "TransitGatewayId", "State", "CreationTime")
    shown: Members = {name: item.shown[name] for name in members}
    return {**shown, **item.hidden["vpc"]}


def _of_peering(item: Item) -> Members:
    members = ("TransitGatewayAttachmentId", "State", "CreationTime", "RequesterTgwInfo", "AccepterTgwInfo")
    status = {"Code": item.shown["State"]}
    shown: Members = {name: item.shown[name] for name in members}
    return shown | {"Status": status}


class Transit(Base):
    """Operations on transit gateways."""

    async def CreateTransitGateway(self, call: Call, input: Input) -> Output:
        refuse_all_but(call, input, "Description", "Options", "TagSpecifications", "DryRun")
        tags = new_tags(call, input, TRANSIT_GATEWAY)

        def work(world: World) -> Output:
            options: Members = {**_OPTIONS, **input.get("Options", {})}
            shown = {
                "CreationTime": world.now,
                "Description": input.get("Description", ""),
                "OwnerId": world.account,
                "State": "available",
            }
            gateway = world.make(TRANSIT_GATEWAY, shown, tags)
            both = ("Association", "Propagation")
            if any(options[f"DefaultRouteTable{what}"] == "enable" for what in both):
                table = world.make(TRANSIT_TABLE, _new_table(world, gateway.id, is_default=True), hidden={"routes": []})
                for what in both:
                    is_on = options[f"DefaultRouteTable{what}"] == "enable"
                    options |= {f"{what}DefaultRouteTableId": table.id} if is_on else {}
                    table = world.change(table, {f"Default{what}RouteTable": is_on})
            arn = world.arn("transit-gateway", gateway.id)
            gateway = world.change(gateway, {"TransitGatewayArn": arn, "Options": options})
            return {"TransitGateway": {**gateway.shown, "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    DescribeTransitGateways = describes(TRANSIT_GATEWAY)
    DeleteTransitGateway = deletes(TRANSIT_GATEWAY, _check_gateway)

    async def ModifyTransitGateway(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            gateway = _gateway(world, input["TransitGatewayId"])
            given = dict(input.get("Options", {}))
            blocks = gateway.shown["Options"]["TransitGatewayCidrBlocks"]
            gone = given.pop("RemoveTransitGatewayCidrBlocks", [])
            blocks = [block for block in blocks if block not in gone] + given.pop("AddTransitGatewayCidrBlocks", [])
            options = {**gateway.shown["Options"], **given, "TransitGatewayCidrBlocks": blocks}
            text = {"Description": input["Description"]} if "Description" in input else {}
            gateway = world.change(gateway, {"Options": options, **text})
            return {"TransitGateway": {**gateway.shown, "Tags": shown_tags(gateway.tags)}}

        return await self.write(call.scope, work)

    # Attachments

    async def CreateTransitGatewayVpcAttachment(self, call: Call, input: Input) -> Output:
        tags = new_tags(call, input, TRANSIT_ATTACHMENT)

        def work(world: World) -> Output:
            gateway = _gateway(world, input["TransitGatewayId"])
            vpc = world.get(VPC, input["VpcId"])
            subnets = [world.get(SUBNET, id).id for id in input["SubnetIds"]]
            for one in world.all(TRANSIT_ATTACHMENT, TransitGatewayId=gateway.id, ResourceId=vpc.id):
                if _is_there(one):
                    raise AwsError(
                        "DuplicateTransitGatewayAttachment",
                        f"{gateway.id} has non-deleted Transit Gateway Attachments with same VPC ID.",
                    )
            options = {**_ATTACHMENT_OPTIONS, **input.get("Options", {})}
            of_vpc = {"VpcId": vpc.id, "VpcOwnerId": world.account, "SubnetIds": subnets, "Options": options}
            item = attach(world, gateway, "vpc", vpc.id, tags, {"vpc": of_vpc})
            answer = {**_of_vpc(item), "State": "pending"}
            return {"TransitGatewayVpcAttachment": answer | ({"Tags": shown_tags(tags)} if tags else {})}

        return await self.write(call.scope, work)

    async def DescribeTransitGatewayVpcAttachments(self, call: Call, input: Input) -> Output:
        return self._attachments(call, input, "vpc", "TransitGatewayVpcAttachments")

    async def DescribeTransitGatewayPeeringAttachments(self, call: Call, input: Input) -> Output:
        return self._attachments(call, input, "peering", "TransitGatewayPeeringAttachments")

    DescribeTransitGatewayAttachments = describes(TRANSIT_ATTACHMENT)

    async def ModifyTransitGatewayVpcAttachment(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = _attachment(world, input["TransitGatewayAttachmentId"])
            old = item.hidden["vpc"]
            kept = [id for id in old["SubnetIds"] if id not in input.get("RemoveSubnetIds", [])]
            subnets = [*kept, *(world.get(SUBNET, id).id for id in input.get("AddSubnetIds", []) if id not in kept)]
            new = {**old, "SubnetIds": subnets, "Options": {**old["Options"], **input.get("Options", {})}}
            item = world.change(item, hidden={"vpc": new})
            return {"TransitGatewayVpcAttachment": {**_of_vpc(item), "Tags": shown_tags(item.tags)}}

        return await self.write(call.scope, work)

    async def DeleteTransitGatewayVpcAttachment(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = _attachment(world, input["TransitGatewayAttachmentId"])
            detach(world, item.shown["ResourceId"], item.id)
            return {"TransitGatewayVpcAttachment": {**_of_vpc(item), "State": "deleted"}}

        return await self.write(call.scope, work)

    async def CreateTransitGatewayPeeringAttachment(self, call: Call, input: Input) -> Output:
        if "Options" in input:
            raise not_implemented("CreateTransitGatewayPeeringAttachment with Options")
        tags = new_tags(call, input, TRANSIT_ATTACHMENT)
        account, region, peer_id = input["PeerAccountId"], input["PeerRegion"], input["PeerTransitGatewayId"]
        await self.prepare(account, region)

        def work(world: World) -> Output:
            gateway = _gateway(world, input["TransitGatewayId"])
            peer = _gateway(world.other(account, region), peer_id)
            requester = {"TransitGatewayId": gateway.id, "OwnerId": world.account, "Region": world.region}
            accepter = {"TransitGatewayId": peer.id, "OwnerId": account, "Region": region}
            item = attach(world, gateway, "peering", peer.id, tags, state="pendingAcceptance")
            item = world.change(item, {"RequesterTgwInfo": requester, "AccepterTgwInfo": accepter})
            if world.scope != f"{account}/{region}":
                far = {**item.shown, "TransitGatewayId": peer.id, "ResourceId": gateway.id}
                world.other(account, region).make(TRANSIT_ATTACHMENT, far, hidden={"propagates": []}, id=item.id)
            return {"TransitGatewayPeeringAttachment": {**_of_peering(item), "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    async def AcceptTransitGatewayPeeringAttachment(self, call: Call, input: Input) -> Output:
        return await self._answer_peering(call, input, "accept", "available")

    async def RejectTransitGatewayPeeringAttachment(self, call: Call, input: Input) -> Output:
        return await self._answer_peering(call, input, "reject", "rejected")

    async def DeleteTransitGatewayPeeringAttachment(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = _attachment(world, input["TransitGatewayAttachmentId"])
            for there in _sides(world, item):
                if (one := there.find(item.id)) is not None:
                    there.retire(TRANSIT_ATTACHMENT, there.change(one, {"Association": None}))
            return {"TransitGatewayPeeringAttachment": {**_of_peering(item), "State": "deleted"}}

        return await self.write(call.scope, work)

    # Route tables

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
        paths = {
            "prefix-list-id": ("PrefixListId",),
            "state": ("State",),
            "prefix-list-owner-id": ("PrefixListOwnerId",),
        }
        return page("TransitGatewayPrefixListReferences", filters.chosen(found, input.get("Filters", []), paths), input)

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
            _associate(world, item, table.id)
            return {"Association": _between(item, table) | {"State": "associating"}}

        return await self.write(call.scope, work)

    async def DisassociateTransitGatewayRouteTable(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item, table = _attachment_and_table(world, input)
            if not _is_associated(item, table.id):
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
            _propagate(world, item, table.id)
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
            if _is_associated(one, table.id)
        ]
        return page("Associations", filters.chosen(found, input.get("Filters", []), _RESOURCE_PATHS), input)

    async def GetTransitGatewayRouteTablePropagations(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        table = world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"])
        found = [_between(one) | {"State": "enabled"} for one in _propagating(world, table)]
        found = filters.chosen(found, input.get("Filters", []), _RESOURCE_PATHS)
        return page("TransitGatewayRouteTablePropagations", found, input)

    async def GetTransitGatewayAttachmentPropagations(self, call: Call, input: Input) -> Output:
        item = _attachment(self.world(call.scope), input["TransitGatewayAttachmentId"])
        found = [{"TransitGatewayRouteTableId": id, "State": "enabled"} for id in item.hidden.get("propagates", [])]
        found = filters.chosen(found, input.get("Filters", []), _RESOURCE_PATHS)
        return page("TransitGatewayAttachmentPropagations", found, input)

    def _attachments(self, call: Call, input: Input, type: str, plural: str) -> Output:
        of_type = {"Name": "resource-type", "Values": [type]}
        show = _of_vpc if type == "vpc" else _of_peering
        asked = {**input, "Filters": [*input.get("Filters", []), of_type]}
        answer = self.described(call, asked, TRANSIT_ATTACHMENT, lambda world, item: item.shown | {"": item})
        found = [{**show(one[""]), "Tags": one["Tags"]} for one in answer.pop(TRANSIT_ATTACHMENT.plural)]
        return {**answer, plural: found}

    async def _answer_peering(self, call: Call, input: Input, verb: str, state: str) -> Output:
        def work(world: World) -> Output:
            item = _attachment(world, input["TransitGatewayAttachmentId"])
            accepter = item.shown["AccepterTgwInfo"]
            if (accepter["OwnerId"], accepter["Region"]) != (world.account, world.region):
                raise invalid(f"Cannot {verb} {item.id} as the source of the peering request.")
            if item.shown["State"] != "pendingAcceptance":
                raise AwsError("IncorrectState", f"{item.id} is in invalid state")
            for there in _sides(world, item):
                if (one := there.find(item.id)) is not None:
                    there.change(one, {"State": state})
            return {"TransitGatewayPeeringAttachment": {**_of_peering(item), "State": state}}

        return await self.write(call.scope, work)

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


def attach(
    world: World,
    gateway: Item,
    type: str,
    resource: str,
    tags: dict[str, str],
    hidden: Members | None = None,
    state: str = "available",
) -> Item:
    """Attach something to a transit gateway, which gives it its default route table."""
    shown = {
        "CreationTime": world.now,
        "ResourceId": resource,
        "ResourceOwnerId": world.account,
        "ResourceType": type,
        "State": state,
        "TransitGatewayId": gateway.id,
        "TransitGatewayOwnerId": world.account,
    }
    if type == "vpc":
        shown["VpcId"] = resource
    item = world.make(TRANSIT_ATTACHMENT, shown, tags, {"propagates": [], **(hidden or {})})
    options = gateway.shown["Options"]
    if type == "peering":
        return item
    if options["DefaultRouteTableAssociation"] == "enable":
        item = _associate(world, item, options["AssociationDefaultRouteTableId"])
    if options["DefaultRouteTablePropagation"] == "enable":
        item = _propagate(world, item, options["PropagationDefaultRouteTableId"])
    return item


def detach(world: World, resource: str, only: str = "") -> None:
    """Delete the attachments of a resource, or only that one; nothing when it has none."""
    for item in world.all(TRANSIT_ATTACHMENT, ResourceId=resource):
        if only in ("", item.id) and _is_there(item):
            item = world.change(item, {"Association": None}, {"propagates": []})
            world.retire(TRANSIT_ATTACHMENT, item)


def _gateway(world: World, id: str) -> Item:
    if not TRANSIT_GATEWAY.has(id):
        raise TRANSIT_GATEWAY.malformed(id)
    item = world.find(id)
    if item is None:
        raise AwsError("InvalidTransitGatewayID.NotFound", f"Transit Gateway {id} was deleted or does not exist.")
    return item


def _attachment(world: World, id: str) -> Item:
    item = world.get(TRANSIT_ATTACHMENT, id)
    if not _is_there(item):
        raise TRANSIT_ATTACHMENT.not_found(id)
    return item


def _attachment_and_table(world: World, input: Input) -> tuple[Item, Item]:
    if "TransitGatewayAttachmentId" not in input:
        raise missing("transitGatewayAttachmentId")
    table = world.get(TRANSIT_TABLE, input["TransitGatewayRouteTableId"])
    return _attachment(world, input["TransitGatewayAttachmentId"]), table


def _is_there(item: Item) -> bool:
    return item.shown["State"] not in ("deleted", "rejected")


def _is_associated(item: Item, table: str) -> bool:
    return bool(item.shown.get("Association", {}).get("TransitGatewayRouteTableId") == table)


def _associate(world: World, item: Item, table: str) -> Item:
    return world.change(item, {"Association": {"TransitGatewayRouteTableId": table, "State": "associated"}})


def _propagate(world: World, item: Item, table: str) -> Item:
    return world.change(item, hidden={"propagates": [*item.hidden.get("propagates", []), table]})


def _propagating(world: World, table: Item) -> list[Item]:
    return [one for one in world.all(TRANSIT_ATTACHMENT) if table.id in one.hidden.get("propagates", [])]


def _between(item: Item, table: Item | None = None) -> Members:
    """An attachment as a table's associations and propagations show it."""
    names = ("TransitGatewayAttachmentId", "ResourceId", "ResourceType")
    shown: Members = {name: item.shown[name] for name in names}
    return shown | ({"TransitGatewayRouteTableId": table.id} if table is not None else {})


def _sides(world: World, item: Item) -> list[World]:
    """Where a peering is known: on its requester's side and on its accepter's."""
    infos = (item.shown["RequesterTgwInfo"], item.shown["AccepterTgwInfo"])
    scopes = {(info["OwnerId"], info["Region"]) for info in infos}
    return [world.other(account, region) for account, region in sorted(scopes)]


def _new_table(world: World, gateway: str, *, is_default: bool) -> Members:
    return {
        "CreationTime": world.now,
        "DefaultAssociationRouteTable": is_default,
        "DefaultPropagationRouteTable": is_default,
        "State": "available",
        "TransitGatewayId": gateway,
    }


def _block(text: str) -> str:
    return str(cidr.network6(text) if ":" in text else cidr.network(text, "destinationCidrBlock"))


def _route(world: World, input: Input) -> Members:
    """Where a static route leads: to an attachment, or nowhere."""
    if input.get("Blackhole"):
        return {"Type": "static", "State": "blackhole"}
    item = _attachment(world, input.get("TransitGatewayAttachmentId", ""))
    return {"Type": "static", "State": "active", "TransitGatewayAttachments": [_between(item)]}


def _routes(world: World, table: Item) -> list[dict[str, Any]]:
    """A table's routes; one whose attachment is gone leads nowhere."""
    found = []
    for route in table.hidden.get("routes", []):
        ids = [one["TransitGatewayAttachmentId"] for one in route.get("TransitGatewayAttachments", [])]
        there = [item for id in ids if (item := world.find(id)) is not None and _is_there(item)]
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
