"""An authority's hand: its key, its request, the certificates and lists that it signs. All belong off the loop."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.acm.authority import key_pem, new_key
from cloudlet.services.acm_pca import extensions
from cloudlet.services.acm_pca.pem import tidy
from cloudlet.services.acm_pca.records import CertificateAuthority, Issued
from cloudlet.services.acm_pca.subjects import name_of

if TYPE_CHECKING:
    from cryptography import x509

_NEW = {"ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "SM2", "SM3WITHSM2"}
_REASONS = {
    "UNSPECIFIED": "unspecified",
    "KEY_COMPROMISE": "keyCompromise",
    "CERTIFICATE_AUTHORITY_COMPROMISE": "cACompromise",
    "AFFILIATION_CHANGED": "affiliationChanged",
    "SUPERSEDED": "superseded",
    "CESSATION_OF_OPERATION": "cessationOfOperation",
    "PRIVILEGE_WITHDRAWN": "privilegeWithdrawn",
    "A_A_COMPROMISE": "aACompromise",
}


def check_algorithms(key: str, signing: str, operation: str) -> None:
    """A signature's algorithm is one of the key's. Raises InvalidArgsException and NotImplemented."""
    for name in (key, signing):
        if name in _NEW:
            raise not_implemented(f"{operation} with the algorithm {name}")
    if ("ECDSA" in signing) != key.startswith("EC_"):
        raise AwsError(
            "InvalidArgsException", f"The signing algorithm {signing} is not compatible with the key algorithm {key}."
        )


def new_authority(configuration: dict[str, Any]) -> tuple[str, str]:
    """A new authority's key and its CSR, both in PEM. Raises InvalidArgsException."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    subject = name_of(configuration["Subject"])
    key = new_key(configuration["KeyAlgorithm"])
    wanted = configuration.get("CsrExtensions", {}).get("KeyUsage")
    usages = extensions.usages_of(wanted) if wanted else ("digital_signature", "key_cert_sign", "crl_sign")
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(extensions.key_usage(usages), critical=True)
    request = builder.sign(key, **_signature(configuration["SigningAlgorithm"]))
    return key_pem(key), request.public_bytes(serialization.Encoding.PEM).decode()


def read_csr(pem: bytes) -> x509.CertificateSigningRequest:
    """A CSR that is signed by its own key. Raises MalformedCSRException."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        csr = x509.load_pem_x509_csr(tidy(pem).encode())
        if csr.is_signature_valid:
            return csr
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    raise AwsError("MalformedCSRException", "Malformed CSR.")


def is_own_request(authority: CertificateAuthority, csr: x509.CertificateSigningRequest) -> bool:
    """Whether a CSR is that of an authority."""
    from cryptography import x509

    own = x509.load_pem_x509_csr(authority.csr.encode())
    return csr.public_key() == own.public_key() and csr.subject == own.subject


def certify(
    authority: CertificateAuthority,
    csr: x509.CertificateSigningRequest,
    subject: x509.Name,
    found: extensions.Extensions,
    serial: int,
    start: float,
    end: float,
    algorithm: str,
) -> str:
    """Sign a certificate and return its PEM. A root that has no certificate yet signs its own."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    key: Any = serialization.load_pem_private_key(authority.key.encode(), None)
    issuer = subject
    if authority.certificate:
        own = x509.load_pem_x509_certificate(authority.certificate.encode())
        issuer = own.subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(csr.public_key())
        .serial_number(serial)
        .not_valid_before(datetime.datetime.fromtimestamp(int(start), datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(int(end), datetime.UTC))
    )
    for value, critical in found.values():
        builder = builder.add_extension(value, critical)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(csr.public_key()), False)
    if issuer != subject:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
    return tidy(builder.sign(key, **_signature(algorithm)).public_bytes(serialization.Encoding.PEM))


def revocation_list(
    authority: CertificateAuthority, revoked: Sequence[Issued], number: int, now: float, days: float
) -> bytes:
    """The list of what an authority has revoked, in DER, valid for so many days."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    key: Any = serialization.load_pem_private_key(authority.key.encode(), None)
    own = x509.load_pem_x509_certificate(authority.certificate.encode())
    start = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(own.subject)
        .last_update(start)
        .next_update(start + datetime.timedelta(days=days))
        .add_extension(x509.CRLNumber(number), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
    )
    for one in revoked:
        when = datetime.datetime.fromtimestamp(int(one.revoked), datetime.UTC)
        entry = x509.RevokedCertificateBuilder().serial_number(int(one.serial, 16)).revocation_date(when)
        if one.reason != "UNSPECIFIED":
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(_REASONS[one.reason])), False)
        builder = builder.add_revoked_certificate(entry.build())
    signed = builder.sign(key, **_signature(authority.configuration["SigningAlgorithm"]))
    return signed.public_bytes(serialization.Encoding.DER)


def _signature(algorithm: str) -> dict[str, Any]:
    """The digest and the padding of a signature, as arguments of ``sign``."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    digest: hashes.HashAlgorithm = getattr(hashes, algorithm[:6])()
    if not algorithm.endswith("_PSS"):
        return {"algorithm": digest}
    return {"algorithm": digest, "rsa_padding": padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)}
