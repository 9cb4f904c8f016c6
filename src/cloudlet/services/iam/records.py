"""What is stored of identities: entities with their policies, managed policies with versions, keys.

IAM is global: every scope is ``<account>/global``; access keys are in one scope, so that a key alone finds its owner.
"""

from __future__ import annotations

from typing import Any

import msgspec

KEYS = "keys"


class Entity(msgspec.Struct, frozen=True):
    """``members`` as the API shows it, inline policies by name, ARNs of attached policies."""

    members: dict[str, Any]
    inline: dict[str, str] = {}
    attached: list[str] = []


class User(Entity, frozen=True):
    groups: list[str] = []
    keys: list[str] = []
    login: dict[str, Any] | None = None
    password: str = ""  # salted hash of the login profile's password
    devices: list[str] = []  # serial numbers of MFA devices
    signing: list[dict[str, Any]] = []  # signing certificates


class Group(Entity, frozen=True):
    users: list[str] = []


class Role(Entity, frozen=True):
    """The trust policy is the member AssumeRolePolicyDocument, as it was given."""


class Policy(msgspec.Struct, frozen=True):
    """A managed policy of the account; ``versions`` by id, oldest first."""

    members: dict[str, Any]
    versions: dict[str, dict[str, Any]]
    latest: int = 1


class InstanceProfile(msgspec.Struct, frozen=True):
    members: dict[str, Any]
    roles: list[str] = []


class AccessKey(msgspec.Struct, frozen=True):
    """``user`` is empty for the account's root."""

    account: str
    user: str
    secret: str
    created: float
    status: str = "Active"


class Provider(msgspec.Struct, frozen=True):
    """An OpenID Connect or SAML provider."""

    members: dict[str, Any]


class Device(msgspec.Struct, frozen=True):
    """A virtual MFA device. ``seed`` is its secret in base 32; ``user`` is empty until it is enabled for one."""

    members: dict[str, Any]
    seed: str
    user: str = ""


class ServerCertificate(msgspec.Struct, frozen=True):
    """A certificate with its chain and its key, in PEM."""

    members: dict[str, Any]
    body: str
    chain: str
    key: str


class Account(msgspec.Struct, frozen=True):
    """What is set for a whole account."""

    alias: str = ""
    password_policy: dict[str, Any] | None = None
    root_keys: list[str] = []


class DeletionTask(msgspec.Struct, frozen=True):
    """The deletion of a service-linked role, which is done at once."""

    role: str


MIGRATIONS = (
    # Which entities a managed policy is attached to, or bounds the permissions of (usage).
    """CREATE TABLE attachment (
        scope TEXT NOT NULL, policy TEXT NOT NULL, usage TEXT NOT NULL, kind TEXT NOT NULL, entity TEXT NOT NULL,
        PRIMARY KEY (scope, policy, usage, kind, entity)) WITHOUT ROWID;""",
)
