"""What AWS Private CA keeps: authorities as resources, the certificates that they have issued in a table."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from cloudlet.store import Tx


class Permission(msgspec.Struct, frozen=True):
    """What a service may do with an authority for an account."""

    principal: str
    source_account: str
    actions: list[str]
    created: float


class CertificateAuthority(msgspec.Struct, frozen=True, omit_defaults=True):
    """An authority with its key; its name in the store is its id. Times are epoch seconds, the rest is PEM."""

    arn: str
    kind: str  # ROOT or SUBORDINATE
    configuration: dict[str, Any]  # as the API has it
    key: str
    csr: str
    created: float
    changed: float
    status: str = "PENDING_CERTIFICATE"
    certificate: str = ""
    chain: str = ""
    serial: str = ""
    not_before: float = 0.0
    not_after: float = 0.0
    restorable_until: float = 0.0
    revocation: dict[str, Any] = {}  # as the API has it
    listed: float = 0.0  # when the list of what is revoked was last published
    listings: int = 0  # how often it was
    storage: str = "FIPS_140_2_LEVEL_3_OR_HIGHER"
    mode: str = "GENERAL_PURPOSE"
    permissions: list[Permission] = []
    policy: str = ""
    tags: dict[str, str] = {}
    token: str = ""  # the idempotency token, with a digest of what it was given with

    @property
    def id(self) -> str:
        """The last word of the ARN."""
        return self.arn.rpartition("/")[2]

    @property
    def scope(self) -> str:
        """Where it is kept."""
        parts = self.arn.split(":")
        return f"{parts[4]}/{parts[3]}"

    def state(self, now: float) -> str:
        """Its status, which may have become EXPIRED."""
        return "EXPIRED" if self.status in ("ACTIVE", "DISABLED") and now > self.not_after else self.status

    @property
    def crl(self) -> dict[str, Any]:
        """How it publishes what is revoked; empty where it does not."""
        found: dict[str, Any] = self.revocation.get("CrlConfiguration", {})
        return found if found.get("Enabled") else {}


class Issued(NamedTuple):
    """A certificate that an authority has issued. ``serial`` is hexadecimal; a revocation of 0 is none."""

    authority: str
    serial: str
    certificate: str
    chain: str
    subject: str
    template: str
    principal: str
    not_before: float
    not_after: float
    issued: float
    revoked: float = 0.0
    reason: str = ""
    token: str = ""


class Report(NamedTuple):
    """An audit report that has been written."""

    id: str
    authority: str
    bucket: str
    key: str
    created: float


MIGRATIONS = [
    """
    CREATE TABLE issued (
        authority TEXT NOT NULL, serial TEXT NOT NULL, certificate TEXT NOT NULL, chain TEXT NOT NULL,
        subject TEXT NOT NULL, template TEXT NOT NULL, principal TEXT NOT NULL, not_before REAL NOT NULL,
        not_after REAL NOT NULL, issued REAL NOT NULL, revoked REAL NOT NULL, reason TEXT NOT NULL, token TEXT NOT NULL,
        PRIMARY KEY (authority, serial)
    ) WITHOUT ROWID;
    CREATE INDEX issued_token ON issued (authority, token) WHERE token != '';
    CREATE INDEX issued_revoked ON issued (authority, revoked) WHERE revoked > 0;
    CREATE TABLE report (
        id TEXT PRIMARY KEY, authority TEXT NOT NULL, bucket TEXT NOT NULL, key TEXT NOT NULL, created REAL NOT NULL
    ) WITHOUT ROWID;
    """
]


def add(tx: Tx, one: Issued) -> None:
    """Keep a certificate."""
    tx.execute(f"INSERT INTO issued VALUES ({', '.join('?' * len(one))})", one)


def find(tx: Tx, authority: str, serial: str) -> Issued | None:
    """A certificate by its authority's ARN and its serial number."""
    row = tx.execute("SELECT * FROM issued WHERE authority = ? AND serial = ?", (authority, serial)).fetchone()
    return Issued(*row) if row else None


def with_token(tx: Tx, authority: str, token: str, since: float) -> Issued | None:
    """The certificate that the same request has made since then."""
    row = tx.execute(
        "SELECT * FROM issued WHERE authority = ? AND token = ? AND token != '' AND issued > ? LIMIT 1",
        (authority, token, since),
    ).fetchone()
    return Issued(*row) if row else None


def of(tx: Tx, authority: str) -> list[Issued]:
    """All certificates of an authority."""
    return [Issued(*row) for row in tx.execute("SELECT * FROM issued WHERE authority = ?", (authority,))]


def revoked(tx: Tx, authority: str, now: float) -> list[Issued]:
    """The certificates of an authority that are revoked and not yet expired."""
    rows = tx.execute(
        "SELECT * FROM issued WHERE authority = ? AND revoked > 0 AND not_after > ? ORDER BY revoked", (authority, now)
    )
    return [Issued(*row) for row in rows]


def revoke(tx: Tx, authority: str, serial: str, when: float, reason: str) -> None:
    """Note a revocation."""
    tx.execute(
        "UPDATE issued SET revoked = ?, reason = ? WHERE authority = ? AND serial = ?",
        (when, reason, authority, serial),
    )


def forget(tx: Tx, authority: str) -> None:
    """Forget all that an authority has issued and reported."""
    tx.execute("DELETE FROM issued WHERE authority = ?", (authority,))
    tx.execute("DELETE FROM report WHERE authority = ?", (authority,))


def add_report(tx: Tx, one: Report) -> None:
    """Keep a report's place."""
    tx.execute("INSERT INTO report VALUES (?, ?, ?, ?, ?)", one)


def report(tx: Tx, authority: str, id: str) -> Report | None:
    """A report of an authority."""
    row = tx.execute("SELECT * FROM report WHERE id = ? AND authority = ?", (id, authority)).fetchone()
    return Report(*row) if row else None
