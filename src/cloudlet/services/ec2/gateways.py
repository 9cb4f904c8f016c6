"""Internet, egress-only, carrier and NAT gateways: records, as pods reach the outside in this machine's name."""

from __future__ import annotations

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import interfaces
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import (
    CARRIER_GATEWAY,
    EGRESS_ONLY,
    ELASTIC_IP,
    INTERFACE,
    INTERNET_GATEWAY,
    NAT_GATEWAY,
    SUBNET,
    VPC,
)
from cloudlet.services.ec2.operations import creates, deletes, describes
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import Members, World, in_use, invalid, missing, shown_tags


def _check_detached(world: World, gateway: Item) -> None:
    if gateway.shown["Attachments"]:
        raise in_use(f"The internetGateway '{gateway.id}' has dependencies and cannot be deleted.")


def _carrier(world: World, input: Input) -> Members:
    return {"OwnerId": world.account, "State": "available", "VpcId": world.get(VPC, input["VpcId"]).id}


class Gateways(Base):
    """Operations on gateways."""

    CreateInternetGateway = creates(
        INTERNET_GATEWAY, lambda world, input: {"Attachments": [], "OwnerId": world.account}
    )
    DescribeInternetGateways = describes(INTERNET_GATEWAY)
    DeleteInternetGateway = deletes(INTERNET_GATEWAY, _check_detached)

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

    CreateEgressOnlyInternetGateway = creates(
        EGRESS_ONLY,
        lambda world, input: {"Attachments": [{"State": "attached", "VpcId": world.get(VPC, input["VpcId"]).id}]},
        ["VpcId"],
    )

    async def DescribeEgressOnlyInternetGateways(self, call: Call, input: Input) -> Output:
        # One that is not there is left out of this answer.
        world = self.world(call.scope)
        wanted = input.get("EgressOnlyInternetGatewayIds")
        known = {**input, "EgressOnlyInternetGatewayIds": [id for id in wanted or [] if world.find(id) is not None]}
        if wanted and not known["EgressOnlyInternetGatewayIds"]:
            return {"EgressOnlyInternetGateways": []}
        return self.described(call, known, EGRESS_ONLY)

    async def DeleteEgressOnlyInternetGateway(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            world.delete(world.get(EGRESS_ONLY, input["EgressOnlyInternetGatewayId"]))
            return {"ReturnCode": True}

        return await self.write(call.scope, work)

    CreateCarrierGateway = creates(CARRIER_GATEWAY, _carrier, ["VpcId"])
    DescribeCarrierGateways = describes(CARRIER_GATEWAY)
    DeleteCarrierGateway = deletes(CARRIER_GATEWAY)

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
        return self.described(call, {**input, "Filters": input.get("Filter", [])}, NAT_GATEWAY)

    async def DeleteNatGateway(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            nat = world.get(NAT_GATEWAY, input["NatGatewayId"])
            if nat.shown["State"] == "deleted":
                return {"NatGatewayId": nat.id}
            for entry in nat.shown["NatGatewayAddresses"]:
                if (interface := world.find(entry["NetworkInterfaceId"])) is not None:
                    interfaces.drop(world, interface)
            world.retire(NAT_GATEWAY, world.change(nat, hidden={"token": ""}), DeleteTime=world.now)
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
