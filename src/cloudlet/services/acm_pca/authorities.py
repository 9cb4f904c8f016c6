"""The life of certificate authorities: made, given a certificate, switched off and on, deleted, restored."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.acm_pca import signing
from cloudlet.services.acm_pca.base import REPEATED, Base, checked_tags, page, token_of
from cloudlet.services.acm_pca.pem import tidy
from cloudlet.services.acm_pca.records import CertificateAuthority
from cloudlet.services.api import Call, Input, Output

if TYPE_CHECKING:
    from cryptography import x509

_DAY = 86_400.0


class Authorities(Base):
    """Operations on authorities."""

    async def CreateCertificateAuthority(self, call: Call, input: Input) -> Output:
        configuration = input["CertificateAuthorityConfiguration"]
        algorithms = configuration["KeyAlgorithm"], configuration["SigningAlgorithm"]
        signing.check_algorithms(*algorithms, call.operation)
        if "SubjectInformationAccess" in configuration.get("CsrExtensions", {}):
            raise not_implemented("CreateCertificateAuthority with SubjectInformationAccess")
        if (storage := input.get("KeyStorageSecurityStandard", "")) == "CCPC_LEVEL_1_OR_HIGHER":
            raise not_implemented(f"CreateCertificateAuthority with KeyStorageSecurityStandard {storage}")
        tags = checked_tags(input.get("Tags", []))
        revocation = await self.checked_revocation(call, input.get("RevocationConfiguration", {}))
        token, now = token_of(input), self.clock.now()
        if token and (same := self._requested(call, token, now)) is not None:
            return {"CertificateAuthorityArn": same.arn}
        key, csr = await asyncio.to_thread(signing.new_authority, configuration)
        made = CertificateAuthority(
            api.arn("acm-pca", call, f"certificate-authority/{uuid.uuid4()}"),
            input["CertificateAuthorityType"],
            configuration,
            key,
            csr,
            now,
            now,
            revocation=revocation,
            storage=storage or "FIPS_140_2_LEVEL_3_OR_HIGHER",
            mode=input.get("UsageMode", "GENERAL_PURPOSE"),
            tags=tags,
            token=token,
        )
        await self.db.write(lambda tx: self.authorities.put(tx, call.scope, made.id, made))
        return {"CertificateAuthorityArn": made.arn}

    async def DescribeCertificateAuthority(self, call: Call, input: Input) -> Output:
        return {"CertificateAuthority": _shown(self.authority(input["CertificateAuthorityArn"]), self.clock.now())}

    async def ListCertificateAuthorities(self, call: Call, input: Input) -> Output:
        now = self.clock.now()
        # What other accounts share with this one comes through RAM, which is not here.
        own = input.get("ResourceOwner", "SELF") == "SELF"
        found = [record.value for record in self.authorities.list(call.scope)] if own else []
        found.sort(key=lambda one: (one.created, one.arn))
        return page("CertificateAuthorities", [_shown(one, now) for one in found], input)

    async def UpdateCertificateAuthority(self, call: Call, input: Input) -> Output:
        arn, wanted = input["CertificateAuthorityArn"], input.get("Status")
        if wanted not in (None, "ACTIVE", "DISABLED"):
            raise AwsError("InvalidArgsException", "The status must be ACTIVE or DISABLED.")
        self.authority(arn)
        fields: dict[str, Any] = {}
        if "RevocationConfiguration" in input:
            fields["revocation"] = await self.checked_revocation(call, input["RevocationConfiguration"])
        now = self.clock.now()

        def update(found: CertificateAuthority) -> dict[str, Any]:
            if found.status not in ("ACTIVE", "DISABLED"):
                raise _bad_state("The certificate authority must be in the ACTIVE or DISABLED state to be updated")
            return {**fields, **({"status": wanted, "changed": now} if wanted else {"changed": now})}

        changed = await self.change(arn, update)
        if fields:
            await self.publish(arn)
        else:
            self.plan(changed)
        return {}

    async def DeleteCertificateAuthority(self, call: Call, input: Input) -> Output:
        now, days = self.clock.now(), input.get("PermanentDeletionTimeInDays", 30)

        def delete(found: CertificateAuthority) -> dict[str, Any]:
            if found.state(now) in ("ACTIVE", "DELETED"):
                raise _bad_state("The certificate authority is not in a valid state for deletion.")
            return {"status": "DELETED", "restorable_until": now + days * _DAY, "changed": now}

        self.plan(await self.change(input["CertificateAuthorityArn"], delete))
        return {}

    async def RestoreCertificateAuthority(self, call: Call, input: Input) -> Output:
        now = self.clock.now()

        def restore(found: CertificateAuthority) -> dict[str, Any]:
            if found.status != "DELETED":
                raise _bad_state("The certificate authority is not in a valid state for restoration.")
            status = "DISABLED" if found.certificate else "PENDING_CERTIFICATE"
            return {"status": status, "restorable_until": 0.0, "changed": now}

        self.plan(await self.change(input["CertificateAuthorityArn"], restore))
        return {}

    async def GetCertificateAuthorityCsr(self, call: Call, input: Input) -> Output:
        found = self.authority(input["CertificateAuthorityArn"])
        if found.status == "DELETED":
            raise _no_request(found)
        return {"Csr": found.csr}

    async def GetCertificateAuthorityCertificate(self, call: Call, input: Input) -> Output:
        found = self.authority(input["CertificateAuthorityArn"])
        if found.status == "DELETED" or not found.certificate:
            raise _no_request(found)
        return {"Certificate": found.certificate, **({"CertificateChain": found.chain} if found.chain else {})}

    async def ImportCertificateAuthorityCertificate(self, call: Call, input: Input) -> Output:
        arn, pem, chain = input["CertificateAuthorityArn"], input["Certificate"], input.get("CertificateChain", b"")
        facts = await asyncio.to_thread(_read, self.authority(arn), pem, chain)
        now = self.clock.now()

        def bring(found: CertificateAuthority) -> dict[str, Any]:
            if found.status == "DELETED":
                raise _bad_state("The certificate authority is not in a valid state for importing a certificate.")
            status = "ACTIVE" if found.status == "PENDING_CERTIFICATE" else found.status
            return {**facts, "status": status, "changed": now}

        await self.change(arn, bring)
        await self.publish(arn)
        return {}

    async def checked_revocation(self, call: Call, given: dict[str, Any]) -> dict[str, Any]:
        """How revocations are told, as it is kept. Raises InvalidArgsException and NotImplemented."""
        raise NotImplementedError

    def _requested(self, call: Call, token: str, now: float) -> CertificateAuthority | None:
        for record in self.authorities.list(call.scope):
            if record.value.token == token and now < record.value.created + REPEATED:
                return record.value
        return None


def _shown(one: CertificateAuthority, now: float) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "Arn": one.arn,
        "OwnerAccount": one.scope.partition("/")[0],
        "CreatedAt": one.created,
        "LastStateChangeAt": one.changed,
        "Type": one.kind,
        "Status": one.state(now),
        "CertificateAuthorityConfiguration": one.configuration,
        "RevocationConfiguration": one.revocation or {"CrlConfiguration": {"Enabled": False}},
        "KeyStorageSecurityStandard": one.storage,
        "UsageMode": one.mode,
    }
    if one.certificate:
        shown |= {"Serial": one.serial, "NotBefore": one.not_before, "NotAfter": one.not_after}
    if one.status == "DELETED":
        shown["RestorableUntil"] = one.restorable_until
    return shown


def _read(authority: CertificateAuthority, pem: bytes, chain: bytes) -> dict[str, Any]:
    """What is kept of an authority's certificate, which must be its own and an authority's, under its chain."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization

    body, rest = tidy(pem), tidy(chain)
    try:
        own = x509.load_pem_x509_certificate(body.encode())
        above = x509.load_pem_x509_certificates(rest.encode()) if chain else []
    except ValueError:
        raise AwsError("MalformedCertificateException", "Malformed certificate.") from None
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    csr = x509.load_pem_x509_csr(authority.csr.encode())
    if own.public_key().public_bytes(*form) != csr.public_key().public_bytes(*form):
        raise AwsError(
            "CertificateMismatchException", "The certificate's public key is not that of the certificate authority."
        )
    if own.subject != csr.subject:
        raise AwsError("CertificateMismatchException", "The certificate's subject is not that of the CSR.")
    if not _is_authority(own):
        raise AwsError("MalformedCertificateException", "The certificate is not that of a certificate authority.")
    is_own = own.issuer == own.subject
    if authority.kind == "ROOT" and (not is_own or above):
        raise AwsError("InvalidRequestException", "A root certificate is signed by itself, and has no chain.")
    if authority.kind == "SUBORDINATE" and (is_own or not above):
        raise AwsError("InvalidRequestException", "A subordinate certificate is signed by another, and has a chain.")
    below = own
    for one in above or [own]:
        try:
            below.verify_directly_issued_by(one)
        except (ValueError, TypeError, InvalidSignature):
            raise AwsError(
                "CertificateMismatchException", "Could not validate the certificate with the certificate chain."
            ) from None
        below = one
    serial = f"{own.serial_number:x}"
    serial = serial.zfill(len(serial) + len(serial) % 2)
    return {
        "certificate": body,
        "chain": rest,
        "serial": ":".join(serial[index : index + 2] for index in range(0, len(serial), 2)),
        "not_before": own.not_valid_before_utc.timestamp(),
        "not_after": own.not_valid_after_utc.timestamp(),
    }


def _is_authority(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def _bad_state(message: str) -> AwsError:
    return AwsError("InvalidStateException", message)


def _no_request(found: CertificateAuthority) -> AwsError:
    return _bad_state(
        f"The certificate authority {found.arn} is not in the correct state to have a certificate signing request."
    )
