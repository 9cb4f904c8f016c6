"""Certificates: issued by an authority, read again, revoked."""

from __future__ import annotations

import asyncio
import calendar
import datetime
import secrets
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.services.acm_pca import extensions, records, signing, templates
from cloudlet.services.acm_pca.base import REPEATED, Base, token_of
from cloudlet.services.acm_pca.pem import joined
from cloudlet.services.acm_pca.records import CertificateAuthority, Issued
from cloudlet.services.acm_pca.subjects import name_of
from cloudlet.services.acm_pca.templates import Template
from cloudlet.services.api import Call, Input, Output
from cloudlet.store import Tx

if TYPE_CHECKING:
    from cryptography import x509

_HOUR = 3600.0
_DAY = 86_400.0
_SHORT = 7 * _DAY  # the longest life under an authority of short-lived certificates


class Issuing(Base):
    """Operations on certificates."""

    async def IssueCertificate(self, call: Call, input: Input) -> Output:
        authority = self.authority(input["CertificateAuthorityArn"])
        template = templates.template(input.get("TemplateArn", templates.DEFAULT))
        algorithm = input["SigningAlgorithm"]
        signing.check_algorithms(authority.configuration["KeyAlgorithm"], algorithm, call.operation)
        csr = signing.read_csr(input["Csr"])
        self._check_state(authority, template, csr)
        given = input.get("ApiPassthrough", {})
        if given and not template.from_api:
            raise _invalid(f"The template {template.name} does not take ApiPassthrough.")
        start, end = self._validity(authority, template, input)
        token = token_of(input)
        now = self.clock.now()
        before = await self.db.read(lambda tx: records.with_token(tx, authority.arn, token, now - REPEATED))
        if before is not None:
            return {"CertificateArn": f"{authority.arn}/certificate/{before.serial}"}
        subject = name_of(given["Subject"]) if "Subject" in given else csr.subject
        found = {
            **extensions.of_csr(csr, all=template.from_csr),
            **extensions.of_api(given.get("Extensions", {})),
            **self.distribution(authority, template),
            **extensions.of_template(template),
        }
        serial = secrets.randbits(127) | 1 << 126
        try:
            pem = await asyncio.to_thread(
                signing.certify, authority, csr, subject, found, serial, start, end, algorithm
            )
        except (ValueError, TypeError) as error:
            raise AwsError("InvalidArgsException", f"The certificate cannot be made: {error}") from None
        chain = "" if template.is_root else joined(authority.certificate, authority.chain)
        issued = Issued(
            authority.arn,
            f"{serial:032x}",
            pem,
            chain,
            subject.rfc4514_string(),
            f"arn:aws:acm-pca:::template/{template.name}/V1",
            call.principal if call.request is None else "",
            start,
            end,
            now,
            token=token,
        )
        await self.db.write(lambda tx: records.add(tx, issued))
        return {"CertificateArn": f"{authority.arn}/certificate/{issued.serial}"}

    async def GetCertificate(self, call: Call, input: Input) -> Output:
        authority = self.authority(input["CertificateAuthorityArn"])
        if authority.status == "DELETED":
            raise AwsError(
                "InvalidStateException",
                f"The certificate authority {authority.arn} is not in the correct state to have issued certificates.",
            )
        arn = input["CertificateArn"]
        head, _, serial = arn.rpartition("/certificate/")
        found = await self.db.read(lambda tx: records.find(tx, head, serial))
        if found is None or head != authority.arn:
            raise AwsError("ResourceNotFoundException", f"Could not find Certificate {arn}.")
        return {"Certificate": found.certificate, **({"CertificateChain": found.chain} if found.chain else {})}

    async def RevokeCertificate(self, call: Call, input: Input) -> Output:
        authority = self.authority(input["CertificateAuthorityArn"])
        if authority.status not in ("ACTIVE", "DISABLED"):
            raise AwsError("InvalidStateException", "The certificate authority is not in a valid state for revocation.")
        try:
            serial = f"{int(input['CertificateSerial'].replace(':', ''), 16):032x}"
        except ValueError:
            raise AwsError("InvalidRequestException", "The certificate serial number is not valid.") from None
        now = self.clock.now()

        def revoke(tx: Tx) -> None:
            found = records.find(tx, authority.arn, serial)
            if found is None:
                raise AwsError("ResourceNotFoundException", f"Could not find Certificate {input['CertificateSerial']}.")
            if not found.chain:
                raise AwsError("InvalidRequestException", "Self-signed certificate can not be revoked")
            if found.revoked:
                raise AwsError("RequestAlreadyProcessedException", "The certificate has already been revoked.")
            records.revoke(tx, authority.arn, serial, now, input["RevocationReason"])

        await self.db.write(revoke)
        await self.publish(authority.arn)
        return {}

    def distribution(self, authority: CertificateAuthority, template: Template) -> extensions.Extensions:
        """Where a certificate says that revocations are listed."""
        raise NotImplementedError

    def _check_state(
        self, authority: CertificateAuthority, template: Template, csr: x509.CertificateSigningRequest
    ) -> None:
        """An authority without a certificate signs only its own. Raises InvalidStateException."""
        state = authority.state(self.clock.now())
        own = template.is_root and authority.kind == "ROOT" and signing.is_own_request(authority, csr)
        if state != "ACTIVE" and not (own and state in ("PENDING_CERTIFICATE", "EXPIRED")):
            raise AwsError(
                "InvalidStateException", "The certificate authority is not in a valid state for issuing certificates"
            )
        if template.is_root and not own:
            raise _invalid(f"The template {template.name} is for the CSR of a root certificate authority of its own.")

    def _validity(self, authority: CertificateAuthority, template: Template, input: Input) -> tuple[float, float]:
        """From when to when, in epoch seconds. Raises ValidationException and InvalidArgsException."""
        # Clients judge certificates by their own clock, which is not moved with the cloud's.
        now = self.clock.now() - self.clock.offset
        start = now - _HOUR
        if (wanted := input.get("ValidityNotBefore")) is not None:
            if wanted["Type"] not in ("ABSOLUTE", "END_DATE"):
                raise AwsError("InvalidArgsException", "ValidityNotBefore must be of type ABSOLUTE or END_DATE.")
            start = _moment(wanted, now)
        end = _moment(input["Validity"], now)
        if end <= max(start, now):
            raise _invalid("The certificate validity specified ends before it begins.")
        if template.is_root:
            return start, end
        if end > authority.not_after:
            raise _invalid("The certificate validity specified exceeds the certificate authority validity")
        if authority.mode == "SHORT_LIVED_CERTIFICATE" and end > now + _SHORT + 1:
            raise _invalid(
                "The certificate validity specified exceeds the limit of 7 days of this certificate authority"
            )
        return start, end


def _moment(validity: dict[str, Any], now: float) -> float:
    """The end of a validity, in epoch seconds. Raises InvalidArgsException."""
    kind, value = validity["Type"], validity["Value"]
    try:
        if kind == "ABSOLUTE":
            moment = float(value)
        elif kind == "DAYS":
            moment = now + value * _DAY
        elif kind == "END_DATE":
            text = str(value)
            text = text.zfill(12) if len(text) <= 12 else text
            # Years of two digits are those of UTCTime: from 1950 to 2049.
            century = "" if len(text) == 14 else ("20" if text < "50" else "19")
            moment = datetime.datetime.strptime(f"{century}{text}+0000", "%Y%m%d%H%M%S%z").timestamp()
        else:
            moment = _months_later(now, value * (12 if kind == "YEARS" else 1))
        datetime.datetime.fromtimestamp(moment, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        raise AwsError("InvalidArgsException", f"The validity {value} of type {kind} is not valid.") from None
    return moment


def _months_later(now: float, months: int) -> float:
    start = datetime.datetime.fromtimestamp(now, datetime.UTC)
    years, month = divmod(start.month - 1 + months, 12)
    year = start.year + years
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day).timestamp()


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)
