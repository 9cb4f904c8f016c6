"""CloudFormation's types of ACM."""

from __future__ import annotations

import hashlib
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of


class Certificate(ResourceType):
    """A certificate; made once it is issued. Where an option names a hosted zone, its record of validation is written
    there, and left there as AWS leaves it. ``Ref`` is its ARN."""

    type = "AWS::CertificateManager::Certificate"
    required = frozenset(("DomainName",))
    replaces = frozenset(
        (
            *("DomainName", "SubjectAlternativeNames", "DomainValidationOptions", "ValidationMethod", "KeyAlgorithm"),
            *("CertificateAuthorityArn", "CertificateExport"),
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _check(properties)
        input: Properties = {
            name: properties[name]
            for name in (
                "DomainName",
                "SubjectAlternativeNames",
                "ValidationMethod",
                "KeyAlgorithm",
                "CertificateAuthorityArn",
            )
            if name in properties
        }
        domains = [
            {"DomainName": option["DomainName"], "ValidationDomain": option["ValidationDomain"]}
            for option in properties.get("DomainValidationOptions", [])
            if "ValidationDomain" in option
        ]
        if domains:
            input["DomainValidationOptions"] = domains
        if options := _options(properties):
            input["Options"] = options
        # The stack's own tags with the prefix of AWS are not for everybody to set.
        if tags := _pairs(do, properties):
            input["Tags"] = tags
        input["IdempotencyToken"] = hashlib.sha256(f"{do.stack_id} {do.name()}".encode()).hexdigest()[:32]
        arn = (await do.call("acm", "RequestCertificate", input))["CertificateArn"]
        await do.initiated(arn)
        await _write_records(do, arn, properties)
        acm: Any = await do.service("acm")
        await do.wait(acm.settled(arn))
        made = (await do.call("acm", "DescribeCertificate", {"CertificateArn": arn}))["Certificate"]
        if made["Status"] != "ISSUED":
            reason = made.get("FailureReason", made["Status"])
            raise AwsError("InvalidRequest", f"The certificate {arn} could not be issued: {reason}")
        return Physical(arn, {"CertificateArn": arn, "Id": arn})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        _check(new)
        place = {"CertificateArn": physical.id}
        if changed(old, new, "CertificateTransparencyLoggingPreference"):
            default = {"CertificateTransparencyLoggingPreference": "ENABLED", "Export": "DISABLED"}
            await do.call("acm", "UpdateCertificateOptions", {**place, "Options": default | _options(new)})
        tags = _pairs(do, new)
        keys = {tag["Key"] for tag in tags}
        before = (await do.call("acm", "ListTagsForCertificate", place))["Tags"]
        if gone := [{"Key": tag["Key"]} for tag in before if tag["Key"] not in keys]:
            await do.call("acm", "RemoveTagsFromCertificate", {**place, "Tags": gone})
        if tags and tags != before:
            await do.call("acm", "AddTagsToCertificate", {**place, "Tags": tags})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await do.call("acm", "DeleteCertificate", {"CertificateArn": physical.id})
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise


_KNOWN = Certificate.replaces | {"CertificateTransparencyLoggingPreference", "Tags"}


def _check(properties: Properties) -> None:
    for name in sorted(properties.keys() - _KNOWN):
        raise not_implemented(f"AWS::CertificateManager::Certificate with {name}")


async def _write_records(do: Deployment, arn: str, properties: Properties) -> None:
    """Write the records that prove the names into the hosted zones that are given for them."""
    options = properties.get("DomainValidationOptions", [])
    zones = {option["DomainName"].lower(): option["HostedZoneId"] for option in options if "HostedZoneId" in option}
    if not zones:
        return
    described = (await do.call("acm", "DescribeCertificate", {"CertificateArn": arn}))["Certificate"]
    changes: dict[str, dict[str, Properties]] = {}
    for option in described["DomainValidationOptions"]:
        if (zone := zones.get(option["DomainName"])) is not None and "ResourceRecord" in option:
            record = option["ResourceRecord"]
            values = {"TTL": 300, "ResourceRecords": [{"Value": record["Value"]}]}
            changes.setdefault(zone, {})[record["Name"]] = {"Name": record["Name"], "Type": record["Type"], **values}
    for zone, records in changes.items():
        batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record} for record in records.values()]}
        await do.call("route53", "ChangeResourceRecordSets", {"HostedZoneId": zone, "ChangeBatch": batch})


def _options(properties: Properties) -> dict[str, str]:
    names = {"CertificateTransparencyLoggingPreference": "CertificateTransparencyLoggingPreference"}
    names["CertificateExport"] = "Export"
    return {option: properties[name] for name, option in names.items() if name in properties}


def _pairs(do: Deployment, properties: Properties) -> list[dict[str, str]]:
    tags = tags_of(do, properties)
    return [{"Key": key, "Value": value} for key, value in tags.items() if not key.startswith("aws:")]


TYPES = [Certificate]
