"""The extensions of a certificate: its template's first, then those of the API's request, then those of the CSR."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from cloudlet.services.acm_pca.subjects import general_name
from cloudlet.services.acm_pca.templates import Template

if TYPE_CHECKING:
    from cryptography import x509

_USAGES = {
    "DigitalSignature": "digital_signature",
    "NonRepudiation": "content_commitment",
    "KeyEncipherment": "key_encipherment",
    "DataEncipherment": "data_encipherment",
    "KeyAgreement": "key_agreement",
    "KeyCertSign": "key_cert_sign",
    "CRLSign": "crl_sign",
    "EncipherOnly": "encipher_only",
    "DecipherOnly": "decipher_only",
}
_EXTENDED = {
    "SERVER_AUTH": "1.3.6.1.5.5.7.3.1",
    "CLIENT_AUTH": "1.3.6.1.5.5.7.3.2",
    "CODE_SIGNING": "1.3.6.1.5.5.7.3.3",
    "EMAIL_PROTECTION": "1.3.6.1.5.5.7.3.4",
    "TIME_STAMPING": "1.3.6.1.5.5.7.3.8",
    "OCSP_SIGNING": "1.3.6.1.5.5.7.3.9",
    "SMART_CARD_LOGIN": "1.3.6.1.4.1.311.20.2.2",
    "DOCUMENT_SIGNING": "1.3.6.1.5.5.7.3.36",
    "CERTIFICATE_TRANSPARENCY": "1.3.6.1.4.1.11129.2.4.4",
}

Extensions = dict[str, tuple["x509.ExtensionType", bool]]  # by object identifier, with whether it is critical


def of_template(template: Template) -> Extensions:
    """What a template sets by itself."""
    from cryptography import x509

    made = [(x509.BasicConstraints(template.is_authority, template.length), template.critical)]
    found: list[tuple[x509.ExtensionType, bool]] = [*made]
    if template.usages:
        found.append((key_usage(template.usages), True))
    if template.extended:
        identifiers = [x509.ObjectIdentifier(oid) for oid in template.extended]
        found.append((x509.ExtendedKeyUsage(identifiers), template.extended_critical))
    return _named(found)


def of_api(given: dict[str, Any]) -> Extensions:
    """What the API's request passes through. Raises InvalidArgsException."""
    from cryptography import x509

    found: list[tuple[x509.ExtensionType, bool]] = []
    if names := given.get("SubjectAlternativeNames"):
        found.append((x509.SubjectAlternativeName([general_name(one) for one in names]), False))
    if usage := given.get("KeyUsage"):
        found.append((key_usage(usages_of(usage)), True))
    if extended := given.get("ExtendedKeyUsage"):
        oids = [
            one.get("ExtendedKeyUsageObjectIdentifier") or _EXTENDED[one["ExtendedKeyUsageType"]] for one in extended
        ]
        found.append((x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in oids]), False))
    if policies := given.get("CertificatePolicies"):
        found.append((x509.CertificatePolicies([_policy(one) for one in policies]), False))
    for one in given.get("CustomExtensions", []):
        identifier = x509.ObjectIdentifier(one["ObjectIdentifier"])
        value = x509.UnrecognizedExtension(identifier, base64.b64decode(one["Value"]))
        found.append((value, one.get("Critical", False)))
    return _named(found)


def of_csr(csr: x509.CertificateSigningRequest, *, all: bool) -> Extensions:
    """What the CSR asks for: all of it, or the alternative names only."""
    from cryptography import x509

    names = x509.SubjectAlternativeName.oid
    return {one.oid.dotted_string: (one.value, one.critical) for one in csr.extensions if all or one.oid == names}


def key_usage(names: tuple[str, ...]) -> x509.KeyUsage:
    """The extension that allows these usages."""
    from cryptography import x509

    return x509.KeyUsage(**{name: name in names for name in _USAGES.values()})


def usages_of(given: dict[str, bool]) -> tuple[str, ...]:
    """The usages that the API's form switches on."""
    return tuple(name for member, name in _USAGES.items() if given.get(member))


def _policy(one: dict[str, Any]) -> x509.PolicyInformation:
    from cryptography import x509

    uris: list[str | x509.UserNotice] = [each["Qualifier"]["CpsUri"] for each in one.get("PolicyQualifiers", [])]
    return x509.PolicyInformation(x509.ObjectIdentifier(one["CertPolicyId"]), uris or None)


def _named(found: list[tuple[x509.ExtensionType, bool]]) -> Extensions:
    return {value.oid.dotted_string: (value, critical) for value, critical in found}
