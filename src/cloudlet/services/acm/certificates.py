"""Certificates: requested, imported, exported, renewed, listed, deleted."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from typing import Any

import msgspec
from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.acm import reading
from cloudlet.services.acm.base import place_of
from cloudlet.services.acm.records import Certificate, Configuration
from cloudlet.services.acm.tags import checked
from cloudlet.services.acm.validation import Validation, option_of
from cloudlet.services.api import Call, Input, Output
from cloudlet.store import Tx

_HOUR = 3600.0
_FAILURES = {
    "AccessDeniedException": "PCA_ACCESS_DENIED",
    "InvalidArgsException": "PCA_INVALID_ARGS",
    "InvalidArnException": "PCA_INVALID_ARN",
    "InvalidStateException": "PCA_INVALID_STATE",
    "ResourceNotFoundException": "PCA_RESOURCE_NOT_FOUND",
}
_LISTED = ("RSA_1024", "RSA_2048")  # what is listed when nobody asks for other key types


class Certificates(Validation):
    """Operations on certificates."""

    async def RequestCertificate(self, call: Call, input: Input) -> Output:
        for parameter in ("ManagedBy", "RootHierarchyType", "CertificateUsage"):
            if parameter in input:
                raise not_implemented(f"RequestCertificate with {parameter}")
        if "CertificateAuthorityArn" in input and "ValidationMethod" in input:
            raise reading.invalid("ValidationMethod is not supported for private certificates.")
        if input.get("ValidationMethod") == "HTTP":
            raise not_implemented("RequestCertificate with ValidationMethod HTTP")
        domain = input["DomainName"].lower()
        names = list(dict.fromkeys((domain, *(name.lower() for name in input.get("SubjectAlternativeNames", ())))))
        tags = checked(input.get("Tags", []))
        domains = _validation_domains(names, input.get("DomainValidationOptions", []))
        digest = hashlib.sha256(msgspec.json.encode(input, order="sorted")).hexdigest()
        token = f"{input['IdempotencyToken']} {digest}" if "IdempotencyToken" in input else ""
        now = self.clock.now()
        if token and (same := self._requested(call, token, now)) is not None:
            return {"CertificateArn": same.arn}
        options, authority = input.get("Options", {}), input.get("CertificateAuthorityArn", "")
        id, algorithm = str(uuid.uuid4()), input.get("KeyAlgorithm", "RSA_2048")
        made = Certificate(
            arn=api.arn("acm", call, f"certificate/{id}"),
            domain=domain,
            names=names,
            kind="PRIVATE" if authority else "AMAZON_ISSUED",
            body="",
            chain="",
            key="",
            algorithm=algorithm,
            signature="SHA256WITHRSA",
            serial="",
            subject=f"CN={domain}",
            issuer="" if authority else "Amazon",
            not_before=0.0,
            not_after=0.0,
            created=now,
            issued=0.0,
            usages=[],
            extended_usages=[],
            method="" if authority else input.get("ValidationMethod", "EMAIL"),
            validation_domains=domains,
            transparency=options.get("CertificateTransparencyLoggingPreference", "ENABLED"),
            export=options.get("Export", "DISABLED"),
            tags=tags,
            status="PENDING_VALIDATION",
            authority=authority,
            token=token,
        )
        if authority:
            made = await self._private(made)
        await self.db.write(lambda tx: self.certificates.put(tx, call.scope, id, made))
        self.validate(made)
        return {"CertificateArn": made.arn}

    async def ImportCertificate(self, call: Call, input: Input) -> Output:
        body, key, chain = input["Certificate"], input["PrivateKey"], input.get("CertificateChain", b"")
        tags = checked(input.get("Tags", []))
        arn = input.get("CertificateArn")
        old = self.certificate(arn) if arn is not None else None
        if old is not None and tags:
            raise reading.invalid("Tagging is not permitted on re-import.")
        if old is not None and old.kind != "IMPORTED":
            raise reading.invalid(f"The certificate {arn} was not imported: it cannot be imported again.")
        now = self.clock.now()
        await asyncio.to_thread(reading.check_import, body, key, chain, now)
        facts = reading.describe(body.decode())
        pems = {"body": body.decode(), "key": key.decode(), "chain": chain.decode()}
        if arn is not None:
            await self.change(arn, lambda found: replace(found, **facts, **pems, issued=now))
            return {"CertificateArn": arn}
        id = str(uuid.uuid4())
        arn = api.arn("acm", call, f"certificate/{id}")
        made = Certificate(**facts, **pems, arn=arn, kind="IMPORTED", created=now, issued=now, tags=tags)
        await self.db.write(lambda tx: self.certificates.put(tx, call.scope, id, made))
        return {"CertificateArn": arn}

    async def GetCertificate(self, call: Call, input: Input) -> Output:
        found = self.certificate(input["CertificateArn"])
        _check_issued(found)
        return {"Certificate": found.body, **({"CertificateChain": found.chain} if found.chain else {})}

    async def ExportCertificate(self, call: Call, input: Input) -> Output:
        from cryptography.hazmat.primitives import serialization

        found = self.certificate(input["CertificateArn"])
        if found.kind != "PRIVATE" and found.export != "ENABLED":
            raise reading.invalid(f"Certificate ARN: {found.arn} is not a private certificate")
        _check_issued(found)
        if set(input["Passphrase"]) & set(b"#$%"):
            raise reading.invalid("The passphrase must not contain #, $ or %.")
        key = serialization.load_pem_private_key(found.key.encode(), None)
        pem = await asyncio.to_thread(
            key.private_bytes,
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(input["Passphrase"]),
        )
        await self.change(found.arn, lambda found: replace(found, exported=True))
        return {"Certificate": found.body, "CertificateChain": found.chain, "PrivateKey": pem.decode()}

    async def DescribeCertificate(self, call: Call, input: Input) -> Output:
        found = self.certificate(input["CertificateArn"])
        options = {"CertificateTransparencyLoggingPreference": found.transparency}
        detail: dict[str, Any] = {
            **_common(found, self.clock.now()),
            "SubjectAlternativeNames": found.names,
            "Subject": found.subject,
            "Issuer": found.issuer,
            "SignatureAlgorithm": found.signature,
            "InUseBy": found.used_by,
            "KeyUsages": [{"Name": usage} for usage in found.usages],
            "ExtendedKeyUsages": [{"Name": name, "OID": oid} for name, oid in found.extended_usages],
            "Options": options,
        }
        if found.serial:
            detail["Serial"] = found.serial
        if found.failure:
            detail["FailureReason"] = found.failure
        if found.authority:
            detail["CertificateAuthorityArn"] = found.authority
        if found.kind == "AMAZON_ISSUED":
            options["Export"] = found.export
            validations = [option_of(call.account, found, name) for name in found.names]
            detail["DomainValidationOptions"] = validations
            if found.renewed:
                detail["RenewalSummary"] = {
                    "RenewalStatus": "SUCCESS",
                    "DomainValidationOptions": validations,
                    "UpdatedAt": found.renewed,
                }
        return {"Certificate": detail}

    async def ListCertificates(self, call: Call, input: Input) -> Output:
        if "SortOrder" in input and "SortBy" not in input:
            raise reading.invalid("SortBy is required when SortOrder is specified.")
        now = self.clock.now()
        found = [r.value for r in self.certificates.list(call.scope) if _is_included(r.value, input, now)]
        found.sort(key=lambda one: (one.created, one.arn), reverse=input.get("SortOrder") == "DESCENDING")
        arns = [one.arn for one in found]
        start = arns.index(input["NextToken"]) if input.get("NextToken") in arns else 0
        end = start + input.get("MaxItems", 1000)
        output: Output = {"CertificateSummaryList": [_summary(one, now) for one in found[start:end]]}
        if end < len(found):
            output["NextToken"] = arns[end]
        return output

    async def DeleteCertificate(self, call: Call, input: Input) -> Output:
        def work(tx: Tx) -> None:
            found = self.certificate(input["CertificateArn"], tx)
            if found.used_by:
                raise AwsError(
                    "ResourceInUseException", f"Certificate {found.arn} in account {call.account} is in use."
                )
            scope, id = place_of(found.arn)
            self.certificates.delete(tx, scope, id)

        await self.db.write(work)
        self.forget(input["CertificateArn"])
        return {}

    async def RenewCertificate(self, call: Call, input: Input) -> Output:
        found = self.certificate(input["CertificateArn"])
        if not _is_eligible(found):
            raise reading.invalid(f"Certificate {found.arn} is not eligible for renewal.")
        await self.renewed(found)
        return {}

    async def UpdateCertificateOptions(self, call: Call, input: Input) -> Output:
        options = input["Options"]
        if "ValidationMethod" in options:
            raise not_implemented("UpdateCertificateOptions with ValidationMethod")

        def update(found: Certificate) -> Certificate:
            if found.kind == "IMPORTED":
                raise AwsError("InvalidStateException", f"Certificate {found.arn} is imported: it has no options.")
            return replace(
                found,
                transparency=options.get("CertificateTransparencyLoggingPreference", found.transparency),
                export=options.get("Export", found.export),
            )

        await self.change(input["CertificateArn"], update)
        return {}

    async def ResendValidationEmail(self, call: Call, input: Input) -> Output:
        found = self.certificate(input["CertificateArn"])
        if found.status == "PENDING_VALIDATION" and found.method == "EMAIL":
            raise not_implemented("ResendValidationEmail: no mail is sent, and the names count as proven")
        raise AwsError("InvalidStateException", f"The certificate {found.arn} is not waiting for validation.")

    async def GetAccountConfiguration(self, call: Call, input: Input) -> Output:
        record = self.configurations.get(call.scope, "")
        return {"ExpiryEvents": {"DaysBeforeExpiry": record.value.days_before_expiry if record else 45}}

    async def PutAccountConfiguration(self, call: Call, input: Input) -> Output:
        days = input.get("ExpiryEvents", {}).get("DaysBeforeExpiry")
        if days is None:
            raise reading.invalid("Configuration for events is empty.")
        now = self.clock.now()

        def work(tx: Tx) -> None:
            record = self.configurations.get(call.scope, "", tx)
            if record and record.value.token == input["IdempotencyToken"] and now < record.value.set_at + _HOUR:
                return
            self.configurations.put(tx, call.scope, "", Configuration(days, input["IdempotencyToken"], now))

        await self.db.write(work)
        return {}

    async def _private(self, wanted: Certificate) -> Certificate:
        """A certificate as its private authority has issued it, or refused to."""
        try:
            return replace(wanted, **await self.made(wanted))
        except AwsError as error:
            reason = _FAILURES.get(error.code, "PCA_REQUEST_FAILED")
            if error.code == "ValidationException" and "exceeds" in error.message:
                reason = "PCA_INVALID_DURATION"
            return replace(wanted, status="FAILED", failure=reason)

    def _requested(self, call: Call, token: str, now: float) -> Certificate | None:
        """The certificate that the same request has made within the last hour."""
        for record in self.certificates.list(call.scope):
            if record.value.token == token and now < record.value.created + _HOUR:
                return record.value
        return None


def _validation_domains(names: list[str], options: list[dict[str, str]]) -> dict[str, str]:
    """Where each name's e-mail goes to. Raises InvalidDomainValidationOptionsException."""
    domains = {}
    for option in options:
        name, domain = option["DomainName"].lower(), option["ValidationDomain"].lower()
        if name not in names or not f".{name}".endswith(f".{domain}"):
            raise AwsError(
                "InvalidDomainValidationOptionsException",
                f"The validation domain {domain} is not a superdomain of {name}, or {name} is not requested.",
            )
        domains[name] = domain
    return domains


def _is_eligible(found: Certificate) -> bool:
    return found.kind != "IMPORTED" and found.status == "ISSUED" and (found.exported or bool(found.used_by))


def _status(found: Certificate, now: float) -> str:
    return "EXPIRED" if found.status == "ISSUED" and now > found.not_after else found.status


def _check_issued(found: Certificate) -> None:
    """Raises RequestInProgressException."""
    if found.status != "ISSUED":
        raise AwsError(
            "RequestInProgressException",
            f"The certificate request for {found.arn} is in progress and the certificate has not yet been issued.",
        )


def _common(found: Certificate, now: float) -> dict[str, Any]:
    dates: dict[str, Any] = {"CreatedAt": found.created}
    if found.issued:
        dates["ImportedAt" if found.kind == "IMPORTED" else "IssuedAt"] = found.issued
        dates |= {"NotBefore": found.not_before, "NotAfter": found.not_after}
    return {
        **dates,
        "CertificateArn": found.arn,
        "DomainName": found.domain,
        "Status": _status(found, now),
        "Type": found.kind,
        "KeyAlgorithm": found.algorithm,
        "RenewalEligibility": "ELIGIBLE" if _is_eligible(found) else "INELIGIBLE",
    }


def _summary(found: Certificate, now: float) -> dict[str, Any]:
    summary = {
        **_common(found, now),
        "SubjectAlternativeNameSummaries": found.names[:100],
        "HasAdditionalSubjectAlternativeNames": len(found.names) > 100,
        "KeyUsages": found.usages,
        "ExtendedKeyUsages": [name for name, _ in found.extended_usages],
        "InUse": bool(found.used_by),
        "Exported": found.exported,
    }
    if found.kind != "IMPORTED":
        summary["ExportOption"] = found.export
    return summary


def _is_included(found: Certificate, input: Input, now: float) -> bool:
    statuses, wanted = input.get("CertificateStatuses"), input.get("Includes", {})
    if (statuses and _status(found, now) not in statuses) or "managedBy" in wanted or "RootHierarchyTypes" in input:
        return False
    origin = "CUSTOMER_PROVIDED" if found.kind == "IMPORTED" else "AWS_MANAGED"
    if origin not in input.get("CertificateKeyPairOrigins", (origin,)):
        return False
    if found.algorithm not in (wanted.get("keyTypes") or _LISTED):
        return False
    if "exportOption" in wanted and (found.kind == "IMPORTED" or found.export != wanted["exportOption"]):
        return False
    extended = {name for name, _ in found.extended_usages}
    return set(wanted.get("keyUsage", ())) <= set(found.usages) and set(wanted.get("extendedKeyUsage", ())) <= extended
