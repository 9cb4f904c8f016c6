"""Ids and secrets as IAM and STS make them."""

from __future__ import annotations

import base64
import secrets


def new_id(prefix: str) -> str:
    """A unique id as IAM makes them: AKIA, ASIA, AROA, AIDA, ... and 16 or 17 characters."""
    return prefix + base64.b32encode(secrets.token_bytes(11)).decode()[: 16 if prefix in ("AKIA", "ASIA") else 17]


def new_secret() -> str:
    """A secret access key: 40 characters."""
    return base64.b64encode(secrets.token_bytes(30)).decode()
