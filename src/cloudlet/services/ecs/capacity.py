"""Managed scaling: the Auto Scaling group of a capacity provider grows for tasks that find no place, and shrinks later.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-auto-scaling.html
"""

from __future__ import annotations

import logging
import math
from typing import Any

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.services.ecs import placement
from cloudlet.services.ecs.base import last
from cloudlet.services.ecs.instances import Instances
from cloudlet.services.ecs.records import Service, Task

log = logging.getLogger("cloudlet.ecs")

_IDLE = 900.0  # seconds until an instance without tasks goes, as AWS's fifteen looks take


class Capacity(Instances):
    """Instances as many as tasks need."""

    async def start(self) -> None:
        self._idle: dict[tuple[str, str], Timer] = {}
        await super().start()
        for record in self.clusters.all():
            self._shrink_later(record.scope, record.name)

    async def stop(self) -> None:
        for timer in self._idle.values():
            timer.cancel()
        await super().stop()

    async def want_capacity(self, scope: str, name: str) -> None:
        """Tasks of a service found no place: let the group of their capacity provider grow."""
        cluster = name.partition("/")[0]
        record = self.services.get(scope, name)
        provider = self._provider(scope, record.value) if record is not None else None
        if record is None or provider is None:
            return
        group = provider["autoScalingGroupArn"].rpartition("/")[2]
        scaling = provider["managedScaling"]
        try:
            shown = await self._group(scope, group)
        except AwsError as error:
            log.warning("the group of a capacity provider: %s", error)
            return
        seats = [seat for seat in self.seats(scope, cluster) if seat.instance.provider == provider["name"]]
        if len(seats) < shown["DesiredCapacity"]:
            return  # some are on their way; when they are there, tasks look again
        missing = max(1, record.value.desired - len(self._running_of(scope, cluster, record.value)))
        more = math.ceil(missing / self._fit(scope, record.value, seats) * 100 / scaling["targetCapacity"])
        more = max(scaling["minimumScalingStepSize"], min(scaling["maximumScalingStepSize"], more))
        wanted = min(shown["MaxSize"], shown["DesiredCapacity"] + more)
        if wanted > shown["DesiredCapacity"]:
            ask = {"AutoScalingGroupName": group, "DesiredCapacity": wanted}
            await self._ask(scope, "autoscaling", "SetDesiredCapacity", ask)

    def task_changed(self, scope: str, task: Task) -> None:
        super().task_changed(scope, task)
        if task.instance and task.status == "STOPPED":
            self._shrink_later(scope, task.cluster)

    def _shrink_later(self, scope: str, cluster: str) -> None:
        """Look in some time whether instances have had no task since."""
        record = self.clusters.get(scope, cluster)
        providers = record.value.members.get("capacityProviders", ()) if record is not None else ()
        if any(self.providers.get(scope, last(one)) is not None for one in providers):
            if (timer := self._idle.pop((scope, cluster), None)) is not None:
                timer.cancel()
            self._idle[scope, cluster] = self.clock.call_later(_IDLE, lambda: self._shrink_soon(scope, cluster))

    def _shrink_soon(self, scope: str, cluster: str) -> None:
        self._idle.pop((scope, cluster), None)
        self.cloud.spawn(self._shrink(scope, cluster), f"idle instances of {cluster}")

    async def _shrink(self, scope: str, cluster: str) -> None:
        for seat in self.seats(scope, cluster):
            found = self.providers.get(scope, seat.instance.provider) if seat.instance.provider else None
            if found is None or seat.tasks:
                continue
            provider = found.value.members["autoScalingGroupProvider"]
            if provider["managedScaling"]["status"] != "ENABLED" or provider["managedScaling"]["targetCapacity"] < 100:
                continue
            ask = {"InstanceId": seat.instance.ec2_id, "ShouldDecrementDesiredCapacity": True}
            try:
                await self._ask(scope, "autoscaling", "TerminateInstanceInAutoScalingGroup", ask)
            except AwsError as error:
                log.debug("%s stays: %s", seat.instance.ec2_id, error)  # the group has its least size

    def _provider(self, scope: str, service: Service) -> dict[str, Any] | None:
        """The provider with managed scaling that a service's tasks are put on."""
        strategy = service.members.get("capacityProviderStrategy") or ()
        for one in sorted(strategy, key=lambda each: (each.get("base", 0), each.get("weight", 0)), reverse=True):
            name = last(one["capacityProvider"])
            found = self.providers.get(scope, name)
            if found is not None:
                provider = found.value.members["autoScalingGroupProvider"]
                return {**provider, "name": name} if provider["managedScaling"]["status"] == "ENABLED" else None
        return None

    def _running_of(self, scope: str, cluster: str, service: Service) -> list[Task]:
        return [one for one in self.tasks_of(scope, cluster, service.members["serviceName"]) if one.is_active]

    def _fit(self, scope: str, service: Service, seats: list[placement.Seat]) -> int:
        """How many of its tasks an instance holds, as far as one is there to tell."""
        primary = service.primary
        definition = self.definition(scope, primary.task_definition) if primary is not None else None
        if definition is None or not seats:
            return 1
        need, one = placement.need_of(definition.members, {}), seats[0].instance
        by_cpu = one.cpu // need.cpu if need.cpu else one.cpu
        return max(1, min(by_cpu, one.memory // need.memory if need.memory else one.memory))

    async def _group(self, scope: str, name: str) -> dict[str, Any]:
        ask = {"AutoScalingGroupNames": [name]}
        found = (await self._ask(scope, "autoscaling", "DescribeAutoScalingGroups", ask))["AutoScalingGroups"]
        if not found:
            raise AwsError("ValidationError", f"There is no Auto Scaling group {name}.")
        return found[0]  # type: ignore[no-any-return]
