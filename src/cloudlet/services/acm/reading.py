"""Reading certificates: what they say of themselves, and whether one that is imported holds together."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError

if TYPE_CHECKING:
    from cryptography import x509

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_CURVES = {"secp256r1": "EC_prime256v1", "secp384r1": "EC_secp384r1", "secp521r1": "EC_secp521r1"}
_RSA = frozenset((1024, 2048, 3072, 4096))
_USAGES = {
    "digital_signature": "DIGITAL_SIGNATURE",
    "content_commitment": "NON_REPUDIATION",
    "key_encipherment": "KEY_ENCIPHERMENT",
    "data_encipherment": "DATA_ENCIPHERMENT",
    "key_agreement": "KEY_AGREEMENT",
    "key_cert_sign": "CERTIFICATE_SIGNING",
    "crl_sign": "CRL_SIGNING",
}
_EXTENDED = {
    "1.3.6.1.5.5.7.3.1": "TLS_WEB_SERVER_AUTHENTICATION",
    "1.3.6.1.5.5.7.3.2": "TLS_WEB_CLIENT_AUTHENTICATION",
    "1.3.6.1.5.5.7.3.3": "CODE_SIGNING",
    "1.3.6.1.5.5.7.3.4": "EMAIL_PROTECTION",
    "1.3.6.1.5.5.7.3.5": "IPSEC_END_SYSTEM",
    "1.3.6.1.5.5.7.3.6": "IPSEC_TUNNEL",
    "1.3.6.1.5.5.7.3.7": "IPSEC_USER",
    "1.3.6.1.5.5.7.3.8": "TIME_STAMPING",
    "1.3.6.1.5.5.7.3.9": "OCSP_SIGNING",
    "2.5.29.37.0": "ANY",
}


def invalid(message: str) -> AwsError:
    """The refusal of a certificate, a key or a chain."""
    return AwsError("ValidationException", message)


def check_import(body: bytes, key: bytes, chain: bytes, now: float) -> None:
    """See that a certificate, its key and its chain belong together and are valid now. Raises ValidationException."""
    found = _BLOCK.findall(body)
    if len(found) > 1:
        raise invalid(
            "The certificate field contains more than one certificate. You can specify only one certificate in this "
            "field."
        )
    certificate = _parsed(body)
    algorithm_of(certificate)
    _check_key(certificate, key)
    if certificate.not_valid_after_utc.timestamp() <= now:
        raise invalid("The certificate has expired.")
    if certificate.not_valid_before_utc.timestamp() > now:
        raise invalid("The certificate is not valid yet.")
    if chain:
        _check_chain(certificate, chain)


def describe(body: str) -> dict[str, Any]:
    """The members of a record that a certificate says of itself."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    certificate = x509.load_pem_x509_certificate(body.encode())
    common = [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    names = _names(certificate)
    issuers = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    issuers = issuers or certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    serial = f"{certificate.serial_number:032x}"
    return {
        "domain": common[0] if common else (names[0] if names else ""),
        "names": names or common[:1],
        "algorithm": algorithm_of(certificate),
        "signature": _signature(certificate),
        "serial": ":".join(serial[i : i + 2] for i in range(0, len(serial), 2)),
        "subject": certificate.subject.rfc4514_string(),
        "issuer": str(issuers[0].value) if issuers else "",
        "not_before": _seconds(certificate.not_valid_before_utc),
        "not_after": _seconds(certificate.not_valid_after_utc),
        "usages": _usages(certificate),
        "extended_usages": _extended_usages(certificate),
    }


def algorithm_of(certificate: x509.Certificate) -> str:
    """The algorithm of a certificate's key in ACM's words. Raises ValidationException for others."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in _RSA:
            raise invalid("The private key length is not supported for key algorithm.")
        return f"RSA_{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    raise invalid("The private key is not supported.")


def _parsed(pem: bytes) -> x509.Certificate:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise invalid("The certificate body/chain provided is not in a valid PEM format.") from None


def _check_key(certificate: x509.Certificate, pem: bytes) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError:
        raise invalid("Your private key should not be encrypted.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise invalid("The private key is not supported.") from None
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise invalid("The certificate and the private key do not match.")


def _check_chain(certificate: x509.Certificate, chain: bytes) -> None:
    """Each certificate of the chain directly certifies the one before it, up to a root."""
    from cryptography.exceptions import InvalidSignature

    blocks = _BLOCK.findall(chain)
    if not blocks:
        raise invalid("The certificate body/chain provided is not in a valid PEM format.")
    below = certificate
    for block in blocks:
        above = _parsed(block)
        try:
            below.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature):
            raise invalid("Could not validate the certificate with the certificate chain.") from None
        if above.issuer == above.subject:
            return
        below = above


def _names(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _usages(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return []
    return [name for member, name in _USAGES.items() if getattr(usage, member)]


def _extended_usages(certificate: x509.Certificate) -> list[tuple[str, str]]:
    from cryptography import x509

    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return []
    return [(_EXTENDED.get(usage.dotted_string, "CUSTOM"), usage.dotted_string) for usage in usages]


def _signature(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec

    digest = certificate.signature_hash_algorithm
    hashed = digest.name.upper().replace("-", "") if digest is not None else ""
    is_ec = isinstance(certificate.signature_algorithm_parameters, ec.ECDSA)
    return f"{hashed}WITH{'ECDSA' if is_ec else 'RSA'}"


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
