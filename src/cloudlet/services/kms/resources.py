"""CloudFormation's types of KMS."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of

_MARKS = ("aws:cloudformation:stack-id", "aws:cloudformation:logical-id")


class Key(ResourceType):
    """A key. ``Ref`` is its id."""

    type = "AWS::KMS::Key"
    ignored = frozenset(("BypassPolicyLockoutSafetyCheck",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _check(properties)
        id = await self._made(do, properties)
        if id is None:
            input: Properties = {
                name: properties[name]
                for name in ("Description", "KeySpec", "KeyUsage", "MultiRegion", "Origin")
                if name in properties
            }
            if policy := properties.get("KeyPolicy"):
                input["Policy"] = _text(policy)
            if tags := tags_of(do, properties):
                input["Tags"] = _pairs(tags)
            id = (await do.call("kms", "CreateKey", input))["KeyMetadata"]["KeyId"]
        await do.initiated(id)
        await self._set_rotation(do, id, {}, properties)
        if _false(properties.get("Enabled", True)):
            await do.call("kms", "DisableKey", {"KeyId": id})
        return Physical(id, {"Arn": f"arn:aws:kms:{do.region}:{do.account}:key/{id}", "KeyId": id})

    async def _made(self, do: Deployment, properties: Properties) -> str | None:
        """The key that this very step has made before a crash, if it has."""
        wanted = (properties.get("KeySpec", "SYMMETRIC_DEFAULT"), properties.get("KeyUsage", "ENCRYPT_DECRYPT"))
        marker: Properties = {}
        while True:
            listed = await do.call("kms", "ListKeys", marker)
            for key in listed["Keys"]:
                tags = (await do.call("kms", "ListResourceTags", {"KeyId": key["KeyId"]}))["Tags"]
                known = {tag["TagKey"]: tag["TagValue"] for tag in tags}
                if not do.tags or any(known.get(mark) != do.tags.get(mark, "") for mark in _MARKS):
                    continue
                found = (await do.call("kms", "DescribeKey", {"KeyId": key["KeyId"]}))["KeyMetadata"]
                if (found["KeySpec"], found["KeyUsage"]) == wanted and found["KeyState"] != "PendingDeletion":
                    return str(key["KeyId"])
            if not listed["Truncated"]:
                return None
            marker = {"Marker": listed["NextMarker"]}

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        _check(new)
        made = (await do.call("kms", "DescribeKey", {"KeyId": physical.id}))["KeyMetadata"]
        if any(_fixed(made, name) != _fixed(new, name) for name in _FIXED):
            # No replacement, as with AWS: what the key has encrypted would be lost with it.
            words = f"Resource of type '{self.type}' with identifier '{physical.id}' is not updatable with parameters"
            raise AwsError("NotUpdatable", f"{words} provided.")
        key = {"KeyId": physical.id}
        # Little can be done with a disabled key: it is enabled first, and disabled last.
        disabled = _false(new.get("Enabled", True))
        if changed(old, new, "Enabled") and not disabled:
            await do.call("kms", "EnableKey", key)
        if changed(old, new, "Description"):
            await do.call("kms", "UpdateKeyDescription", {**key, "Description": new.get("Description", "")})
        if changed(old, new, "KeyPolicy"):
            default = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{do.account}:root"}, "Action": "kms:*"}
            policy = new.get("KeyPolicy") or {"Version": "2012-10-17", "Statement": [{**default, "Resource": "*"}]}
            await do.call("kms", "PutKeyPolicy", {**key, "Policy": _text(policy)})
        await self._set_rotation(do, physical.id, old, new)
        tags = tags_of(do, new)
        before = {tag["TagKey"]: tag["TagValue"] for tag in (await do.call("kms", "ListResourceTags", key))["Tags"]}
        if gone := [name for name in before if name not in tags]:
            await do.call("kms", "UntagResource", {**key, "TagKeys": gone})
        if tags and tags != before:
            await do.call("kms", "TagResource", {**key, "Tags": _pairs(tags)})
        if changed(old, new, "Enabled") and disabled:
            await do.call("kms", "DisableKey", key)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        days = properties.get("PendingWindowInDays", 30)
        try:
            await do.call("kms", "ScheduleKeyDeletion", {"KeyId": physical.id, "PendingWindowInDays": days})
        except AwsError as error:
            if error.code not in ("NotFoundException", "KMSInvalidStateException"):
                raise

    async def _set_rotation(self, do: Deployment, id: str, old: Properties, new: Properties) -> None:
        if not changed(old, new, "EnableKeyRotation", "RotationPeriodInDays"):
            return
        if _false(new.get("EnableKeyRotation", False)):
            if old.get("EnableKeyRotation"):
                await do.call("kms", "DisableKeyRotation", {"KeyId": id})
            return
        period = {name: new[name] for name in ("RotationPeriodInDays",) if name in new}
        await do.call("kms", "EnableKeyRotation", {"KeyId": id, **period})


_FIXED = {
    "KeySpec": "SYMMETRIC_DEFAULT",
    "KeyUsage": "ENCRYPT_DECRYPT",
    "MultiRegion": "false",
    "Origin": "AWS_KMS",
}


def _fixed(properties: Properties, name: str) -> str:
    return str(properties.get(name, _FIXED[name])).lower()


_KNOWN = frozenset(
    (
        *("BypassPolicyLockoutSafetyCheck", "Description", "EnableKeyRotation", "Enabled", "KeyPolicy", "KeySpec"),
        *("KeyUsage", "MultiRegion", "Origin", "PendingWindowInDays", "RotationPeriodInDays", "Tags"),
    )
)


class Alias(ResourceType):
    """An alias. ``Ref`` is its name."""

    type = "AWS::KMS::Alias"
    required = frozenset(("AliasName", "TargetKeyId"))
    replaces = frozenset(("AliasName",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties["AliasName"]
        input = {"AliasName": name, "TargetKeyId": properties["TargetKeyId"]}
        try:
            await do.call("kms", "CreateAlias", input)
        except AwsError as error:
            if error.code != "AlreadyExistsException" or not await self._is_on(do, name, properties["TargetKeyId"]):
                raise
        return Physical(name)

    async def _is_on(self, do: Deployment, name: str, target: str) -> bool:
        """Whether the alias is already what it is to be: made by this step before a crash."""
        found = await do.call("kms", "DescribeKey", {"KeyId": name})
        return target in (found["KeyMetadata"]["KeyId"], found["KeyMetadata"]["Arn"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await do.call("kms", "UpdateAlias", {"AliasName": physical.id, "TargetKeyId": new["TargetKeyId"]})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await do.call("kms", "DeleteAlias", {"AliasName": physical.id})
        except AwsError as error:
            if error.code != "NotFoundException":
                raise


class ReplicaKey(ResourceType):
    """A replica of a key of another region, which is not here."""

    type = "AWS::KMS::ReplicaKey"

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        raise not_implemented(f"the resource type {self.type}")

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        """There is none."""


def _check(properties: Properties) -> None:
    if unknown := sorted(properties.keys() - _KNOWN):
        raise AwsError("ValidationError", f"Unsupported property of {Key.type}: {', '.join(unknown)}")


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"TagKey": key, "TagValue": value} for key, value in tags.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _false(value: Any) -> bool:
    return str(value).lower() == "false"


TYPES = [Key, Alias, ReplicaKey]
