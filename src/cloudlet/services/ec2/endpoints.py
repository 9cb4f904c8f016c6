"""VPC endpoints: records, as every service is reached at the one endpoint here."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import interfaces
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import ENDPOINT, PREFIX_LIST, ROUTE_TABLE, SECURITY_GROUP, SUBNET, VPC
from cloudlet.services.ec2.operations import describes
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, invalid, shown_tags

_POLICY = {
    "Version": "2008-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}],
}
_TYPES = ("Gateway", "Interface")


class Endpoints(Base):
    """Operations on VPC endpoints."""

    async def CreateVpcEndpoint(self, call: Call, input: Input) -> Output:
        tags = new_tags(call, input, ENDPOINT)
        kind = input.get("VpcEndpointType", "Gateway").capitalize()
        if kind not in _TYPES:
            raise not_implemented(f"VPC endpoints of type {kind}")
        if "ServiceName" not in input:
            raise not_implemented("CreateVpcEndpoint without ServiceName")

        def work(world: World) -> Output:
            if token := input.get("ClientToken"):
                for same in world.all(ENDPOINT):
                    if same.hidden.get("token") == token:
                        return {"VpcEndpoint": {**same.shown, "Tags": shown_tags(same.tags)}, "ClientToken": token}
            item = _make(world, input, kind, tags)
            answer: Output = {"VpcEndpoint": {**item.shown, "Tags": shown_tags(tags)}}
            return {**answer, "ClientToken": token} if token else answer

        return await self.write(call.scope, work)

    DescribeVpcEndpoints = describes(ENDPOINT)

    async def ModifyVpcEndpoint(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(ENDPOINT, input["VpcEndpointId"])
            shown: dict[str, Any] = item.shown
            changes: dict[str, Any] = {}
            if input.get("ResetPolicy"):
                changes["PolicyDocument"] = json.dumps(_POLICY)
            for name in ("PolicyDocument", "PrivateDnsEnabled", "IpAddressType", "DnsOptions"):
                if name in input:
                    changes[name] = input[name]
            tables = _changed(shown["RouteTableIds"], input, "RouteTableIds")
            subnets = _changed(shown["SubnetIds"], input, "SubnetIds")
            groups = _changed([group["GroupId"] for group in shown["Groups"]], input, "SecurityGroupIds")
            changes |= {"RouteTableIds": tables, "SubnetIds": subnets, "Groups": _groups(world, groups)}
            _route(world, item, shown["RouteTableIds"], tables)
            changes["NetworkInterfaceIds"] = _settle(world, item, subnets, groups)
            world.change(item, changes)
            return {"Return": True}

        return await self.write(call.scope, work)

    async def DeleteVpcEndpoints(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            failed = []
            for id in input["VpcEndpointIds"]:
                try:
                    item = world.get(ENDPOINT, id)
                except AwsError as error:
                    failed.append({"ResourceId": id, "Error": {"Code": error.code, "Message": error.message}})
                    continue
                _route(world, item, item.shown["RouteTableIds"], [])
                _settle(world, item, [], [])
                world.delete(item)
            return {"Unsuccessful": failed}

        return await self.write(call.scope, work)


def _make(world: World, input: Input, kind: str, tags: dict[str, str]) -> Item:
    vpc = world.get(VPC, input["VpcId"])
    service = input["ServiceName"]
    tables, subnets = input.get("RouteTableIds", []), input.get("SubnetIds", [])
    groups = input.get("SecurityGroupIds", [])
    if kind == "Interface" and not groups:
        groups = [group.id for group in world.all(SECURITY_GROUP, VpcId=vpc.id, GroupName="default")]
    shown: dict[str, Any] = {
        "CreationTimestamp": world.now,
        "Groups": _groups(world, groups),
        "NetworkInterfaceIds": [],
        "OwnerId": world.account,
        "PolicyDocument": input.get("PolicyDocument", json.dumps(_POLICY)),
        "PrivateDnsEnabled": input.get("PrivateDnsEnabled", kind == "Interface"),
        "RequesterManaged": False,
        "RouteTableIds": [world.get(ROUTE_TABLE, id).id for id in tables],
        "ServiceName": service,
        "ServiceRegion": input.get("ServiceRegion", world.region),
        "State": "available",
        "SubnetIds": [world.get(SUBNET, id).id for id in subnets],
        "VpcEndpointType": kind,
        "VpcId": vpc.id,
        "IpAddressType": input.get("IpAddressType", "ipv4"),
        "DnsOptions": input.get(
            "DnsOptions", {"DnsRecordIpType": "ipv4" if kind == "Interface" else "service-defined"}
        ),
        "DnsEntries": [],
    }
    item = world.make(ENDPOINT, shown, tags, {"token": input.get("ClientToken", "")})
    _route(world, item, [], tables)
    changes: dict[str, Any] = {"NetworkInterfaceIds": _settle(world, item, subnets, groups)}
    if kind == "Interface":
        short = service.rpartition(".")[2]
        name = f"{item.id}-{item.id[-8:]}.{short}.{world.region}.vpce.amazonaws.com"
        changes["DnsEntries"] = [{"DnsName": name, "HostedZoneId": "Z7HUB22UULQXV"}]
    return world.change(item, changes)


def _changed(old: list[str], input: Input, name: str) -> list[str]:
    """A list without what a request removes and with what it adds."""
    kept = [id for id in old if id not in input.get(f"Remove{name}", [])]
    return list(dict.fromkeys((*kept, *input.get(f"Add{name}", []))))


def _groups(world: World, ids: list[str]) -> list[dict[str, str]]:
    return [{"GroupId": id, "GroupName": world.get(SECURITY_GROUP, id).shown["GroupName"]} for id in ids]


def _route(world: World, item: Item, old: list[str], new: list[str]) -> None:
    """Lead a gateway endpoint's tables to it."""
    lists = world.all(PREFIX_LIST, PrefixListName=item.shown["ServiceName"])
    if item.shown["VpcEndpointType"] != "Gateway" or not lists:
        return
    for id in {*old, *new}:
        if id in new:
            table = world.get(ROUTE_TABLE, id)
            if table.shown["VpcId"] != item.shown["VpcId"]:
                raise invalid(f"Route table {id} and endpoint {item.id} belong to different networks")
        elif (found := world.find(id)) is not None:
            table = found
        else:
            continue
        routes = [route for route in table.shown["Routes"] if route.get("GatewayId") != item.id]
        if id in new:
            target = {"GatewayId": item.id, "Origin": "CreateRoute", "State": "active"}
            routes.append({"DestinationPrefixListId": lists[0].id, **target})
        world.change(table, {"Routes": routes})


def _settle(world: World, item: Item, subnets: list[str], groups: list[str]) -> list[str]:
    """Give an interface endpoint an interface in each of its subnets, and in no other. Their ids."""
    if item.shown["VpcEndpointType"] != "Interface":
        return []
    there = {}
    for id in item.shown["NetworkInterfaceIds"]:
        found = world.find(id)
        if found is not None and found.shown["SubnetId"] in subnets:
            there[found.shown["SubnetId"]] = found
        elif found is not None:
            interfaces.drop(world, found)
    for id in subnets:
        if id not in there:
            there[id] = interfaces.make(
                world,
                world.get(SUBNET, id),
                groups,
                f"VPC Endpoint Interface {item.id}",
                {},
                kind="vpc_endpoint",
                requester="amazon-vpce",
            )
        else:
            world.change(there[id], {"Groups": _groups(world, groups)})
    return [there[id].id for id in subnets]
