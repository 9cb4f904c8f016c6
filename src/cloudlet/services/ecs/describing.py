"""Tasks, and deployments of services, as the API shows them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from cloudlet.services.ecs import service_connect
from cloudlet.services.ecs.base import to_tags
from cloudlet.services.ecs.controller import wanted
from cloudlet.services.ecs.records import ON_THE_WAY, Container, Deployment, Service, Task

_SHOWN = (
    "launchType",
    "capacityProviderStrategy",
    "platformVersion",
    "platformFamily",
    "networkConfiguration",
    "serviceConnectConfiguration",
    "serviceConnectResources",
)
Arn = Callable[[str, str], str]  # of a kind and a name


def described(task: Task, definition: dict[str, Any], arn: Arn, scope: str, with_tags: bool) -> dict[str, Any]:
    """A task with its containers and its attachments; ``definition`` is empty where it is gone."""
    members = {key: value for key, value in task.members.items() if key != "networkConfiguration"}
    overrides = members.pop("overrides", {})
    return {
        "taskArn": arn("task", f"{task.cluster}/{task.id}"),
        "clusterArn": arn("cluster", task.cluster),
        "taskDefinitionArn": task.task_definition,
        "desiredStatus": task.desired,
        "lastStatus": task.status,
        "healthStatus": task.health,
        "createdAt": task.created,
        "version": task.version,
        "availabilityZone": f"{scope.split('/')[1]}a",
        "attributes": [{"name": "ecs.cpu-architecture", "value": _architecture()}],
        "attachments": _attachments(task, definition),
        "connectivity": "CONNECTED" if task.address or task.started else "DISCONNECTED",
        "containers": [_described_container(task, one, definition, arn) for one in task.containers],
        **members,
        "overrides": _overrides(task, overrides),
        "tags": to_tags(task.tags) if with_tags else [],
        **_sizes(members, overrides, definition),
        **_course(task),
    }


def _overrides(task: Task, overrides: dict[str, Any]) -> dict[str, Any]:
    """What RunTask has set otherwise than the definition; each container is named."""
    given = overrides.get("containerOverrides", ())
    named = {one["name"] for one in given}
    others = ({"name": one.name} for one in task.containers if one.name not in named)
    return {"inferenceAcceleratorOverrides": [], **overrides, "containerOverrides": [*given, *others]}


def _sizes(members: dict[str, Any], overrides: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    """What the task may use of processors, memory and, on Fargate, of storage."""
    containers = definition.get("containerDefinitions", ())
    sizes: dict[str, Any] = {
        key: overrides.get(key) or definition.get(key) or str(sum(one.get(key, 0) for one in containers))
        for key in ("cpu", "memory")
    }
    if members.get("launchType") == "FARGATE":
        storage = overrides.get("ephemeralStorage") or definition.get("ephemeralStorage") or {"sizeInGiB": 20}
        sizes["ephemeralStorage"] = storage
    return sizes


def _course(task: Task) -> dict[str, Any]:
    """When the task has come to each of its states, and why it has stopped."""
    course = {
        "pullStartedAt": task.pull_started,
        "pullStoppedAt": task.pull_stopped,
        "startedAt": task.started,
        "stoppingAt": task.stopping,
        "executionStoppedAt": task.execution_stopped,
        "stoppedAt": task.stopped,
        "connectivityAt": (task.started or task.created) if task.address or task.started else None,
        "stopCode": task.stop_code,
        "stoppedReason": task.stop_reason,
    }
    return {key: value for key, value in course.items() if value}


def _described_container(task: Task, one: Container, definition: dict[str, Any], arn: Arn) -> dict[str, Any]:
    defined, is_awsvpc = _container(definition, one.name), _has_interface(definition)
    interface = {"attachmentId": _attachment(task), "privateIpv4Address": task.address}
    shown: dict[str, Any] = {
        "containerArn": arn("container", f"{task.cluster}/{task.id}/{one.id}"),
        "taskArn": arn("task", f"{task.cluster}/{task.id}"),
        "name": one.name,
        "image": one.image,
        "lastStatus": one.status,
        "healthStatus": one.health,
        "networkInterfaces": [interface] if is_awsvpc and task.address else [],
        "networkBindings": [] if is_awsvpc else _bindings(task, defined),
        "cpu": str(defined.get("cpu", 0)),
    }
    if agents := _agents(task, one):
        shown["managedAgents"] = agents
    if one.exit_code is not None:
        shown["exitCode"] = one.exit_code
    for key, value in (("reason", one.reason), ("runtimeId", one.runtime_id), ("imageDigest", one.digest)):
        if value:
            shown[key] = value
    if memory := defined.get("memory"):
        shown["memory"] = str(memory)
    return shown


def _attachments(task: Task, definition: dict[str, Any]) -> list[dict[str, Any]]:
    """The task's network interface, and what Service Connect has put beside its containers."""
    attachments = []
    state = "DELETED" if task.status == "STOPPED" else "ATTACHED" if task.address else "PRECREATED"
    if _has_interface(definition):
        network = task.members.get("networkConfiguration", {}).get("awsvpcConfiguration", {})
        details = [{"name": "subnetId", "value": (network.get("subnets") or [""])[0]}]
        if task.address:
            details.append({"name": "networkInterfaceId", "value": f"eni-{task.id[:17]}"})
            details.append({"name": "privateIPv4Address", "value": task.address})
        kind = "ElasticNetworkInterface"
        attachments.append({"id": _attachment(task), "type": kind, "status": state, "details": details})
    if task.connect:
        id = str(uuid.uuid5(uuid.NAMESPACE_OID, task.id))
        details = [{"name": "ContainerName", "value": service_connect.container_name(task.id)}]
        attachments.append({"id": id, "type": "Service Connect", "status": state, "details": details})
    return attachments


def _has_interface(definition: dict[str, Any]) -> bool:
    return definition.get("networkMode") == "awsvpc"


def _container(definition: dict[str, Any], name: str) -> dict[str, Any]:
    return next((one for one in definition.get("containerDefinitions", ()) if one["name"] == name), {})


def _bindings(task: Task, defined: dict[str, Any]) -> list[dict[str, Any]]:
    own = {(one["containerPort"], one["protocol"]) for one in defined.get("portMappings", ())}
    everywhere = "0.0.0.0" if task.instance else ""
    return [
        {"bindIP": everywhere or address, "containerPort": port, "hostPort": host, "protocol": protocol}
        for port, address, host, protocol in task.ports
        if (port, protocol) in own
    ]


def _agents(task: Task, container: Container) -> list[dict[str, Any]]:
    """What ECS Exec speaks to in a container: it is there as soon as the container runs."""
    if not task.members.get("enableExecuteCommand"):
        return []
    status = {"RUNNING": "RUNNING", "STOPPED": "STOPPED"}.get(container.status, "PENDING")
    begun = {"lastStartedAt": task.started or task.created} if status == "RUNNING" else {}
    return [{"name": "ExecuteCommandAgent", "lastStatus": status, **begun}]


def _attachment(task: Task) -> str:
    """An id of the task's network interface that is always the same."""
    text = task.id[::-1]
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _architecture() -> str:
    import platform

    return {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")


def described_deployment(service: Service, one: Deployment, tasks: list[Task]) -> dict[str, Any]:
    """A deployment as its service shows it; ``tasks`` are the service's."""
    own = [task for task in tasks if task.deployment == one.id]
    return {
        "id": one.id,
        "status": one.status,
        "taskDefinition": one.task_definition,
        "desiredCount": wanted(service, one) if service.status == "ACTIVE" else 0,
        "pendingCount": sum(task.status in ON_THE_WAY for task in own),
        "runningCount": sum(task.status == "RUNNING" for task in own),
        "failedTasks": one.failed_tasks,
        "createdAt": one.created,
        "updatedAt": one.updated,
        "rolloutState": one.rollout,
        "rolloutStateReason": one.reason or f"ECS deployment {one.id} in progress.",
        **{key: one.settings[key] for key in _SHOWN if key in one.settings},
    }


def task_counts(service: Service, deployment: str, tasks: list[Task]) -> dict[str, int]:
    """How many tasks a deployment of a service should have, has and gets."""
    one = service.deployment(deployment)
    own = [task for task in tasks if task.deployment == deployment]
    return {
        "requestedTaskCount": wanted(service, one) if one is not None and service.status == "ACTIVE" else 0,
        "runningTaskCount": sum(task.status == "RUNNING" for task in own),
        "pendingTaskCount": sum(task.status in ON_THE_WAY for task in own),
    }
