"""Operations on keys: their life, description, policy and tags, and their aliases."""

from __future__ import annotations

import re
import uuid
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.kms import policies, specs
from cloudlet.services.kms.base import DAY, Base, check_state, page
from cloudlet.services.kms.records import Alias, Key
from cloudlet.services.policies import is_resource_policy
from cloudlet.store import Tx

_TAGS_AT_MOST = 50
_ALIAS = re.compile(r"alias/[a-zA-Z0-9/_-]+\Z")


class Keys(Base):
    """Operations on keys and aliases."""

    async def CreateKey(self, call: Call, input: Input) -> Output:
        for parameter in ("CustomKeyStoreId", "XksKeyId"):
            if parameter in input:
                raise not_implemented(f"KMS CreateKey with {parameter}")
        if input.get("MultiRegion"):
            raise not_implemented("KMS CreateKey with MultiRegion")
        if (origin := input.get("Origin", "AWS_KMS")) != "AWS_KMS":
            raise not_implemented(f"KMS CreateKey with the Origin {origin}")
        spec = input.get("KeySpec") or input.get("CustomerMasterKeySpec") or specs.SYMMETRIC
        policy = input.get("Policy") or policies.default(call.account)
        _check_policy(policy)
        key = Key(
            str(uuid.uuid4()),
            call.account,
            call.region,
            self.clock.now(),
            spec,
            specs.usage_of(spec, input.get("KeyUsage")),
            policy,
            input.get("Description", ""),
            tags=_tags(call, input.get("Tags", [])),
        )
        return {"KeyMetadata": _metadata(await self.make(key))}

    async def DescribeKey(self, call: Call, input: Input) -> Output:
        return {"KeyMetadata": _metadata(await self.named(call, input["KeyId"]))}

    async def ListKeys(self, call: Call, input: Input) -> Output:
        found = [record.value for record in self.keys.list(call.scope)]
        shown, more = page(found, input, lambda key: key.id)
        return {"Keys": [{"KeyId": key.id, "KeyArn": key.arn} for key in shown], **more}

    async def UpdateKeyDescription(self, call: Call, input: Input) -> Output:
        def change(key: Key) -> dict[str, Any]:
            check_state(key, but_disabled=True)
            return {"description": input["Description"]}

        await self.edit(call, input["KeyId"], change)
        return {}

    async def EnableKey(self, call: Call, input: Input) -> Output:
        return await self._set_enabled(call, input, True)

    async def DisableKey(self, call: Call, input: Input) -> Output:
        return await self._set_enabled(call, input, False)

    async def _set_enabled(self, call: Call, input: Input, enabled: bool) -> Output:
        def change(key: Key) -> dict[str, Any]:
            check_state(key, but_disabled=True)
            return {"enabled": enabled}

        self.plan(await self.edit(call, input["KeyId"], change))
        return {}

    async def ScheduleKeyDeletion(self, call: Call, input: Input) -> Output:
        days = input.get("PendingWindowInDays", 30)
        if not 7 <= days <= 30:
            limit = "less than or equal to 30" if days > 30 else "greater than or equal to 7"
            raise AwsError(
                "ValidationException",
                f"1 validation error detected: Value '{days}' at 'pendingWindowInDays' failed to satisfy constraint: "
                f"Member must have value {limit}",
            )
        now = self.clock.now()

        def change(key: Key) -> dict[str, Any]:
            check_state(key, but_disabled=True)
            return {"deletes_at": now + days * DAY, "enabled": False}

        key = await self.edit(call, input["KeyId"], change)
        self.plan(key)
        return {
            "KeyId": key.arn,
            "DeletionDate": key.deletes_at,
            "KeyState": key.state,
            "PendingWindowInDays": days,
        }

    async def CancelKeyDeletion(self, call: Call, input: Input) -> Output:
        def change(key: Key) -> dict[str, Any]:
            if not key.deletes_at:
                raise AwsError("KMSInvalidStateException", f"{key.arn} is not pending deletion.")
            return {"deletes_at": 0.0}

        key = await self.edit(call, input["KeyId"], change)
        self.plan(key)
        return {"KeyId": key.arn}

    async def GetKeyPolicy(self, call: Call, input: Input) -> Output:
        key = self.identified(call, input["KeyId"])
        _check_policy_name(input)
        return {"Policy": key.policy, "PolicyName": "default"}

    async def PutKeyPolicy(self, call: Call, input: Input) -> Output:
        _check_policy_name(input)
        _check_policy(input["Policy"])
        await self.edit(call, input["KeyId"], lambda _: {"policy": input["Policy"]})
        return {}

    async def ListKeyPolicies(self, call: Call, input: Input) -> Output:
        self.identified(call, input["KeyId"])
        return {"PolicyNames": ["default"], "Truncated": False}

    async def TagResource(self, call: Call, input: Input) -> Output:
        new = _tags(call, input["Tags"])

        def change(key: Key) -> dict[str, Any]:
            tags = {**key.tags, **new}
            if len(tags) > _TAGS_AT_MOST:
                raise AwsError("TagException", "Too many tags")
            return {"tags": tags}

        await self.edit(call, input["KeyId"], change)
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        await self.edit(
            call,
            input["KeyId"],
            lambda key: {"tags": {name: value for name, value in key.tags.items() if name not in gone}},
        )
        return {}

    async def ListResourceTags(self, call: Call, input: Input) -> Output:
        key = self.identified(call, input["KeyId"])
        shown, more = page(sorted(key.tags.items()), input, lambda tag: tag[0], 50)
        return {"Tags": [{"TagKey": name, "TagValue": value} for name, value in shown], **more}

    async def CreateAlias(self, call: Call, input: Input) -> Output:
        name, target = input["AliasName"], self._target(call, input)
        if not name.startswith("alias/"):
            raise AwsError(
                "ValidationException",
                'Alias must start with the prefix "alias/". Please see '
                "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
            )
        if name.startswith("alias/aws/"):
            raise AwsError("NotAuthorizedException", "")
        if _ALIAS.match(name) is None:
            raise AwsError("ValidationException", f"{name} contains invalid characters for an alias")
        now = self.clock.now()

        def create(tx: Tx) -> None:
            if self.aliases.get(call.scope, name, tx) is not None:
                raise AwsError(
                    "AlreadyExistsException", f"An alias with the name {_alias_arn(call.scope, name)} already exists"
                )
            self.aliases.put(tx, call.scope, name, Alias(name, target.id, now, now))

        await self.db.write(create)
        return {}

    async def UpdateAlias(self, call: Call, input: Input) -> Output:
        name, target, now = input["AliasName"], self._target(call, input), self.clock.now()

        def update(tx: Tx) -> None:
            alias = self._alias(tx, call.scope, name)
            before = self.keys.get(call.scope, alias.key, tx)
            if before is not None and (before.value.usage, before.value.spec == specs.SYMMETRIC) != (
                target.usage,
                target.spec == specs.SYMMETRIC,
            ):
                raise AwsError("ValidationException", "The current and new KMS keys must be of the same type and usage")
            self.aliases.put(tx, call.scope, name, replace(alias, key=target.id, updated=now))

        await self.db.write(update)
        return {}

    async def DeleteAlias(self, call: Call, input: Input) -> Output:
        if not input["AliasName"].startswith("alias/"):
            raise AwsError("ValidationException", "Invalid identifier")

        def delete(tx: Tx) -> None:
            self._alias(tx, call.scope, input["AliasName"])
            self.aliases.delete(tx, call.scope, input["AliasName"])

        await self.db.write(delete)
        return {}

    async def ListAliases(self, call: Call, input: Input) -> Output:
        found = [record.value for record in self.aliases.list(call.scope)]
        if "KeyId" in input:
            key = self.identified(call, input["KeyId"])
            found = [alias for alias in found if alias.key == key.id]
        shown, more = page(found, input, lambda alias: alias.name, 50)
        aliases = [
            {
                "AliasName": alias.name,
                "AliasArn": _alias_arn(call.scope, alias.name),
                "TargetKeyId": alias.key,
                "CreationDate": alias.created,
                "LastUpdatedDate": alias.updated,
            }
            for alias in shown
        ]
        return {"Aliases": aliases, **more}

    def _target(self, call: Call, input: Input) -> Key:
        if input["TargetKeyId"].startswith("alias/"):
            raise AwsError("ValidationException", "Aliases must refer to keys. Not aliases")
        key = self.identified(call, input["TargetKeyId"])
        check_state(key, but_disabled=True)
        return key

    def _alias(self, tx: Tx, scope: str, name: str) -> Alias:
        record = self.aliases.get(scope, name, tx)
        if record is None:
            raise AwsError("NotFoundException", f"Alias {_alias_arn(scope, name)} is not found.")
        return record.value


def _metadata(key: Key) -> Output:
    shown: Output = {
        "AWSAccountId": key.account,
        "KeyId": key.id,
        "Arn": key.arn,
        "CreationDate": key.created,
        "Enabled": key.state == "Enabled",
        "Description": key.description,
        "KeyUsage": key.usage,
        "KeyState": key.state,
        "Origin": "AWS_KMS",
        "KeyManager": key.manager,
        "CustomerMasterKeySpec": key.spec,
        "KeySpec": key.spec,
        "MultiRegion": False,
        **specs.algorithms(key.spec, key.usage),
    }
    if key.deletes_at:
        shown["DeletionDate"] = key.deletes_at
    if key.spec == specs.SYMMETRIC:
        shown["CurrentKeyMaterialId"] = key.material_id
    return shown


def _alias_arn(scope: str, name: str) -> str:
    account, region = scope.split("/")
    return f"arn:aws:kms:{region}:{account}:{name}"


def _check_policy(text: str) -> None:
    if not is_resource_policy(text):
        raise AwsError("MalformedPolicyDocumentException", "The new key policy is not a valid policy document.")


def _check_policy_name(input: Input) -> None:
    if input.get("PolicyName", "default") != "default":
        raise AwsError("NotFoundException", "No such policy exists")


def _tags(call: Call, given: list[dict[str, str]]) -> dict[str, str]:
    """Tags as a map. Raises TagException; only a service of this cloud may set its own."""
    tags = {tag["TagKey"]: tag["TagValue"] for tag in given}
    if len(tags) != len(given):
        raise AwsError("TagException", "Duplicate tag keys")
    if call.request is not None and any(name.lower().startswith("aws:") for name in tags):
        raise AwsError("TagException", "Tags beginning with aws: are reserved")
    if len(tags) > _TAGS_AT_MOST:
        raise AwsError("TagException", "Too many tags")
    return tags
