"""EventBridge. Buses are in ``buses.py``, rules and targets in ``rules.py``, events in ``publishing.py``, archives and
replays in ``archives.py``, API destinations in ``connections.py``; how events reach targets is in ``delivery.py`` and
``destinations.py``, schedules are in ``ticking.py``."""

from __future__ import annotations

from cloudlet.services.api import Tagged, tags_in
from cloudlet.services.events.archives import Archives
from cloudlet.services.events.buses import Buses
from cloudlet.services.events.connections import Connections
from cloudlet.services.events.rules import Rules


class Service(Archives, Connections, Rules, Buses):
    """Event buses with rules, targets, schedules, archives, replays, connections and API destinations."""

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        scope = f"{account}/{region}"
        buses = [
            {"type": "AWS::Events::EventBus", "name": record.name, "arn": record.value.arn}
            for record in self._buses.list(scope)
        ]
        rules = [
            {"type": "AWS::Events::Rule", "name": record.value.name, "arn": record.value.arn}
            for record in self._rules.list(scope)
        ]
        return buses + rules

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self._buses, self._rules)
