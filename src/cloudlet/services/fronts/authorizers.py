"""Lambda authorizers: what they say of a caller, and for how long it is remembered."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.fronts import functions

_MOST = 10_000  # decisions that are kept; then it begins anew


class Silent(Exception):
    """An authorizer says nothing that counts: it is not there, it has failed, or its answer is not JSON."""


class Unauthorized(Exception):
    """An authorizer has raised an error of this name: the caller has not said who he is."""


async def ask(cloud: Cloud, account: str, region: str, uri: str, event: dict[str, Any]) -> Any:
    """What the authorizer that an URI names says of an event. Raises Silent, Unauthorized."""
    try:
        said = await functions.invoke(cloud, account, region, functions.function_of(uri), event)
        decision = msgspec.json.decode(said.payload)
    except (AwsError, msgspec.DecodeError):
        raise Silent from None
    if not said.failed:
        return decision
    if isinstance(decision, dict) and decision.get("errorMessage") == "Unauthorized":
        raise Unauthorized
    raise Silent


def allows(policy: dict[str, Any], wanted: str) -> bool:
    """Whether an authorizer's policy allows an ARN to be called; a denial wins."""
    allowed = False
    for statement in policy.get("Statement") or []:
        resources = statement.get("Resource") or []
        patterns = [resources] if isinstance(resources, str) else resources
        if any(re.fullmatch(re.escape(p).replace(r"\*", ".*").replace(r"\?", "."), wanted) for p in patterns):
            if statement.get("Effect") == "Deny":
                return False
            allowed = allowed or statement.get("Effect") == "Allow"
    return allowed


class Decisions:
    """Decisions of Lambda authorizers by authorizer and identity."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[float, dict[str, Any]]] = {}

    def get(self, key: Hashable, now: float) -> dict[str, Any] | None:
        """What was said, if it still holds at ``now`` (epoch seconds)."""
        found = self._kept.get(key)
        return found[1] if found is not None and now < found[0] else None

    def keep(self, key: Hashable, decision: dict[str, Any], until: float) -> None:
        """Remember a decision until then."""
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[key] = until, decision

    def clear(self) -> None:
        """Ask again from now on."""
        self._kept.clear()
