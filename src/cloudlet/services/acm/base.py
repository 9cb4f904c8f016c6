"""What all operations of ACM stand on, and what other services ask it for in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.acm import reading
from cloudlet.services.acm.authority import Authority, request
from cloudlet.services.acm.records import Certificate, Configuration
from cloudlet.store import Database, Resources, Tx

log = logging.getLogger("cloudlet.acm")

SELF = "acm.amazonaws.com"
RENEWS = 60 * 86_400.0  # so long before a certificate's end another takes its place


class Base(api.Service):
    """The state of the service."""

    name = "acm"

    db: Database
    certificates: Resources[Certificate]
    configurations: Resources[Configuration]

    async def start(self) -> None:
        self.db = await self.cloud.store.database("acm")
        self.certificates = self.db.resources(Certificate)
        self.configurations = self.db.resources(Configuration)
        self._authority = Authority(self.cloud.data_dir / "acm")
        self._issuing = asyncio.Lock()

    async def authority_pem(self) -> str:
        """The certificate that a client has to trust, in PEM."""
        async with self._issuing:
            return await asyncio.to_thread(self._authority.pem, self._issued_at)

    async def material(self, certificate_arn: str) -> tuple[str, str]:
        """A certificate with its chain, and its key, both in PEM: what terminates TLS.

        An issued certificate that comes near its end is renewed. Raises ResourceNotFoundException, and
        InvalidStateException where it is not issued.
        """
        found = self.certificate(certificate_arn)
        if found.status != "ISSUED":
            raise AwsError("InvalidStateException", f"Certificate {found.arn} is not issued.")
        if found.kind != "IMPORTED" and self.clock.now() > found.not_after - RENEWS:
            try:
                found = await self.renewed(found)
            except AwsError as error:
                log.warning("%s is not renewed, its authority refuses: %s", found.arn, error)
        return found.body.rstrip("\n") + "\n" + found.chain, found.key

    async def use(self, certificate_arn: str, resource_arn: str) -> None:
        """Note that a resource uses a certificate, so that it is not deleted. Raises ResourceNotFoundException."""

        def add(found: Certificate) -> Certificate:
            return replace(found, used_by=[*(arn for arn in found.used_by if arn != resource_arn), resource_arn])

        await self.change(certificate_arn, add)

    async def release(self, certificate_arn: str, resource_arn: str) -> None:
        """Note that a resource uses a certificate no longer; neither has to be there."""

        def remove(found: Certificate) -> Certificate:
            return replace(found, used_by=[arn for arn in found.used_by if arn != resource_arn])

        try:
            await self.change(certificate_arn, remove)
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise

    async def issued(
        self, names: list[str], algorithm: str, authority: str = ""
    ) -> tuple[dict[str, Any], str, str, str]:
        """A new certificate: what it says of itself, its body, its chain and its key.

        The authority is the local one, or a private one by its ARN. Raises as that one does.
        """
        if authority:
            return await self._issued_by(authority, names, algorithm)
        async with self._issuing:
            body, key = await asyncio.to_thread(self._authority.issue, names, algorithm, self._issued_at)
            chain = await asyncio.to_thread(self._authority.pem, self._issued_at)
        return reading.describe(body), body, chain, key

    async def renewed(self, old: Certificate) -> Certificate:
        """Another certificate in the place of one, for the same names and with the same ARN."""
        made = await self.made(old)
        return await self.change(old.arn, lambda found: replace(found, **made, renewed=made["issued"]))

    async def made(self, found: Certificate) -> dict[str, Any]:
        """What of a certificate is another when it has been issued. Raises as the authority does."""
        facts, body, chain, key = await self.issued(found.names, found.algorithm, found.authority)
        # Its names are as they were asked for, and whoever asks for a public one sees Amazon as its issuer.
        own = {"domain": found.domain, "names": found.names}
        own |= {} if found.authority else {"issuer": "Amazon"}
        place = {"body": body, "chain": chain, "key": key, "issued": self.clock.now(), "status": "ISSUED"}
        return {**facts, **own, **place}

    async def _issued_by(
        self, authority: str, names: list[str], algorithm: str
    ) -> tuple[dict[str, Any], str, str, str]:
        account, region = authority.split(":")[4], authority.split(":")[3]
        key, csr = await asyncio.to_thread(request, names, algorithm)
        place = {"CertificateAuthorityArn": authority}

        async def ask(operation: str, **input: Any) -> dict[str, Any]:
            input |= place
            return await self.cloud.call("acm-pca", operation, input, account=account, region=region, principal=SELF)

        found = (await ask("DescribeCertificateAuthority"))["CertificateAuthority"]
        signing = found["CertificateAuthorityConfiguration"]["SigningAlgorithm"]
        validity = {"Type": "DAYS", "Value": 395}
        issued = await ask("IssueCertificate", Csr=csr.encode(), SigningAlgorithm=signing, Validity=validity)
        pem = await ask("GetCertificate", CertificateArn=issued["CertificateArn"])
        body, chain = pem["Certificate"] + "\n", pem["CertificateChain"] + "\n"
        return reading.describe(body), body, chain, key

    async def change(self, certificate_arn: str, fn: Callable[[Certificate], Certificate]) -> Certificate:
        """Store what ``fn`` makes of a certificate. Raises ResourceNotFoundException."""

        def work(tx: Tx) -> Certificate:
            scope, id = place_of(certificate_arn)
            changed = fn(self.certificate(certificate_arn, tx))
            return self.certificates.put(tx, scope, id, changed).value

        return await self.db.write(work)

    def certificate(self, certificate_arn: str, tx: Tx | None = None) -> Certificate:
        """A certificate by its ARN. Raises ResourceNotFoundException."""
        scope, id = place_of(certificate_arn)
        record = self.certificates.get(scope, id, tx)
        if record is None:
            account = certificate_arn.split(":")[4]
            raise AwsError(
                "ResourceNotFoundException",
                f"Could not find certificate {certificate_arn} in account {account}.",
            )
        return record.value

    @property
    def _issued_at(self) -> float:
        # Clients judge certificates by their own clock, which is not moved with the cloud's.
        return self.clock.now() - self.clock.offset


def place_of(certificate_arn: str) -> tuple[str, str]:
    """The scope and the id that an ARN names. The model has judged its form."""
    parts = certificate_arn.split(":", 5)
    return f"{parts[4]}/{parts[3]}", parts[5].removeprefix("certificate/")
