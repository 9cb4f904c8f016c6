"""CloudFormation's types of IAM: identities, policies. Keys, profiles and providers are in ``resource_records.py``."""

from __future__ import annotations

from typing import Any, ClassVar

from cloudlet.errors import AwsError
from cloudlet.services.iam.resource_records import (
    AccessKey,
    InstanceProfile,
    OidcProvider,
    SamlProvider,
    ServiceLinkedRole,
    set_tags,
    tag_list,
    unless_gone,
)
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed

_KINDS = {"Roles": "Role", "Users": "User", "Groups": "Group"}


class _Identity(ResourceType):
    """A user, group or role with its policies. ``Ref`` is its name."""

    kind: ClassVar[str]
    longest: ClassVar[int] = 64
    tagged: ClassVar[bool] = True
    # What is made by operations of its own and not by the one that creates.
    beside: ClassVar[frozenset[str]] = frozenset(("ManagedPolicyArns", "Policies", "Tags"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        key = f"{self.kind}Name"
        name = properties.get(key) or do.name(self.longest)
        input = {member: value for member, value in properties.items() if member not in self.beside}
        tags = {"Tags": tag_list(do, properties)} if self.tagged else {}
        try:
            await do.call("iam", f"Create{self.kind}", {**input, key: name, **tags})
        except AwsError as error:
            if error.code != "EntityAlreadyExists" or not await self._ours(do, name, properties):
                raise
        await do.initiated(name)
        await self.settle(do, name, {}, properties)
        made = (await do.call("iam", f"Get{self.kind}", {key: name}))[self.kind]
        return Physical(name, {"Arn": made["Arn"], f"{self.kind}Id": made[f"{self.kind}Id"]})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        key = {f"{self.kind}Name": physical.id}
        try:
            inline = await do.call("iam", f"List{self.kind}Policies", {**key, "MaxItems": 1000})
            attached = await do.call("iam", f"ListAttached{self.kind}Policies", {**key, "MaxItems": 1000})
        except AwsError as error:
            if error.code != "NoSuchEntity":
                raise
            return
        for name in inline["PolicyNames"]:
            await unless_gone(do, f"Delete{self.kind}Policy", {**key, "PolicyName": name})
        for one in attached["AttachedPolicies"]:
            await unless_gone(do, f"Detach{self.kind}Policy", {**key, "PolicyArn": one["PolicyArn"]})
        await unless_gone(do, f"Delete{self.kind}", key)

    async def settle(self, do: Deployment, name: str, old: Properties, new: Properties) -> None:
        """Make the policies those of the template."""
        key = {f"{self.kind}Name": name}
        inline = {one["PolicyName"]: one["PolicyDocument"] for one in new.get("Policies", ())}
        for policy, document in inline.items():
            await do.call("iam", f"Put{self.kind}Policy", {**key, "PolicyName": policy, "PolicyDocument": document})
        for one in old.get("Policies", ()):
            if one["PolicyName"] not in inline:
                await unless_gone(do, f"Delete{self.kind}Policy", {**key, "PolicyName": one["PolicyName"]})
        arns = new.get("ManagedPolicyArns", ())
        for arn in arns:
            await do.call("iam", f"Attach{self.kind}Policy", {**key, "PolicyArn": arn})
        for arn in old.get("ManagedPolicyArns", ()):
            if arn not in arns:
                await unless_gone(do, f"Detach{self.kind}Policy", {**key, "PolicyArn": arn})

    async def bound(self, do: Deployment, name: str, old: Properties, new: Properties) -> None:
        """Make the permissions boundary that of the template."""
        key = {f"{self.kind}Name": name}
        if not changed(old, new, "PermissionsBoundary"):
            return
        if boundary := new.get("PermissionsBoundary"):
            await do.call("iam", f"Put{self.kind}PermissionsBoundary", {**key, "PermissionsBoundary": boundary})
        else:
            await unless_gone(do, f"Delete{self.kind}PermissionsBoundary", key)

    async def _ours(self, do: Deployment, name: str, properties: Properties) -> bool:
        """Whether what is there was made by this very step before a crash."""
        if not self.tagged:
            return f"{self.kind}Name" not in properties
        found = await do.call("iam", f"List{self.kind}Tags", {f"{self.kind}Name": name})
        tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
        marks = ("aws:cloudformation:stack-id", "aws:cloudformation:logical-id")
        return all(tags.get(mark) == do.tags.get(mark) for mark in marks)


class Role(_Identity):
    """A role."""

    type = "AWS::IAM::Role"
    kind = "Role"
    required = frozenset(("AssumeRolePolicyDocument",))
    replaces = frozenset(("RoleName", "Path"))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        key = {"RoleName": physical.id}
        if changed(old, new, "AssumeRolePolicyDocument"):
            trust = {"PolicyDocument": new["AssumeRolePolicyDocument"]}
            await do.call("iam", "UpdateAssumeRolePolicy", {**key, **trust})
        if changed(old, new, "Description", "MaxSessionDuration"):
            members = {
                "Description": new.get("Description", ""),
                "MaxSessionDuration": new.get("MaxSessionDuration", 3600),
            }
            await do.call("iam", "UpdateRole", {**key, **members})
        await self.bound(do, physical.id, old, new)
        await self.settle(do, physical.id, old, new)
        await set_tags(do, "Role", key, new)
        return physical


class User(_Identity):
    """A user, perhaps with a password."""

    type = "AWS::IAM::User"
    kind = "User"
    replaces = frozenset(("UserName",))
    beside = frozenset(("Groups", "LoginProfile", "ManagedPolicyArns", "Policies", "Tags"))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        key = {"UserName": physical.id}
        if changed(old, new, "Path"):
            await do.call("iam", "UpdateUser", {**key, "NewPath": new.get("Path", "/")})
        await self.bound(do, physical.id, old, new)
        await self.settle(do, physical.id, old, new)
        await set_tags(do, "User", key, new)
        made = (await do.call("iam", "GetUser", key))["User"]
        return Physical(physical.id, {"Arn": made["Arn"], "UserId": made["UserId"]})

    async def settle(self, do: Deployment, name: str, old: Properties, new: Properties) -> None:
        await super().settle(do, name, old, new)
        key = {"UserName": name}
        for group in new.get("Groups", ()):
            await do.call("iam", "AddUserToGroup", {**key, "GroupName": group})
        for group in old.get("Groups", ()):
            if group not in new.get("Groups", ()):
                await unless_gone(do, "RemoveUserFromGroup", {**key, "GroupName": group})
        if changed(old, new, "LoginProfile"):
            await unless_gone(do, "DeleteLoginProfile", key)
            if "LoginProfile" in new:
                await do.call("iam", "CreateLoginProfile", {**key, **new["LoginProfile"]})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        key = {"UserName": physical.id}
        for group in properties.get("Groups", ()):
            await unless_gone(do, "RemoveUserFromGroup", {**key, "GroupName": group})
        if "LoginProfile" in properties:
            await unless_gone(do, "DeleteLoginProfile", key)
        await super().delete(do, physical, properties)


class Group(_Identity):
    """A group."""

    type = "AWS::IAM::Group"
    kind = "Group"
    longest = 128
    tagged = False
    replaces = frozenset(("GroupName",))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        key = {"GroupName": physical.id}
        if changed(old, new, "Path"):
            await do.call("iam", "UpdateGroup", {**key, "NewPath": new.get("Path", "/")})
        await self.settle(do, physical.id, old, new)
        made = (await do.call("iam", "GetGroup", key))["Group"]
        return Physical(physical.id, {"Arn": made["Arn"], "GroupId": made["GroupId"]})


class UserToGroupAddition(ResourceType):
    """Users who are put into one group."""

    type = "AWS::IAM::UserToGroupAddition"
    required = frozenset(("GroupName", "Users"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        for user in properties["Users"]:
            await do.call("iam", "AddUserToGroup", {"GroupName": properties["GroupName"], "UserName": user})
        id = do.name()
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        gone = old["Users"]
        if not changed(old, new, "GroupName"):
            gone = [user for user in gone if user not in new["Users"]]
        for user in new["Users"]:
            await do.call("iam", "AddUserToGroup", {"GroupName": new["GroupName"], "UserName": user})
        await self.delete(do, physical, {"GroupName": old["GroupName"], "Users": gone})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        for user in properties["Users"]:
            await unless_gone(do, "RemoveUserFromGroup", {"GroupName": properties["GroupName"], "UserName": user})


class Policy(ResourceType):
    """One inline policy of some users, groups and roles."""

    type = "AWS::IAM::Policy"
    required = frozenset(("PolicyDocument", "PolicyName"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        if not _targets(properties):
            raise AwsError("ValidationError", "At least one of [Groups,Roles,Users] must be non-empty.")
        await self._put(do, properties)
        id = do.name(128)
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await self._put(do, new)
        kept = set() if changed(old, new, "PolicyName") else _targets(new)
        await _drop_inline(do, old["PolicyName"], _targets(old) - kept)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _drop_inline(do, properties["PolicyName"], _targets(properties))

    async def _put(self, do: Deployment, properties: Properties) -> None:
        policy = {name: value for name, value in properties.items() if name not in _KINDS}
        for kind, name in sorted(_targets(properties)):
            await do.call("iam", f"Put{kind}Policy", {**policy, f"{kind}Name": name})


class _InlinePolicy(ResourceType):
    """One inline policy of one identity."""

    kind: ClassVar[str]

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        # Without a document it only claims the name, as CloudFormation has it.
        if "PolicyDocument" in properties:
            await do.call("iam", f"Put{self.kind}Policy", properties)
        return Physical(f"{properties['PolicyName']}|{properties[f'{self.kind}Name']}")

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _drop_inline(do, properties["PolicyName"], {(self.kind, properties[f"{self.kind}Name"])})


class RolePolicy(_InlinePolicy):
    """An inline policy of a role."""

    type = "AWS::IAM::RolePolicy"
    kind = "Role"
    required = frozenset(("PolicyName", "RoleName"))
    replaces = required


class UserPolicy(_InlinePolicy):
    """An inline policy of a user."""

    type = "AWS::IAM::UserPolicy"
    kind = "User"
    required = frozenset(("PolicyName", "UserName"))
    replaces = required


class GroupPolicy(_InlinePolicy):
    """An inline policy of a group."""

    type = "AWS::IAM::GroupPolicy"
    kind = "Group"
    required = frozenset(("PolicyName", "GroupName"))
    replaces = required


class ManagedPolicy(ResourceType):
    """A managed policy and whom it is attached to. ``Ref`` is its ARN."""

    type = "AWS::IAM::ManagedPolicy"
    required = frozenset(("PolicyDocument",))
    replaces = frozenset(("ManagedPolicyName", "Path", "Description"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("ManagedPolicyName") or do.name(128)
        handled = (*_KINDS, "ManagedPolicyName")
        input = {member: value for member, value in properties.items() if member not in handled}
        arn = f"arn:aws:iam::{do.account}:policy{properties.get('Path', '/')}{name}"
        try:
            await do.call("iam", "CreatePolicy", {**input, "PolicyName": name, "Tags": tag_list(do, properties)})
        except AwsError as error:
            if error.code != "EntityAlreadyExists" or not await self._ours(do, arn):
                raise
        await do.initiated(arn)
        await _attach(do, arn, _targets(properties))
        return await self._physical(do, arn)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        arn = {"PolicyArn": physical.id}
        if changed(old, new, "PolicyDocument"):
            versions = (await do.call("iam", "ListPolicyVersions", arn))["Versions"]
            if len(versions) >= 5:
                oldest = next(one["VersionId"] for one in reversed(versions) if not one["IsDefaultVersion"])
                await unless_gone(do, "DeletePolicyVersion", {**arn, "VersionId": oldest})
            document = {"PolicyDocument": new["PolicyDocument"], "SetAsDefault": True}
            await do.call("iam", "CreatePolicyVersion", {**arn, **document})
        await _attach(do, physical.id, _targets(new) - _targets(old))
        await _detach(do, physical.id, _targets(old) - _targets(new))
        await set_tags(do, "Policy", arn, new)
        return await self._physical(do, physical.id)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        arn = {"PolicyArn": physical.id}
        await _detach(do, physical.id, _targets(properties))
        try:
            versions = (await do.call("iam", "ListPolicyVersions", arn))["Versions"]
        except AwsError as error:
            if error.code != "NoSuchEntity":
                raise
            return
        for version in versions:
            if not version["IsDefaultVersion"]:
                await unless_gone(do, "DeletePolicyVersion", {**arn, "VersionId": version["VersionId"]})
        await unless_gone(do, "DeletePolicy", arn)

    async def _physical(self, do: Deployment, arn: str) -> Physical:
        made: dict[str, Any] = (await do.call("iam", "GetPolicy", {"PolicyArn": arn}))["Policy"]
        shown = ("AttachmentCount", "DefaultVersionId", "IsAttachable", "PermissionsBoundaryUsageCount", "PolicyId")
        times = {name: str(made[name]) for name in ("CreateDate", "UpdateDate")}
        return Physical(arn, {"PolicyArn": arn, **times, **{name: made[name] for name in shown}})

    async def _ours(self, do: Deployment, arn: str) -> bool:
        try:
            found = await do.call("iam", "ListPolicyTags", {"PolicyArn": arn})
        except AwsError:
            return False
        tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
        marks = ("aws:cloudformation:stack-id", "aws:cloudformation:logical-id")
        return all(tags.get(mark) == do.tags.get(mark) for mark in marks)


def _targets(properties: Properties) -> set[tuple[str, str]]:
    """Kind and name of whom a policy is for."""
    return {(kind, name) for member, kind in _KINDS.items() for name in properties.get(member) or ()}


async def _attach(do: Deployment, arn: str, targets: set[tuple[str, str]]) -> None:
    for kind, name in sorted(targets):
        await do.call("iam", f"Attach{kind}Policy", {f"{kind}Name": name, "PolicyArn": arn})


async def _detach(do: Deployment, arn: str, targets: set[tuple[str, str]]) -> None:
    for kind, name in sorted(targets):
        await unless_gone(do, f"Detach{kind}Policy", {f"{kind}Name": name, "PolicyArn": arn})


async def _drop_inline(do: Deployment, policy: str, targets: set[tuple[str, str]]) -> None:
    for kind, name in sorted(targets):
        await unless_gone(do, f"Delete{kind}Policy", {f"{kind}Name": name, "PolicyName": policy})


TYPES = [
    AccessKey,
    Group,
    GroupPolicy,
    InstanceProfile,
    ManagedPolicy,
    OidcProvider,
    Policy,
    Role,
    RolePolicy,
    SamlProvider,
    ServiceLinkedRole,
    User,
    UserPolicy,
    UserToGroupAddition,
]
