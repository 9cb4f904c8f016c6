"""What instances use: once a minute, as the metrics of ``AWS/EC2``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cloudlet.observe.metrics import Dimensions, Gauge
from cloudlet.services.ec2 import instance_types

if TYPE_CHECKING:
    from cloudlet.engines.containers.api import Usage
    from cloudlet.services.ec2.records import Item
    from cloudlet.services.ec2.service import Service

_NAMESPACE = "AWS/EC2"
_CHECKS = ("", "_Instance", "_System")  # a machine that fails them has ended, and is not running
_GROUP = "aws:autoscaling:groupName"


class Meter:
    """Measures while instances run. What the tasks of a container instance use is what their instance uses."""

    def __init__(self, ec2: Service) -> None:
        self._ec2 = ec2
        self._clock = ec2.clock
        self._since: dict[str, float] = {}  # instance -> since when what is new in it has been running at most
        self._last: dict[str, tuple[float, Usage]] = {}  # container -> when, and what it had used by then
        ec2.cloud.metrics.gauge(self._measure)

    def begin(self, scope: str, id: str, is_new: bool) -> None:
        """Measure an instance from now on: gauges are asked at the end of a minute in which something was counted."""
        if is_new:
            self._since[id] = self._now()
        self._ec2.cloud.metrics.add(scope, _NAMESPACE, "StatusCheckFailed", (("InstanceId", id),), 0.0, "Count")

    def _now(self) -> float:
        """CPU time passes by this machine's clock, wherever ours has been moved."""
        return self._clock.now() - self._clock.offset

    async def _measure(self) -> Iterable[Gauge]:
        running = [
            (one.scope, one.value)
            for one in self._ec2.items.all()
            if one.name.startswith("i-") and one.value.shown["State"]["Name"] == "running"
        ]
        if not running:
            self._last.clear()
            self._since.clear()
            return []
        ecs: Any = await self._ec2.cloud.service("ecs")
        usage: dict[str, dict[str, Usage]] = await ecs.usage_of_guests()
        now, gauges = self._now(), []
        for scope, item in running:
            if (used := usage.get(item.id)) is not None:
                gauges += self._gauges(scope, item, used, now)
        self._last = {name: (now, one) for used in usage.values() for name, one in used.items()}
        self._since = dict.fromkeys(usage, now)
        return gauges

    def _gauges(self, scope: str, item: Item, used: dict[str, Usage], now: float) -> list[Gauge]:
        cpus, received, sent = 0.0, 0, 0
        for name, one in used.items():
            when, before = self._last.get(name, (self._since.get(item.id), None))
            if when is None:
                continue  # taken up: what it has used before is not of this minute
            cpus += max(0.0, one.cpu_seconds - (before.cpu_seconds if before else 0.0)) / max(1.0, now - when)
            received += max(0, one.received - (before.received if before else 0))
            sent += max(0, one.sent - (before.sent if before else 0))
        share = min(100.0, 100 * cpus / instance_types.get(item.shown["InstanceType"]).cpus)
        found = (("CPUUtilization", "Percent", share), ("NetworkIn", "Bytes", received), ("NetworkOut", "Bytes", sent))
        own: Dimensions = (("InstanceId", item.id),)
        places = [own, (("AutoScalingGroupName", item.tags[_GROUP]),)] if _GROUP in item.tags else [own]
        checks = [Gauge(scope, _NAMESPACE, f"StatusCheckFailed{of}", own, "Count", 0.0) for of in _CHECKS]
        return checks + [
            Gauge(scope, _NAMESPACE, name, dimensions, unit, round(value, 3))
            for dimensions in places
            for name, unit, value in found
        ]
