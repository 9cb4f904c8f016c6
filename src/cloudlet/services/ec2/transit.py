"""Transit gateways and their attachments: records, as all pods of this machine reach each other by themselves."""

from __future__ import annotations

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import SUBNET, TRANSIT_ATTACHMENT, TRANSIT_GATEWAY, TRANSIT_TABLE, VPC
from cloudlet.services.ec2.operations import deletes, describes, refuse_all_but
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import Members, World, invalid, shown_tags

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


def _check_gateway(world: World, gateway: Item) -> None:
    there = [one.id for one in world.all(TRANSIT_ATTACHMENT, TransitGatewayId=gateway.id) if is_there(one)]
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
    """Operations on transit gateways and their attachments."""

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
                table = world.make(TRANSIT_TABLE, new_table(world, gateway.id, is_default=True), hidden={"routes": []})
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
            gateway = gateway_of(world, input["TransitGatewayId"])
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
            gateway = gateway_of(world, input["TransitGatewayId"])
            vpc = world.get(VPC, input["VpcId"])
            subnets = [world.get(SUBNET, id).id for id in input["SubnetIds"]]
            for one in world.all(TRANSIT_ATTACHMENT, TransitGatewayId=gateway.id, ResourceId=vpc.id):
                if is_there(one):
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
            item = attachment_of(world, input["TransitGatewayAttachmentId"])
            old = item.hidden["vpc"]
            kept = [id for id in old["SubnetIds"] if id not in input.get("RemoveSubnetIds", [])]
            subnets = [*kept, *(world.get(SUBNET, id).id for id in input.get("AddSubnetIds", []) if id not in kept)]
            new = {**old, "SubnetIds": subnets, "Options": {**old["Options"], **input.get("Options", {})}}
            item = world.change(item, hidden={"vpc": new})
            return {"TransitGatewayVpcAttachment": {**_of_vpc(item), "Tags": shown_tags(item.tags)}}

        return await self.write(call.scope, work)

    async def DeleteTransitGatewayVpcAttachment(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = attachment_of(world, input["TransitGatewayAttachmentId"])
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
            gateway = gateway_of(world, input["TransitGatewayId"])
            peer = gateway_of(world.other(account, region), peer_id)
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
            item = attachment_of(world, input["TransitGatewayAttachmentId"])
            for there in _sides(world, item):
                if (one := there.find(item.id)) is not None:
                    there.retire(TRANSIT_ATTACHMENT, there.change(one, {"Association": None}))
            return {"TransitGatewayPeeringAttachment": {**_of_peering(item), "State": "deleted"}}

        return await self.write(call.scope, work)

    def _attachments(self, call: Call, input: Input, type: str, plural: str) -> Output:
        of_type = {"Name": "resource-type", "Values": [type]}
        show = _of_vpc if type == "vpc" else _of_peering
        asked = {**input, "Filters": [*input.get("Filters", []), of_type]}
        answer = self.described(call, asked, TRANSIT_ATTACHMENT, lambda world, item: item.shown | {"": item})
        found = [{**show(one[""]), "Tags": one["Tags"]} for one in answer.pop(TRANSIT_ATTACHMENT.plural)]
        return {**answer, plural: found}

    async def _answer_peering(self, call: Call, input: Input, verb: str, state: str) -> Output:
        def work(world: World) -> Output:
            item = attachment_of(world, input["TransitGatewayAttachmentId"])
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
        item = associate(world, item, options["AssociationDefaultRouteTableId"])
    if options["DefaultRouteTablePropagation"] == "enable":
        item = propagate(world, item, options["PropagationDefaultRouteTableId"])
    return item


def detach(world: World, resource: str, only: str = "") -> None:
    """Delete the attachments of a resource, or only that one; nothing when it has none."""
    for item in world.all(TRANSIT_ATTACHMENT, ResourceId=resource):
        if only in ("", item.id) and is_there(item):
            item = world.change(item, {"Association": None}, {"propagates": []})
            world.retire(TRANSIT_ATTACHMENT, item)


def gateway_of(world: World, id: str) -> Item:
    """A transit gateway. Raises InvalidTransitGatewayID.NotFound."""
    if not TRANSIT_GATEWAY.has(id):
        raise TRANSIT_GATEWAY.malformed(id)
    item = world.find(id)
    if item is None:
        raise AwsError("InvalidTransitGatewayID.NotFound", f"Transit Gateway {id} was deleted or does not exist.")
    return item


def attachment_of(world: World, id: str) -> Item:
    """An attachment that is not deleted. Raises InvalidTransitGatewayAttachmentID.NotFound."""
    item = world.get(TRANSIT_ATTACHMENT, id)
    if not is_there(item):
        raise TRANSIT_ATTACHMENT.not_found(id)
    return item


def is_there(item: Item) -> bool:
    """Whether an attachment is not deleted."""
    return item.shown["State"] not in ("deleted", "rejected")


def is_associated(item: Item, table: str) -> bool:
    """Whether an attachment is associated with a route table."""
    return bool(item.shown.get("Association", {}).get("TransitGatewayRouteTableId") == table)


def associate(world: World, item: Item, table: str) -> Item:
    """Associate an attachment with a route table."""
    return world.change(item, {"Association": {"TransitGatewayRouteTableId": table, "State": "associated"}})


def propagate(world: World, item: Item, table: str) -> Item:
    """Have a route table know an attachment's routes."""
    return world.change(item, hidden={"propagates": [*item.hidden.get("propagates", []), table]})


def _sides(world: World, item: Item) -> list[World]:
    """Where a peering is known: on its requester's side and on its accepter's."""
    infos = (item.shown["RequesterTgwInfo"], item.shown["AccepterTgwInfo"])
    scopes = {(info["OwnerId"], info["Region"]) for info in infos}
    return [world.other(account, region) for account, region in sorted(scopes)]


def new_table(world: World, gateway: str, *, is_default: bool) -> Members:
    """A new route table of a transit gateway."""
    return {
        "CreationTime": world.now,
        "DefaultAssociationRouteTable": is_default,
        "DefaultPropagationRouteTable": is_default,
        "State": "available",
        "TransitGatewayId": gateway,
    }
