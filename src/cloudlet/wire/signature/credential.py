"""What a signature is verified with: given by IAM (long-term keys) and STS (sessions), taken by the gateway."""

from __future__ import annotations

import msgspec


class Credential(msgspec.Struct, frozen=True):
    """An access key with its secret. ``expires`` is epoch seconds, 0 for never."""

    access_key: str
    secret: str
    account: str
    principal: str  # an ARN
    session_token: str = ""
    expires: float = 0.0
