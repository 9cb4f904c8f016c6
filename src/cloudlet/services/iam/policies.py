"""Managed policies and their versions."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.iam import managed
from cloudlet.services.iam.credentials import new_id
from cloudlet.services.iam.entities import (
    attached_policies,
    checked_tags,
    conflict,
    encoded,
    exists,
    no_such,
    page,
    public,
    scope_of,
    with_tags,
    without_tags,
)
from cloudlet.services.iam.records import Entity, Policy
from cloudlet.services.iam.roles import Roles
from cloudlet.services.policies import documents
from cloudlet.store import Tx

_MOST_VERSIONS = 5
_LIST = {"User": "PolicyUsers", "Group": "PolicyGroups", "Role": "PolicyRoles"}


class Policies(Roles):
    """Operations on managed policies, and what says which of them counts for whom."""

    async def CreatePolicy(self, call: Call, input: Input) -> Output:
        documents.check_identity_policy(input["PolicyDocument"])
        scope, name, now = scope_of(call), input["PolicyName"], self.clock.now()
        path = input.get("Path", "/")
        members: dict[str, Any] = {
            "PolicyName": name,
            "PolicyId": new_id("ANPA"),
            "Arn": f"arn:aws:iam::{call.account}:policy{path}{name}",
            "Path": path,
            "DefaultVersionId": "v1",
            "IsAttachable": True,
            "CreateDate": now,
            "UpdateDate": now,
        }
        if "Description" in input:
            members["Description"] = input["Description"]
        if tags := checked_tags(input.get("Tags", ())):
            members["Tags"] = tags
        policy = Policy(members, {"v1": {"Document": input["PolicyDocument"], "CreateDate": now}})

        def work(tx: Tx) -> None:
            if self.policies.get(scope, name, tx) is not None:
                raise exists(f"A policy called {name} already exists. Duplicate names are not allowed.")
            self.policies.put(tx, scope, name, policy)

        await self.db.write(work)
        shown = {key: value for key, value in members.items() if key != "Description"}
        return {"Policy": {**shown, "AttachmentCount": 0, "PermissionsBoundaryUsageCount": 0}}

    async def GetPolicy(self, call: Call, input: Input) -> Output:
        return {"Policy": await self._shown_policy(scope_of(call), input["PolicyArn"])}

    async def ListPolicies(self, call: Call, input: Input) -> Output:
        scope, which, prefix = scope_of(call), input.get("Scope", "All"), input.get("PathPrefix", "/")
        usage = {"PermissionsPolicy": "policy", "PermissionsBoundary": "boundary"}.get(
            input.get("PolicyUsageFilter", ""), ""
        )
        found: list[dict[str, Any]] = []
        if which != "AWS":
            found += [record.value.members for record in self.policies.list(scope)]
        if which != "Local":
            found += [managed.members(managed.PREFIX + name) for name in sorted(managed.names())]
        counts = await self._counts(scope)
        shown = []
        for members in found:
            attached = counts.get((members["Arn"], "policy"), 0)
            bounding = counts.get((members["Arn"], "boundary"), 0)
            used = attached if usage == "policy" else bounding if usage else attached + bounding
            if members["Path"].startswith(prefix) and (used or not (input.get("OnlyAttached") or usage)):
                counted = {"AttachmentCount": attached, "PermissionsBoundaryUsageCount": bounding}
                shown.append({**public(members, "Tags", "Description"), **counted})
        return page("Policies", shown, input)

    async def DeletePolicy(self, call: Call, input: Input) -> Output:
        scope, arn = scope_of(call), input["PolicyArn"]
        name = self._own(scope, arn, None).members["PolicyName"]

        def work(tx: Tx) -> None:
            policy = self._own(scope, arn, tx)
            if tx.execute("SELECT 1 FROM attachment WHERE scope = ? AND policy = ? LIMIT 1", (scope, arn)).fetchone():
                raise conflict("Cannot delete a policy attached to entities.")
            if len(policy.versions) > 1:
                raise conflict(
                    "This policy has more than one version. Before you delete a policy, you must delete the policy's "
                    "versions. The default version is deleted with the policy."
                )
            self.policies.delete(tx, scope, name)

        await self.db.write(work)
        return {}

    async def ListEntitiesForPolicy(self, call: Call, input: Input) -> Output:
        scope, arn, wanted = scope_of(call), input["PolicyArn"], input.get("EntityFilter", "")
        await self._shown_policy(scope, arn)
        usage = {"PermissionsBoundary": ("boundary",), "PermissionsPolicy": ("policy",)}.get(
            input.get("PolicyUsageFilter", ""), ("policy", "boundary")
        )
        prefix = input.get("PathPrefix", "/")
        rows = await self.db.read(
            lambda tx: tx.execute(
                "SELECT DISTINCT kind, entity, usage FROM attachment WHERE scope = ? AND policy = ?", (scope, arn)
            ).fetchall()
        )
        found: Output = {"PolicyGroups": [], "PolicyUsers": [], "PolicyRoles": []}
        for kind, name, used in rows:
            members = self.entity(kind, scope, name).members
            if used in usage and wanted in ("", kind) and members["Path"].startswith(prefix):
                found[_LIST[kind]].append({f"{kind}Name": name, f"{kind}Id": members[f"{kind}Id"]})
        return {**found, "IsTruncated": False}

    # Versions

    async def CreatePolicyVersion(self, call: Call, input: Input) -> Output:
        documents.check_identity_policy(input["PolicyDocument"])
        now = self.clock.now()

        def change(policy: Policy) -> Policy:
            if len(policy.versions) >= _MOST_VERSIONS:
                raise AwsError(
                    "LimitExceeded",
                    f"A managed policy can have up to {_MOST_VERSIONS} versions. Before you create a new version, "
                    "you must delete an existing version.",
                    status=409,
                )
            latest = policy.latest + 1
            versions = {**policy.versions, f"v{latest}": {"Document": input["PolicyDocument"], "CreateDate": now}}
            members = {**policy.members, "UpdateDate": now}
            if input.get("SetAsDefault"):
                members["DefaultVersionId"] = f"v{latest}"
            return Policy(members, versions, latest)

        policy = await self._change_policy(call, input["PolicyArn"], change)
        return {"PolicyVersion": _version(policy, f"v{policy.latest}", False)}

    async def GetPolicyVersion(self, call: Call, input: Input) -> Output:
        arn, version_id = input["PolicyArn"], input["VersionId"]
        if managed.is_managed(arn):
            document = managed.document(arn)
            if document is None:
                raise not_implemented(f"GetPolicyVersion of {arn}: what this policy says is not known here")
            if version_id != "v1":
                raise _no_version(arn, version_id)
            created = managed.members(arn)["CreateDate"]
            shown = {"VersionId": "v1", "IsDefaultVersion": True, "CreateDate": created, "Document": encoded(document)}
            return {"PolicyVersion": shown}
        policy = self._own(scope_of(call), arn, None)
        if version_id not in policy.versions:
            raise _no_version(arn, version_id)
        return {"PolicyVersion": _version(policy, version_id, True)}

    async def ListPolicyVersions(self, call: Call, input: Input) -> Output:
        arn = input["PolicyArn"]
        if managed.is_managed(arn):
            created = managed.members(arn)["CreateDate"]
            return page("Versions", [{"VersionId": "v1", "IsDefaultVersion": True, "CreateDate": created}], input)
        policy = self._own(scope_of(call), arn, None)
        return page("Versions", [_version(policy, one, False) for one in reversed(policy.versions)], input)

    async def SetDefaultPolicyVersion(self, call: Call, input: Input) -> Output:
        def change(policy: Policy) -> Policy:
            if input["VersionId"] not in policy.versions:
                raise _no_version(input["PolicyArn"], input["VersionId"])
            members = {**policy.members, "DefaultVersionId": input["VersionId"], "UpdateDate": self.clock.now()}
            return msgspec.structs.replace(policy, members=members)

        await self._change_policy(call, input["PolicyArn"], change)
        return {}

    async def DeletePolicyVersion(self, call: Call, input: Input) -> Output:
        def change(policy: Policy) -> Policy:
            if input["VersionId"] not in policy.versions:
                raise _no_version(input["PolicyArn"], input["VersionId"])
            if policy.members["DefaultVersionId"] == input["VersionId"]:
                raise conflict("Cannot delete the default version of a policy.")
            left = {name: version for name, version in policy.versions.items() if name != input["VersionId"]}
            return msgspec.structs.replace(policy, versions=left)

        await self._change_policy(call, input["PolicyArn"], change)
        return {}

    async def TagPolicy(self, call: Call, input: Input) -> Output:
        await self._change_policy(call, input["PolicyArn"], lambda policy: with_tags(policy, input["Tags"]))
        return {}

    async def UntagPolicy(self, call: Call, input: Input) -> Output:
        await self._change_policy(call, input["PolicyArn"], lambda policy: without_tags(policy, input["TagKeys"]))
        return {}

    async def ListPolicyTags(self, call: Call, input: Input) -> Output:
        policy = self._own(scope_of(call), input["PolicyArn"], None)
        return page("Tags", policy.members.get("Tags", []), input)

    # Everything at once

    async def GetAccountAuthorizationDetails(self, call: Call, input: Input) -> Output:
        scope = scope_of(call)
        wanted = input.get("Filter") or ["User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"]
        counts = await self._counts(scope)
        found: list[tuple[str, dict[str, Any]]] = []
        if "User" in wanted:
            for user in self.users.list(scope):
                shown = {**_detail("User", user.value), "GroupList": user.value.groups}
                found.append(("UserDetailList", shown))
        if "Group" in wanted:
            found += [("GroupDetailList", _detail("Group", record.value)) for record in self.groups.list(scope)]
        if "Role" in wanted:
            for role in self.roles.list(scope):
                profiles = [self._shown_profile(scope, one) for one in self._profiles_of(scope, role.name)]
                shown = {**_detail("Role", role.value), "InstanceProfileList": profiles, "RoleLastUsed": {}}
                found.append(("RoleDetailList", shown))
        if "LocalManagedPolicy" in wanted:
            for record in self.policies.list(scope):
                policy = record.value
                versions = [_version(policy, one, True) for one in policy.versions]
                counted = _counted(policy.members["Arn"], counts)
                found.append(("Policies", {**public(policy.members, "Tags"), **counted, "PolicyVersionList": versions}))
        if "AWSManagedPolicy" in wanted:
            for arn in sorted({arn for arn, _ in counts if managed.is_managed(arn)}):
                document = managed.document(arn)
                version = {"VersionId": "v1", "IsDefaultVersion": True}
                if document is not None:
                    version["Document"] = encoded(document)
                shown = {**managed.members(arn), **_counted(arn, counts), "PolicyVersionList": [version]}
                found.append(("Policies", shown))
        paged = page("", found, input)
        output: Output = {"UserDetailList": [], "GroupDetailList": [], "RoleDetailList": [], "Policies": []}
        for name, shown in paged.pop(""):
            output[name].append(shown)
        return {**output, **paged}

    def _own(self, scope: str, arn: str, tx: Tx | None) -> Policy:
        policy = self.find_policy(scope, arn, tx)
        if policy is None:
            if managed.is_managed(arn):
                raise AwsError("AccessDenied", f"{arn} is a policy of AWS, which accounts cannot change.", status=403)
            raise no_such(f"Policy {arn} was not found.")
        return policy

    async def _change_policy(self, call: Call, arn: str, change: Any) -> Policy:
        scope = scope_of(call)

        def work(tx: Tx) -> Policy:
            policy: Policy = change(self._own(scope, arn, tx))
            self.policies.put(tx, scope, policy.members["PolicyName"], policy)
            return policy

        return await self.db.write(work)

    async def _shown_policy(self, scope: str, arn: str) -> dict[str, Any]:
        members = managed.members(arn) if managed.is_managed(arn) else self._own(scope, arn, None).members
        counts = await self.db.read(
            lambda tx: tx.execute(
                "SELECT usage, COUNT(*) FROM attachment WHERE scope = ? AND policy = ? GROUP BY usage", (scope, arn)
            ).fetchall()
        )
        return {"Tags": [], **members, **_counted(arn, {(arn, usage): count for usage, count in counts})}

    async def _counts(self, scope: str) -> dict[tuple[str, str], int]:
        rows = await self.db.scan(
            lambda tx: tx.execute(
                "SELECT policy, usage, COUNT(*) FROM attachment WHERE scope = ? GROUP BY policy, usage", (scope,)
            ).fetchall()
        )
        return {(policy, usage): count for policy, usage, count in rows}


def _counted(arn: str, counts: dict[tuple[str, str], int]) -> dict[str, int]:
    return {
        "AttachmentCount": counts.get((arn, "policy"), 0),
        "PermissionsBoundaryUsageCount": counts.get((arn, "boundary"), 0),
    }


def _detail(kind: str, entity: Entity) -> dict[str, Any]:
    inline = [{"PolicyName": name, "PolicyDocument": encoded(document)} for name, document in entity.inline.items()]
    return {
        **public(entity.members, "Description", "MaxSessionDuration"),
        f"{kind}PolicyList": inline,
        "AttachedManagedPolicies": attached_policies(entity),
    }


def _version(policy: Policy, version_id: str, with_document: bool) -> dict[str, Any]:
    version = policy.versions[version_id]
    shown = {
        "VersionId": version_id,
        "IsDefaultVersion": policy.members["DefaultVersionId"] == version_id,
        "CreateDate": version["CreateDate"],
    }
    if with_document:
        shown["Document"] = encoded(version["Document"])
    return shown


def _no_version(arn: str, version_id: str) -> AwsError:
    return no_such(f"Policy {arn} version {version_id} does not exist or is not attachable.")
