"""Tasks in EC2's network: an interface that is shown, and security groups that are in force where that is possible."""

from __future__ import annotations

from typing import Any

from cloudlet.engines.containers.api import PodState
from cloudlet.services.api import Cloud
from cloudlet.services.ecs.records import Task


def interface_id(task: Task) -> str:
    """The id of the interface of a task in network mode ``awsvpc``."""
    return f"eni-{task.id[:17]}"


async def open(cloud: Cloud, scope: str, task: Task, pod: PodState, gateway: str) -> None:
    """Show a task's interface, and put its rules in force where it has a network namespace.

    ``gateway`` is this machine's address as the task sees it.
    """
    network = task.members.get("networkConfiguration", {}).get("awsvpcConfiguration")
    if network is None:
        return
    ec2: Any = await cloud.service("ec2")
    account, region = scope.split("/")
    groups = network.get("securityGroups", ())
    await ec2.stand_for(
        account,
        region,
        interface_id(task),
        subnet=network["subnets"][0],
        groups=groups,
        address=pod.address,
        description=f"arn:aws:ecs:{region}:{account}:attachment/{task.id}",
        public=network.get("assignPublicIp") == "ENABLED",
    )
    if pod.namespace and gateway not in ("", "127.0.0.1"):
        await ec2.guard.protect(
            account,
            region,
            f"task/{task.id}",
            address=pod.address,
            namespace=pod.namespace,
            gateway=gateway,
            subnets=network["subnets"],
            groups=groups,
            # At AWS a task's Envoy takes over the ports of its containers; here it has others, which stand for them.
            proxies=[(one["port"], one["container"]) for one in task.connect.get("ingress", ())],
            interface=interface_id(task),
            described=_described(account, region, task),
        )


async def close(cloud: Cloud, scope: str, task: Task) -> None:
    """The task is in no network any more."""
    if "awsvpcConfiguration" in task.members.get("networkConfiguration", {}):
        ec2: Any = await cloud.service("ec2")
        await ec2.guard.release(*scope.split("/"), f"task/{task.id}")
        await ec2.let_go(*scope.split("/"), interface_id(task))


def _described(account: str, region: str, task: Task) -> dict[str, str]:
    """What flow logs say of a task, by the names of their fields."""
    start = f"arn:aws:ecs:{region}:{account}"
    found = {
        "ecs-cluster-name": task.cluster,
        "ecs-cluster-arn": f"{start}:cluster/{task.cluster}",
        "ecs-task-id": task.id,
        "ecs-task-arn": f"{start}:task/{task.cluster}/{task.id}",
        "ecs-task-definition-arn": task.task_definition,
    }
    return found | ({"ecs-service-name": task.service} if task.service else {})
