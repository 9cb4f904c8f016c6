"""What a group has, once a minute, as the metrics of ``AWS/AutoScaling`` that it collects.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-metrics.html
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cloudlet.observe.metrics import Gauge
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.autoscaling.base import invalid
from cloudlet.services.autoscaling.records import Group
from cloudlet.services.autoscaling.refreshing import Refreshing

_NAMESPACE = "AWS/AutoScaling"
_PHASES = ("InService", "Pending", "Standby", "Terminating")
_METRICS = (
    *("GroupMinSize", "GroupMaxSize", "GroupDesiredCapacity"),
    *(f"Group{phase}{what}" for what in ("Instances", "Capacity") for phase in (*_PHASES, "Total")),
    # There are no warm pools; AWS has nothing to report of these then, either.
    *("WarmPoolDesiredCapacity", "WarmPoolWarmedCapacity", "WarmPoolPendingCapacity", "WarmPoolTerminatingCapacity"),
    *("WarmPoolTotalCapacity", "GroupAndWarmPoolDesiredCapacity", "GroupAndWarmPoolTotalCapacity"),
)


class Measuring(Refreshing):
    """Operations on the metrics of groups."""

    async def start(self) -> None:
        await super().start()
        self.cloud.metrics.gauge(self._measure)
        for record in self.groups.all():
            if record.value.metrics:
                self._keep_measuring(record.scope, record.name)

    async def EnableMetricsCollection(self, call: Call, input: Input) -> Output:
        wanted = input.get("Metrics") or list(_METRICS)
        if unknown := [one for one in wanted if one not in _METRICS]:
            raise invalid(f"Invalid metric(s): {unknown}")
        name = await self.change_group(
            call,
            input,
            lambda group: msgspec.structs.replace(group, metrics=tuple(dict.fromkeys([*group.metrics, *wanted]))),
        )
        self._keep_measuring(call.scope, name)
        return {}

    async def DisableMetricsCollection(self, call: Call, input: Input) -> Output:
        wanted = input.get("Metrics") or list(_METRICS)
        await self.change_group(
            call,
            input,
            lambda group: msgspec.structs.replace(
                group, metrics=tuple(one for one in group.metrics if one not in wanted)
            ),
        )
        return {}

    async def DescribeMetricCollectionTypes(self, call: Call, input: Input) -> Output:
        return {
            "Metrics": [{"Metric": name} for name in _METRICS],
            "Granularities": [{"Granularity": "1Minute"}],
        }

    def _keep_measuring(self, scope: str, name: str) -> None:
        """Gauges are asked at the end of a minute in which something was counted."""
        least = float(self.group(scope, name).members["MinSize"])
        self.cloud.metrics.add(scope, _NAMESPACE, "GroupMinSize", (("AutoScalingGroupName", name),), least, "None")

    async def _measure(self) -> Iterable[Gauge]:
        return [
            Gauge(record.scope, _NAMESPACE, metric, (("AutoScalingGroupName", record.name),), "None", value)
            for record in self.groups.all()
            if record.value.metrics
            for metric, value in measured(record.value).items()
            if metric in record.value.metrics
        ]


def measured(group: Group) -> dict[str, float]:
    """What a group has of each of its metrics."""
    found: dict[str, float] = {
        "GroupMinSize": group.members["MinSize"],
        "GroupMaxSize": group.members["MaxSize"],
        "GroupDesiredCapacity": group.desired,
    }
    there = [one for one in group.instances if one.state != "Terminated"]
    for phase in (*_PHASES, "Total"):
        own = [one for one in there if phase in ("Total", one.state.partition(":")[0])]
        found |= {f"Group{phase}Instances": len(own), f"Group{phase}Capacity": sum(one.weight for one in own)}
    return found
