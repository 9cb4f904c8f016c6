"""Tasks and what sends them traffic: target groups of load balancers, registries of Cloud Map."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Input, Output
from cloudlet.services.ecs.base import invalid, last
from cloudlet.services.ecs.health import checked
from cloudlet.services.ecs.records import Task
from cloudlet.services.ecs.task_sets import TaskSets

log = logging.getLogger("cloudlet.ecs")

SELF = "ecs.amazonaws.com"


class Balancing(TaskSets):
    """Registration of tasks, and the health that load balancers see."""

    async def start(self) -> None:
        await super().start()
        self._target_states: dict[str, dict[str, str]] = {}  # task -> target group -> state
        self._balanced: dict[str, tuple[str, Task]] = {}
        self._news = False
        self._looking: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._unsubscribe: Callable[[], None] | None = None

    async def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
        await super().stop()

    async def check_balancers(
        self, scope: str, balancers: list[dict[str, Any]], mode: str, may_be_alone: bool = False
    ) -> None:
        """Raises InvalidParameterException for a load balancer that tasks cannot be registered with.

        ``may_be_alone``: a target group may come behind its listener later.
        """
        alternates = {one["advancedConfiguration"]["alternateTargetGroupArn"] for one in balancers if _has_choice(one)}
        for arn in [*(one["targetGroupArn"] for one in balancers), *alternates]:
            try:
                found = await self._ask(scope, "elbv2", "DescribeTargetGroups", {"TargetGroupArns": [arn]})
            except AwsError as error:
                if error.code == "NotImplemented":
                    raise
                raise invalid(f"The target group does not exist: {arn}") from None
            group = found["TargetGroups"][0]
            kind = group.get("TargetType", "instance")
            # A target of type instance is this machine with a port that is mapped to the task.
            if mode and kind != ("ip" if mode == "awsvpc" else "instance"):
                raise invalid(
                    f"The provided target group {arn} has target type {kind}, which is incompatible with the {mode} "
                    "network mode specified in the task definition."
                )
            if not group.get("LoadBalancerArns") and arn not in alternates and not may_be_alone:
                raise invalid(f"The target group with targetGroupArn {arn} does not have an associated load balancer.")
        for balancer in balancers:
            more = balancer.get("advancedConfiguration", {})
            for rule in [more[key] for key in ("productionListenerRule", "testListenerRule") if key in more]:
                await self.actions_of(scope, rule)

    async def actions_of(self, scope: str, rule: str) -> tuple[list[dict[str, Any]], str]:
        """The actions of a listener rule, or of a listener by its ARN, and the listener's ARN where they are its own.

        Raises InvalidParameterException.
        """
        is_rule = ":listener-rule/" in rule
        operation, key = ("DescribeRules", "RuleArns") if is_rule else ("DescribeListeners", "ListenerArns")
        try:
            found = await self._ask(scope, "elbv2", operation, {key: [rule]})
        except AwsError as error:
            if error.code == "NotImplemented":
                raise
            raise invalid(f"The listener rule does not exist: {rule}") from None
        if not is_rule:
            return found["Listeners"][0]["DefaultActions"], rule
        one = found["Rules"][0]
        listener = rule.replace(":listener-rule/", ":listener/").rpartition("/")[0]
        return one["Actions"], listener if one.get("IsDefault") else ""

    async def check_registries(self, registries: list[dict[str, Any]]) -> None:
        """Raises NotImplemented where Cloud Map is not there, InvalidParameterException for an unknown service."""
        for registry in registries:
            if len(arn := registry["registryArn"].split(":")) < 6 or arn[2] != "servicediscovery":
                raise invalid(f"registryArn is not valid: {registry['registryArn']}")
            try:
                await self._registry(registry)
            except AwsError as error:
                if error.code == "NotImplemented":
                    raise
                raise invalid(f"The service registry does not exist: {registry['registryArn']}") from None

    async def connect(self, scope: str, task: Task, definition: dict[str, Any]) -> None:
        """Register a task with its target groups and registries. Raises AwsError."""
        for balancer in task.balancers:
            target = self._target_of(task, balancer)
            await self._ask(
                scope,
                "elbv2",
                "RegisterTargets",
                {"TargetGroupArn": balancer["targetGroupArn"], "Targets": [target]},
            )
        for registry in task.registries:
            attributes = {
                "AVAILABILITY_ZONE": f"{scope.split('/')[1]}a",
                "REGION": scope.split("/")[1],
                "AWS_INSTANCE_IPV4": task.address or "127.0.0.1",
                "ECS_SERVICE_NAME": task.service,
                "ECS_CLUSTER_NAME": task.cluster,
                "ECS_TASK_DEFINITION_FAMILY": definition["family"],
            }
            port = registry.get("containerPort") or registry.get("port")
            if port is None and not task.ports:
                mappings = [one for each in definition["containerDefinitions"] for one in each["portMappings"]]
                port = mappings[0]["containerPort"] if len(mappings) == 1 else None
            if port is not None or task.ports:
                attributes["AWS_INSTANCE_IPV4"], port = self._place(task, port or task.ports[0][0])
                attributes["AWS_INSTANCE_PORT"] = str(port)
            if "HealthCheckCustomConfig" in await self._registry(registry):
                is_well = task.health == "HEALTHY" or not checked(definition)
                attributes["AWS_INIT_HEALTH_STATUS"] = "HEALTHY" if is_well else "UNHEALTHY"
            await self._discovery(registry, "RegisterInstance", **_instance(registry, task), Attributes=attributes)
        self.watch_targets_of(scope, task)

    def watch_targets_of(self, scope: str, task: Task) -> None:
        """See from here on what load balancers think of a task."""
        if task.balancers:
            self._balanced[task.id] = (scope, task)
            self._hear()

    async def disconnect(self, scope: str, task: Task) -> None:
        """Take a task out of its target groups and registries, and wait until its last requests have been served."""
        self._balanced.pop(task.id, None)
        self._target_states.pop(task.id, None)
        for registry in task.registries:
            await self._gone(self._discovery(registry, "DeregisterInstance", **_instance(registry, task)))
        for balancer in task.balancers:
            ask = {"TargetGroupArn": balancer["targetGroupArn"], "Targets": [self._target_of(task, balancer)]}
            await self._gone(self._ask(scope, "elbv2", "DeregisterTargets", ask))
        runs = any(one.status == "RUNNING" for one in task.containers)
        if task.balancers and runs and task.stop_code not in ("EssentialContainerExited", "TerminationNotice"):
            await self._drained(scope, task)

    async def tell_health(self, scope: str, task: Task) -> None:
        """Cloud Map hears of a task's health, where its service leaves that to us."""
        if task.health in ("HEALTHY", "UNHEALTHY"):
            for registry in task.registries:
                told = {**_instance(registry, task), "Status": task.health}
                await self._gone(self._discovery(registry, "UpdateInstanceCustomHealthStatus", **told))

    async def judge(self, scope: str, task: Task, has_checks: bool) -> None:
        """Whether a task is ready, or to be replaced by its service."""
        if not task.is_active:
            return
        states = self._target_states.get(task.id, {})
        is_well = task.status == "RUNNING" and (task.health == "HEALTHY" or not has_checks)
        if task.balancers:
            if task.ready and is_well and len(states) < len({one["targetGroupArn"] for one in task.balancers}):
                return  # after a restart nobody has looked yet: what was found before holds
            good = self._good_states(scope, task)
            is_well = is_well and all(states.get(one["targetGroupArn"]) in good for one in task.balancers)
        fault = ""
        if task.service and task.started and self.clock.now() < task.started + task.grace:
            if task.health == "UNHEALTHY" or "unhealthy" in states.values():
                self.clock.call_at(task.started + task.grace, lambda: self.poke_task(task.id))
        elif task.service:
            if task.health == "UNHEALTHY":
                fault = "Task failed container health checks"
            for group, state in states.items():
                if state == "unhealthy":
                    fault = f"Task failed ELB health checks in (target-group {group})"
        if (is_well, fault) != (task.ready, task.fault):
            await self.change_task(scope, task, ready=is_well, was_ready=task.was_ready or is_well, fault=fault)
            self.task_changed(scope, task)

    def _good_states(self, scope: str, task: Task) -> tuple[str, ...]:
        """What a load balancer says of a target that is well: a task set may be behind a listener only later."""
        record = self.services.get(scope, f"{task.cluster}/{task.service}") if task.service else None
        one = record.value.deployment(task.deployment) if record is not None else None
        return ("healthy", "unused") if one is not None and one.scale is not None else ("healthy",)

    def task_changed(self, scope: str, task: Task) -> None:
        """Something of a task is new to its service."""
        raise NotImplementedError

    def poke_task(self, id: str) -> None:
        """Have a task looked at by whoever carries it out."""
        raise NotImplementedError

    def _hear(self) -> None:
        """A load balancer has news: see what they are, and then again if there were others meanwhile."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()
        self._news = bool(self._balanced)
        if self._news and self._looking is None:
            self._looking = self.cloud.spawn(self._look(), "targets of tasks")

    async def _look(self) -> None:
        try:
            await self._subscribe()
            while self._news:
                self._news = False
                groups: dict[tuple[str, str], list[Task]] = {}
                for scope, task in self._balanced.values():
                    for balancer in task.balancers:
                        groups.setdefault((scope, balancer["targetGroupArn"]), []).append(task)
                for (scope, group), tasks in groups.items():
                    await self._see(scope, group, tasks)
        finally:
            self._looking = None

    async def _subscribe(self) -> None:
        if self._unsubscribe is None:
            elbv2: Any = await self.cloud.service("elbv2")
            self._unsubscribe = elbv2.watch_health(self._hear)

    async def _see(self, scope: str, group: str, tasks: list[Task]) -> None:
        try:
            found = await self._ask(scope, "elbv2", "DescribeTargetHealth", {"TargetGroupArn": group})
        except AwsError as error:
            log.warning("the health of targets in %s is unknown: %s", group, error)
            return
        states = {
            (one["Target"]["Id"], one["Target"].get("Port")): one["TargetHealth"]["State"]
            for one in found["TargetHealthDescriptions"]
        }
        for task in tasks:
            for balancer in task.balancers:
                if balancer["targetGroupArn"] == group and task.id in self._balanced:
                    target = self._target_of(task, balancer)
                    state = states.get((target["Id"], target["Port"]), "unused")
                    known = self._target_states.setdefault(task.id, {})
                    if known.get(group) != state:
                        known[group] = state
                        self.poke_task(task.id)

    async def _drained(self, scope: str, task: Task) -> None:
        """Wait until a task's targets have served their last requests."""
        await self._subscribe()
        while True:
            news = asyncio.get_running_loop().create_future()
            self._waiting.append(news)
            if not await self._is_draining(scope, task):
                return
            await news

    async def _is_draining(self, scope: str, task: Task) -> bool:
        for balancer in task.balancers:
            target = self._target_of(task, balancer)
            ask = {"TargetGroupArn": balancer["targetGroupArn"], "Targets": [target]}
            try:
                found = await self._ask(scope, "elbv2", "DescribeTargetHealth", ask)
            except AwsError:
                continue
            if any(one["TargetHealth"]["State"] == "draining" for one in found["TargetHealthDescriptions"]):
                return True
        return False

    def _target_of(self, task: Task, balancer: dict[str, Any]) -> dict[str, Any]:
        address, port = self._place(task, balancer["containerPort"])
        return {"Id": task.host if task.bindings else address, "Port": port}

    def _place(self, task: Task, port: int) -> tuple[str, int]:
        """Where a port of a task answers: at the task's own address, or mapped to this machine."""
        for container, address, host, _ in task.ports:
            if container == port and host:
                return "127.0.0.1" if address in ("", "0.0.0.0") else address, host
        return task.address or "127.0.0.1", port

    async def _discovery(self, registry: dict[str, Any], operation: str, **members: Any) -> Output:
        arn = registry["registryArn"].split(":")
        return await self._ask(f"{arn[4]}/{arn[3]}", "servicediscovery", operation, members)

    async def _registry(self, registry: dict[str, Any]) -> dict[str, Any]:
        """The service of Cloud Map that a registry is. Raises AwsError."""
        found = await self._discovery(registry, "GetService", Id=_id(registry))
        service: dict[str, Any] = found["Service"]
        return service

    async def _ask(self, scope: str, service: str, operation: str, input: Input) -> Output:
        account, region = scope.split("/")
        return await self.cloud.call(service, operation, input, account=account, region=region, principal=SELF)

    async def _gone(self, work: Any) -> None:
        """That what a task was registered with is gone, or wants nothing of us, is no error."""
        try:
            await work
        except AwsError as error:
            log.debug("not registered any more: %s", error)


def _id(registry: dict[str, Any]) -> str:
    return last(registry["registryArn"])


def _instance(registry: dict[str, Any], task: Task) -> dict[str, str]:
    return {"ServiceId": _id(registry), "InstanceId": task.id}


def _has_choice(balancer: dict[str, Any]) -> bool:
    return "alternateTargetGroupArn" in balancer.get("advancedConfiguration", {})
