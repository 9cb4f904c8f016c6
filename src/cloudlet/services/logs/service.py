"""CloudWatch Logs. Groups are in ``groups.py``, streams and events in files of their names, the rest by concept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from cloudlet.services.api import Tagged, tags_in
from cloudlet.services.logs.exporting import Exporting
from cloudlet.services.logs.policies import Policies
from cloudlet.services.logs.querying import Querying
from cloudlet.services.logs.streams import Streams
from cloudlet.services.logs.tailing import Tailing


class Service(Exporting, Querying, Streams, Policies, Tailing):
    """Log groups, streams and events; functions write here, and the control API follows it."""

    def follow(self, account: str, region: str, prefix: str) -> AsyncIterator[dict[str, Any]]:
        """New events of groups whose names start with ``prefix``, from this call on, as they are stored."""
        return self.followers.add(f"{account}/{region}", lambda group, stream: group.startswith(prefix))

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {"type": "AWS::Logs::LogGroup", "name": record.name, "arn": record.value.arn}
            for record in self.groups.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self.groups)
