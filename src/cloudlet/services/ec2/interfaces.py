"""Network interfaces, and the addresses of subnets that they take."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import cidr
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import ELASTIC_IP, INSTANCE, INTERFACE, SECURITY_GROUP, SUBNET
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, invalid, new_id, shown_tags


class Interfaces(Base):
    """Operations on network interfaces."""

    async def stand_for(
        self,
        account: str,
        region: str,
        id: str,
        *,
        subnet: str,
        groups: Iterable[str],
        address: str,
        description: str,
        public: bool = False,
        elastic: str = "",
        requester: str = "amazon-ecs",
    ) -> None:
        """Show an interface of a task or load balancer: in use, until it is let go. Its address is where it answers.

        That is none of its subnet's; a ``public`` one is the same; ``elastic`` is the allocation id of one that it has.
        Nothing is shown where EC2 does not know the subnet or the groups. That it is there already is no error.
        """
        await self.prepare(account, region)

        def work(world: World) -> None:
            there = world.find(subnet)
            if there is None or world.find(id) is not None or any(world.find(group) is None for group in groups):
                return
            made = make(world, there, list(groups), description, {}, requester=requester, address=address, id=id)
            if (given := world.find(elastic)) is not None and "AssociationId" not in given.shown:
                tie(world, given, made, address)
            if public:
                association = {"IpOwnerId": "amazon", "PublicIp": address}
                entries = [{**entry, "Association": association} for entry in made.shown["PrivateIpAddresses"]]
                world.change(made, {"Association": association, "PrivateIpAddresses": entries})

        await self.write(f"{account}/{region}", work)

    async def let_go(self, account: str, region: str, id: str) -> None:
        """A task or load balancer is gone, and its interface; that it was not shown is no error."""

        def work(world: World) -> None:
            if (item := world.find(id)) is not None:
                drop(world, item)

        await self.write(f"{account}/{region}", work)

    async def CreateNetworkInterface(self, call: Call, input: Input) -> Output:
        for parameter in ("Ipv4Prefixes", "Ipv4PrefixCount", "Ipv6Prefixes", "Ipv6PrefixCount", "EnablePrimaryIpv6"):
            if parameter in input:
                raise not_implemented(f"CreateNetworkInterface with {parameter}")
        tags = new_tags(call, input, INTERFACE)
        entries = input.get("PrivateIpAddresses", [])
        primary = [entry["PrivateIpAddress"] for entry in entries if entry.get("Primary")]
        primary += [input["PrivateIpAddress"]] if "PrivateIpAddress" in input else []
        others = [entry["PrivateIpAddress"] for entry in entries if not entry.get("Primary")]
        if not primary and others:
            primary, others = others[:1], others[1:]

        def work(world: World) -> Output:
            subnet = world.get(SUBNET, input["SubnetId"])
            item = make(
                world,
                subnet,
                input.get("Groups", []),
                input.get("Description", ""),
                tags,
                kind=input.get("InterfaceType", "interface"),
                wanted=primary[0] if primary else None,
            )
            item = _assign(world, item, others, input.get("SecondaryPrivateIpAddressCount", 0))
            addresses = [entry["Ipv6Address"] for entry in input.get("Ipv6Addresses", [])]
            item = _assign6(world, item, addresses, input.get("Ipv6AddressCount", 0))[0]
            return {"NetworkInterface": {**shown_interface(world, item), "TagSet": shown_tags(tags)}}

        return await self.write(call.scope, work)

    async def DescribeNetworkInterfaces(self, call: Call, input: Input) -> Output:
        return self.described(call, input, INTERFACE, shown_interface)

    async def DeleteNetworkInterface(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(INTERFACE, input["NetworkInterfaceId"])
            if item.shown["Status"] == "in-use":
                raise AwsError("InvalidNetworkInterface.InUse", f"Network interface '{item.id}' is currently in use.")
            drop(world, item)
            return {}

        return await self.write(call.scope, work)

    async def AttachNetworkInterface(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        world.get(INTERFACE, input["NetworkInterfaceId"])
        world.get(INSTANCE, input["InstanceId"])
        raise not_implemented("AttachNetworkInterface: an instance has one interface here")

    async def DetachNetworkInterface(self, call: Call, input: Input) -> Output:
        id = input["AttachmentId"]
        for item in self.world(call.scope).all(INTERFACE):
            attachment = item.shown.get("Attachment", {})
            if attachment.get("AttachmentId") != id:
                continue
            if "InstanceId" in attachment:
                words = "The network interface at device index 0 and networkCard index 0 cannot be detached."
                raise AwsError("OperationNotPermitted", words)
            raise AwsError("OperationNotPermitted", "You are not allowed to manage 'ela-attach' attachments.")
        raise AwsError("InvalidAttachmentID.NotFound", f"The attachment ID '{id}' does not exist")

    async def DescribeNetworkInterfaceAttribute(self, call: Call, input: Input) -> Output:
        item = self.world(call.scope).get(INTERFACE, input["NetworkInterfaceId"])
        shown, attribute = item.shown, input.get("Attribute", "")
        answer: Output = {"NetworkInterfaceId": item.id}
        if attribute == "description":
            answer["Description"] = {"Value": shown["Description"]}
        elif attribute == "groupSet":
            answer["Groups"] = shown["Groups"]
        elif attribute == "sourceDestCheck":
            answer["SourceDestCheck"] = {"Value": shown["SourceDestCheck"]}
        elif attribute == "attachment":
            answer |= {"Attachment": shown["Attachment"]} if "Attachment" in shown else {}
        else:
            raise invalid(
                f"Value ({attribute}) for parameter attribute is invalid. Unknown network interface attribute"
            )
        return answer

    async def ModifyNetworkInterfaceAttribute(self, call: Call, input: Input) -> Output:
        for parameter in input:
            if parameter not in ("NetworkInterfaceId", "DryRun", "Description", "SourceDestCheck", "Groups"):
                raise not_implemented(f"ModifyNetworkInterfaceAttribute with {parameter}")

        def work(world: World) -> Output:
            item = world.get(INTERFACE, input["NetworkInterfaceId"])
            changes: dict[str, Any] = {
                name: input[name]["Value"]
                for name in ("Description", "SourceDestCheck")
                if "Value" in input.get(name, {})
            }
            if "Groups" in input and item.shown["RequesterManaged"]:
                raise AwsError("AuthFailure", "You do not have permission to access the specified resource.")
            if "Groups" in input:
                changes["Groups"] = groups_of(world, item.shown["VpcId"], input["Groups"])
            world.change(item, changes)
            return {}

        return await self.write(call.scope, work)

    async def ResetNetworkInterfaceAttribute(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            world.change(world.get(INTERFACE, input["NetworkInterfaceId"]), {"SourceDestCheck": True})
            return {}

        return await self.write(call.scope, work)

    async def AssignPrivateIpAddresses(self, call: Call, input: Input) -> Output:
        for parameter in ("Ipv4Prefixes", "Ipv4PrefixCount"):
            if parameter in input:
                raise not_implemented(f"AssignPrivateIpAddresses with {parameter}")

        def work(world: World) -> Output:
            item = world.get(INTERFACE, input["NetworkInterfaceId"])
            before = {entry["PrivateIpAddress"] for entry in item.shown["PrivateIpAddresses"]}
            wanted = input.get("PrivateIpAddresses", [])
            item = _assign(world, item, wanted, input.get("SecondaryPrivateIpAddressCount", 0))
            now = [entry["PrivateIpAddress"] for entry in item.shown["PrivateIpAddresses"]]
            new = [{"PrivateIpAddress": address} for address in now if address not in before]
            return {"NetworkInterfaceId": item.id, "AssignedPrivateIpAddresses": new}

        return await self.write(call.scope, work)

    async def UnassignPrivateIpAddresses(self, call: Call, input: Input) -> Output:
        gone = set(input.get("PrivateIpAddresses", []))

        def work(world: World) -> Output:
            item = world.get(INTERFACE, input["NetworkInterfaceId"])
            entries = item.shown["PrivateIpAddresses"]
            there = {entry["PrivateIpAddress"] for entry in entries if not entry["Primary"]}
            if not gone <= there:
                raise invalid(f"Some of the specified addresses are not assigned to interface {item.id}")
            kept = [entry for entry in entries if entry["PrivateIpAddress"] not in gone]
            world.change(item, {"PrivateIpAddresses": kept})
            _free(world, item, gone)
            return {}

        return await self.write(call.scope, work)

    async def AssignIpv6Addresses(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(INTERFACE, input["NetworkInterfaceId"])
            item, new = _assign6(world, item, input.get("Ipv6Addresses", []), input.get("Ipv6AddressCount", 0))
            return {"NetworkInterfaceId": item.id, "AssignedIpv6Addresses": new}

        return await self.write(call.scope, work)

    async def UnassignIpv6Addresses(self, call: Call, input: Input) -> Output:
        gone = input.get("Ipv6Addresses", [])

        def work(world: World) -> Output:
            item = world.get(INTERFACE, input["NetworkInterfaceId"])
            kept = [entry for entry in item.shown["Ipv6Addresses"] if entry["Ipv6Address"] not in gone]
            world.change(item, {"Ipv6Addresses": kept})
            return {"NetworkInterfaceId": item.id, "UnassignedIpv6Addresses": gone}

        return await self.write(call.scope, work)


def shown_interface(world: World, item: Item) -> dict[str, Any]:
    """An interface with its tags, which have a name of their own here, and with its elastic address."""
    by_address = {
        address.shown["PrivateIpAddress"]: {
            "AllocationId": address.id,
            "AssociationId": address.shown["AssociationId"],
            "IpOwnerId": world.account,
            "PublicDnsName": public_name(world.region, address.shown["PublicIp"]),
            "PublicIp": address.shown["PublicIp"],
        }
        for id in item.hidden.get("elastic", [])
        if (address := world.find(id)) is not None
    }
    entries = [
        {**entry, **({"Association": by_address[ip]} if (ip := entry["PrivateIpAddress"]) in by_address else {})}
        for entry in item.shown["PrivateIpAddresses"]
    ]
    shown = {**item.shown, "PrivateIpAddresses": entries, "TagSet": shown_tags(item.tags)}
    if (association := by_address.get(item.shown["PrivateIpAddress"])) is not None:
        shown["Association"] = association
    return shown


def make(
    world: World,
    subnet: Item,
    groups: list[str],
    description: str,
    tags: dict[str, str],
    *,
    kind: str = "interface",
    wanted: str | None = None,
    requester: str = "",
    address: str = "",
    id: str = "",
) -> Item:
    """A new interface in a subnet; with a requester, one that a service has made and attached.

    ``wanted`` is one of the subnet's addresses; ``address`` is another one, which the subnet does not give.
    """
    vpc_id = subnet.shown["VpcId"]
    name = private_name(world.region, address)
    if not address:
        ((address, name),) = _taken(world, subnet, [wanted])
    shown: dict[str, Any] = {
        "AvailabilityZone": subnet.shown["AvailabilityZone"],
        "AvailabilityZoneId": subnet.shown["AvailabilityZoneId"],
        "Description": description,
        "Groups": groups_of(world, vpc_id, groups) if kind != "nat_gateway" else [],
        "InterfaceType": kind,
        "Ipv6Addresses": [],
        "Operator": {"Managed": False},
        "MacAddress": "02:" + secrets.token_bytes(5).hex(":"),
        "OwnerId": world.account,
        "PrivateDnsName": name,
        "PrivateIpAddress": address,
        "PrivateIpAddresses": [{"Primary": True, "PrivateDnsName": name, "PrivateIpAddress": address}],
        "RequesterId": requester or world.account,
        "RequesterManaged": bool(requester),
        "SourceDestCheck": kind != "nat_gateway",
        "Status": "in-use" if requester else "available",
        "SubnetId": subnet.id,
        "VpcId": vpc_id,
    }
    if requester:
        shown["Attachment"] = {
            "AttachmentId": new_id("ela-attach"),
            "AttachTime": world.now,
            "DeleteOnTermination": False,
            "DeviceIndex": 1,
            "InstanceOwnerId": requester,
            "Status": "attached",
        }
    return world.make(INTERFACE, shown, tags, {"elastic": []}, id)


def drop(world: World, item: Item) -> None:
    """Delete an interface; its addresses are free again."""
    _free(world, item, {entry["PrivateIpAddress"] for entry in item.shown["PrivateIpAddresses"]})
    for id in item.hidden.get("elastic", []):
        if (address := world.find(id)) is not None:
            loosen(world, address)
    world.delete(item)


def tie(world: World, address: Item, item: Item, private: str) -> Item:
    """Associate an elastic address with an interface's private one."""
    item = world.get(INTERFACE, item.id)
    world.change(item, hidden={"elastic": [*item.hidden.get("elastic", []), address.id]})
    instance = item.shown.get("Attachment", {}).get("InstanceId")
    members = {
        **({"InstanceId": instance} if instance else {}),
        "AssociationId": new_id("eipassoc"),
        "NetworkInterfaceId": item.id,
        "NetworkInterfaceOwnerId": world.account,
        "PrivateIpAddress": private,
    }
    return world.change(address, members)


def loosen(world: World, address: Item) -> None:
    """Take an elastic address from its interface."""
    item = world.find(address.shown.get("NetworkInterfaceId", ""))
    if item is not None:
        world.change(item, hidden={"elastic": [id for id in item.hidden["elastic"] if id != address.id]})
    names = ("AssociationId", "InstanceId", "NetworkInterfaceId", "NetworkInterfaceOwnerId", "PrivateIpAddress")
    world.change(world.get(ELASTIC_IP, address.id), dict.fromkeys(names))


def public_name(region: str, address: str) -> str:
    """The name that AWS gives to a public address."""
    domain = "compute-1.amazonaws.com" if region == "us-east-1" else f"{region}.compute.amazonaws.com"
    return f"ec2-{address.replace('.', '-')}.{domain}"


def private_name(region: str, address: str) -> str:
    """The name that AWS gives to an address of a subnet."""
    domain = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
    return f"ip-{address.replace('.', '-')}.{domain}"


def _taken(world: World, subnet: Item, wanted: list[str | None]) -> list[tuple[str, str]]:
    """Addresses of a subnet that are nobody else's from now on, with their names; None wants any."""
    subnet = world.get(SUBNET, subnet.id)
    if "CidrBlock" not in subnet.shown:
        raise not_implemented("a network interface in a subnet of IPv6 alone")
    block = subnet.shown["CidrBlock"]
    taken = set(subnet.hidden["taken"])
    last, candidate = cidr.size(block) + 3, 4
    found = []
    for address in wanted:
        if address is not None:
            try:
                number = cidr.number_of(block, address)
            except ValueError:
                raise invalid(f"Value ({address}) for parameter privateIpAddress is invalid.") from None
            if not 4 <= number <= last:
                raise invalid(f"Address does not fall within the subnet's address range: {address}")
            if number in taken:
                raise AwsError("InvalidIPAddress.InUse", "The specified address is already in use.")
        else:
            while candidate in taken:
                candidate += 1
            if candidate > last:
                raise AwsError(
                    "InsufficientFreeAddressesInSubnet",
                    "The specified subnet does not have enough free addresses to satisfy the request.",
                )
            number = candidate
        taken.add(number)
        text = cidr.address_of(block, number)
        found.append((text, private_name(world.region, text)))
    world.change(subnet, hidden={"taken": sorted(taken)})
    return found


def _free(world: World, item: Item, addresses: set[str]) -> None:
    subnet = world.find(item.shown["SubnetId"])
    if subnet is None:
        return
    numbers = {cidr.number_of(subnet.shown["CidrBlock"], address) for address in addresses}
    world.change(subnet, hidden={"taken": [one for one in subnet.hidden["taken"] if one not in numbers]})


def _assign(world: World, item: Item, addresses: list[str], count: int) -> Item:
    wanted: list[str | None] = [*addresses, *([None] * count)]
    if not wanted:
        return item
    taken = _taken(world, world.get(SUBNET, item.shown["SubnetId"]), wanted)
    new = [{"Primary": False, "PrivateDnsName": name, "PrivateIpAddress": address} for address, name in taken]
    return world.change(item, {"PrivateIpAddresses": [*item.shown["PrivateIpAddresses"], *new]})


def _assign6(world: World, item: Item, addresses: list[str], count: int) -> tuple[Item, list[str]]:
    if not addresses and not count:
        return item, []
    blocks = world.get(SUBNET, item.shown["SubnetId"]).shown["Ipv6CidrBlockAssociationSet"]
    if not blocks:
        raise invalid(f"The subnet {item.shown['SubnetId']} has no IPv6 CIDR block.")
    block = cidr.network6(blocks[0]["Ipv6CidrBlock"])
    if any(cidr.network6(f"{address}/128").network_address not in block for address in addresses):
        raise invalid("Address does not fall within the subnet's address range")
    new = [*addresses, *(str(block[secrets.randbits(63) + 16]) for _ in range(count))]
    entries = [*item.shown["Ipv6Addresses"], *({"Ipv6Address": address} for address in new)]
    return world.change(item, {"Ipv6Addresses": entries}), new


def groups_of(world: World, vpc_id: str, ids: list[str]) -> list[dict[str, str]]:
    """Security groups as an interface shows them; without any, the VPC's default one."""
    found = [world.get(SECURITY_GROUP, id) for id in ids]
    if not found:
        found = world.all(SECURITY_GROUP, VpcId=vpc_id, GroupName="default")
    for group in found:
        if group.shown["VpcId"] != vpc_id:
            raise AwsError(
                "InvalidParameter",
                f"Security group {group.id} and subnet belong to different networks.",
            )
    return [{"GroupId": group.id, "GroupName": group.shown["GroupName"]} for group in found]
