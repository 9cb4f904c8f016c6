"""What Cloud Map keeps: namespaces, services and instances as resources, operations in a table."""

from __future__ import annotations

from typing import Any

import msgspec

MIGRATIONS = [
    """
    CREATE TABLE operation (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, scope TEXT NOT NULL, type TEXT NOT NULL,
        namespace TEXT NOT NULL, service TEXT NOT NULL, instance TEXT NOT NULL, at REAL NOT NULL);
    CREATE INDEX operation_by_scope ON operation (scope, number);
    CREATE INDEX operation_by_time ON operation (at);
    """,
    "ALTER TABLE operation ADD COLUMN fault TEXT NOT NULL DEFAULT '';",
]


class Namespace(msgspec.Struct, frozen=True, omit_defaults=True):
    """A namespace. Its scope is its account and region, its name its id."""

    id: str
    account: str
    region: str
    name: str
    type: str  # HTTP, DNS_PUBLIC or DNS_PRIVATE
    created: float
    operation: str  # that created it
    description: str | None = None
    creator: str = ""  # CreatorRequestId
    vpc: str = ""
    ttl: int | None = None  # of the SOA record
    zone: str = ""  # its hosted zone in Route 53
    tags: dict[str, str] = {}

    @property
    def arn(self) -> str:
        """Its ARN."""
        return f"arn:aws:servicediscovery:{self.region}:{self.account}:namespace/{self.id}"


class Service(msgspec.Struct, frozen=True, omit_defaults=True):
    """A service. Its scope is its account and region, its name its id; configurations are as the API has them."""

    id: str
    account: str
    region: str
    namespace: str
    name: str
    created: float
    http_only: bool = False
    description: str | None = None
    creator: str = ""
    dns: dict[str, Any] | None = None
    check: dict[str, Any] | None = None
    custom_check: dict[str, Any] | None = None
    attributes: dict[str, str] = {}
    tags: dict[str, str] = {}

    @property
    def arn(self) -> str:
        """Its ARN."""
        return f"arn:aws:servicediscovery:{self.region}:{self.account}:service/{self.id}"


class Instance(msgspec.Struct, frozen=True, omit_defaults=True):
    """An instance. Its scope is its service's id, its name its own."""

    id: str
    attributes: dict[str, str]
    creator: str = ""
    custom_health: str = "HEALTHY"
    check: str = ""  # its health check in Route 53


class Revision(msgspec.Struct, frozen=True):
    """How often a service's instances have changed; kept apart, as it changes with every one of them."""

    number: int


class Operation(msgspec.Struct, frozen=True):
    """Something that was asked for, and is over."""

    id: str
    type: str
    namespace: str
    service: str
    instance: str
    at: float
    fault: str = ""  # why it could not be done
