"""What all operations of Secrets Manager stand on: secrets by name or ARN, encryption, and what is due."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from typing import Any

from msgspec.structs import replace

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Tagged, tags_in
from cloudlet.services.secretsmanager import records
from cloudlet.services.secretsmanager.records import CURRENT, PREVIOUS, Secret, Version
from cloudlet.store import Database, Resources, Tx

DAY = 86_400.0
_ARN = re.compile(r"arn:aws:secretsmanager:([a-z0-9-]+):(\d{12}):secret:(.+)\Z")
_NAME = re.compile(r"[A-Za-z0-9/_+=.@!-]+")
_DEFAULT_KEY = "alias/aws/secretsmanager"
_DEPRECATED_AT_MOST = 100
_KMS_ERRORS = ("NotFoundException", "DisabledException", "KMSInvalidStateException", "InvalidKeyUsageException")


class Base(api.Service):
    """The state of the service."""

    name = "secretsmanager"

    db: Database
    secrets: Resources[Secret]

    async def start(self) -> None:
        self.db = await self.cloud.store.database("secretsmanager", records.MIGRATIONS)
        self.secrets = self.db.resources(Secret)
        self._timers: dict[str, Timer] = {}
        self._rotations: dict[str, asyncio.Task[None]] = {}
        for record in self.secrets.all():
            self.plan(record.scope, record.value)

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {"type": "AWS::SecretsManager::Secret", "name": record.name, "arn": record.value.arn}
            for record in self.secrets.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self.secrets)

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        found = self.place(call, input.get("SecretId", ""))
        return None if found is None else found[1].policy or None

    async def resource_arn(self, call: Call, input: Input) -> str:
        found = self.place(call, input.get("SecretId", ""))
        return "" if found is None else found[1].arn

    def plan(self, scope: str, secret: Secret) -> None:
        """See that a secret is deleted or rotated when its time comes."""
        if (timer := self._timers.pop(secret.arn, None)) is not None:
            timer.cancel()
        if secret.deletes_at:
            self._timers[secret.arn] = self.clock.call_at(
                secret.deletes_at, lambda: self.cloud.spawn(self._delete(scope, secret), f"deletes {secret.name}")
            )
        elif secret.rotates_at:
            self._timers[secret.arn] = self.clock.call_at(
                secret.rotates_at, lambda: self.cloud.spawn(self.rotate_due(scope, secret), f"rotates {secret.name}")
            )

    async def rotate_due(self, scope: str, secret: Secret) -> None:
        """Rotate a secret whose time has come."""
        raise NotImplementedError

    async def _delete(self, scope: str, secret: Secret) -> None:
        now = self.clock.now()

        def delete(tx: Tx) -> None:
            record = self.secrets.get(scope, secret.name, tx)
            if record is not None and record.value.arn == secret.arn and 0 < record.value.deletes_at <= now:
                self.remove(tx, scope, record.value)

        await self.db.write(delete)
        self._timers.pop(secret.arn, None)

    def remove(self, tx: Tx, scope: str, secret: Secret) -> None:
        """Delete a secret for good."""
        self.secrets.delete(tx, scope, secret.name)
        records.forget(tx, secret.arn)

    def place(self, call: Call, id: str, tx: Tx | None = None) -> tuple[str, Secret] | None:
        """Scope and secret of a name or an ARN, whose last seven characters may be left out; or None."""
        scope, name = call.scope, id
        if (found := _ARN.match(id)) is not None:
            scope, name = f"{found[2]}/{found[1]}", found[3]
            record = self.secrets.get(scope, name[:-7], tx)
            if record is not None and record.value.arn == id:
                return scope, record.value
        record = self.secrets.get(scope, name, tx)
        return None if record is None else (scope, record.value)

    def named(self, call: Call, id: str, tx: Tx | None = None, deleted: bool = False) -> tuple[str, Secret]:
        """Scope and secret of a name or an ARN. Raises ResourceNotFoundException and InvalidRequestException."""
        check_id(id)
        found = self.place(call, id, tx)
        if found is None:
            raise no_such_secret()
        if found[1].deletes_at and not deleted:
            raise AwsError(
                "InvalidRequestException",
                "You can't perform this operation on the secret because it was marked for deletion.",
            )
        return found

    async def edit(self, call: Call, id: str, change: Any, deleted: bool = False) -> Secret:
        """Set the fields that ``change`` makes of the secret as it is then; raises as ``named``."""

        def edit(tx: Tx) -> Secret:
            scope, secret = self.named(call, id, tx, deleted)
            return self.keep(tx, scope, replace(secret, **change(secret)))

        return await self.db.write(edit)

    def keep(self, tx: Tx, scope: str, secret: Secret) -> Secret:
        """Store a secret as it is now."""
        return self.secrets.put(tx, scope, secret.name, secret).value

    async def encrypted(self, call: Call, secret: Secret, id: str, input: Input) -> Version | None:
        """The version that a request's value makes, or None where it has no value. Raises EncryptionFailure."""
        if "SecretString" in input and "SecretBinary" in input:
            raise AwsError(
                "InvalidParameterException",
                "You can't specify both a binary secret value and a string secret value in the same secret.",
            )
        kind = next((name for name in ("SecretString", "SecretBinary") if name in input), "")
        if not kind:
            return None
        given = input[kind]
        plain: bytes = given.encode() if isinstance(given, str) else given
        digest = hashlib.sha256(id.encode() + plain).digest()
        return Version(id, self.clock.now(), kind, await self._seal(call, secret, id, plain), digest)

    async def _seal(self, call: Call, secret: Secret, id: str, plain: bytes) -> bytes:
        kms: Any = await self.cloud.service("kms")
        try:
            sealed: bytes = await kms.seal(
                call.account, call.region, secret.kms_key or _DEFAULT_KEY, plain, _context(secret, id)
            )
        except AwsError as error:
            if error.code not in _KMS_ERRORS:
                raise
            raise AwsError(
                "EncryptionFailure",
                "Secrets Manager can't encrypt the protected secret text using the provided KMS key. Check that the "
                "KMS key is available, enabled, and not in an invalid state.",
            ) from None
        return sealed

    async def reencrypted(self, call: Call, secret: Secret, version: Version) -> Version:
        """A version under the key that the secret has now."""
        plain = await self.decrypted(call, secret, version)
        return version._replace(value=await self._seal(call, secret, version.id, plain))

    async def decrypted(self, call: Call, secret: Secret, version: Version) -> bytes:
        """A version's plaintext. Raises DecryptionFailure."""
        kms: Any = await self.cloud.service("kms")
        try:
            plain: bytes = await kms.unseal(call.account, call.region, version.value, _context(secret, version.id))
        except AwsError as error:
            if error.code not in (*_KMS_ERRORS, "InvalidCiphertextException"):
                raise
            raise AwsError(
                "DecryptionFailure",
                "Secrets Manager can't decrypt the protected secret text using the provided KMS key.",
            ) from None
        return plain

    def stage(self, tx: Tx, scope: str, secret: Secret, version: Version, stages: list[str]) -> Secret:
        """Store a version and move staging labels to it. Raises ResourceExistsException."""
        known = records.get(tx, secret.arn, version.id)
        if known is not None and known.kind and known.digest != version.digest:
            raise token_in_use(version.id, secret)
        if known is not None and known.kind:
            return secret
        records.put(tx, secret.arn, version)
        secret = replace(secret, stages=moved(secret.stages, version.id, stages), changed=version.made)
        self._prune(tx, secret)
        return self.keep(tx, scope, secret)

    def _prune(self, tx: Tx, secret: Secret) -> None:
        """Give up the oldest versions without staging labels where there are too many."""
        staged = set(secret.stages.values())
        deprecated = [version.id for version in records.versions(tx, secret.arn) if version.id not in staged]
        for id in deprecated[:-_DEPRECATED_AT_MOST]:
            records.drop(tx, secret.arn, id)


def check_name(name: str) -> None:
    """A secret's name. Raises ValidationException."""
    if _NAME.fullmatch(name) is None:
        raise AwsError(
            "ValidationException",
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
        )


def check_id(id: str) -> None:
    """What a secret is asked for by: its name or its ARN. Raises ValidationException."""
    if not id.startswith("arn:"):
        check_name(id)


def token_of(call: Call, input: Input) -> str:
    """The id of the version that a request makes. Raises InvalidRequestException.

    Clients give it, SDKs by themselves; a service that calls need not.
    """
    token: str = input.get("ClientRequestToken", "")
    if not token and call.request is not None:
        raise AwsError(
            "InvalidRequestException",
            "You must provide a ClientRequestToken value. We recommend a UUID-type value.",
        )
    return token or str(uuid.uuid4())


def moved(stages: dict[str, str], id: str, labels: list[str]) -> dict[str, str]:
    """Staging labels after some were moved to a version; what was current becomes the previous one."""
    after = {**stages, **dict.fromkeys(labels, id)}
    before = stages.get(CURRENT)
    if CURRENT in labels and before is not None and before != id:
        after[PREVIOUS] = before
    return after


def _context(secret: Secret, id: str) -> dict[str, str]:
    return {"SecretARN": secret.arn, "SecretVersionId": id}


def no_such_secret() -> AwsError:
    """The secret is not there."""
    return AwsError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")


def token_in_use(token: str, secret: Secret) -> AwsError:
    """The secret has a version of that id, with another value."""
    return AwsError(
        "ResourceExistsException",
        f"You can't use ClientRequestToken {token} because that value is already in use for a version of secret "
        f"{secret.arn}.",
    )
