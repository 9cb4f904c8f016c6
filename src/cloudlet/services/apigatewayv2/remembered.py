"""What authorizers have said, for as long as their settings let it be remembered."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

_MOST = 10_000  # decisions that are kept; then it begins anew


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
