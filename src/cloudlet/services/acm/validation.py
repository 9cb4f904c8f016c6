"""How a requested certificate becomes an issued one: by records in this cloud's own zones, or after a moment.

Where a public hosted zone of this cloud covers a name, the certificate waits for the name's record in it, as with AWS.
Where none does, nobody could ever prove anything to us: such a name counts as proven after a moment.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.acm.base import Base
from cloudlet.services.acm.records import Certificate

_MOMENT = 1.0  # seconds
_LONGEST = 72 * 3600.0
_MAILBOXES = ("administrator", "hostmaster", "postmaster", "webmaster", "admin")


class Validation(Base):
    """Certificates that wait for their validation."""

    async def start(self) -> None:
        await super().start()
        self._waiting: dict[str, asyncio.Task[None]] = {}
        for record in self.certificates.all():
            self.validate(record.value)

    def validate(self, found: Certificate) -> None:
        """See that a certificate is issued once its names are proven, if it is waiting for that."""
        if found.status != "PENDING_VALIDATION":
            return
        task = self.cloud.spawn(self._validate(found), f"acm validates {found.arn}")
        self._waiting[found.arn] = task
        task.add_done_callback(lambda _: self._waiting.pop(found.arn, None))

    async def settled(self, certificate_arn: str) -> None:
        """Wait until a certificate is no longer waiting for its validation."""
        if (task := self._waiting.get(certificate_arn)) is not None:
            await asyncio.wait({task})

    def forget(self, certificate_arn: str) -> None:
        """Wait no longer for a certificate's validation: it is deleted."""
        if (task := self._waiting.get(certificate_arn)) is not None:
            task.cancel()

    async def _validate(self, found: Certificate) -> None:
        proof = asyncio.ensure_future(self._proven(found))
        late = asyncio.ensure_future(self.clock.sleep(found.created + _LONGEST - self.clock.now()))
        try:
            await asyncio.wait({proof, late}, return_when=asyncio.FIRST_COMPLETED)
            made: dict[str, Any] = {"status": "VALIDATION_TIMED_OUT"}
            if proof.done():
                proof.result()  # raises where it could not be looked for
                made = await self.made(found)
        finally:
            proof.cancel()
            late.cancel()
        try:
            await self.change(found.arn, lambda found: replace(found, **made))
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise

    async def _proven(self, found: Certificate) -> None:
        """Wait until every name is proven."""
        await self.clock.sleep(found.created + _MOMENT - self.clock.now())
        if found.method != "DNS":
            return
        account = found.arn.split(":")[4]
        records = [record_of(account, name) for name in found.names]
        zones: Any = await self.cloud.service("route53")
        async for _ in zones.record_changes():
            if all(zones.proves(record["Name"], record["Value"]) is not False for record in records):
                return


def record_of(account: str, name: str) -> dict[str, str]:
    """The record that proves a name. It is the same for every certificate of an account."""
    bare = name.removeprefix("*.")
    digest = hashlib.sha256(f"{account} {bare}".encode()).hexdigest()
    return {
        "Name": f"_{digest[:32]}.{bare}.",
        "Type": "CNAME",
        "Value": f"_{digest[32:]}.{digest[8:18]}.acm-validations.aws.",
    }


def option_of(account: str, found: Certificate, name: str) -> dict[str, Any]:
    """How a name is validated, as it is described."""
    status = {"ISSUED": "SUCCESS", "PENDING_VALIDATION": "PENDING_VALIDATION"}.get(found.status, "FAILED")
    shown: dict[str, Any] = {
        "DomainName": name,
        "ValidationDomain": found.validation_domains.get(
            name, name.removeprefix("*.") if found.method == "EMAIL" else name
        ),
        "ValidationStatus": status,
        "ValidationMethod": found.method,
    }
    if found.method == "DNS":
        return {**shown, "ResourceRecord": record_of(account, name)}
    return {**shown, "ValidationEmails": [f"{mailbox}@{shown['ValidationDomain']}" for mailbox in _MAILBOXES]}
