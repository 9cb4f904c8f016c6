"""What tasks use: metrics of services and clusters in CloudWatch, and the hours that Fargate would bill."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from cloudlet.engines.containers.api import Usage
from cloudlet.observe.metrics import Dimensions, Gauge
from cloudlet.services.ecs import preparing
from cloudlet.services.ecs.base import last
from cloudlet.services.ecs.controller import desired_count
from cloudlet.services.ecs.metadata import Metadata
from cloudlet.services.ecs.records import ON_THE_WAY, Task

_NAMESPACE = "AWS/ECS"
_INSIGHTS = "ECS/ContainerInsights"
_MINUTE = 60.0
_MIB = 1024 * 1024
_VCPUS = (("Class", "Standard/OnDemand"), ("Resource", "vCPU"), ("Service", "Fargate"), ("Type", "Resource"))


class Reporting(Metadata):
    """Measures once a minute, as long as tasks run."""

    async def start(self) -> None:
        # Container -> when, and what it had used then: CPU seconds, bytes received and sent.
        self._measured: dict[str, tuple[float, float, int, int]] = {}
        await super().start()
        self.cloud.metrics.gauge(self._measure)
        self._keep_measuring()

    def task_changed(self, scope: str, task: Task) -> None:
        super().task_changed(scope, task)
        if task.status == "RUNNING":
            for one in task.containers:
                name = preparing.container_name(task, one.name)
                self._measured.setdefault(name, (self.clock.now() - self.clock.offset, 0.0, 0, 0))
            self._keep_measuring(scope)

    def usage(self, account: str, region: str) -> list[dict[str, Any]]:
        """What Fargate would bill for each task that is remembered: vCPU-seconds and GB-seconds of what it asked for.

        From the image's pull to the task's end, a minute at least.
        """
        scope, now = f"{account}/{region}", self.clock.now()
        found = []
        for record in self.tasks.list(scope):
            task = record.value
            begun = task.pull_started or task.started
            if not begun:
                continue
            seconds = max(_MINUTE, (task.stopped or now) - begun)
            cpu, memory = self._size(scope, task)
            found.append(
                {
                    "task": preparing.task_arn(scope, task),
                    "service": task.service,
                    "status": task.status,
                    "seconds": round(seconds, 1),
                    "vcpu_seconds": round(cpu * seconds, 1),
                    "gb_seconds": round(memory / 1024 * seconds, 1),
                }
            )
        return found

    def _size(self, scope: str, task: Task) -> tuple[float, float]:
        """How many CPUs and MiB a task has asked for."""
        definition = self.definition(scope, task.task_definition)
        members: dict[str, Any] = definition.members if definition is not None else {}
        overrides = task.members.get("overrides", {})
        containers = members.get("containerDefinitions", ())
        cpu = overrides.get("cpu") or members.get("cpu") or sum(one["cpu"] for one in containers)
        memory = (
            overrides.get("memory")
            or members.get("memory")
            or sum(one.get("memory") or one.get("memoryReservation", 0) for one in containers)
        )
        return int(cpu) / 1024, float(memory)

    def _keep_measuring(self, scope: str = "") -> None:
        """Gauges are asked at the end of a minute in which something was counted: tasks that run count."""
        for place in {scope} if scope else {one.scope for one in self.tasks.all() if one.value.status == "RUNNING"}:
            running = [one.value for one in self.tasks.list(place) if one.value.status == "RUNNING"]
            cpus = sum(self._size(place, task)[0] for task in running)
            self.cloud.metrics.add(place, "AWS/Usage", "ResourceCount", _VCPUS, cpus, "None")

    async def _measure(self) -> list[Gauge]:
        running = [(one.scope, one.value) for one in self.tasks.all() if one.value.status == "RUNNING"]
        if not running or self._running is None:
            self._measured.clear()
            return []
        names = [preparing.container_name(task, one.name) for _, task in running for one in task.containers]
        usage = await self._running.usage(names)
        # CPU time passes by this machine's clock, wherever ours has been moved.
        now = self.clock.now() - self.clock.offset
        used = {task.id: self._used(scope, task, usage, now) for scope, task in running}
        self._measured = {name: (now, one.cpu_seconds, one.received, one.sent) for name, one in usage.items()}
        services: dict[tuple[str, str, str], list[Used]] = defaultdict(list)
        clusters: dict[tuple[str, str], list[Used]] = defaultdict(list)
        families: dict[tuple[str, str, str], list[Used]] = defaultdict(list)
        for scope, task in running:
            clusters[scope, task.cluster].append(used[task.id])
            families[scope, task.cluster, last(task.task_definition).partition(":")[0]].append(used[task.id])
            if task.service:
                services[scope, task.cluster, task.service].append(used[task.id])
        gauges = []
        for (scope, cluster, service), tasks in services.items():
            gauges += _utilization(scope, (("ClusterName", cluster), ("ServiceName", service)), tasks)
        for (scope, cluster), tasks in clusters.items():
            if self._has_insights(scope, cluster):
                gauges += _insights(scope, (("ClusterName", cluster),), tasks, self._counts_of_cluster(scope, cluster))
        for (scope, cluster, family), tasks in families.items():
            if self._has_insights(scope, cluster):
                dimensions = (("ClusterName", cluster), ("TaskDefinitionFamily", family))
                gauges += _insights(scope, dimensions, tasks, {})
        for (scope, cluster, service), tasks in services.items():
            if self._has_insights(scope, cluster):
                dimensions = (("ClusterName", cluster), ("ServiceName", service))
                gauges += _insights(scope, dimensions, tasks, self._counts_of_service(scope, cluster, service))
        return gauges

    def _used(self, scope: str, task: Task, usage: dict[str, Usage], now: float) -> Used:
        """What a task has used since it was last measured."""
        made = Used(*self._size(scope, task))
        for one in task.containers:
            name = preparing.container_name(task, one.name)
            if (found := usage.get(name)) is not None:
                start = (task.started - self.clock.offset, 0.0, 0, 0)
                when, cpu, received, sent = self._measured.get(name, start)
                seconds = max(1.0, now - when)
                made.cpu += max(0.0, found.cpu_seconds - cpu) / seconds
                made.memory += found.memory / _MIB
                # Containers of a task share its network.
                made.received = max(made.received, max(0, found.received - received) / seconds)
                made.sent = max(made.sent, max(0, found.sent - sent) / seconds)
        return made

    def _counts_of_cluster(self, scope: str, cluster: str) -> dict[str, int]:
        services = [one.value for one in self.services.list(scope, f"{cluster}/")]
        tasks = [one.value for one in self.tasks.list(scope, f"{cluster}/")]
        return {
            "TaskCount": sum(task.status == "RUNNING" for task in tasks),
            "ServiceCount": sum(service.status == "ACTIVE" for service in services),
        }

    def _counts_of_service(self, scope: str, cluster: str, service: str) -> dict[str, int]:
        tasks = self.tasks_of(scope, cluster, service)
        counts = {
            "RunningTaskCount": sum(task.status == "RUNNING" for task in tasks),
            "PendingTaskCount": sum(task.status in ON_THE_WAY for task in tasks),
        }
        record = self.services.get(scope, f"{cluster}/{service}")
        if record is not None:
            is_set = [one.scale is not None for one in record.value.deployments]
            counts["DesiredTaskCount"] = desired_count(record.value)
            counts["DeploymentCount"], counts["TaskSetCount"] = is_set.count(False), is_set.count(True)
        return counts

    def _has_insights(self, scope: str, cluster: str) -> bool:
        record = self.clusters.get(scope, cluster)
        settings = record.value.members["settings"] if record is not None else []
        return any(one.get("name") == "containerInsights" and one.get("value") != "disabled" for one in settings)


@dataclass(slots=True)
class Used:
    """What a task has asked for and uses: CPUs, MiB, bytes a second."""

    cpus: float
    megabytes: float
    cpu: float = 0.0
    memory: float = 0.0
    received: float = 0.0
    sent: float = 0.0


def _utilization(scope: str, dimensions: Dimensions, tasks: list[Used]) -> list[Gauge]:
    """Per cent of what tasks have asked for, on average."""
    cpu = [100 * one.cpu / (one.cpus or 1.0) for one in tasks]
    memory = [100 * one.memory / one.megabytes if one.megabytes else 0.0 for one in tasks]
    return [
        Gauge(scope, _NAMESPACE, name, dimensions, "Percent", round(sum(values) / len(values), 3))
        for name, values in (("CPUUtilization", cpu), ("MemoryUtilization", memory))
    ]


def _insights(scope: str, dimensions: Dimensions, tasks: list[Used], counts: dict[str, int]) -> list[Gauge]:
    """Container Insights: CPU units, megabytes, bytes a second, and how many there are."""
    sums = (
        ("CpuUtilized", "None", sum(one.cpu for one in tasks) * 1024),
        ("CpuReserved", "None", sum(one.cpus for one in tasks) * 1024),
        ("MemoryUtilized", "Megabytes", sum(one.memory for one in tasks)),
        ("MemoryReserved", "Megabytes", sum(one.megabytes for one in tasks)),
        ("NetworkRxBytes", "Bytes/Second", sum(one.received for one in tasks)),
        ("NetworkTxBytes", "Bytes/Second", sum(one.sent for one in tasks)),
        *((name, "Count", float(count)) for name, count in counts.items()),
    )
    return [Gauge(scope, _INSIGHTS, name, dimensions, unit, round(value, 3)) for name, unit, value in sums]
