"""VPC peering connections: a record on both sides, in whichever accounts and regions these are."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import PEERING, VPC
from cloudlet.services.ec2.operations import describes
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.vpcs import blocks_of
from cloudlet.services.ec2.world import World, invalid, missing, shown_tags

_WEEK = 7 * 86_400.0
_OPTIONS = (
    *("AllowDnsResolutionFromRemoteVpc", "AllowEgressFromLocalClassicLinkToRemoteVpc"),
    "AllowEgressFromLocalVpcToRemoteClassicLink",
)


class Peering(Base):
    """Operations on peering connections."""

    async def CreateVpcPeeringConnection(self, call: Call, input: Input) -> Output:
        tags = new_tags(call, input, PEERING)
        if "PeerVpcId" not in input:
            raise missing("peerVpcId")
        account, region = input.get("PeerOwnerId", call.account), input.get("PeerRegion", call.region)
        await self.prepare(account, region)

        def work(world: World) -> Output:
            requester = world.get(VPC, input["VpcId"])
            accepter = world.other(account, region).get(VPC, input["PeerVpcId"])
            if requester.id == accepter.id:
                raise invalid("A VPC cannot be peered with itself.")
            shown = {
                "AccepterVpcInfo": {"OwnerId": account, "Region": region, "VpcId": accepter.id},
                "ExpirationTime": world.now + _WEEK,
                "RequesterVpcInfo": _info(world, requester),
                "Status": {"Code": "initiating-request", "Message": f"Initiating Request to {account}"},
            }
            pending = {"Code": "pending-acceptance", "Message": f"Pending Acceptance by {account}"}
            made = world.make(PEERING, {**shown, "Status": pending}, tags)
            if world.scope != f"{account}/{region}":
                world.other(account, region).make(PEERING, made.shown, {}, id=made.id)
            return {"VpcPeeringConnection": {**shown, "VpcPeeringConnectionId": made.id, "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    DescribeVpcPeeringConnections = describes(PEERING)

    async def AcceptVpcPeeringConnection(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(PEERING, input["VpcPeeringConnectionId"])
            _check_side(world, item, "accept")
            _check_pending(item)
            vpc = world.get(VPC, item.shown["AccepterVpcInfo"]["VpcId"])
            shown = {
                **item.shown,
                "AccepterVpcInfo": _info(world, vpc),
                "Status": {"Code": "active", "Message": "Active"},
            }
            shown.pop("ExpirationTime", None)
            _set(world, item, {**shown, "ExpirationTime": None})
            return {"VpcPeeringConnection": {**shown, "Tags": shown_tags(item.tags)}}

        return await self.write(call.scope, work)

    async def RejectVpcPeeringConnection(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(PEERING, input["VpcPeeringConnectionId"])
            _check_side(world, item, "reject")
            _check_pending(item)
            _set(world, item, {"Status": {"Code": "rejected", "Message": "Inactive"}})
            return {"Return": True}

        return await self.write(call.scope, work)

    async def DeleteVpcPeeringConnection(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(PEERING, input["VpcPeeringConnectionId"])
            if item.shown["Status"]["Code"] not in ("active", "pending-acceptance"):
                raise _wrong_state(item)
            _set(world, item, {"Status": {"Code": "deleted", "Message": f"Deleted by {call.account}"}})
            return {"Return": True}

        return await self.write(call.scope, work)

    async def ModifyVpcPeeringConnectionOptions(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(PEERING, input["VpcPeeringConnectionId"])
            if item.shown["Status"]["Code"] != "active":
                raise AwsError(
                    "OperationNotPermitted",
                    f"Peering connection options can be modified only when {item.id} is active.",
                )
            answer, changes = {}, {}
            for side in ("Accepter", "Requester"):
                if (given := input.get(f"{side}PeeringConnectionOptions")) is not None:
                    answer[f"{side}PeeringConnectionOptions"] = given
                    info = item.shown[f"{side}VpcInfo"]
                    changes[f"{side}VpcInfo"] = {**info, "PeeringOptions": info["PeeringOptions"] | given}
            _set(world, item, changes)
            return answer

        return await self.write(call.scope, work)


def _info(world: World, vpc: Item) -> dict[str, Any]:
    return {
        "CidrBlock": vpc.shown["CidrBlock"],
        "CidrBlockSet": [{"CidrBlock": block} for block in blocks_of(vpc)],
        "OwnerId": world.account,
        "PeeringOptions": dict.fromkeys(_OPTIONS, False),
        "Region": world.region,
        "VpcId": vpc.id,
    }


def _check_side(world: World, item: Item, verb: str) -> None:
    accepter = item.shown["AccepterVpcInfo"]
    if (accepter["OwnerId"], accepter["Region"]) == (world.account, world.region):
        return
    if accepter["OwnerId"] != world.account:
        raise AwsError("OperationNotPermitted", f"User ({world.account}) cannot {verb} peering {item.id}")
    raise AwsError(
        "OperationNotPermitted",
        f"Incorrect region ({world.region}) specified for this request. "
        f"VPC peering connection {item.id} must be {verb}ed in region {accepter['Region']}",
    )


def _check_pending(item: Item) -> None:
    if item.shown["Status"]["Code"] != "pending-acceptance":
        raise _wrong_state(item)


def _wrong_state(item: Item) -> AwsError:
    return AwsError(
        "InvalidStateTransition",
        f"Invalid state transition for {item.id}, attempted to transition from {item.shown['Status']['Code']}",
    )


def _set(world: World, item: Item, changes: dict[str, Any]) -> None:
    """Change a connection on both its sides."""
    for side in ("AccepterVpcInfo", "RequesterVpcInfo"):
        info = item.shown[side]
        there = world.other(info["OwnerId"], info["Region"])
        if (one := there.find(item.id)) is not None:
            there.change(one, changes)
