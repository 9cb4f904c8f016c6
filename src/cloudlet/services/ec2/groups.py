"""Security groups. What their rules mean is in ``rules.py``."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import defaults, filters, rules
from cloudlet.services.ec2.base import Base, new_tags, page
from cloudlet.services.ec2.kinds import ENDPOINT, INTERFACE, RULE, SECURITY_GROUP, VPC
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, in_use, invalid, missing, shown_tags

_LEGACY = ("IpProtocol", "FromPort", "ToPort")


class Groups(Base):
    """Operations on security groups."""

    async def CreateSecurityGroup(self, call: Call, input: Input) -> Output:
        name = input["GroupName"]
        if name.startswith("sg-"):
            raise invalid("Invalid value for groupName. Group names may not be in the format sg-*.")
        if not input["Description"]:
            raise missing("GroupDescription")
        if len(name) > 255 or len(input["Description"]) > 255:
            raise invalid("Character sets beyond ASCII and lengths over 255 are not supported.")
        if name == "default":
            raise AwsError("InvalidGroup.Reserved", "Cannot use reserved security group name: default")
        tags = new_tags(call, input, SECURITY_GROUP)

        def work(world: World) -> Output:
            vpc = world.get(VPC, input["VpcId"]) if input.get("VpcId") else _default_vpc(world)
            if world.all(SECURITY_GROUP, VpcId=vpc.id, GroupName=name):
                raise AwsError(
                    "InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{vpc.id}'"
                )
            group = defaults.make_group(world, vpc, name, input["Description"], tags)
            return {
                "GroupId": group.id,
                "Tags": shown_tags(tags),
                "SecurityGroupArn": group.shown["SecurityGroupArn"],
            }

        return await self.write(call.scope, work)

    async def DescribeSecurityGroups(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        ids = list(input.get("GroupIds", []))
        for name in input.get("GroupNames", []):
            ids.append(_named(world, name).id)
        return self.described(call, {**input, "GroupIds": ids}, SECURITY_GROUP, _shown)

    async def GetSecurityGroupsForVpc(self, call: Call, input: Input) -> Output:
        vpc = self.world(call.scope).get(VPC, input["VpcId"])
        filters = [*input.get("Filters", []), {"Name": "vpc-id", "Values": [vpc.id]}]
        answer = self.described(call, {**input, "Filters": filters}, SECURITY_GROUP)
        found = [{**group, "PrimaryVpcId": vpc.id} for group in answer.pop(SECURITY_GROUP.plural)]
        return {**answer, "SecurityGroupForVpcs": found}

    async def DescribeSecurityGroupReferences(self, call: Call, input: Input) -> Output:
        # Only what refers to a group from another, peered, VPC.
        world = self.world(call.scope)
        asked = {id: world.get(SECURITY_GROUP, id) for id in input["GroupId"]}
        found = []
        for rule in world.all(RULE):
            info = rule.shown.get("ReferencedGroupInfo", {})
            owner = world.get(SECURITY_GROUP, rule.shown["GroupId"])
            group = asked.get(info.get("GroupId", ""))
            if group is not None and owner.shown["VpcId"] != group.shown["VpcId"]:
                shown = {"GroupId": group.id, "ReferencingVpcId": owner.shown["VpcId"]}
                through = info.get("VpcPeeringConnectionId")
                found.append(shown | ({"VpcPeeringConnectionId": through} if through else {}))
        return {"SecurityGroupReferenceSet": found}

    async def DeleteSecurityGroup(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            group = _group(world, input)
            if group.shown["GroupName"] == "default":
                raise AwsError(
                    "CannotDelete", f'the specified group: "{group.id}" name: "default" cannot be deleted by a user'
                )
            if _is_needed(world, group):
                raise in_use(f"resource {group.id} has a dependent object")
            rules.remove(world, group, rules.of_group(world, group))
            world.delete(group)
            return {"Return": True, "GroupId": group.id}

        return await self.write(call.scope, work)

    async def AuthorizeSecurityGroupIngress(self, call: Call, input: Input) -> Output:
        return await self._authorize(call, input, egress=False)

    async def AuthorizeSecurityGroupEgress(self, call: Call, input: Input) -> Output:
        return await self._authorize(call, input, egress=True)

    async def RevokeSecurityGroupIngress(self, call: Call, input: Input) -> Output:
        return await self._revoke(call, input, egress=False)

    async def RevokeSecurityGroupEgress(self, call: Call, input: Input) -> Output:
        return await self._revoke(call, input, egress=True)

    async def UpdateSecurityGroupRuleDescriptionsIngress(self, call: Call, input: Input) -> Output:
        return await self._redescribe(call, input, egress=False)

    async def UpdateSecurityGroupRuleDescriptionsEgress(self, call: Call, input: Input) -> Output:
        return await self._redescribe(call, input, egress=True)

    async def DescribeSecurityGroupRules(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        wanted = input.get("SecurityGroupRuleIds")
        items = [world.get(RULE, id) for id in wanted] if wanted else world.all(RULE)
        for entry in input.get("Filters", []):
            if entry.get("Name") == "group-id" and (odd := [id for id in entry["Values"] if not id.startswith("sg-")]):
                raise AwsError("InvalidGroupId.Malformed", f"The security group ID '{odd[0]}' is malformed")
        shown = [_shown_rule(item) for item in items]
        return page("SecurityGroupRules", filters.chosen(shown, input.get("Filters", []), RULE.paths), input)

    async def ModifySecurityGroupRules(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            group = world.get(SECURITY_GROUP, input["GroupId"])
            for entry in input["SecurityGroupRules"]:
                item = world.get(RULE, entry["SecurityGroupRuleId"])
                if item.shown["GroupId"] != group.id:
                    raise RULE.not_found(item.id)
                rules.change(world, item, rules.one(world, entry.get("SecurityGroupRule", {})))
            return {"Return": True}

        return await self.write(call.scope, work)

    async def _authorize(self, call: Call, input: Input, *, egress: bool) -> Output:
        tags = new_tags(call, input, RULE)

        def work(world: World) -> Output:
            group = _group(world, input)
            made = rules.add(world, group, egress, rules.read(world, group, _permissions(input)), tags)
            return {"Return": True, "SecurityGroupRules": [_shown_rule(item) for item in made]}

        return await self.write(call.scope, work)

    async def _revoke(self, call: Call, input: Input, *, egress: bool) -> Output:
        def work(world: World) -> Output:
            group = _group(world, input)
            if ids := input.get("SecurityGroupRuleIds"):
                gone = [world.get(RULE, id) for id in ids]
                for item in gone:
                    if item.shown["GroupId"] != group.id or item.shown["IsEgress"] != egress:
                        raise RULE.not_found(item.id)
            else:
                gone = rules.matching(world, group, egress, rules.read(world, group, _permissions(input)))
            rules.remove(world, group, gone)
            return {"Return": True, "RevokedSecurityGroupRules": [_revoked(item) for item in gone]}

        return await self.write(call.scope, work)

    async def _redescribe(self, call: Call, input: Input, *, egress: bool) -> Output:
        def work(world: World) -> Output:
            group = _group(world, input)
            for entry in input.get("SecurityGroupRuleDescriptions", []):
                item = world.get(RULE, entry["SecurityGroupRuleId"])
                world.change(item, {"Description": entry.get("Description")})
            if "IpPermissions" in input:
                rules.describe(world, group, rules.read(world, group, input["IpPermissions"]), egress)
            elif "SecurityGroupRuleDescriptions" not in input:
                raise missing("ipPermissions or securityGroupRuleDescriptions")
            return {"Return": True}

        return await self.write(call.scope, work)


def _shown(world: World, group: Item) -> dict[str, Any]:
    """A group with its rules as permissions."""
    return {
        **group.shown,
        "IpPermissions": rules.permissions(rules.of_group(world, group, False)),
        "IpPermissionsEgress": rules.permissions(rules.of_group(world, group, True)),
    }


def _shown_rule(item: Item) -> dict[str, Any]:
    return {**item.shown, "Tags": shown_tags(item.tags)}


def _revoked(item: Item) -> dict[str, Any]:
    shown = dict(item.shown)
    if (info := shown.pop("ReferencedGroupInfo", None)) is not None:
        shown["ReferencedGroupId"] = info["GroupId"]
    return shown


def _default_vpc(world: World) -> Item:
    found = world.all(VPC, IsDefault=True)
    if not found:
        raise AwsError("VPCIdNotSpecified", "No default VPC for this user")
    return found[0]


def _named(world: World, name: str) -> Item:
    """A group of the default VPC by its name."""
    vpcs = world.all(VPC, IsDefault=True)
    found = world.all(SECURITY_GROUP, VpcId=vpcs[0].id, GroupName=name) if vpcs else []
    if not found:
        at = f" in default VPC '{vpcs[0].id}'" if vpcs else ""
        raise AwsError("InvalidGroup.NotFound", f"The security group '{name}' does not exist{at}")
    return found[0]


def _group(world: World, input: Input) -> Item:
    """The group that a request names, by its id or, in the default VPC, by its name."""
    if input.get("GroupId"):
        return world.get(SECURITY_GROUP, input["GroupId"])
    if input.get("GroupName"):
        return _named(world, input["GroupName"])
    raise AwsError("MissingParameter", "The request must contain the parameter groupName or groupId")


def _permissions(input: Input) -> list[rules.Permission]:
    """A request's permissions; one may be written out in the request itself, as it was in the beginning."""
    if "IpPermissions" in input:
        given: list[rules.Permission] = input["IpPermissions"]
        return given
    permission = {name: input[name] for name in _LEGACY if name in input}
    if "CidrIp" in input:
        permission["IpRanges"] = [{"CidrIp": input["CidrIp"]}]
    if "SourceSecurityGroupName" in input:
        permission["UserIdGroupPairs"] = [{"GroupName": input["SourceSecurityGroupName"]}]
        permission.setdefault("IpProtocol", "-1")
    if not permission:
        raise missing("ipPermissions")
    return [permission]


def _is_needed(world: World, group: Item) -> bool:
    for kind in (INTERFACE, ENDPOINT):
        for item in world.all(kind, VpcId=group.shown["VpcId"]):
            if any(one["GroupId"] == group.id for one in item.shown["Groups"]):
                return True
    return any(
        rule.shown.get("ReferencedGroupInfo", {}).get("GroupId") == group.id and rule.shown["GroupId"] != group.id
        for rule in world.all(RULE)
    )
