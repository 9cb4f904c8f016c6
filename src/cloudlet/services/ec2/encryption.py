"""EBS encryption by default: a setting of the account in a region, which new volumes show (ADR 10)."""

from __future__ import annotations

from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2.base import Base
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import Members, World

_ID = "settings"
_DEFAULT_KEY = "alias/aws/ebs"


class Encryption(Base):
    """Operations on the setting."""

    async def GetEbsEncryptionByDefault(self, call: Call, input: Input) -> Output:
        return {"EbsEncryptionByDefault": is_default(self.world(call.scope))}

    async def EnableEbsEncryptionByDefault(self, call: Call, input: Input) -> Output:
        return await self._set(call, {"EbsEncryptionByDefault": True})

    async def DisableEbsEncryptionByDefault(self, call: Call, input: Input) -> Output:
        return await self._set(call, {"EbsEncryptionByDefault": False})

    async def GetEbsDefaultKmsKeyId(self, call: Call, input: Input) -> Output:
        return {"KmsKeyId": default_key(self.world(call.scope)) or _DEFAULT_KEY}

    async def ModifyEbsDefaultKmsKeyId(self, call: Call, input: Input) -> Output:
        which = {"KeyId": input["KmsKeyId"]}
        key = await self.cloud.call("kms", "DescribeKey", which, account=call.account, region=call.region)
        return await self._set(call, {"KmsKeyId": key["KeyMetadata"]["Arn"]})

    async def ResetEbsDefaultKmsKeyId(self, call: Call, input: Input) -> Output:
        await self._set(call, {"KmsKeyId": ""})
        return {"KmsKeyId": _DEFAULT_KEY}

    async def _set(self, call: Call, change: Members) -> Output:
        await self.write(call.scope, lambda world: world.put(Item(_ID, world.now, 0, _settings(world) | change)))
        return change


def is_default(world: World) -> bool:
    """Whether a volume is encrypted of which nobody says whether it is."""
    return bool(_settings(world).get("EbsEncryptionByDefault"))


def default_key(world: World) -> str:
    """The ARN of the KMS key that was set for encrypted volumes, or nothing."""
    return str(_settings(world).get("KmsKeyId", ""))


def _settings(world: World) -> Members:
    item = world.find(_ID)
    return item.shown if item is not None else {}
