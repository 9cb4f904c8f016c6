"""The signature on messages: an RSA key and a certificate of this cloud's own, made when they are first needed."""

from __future__ import annotations

import hashlib
import os
import secrets
from base64 import b64encode
from pathlib import Path
from typing import Any

_BITS = 1024  # a signature costs a fifth of what one of 2048 bits does, and nothing here is secret
_EXPONENT = 65537
_SMALL = [odd for odd in range(3, 2000, 2) if all(odd % divisor for divisor in range(3, 45, 2) if divisor < odd)]


class Signer:
    """Signs what topics send. Blocks: make it off the event loop; signing itself takes well under a millisecond."""

    def __init__(self, folder: Path) -> None:
        """Read the key and the certificate, or make them."""
        key, certificate = folder / "signing.key", folder / "signing.crt"
        if not certificate.exists():
            folder.mkdir(parents=True, exist_ok=True)
            private, public = _make()
            _write(key, private)
            _write(certificate, public)
        self.certificate = _pem("CERTIFICATE", certificate.read_bytes())
        from awscrt.crypto import RSA, RSASignatureAlgorithm

        self._key: Any = RSA.new_private_key_from_pem_data(_pem("RSA PRIVATE KEY", key.read_bytes()))
        self._versions = {
            "1": (hashlib.sha1, RSASignatureAlgorithm.PKCS1_5_SHA1),
            "2": (hashlib.sha256, RSASignatureAlgorithm.PKCS1_5_SHA256),
        }
        self.name = f"SimpleNotificationService-{hashlib.md5(self.certificate.encode()).hexdigest()}.pem"

    def sign(self, text: bytes, version: str) -> str:
        """The signature of a text, in base 64; version 1 is SHA1withRSA, version 2 SHA256withRSA."""
        digest, algorithm = self._versions[version]
        return b64encode(self._key.sign(algorithm, digest(text).digest())).decode()


def _write(file: Path, data: bytes) -> None:
    aside = file.with_suffix(".new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
    aside.replace(file)


def _make() -> tuple[bytes, bytes]:
    """A new RSA key (PKCS #1) and its self-signed X.509 certificate, both in DER."""
    while True:
        p, q = _prime(_BITS // 2), _prime(_BITS // 2)
        n, phi = p * q, (p - 1) * (q - 1)
        if p != q and n.bit_length() == _BITS and phi % _EXPONENT:
            break
    p, q = max(p, q), min(p, q)
    d = pow(_EXPONENT, -1, phi)
    private = _sequence(*map(_integer, (0, n, _EXPONENT, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))))
    algorithm = _sequence(_oid(0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0B), _NULL)  # sha256WithRSAEncryption
    name = _sequence(_tlv(0x31, _sequence(_oid(0x55, 0x04, 0x03), _tlv(0x0C, b"sns.amazonaws.com"))))
    validity = _sequence(_tlv(0x17, b"200101000000Z"), _tlv(0x18, b"21000101000000Z"))
    key = _sequence(
        _sequence(_oid(0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01), _NULL),
        _tlv(0x03, b"\0" + _sequence(_integer(n), _integer(_EXPONENT))),
    )
    serial = _integer(secrets.randbits(63) | 1)
    body = _sequence(_tlv(0xA0, _integer(2)), serial, algorithm, name, validity, name, key)
    digest = _tlv(0x04, hashlib.sha256(body).digest())
    info = _sequence(_sequence(_oid(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01), _NULL), digest)
    padded = b"\0\x01" + b"\xff" * (_BITS // 8 - 3 - len(info)) + b"\0" + info
    signature = pow(int.from_bytes(padded), d, n).to_bytes(_BITS // 8)
    return private, _sequence(body, algorithm, _tlv(0x03, b"\0" + signature))


def _prime(bits: int) -> int:
    """A random prime with its two highest bits set (Miller and Rabin)."""
    while True:
        number = secrets.randbits(bits) | (3 << (bits - 2)) | 1
        if all(number % small for small in _SMALL) and all(_witness(number) for _ in range(20)):
            return number


def _witness(number: int) -> bool:
    """Whether a random base speaks for the number's being prime."""
    odd, twos = number - 1, 0
    while not odd & 1:
        odd, twos = odd >> 1, twos + 1
    power = pow(secrets.randbelow(number - 3) + 2, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


# ASN.1's distinguished encoding, as much as a key and a certificate need.


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(digits))) + digits + content


def _sequence(*parts: bytes) -> bytes:
    return _tlv(0x30, b"".join(parts))


def _integer(number: int) -> bytes:
    return _tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def _oid(*content: int) -> bytes:
    return _tlv(0x06, bytes(content))


_NULL = b"\x05\0"


def _pem(kind: str, der: bytes) -> str:
    text = b64encode(der).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"
