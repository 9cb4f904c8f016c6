"""What a signature is verified with: given by IAM (long-term keys) and STS (sessions), taken by the gateway."""

from __future__ import annotations

import secrets
import string

import msgspec

_ID = string.ascii_uppercase + "234567"
_SECRET = string.ascii_letters + string.digits + "+/"


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
    return prefix + "".join(secrets.choice(_ID) for _ in range(16 if prefix in ("AKIA", "ASIA") else 17))


def new_secret() -> str:
    """A secret access key: 40 characters."""
    return "".join(secrets.choice(_SECRET) for _ in range(40))
