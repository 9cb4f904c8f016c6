"""Roles, those of services among them, and instance profiles."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.iam import service_roles
from cloudlet.services.iam.entities import (
    checked_tags,
    conflict,
    exists,
    no_such,
    page,
    public,
    scope_of,
    with_tags,
    without_tags,
)
from cloudlet.services.iam.records import DeletionTask, InstanceProfile, Role
from cloudlet.services.iam.users import Users
from cloudlet.services.policies import documents
from cloudlet.store import Tx

_SERVICE_PATH = "/aws-service-role/"


class Roles(Users):
    """Operations on roles and instance profiles."""

    async def CreateRole(self, call: Call, input: Input) -> Output:
        if input.get("Path", "/").startswith(_SERVICE_PATH):
            raise AwsError(
                "ValidationError",
                "1 validation error detected: Value at 'path' failed to satisfy constraint: "
                f"the path {_SERVICE_PATH} is for roles of services.",
            )
        documents.check_trust_policy(input["AssumeRolePolicyDocument"])
        members = {
            **self._new(call, "role", "Role", "AROA", input),
            "AssumeRolePolicyDocument": input["AssumeRolePolicyDocument"],
            "MaxSessionDuration": input.get("MaxSessionDuration", 3600),
        }
        if "Description" in input:
            members["Description"] = input["Description"]
        shown = public(await self._put_role(call, members, input.get("PermissionsBoundary")))
        del shown["MaxSessionDuration"]  # AWS answers it only where a role is read
        return {"Role": shown}

    async def GetRole(self, call: Call, input: Input) -> Output:
        members = self.entity("Role", scope_of(call), input["RoleName"]).members
        return {"Role": {**public(members), "RoleLastUsed": {}}}

    async def ListRoles(self, call: Call, input: Input) -> Output:
        return page("Roles", self._listed("Role", call, input), input)

    async def UpdateRole(self, call: Call, input: Input) -> Output:
        changes: dict[str, Any] = {name: input[name] for name in ("Description", "MaxSessionDuration") if name in input}
        await self._change_role(call, input["RoleName"], changes)
        return {}

    async def UpdateRoleDescription(self, call: Call, input: Input) -> Output:
        role = await self._change_role(call, input["RoleName"], {"Description": input["Description"]})
        return {"Role": public(role.members)}

    async def UpdateAssumeRolePolicy(self, call: Call, input: Input) -> Output:
        documents.check_trust_policy(input["PolicyDocument"])
        await self._change_role(call, input["RoleName"], {"AssumeRolePolicyDocument": input["PolicyDocument"]})
        return {}

    async def DeleteRole(self, call: Call, input: Input) -> Output:
        scope, name = scope_of(call), input["RoleName"]

        def work(tx: Tx) -> None:
            role: Role = self.entity("Role", scope, name, tx)
            if role.members["Path"].startswith(_SERVICE_PATH):
                raise _protected(name, role)
            if self._profiles_of(scope, name, tx):
                raise conflict("Cannot delete entity, must remove roles from instance profile first.")
            if role.attached:
                raise conflict("Cannot delete entity, must detach all policies first.")
            if role.inline:
                raise conflict("Cannot delete entity, must delete policies first.")
            self.unbound(tx, scope, "Role", name, role)
            self.roles.delete(tx, scope, name)

        await self.db.write(work)
        return {}

    def find_role(self, arn: str) -> Role | None:
        """The role with that ARN, in whichever account it is."""
        record = self.roles.get(f"{arn.split(':', 5)[4]}/global", arn.rpartition("/")[2])
        return record.value if record is not None and record.value.members["Arn"] == arn else None

    async def _put_role(self, call: Call, members: dict[str, Any], boundary: str | None = None) -> dict[str, Any]:
        scope, name = scope_of(call), members["RoleName"]

        def work(tx: Tx) -> dict[str, Any]:
            if self.roles.get(scope, name, tx) is not None:
                raise exists(f"Role with name {name} already exists.")
            role = Role(members)
            if boundary is not None:
                role = self.bounded(tx, call, "Role", name, role, boundary)
            self.roles.put(tx, scope, name, role)
            return role.members

        return await self.db.write(work)

    async def _change_role(self, call: Call, name: str, changes: dict[str, Any]) -> Role:
        changed: Role = await self.change(
            "Role", call, name, lambda tx, role: msgspec.structs.replace(role, members={**role.members, **changes})
        )
        return changed

    # Roles of services

    async def CreateServiceLinkedRole(self, call: Call, input: Input) -> Output:
        service, suffix = input["AWSServiceName"], input.get("CustomSuffix")
        if not service.endswith(".amazonaws.com"):
            raise AwsError("InvalidInput", f"Service Name {service} is not valid.", status=400)
        name = service_roles.name_of(service, suffix)
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        members = {
            **self._new(call, "role", "Role", "AROA", {"RoleName": name, "Path": f"{_SERVICE_PATH}{service}/"}),
            "AssumeRolePolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
            "MaxSessionDuration": 3600,
        }
        if "Description" in input:
            members["Description"] = input["Description"]
        try:
            return {"Role": public(await self._put_role(call, members))}
        except AwsError as error:
            if error.code != "EntityAlreadyExists":
                raise
            raise AwsError(
                "InvalidInput",
                f"Service role name {name} has been taken in this account, please try a different suffix.",
                status=400,
            ) from None

    async def DeleteServiceLinkedRole(self, call: Call, input: Input) -> Output:
        scope, name = scope_of(call), input["RoleName"]

        def work(tx: Tx) -> str:
            role: Role = self.entity("Role", scope, name, tx)
            path = role.members["Path"]
            if not path.startswith(_SERVICE_PATH):
                raise no_such(f"The role with name {name} cannot be found.")
            task = f"task{path}{name}/{uuid.uuid4()}"
            self.roles.delete(tx, scope, name)
            self.tasks.put(tx, scope, task, DeletionTask(name))
            return task

        return {"DeletionTaskId": await self.db.write(work)}

    async def GetServiceLinkedRoleDeletionStatus(self, call: Call, input: Input) -> Output:
        if self.tasks.get(scope_of(call), input["DeletionTaskId"]) is None:
            raise no_such(f"Deletion task {input['DeletionTaskId']} cannot be found.")
        return {"Status": "SUCCEEDED"}

    # Instance profiles

    async def CreateInstanceProfile(self, call: Call, input: Input) -> Output:
        scope, name = scope_of(call), input["InstanceProfileName"]
        members = self._new(call, "instance-profile", "InstanceProfile", "AIPA", input)
        if tags := checked_tags(input.get("Tags", ())):
            members["Tags"] = tags

        def work(tx: Tx) -> None:
            if self.profiles.get(scope, name, tx) is not None:
                raise exists(f"Instance Profile {name} already exists.")
            self.profiles.put(tx, scope, name, InstanceProfile(members))

        await self.db.write(work)
        return {"InstanceProfile": {**members, "Roles": []}}

    async def GetInstanceProfile(self, call: Call, input: Input) -> Output:
        scope = scope_of(call)
        return {"InstanceProfile": self._shown_profile(scope, self._profile(scope, input["InstanceProfileName"]))}

    async def ListInstanceProfiles(self, call: Call, input: Input) -> Output:
        scope, prefix = scope_of(call), input.get("PathPrefix", "/")
        found = [record.value for record in self.profiles.list(scope)]
        shown = [self._shown_profile(scope, one) for one in found if one.members["Path"].startswith(prefix)]
        return page("InstanceProfiles", shown, input)

    async def ListInstanceProfilesForRole(self, call: Call, input: Input) -> Output:
        scope = scope_of(call)
        self.entity("Role", scope, input["RoleName"])
        found = self._profiles_of(scope, input["RoleName"])
        return page("InstanceProfiles", [self._shown_profile(scope, one) for one in found], input)

    async def AddRoleToInstanceProfile(self, call: Call, input: Input) -> Output:
        scope, role_name = scope_of(call), input["RoleName"]

        def change(tx: Tx, profile: InstanceProfile) -> InstanceProfile:
            self.entity("Role", scope, role_name, tx)
            if profile.roles:
                raise AwsError(
                    "LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1", status=409
                )
            return msgspec.structs.replace(profile, roles=[role_name])

        await self._change_profile(call, input, change)
        return {}

    async def RemoveRoleFromInstanceProfile(self, call: Call, input: Input) -> Output:
        def change(tx: Tx, profile: InstanceProfile) -> InstanceProfile:
            if input["RoleName"] not in profile.roles:
                raise no_such(f"The role with name {input['RoleName']} cannot be found.")
            return msgspec.structs.replace(profile, roles=[])

        await self._change_profile(call, input, change)
        return {}

    async def DeleteInstanceProfile(self, call: Call, input: Input) -> Output:
        scope, name = scope_of(call), input["InstanceProfileName"]

        def work(tx: Tx) -> None:
            if self._profile(scope, name, tx).roles:
                raise conflict("Cannot delete entity, must remove roles from instance profile first.")
            self.profiles.delete(tx, scope, name)

        await self.db.write(work)
        return {}

    async def TagInstanceProfile(self, call: Call, input: Input) -> Output:
        await self._change_profile(call, input, lambda tx, profile: with_tags(profile, input["Tags"]))
        return {}

    async def UntagInstanceProfile(self, call: Call, input: Input) -> Output:
        await self._change_profile(call, input, lambda tx, profile: without_tags(profile, input["TagKeys"]))
        return {}

    async def ListInstanceProfileTags(self, call: Call, input: Input) -> Output:
        profile = self._profile(scope_of(call), input["InstanceProfileName"])
        return page("Tags", profile.members.get("Tags", []), input)

    async def _change_profile(self, call: Call, input: Input, change: Any) -> None:
        scope, name = scope_of(call), input["InstanceProfileName"]
        await self.db.write(
            lambda tx: self.profiles.put(tx, scope, name, change(tx, self._profile(scope, name, tx))) and None
        )

    def _profile(self, scope: str, name: str, tx: Tx | None = None) -> InstanceProfile:
        record = self.profiles.get(scope, name, tx)
        if record is None:
            raise no_such(f"Instance Profile {name} cannot be found.")
        return record.value

    def _profiles_of(self, scope: str, role: str, tx: Tx | None = None) -> list[InstanceProfile]:
        return [record.value for record in self.profiles.list(scope, tx=tx) if role in record.value.roles]

    def _shown_profile(self, scope: str, profile: InstanceProfile) -> dict[str, Any]:
        roles = [public(self.entity("Role", scope, name).members) for name in profile.roles]
        return {**profile.members, "Roles": roles}


def _protected(name: str, role: Role) -> AwsError:
    service = role.members["Path"].removeprefix(_SERVICE_PATH).rstrip("/")
    return AwsError(
        "UnmodifiableEntity",
        f"Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS"
        f" ({service})",
        status=400,
    )
