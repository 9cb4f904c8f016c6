"""What Application Auto Scaling keeps. ``members`` are named as in the API's shapes."""

from __future__ import annotations

from typing import Any

import msgspec


class Target(msgspec.Struct, frozen=True):
    """A scalable target, named ``<namespace>|<resource>|<dimension>``."""

    members: dict[str, Any]
    tags: dict[str, str] = {}
    scaled_out: float = 0.0  # when it last was
    base: int = 0  # how many there were before that
    scaled_in: float = 0.0
    activities: tuple[dict[str, Any], ...] = ()  # newest first


class Policy(msgspec.Struct, frozen=True):
    """A scaling policy, named ``<target's name>|<policy>``."""

    members: dict[str, Any]


class Action(msgspec.Struct, frozen=True):
    """A scheduled action, named ``<target's name>|<action>``. ``done`` is when it last was due."""

    members: dict[str, Any]
    done: float = 0.0
