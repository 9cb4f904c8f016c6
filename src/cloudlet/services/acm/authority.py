"""The local certificate authority: made when it is first needed, kept in files, its key readable by its owner only."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_DAY = 86_400
_YEARS = 20
_VALID = 395 * _DAY

# What can be asked for: algorithm -> bits of RSA, or the curve's name.
ALGORITHMS: dict[str, int | str] = {
    "RSA_1024": 1024,
    "RSA_2048": 2048,
    "RSA_3072": 3072,
    "RSA_4096": 4096,
    "EC_prime256v1": "SECP256R1",
    "EC_secp384r1": "SECP384R1",
    "EC_secp521r1": "SECP521R1",
}


class Authority:
    """Issues certificates. Every method takes milliseconds, some a second: they belong off the event loop."""

    def __init__(self, folder: Path) -> None:
        self._key_file = folder / "authority.key"
        self._file = folder / "authority.pem"

    def pem(self, now: float) -> str:
        """Its own certificate, in PEM. ``now`` is the time of its making, in epoch seconds, should it not exist."""
        if not self._file.is_file():
            self._make(now)
        return self._file.read_text()

    def issue(self, names: list[str], algorithm: str, now: float) -> tuple[str, str]:
        """A certificate for names, of which the first is its subject, valid from the day of ``now``, and its key."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        authority = x509.load_pem_x509_certificate(self.pem(now).encode())
        signer = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        assert isinstance(signer, rsa.RSAPrivateKey)
        key = new_key(algorithm)
        start = datetime.datetime.fromtimestamp(now // _DAY * _DAY, datetime.UTC)
        is_rsa = isinstance(key, rsa.RSAPrivateKey)
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= 64 else []
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(seconds=_VALID))
            .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=not subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(key_encipherment=is_rsa), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), key_pem(key)

    def _make(self, now: float) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import NameOID

        key = new_key("RSA_2048")
        start = datetime.datetime.fromtimestamp(now // _DAY * _DAY, datetime.UTC)
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Cloudlet"),
                x509.NameAttribute(NameOID.COMMON_NAME, "Cloudlet local authority"),
            ]
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=_YEARS * 365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # The key first: a certificate that is there has its key.
        _write(self._key_file, key_pem(key), 0o600)
        _write(self._file, certificate.public_bytes(serialization.Encoding.PEM).decode(), 0o644)


def request(names: list[str], algorithm: str) -> tuple[str, str]:
    """A new key, and a request for a certificate for names, of which the first is its subject; both in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    key = new_key(algorithm)
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= 64 else []
    alternatives = x509.SubjectAlternativeName([_name(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    signed = builder.add_extension(alternatives, critical=not subject).sign(key, hashes.SHA256())
    return key_pem(key), signed.public_bytes(serialization.Encoding.PEM).decode()


def new_key(algorithm: str) -> RSAPrivateKey | EllipticCurvePrivateKey:
    """A new private key of one of ``ALGORITHMS``."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    size = ALGORITHMS[algorithm]
    if isinstance(size, int):
        return rsa.generate_private_key(65537, size)
    curve: ec.EllipticCurve = getattr(ec, size)()
    return ec.generate_private_key(curve)


def key_pem(key: RSAPrivateKey | EllipticCurvePrivateKey) -> str:
    """A private key in PEM, not encrypted."""
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _usage(*, key_encipherment: bool = False, signs_certificates: bool = False) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=key_encipherment,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(file: Path, text: str, mode: int) -> None:
    aside = file.with_suffix(".new")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    aside.replace(file)
