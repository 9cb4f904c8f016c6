"""What records of one account and region have in common."""

from __future__ import annotations

import msgspec


class Placed(msgspec.Struct, frozen=True):
    """A resource that knows whose it is. Its own fields come after these two."""

    account: str
    region: str

    @property
    def scope(self) -> str:
        """Whose world it is in: the key of that in the store."""
        return f"{self.account}/{self.region}"
