"""What all operations of AWS Private CA stand on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.acm_pca import records
from cloudlet.services.acm_pca.records import CertificateAuthority
from cloudlet.services.api import Call, Input, Output, Tagged, tags_in
from cloudlet.services.pages import page_at
from cloudlet.store import Database, Resources, Tx

SELF = "acm-pca.amazonaws.com"
REPEATED = 300.0  # seconds for which an idempotency token holds
_ARN = re.compile(r"arn:aws[\w-]*:acm-pca:([a-z0-9-]+):(\d{12}):certificate-authority/([\w-]+)\Z")


class Base(api.Service):
    """The state of the service, and what is due."""

    name = "acm-pca"

    db: Database
    authorities: Resources[CertificateAuthority]

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name, records.MIGRATIONS)
        self.authorities = self.db.resources(CertificateAuthority)
        self._timers: dict[str, Timer] = {}
        for record in self.authorities.all():
            self.plan(record.value)

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        try:
            found = self.authority(input.get("CertificateAuthorityArn") or input.get("ResourceArn", ""))
        except AwsError:
            return None
        return found.policy or None

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {"type": "AWS::ACMPCA::CertificateAuthority", "name": record.name, "arn": record.value.arn}
            for record in self.authorities.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self.authorities)

    def authority(self, arn: str, tx: Tx | None = None) -> CertificateAuthority:
        """An authority by its ARN. Raises InvalidArnException and ResourceNotFoundException."""
        form = _ARN.match(arn)
        if form is None:
            raise AwsError("InvalidArnException", f"The ARN {arn} is not a valid certificate authority ARN.")
        record = self.authorities.get(f"{form[2]}/{form[1]}", form[3], tx)
        if record is None:
            raise AwsError("ResourceNotFoundException", f"Could not find Certificate Authority {arn}.")
        return record.value

    async def change(self, arn: str, fn: Callable[[CertificateAuthority], dict[str, Any]]) -> CertificateAuthority:
        """Set the fields that ``fn`` makes of an authority as it is then. Raises ResourceNotFoundException."""

        def work(tx: Tx) -> CertificateAuthority:
            found = self.authority(arn, tx)
            changed = replace(found, **fn(found))
            return self.authorities.put(tx, found.scope, found.id, changed).value

        return await self.db.write(work)

    def plan(self, authority: CertificateAuthority) -> None:
        """See that an authority is forgotten, or publishes its list again, when its time comes."""
        if (timer := self._timers.pop(authority.arn, None)) is not None:
            timer.cancel()
        if authority.status == "DELETED":
            due, work = authority.restorable_until, self._forget
        elif authority.crl and authority.certificate:
            # Half of its time is left when the next one comes, as with AWS.
            due, work = authority.listed + authority.crl["ExpirationInDays"] * 43_200.0, self.publish
        else:
            return
        arn = authority.arn
        self._timers[arn] = self.clock.call_at(due, lambda: self.cloud.spawn(work(arn), f"acm-pca looks after {arn}"))

    async def publish(self, arn: str) -> None:
        """Write the list of what is revoked, where the authority has one."""
        raise NotImplementedError

    async def _forget(self, arn: str) -> None:
        now = self.clock.now()

        def work(tx: Tx) -> None:
            found = self.authority(arn, tx)
            if found.status == "DELETED" and found.restorable_until <= now:
                self.authorities.delete(tx, found.scope, found.id)
                records.forget(tx, arn)

        await self.db.write(work)


def token_of(input: Input) -> str:
    """An idempotency token with a digest of what it came with; empty where there is none."""
    if "IdempotencyToken" not in input:
        return ""
    return f"{input['IdempotencyToken']} {hashlib.sha256(msgspec.json.encode(input, order='sorted')).hexdigest()}"


def page(key: str, items: list[Any], input: Input) -> Output:
    """One page of a listing; tokens are positions. Raises InvalidNextTokenException."""
    refusal = AwsError("InvalidNextTokenException", "The token specified in the NextToken argument is not valid.")
    return page_at(key, items, input.get("NextToken"), input.get("MaxResults", 1000), refusal, "NextToken")


def checked_tags(tags: list[dict[str, str]]) -> dict[str, str]:
    """Tags as they are kept. Raises InvalidTagException."""
    if any(tag["Key"].lower().startswith("aws:") for tag in tags):
        raise AwsError("InvalidTagException", "AWS internal tags cannot be changed with this API")
    return {tag["Key"]: tag.get("Value", "") for tag in tags}
