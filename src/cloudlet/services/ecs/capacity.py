"""Managed scaling: the Auto Scaling group of a capacity provider grows for tasks that find no place, and shrinks later.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-auto-scaling.html
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.observe.metrics import Dimensions, Gauge
from cloudlet.services.ecs import placement
from cloudlet.services.ecs.base import last
from cloudlet.services.ecs.instances import Instances
from cloudlet.services.ecs.placement import Need, Seat
from cloudlet.services.ecs.records import ContainerInstance, Service, Task
from cloudlet.store import Tx

log = logging.getLogger("cloudlet.ecs")

_IDLE = 900.0  # seconds until an instance without tasks goes, as AWS's fifteen looks take
_NAMESPACE = "AWS/ECS/ManagedScaling"
_METRIC = "CapacityProviderReservation"


class Capacity(Instances):
    """Instances as many as tasks need."""

    async def start(self) -> None:
        self._idle: dict[str, Timer] = {}  # container instances without tasks: when they go
        self.retiring: dict[str, str] = {}  # container instances that are drained for their group, and that
        self._seating: set[tuple[str, str]] = set()  # clusters whose waiting tasks are looked at soon
        self.cloud.metrics.gauge(self._measure_capacity)
        await super().start()
        for record in self.instances.all():
            self._end_when_idle(record.scope, record.value)

    async def stop(self) -> None:
        for timer in self._idle.values():
            timer.cancel()
        await super().stop()

    # Tasks that wait

    def brings_capacity(self, scope: str, task: Task) -> bool:
        return self._managed(scope, task.members.get("capacityProviderName", "")) is not None

    def take_up(self, scope: str, task: Task) -> None:
        if task.waits:
            self._seat_soon(scope, task.cluster)
        else:
            super().take_up(scope, task)

    def _seat_soon(self, scope: str, cluster: str) -> None:
        if (scope, cluster) not in self._seating and not self._stopping:
            self._seating.add((scope, cluster))
            self.cloud.spawn(self._seat(scope, cluster), f"tasks of {cluster} that wait for an instance")

    async def _seat(self, scope: str, cluster: str) -> None:
        """Put the tasks that wait on instances, in their order; what is left has the providers bring more."""
        self._seating.discard((scope, cluster))

        def work(tx: Tx) -> tuple[list[Task], set[str]]:
            found, lacking = [], set()
            for task in self.waiting_tasks(scope, cluster, tx):
                definition = self.definition(scope, task.task_definition, tx)
                assert definition is not None
                placed, _, _ = self.placed(tx, scope, [task], definition, *task.placement)
                for one in placed:
                    self.put_task(tx, scope, one)
                if not placed:
                    lacking.add(task.members["capacityProviderName"])
                found += placed
            return found, lacking

        placed, lacking = await self.db.write(work, long=True)
        for task in placed:
            self.take_up(scope, task)
        for provider in lacking:
            await self._grow(scope, cluster, provider)

    def waiting_tasks(self, scope: str, cluster: str, tx: Tx | None = None) -> list[Task]:
        """The tasks of a cluster that wait for an instance, in the order in which they were run."""
        found = [one.value for one in self.tasks.list(scope, f"{cluster}/", tx) if one.value.waits]
        return sorted(found, key=lambda task: task.created)

    # Up

    async def want_capacity(self, scope: str, name: str) -> None:
        """Tasks of a service found no place: let the group of their capacity provider grow."""
        record = self.services.get(scope, name)
        if record is not None and (provider := self._provider_of_service(record.value)):
            await self._grow(scope, name.partition("/")[0], provider)

    async def _grow(self, scope: str, cluster: str, provider: str) -> None:
        managed = self._managed(scope, provider)
        if managed is None:
            return
        group, scaling = managed["autoScalingGroupArn"].rpartition("/")[2], managed["managedScaling"]
        try:
            shown = await self._group(scope, group)
        except AwsError as error:
            log.warning("the group of a capacity provider: %s", error)
            return
        desired, seats = shown["DesiredCapacity"], self._seats_of(scope, cluster, provider)
        staying = [one for one in self.seats(scope, cluster) if one.instance.id not in self.retiring]
        if sum(one.instance.provider == provider for one in staying) < desired:
            return  # some are on their way; when they are there, tasks look again
        needed = placement.instances_needed(seats, self._needs(scope, cluster, provider), self._is_busy(scope))
        more = math.ceil(needed * 100 / scaling["targetCapacity"]) - desired
        if more <= 0:
            return
        more = max(scaling["minimumScalingStepSize"], min(scaling["maximumScalingStepSize"], more))
        wanted = min(shown["MaxSize"], desired + more)
        if wanted > desired:
            ask = {"AutoScalingGroupName": group, "DesiredCapacity": wanted}
            await self._ask(scope, "autoscaling", "SetDesiredCapacity", ask)
            self._report(scope, cluster, provider)

    def _needs(self, scope: str, cluster: str, provider: str) -> list[Need]:
        """What tasks without a place need of a provider: those that wait, and those of services to come."""
        found = []
        for task in self.waiting_tasks(scope, cluster):
            definition = self.definition(scope, task.task_definition)
            if definition is not None and task.members["capacityProviderName"] == provider:
                found.append(placement.need_of(definition.members, task.members.get("overrides", {})))
        for place, name in self._unplaced:
            record = self.services.get(place, name)
            if place != scope or record is None or name.partition("/")[0] != cluster:
                continue
            service, primary = record.value, record.value.primary
            if primary is None or self._provider_of_service(service) != provider:
                continue
            definition = self.definition(scope, primary.task_definition)
            active = sum(one.is_active for one in self.tasks_of(scope, cluster, service.members["serviceName"]))
            if definition is not None:
                found += [placement.need_of(definition.members, {})] * max(1, service.desired - active)
        return found

    # Down

    def task_changed(self, scope: str, task: Task) -> None:
        super().task_changed(scope, task)
        if task.instance and task.status == "STOPPED":
            self._seat_soon_if_waited_for(scope, task.cluster)
            instance = self._find(scope, task.cluster, task.instance)
            if instance is not None:
                self._end_when_idle(scope, instance)

    def _cluster_changed(self, scope: str, cluster: str) -> None:
        super()._cluster_changed(scope, cluster)
        self._seat_soon_if_waited_for(scope, cluster)
        for record in self.instances.list(scope, f"{cluster}/"):
            if record.value.id not in self._idle:
                self._end_when_idle(scope, record.value)

    def _seat_soon_if_waited_for(self, scope: str, cluster: str) -> None:
        if self.waiting_tasks(scope, cluster):
            self._seat_soon(scope, cluster)

    def _end_when_idle(self, scope: str, instance: ContainerInstance) -> None:
        """Look in some time whether an instance of a managed provider has had no task since."""
        if (timer := self._idle.pop(instance.id, None)) is not None:
            timer.cancel()
        if self._managed(scope, instance.provider) is not None:
            self._report(scope, instance.cluster, instance.provider)
            self._idle[instance.id] = self.clock.call_later(_IDLE, lambda: self._look_at(scope, instance))

    def _look_at(self, scope: str, instance: ContainerInstance) -> None:
        self._idle.pop(instance.id, None)
        self.cloud.spawn(self._end_idle(scope, instance), f"the instance {instance.ec2_id} may be idle")

    async def _end_idle(self, scope: str, instance: ContainerInstance) -> None:
        managed, is_busy = self._managed(scope, instance.provider), self._is_busy(scope)
        seats = self._seats_of(scope, instance.cluster, instance.provider)
        mine = next((seat for seat in seats if seat.instance.id == instance.id), None)
        if managed is None or mine is None or is_busy(mine):
            return
        busy = sum(map(is_busy, seats))
        if len(seats) <= math.ceil(busy * 100 / managed["managedScaling"]["targetCapacity"]):
            self._end_when_idle(scope, instance)  # it is the reserve
            return
        ask = {"InstanceId": instance.ec2_id, "ShouldDecrementDesiredCapacity": True}
        try:
            await self._ask(scope, "autoscaling", "TerminateInstanceInAutoScalingGroup", ask)
        except AwsError as error:
            log.debug("%s stays: %s", instance.ec2_id, error)  # the group has its least size

    # What CloudWatch has of it

    def _report(self, scope: str, cluster: str, provider: str) -> None:
        """Gauges are asked at the end of a minute in which something was counted."""
        value = self._reservation(scope, cluster, provider)
        self.cloud.metrics.add(scope, _NAMESPACE, _METRIC, _dimensions(cluster, provider), value, "None")

    async def _measure_capacity(self) -> Iterable[Gauge]:
        there = {(one.scope, one.value.cluster, one.value.provider) for one in self.instances.all()}
        return [
            Gauge(scope, _NAMESPACE, _METRIC, _dimensions(cluster, provider), "None", value)
            for scope, cluster, provider in sorted(there)
            if self._managed(scope, provider) is not None
            for value in (self._reservation(scope, cluster, provider),)
        ]

    def _reservation(self, scope: str, cluster: str, provider: str) -> float:
        """The instances that are needed in per cent of those that are there; without any, 200 or 100."""
        seats = self._seats_of(scope, cluster, provider)
        needed = placement.instances_needed(seats, self._needs(scope, cluster, provider), self._is_busy(scope))
        return round(100 * needed / len(seats), 3) if seats else (200.0 if needed else 100.0)

    # Parts

    def _managed(self, scope: str, name: str) -> dict[str, Any] | None:
        """The settings of a capacity provider that scales its group, or None."""
        found = self.providers.get(scope, name) if name else None
        provider: dict[str, Any] = found.value.members["autoScalingGroupProvider"] if found is not None else {}
        return provider if provider and provider["managedScaling"]["status"] == "ENABLED" else None

    def _provider_of_service(self, service: Service) -> str:
        """The capacity provider that a service's tasks are put on, or nothing."""
        strategy = service.members.get("capacityProviderStrategy") or ()
        best = max(strategy, key=lambda one: (one.get("base", 0), one.get("weight", 0)), default=None)
        return last(best["capacityProvider"]) if best is not None else ""

    def _seats_of(self, scope: str, cluster: str, provider: str) -> list[Seat]:
        seats = self.seats(scope, cluster)
        return [one for one in seats if one.instance.provider == provider and one.instance.status == "ACTIVE"]

    def _is_busy(self, scope: str) -> Any:
        """Whether an instance has tasks of anything but daemons, which go wherever instances are."""

        def is_daemon(task: Task) -> bool:
            record = self.services.get(scope, f"{task.cluster}/{task.service}") if task.service else None
            return record is not None and record.value.members.get("schedulingStrategy") == "DAEMON"

        return lambda seat: not all(is_daemon(task) for task in seat.tasks)

    async def _group(self, scope: str, name: str) -> dict[str, Any]:
        ask = {"AutoScalingGroupNames": [name]}
        found = (await self._ask(scope, "autoscaling", "DescribeAutoScalingGroups", ask))["AutoScalingGroups"]
        if not found:
            raise AwsError("ValidationError", f"There is no Auto Scaling group {name}.")
        return found[0]  # type: ignore[no-any-return]


def _dimensions(cluster: str, provider: str) -> Dimensions:
    return ("CapacityProviderName", provider), ("ClusterName", cluster)
