"""What tasks use: metrics of services and clusters in CloudWatch, and the hours that Fargate would bill."""

from __future__ import annotations

from typing import Any

from cloudlet.engines.containers.api import Usage
from cloudlet.observe.metrics import Gauge
from cloudlet.services.ecs import preparing
from cloudlet.services.ecs.metadata import Metadata
from cloudlet.services.ecs.records import Task

_NAMESPACE = "AWS/ECS"
_INSIGHTS = "ECS/ContainerInsights"
_MINUTE = 60.0
_VCPUS = (("Class", "Standard/OnDemand"), ("Resource", "vCPU"), ("Service", "Fargate"), ("Type", "Resource"))


class Reporting(Metadata):
    """Measures once a minute, as long as tasks run."""

    async def start(self) -> None:
        self._measured: dict[str, tuple[float, float]] = {}  # container -> when, CPU seconds so far
        await super().start()
        self.cloud.metrics.gauge(self._measure)
        self._keep_measuring()

    def task_changed(self, scope: str, task: Task) -> None:
        super().task_changed(scope, task)
        if task.status == "RUNNING":
            for one in task.containers:
                name = preparing.container_name(task, one.name)
                self._measured.setdefault(name, (self.clock.now() - self.clock.offset, 0.0))
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
        groups: dict[tuple[str, str, str], list[tuple[Task, float, float]]] = {}
        for scope, task in running:
            cpu, memory = self._share(scope, task, usage, now)
            groups.setdefault((scope, task.cluster, task.service), []).append((task, cpu, memory))
        self._measured = {name: (now, used.cpu_seconds) for name, used in usage.items()}
        gauges = []
        for (scope, cluster, service), tasks in groups.items():
            if not service:
                continue
            dimensions = (("ClusterName", cluster), ("ServiceName", service))
            for name, values in (
                ("CPUUtilization", [cpu for _, cpu, _ in tasks]),
                ("MemoryUtilization", [memory for _, _, memory in tasks]),
            ):
                gauges.append(
                    Gauge(scope, _NAMESPACE, name, dimensions, "Percent", round(sum(values) / len(values), 3))
                )
            if self._has_insights(scope, cluster):
                gauges.append(Gauge(scope, _INSIGHTS, "RunningTaskCount", dimensions, "Count", float(len(tasks))))
        return gauges

    def _share(self, scope: str, task: Task, usage: dict[str, Usage], now: float) -> tuple[float, float]:
        """Per cent of its CPU that a task has used since it was last measured, and of its memory that it uses."""
        cpus, megabytes = self._size(scope, task)
        used = cpu = 0.0
        for one in task.containers:
            name = preparing.container_name(task, one.name)
            if (found := usage.get(name)) is not None:
                when, before = self._measured.get(name, (task.started - self.clock.offset, 0.0))
                cpu += max(0.0, found.cpu_seconds - before) / max(1.0, now - when)
                used += found.memory / 1024 / 1024
        return 100 * cpu / (cpus or 1.0), 100 * used / megabytes if megabytes else 0.0

    def _has_insights(self, scope: str, cluster: str) -> bool:
        record = self.clusters.get(scope, cluster)
        settings = record.value.members["settings"] if record is not None else []
        return any(one.get("name") == "containerInsights" and one.get("value") != "disabled" for one in settings)
