"""CloudFormation's types of security groups and network ACLs."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.ec2 import kinds
from cloudlet.services.ec2.stacking import Thing, Type, is_true, picked, unless
from cloudlet.stacks.api import Deployment, Physical, Properties

_PORTS = ("IpProtocol", "FromPort", "ToPort")
_BOTH = frozenset((*_PORTS, "CidrIp", "CidrIpv6", "Description"))
_IN = _BOTH | {
    *("SourceSecurityGroupId", "SourceSecurityGroupName", "SourceSecurityGroupOwnerId", "SourcePrefixListId"),
}
_OUTWARD = _BOTH | {"DestinationSecurityGroupId", "DestinationPrefixListId"}
_RULE = _IN | _OUTWARD
_OUT = {"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}
_GROUP_RULES = {"SecurityGroupIngress": "Ingress", "SecurityGroupEgress": "Egress"}


class SecurityGroup(Thing):
    """A security group. ``Ref`` is its id."""

    kind = kinds.SECURITY_GROUP
    required = frozenset(("GroupDescription",))
    replaces = frozenset(("GroupDescription", "GroupName", "VpcId"))
    changes = frozenset((*_GROUP_RULES, "Tags"))
    gives = ("GroupId",)

    def input(self, do: Deployment, properties: Properties) -> Properties:
        name = properties.get("GroupName") or do.name(255)
        return {"GroupName": name, "Description": properties["GroupDescription"]} | picked(properties, "VpcId")

    async def attributes(self, do: Deployment, found: Properties) -> Properties:
        shown = await do.call("ec2", "DescribeSecurityGroups", {"GroupIds": [found["GroupId"]]})
        return {"VpcId": shown["SecurityGroups"][0]["VpcId"]}

    async def settle(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        for name, way in _GROUP_RULES.items():
            # A group lets everything out, unless its template says what it lets out.
            default = [_OUT] if way == "Egress" else []
            before, after = old.get(name) or default, new.get(name) or default
            for rule in before:
                if rule not in after:
                    await unless(do, f"RevokeSecurityGroup{way}", _permission(id, rule))
            for rule in after:
                if rule not in before:
                    await _authorize(do, way, id, rule)


class _Rule(Type):
    """One rule of a group. ``Ref`` is its id."""

    way = ""
    changes = frozenset(("Description",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        if "GroupId" not in properties:
            raise not_implemented(f"{self.type} without GroupId")
        rule = picked(properties, *_RULE)
        id = await _authorize(do, self.way, properties["GroupId"], rule)
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        said = {"SecurityGroupRuleId": physical.id, "Description": new.get("Description", "")}
        input = {"GroupId": new["GroupId"], "SecurityGroupRuleDescriptions": [said]}
        await do.call("ec2", f"UpdateSecurityGroupRuleDescriptions{self.way}", input)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        input = {"GroupId": properties.get("GroupId"), "SecurityGroupRuleIds": [physical.id]}
        await unless(do, f"RevokeSecurityGroup{self.way}", input)


class SecurityGroupIngress(_Rule):
    """A rule of what a group lets in."""

    required = frozenset(("IpProtocol",))
    replaces = (_IN - {"Description"}) | {"GroupId", "GroupName"}
    way = "Ingress"


class SecurityGroupEgress(_Rule):
    """A rule of what a group lets out."""

    required = frozenset(("IpProtocol", "GroupId"))
    replaces = (_OUTWARD - {"Description"}) | {"GroupId"}
    way = "Egress"


class NetworkAcl(Thing):
    """A network ACL. ``Ref`` is its id."""

    kind = kinds.NETWORK_ACL
    required = replaces = frozenset(("VpcId",))
    changes = frozenset(("Tags",))


class NetworkAclEntry(Type):
    """An entry of a network ACL."""

    required = frozenset(("NetworkAclId", "RuleNumber", "Protocol", "RuleAction"))
    replaces = frozenset(("NetworkAclId", "RuleNumber", "Egress"))
    changes = frozenset(("Protocol", "RuleAction", "CidrBlock", "Ipv6CidrBlock", "PortRange", "Icmp"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        input = _entry(properties)
        if not await unless(do, "CreateNetworkAclEntry", input, "NetworkAclEntryAlreadyExists"):
            await do.call("ec2", "ReplaceNetworkAclEntry", input)
        way = "egress" if input["Egress"] else "ingress"
        id = f"{properties['NetworkAclId']}|{way}|{properties['RuleNumber']}"
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await do.call("ec2", "ReplaceNetworkAclEntry", _entry(new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        input = picked(_entry(properties), "NetworkAclId", "RuleNumber", "Egress")
        await unless(do, "DeleteNetworkAclEntry", input)


class SubnetNetworkAclAssociation(Type):
    """That a subnet stands under a network ACL. ``Ref`` is the association's id."""

    required = frozenset(("SubnetId", "NetworkAclId"))
    replaces = frozenset(("SubnetId", "NetworkAclId"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        id = await _stand_under(do, properties["SubnetId"], properties["NetworkAclId"])
        return Physical(id, {"AssociationId": id})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        found = await _associations(do, properties["SubnetId"])
        if found and found[0]["NetworkAclAssociationId"] == physical.id:
            acls = await do.call("ec2", "DescribeNetworkAcls", {"NetworkAclIds": [properties["NetworkAclId"]]})
            by_vpc = [
                {"Name": "vpc-id", "Values": [acls["NetworkAcls"][0]["VpcId"]]},
                {"Name": "default", "Values": ["true"]},
            ]
            default = (await do.call("ec2", "DescribeNetworkAcls", {"Filters": by_vpc}))["NetworkAcls"][0]
            await _stand_under(do, properties["SubnetId"], default["NetworkAclId"])


def _permission(group: str, rule: Properties) -> Properties:
    """A rule of a template as an operation takes it."""
    for name in sorted(rule.keys() - _RULE):
        raise not_implemented(f"a security group's rule with {name}")
    text = picked(rule, "Description")
    permission: Properties = picked(rule, *_PORTS)
    permission["IpProtocol"] = str(permission["IpProtocol"])
    if "CidrIp" in rule:
        permission["IpRanges"] = [{"CidrIp": rule["CidrIp"], **text}]
    if "CidrIpv6" in rule:
        permission["Ipv6Ranges"] = [{"CidrIpv6": rule["CidrIpv6"], **text}]
    if prefix := rule.get("SourcePrefixListId") or rule.get("DestinationPrefixListId"):
        permission["PrefixListIds"] = [{"PrefixListId": prefix, **text}]
    if other := rule.get("SourceSecurityGroupId") or rule.get("DestinationSecurityGroupId"):
        owner = {"UserId": rule["SourceSecurityGroupOwnerId"]} if "SourceSecurityGroupOwnerId" in rule else {}
        permission["UserIdGroupPairs"] = [{"GroupId": other, **owner, **text}]
    elif "SourceSecurityGroupName" in rule:
        permission["UserIdGroupPairs"] = [{"GroupName": rule["SourceSecurityGroupName"], **text}]
    return {"GroupId": group, "IpPermissions": [permission]}


async def _authorize(do: Deployment, way: str, group: str, rule: Properties) -> str:
    """Give a group a rule, unless it has it. The rule's id."""
    input = _permission(group, rule)
    try:
        return str(
            (await do.call("ec2", f"AuthorizeSecurityGroup{way}", input))["SecurityGroupRules"][0][
                "SecurityGroupRuleId"
            ]
        )
    except AwsError as error:
        if error.code != "InvalidPermission.Duplicate":
            raise
    # It is there since before a crash, or as a group's first rule: made anew, its id is known.
    await do.call("ec2", f"RevokeSecurityGroup{way}", input)
    made = await do.call("ec2", f"AuthorizeSecurityGroup{way}", input)
    return str(made["SecurityGroupRules"][0]["SecurityGroupRuleId"])


def _entry(properties: Properties) -> Properties:
    input = picked(properties, "NetworkAclId", "RuleNumber", "RuleAction", "CidrBlock", "Ipv6CidrBlock", "PortRange")
    input["Protocol"] = str(properties["Protocol"])
    input["Egress"] = is_true(properties.get("Egress", False))
    if "Icmp" in properties:
        input["IcmpTypeCode"] = properties["Icmp"]
    return input


async def _associations(do: Deployment, subnet: str) -> list[dict[str, Any]]:
    by_subnet = {"Filters": [{"Name": "association.subnet-id", "Values": [subnet]}]}
    acls = (await do.call("ec2", "DescribeNetworkAcls", by_subnet))["NetworkAcls"]
    return [entry for acl in acls for entry in acl["Associations"] if entry["SubnetId"] == subnet]


async def _stand_under(do: Deployment, subnet: str, acl: str) -> str:
    (there,) = await _associations(do, subnet)
    if there["NetworkAclId"] == acl:
        return str(there["NetworkAclAssociationId"])
    input = {"AssociationId": there["NetworkAclAssociationId"], "NetworkAclId": acl}
    return str((await do.call("ec2", "ReplaceNetworkAclAssociation", input))["NewAssociationId"])


TYPES = [
    SecurityGroup,
    SecurityGroupIngress,
    SecurityGroupEgress,
    NetworkAcl,
    NetworkAclEntry,
    SubnetNetworkAclAssociation,
]
