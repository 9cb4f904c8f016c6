"""What Route 53 keeps. Everything is few and looked at on every question, so everything is a resource."""

from __future__ import annotations

from typing import Any

import msgspec


class Zone(msgspec.Struct, frozen=True, omit_defaults=True):
    """A hosted zone. Its scope is its account, its name its id."""

    id: str
    account: str
    name: str
    caller_reference: str
    created: float
    name_servers: list[str]
    private: bool = False
    comment: str | None = None
    vpcs: list[dict[str, str]] = []
    delegation_set: str = ""
    owner: str = ""  # the service that manages it (``servicediscovery.amazonaws.com``)
    owner_description: str = ""
    tags: dict[str, str] = {}
    authorized: list[dict[str, str]] = []  # VPCs of other accounts that may be associated


class Alias(msgspec.Struct, frozen=True):
    """Where an alias record leads."""

    zone: str
    name: str
    evaluate: bool


class RecordSet(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record set. Its scope is ``<zone id>/<name>``, its name ``<type> <set identifier>``."""

    name: str
    type: str
    ttl: int | None = None
    values: tuple[str, ...] = ()
    alias: Alias | None = None
    identifier: str | None = None
    weight: int | None = None
    region: str = ""
    failover: str = ""
    geo: dict[str, str] = {}
    cidr: dict[str, str] = {}
    multivalue: bool | None = None
    health_check: str = ""

    @property
    def key(self) -> str:
        """What tells it from the other sets of its name."""
        return f"{self.type} {self.identifier or ''}"

    @property
    def policy(self) -> str:
        """How one of several sets of a name and type is chosen."""
        if self.weight is not None:
            return "weighted"
        if self.region:
            return "latency"
        if self.failover:
            return "failover"
        if self.geo:
            return "geolocation"
        if self.cidr:
            return "CIDR"
        return "multivalue answer" if self.multivalue else "simple"


class HealthCheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """A health check. Its scope is its account, its name its id; ``config`` is as the API has it."""

    id: str
    account: str
    caller_reference: str
    version: int
    config: dict[str, Any]
    tags: dict[str, str] = {}
    owner: str = ""
    owner_description: str = ""


class Health(msgspec.Struct, frozen=True):
    """How a health check has come out, stored whenever that changes, so that a restart forgets no failure."""

    healthy: bool
    since: float
    status: str


class DelegationSet(msgspec.Struct, frozen=True):
    """A reusable delegation set."""

    id: str
    caller_reference: str
    name_servers: list[str]


class QueryLog(msgspec.Struct, frozen=True):
    """Where questions about a zone are logged. Its scope is its account, its name its id."""

    id: str
    zone: str
    group: str  # the log group's ARN


class CidrCollection(msgspec.Struct, frozen=True):
    """Named locations, each with blocks of addresses. Its scope is its account, its name its id."""

    id: str
    account: str
    name: str
    caller_reference: str
    version: int
    locations: dict[str, list[str]] = {}


class Listening(msgspec.Struct, frozen=True, omit_defaults=True):
    """An address on which the DNS server listens, once it has been asked for; its name is the address."""

    address: str
    port: int
    further: bool = False  # beside its own: a bridge's, which may have gone when the cloud starts again


MIGRATIONS = ["CREATE TABLE change (id TEXT PRIMARY KEY, submitted REAL NOT NULL, comment TEXT) WITHOUT ROWID;"]
