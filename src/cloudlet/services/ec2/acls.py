"""Network ACLs."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import cidr, defaults
from cloudlet.services.ec2.base import Base
from cloudlet.services.ec2.kinds import NETWORK_ACL, SUBNET, VPC
from cloudlet.services.ec2.operations import creates, deletes, describes
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, in_use, invalid, missing, new_id

_NUMBERS = {"tcp": "6", "udp": "17", "icmp": "1", "icmpv6": "58", "all": "-1"}


def _check_unused(world: World, acl: Item) -> None:
    if acl.shown["IsDefault"]:
        raise invalid(f"cannot delete default network ACL {acl.id}")
    if acl.shown["Associations"]:
        raise in_use(f"The network ACL '{acl.id}' has dependencies and cannot be deleted.")


class Acls(Base):
    """Operations on network ACLs."""

    CreateNetworkAcl = creates(
        NETWORK_ACL, lambda world, input: defaults.shown_acl(world, world.get(VPC, input["VpcId"])), ["VpcId"]
    )
    DescribeNetworkAcls = describes(NETWORK_ACL)

    DeleteNetworkAcl = deletes(NETWORK_ACL, _check_unused)

    async def CreateNetworkAclEntry(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            acl = world.get(NETWORK_ACL, input["NetworkAclId"])
            entry = _entry(input)
            if _at(acl, entry) is not None:
                raise AwsError(
                    "NetworkAclEntryAlreadyExists",
                    f"The network acl entry identified by {entry['RuleNumber']} already exists.",
                )
            _put(world, acl, [*acl.shown["Entries"], entry])
            return {}

        return await self.write(call.scope, work)

    async def ReplaceNetworkAclEntry(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            acl = world.get(NETWORK_ACL, input["NetworkAclId"])
            entry = _entry(input)
            old = _known(acl, entry)
            _put(world, acl, [entry if one is old else one for one in acl.shown["Entries"]])
            return {}

        return await self.write(call.scope, work)

    async def DeleteNetworkAclEntry(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            acl = world.get(NETWORK_ACL, input["NetworkAclId"])
            old = _known(acl, input)
            _put(world, acl, [one for one in acl.shown["Entries"] if one is not old])
            return {}

        return await self.write(call.scope, work)

    async def ReplaceNetworkAclAssociation(self, call: Call, input: Input) -> Output:
        id = input["AssociationId"]

        def work(world: World) -> Output:
            target = world.get(NETWORK_ACL, input["NetworkAclId"])
            for acl in world.all(NETWORK_ACL):
                for association in acl.shown["Associations"]:
                    if association["NetworkAclAssociationId"] != id:
                        continue
                    if target.shown["VpcId"] != acl.shown["VpcId"]:
                        subnet = world.get(SUBNET, association["SubnetId"])
                        raise invalid(f"network ACL {target.id} and subnet {subnet.id} belong to different networks")
                    return {"NewAssociationId": _move(world, acl, target, association)}
            raise AwsError("InvalidAssociationID.NotFound", f"The association ID '{id}' does not exist")

        return await self.write(call.scope, work)


def _move(world: World, old: Item, target: Item, association: dict[str, Any]) -> str:
    kept = [one for one in old.shown["Associations"] if one != association]
    world.change(old, {"Associations": kept})
    target = world.get(NETWORK_ACL, target.id)
    moved = {**association, "NetworkAclAssociationId": new_id("aclassoc"), "NetworkAclId": target.id}
    world.change(target, {"Associations": [*target.shown["Associations"], moved]})
    return str(moved["NetworkAclAssociationId"])


def _entry(input: Input) -> dict[str, Any]:
    protocol = str(input["Protocol"])
    protocol = _NUMBERS.get(protocol.lower(), protocol)
    if protocol != "-1" and not (protocol.isdigit() and int(protocol) < 256):
        raise invalid(f"Invalid value '{input['Protocol']}' for IP protocol. Unknown protocol.")
    if not 1 <= input["RuleNumber"] <= 32766:
        raise invalid(f"Invalid value '{input['RuleNumber']}' for ruleNumber. Must be between 1 and 32766.")
    action = input["RuleAction"].lower()
    if action not in ("allow", "deny"):
        raise invalid(f"Invalid value '{input['RuleAction']}' for ruleAction.")
    entry = {
        "Egress": input["Egress"],
        "Protocol": protocol,
        "RuleAction": action,
        "RuleNumber": input["RuleNumber"],
    }
    if protocol in ("6", "17"):
        if "PortRange" not in input:
            raise missing("portRange")
        entry["PortRange"] = input["PortRange"]
    if protocol in ("1", "58"):
        if "IcmpTypeCode" not in input:
            raise missing("icmpTypeCode")
        entry["IcmpTypeCode"] = input["IcmpTypeCode"]
    if "CidrBlock" in input:
        return {**entry, "CidrBlock": str(cidr.network(input["CidrBlock"]))}
    if "Ipv6CidrBlock" in input:
        return {**entry, "Ipv6CidrBlock": str(cidr.network6(input["Ipv6CidrBlock"]))}
    raise missing("cidrBlock or ipv6CidrBlock")


def _at(acl: Item, wanted: dict[str, Any]) -> dict[str, Any] | None:
    key = (wanted["RuleNumber"], wanted["Egress"])
    return next((one for one in acl.shown["Entries"] if (one["RuleNumber"], one["Egress"]) == key), None)


def _known(acl: Item, wanted: dict[str, Any]) -> dict[str, Any]:
    found = _at(acl, wanted)
    if found is None or found["RuleNumber"] == 32767:
        way = "egress" if wanted["Egress"] else "ingress"
        raise AwsError(
            "InvalidNetworkAclEntry.NotFound",
            f"There is no {way} network acl entry with the rule number {wanted['RuleNumber']} in network acl {acl.id}.",
        )
    return found


def _put(world: World, acl: Item, entries: list[dict[str, Any]]) -> None:
    ordered = sorted(entries, key=lambda one: (not one["Egress"], one["RuleNumber"]))
    world.change(acl, {"Entries": ordered})
