"""Virtual MFA devices: their secrets, and the codes that prove that somebody holds one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.iam.entities import checked_tags, conflict, exists, no_such, page, scope_of, with_tags
from cloudlet.services.iam.entities import without_tags as _without_tags
from cloudlet.services.iam.records import Device, User
from cloudlet.services.iam.simulation import Simulation
from cloudlet.store import Tx

_SEED = 40  # bytes; 64 letters in base 32
_STEP = 30  # seconds that a code is good for
_TOLERANCE = 5  # steps that a device's clock may be off
_DEVICES_AT_MOST = 8


class Mfa(Simulation):
    """Operations on virtual MFA devices."""

    async def CreateVirtualMFADevice(self, call: Call, input: Input) -> Output:
        path = input.get("Path", "/")
        serial = f"arn:aws:iam::{call.account}:mfa{path}{input['VirtualMFADeviceName']}"
        seed = base64.b32encode(secrets.token_bytes(_SEED)).decode()
        members: dict[str, Any] = {"SerialNumber": serial}
        if tags := checked_tags(input.get("Tags", ())):
            members["Tags"] = tags

        def work(tx: Tx) -> None:
            if self.devices.get(scope_of(call), serial, tx) is not None:
                raise exists("MFADevice entity at the same path and name already exists.")
            self.devices.put(tx, scope_of(call), serial, Device(members, seed))

        await self.db.write(work)
        return {"VirtualMFADevice": {**members, "Base32StringSeed": seed.encode()}}

    async def DeleteVirtualMFADevice(self, call: Call, input: Input) -> Output:
        def work(tx: Tx) -> None:
            device = self._device(call, input["SerialNumber"], tx)
            if device.user:
                raise conflict("Device is still in use. Deactivate it before you delete it.")
            self.devices.delete(tx, scope_of(call), input["SerialNumber"])

        await self.db.write(work)
        return {}

    async def EnableMFADevice(self, call: Call, input: Input) -> Output:
        scope, name, serial, now = scope_of(call), input["UserName"], input["SerialNumber"], self.clock.now()

        def work(tx: Tx) -> None:
            user: User = self.entity("User", scope, name, tx)
            device = self._device(call, serial, tx)
            if device.user:
                raise exists(f"MFA Device is already in use by {device.user}.")
            if len(user.devices) >= _DEVICES_AT_MOST:
                raise AwsError(
                    "LimitExceeded", f"Cannot exceed quota for MFADevicesPerUser: {_DEVICES_AT_MOST}", status=409
                )
            _check_codes(device, input, now)
            members = {**device.members, "EnableDate": now}
            self.devices.put(tx, scope, serial, msgspec.structs.replace(device, members=members, user=name))
            self.users.put(tx, scope, name, msgspec.structs.replace(user, devices=[*user.devices, serial]))

        await self.db.write(work)
        return {}

    async def DeactivateMFADevice(self, call: Call, input: Input) -> Output:
        scope, serial = scope_of(call), input["SerialNumber"]
        name = input.get("UserName") or self._caller(call)

        def work(tx: Tx) -> None:
            user: User = self.entity("User", scope, name, tx)
            device = self._device(call, serial, tx)
            if device.user != name:
                raise no_such(f"Device with serial number {serial} is not enabled for user {name}.")
            members = {key: value for key, value in device.members.items() if key != "EnableDate"}
            self.devices.put(tx, scope, serial, msgspec.structs.replace(device, members=members, user=""))
            left = [one for one in user.devices if one != serial]
            self.users.put(tx, scope, name, msgspec.structs.replace(user, devices=left))

        await self.db.write(work)
        return {}

    async def ResyncMFADevice(self, call: Call, input: Input) -> Output:
        device = self._device(call, input["SerialNumber"])
        if device.user != input["UserName"]:
            raise no_such(f"Device with serial number {input['SerialNumber']} is not enabled for this user.")
        _check_codes(device, input, self.clock.now())
        return {}

    async def ListMFADevices(self, call: Call, input: Input) -> Output:
        name = input.get("UserName") or self._caller(call)
        serials = self.entity("User", scope_of(call), name).devices if name else []
        devices = [(serial, self._device(call, serial)) for serial in serials]
        shown = [
            {"UserName": name, "SerialNumber": serial, "EnableDate": device.members["EnableDate"]}
            for serial, device in devices
        ]
        return page("MFADevices", shown, input)

    async def GetMFADevice(self, call: Call, input: Input) -> Output:
        device = self._device(call, input["SerialNumber"])
        if input.get("UserName", device.user) != device.user:
            raise no_such(f"Device with serial number {input['SerialNumber']} is not enabled for this user.")
        shown = {"SerialNumber": input["SerialNumber"]}
        if device.user:
            shown |= {"UserName": device.user, "EnableDate": device.members["EnableDate"]}
        return shown

    async def ListVirtualMFADevices(self, call: Call, input: Input) -> Output:
        scope, status = scope_of(call), input.get("AssignmentStatus", "Any")
        shown = []
        for record in self.devices.list(scope):
            device = record.value
            if status == "Any" or (status == "Assigned") == bool(device.user):
                user = {"User": self.entity("User", scope, device.user).members} if device.user else {}
                members = {key: value for key, value in device.members.items() if key != "Tags"}
                shown.append({**members, **user})
        return page("VirtualMFADevices", shown, input)

    async def TagMFADevice(self, call: Call, input: Input) -> Output:
        await self._change_device(call, input, lambda device: with_tags(device, input["Tags"]))
        return {}

    async def UntagMFADevice(self, call: Call, input: Input) -> Output:
        await self._change_device(call, input, lambda device: _without_tags(device, input["TagKeys"]))
        return {}

    async def ListMFADeviceTags(self, call: Call, input: Input) -> Output:
        return page("Tags", self._device(call, input["SerialNumber"]).members.get("Tags", []), input)

    async def _change_device(self, call: Call, input: Input, change: Any) -> None:
        def work(tx: Tx) -> None:
            device = change(self._device(call, input["SerialNumber"], tx))
            self.devices.put(tx, scope_of(call), input["SerialNumber"], device)

        await self.db.write(work)

    def _device(self, call: Call, serial: str, tx: Tx | None = None) -> Device:
        record = self.devices.get(scope_of(call), serial, tx)
        if record is None:
            raise no_such(f"VirtualMFADevice with serial number {serial} doesn't exist.")
        return record.value


def _check_codes(device: Device, input: Input, now: float) -> None:
    """Whether two codes follow each other about now. Raises InvalidAuthenticationCode."""
    given = input["AuthenticationCode1"], input["AuthenticationCode2"]
    step = int(now) // _STEP
    for count in range(step - _TOLERANCE, step + _TOLERANCE + 1):
        if (code_of(device.seed, count), code_of(device.seed, count + 1)) == given:
            return
    raise AwsError("InvalidAuthenticationCode", "Authentication code for device is not valid", status=403)


def code_of(seed: str, count: int) -> str:
    """The code of one step of 30 seconds since the epoch (RFC 6238)."""
    digest = hmac.new(base64.b32decode(seed), count.to_bytes(8, "big"), hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06d}"
