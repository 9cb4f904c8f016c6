"""What a signature is verified with: given by IAM (long-term keys) and STS (sessions), taken by the gateway."""

from __future__ import annotations

import base64
import secrets

import msgspec


class Credential(msgspec.Struct, frozen=True):
    """An access key with its secret. ``expires`` is epoch seconds, 0 for never."""

    access_key: str
    secret: str
    account: str
    principal: str  # an ARN
    session_token: str = ""
    expires: float = 0.0


def new_id(prefix: str) -> str:
    """A unique id as IAM makes them: AKIA, ASIA, AROA, AIDA, ... and 16 or 17 characters."""
    return prefix + base64.b32encode(secrets.token_bytes(11)).decode()[: 16 if prefix in ("AKIA", "ASIA") else 17]


def new_secret() -> str:
    """A secret access key: 40 characters."""
    return base64.b64encode(secrets.token_bytes(30)).decode()
