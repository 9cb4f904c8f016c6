"""What all operations of KMS stand on: keys by any of their names, their material, and what is due."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any

from msgspec.structs import replace

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output, Tagged, tags_in
from cloudlet.services.kms import ciphertext, material, policies, records, specs
from cloudlet.services.kms.material import Vault
from cloudlet.services.kms.records import Alias, Key, Material
from cloudlet.store import Database, Resources, Tx

DAY = 86_400.0
_ARN = re.compile(r"arn:aws:kms:([a-z0-9-]+):(\d{12}):(key/|alias/)(.+)\Z")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z|mrk-[0-9a-f]{32}\Z")
_MANAGED = re.compile(r"alias/aws/[a-z0-9]+\Z")


class Base(api.Service):
    """The state of the service."""

    name = "kms"
    is_policy_needed = True

    db: Database
    keys: Resources[Key]
    aliases: Resources[Alias]

    async def start(self) -> None:
        self.db = await self.cloud.store.database("kms", records.MIGRATIONS)
        self.keys = self.db.resources(Key)
        self.aliases = self.db.resources(Alias)
        self._vault: Vault | None = None
        self._loaded: dict[tuple[str, int], Any] = {}
        self._timers: dict[str, Timer] = {}
        for record in self.keys.all():
            self.plan(record.value)

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {"type": "AWS::KMS::Key", "name": record.name, "arn": record.value.arn}
            for record in self.keys.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self.keys)

    async def resource_arn(self, call: Call, input: Input) -> str:
        key = await self._asked(call, input)
        return key.arn if key is not None else ""

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        key = await self._asked(call, input)
        if key is None:
            return None
        granted = await self.db.read(lambda tx: records.grants(tx, key.id))
        return policies.with_grants(key.policy, granted)

    async def _asked(self, call: Call, input: Input) -> Key | None:
        """The key that a call is about, if there is one: named, or by its ciphertext."""
        try:
            if "KeyId" in input:
                return await self.named(call, input["KeyId"])
            if "CiphertextBlob" in input:
                opened = ciphertext.read(input["CiphertextBlob"])
                record = self.keys.get(f"{opened.account}/{call.region}", opened.key)
                return None if record is None else record.value
        except AwsError:
            pass
        return None

    async def seal(self, account: str, region: str, key_id: str, plaintext: bytes, context: dict[str, str]) -> bytes:
        """Encrypt for another service of this cloud, whatever the size. Raises as Encrypt does."""
        key = await self.named(Call(account, region), key_id)
        check_usable(key, "ENCRYPT_DECRYPT", "Encrypt")
        cipher = await self.loaded(key, key.material)
        return ciphertext.seal(cipher, key.account, key.id, key.material, plaintext, context)

    async def unseal(self, account: str, region: str, blob: bytes, context: dict[str, str]) -> bytes:
        """Decrypt what ``seal`` has made. Raises as Decrypt does."""
        _, plaintext = await self.opened(region, blob, context)
        return plaintext

    async def opened(self, region: str, blob: bytes, context: dict[str, str]) -> tuple[Key, bytes]:
        """A ciphertext's key, and its plaintext. Raises InvalidCiphertextException and its like."""
        opened = ciphertext.read(blob)
        record = self.keys.get(f"{opened.account}/{region}", opened.key)
        if record is None:
            raise ciphertext.invalid()
        check_usable(record.value, "ENCRYPT_DECRYPT", "Decrypt")
        cipher = await self.loaded(record.value, opened.material)
        return record.value, ciphertext.unseal(cipher, opened, context)

    async def named(self, call: Call, id: str) -> Key:
        """A key by its id, its ARN, or an alias' name or ARN. Raises NotFoundException."""
        scope, alias = call.scope, id
        if (found := _ARN.match(id)) is not None and found[3] == "alias/":
            scope, alias = f"{found[2]}/{found[1]}", f"alias/{found[4]}"
        if not alias.startswith("alias/"):
            return self.identified(call, id)
        record = self.aliases.get(scope, alias)
        if record is None:
            if _MANAGED.match(alias):
                return await self._managed(scope, alias)
            account, region = scope.split("/")
            raise AwsError("NotFoundException", f"Alias arn:aws:kms:{region}:{account}:{alias} is not found.")
        return self.identified(call, f"arn:aws:kms:{scope.split('/')[1]}:{scope.split('/')[0]}:key/{record.value.key}")

    def identified(self, call: Call, id: str, tx: Tx | None = None) -> Key:
        """A key by its id or its ARN. Raises NotFoundException."""
        scope = call.scope
        if (found := _ARN.match(id)) is not None and found[3] == "key/":
            if found[1] != call.region:
                raise AwsError("NotFoundException", f"Invalid arn {found[1]}")
            scope, id = f"{found[2]}/{found[1]}", found[4]
        elif id.startswith("arn:"):
            raise AwsError("NotFoundException", f"Invalid arn {id}")
        if _ID.match(id) is None:
            raise AwsError("NotFoundException", f"Invalid keyId '{id}'")
        record = self.keys.get(scope, id, tx)
        if record is None:
            account, region = scope.split("/")
            raise AwsError("NotFoundException", f"Key 'arn:aws:kms:{region}:{account}:key/{id}' does not exist")
        return record.value

    async def edit(self, call: Call, id: str, change: Any) -> Key:
        """Set the fields that ``change`` makes of the key as it is then. Raises NotFoundException."""

        def edit(tx: Tx) -> Key:
            key = self.identified(call, id, tx)
            changed: Key = replace(key, **change(key))
            self.keys.put(tx, key.scope, key.id, changed)
            return changed

        return await self.db.write(edit)

    async def make(self, key: Key, alias: str = "") -> Key:
        """Make a key's material and store both, perhaps with an alias; the key that has the alias by then."""
        made = await self.new_material(key, 1, "")
        key = replace(key, material_id=made.id)

        def put(tx: Tx) -> Key:
            if alias and (known := self.aliases.get(key.scope, alias, tx)) is not None:
                record = self.keys.get(key.scope, known.value.key, tx)
                assert record is not None
                return record.value
            self.keys.put(tx, key.scope, key.id, key)
            records.add_material(tx, key.id, made)
            if alias:
                self.aliases.put(tx, key.scope, alias, Alias(alias, key.id, key.created, key.created))
            return key

        return await self.db.write(put)

    async def new_material(self, key: Key, number: int, reason: str) -> Material:
        """New material for a key, wrapped; not stored yet."""
        vault = await self._open_vault()
        secret = await asyncio.to_thread(material.make, key.spec)
        id = f"{uuid.uuid4().hex}{uuid.uuid4().hex}"
        return Material(number, id, vault.wrap(key.id, secret), self.clock.now(), reason)

    async def loaded(self, key: Key, number: int) -> Any:
        """A key's material, ready for use. Raises InvalidCiphertextException where it has none of that number."""
        if (known := self._loaded.get((key.id, number))) is not None:
            return known
        wrapped = await self.db.read(lambda tx: records.material(tx, key.id, number))
        if wrapped is None:
            raise ciphertext.invalid()
        vault = await self._open_vault()
        ready = self._loaded[key.id, number] = material.load(key.spec, vault.unwrap(key.id, wrapped))
        return ready

    async def _open_vault(self) -> Vault:
        if self._vault is None:
            self._vault = Vault(self.cloud.data_dir / "kms" / "master.key")
        return self._vault

    async def _managed(self, scope: str, alias: str) -> Key:
        """The key that AWS manages for a service, made when it is first asked for."""
        account, region = scope.split("/")
        service = alias.removeprefix("alias/aws/")
        description = f"Default key that protects my {service} data when no other key is defined"
        policy = policies.default(account)
        now = self.clock.now()
        key = Key(
            str(uuid.uuid4()), account, region, now, specs.SYMMETRIC, "ENCRYPT_DECRYPT", policy, description,
            manager="AWS", rotation_days=365, rotates_at=now + 365 * DAY,
        )  # fmt: skip
        key = await self.make(key, alias)
        self.plan(key)
        return key

    def plan(self, key: Key) -> None:
        """See that a key is deleted, or gets new material, when its time comes."""
        if (timer := self._timers.pop(key.id, None)) is not None:
            timer.cancel()
        if key.deletes_at:
            self._timers[key.id] = self.clock.call_at(
                key.deletes_at, lambda: self.cloud.spawn(self._delete(key), f"kms deletes {key.id}")
            )
        elif key.rotates_at and key.enabled:
            self._timers[key.id] = self.clock.call_at(
                key.rotates_at, lambda: self.cloud.spawn(self._rotate(key), f"kms rotates {key.id}")
            )

    async def _delete(self, key: Key) -> None:
        def delete(tx: Tx) -> bool:
            record = self.keys.get(key.scope, key.id, tx)
            if record is None or not record.value.deletes_at or record.value.deletes_at > now:
                return False
            self.keys.delete(tx, key.scope, key.id)
            records.forget(tx, key.id)
            for alias in self.aliases.list(key.scope, tx=tx):
                if alias.value.key == key.id:
                    self.aliases.delete(tx, key.scope, alias.name)
            return True

        now = self.clock.now()
        if await self.db.write(delete):
            self._timers.pop(key.id, None)
            for loaded in [each for each in self._loaded if each[0] == key.id]:
                del self._loaded[loaded]

    async def _rotate(self, key: Key) -> None:
        record = self.keys.get(key.scope, key.id)
        if record is None or not record.value.rotates_at or record.value.rotates_at > self.clock.now():
            return
        rotated = await self.replace_material(record.value, "AUTOMATIC")
        self.plan(rotated)

    async def replace_material(self, key: Key, reason: str) -> Key:
        """Give a key new material; what the old ones have encrypted can still be decrypted."""
        made = await self.new_material(key, key.material + 1, reason)

        def put(tx: Tx) -> Key:
            record = self.keys.get(key.scope, key.id, tx)
            if record is None or record.value.material != key.material:
                return key if record is None else record.value
            records.add_material(tx, key.id, made)
            next_at = made.made + record.value.rotation_days * DAY if record.value.rotation_days else 0.0
            if reason != "AUTOMATIC":
                next_at = record.value.rotates_at
            changed: Key = replace(record.value, material=made.number, material_id=made.id, rotates_at=next_at)
            self.keys.put(tx, key.scope, key.id, changed)
            return changed

        return await self.db.write(put)


def check_state(key: Key, but_disabled: bool = False) -> None:
    """Whether a key can be used or changed. Raises DisabledException and KMSInvalidStateException."""
    if key.deletes_at:
        raise AwsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    if not key.enabled and not but_disabled:
        raise AwsError("DisabledException", f"{key.arn} is disabled.")


def check_usable(key: Key, usage: str, operation: str) -> None:
    """Whether a key can be used for an operation. Raises InvalidKeyUsageException and its like."""
    check_state(key)
    if key.usage != usage:
        raise AwsError(
            "InvalidKeyUsageException", f"{key.arn} key usage is {key.usage} which is not valid for {operation}."
        )


def check_dry_run(input: Input) -> None:
    """A dry run ends here, where the work would begin. Raises DryRunOperationException."""
    if input.get("DryRun"):
        raise AwsError("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")


def page(found: list[Any], input: Input, name: Any, most: int = 100) -> tuple[list[Any], Output]:
    """The part of a list, ordered by ``name``, that is asked for, and where the next one begins."""
    limit = input.get("Limit", most)
    if (marker := input.get("Marker")) is not None:
        found = [item for item in found if name(item) > marker]
    shown = found[:limit]
    return shown, {"Truncated": True, "NextMarker": name(shown[-1])} if len(found) > limit else {"Truncated": False}
