"""IAM: users, groups, roles, policies and keys, and the evaluation of the policies."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from cloudlet.services import api
from cloudlet.services.api import GLOBAL_REGION, Call, Input, Output, Tagged
from cloudlet.services.iam.certificates import Certificates
from cloudlet.services.iam.credentials import new_id, new_secret
from cloudlet.services.iam.records import KEYS, MIGRATIONS, AccessKey
from cloudlet.store import Resources

_ROOT_ACCOUNT = "000000000000"


class Service(Certificates, api.Service):
    """The operations are in ``users.py``, ``roles.py``, ``policies.py`` and ``account.py``; those that are the same for
    users, groups and roles are here and do their work in ``entities.py``. ``authorization.py`` decides who may do what,
    by the rules of ``evaluation.py``."""

    name = "iam"
    refused = {
        "CreateLoginProfile": "MaxSigninSessionDuration",
        "CreateOpenIDConnectProvider": "ContextProvider IdentityCenterInstanceArn",
        "CreateRole": "MaxSigninSessionDuration",
        "CreateSAMLProvider": "ContextProvider IdentityCenterInstanceArn",
        "ListServiceSpecificCredentials": "AllUsers",
        "UpdateLoginProfile": "MaxSigninSessionDuration ResetMaxSigninSessionDuration",
        "UpdateRole": "MaxSigninSessionDuration ResetMaxSigninSessionDuration",
        "UpdateSAMLProvider": "ContextProvider IdentityCenterInstanceArn RemoveContextProvider "
        "RemoveIdentityCenterInstance",
    }

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name, MIGRATIONS)
        self._load()
        if self.cloud.config.auth == "enforce":
            await self._make_root_keys()

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {"type": f"AWS::IAM::{kind}", "name": record.name, "arn": record.value.members["Arn"]}
            for kind in ("User", "Group", "Role")
            for record in self.of_kind(kind).list(f"{account}/global")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        """All but users and roles, which AWS's tagging API can tag and does not show."""
        if region != GLOBAL_REGION:
            return []
        kinds: tuple[Resources[Any], ...] = (
            self.policies,
            self.profiles,
            self.providers,
            self.devices,
            self.certificates,
        )
        return [
            (one.value.members.get("Arn", one.name), {tag["Key"]: tag["Value"] for tag in one.value.members["Tags"]})
            for kind in kinds
            for one in kind.list(f"{account}/global")
            if one.value.members.get("Tags")
        ]

    async def _make_root_keys(self) -> None:
        """The keys with which everything begins, in a file that AWS_SHARED_CREDENTIALS_FILE can name."""
        file = self.cloud.data_dir / "credentials"
        scope = f"{_ROOT_ACCOUNT}/global"
        found = [record for one in self.account(scope).root_keys if (record := self.keys.get(KEYS, one)) is not None]
        active = [record for record in found if record.value.status == "Active"]
        if active:
            if file.exists():
                return
            access_key, key = active[0].name, active[0].value
        elif found:
            return  # put out of use on purpose
        else:
            access_key, key = new_id("AKIA"), AccessKey(_ROOT_ACCOUNT, "", new_secret(), self.clock.now())
            await self.db.write(lambda tx: self.put_root_key(tx, scope, access_key, key))
        text = f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {key.secret}\n"

        def write() -> None:
            aside = file.with_name("credentials.new")
            with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                out.write(text)
            aside.replace(file)

        await asyncio.to_thread(write)

    # Inline policies

    async def PutUserPolicy(self, call: Call, input: Input) -> Output:
        return await self.put_inline("User", call, input)

    async def GetUserPolicy(self, call: Call, input: Input) -> Output:
        return await self.get_inline("User", call, input)

    async def DeleteUserPolicy(self, call: Call, input: Input) -> Output:
        return await self.delete_inline("User", call, input)

    async def ListUserPolicies(self, call: Call, input: Input) -> Output:
        return await self.list_inline("User", call, input)

    async def PutGroupPolicy(self, call: Call, input: Input) -> Output:
        return await self.put_inline("Group", call, input)

    async def GetGroupPolicy(self, call: Call, input: Input) -> Output:
        return await self.get_inline("Group", call, input)

    async def DeleteGroupPolicy(self, call: Call, input: Input) -> Output:
        return await self.delete_inline("Group", call, input)

    async def ListGroupPolicies(self, call: Call, input: Input) -> Output:
        return await self.list_inline("Group", call, input)

    async def PutRolePolicy(self, call: Call, input: Input) -> Output:
        return await self.put_inline("Role", call, input)

    async def GetRolePolicy(self, call: Call, input: Input) -> Output:
        return await self.get_inline("Role", call, input)

    async def DeleteRolePolicy(self, call: Call, input: Input) -> Output:
        return await self.delete_inline("Role", call, input)

    async def ListRolePolicies(self, call: Call, input: Input) -> Output:
        return await self.list_inline("Role", call, input)

    # Attached policies

    async def AttachUserPolicy(self, call: Call, input: Input) -> Output:
        return await self.attach("User", call, input)

    async def DetachUserPolicy(self, call: Call, input: Input) -> Output:
        return await self.detach("User", call, input)

    async def ListAttachedUserPolicies(self, call: Call, input: Input) -> Output:
        return await self.list_attached("User", call, input)

    async def AttachGroupPolicy(self, call: Call, input: Input) -> Output:
        return await self.attach("Group", call, input)

    async def DetachGroupPolicy(self, call: Call, input: Input) -> Output:
        return await self.detach("Group", call, input)

    async def ListAttachedGroupPolicies(self, call: Call, input: Input) -> Output:
        return await self.list_attached("Group", call, input)

    async def AttachRolePolicy(self, call: Call, input: Input) -> Output:
        return await self.attach("Role", call, input)

    async def DetachRolePolicy(self, call: Call, input: Input) -> Output:
        return await self.detach("Role", call, input)

    async def ListAttachedRolePolicies(self, call: Call, input: Input) -> Output:
        return await self.list_attached("Role", call, input)

    # Permissions boundaries

    async def PutUserPermissionsBoundary(self, call: Call, input: Input) -> Output:
        return await self.put_boundary("User", call, input)

    async def DeleteUserPermissionsBoundary(self, call: Call, input: Input) -> Output:
        return await self.delete_boundary("User", call, input)

    async def PutRolePermissionsBoundary(self, call: Call, input: Input) -> Output:
        return await self.put_boundary("Role", call, input)

    async def DeleteRolePermissionsBoundary(self, call: Call, input: Input) -> Output:
        return await self.delete_boundary("Role", call, input)

    # Tags

    async def TagUser(self, call: Call, input: Input) -> Output:
        return await self.tag("User", call, input)

    async def UntagUser(self, call: Call, input: Input) -> Output:
        return await self.untag("User", call, input)

    async def ListUserTags(self, call: Call, input: Input) -> Output:
        return await self.list_tags("User", call, input)

    async def TagRole(self, call: Call, input: Input) -> Output:
        return await self.tag("Role", call, input)

    async def UntagRole(self, call: Call, input: Input) -> Output:
        return await self.untag("Role", call, input)

    async def ListRoleTags(self, call: Call, input: Input) -> Output:
        return await self.list_tags("Role", call, input)
