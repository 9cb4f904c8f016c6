"""What is set for a whole account: alias, password policy, summary, identity providers."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.iam.entities import checked_tags, exists, no_such, page, scope_of, with_tags, without_tags
from cloudlet.services.iam.policies import Policies
from cloudlet.services.iam.records import Account, Provider
from cloudlet.store import Tx

_QUOTAS = {
    "UsersQuota": 5000,
    "GroupsQuota": 300,
    "RolesQuota": 1000,
    "PoliciesQuota": 1500,
    "InstanceProfilesQuota": 1000,
    "AccessKeysPerUserQuota": 2,
    "GroupsPerUserQuota": 10,
    "AttachedPoliciesPerUserQuota": 10,
    "AttachedPoliciesPerGroupQuota": 10,
    "AttachedPoliciesPerRoleQuota": 10,
    "VersionsPerPolicyQuota": 5,
    "UserPolicySizeQuota": 2048,
    "GroupPolicySizeQuota": 5120,
    "RolePolicySizeQuota": 10240,
    "PolicySizeQuota": 6144,
    "AssumeRolePolicySizeQuota": 2048,
    "PolicyVersionsInUseQuota": 10000,
    "ServerCertificatesQuota": 20,
    "SigningCertificatesPerUserQuota": 2,
    "GlobalEndpointTokenVersion": 1,
}


class Accounts(Policies):
    """Operations on the account."""

    async def CreateAccountAlias(self, call: Call, input: Input) -> Output:
        alias = input["AccountAlias"]
        if any(record.value.alias == alias and record.scope != scope_of(call) for record in self.accounts.all()):
            raise exists(f"The account alias {alias} already exists.")
        await self.change_account(scope_of(call), lambda account: msgspec.structs.replace(account, alias=alias))
        return {}

    async def DeleteAccountAlias(self, call: Call, input: Input) -> Output:
        def change(account: Account) -> Account:
            if account.alias != input["AccountAlias"]:
                raise no_such(f"The account alias {input['AccountAlias']} cannot be found.")
            return msgspec.structs.replace(account, alias="")

        await self.change_account(scope_of(call), change)
        return {}

    async def ListAccountAliases(self, call: Call, input: Input) -> Output:
        alias = self.account(scope_of(call)).alias
        return {"AccountAliases": [alias] if alias else [], "IsTruncated": False}

    async def UpdateAccountPasswordPolicy(self, call: Call, input: Input) -> Output:
        policy = {
            "MinimumPasswordLength": 6,
            "RequireSymbols": False,
            "RequireNumbers": False,
            "RequireUppercaseCharacters": False,
            "RequireLowercaseCharacters": False,
            "AllowUsersToChangePassword": False,
            **input,
            "ExpirePasswords": input.get("MaxPasswordAge", 0) > 0,
        }
        await self.change_account(
            scope_of(call), lambda account: msgspec.structs.replace(account, password_policy=policy)
        )
        return {}

    async def GetAccountPasswordPolicy(self, call: Call, input: Input) -> Output:
        policy = self.account(scope_of(call)).password_policy
        if policy is None:
            raise no_such(f"The Password Policy with domain name {call.account} cannot be found.")
        return {"PasswordPolicy": policy}

    async def DeleteAccountPasswordPolicy(self, call: Call, input: Input) -> Output:
        def change(account: Account) -> Account:
            if account.password_policy is None:
                raise no_such("The account policy with name PasswordPolicy cannot be found.")
            return msgspec.structs.replace(account, password_policy=None)

        await self.change_account(scope_of(call), change)
        return {}

    async def GetAccountSummary(self, call: Call, input: Input) -> Output:
        scope = scope_of(call)
        devices = self.devices.list(scope)
        counts = {
            "Users": len(self.users.list(scope)),
            "Groups": len(self.groups.list(scope)),
            "Roles": len(self.roles.list(scope)),
            "Policies": len(self.policies.list(scope)),
            "PolicyVersionsInUse": sum(len(record.value.versions) for record in self.policies.list(scope)),
            "InstanceProfiles": len(self.profiles.list(scope)),
            "Providers": len(self.providers.list(scope)),
            "MFADevices": len(devices),
            "MFADevicesInUse": sum(bool(record.value.user) for record in devices),
            "AccountMFAEnabled": 0,
            "AccountAccessKeysPresent": 1 if self.account(scope).root_keys else 0,
            "AccountSigningCertificatesPresent": 0,
            "ServerCertificates": len(self.certificates.list(scope)),
        }
        return {"SummaryMap": {**_QUOTAS, **counts}}

    # These cannot be made here, so that a user has none; tools ask before they delete a user.

    async def ListSSHPublicKeys(self, call: Call, input: Input) -> Output:
        return self._none("SSHPublicKeys", call, input)

    async def ListSigningCertificates(self, call: Call, input: Input) -> Output:
        return self._none("Certificates", call, input)

    async def ListServiceSpecificCredentials(self, call: Call, input: Input) -> Output:
        self._none("", call, input)
        return {"ServiceSpecificCredentials": []}

    def _none(self, name: str, call: Call, input: Input) -> Output:
        if "UserName" in input:
            self.entity("User", scope_of(call), input["UserName"])
        return page(name, [], {})

    # Identity providers

    async def CreateOpenIDConnectProvider(self, call: Call, input: Input) -> Output:
        url = urlsplit(input["Url"])
        if url.scheme != "https" or not url.netloc:
            raise AwsError("ValidationError", "Invalid Open ID Connect Provider URL", status=400)
        place = f"{url.netloc}{url.path}".rstrip("/")
        arn = f"arn:aws:iam::{call.account}:oidc-provider/{place}"
        members = {
            "Url": place,
            "ClientIDList": input.get("ClientIDList", []),
            "ThumbprintList": input.get("ThumbprintList", []),
            "CreateDate": self.clock.now(),
        }
        tags = await self._create_provider(call, arn, members, input)
        return {"OpenIDConnectProviderArn": arn, **tags}

    async def GetOpenIDConnectProvider(self, call: Call, input: Input) -> Output:
        return self._provider(scope_of(call), input["OpenIDConnectProviderArn"]).members

    async def ListOpenIDConnectProviders(self, call: Call, input: Input) -> Output:
        found = self.providers.list(scope_of(call), f"arn:aws:iam::{call.account}:oidc-provider/")
        return {"OpenIDConnectProviderList": [{"Arn": record.name} for record in found]}

    async def DeleteOpenIDConnectProvider(self, call: Call, input: Input) -> Output:
        scope = scope_of(call)
        await self.db.write(lambda tx: self.providers.delete(tx, scope, input["OpenIDConnectProviderArn"]))
        return {}

    async def AddClientIDToOpenIDConnectProvider(self, call: Call, input: Input) -> Output:
        def change(members: dict[str, Any]) -> dict[str, Any]:
            return {"ClientIDList": list(dict.fromkeys((*members["ClientIDList"], input["ClientID"])))}

        await self._change_provider(call, input["OpenIDConnectProviderArn"], change)
        return {}

    async def RemoveClientIDFromOpenIDConnectProvider(self, call: Call, input: Input) -> Output:
        def change(members: dict[str, Any]) -> dict[str, Any]:
            return {"ClientIDList": [one for one in members["ClientIDList"] if one != input["ClientID"]]}

        await self._change_provider(call, input["OpenIDConnectProviderArn"], change)
        return {}

    async def UpdateOpenIDConnectProviderThumbprint(self, call: Call, input: Input) -> Output:
        thumbprints = {"ThumbprintList": input["ThumbprintList"]}
        await self._change_provider(call, input["OpenIDConnectProviderArn"], lambda members: thumbprints)
        return {}

    async def TagOpenIDConnectProvider(self, call: Call, input: Input) -> Output:
        return await self._tag_provider(
            call, input["OpenIDConnectProviderArn"], lambda one: with_tags(one, input["Tags"])
        )

    async def UntagOpenIDConnectProvider(self, call: Call, input: Input) -> Output:
        arn = input["OpenIDConnectProviderArn"]
        return await self._tag_provider(call, arn, lambda one: without_tags(one, input["TagKeys"]))

    async def ListOpenIDConnectProviderTags(self, call: Call, input: Input) -> Output:
        provider = self._provider(scope_of(call), input["OpenIDConnectProviderArn"])
        return page("Tags", provider.members.get("Tags", []), input)

    async def CreateSAMLProvider(self, call: Call, input: Input) -> Output:
        for parameter in ("AssertionEncryptionMode", "AddPrivateKey"):
            if parameter in input:
                raise not_implemented(f"CreateSAMLProvider with {parameter}")
        now = self.clock.now()
        arn = f"arn:aws:iam::{call.account}:saml-provider/{input['Name']}"
        members = {
            "SAMLMetadataDocument": input["SAMLMetadataDocument"],
            "SAMLProviderUUID": hashlib.sha256(f"{arn} {now}".encode()).hexdigest()[:32].upper(),
            "CreateDate": now,
            "ValidUntil": now + 100 * 365 * 86400,
        }
        tags = await self._create_provider(call, arn, members, input)
        return {"SAMLProviderArn": arn, **tags}

    async def GetSAMLProvider(self, call: Call, input: Input) -> Output:
        return self._provider(scope_of(call), input["SAMLProviderArn"]).members

    async def ListSAMLProviders(self, call: Call, input: Input) -> Output:
        found = self.providers.list(scope_of(call), f"arn:aws:iam::{call.account}:saml-provider/")
        times = ("ValidUntil", "CreateDate")
        shown = [{"Arn": one.name, **{name: one.value.members[name] for name in times}} for one in found]
        return {"SAMLProviderList": shown}

    async def UpdateSAMLProvider(self, call: Call, input: Input) -> Output:
        for parameter in ("AssertionEncryptionMode", "AddPrivateKey", "RemovePrivateKey"):
            if parameter in input:
                raise not_implemented(f"UpdateSAMLProvider with {parameter}")
        changes = {"SAMLMetadataDocument": input["SAMLMetadataDocument"]} if "SAMLMetadataDocument" in input else {}
        await self._change_provider(call, input["SAMLProviderArn"], lambda members: changes)
        return {"SAMLProviderArn": input["SAMLProviderArn"]}

    async def DeleteSAMLProvider(self, call: Call, input: Input) -> Output:
        scope = scope_of(call)
        self._provider(scope, input["SAMLProviderArn"])
        await self.db.write(lambda tx: self.providers.delete(tx, scope, input["SAMLProviderArn"]))
        return {}

    async def TagSAMLProvider(self, call: Call, input: Input) -> Output:
        return await self._tag_provider(call, input["SAMLProviderArn"], lambda one: with_tags(one, input["Tags"]))

    async def UntagSAMLProvider(self, call: Call, input: Input) -> Output:
        return await self._tag_provider(call, input["SAMLProviderArn"], lambda one: without_tags(one, input["TagKeys"]))

    async def ListSAMLProviderTags(self, call: Call, input: Input) -> Output:
        provider = self._provider(scope_of(call), input["SAMLProviderArn"])
        return page("Tags", provider.members.get("Tags", []), input)

    def client_ids(self, account: str, arn: str) -> list[str] | None:
        """The audiences that an OpenID Connect provider of an account takes, None for no such provider."""
        record = self.providers.get(f"{account}/global", arn)
        return record.value.members["ClientIDList"] if record is not None else None

    async def _create_provider(self, call: Call, arn: str, members: dict[str, Any], input: Input) -> Output:
        scope = scope_of(call)
        tags = {"Tags": found} if (found := checked_tags(input.get("Tags", ()))) else {}

        def work(tx: Tx) -> None:
            if self.providers.get(scope, arn, tx) is not None:
                what = input.get("Url") or input["Name"]
                raise exists(
                    f"Provider with url {what} already exists." if "Url" in input else f"{what} already exists."
                )
            self.providers.put(tx, scope, arn, Provider({**members, **tags}))

        await self.db.write(work)
        return tags

    def _provider(self, scope: str, arn: str, tx: Tx | None = None) -> Provider:
        record = self.providers.get(scope, arn, tx)
        if record is None:
            if ":oidc-provider/" in arn:
                raise no_such(f"OpenIDConnect Provider not found for arn {arn}")
            raise no_such("Manifest not found for arn " + arn)
        return record.value

    async def _change_provider(self, call: Call, arn: str, change: Any) -> None:
        await self._tag_provider(call, arn, lambda provider: Provider({**provider.members, **change(provider.members)}))

    async def _tag_provider(self, call: Call, arn: str, change: Any) -> Output:
        scope = scope_of(call)
        await self.db.write(
            lambda tx: self.providers.put(tx, scope, arn, change(self._provider(scope, arn, tx))) and None
        )
        return {}
