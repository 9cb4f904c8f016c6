"""Internet gateways, egress-only ones, and NAT gateways."""

from __future__ import annotations

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import interfaces
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import (
    EGRESS_ONLY,
    ELASTIC_IP,
    INTERFACE,
    INTERNET_GATEWAY,
    NAT_GATEWAY,
    SUBNET,
    VPC,
)
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, in_use, invalid, missing, shown_tags

_SHOWN_AFTER_DELETION = 3600.0


class Gateways(Base):
    """Operations on gateways."""

    async def CreateInternetGateway(self, call: Call, input: Input) -> Output:
        tags = new_tags(call, input, INTERNET_GATEWAY)
        shown = {"Attachments": [], "OwnerId": call.account}
        made = await self.write(call.scope, lambda world: world.make(INTERNET_GATEWAY, shown, tags))
        return {"InternetGateway": {**made.shown, "Tags": shown_tags(tags)}}

    async def DescribeInternetGateways(self, call: Call, input: Input) -> Output:
        return self.described(call, input, INTERNET_GATEWAY, "InternetGatewayIds", "InternetGateways")

    async def AttachInternetGateway(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            gateway, vpc = world.get(INTERNET_GATEWAY, input["InternetGatewayId"]), world.get(VPC, input["VpcId"])
            for entry in gateway.shown["Attachments"]:
                raise AwsError(
                    "Resource.AlreadyAssociated",
                    f"resource {gateway.id} is already attached to network {entry['VpcId']}",
                )
            for other in world.all(INTERNET_GATEWAY):
                if any(entry["VpcId"] == vpc.id for entry in other.shown["Attachments"]):
                    raise invalid(f"Network {vpc.id} already has an internet gateway attached")
            world.change(gateway, {"Attachments": [{"State": "available", "VpcId": vpc.id}]})
            return {}

        return await self.write(call.scope, work)

    async def DetachInternetGateway(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            gateway = world.get(INTERNET_GATEWAY, input["InternetGatewayId"])
            id = input["VpcId"]
            if all(entry["VpcId"] != id for entry in gateway.shown["Attachments"]):
                raise AwsError("Gateway.NotAttached", f"resource {gateway.id} is not attached to network {id}")
            if any(interface.hidden.get("elastic") for interface in world.all(INTERFACE, VpcId=id)):
                raise in_use(
                    f"Network {id} has some mapped public address(es). Please unmap those public address(es) before "
                    "detaching the gateway."
                )
            world.change(gateway, {"Attachments": []})
            return {}

        return await self.write(call.scope, work)

    async def DeleteInternetGateway(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            gateway = world.get(INTERNET_GATEWAY, input["InternetGatewayId"])
            if gateway.shown["Attachments"]:
                raise in_use(f"The internetGateway '{gateway.id}' has dependencies and cannot be deleted.")
            world.delete(gateway)
            return {}

        return await self.write(call.scope, work)

    async def CreateEgressOnlyInternetGateway(self, call: Call, input: Input) -> Output:
        tags = new_tags(call, input, EGRESS_ONLY)

        def work(world: World) -> Output:
            vpc = world.get(VPC, input["VpcId"])
            shown = {"Attachments": [{"State": "attached", "VpcId": vpc.id}]}
            made = world.make(EGRESS_ONLY, shown, tags)
            token = {"ClientToken": input["ClientToken"]} if "ClientToken" in input else {}
            return {"EgressOnlyInternetGateway": {**made.shown, "Tags": shown_tags(tags)}, **token}

        return await self.write(call.scope, work)

    async def DescribeEgressOnlyInternetGateways(self, call: Call, input: Input) -> Output:
        # One that is not there is left out of this answer.
        world = self.world(call.scope)
        wanted = input.get("EgressOnlyInternetGatewayIds")
        known = {**input, "EgressOnlyInternetGatewayIds": [id for id in wanted or [] if world.find(id) is not None]}
        if wanted and not known["EgressOnlyInternetGatewayIds"]:
            return {"EgressOnlyInternetGateways": []}
        return self.described(call, known, EGRESS_ONLY, "EgressOnlyInternetGatewayIds", "EgressOnlyInternetGateways")

    async def DeleteEgressOnlyInternetGateway(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            world.delete(world.get(EGRESS_ONLY, input["EgressOnlyInternetGatewayId"]))
            return {"ReturnCode": True}

        return await self.write(call.scope, work)

    async def CreateNatGateway(self, call: Call, input: Input) -> Output:
        allowed = ("AllocationId", "ClientToken", "ConnectivityType", "DryRun", "PrivateIpAddress", "SubnetId")
        for parameter in input:
            if parameter not in (*allowed, "TagSpecifications"):
                raise not_implemented(f"CreateNatGateway with {parameter}")
        if "SubnetId" not in input:
            raise missing("subnetId")
        tags = new_tags(call, input, NAT_GATEWAY)
        connectivity = input.get("ConnectivityType", "public")
        if (connectivity == "public") != ("AllocationId" in input):
            raise (
                missing("AllocationId")
                if connectivity == "public"
                else invalid("A private NAT gateway has no elastic IP address.")
            )

        def work(world: World) -> Output:
            if token := input.get("ClientToken"):
                for same in world.all(NAT_GATEWAY):
                    if same.hidden.get("token") == token:
                        return {"NatGateway": {**same.shown, "Tags": shown_tags(same.tags)}, "ClientToken": token}
            nat = _make_nat(world, input, connectivity, tags)
            answer: Output = {"NatGateway": {**nat.shown, "Tags": shown_tags(tags)}}
            return {**answer, "ClientToken": token} if token else answer

        return await self.write(call.scope, work)

    async def DescribeNatGateways(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        # Deleted ones are seen for an hour.
        kept = {
            nat.id
            for nat in world.all(NAT_GATEWAY)
            if world.now < nat.shown.get("DeleteTime", world.now) + _SHOWN_AFTER_DELETION
        }
        given = {**input, "Filters": input.get("Filter", [])}
        if any(id not in kept for id in input.get("NatGatewayIds", [])):
            raise NAT_GATEWAY.not_found(next(id for id in input["NatGatewayIds"] if id not in kept))
        answer = self.described(call, given, NAT_GATEWAY, "NatGatewayIds", "NatGateways")
        return {**answer, "NatGateways": [nat for nat in answer["NatGateways"] if nat["NatGatewayId"] in kept]}

    async def DeleteNatGateway(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            nat = world.get(NAT_GATEWAY, input["NatGatewayId"])
            if nat.shown["State"] == "deleted":
                return {"NatGatewayId": nat.id}
            for entry in nat.shown["NatGatewayAddresses"]:
                if (interface := world.find(entry["NetworkInterfaceId"])) is not None:
                    interfaces.drop(world, interface)
            world.change(nat, {"State": "deleted", "DeleteTime": world.now}, {"token": ""})
            for old in world.all(NAT_GATEWAY, State="deleted"):
                if old.shown["DeleteTime"] + _SHOWN_AFTER_DELETION < world.now:
                    world.delete(old)
            return {"NatGatewayId": nat.id}

        return await self.write(call.scope, work)


def _make_nat(world: World, input: Input, connectivity: str, tags: dict[str, str]) -> Item:
    subnet = world.get(SUBNET, input["SubnetId"])
    address = world.get(ELASTIC_IP, input["AllocationId"]) if connectivity == "public" else None
    if address is not None and "AssociationId" in address.shown:
        raise AwsError(
            "Resource.AlreadyAssociated",
            f"resource {address.id} is already associated with associate-id {address.shown['AssociationId']}",
        )
    nat = world.make(NAT_GATEWAY, {}, tags, {"token": input.get("ClientToken", "")})
    interface = interfaces.make(
        world,
        subnet,
        [],
        f"Interface for NAT Gateway {nat.id}",
        {},
        kind="nat_gateway",
        wanted=input.get("PrivateIpAddress"),
        requester="amazon-nat",
    )
    private = interface.shown["PrivateIpAddress"]
    entry = {"NetworkInterfaceId": interface.id, "PrivateIp": private, "IsPrimary": True, "Status": "succeeded"}
    if address is not None:
        tied = interfaces.tie(world, address, interface, private)
        entry |= {
            "AllocationId": address.id,
            "PublicIp": address.shown["PublicIp"],
            "AssociationId": tied.shown["AssociationId"],
        }
    shown = {
        "ConnectivityType": connectivity,
        "CreateTime": world.now,
        "NatGatewayAddresses": [entry],
        "State": "available",
        "SubnetId": subnet.id,
        "VpcId": subnet.shown["VpcId"],
    }
    return world.change(nat, shown)
