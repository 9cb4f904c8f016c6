"""What is told of revocations: lists in S3, and audit reports."""

from __future__ import annotations

import asyncio
import csv
import datetime
import io
import json
import logging
import uuid
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.acm_pca import records, signing
from cloudlet.services.acm_pca.base import SELF, Base
from cloudlet.services.acm_pca.extensions import Extensions
from cloudlet.services.acm_pca.records import CertificateAuthority, Issued, Report
from cloudlet.services.acm_pca.templates import Template
from cloudlet.services.api import Call, Input, Output

log = logging.getLogger("cloudlet.acm_pca")

_COLUMNS = (
    *("awsAccountId", "requestedByServicePrincipal", "certificateArn", "serial", "subject", "notBefore", "notAfter"),
    *("issuedAt", "revokedAt", "revocationReason", "templateArn"),
)


class Revocation(Base):
    """The list of each authority that has one, and reports."""

    async def CreateCertificateAuthorityAuditReport(self, call: Call, input: Input) -> Output:
        authority = self.authority(input["CertificateAuthorityArn"])
        found = await self.db.scan(lambda tx: records.of(tx, authority.arn))
        rows = [_row(authority, one) for one in sorted(found, key=lambda one: one.issued)]
        format = input["AuditReportResponseFormat"]
        id = str(uuid.uuid4())
        key = f"audit-report/{authority.id}/{id}.{format.lower()}"
        await self._put(authority, input["S3BucketName"], key, _written(rows, format))
        report = Report(id, authority.arn, input["S3BucketName"], key, self.clock.now())
        await self.db.write(lambda tx: records.add_report(tx, report))
        return {"AuditReportId": id, "S3Key": key}

    async def DescribeCertificateAuthorityAuditReport(self, call: Call, input: Input) -> Output:
        authority, id = self.authority(input["CertificateAuthorityArn"]), input["AuditReportId"]
        found = await self.db.read(lambda tx: records.report(tx, authority.arn, id))
        if found is None:
            raise AwsError("ResourceNotFoundException", f"Could not find Audit Report {id}.")
        place = {"S3BucketName": found.bucket, "S3Key": found.key, "CreatedAt": found.created}
        return {"AuditReportStatus": "SUCCESS", **place}

    async def checked_revocation(self, call: Call, given: dict[str, Any]) -> dict[str, Any]:
        """How revocations are told, as it is kept. Raises InvalidArgsException and NotImplemented."""
        if given.get("OcspConfiguration", {}).get("Enabled"):
            raise not_implemented(f"{call.operation} with OcspConfiguration")
        crl = given.get("CrlConfiguration", {})
        if not crl.get("Enabled"):
            return given
        for member, usual in (("CrlType", "COMPLETE"), ("CustomPath", "")):
            if crl.get(member, usual) != usual:
                raise not_implemented(f"{call.operation} with CrlConfiguration.{member} {crl[member]}")
        if "S3BucketName" not in crl:
            raise AwsError("InvalidArgsException", "An S3 bucket name is required when the CRL is enabled.")
        try:
            bucket = {"Bucket": crl["S3BucketName"]}
            await self.cloud.call("s3", "HeadBucket", bucket, account=call.account, region=call.region, principal=SELF)
        except AwsError as error:
            raise AwsError(
                "InvalidArgsException", f"The bucket {crl['S3BucketName']} cannot be written to: {error.code}"
            ) from None
        return {**given, "CrlConfiguration": {"ExpirationInDays": 7, "S3ObjectAcl": "PUBLIC_READ", **crl}}

    async def publish(self, arn: str) -> None:
        """Write the list of what is revoked, where the authority has one, and see to the next one."""
        authority = self.authority(arn)
        if authority.crl and authority.certificate and authority.status != "DELETED":
            now = self.clock.now()
            listed = await self.change(arn, lambda found: {"listed": now, "listings": found.listings + 1})
            revoked = await self.db.scan(lambda tx: records.revoked(tx, arn, now))
            days = float(listed.crl["ExpirationInDays"])
            der = await asyncio.to_thread(
                signing.revocation_list, listed, revoked, listed.listings, now - self.clock.offset, days
            )
            acl = listed.crl["S3ObjectAcl"].lower().replace("_", "-")
            try:
                await self._put(listed, listed.crl["S3BucketName"], f"crl/{listed.id}.crl", der, ACL=acl)
            except AwsError as error:
                # As with AWS, what is revoked stays revoked; the next list comes in its time.
                log.warning("the list of %s cannot be written: %s", arn, error)
            authority = listed
        self.plan(authority)

    def distribution(self, authority: CertificateAuthority, template: Template) -> Extensions:
        """Where a certificate says that revocations are listed."""
        from cryptography import x509

        crl = authority.crl
        omitted = crl.get("CrlDistributionPointExtensionConfiguration", {}).get("OmitExtension", False)
        if not crl or omitted or template.is_root:
            return {}
        # By path, so that every program on this machine can get it.
        host = (
            f"http://{crl['CustomCname']}" if crl.get("CustomCname") else f"{self.cloud.endpoint}/{crl['S3BucketName']}"
        )
        place = x509.UniformResourceIdentifier(f"{host}/crl/{authority.id}.crl")
        points = x509.CRLDistributionPoints([x509.DistributionPoint([place], None, None, None)])
        return {points.oid.dotted_string: (points, False)}

    async def _put(self, authority: CertificateAuthority, bucket: str, key: str, body: bytes, **more: str) -> None:
        account, region = authority.scope.split("/")
        input = {"Bucket": bucket, "Key": key, "Body": body, **more}
        try:
            await self.cloud.call("s3", "PutObject", input, account=account, region=region, principal=SELF)
        except AwsError as error:
            raise AwsError("InvalidArgsException", f"The bucket {bucket} cannot be written to: {error.code}") from None


def _row(authority: CertificateAuthority, one: Issued) -> dict[str, str]:
    """A certificate as a report shows it; what it has not is left out."""
    serial = ":".join(one.serial[index : index + 2] for index in range(0, len(one.serial), 2))
    values = (
        *(authority.scope.partition("/")[0], one.principal, f"{authority.arn}/certificate/{one.serial}", serial),
        *(one.subject, _time(one.not_before), _time(one.not_after), _time(one.issued)),
        *(_time(one.revoked) if one.revoked else "", one.reason, one.template),
    )
    return {name: value for name, value in zip(_COLUMNS, values, strict=True) if value}


def _written(rows: list[dict[str, str]], format: str) -> bytes:
    if format == "JSON":
        return json.dumps(rows).encode()
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
