"""What is stored: an API and its parts, each with the members that the API's own shapes have."""

from __future__ import annotations

import secrets
import string
from typing import Any

import msgspec

_LETTERS = string.ascii_lowercase + string.digits


class Part(msgspec.Struct, frozen=True):
    """A stored resource as its API shows it: members named as in the service's model."""

    members: dict[str, Any]


class Api(Part, frozen=True):
    """An HTTP or a WebSocket API; its name in the store is its id."""


class Route(Part, frozen=True):
    """A route of an API; all parts are named ``<api id>/<own id>``."""


class RouteResponse(Part, frozen=True):
    """That a route of a WebSocket API answers its messages."""


class Integration(Part, frozen=True):
    """What a route leads to."""


class Stage(Part, frozen=True):
    """A published state of an API; named by its stage name."""


class Deployment(Part, frozen=True):
    """What an API was at a moment: its routes, integrations and authorizers are in ``snapshot``."""

    snapshot: dict[str, list[dict[str, Any]]] = {}


class Authorizer(Part, frozen=True):
    """Who decides on a request."""


class DomainName(Part, frozen=True):
    """A name of the user's own; its mappings say which API answers."""


class ApiMapping(Part, frozen=True):
    """A path of a domain name and the API's stage behind it; named ``<domain>/<own id>``."""


def new_id(length: int = 10) -> str:
    """An identifier as API Gateway makes them: it starts with a letter."""
    return secrets.choice(string.ascii_lowercase) + "".join(secrets.choice(_LETTERS) for _ in range(length - 1))
