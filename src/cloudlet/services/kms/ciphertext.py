"""Ciphertexts of symmetric keys: key, material and nonce at the head, then AES-GCM that binds head and context."""

from __future__ import annotations

import json
import secrets
import struct
import uuid
from typing import Any, NamedTuple

from cloudlet.errors import AwsError

# The first bytes are those that AWS's ciphertexts have.
_MAGIC = b"\x01\x02\x02\x00\x78"
_HEAD = struct.Struct(">5s16sQI12s")


class Opened(NamedTuple):
    """What a ciphertext says of itself."""

    account: str
    key: str
    material: int
    nonce: bytes
    head: bytes
    body: bytes


def seal(cipher: Any, account: str, key: str, material: int, plaintext: bytes, context: dict[str, str]) -> bytes:
    """Encrypt."""
    nonce = secrets.token_bytes(12)
    head = _HEAD.pack(_MAGIC, uuid.UUID(key).bytes, int(account), material, nonce)
    return head + bytes(cipher.encrypt(nonce, plaintext, _bound(head, context)))


def read(blob: bytes) -> Opened:
    """Take a ciphertext apart. Raises InvalidCiphertextException."""
    if len(blob) <= _HEAD.size or not blob.startswith(_MAGIC):
        raise invalid()
    _, key, account, material, nonce = _HEAD.unpack_from(blob)
    return Opened(f"{account:012}", str(uuid.UUID(bytes=key)), material, nonce, blob[: _HEAD.size], blob[_HEAD.size :])


def unseal(cipher: Any, opened: Opened, context: dict[str, str]) -> bytes:
    """Decrypt. Raises InvalidCiphertextException."""
    from cryptography.exceptions import InvalidTag

    try:
        return bytes(cipher.decrypt(opened.nonce, opened.body, _bound(opened.head, context)))
    except InvalidTag:
        raise invalid() from None


def _bound(head: bytes, context: dict[str, str]) -> bytes:
    return head + json.dumps(context, sort_keys=True, separators=(",", ":")).encode()


def invalid() -> AwsError:
    """The ciphertext is none of ours, was changed, or has another context."""
    return AwsError("InvalidCiphertextException", "")
