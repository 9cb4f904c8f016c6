"""What all operations of Parameter Store stand on: the database, names and ARNs, encryption, and expiry."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call
from cloudlet.services.ssm import records, rules
from cloudlet.services.ssm.records import Version, path_of
from cloudlet.store import Database, Tx

DEFAULT_KEY = "alias/aws/ssm"
_CHUNK = 100
_KMS_ERRORS = ("NotFoundException", "DisabledException", "KMSInvalidStateException", "InvalidKeyUsageException")


class Base(api.Service):
    """The state of the service."""

    name = "ssm"

    db: Database

    async def start(self) -> None:
        self.db = await self.cloud.store.database("ssm", records.MIGRATIONS)
        self._timer: Timer | None = None
        await self.plan_expiry()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def plan_expiry(self) -> None:
        """See that the next parameter to expire is deleted when its time comes; one timer serves them all."""
        when = await self.db.read(records.next_expiry)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self.clock.call_at(when, lambda: self.cloud.spawn(self._expire(), "ssm expires parameters"))

    async def _expire(self) -> None:
        def drop(tx: Tx) -> int:
            found = records.expiring(tx, now, _CHUNK)
            for scope, path in found:
                records.delete(tx, scope, path)
            return len(found)

        now = self.clock.now()
        while await self.db.write(drop):
            pass
        await self.plan_expiry()

    async def seal(self, call: Call, name: str, key_id: str, value: str) -> str:
        """A SecureString's value as it is stored. Raises InvalidKeyId."""
        kms: Any = await self.cloud.service("kms")
        context = {"PARAMETER_ARN": arn_of(call, name)}
        try:
            sealed: bytes = await kms.seal(call.account, call.region, key_id, value.encode(), context)
        except AwsError as error:
            if error.code in _KMS_ERRORS:
                raise AwsError("InvalidKeyId", error.message) from None
            raise
        return base64.b64encode(sealed).decode()

    async def shown_value(self, call: Call, version: Version, decrypt: bool) -> str:
        """A version's value as an answer has it: a SecureString is decrypted only when that is asked for."""
        if version.type != "SecureString" or not decrypt:
            return version.value
        kms: Any = await self.cloud.service("kms")
        context = {"PARAMETER_ARN": arn_of(call, version.name)}
        sealed = base64.b64decode(version.value)
        try:
            plain: bytes = await kms.unseal(call.account, call.region, sealed, context)
        except AwsError as error:
            if error.code in _KMS_ERRORS:
                raise AwsError("InvalidKeyId", error.message) from None
            raise
        return plain.decode()


def arn_of(call: Call, name: str) -> str:
    """A parameter's ARN: the slash at the head of a path is not doubled."""
    return api.arn("ssm", call, f"parameter/{name.removeprefix('/')}")


def find(tx: Tx, scope: str, reference: str) -> tuple[str, Version, str] | None:
    """A parameter by its name, perhaps with ``:version`` or ``:label``, or by its ARN: path, version and selector.

    Raises ValidationException and ParameterVersionNotFound.
    """
    if reference.startswith("arn:"):
        # Parameters of other accounts and regions are not shared with this one.
        parts = reference.split(":", 5)
        if len(parts) < 6 or f"{parts[4]}/{parts[3]}" != scope:
            return None
        reference = parts[5].removeprefix("parameter")
    name, _, selector = reference.strip().partition(":")
    rules.check_readable(name)
    path = path_of(name)
    found = records.latest(tx, scope, path)
    if found is None or not selector:
        return None if found is None else (path, found, "")
    if ":" in selector:
        return None
    number = int(selector) if selector.isdigit() else records.labels(tx, scope, path).get(selector)
    version = records.version(tx, scope, path, number) if number is not None else None
    if version is None:
        raise no_such_version(name, selector)
    return path, version, f":{selector}"


def no_such_parameter(name: str) -> AwsError:
    """The parameter is not there."""
    return AwsError("ParameterNotFound", f"Parameter {name} not found.")


def no_such_version(name: str, version: object) -> AwsError:
    """The parameter has no such version or label."""
    return AwsError(
        "ParameterVersionNotFound",
        f"Systems Manager could not find version {version} of {name}. Verify the version and try again.",
    )


def token_of(name: str) -> str:
    """A token for going on after a name."""
    return base64.urlsafe_b64encode(name.encode()).decode()


def read_token(token: str) -> str:
    """The name of a token. Raises InvalidNextToken."""
    try:
        return base64.urlsafe_b64decode(token.encode("ascii")).decode()
    except (binascii.Error, ValueError):
        raise AwsError("InvalidNextToken", "The specified token isn't valid.") from None
