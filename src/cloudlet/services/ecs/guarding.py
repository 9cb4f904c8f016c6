"""Tasks guarded by their security groups: EC2 does it, in the network namespace of a task that has one."""

from __future__ import annotations

from typing import Any

from cloudlet.engines.containers.api import PodState
from cloudlet.services.api import Cloud
from cloudlet.services.ecs.records import Task


async def open(cloud: Cloud, scope: str, task: Task, pod: PodState, gateway: str) -> None:
    """Put a task's rules in force; nothing for one without an address of its own. ``gateway`` is this machine's."""
    network = task.members.get("networkConfiguration", {}).get("awsvpcConfiguration")
    if network is None or not pod.namespace or gateway in ("", "127.0.0.1"):
        return
    ec2: Any = await cloud.service("ec2")
    await ec2.guard.protect(
        *scope.split("/"),
        f"task/{task.id}",
        address=pod.address,
        namespace=pod.namespace,
        gateway=gateway,
        subnets=network["subnets"],
        groups=network.get("securityGroups", ()),
    )


async def close(cloud: Cloud, scope: str, task: Task) -> None:
    """The task is no member of its groups any more."""
    if "awsvpcConfiguration" in task.members.get("networkConfiguration", {}):
        ec2: Any = await cloud.service("ec2")
        await ec2.guard.release(*scope.split("/"), f"task/{task.id}")
