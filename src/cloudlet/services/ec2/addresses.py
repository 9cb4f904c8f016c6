"""Elastic IP addresses: of the block for benchmarks, 198.18.0.0/15, which leads to nobody else's machine."""

from __future__ import annotations

import secrets
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import interfaces
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.instance_records import interface_of
from cloudlet.services.ec2.kinds import ELASTIC_IP, INSTANCE, INTERFACE
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, invalid

_BLOCK = IPv4Network("198.18.0.0/15")


class Addresses(Base):
    """Operations on elastic IP addresses."""

    async def AllocateAddress(self, call: Call, input: Input) -> Output:
        for parameter in ("CustomerOwnedIpv4Pool", "IpamPoolId"):
            if parameter in input:
                raise not_implemented(f"AllocateAddress with {parameter}")
        if input.get("PublicIpv4Pool", "amazon") != "amazon":
            raise not_implemented("AllocateAddress with PublicIpv4Pool")
        if input.get("Domain") not in (None, "", "vpc"):
            raise invalid(f"Invalid value '{input['Domain']}' for domain. Only 'vpc' is supported.")
        tags = new_tags(call, input, ELASTIC_IP)

        def work(world: World) -> Output:
            taken = {item.shown["PublicIp"] for item in world.all(ELASTIC_IP)}
            address = input.get("Address") or free_address(taken)
            if address in taken:
                raise AwsError("AddressLimitExceeded", f"The address {address} is allocated already.")
            shown = {
                "Domain": "vpc",
                "NetworkBorderGroup": input.get("NetworkBorderGroup", world.region),
                "PublicIp": address,
                "PublicIpv4Pool": "amazon",
            }
            return world.make(ELASTIC_IP, shown, tags).shown

        return await self.write(call.scope, work)

    async def DescribeAddresses(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        by_ip = [_by_ip(world, ip).id for ip in input.get("PublicIps", [])]
        ids = [*input.get("AllocationIds", []), *by_ip]
        return self.described(call, {**input, "AllocationIds": ids}, ELASTIC_IP)

    async def DescribeAddressesAttribute(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        ids = input.get("AllocationIds")
        items = [world.get(ELASTIC_IP, id) for id in ids] if ids else world.all(ELASTIC_IP)
        return {"Addresses": [{"PublicIp": item.shown["PublicIp"], "AllocationId": item.id} for item in items]}

    async def AssociateAddress(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            address = _named(world, input)
            interface = _wanted(world, input)
            private = input.get("PrivateIpAddress", interface.shown["PrivateIpAddress"])
            if all(entry["PrivateIpAddress"] != private for entry in interface.shown["PrivateIpAddresses"]):
                raise invalid(f"The private IP address {private} is not assigned to interface {interface.id}")
            same = (address.shown.get("NetworkInterfaceId"), address.shown.get("PrivateIpAddress"))
            if same == (interface.id, private):
                return {"AssociationId": address.shown["AssociationId"]}
            _make_free(world, address, interface, private, input.get("AllowReassociation", True))
            tied = interfaces.tie(world, world.get(ELASTIC_IP, address.id), interface, private)
            return {"AssociationId": tied.shown["AssociationId"]}

        return await self.write(call.scope, work)

    async def DisassociateAddress(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            if id := input.get("AssociationId"):
                found = world.all(ELASTIC_IP, AssociationId=id)
                if not found:
                    raise AwsError("InvalidAssociationID.NotFound", f"The association ID '{id}' does not exist")
                interfaces.loosen(world, found[0])
                return {}
            address = _named(world, input)
            if "AssociationId" in address.shown:
                interfaces.loosen(world, address)
            return {}

        return await self.write(call.scope, work)

    async def ReleaseAddress(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            address = _named(world, input)
            if "AssociationId" in address.shown:
                raise AwsError("InvalidIPAddress.InUse", f"Address {address.shown['PublicIp']} is in use.")
            world.delete(address)
            return {}

        return await self.write(call.scope, work)


def free_address(taken: set[str]) -> str:
    """A public address that nobody has taken."""
    first = int(_BLOCK.network_address)
    while True:
        address = str(IPv4Address(first + 1 + secrets.randbelow(_BLOCK.num_addresses - 2)))
        if address not in taken:
            return address


def _by_ip(world: World, ip: str) -> Item:
    found = world.all(ELASTIC_IP, PublicIp=ip)
    if not found:
        raise AwsError("InvalidAddress.NotFound", f"Address '{{'{ip}'}}' not found.")
    return found[0]


def _named(world: World, input: Input) -> Item:
    """The address that a request names, by its id or itself."""
    if input.get("AllocationId"):
        return world.get(ELASTIC_IP, input["AllocationId"])
    if input.get("PublicIp"):
        return _by_ip(world, input["PublicIp"])
    raise AwsError("MissingParameter", "Invalid request, expect PublicIp/AllocationId parameter.")


def _wanted(world: World, input: Input) -> Item:
    """The interface that is to have the address: the one that a request names, or an instance's first."""
    if "NetworkInterfaceId" in input:
        return world.get(INTERFACE, input["NetworkInterfaceId"])
    if "InstanceId" not in input:
        raise AwsError("MissingParameter", "Invalid request, expect InstanceId/NetworkId parameter.")
    instance = world.get(INSTANCE, input["InstanceId"])
    state = instance.shown["State"]["Name"]
    interface = interface_of(world, instance)
    if interface is None or state not in ("running", "stopping", "stopped"):
        words = f"The {state} instance '{instance.id}' is not in a valid state for this operation."
        raise AwsError("InvalidInstanceID", words)
    return interface


def _make_free(world: World, address: Item, interface: Item, private: str, may_take: bool) -> None:
    """Loosen what the address, and what the interface's private address, are associated with."""
    others: list[Any] = [world.find(id) for id in interface.hidden.get("elastic", [])]
    for other in (address, *others):
        if other is None or "AssociationId" not in other.shown:
            continue
        if other.id != address.id and other.shown["PrivateIpAddress"] != private:
            continue
        if not may_take:
            raise AwsError(
                "Resource.AlreadyAssociated",
                f"resource {other.id} is already associated with associate-id {other.shown['AssociationId']}",
            )
        interfaces.loosen(world, other)
