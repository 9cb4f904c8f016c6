"""CloudFormation's types of AWS Private CA."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.acm_pca.pem import joined
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of

_GONE = ("ResourceNotFoundException", "InvalidStateException")


class CertificateAuthority(ResourceType):
    """An authority that waits for its certificate. ``Ref`` is its ARN."""

    type = "AWS::ACMPCA::CertificateAuthority"
    required = frozenset(("KeyAlgorithm", "SigningAlgorithm", "Subject", "Type"))
    replaces = required | {"CsrExtensions", "KeyStorageSecurityStandard", "UsageMode"}

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _known(self.type, properties, self.replaces | {"RevocationConfiguration", "Tags"})
        configuration = ("KeyAlgorithm", "SigningAlgorithm", "Subject", "CsrExtensions")
        input: Properties = {
            "CertificateAuthorityType": properties["Type"],
            "CertificateAuthorityConfiguration": {
                name: properties[name] for name in configuration if name in properties
            },
            "IdempotencyToken": do.name(36),
        }
        for name in ("KeyStorageSecurityStandard", "UsageMode", "RevocationConfiguration"):
            if name in properties:
                input[name] = properties[name]
        if tags := _tags(do, properties):
            input["Tags"] = tags
        arn = (await do.call("acm-pca", "CreateCertificateAuthority", input))["CertificateAuthorityArn"]
        csr = (await do.call("acm-pca", "GetCertificateAuthorityCsr", {"CertificateAuthorityArn": arn}))["Csr"]
        return Physical(arn, {"Arn": arn, "CertificateSigningRequest": csr})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        _known(self.type, new, self.replaces | {"RevocationConfiguration", "Tags"})
        place = {"CertificateAuthorityArn": physical.id}
        if changed(old, new, "RevocationConfiguration"):
            wanted = new.get("RevocationConfiguration", {"CrlConfiguration": {"Enabled": False}})
            await do.call("acm-pca", "UpdateCertificateAuthority", {**place, "RevocationConfiguration": wanted})
        tags = _tags(do, new)
        keys = {tag["Key"] for tag in tags}
        before = (await do.call("acm-pca", "ListTags", place)).get("Tags", [])
        if gone := [{"Key": tag["Key"]} for tag in before if tag["Key"] not in keys]:
            await do.call("acm-pca", "UntagCertificateAuthority", {**place, "Tags": gone})
        if tags and tags != before:
            await do.call("acm-pca", "TagCertificateAuthority", {**place, "Tags": tags})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        place = {"CertificateAuthorityArn": physical.id}
        # One that is active must be disabled first; one that waits for its certificate cannot be.
        await _unless_gone(do, "UpdateCertificateAuthority", {**place, "Status": "DISABLED"})
        await _unless_gone(do, "DeleteCertificateAuthority", place)


class Certificate(ResourceType):
    """A certificate that an authority has issued. ``Ref`` is its ARN. It is not revoked when it goes."""

    type = "AWS::ACMPCA::Certificate"
    required = frozenset(("CertificateAuthorityArn", "CertificateSigningRequest", "SigningAlgorithm", "Validity"))
    replaces = required | {"ApiPassthrough", "TemplateArn", "ValidityNotBefore"}

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _known(self.type, properties, self.replaces)
        input = {name: value for name, value in properties.items() if name != "CertificateSigningRequest"}
        input |= {"Csr": properties["CertificateSigningRequest"], "IdempotencyToken": do.name(36)}
        arn = (await do.call("acm-pca", "IssueCertificate", input))["CertificateArn"]
        place = {"CertificateAuthorityArn": properties["CertificateAuthorityArn"], "CertificateArn": arn}
        found = await do.call("acm-pca", "GetCertificate", place)
        return Physical(arn, {"Arn": arn, "Certificate": found["Certificate"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        pass


class CertificateAuthorityActivation(ResourceType):
    """An authority's certificate, and whether it is in use. ``Ref`` is the authority's ARN."""

    type = "AWS::ACMPCA::CertificateAuthorityActivation"
    required = frozenset(("Certificate", "CertificateAuthorityArn"))
    replaces = frozenset(("CertificateAuthorityArn",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _known(self.type, properties, self.required | {"CertificateChain", "Status"})
        arn, certificate = properties["CertificateAuthorityArn"], properties["Certificate"]
        chain = properties.get("CertificateChain", "")
        place = {"CertificateAuthorityArn": arn}
        input = {**place, "Certificate": certificate}
        if chain:
            input["CertificateChain"] = chain
        await do.call("acm-pca", "ImportCertificateAuthorityCertificate", input)
        await do.call("acm-pca", "UpdateCertificateAuthority", {**place, "Status": properties.get("Status", "ACTIVE")})
        return Physical(arn, {"CompleteCertificateChain": joined(certificate, chain)})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        input = {"CertificateAuthorityArn": physical.id, "Status": "DISABLED"}
        await _unless_gone(do, "UpdateCertificateAuthority", input)


class Permission(ResourceType):
    """What ACM may do with an authority."""

    type = "AWS::ACMPCA::Permission"
    required = frozenset(("Actions", "CertificateAuthorityArn", "Principal"))
    replaces = required | {"SourceAccount"}

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _known(self.type, properties, self.replaces)
        try:
            await do.call("acm-pca", "CreatePermission", dict(properties))
        except AwsError as error:
            if error.code != "PermissionAlreadyExistsException":
                raise
        account = properties.get("SourceAccount", do.account)
        return Physical(f"{properties['CertificateAuthorityArn']}|{properties['Principal']}|{account}")

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        arn, principal, account = physical.id.split("|")
        input = {"CertificateAuthorityArn": arn, "Principal": principal, "SourceAccount": account}
        await _unless_gone(do, "DeletePermission", input)


def _known(type: str, properties: Properties, names: frozenset[str] | set[str]) -> None:
    for name in sorted(properties.keys() - names):
        raise not_implemented(f"{type} with {name}")


def _tags(do: Deployment, properties: Properties) -> list[dict[str, str]]:
    # The stack's own tags with the prefix of AWS are not for everybody to set.
    tags = tags_of(do, properties)
    return [{"Key": key, "Value": value} for key, value in tags.items() if not key.startswith("aws:")]


async def _unless_gone(do: Deployment, operation: str, input: dict[str, Any]) -> None:
    try:
        await do.call("acm-pca", operation, input)
    except AwsError as error:
        if error.code not in _GONE:
            raise


TYPES = [CertificateAuthority, Certificate, CertificateAuthorityActivation, Permission]
