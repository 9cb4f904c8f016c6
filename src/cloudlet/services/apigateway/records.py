"""What is stored of a REST API. Parts are named ``<api id>/<own id>``; members are named as in the API's shapes."""

from __future__ import annotations

from typing import Any

import msgspec


class RestApi(msgspec.Struct, frozen=True):
    """An API; its name in the store is its id."""

    members: dict[str, Any]


class Resource(msgspec.Struct, frozen=True):
    """A path of an API with its methods (``resourceMethods``), their integrations and responses."""

    members: dict[str, Any]


class Stage(msgspec.Struct, frozen=True):
    """A published deployment; named by its stage name."""

    members: dict[str, Any]


class Deployment(msgspec.Struct, frozen=True):
    """What an API was when it was deployed; stages answer by ``snapshot``, not by the API as it is now."""

    members: dict[str, Any]
    snapshot: dict[str, list[dict[str, Any]]] = {}
    policy: str | None = None  # the API's at that time, or ""; None of one that was made before it was kept


class Authorizer(msgspec.Struct, frozen=True):
    """A function that decides who may call."""

    members: dict[str, Any]


class Model(msgspec.Struct, frozen=True):
    """A JSON schema for request bodies; named by its own name."""

    members: dict[str, Any]


class RequestValidator(msgspec.Struct, frozen=True):
    """Which parts of a request are held against the method's parameters and models."""

    members: dict[str, Any]


class GatewayResponse(msgspec.Struct, frozen=True):
    """The API's own wording of one of the gateway's answers; named by its type."""

    members: dict[str, Any]


class ApiKey(msgspec.Struct, frozen=True):
    """A key that clients send; named by its id."""

    members: dict[str, Any]


class UsagePlan(msgspec.Struct, frozen=True):
    """Which keys may use which stages; ``keys`` are key ids."""

    members: dict[str, Any]
    keys: tuple[str, ...] = ()


class DomainName(msgspec.Struct, frozen=True):
    """A name of the user's own, with its base path mappings."""

    members: dict[str, Any]
    mappings: dict[str, dict[str, Any]] = {}


class Account(msgspec.Struct, frozen=True):
    """The account's settings."""

    members: dict[str, Any]
