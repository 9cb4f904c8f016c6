"""What Resource Groups keeps: groups, which are questions. Who is in one is found when it is asked."""

from __future__ import annotations

from cloudlet.services.placed import Placed
from cloudlet.services.resource_groups.queries import Query


class Group(Placed, frozen=True, omit_defaults=True):
    """A group, named by its name. ``settings`` are those members of its that have no part in who is in it."""

    name: str
    query: Query
    settings: dict[str, str | int] = {}
    tags: dict[str, str] = {}

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:resource-groups:{self.region}:{self.account}:group/{self.name}"
