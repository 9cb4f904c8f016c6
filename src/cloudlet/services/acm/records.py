"""What ACM keeps."""

from __future__ import annotations

import msgspec


class Certificate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A certificate with its key; its name in the store is its id. Times are epoch seconds."""

    arn: str
    domain: str
    names: list[str]  # its own and the alternative ones
    kind: str  # AMAZON_ISSUED, PRIVATE or IMPORTED
    body: str  # PEM, as are the next two; empty until it is issued
    chain: str
    key: str
    algorithm: str
    signature: str
    serial: str
    subject: str
    issuer: str
    not_before: float
    not_after: float
    created: float
    issued: float
    usages: list[str]
    extended_usages: list[tuple[str, str]]  # name, object identifier
    method: str = ""  # how its domains were validated; empty when imported
    validation_domains: dict[str, str] = {}
    transparency: str = "ENABLED"
    export: str = "DISABLED"
    exported: bool = False
    renewed: float = 0.0
    used_by: list[str] = []  # ARNs
    tags: dict[str, str | None] = {}
    status: str = "ISSUED"  # PENDING_VALIDATION, ISSUED, VALIDATION_TIMED_OUT or FAILED
    failure: str = ""  # why it has failed
    authority: str = ""  # the private authority that issues it
    token: str = ""  # the idempotency token, with a digest of what it was given with


class Configuration(msgspec.Struct, frozen=True):
    """An account's configuration."""

    days_before_expiry: int
    token: str
    set_at: float
