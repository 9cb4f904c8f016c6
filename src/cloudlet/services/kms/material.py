"""Key material: made here, wrapped with a master key of this cloud before it is stored, and never given away."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from cloudlet.services.kms import specs

_NONCE = 12
_CURVES = {"ECC_NIST_P256": "SECP256R1", "ECC_NIST_P384": "SECP384R1", "ECC_NIST_P521": "SECP521R1"}


class Vault:
    """Wraps and unwraps material with the master key, a file that only its owner may read."""

    def __init__(self, file: Path) -> None:
        """Read the master key, or make it. Blocks."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_suffix(".new")
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as out:
                out.write(secrets.token_bytes(32))
                out.flush()
                os.fsync(descriptor)
            aside.replace(file)
        self._cipher = AESGCM(file.read_bytes())

    def wrap(self, key: str, secret: bytes) -> bytes:
        """A key's material as it is stored."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._cipher.encrypt(nonce, secret, key.encode())

    def unwrap(self, key: str, wrapped: bytes) -> bytes:
        """A key's material."""
        return self._cipher.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], key.encode())


def make(spec: str) -> bytes:
    """New material: random bytes, or a private key in DER (PKCS #8). Blocks: RSA takes up to seconds."""
    if spec == specs.SYMMETRIC:
        return secrets.token_bytes(32)
    if spec in specs.MACS:
        return secrets.token_bytes(int(spec.removeprefix("HMAC_")) // 8)
    return private_bytes(_private(spec))


def _private(spec: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if spec in specs.RSA:
        return rsa.generate_private_key(65537, specs.RSA[spec])
    if spec == specs.EDWARDS:
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(getattr(ec, _CURVES.get(spec, "SECP256K1"))())


def private_bytes(private: Any) -> bytes:
    """A private key in DER (PKCS #8)."""
    from cryptography.hazmat.primitives import serialization as form

    der: bytes = private.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    return der


def public_bytes(private: Any) -> bytes:
    """The public half of a private key in DER (SubjectPublicKeyInfo)."""
    from cryptography.hazmat.primitives import serialization as form

    der: bytes = private.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return der


def load(spec: str, secret: bytes) -> Any:
    """Material, ready for use: a cipher, the bytes of a MAC key, or a private key."""
    if spec == specs.SYMMETRIC:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(secret)
    if spec in specs.MACS:
        return secret
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    return load_der_private_key(secret, None)
