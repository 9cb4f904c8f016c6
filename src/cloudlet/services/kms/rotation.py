"""Operations on the rotation of key material."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.kms import records, specs
from cloudlet.services.kms.base import DAY, Base, check_state, page
from cloudlet.services.kms.records import Key

_PERIOD = 365
_ON_DEMAND_AT_MOST = 25


class Rotation(Base):
    """Rotation by the calendar and on demand. What older material has encrypted can still be decrypted."""

    async def EnableKeyRotation(self, call: Call, input: Input) -> Output:
        days, now = input.get("RotationPeriodInDays", _PERIOD), self.clock.now()

        def change(key: Key) -> dict[str, Any]:
            _check(key)
            check_state(key)
            return {"rotation_days": days, "rotates_at": now + days * DAY}

        self.plan(await self.edit(call, input["KeyId"], change))
        return {}

    async def DisableKeyRotation(self, call: Call, input: Input) -> Output:
        def change(key: Key) -> dict[str, Any]:
            _check(key)
            check_state(key)
            return {"rotation_days": 0, "rotates_at": 0.0}

        self.plan(await self.edit(call, input["KeyId"], change))
        return {}

    async def GetKeyRotationStatus(self, call: Call, input: Input) -> Output:
        key = self.identified(call, input["KeyId"])
        check_state(key, but_disabled=True)
        status: Output = {"KeyId": key.arn, "KeyRotationEnabled": bool(key.rotation_days)}
        if key.rotation_days:
            status |= {"RotationPeriodInDays": key.rotation_days, "NextRotationDate": key.rotates_at}
        return status

    async def RotateKeyOnDemand(self, call: Call, input: Input) -> Output:
        key = self.identified(call, input["KeyId"])
        check_state(key)
        _check(key)
        known = await self.db.read(lambda tx: records.materials(tx, key.id))
        if sum(material.reason == "ON_DEMAND" for material in known) >= _ON_DEMAND_AT_MOST:
            raise AwsError(
                "LimitExceededException",
                "The on-demand rotations limit has been reached for the given keyId. "
                f"No more on-demand rotations can be performed for this key: {key.arn}",
            )
        await self.replace_material(key, "ON_DEMAND")
        return {"KeyId": key.arn}

    async def ListKeyRotations(self, call: Call, input: Input) -> Output:
        key = self.identified(call, input["KeyId"])
        _check(key)
        known = await self.db.read(lambda tx: records.materials(tx, key.id))
        if input.get("IncludeKeyMaterial", "ROTATIONS_ONLY") == "ROTATIONS_ONLY":
            known = [material for material in known if material.reason]
        shown, more = page(known, input, lambda material: f"{material.number:06}")
        rotations = []
        for material in shown:
            entry = {
                "KeyId": key.id,
                "KeyMaterialId": material.id,
                "KeyMaterialState": "CURRENT" if material.number == key.material else "NON_CURRENT",
            }
            if material.reason:
                entry |= {"RotationDate": material.made, "RotationType": material.reason}
            rotations.append(entry)
        return {"Rotations": rotations, **more}


def _check(key: Key) -> None:
    if key.spec != specs.SYMMETRIC:
        raise AwsError("UnsupportedOperationException", "")
