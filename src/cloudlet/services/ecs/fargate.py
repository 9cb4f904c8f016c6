"""What Fargate asks of a task definition, in AWS's words."""

from __future__ import annotations

from typing import Any

from cloudlet.services.ecs import firelens
from cloudlet.services.ecs.base import client_error

_GB = 1024
# What Fargate runs: CPU units, and the MiB that each may have.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html
FARGATE: dict[int, tuple[int, ...]] = {
    256: (512, _GB, 2 * _GB),
    512: tuple(range(_GB, 4 * _GB + 1, _GB)),
    1024: tuple(range(2 * _GB, 8 * _GB + 1, _GB)),
    2048: tuple(range(4 * _GB, 16 * _GB + 1, _GB)),
    4096: tuple(range(8 * _GB, 30 * _GB + 1, _GB)),
    8192: tuple(range(16 * _GB, 60 * _GB + 1, 4 * _GB)),
    16384: tuple(range(32 * _GB, 120 * _GB + 1, 8 * _GB)),
}
_DRIVERS = ("awslogs", "splunk", firelens.DRIVER)
_NOT_OF_LINUX = ("devices", "maxSwap", "sharedMemorySize", "swappiness", "tmpfs")
_LONGEST_STOP = 120  # seconds


def check(members: dict[str, Any], containers: list[dict[str, Any]]) -> None:
    """Raises ClientException for what Fargate does not run."""
    if members.get("networkMode") != "awsvpc":
        raise client_error("Fargate only supports network mode ‘awsvpc’.")
    if "cpu" not in members or "memory" not in members:
        missing = "cpu" if "cpu" not in members else "memory"
        raise client_error(f"Fargate requires that '{missing}' be defined at the task level.")
    cpu, memory = int(members["cpu"]), int(members["memory"])
    if memory not in FARGATE.get(cpu, ()):
        raise client_error(
            f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. "
            "See the Amazon ECS documentation for the valid values."
        )
    if not 21 <= members.get("ephemeralStorage", {}).get("sizeInGiB", 21) <= 200:
        raise client_error("Ephemeral storage size must be between 21 and 200 GiB.")
    for container in containers:
        _check_container(members, container)


def check_members(members: dict[str, Any], containers: list[dict[str, Any]]) -> None:
    """Raises ClientException for members that Fargate does not have."""
    if members.get("pidMode") == "host":
        raise client_error(
            "Tasks using the Fargate launch type do not support pidMode 'host'. "
            "The supported value for pidMode is 'task'."
        )
    if "ipcMode" in members:
        raise _no("ipcMode")
    if members.get("placementConstraints"):
        raise _no("constraints")
    for volume in members.get("volumes", ()):
        if volume.get("host", {}).get("sourcePath"):
            raise _no("sourcePath")
        if "dockerVolumeConfiguration" in volume:
            raise _no("dockerVolumeConfiguration")
    for container in containers:
        if container.get("privileged"):
            raise client_error("Fargate requires that the 'privileged' setting be 'false'.")
        if container.get("dockerSecurityOptions"):
            raise _no("dockerSecurityOptions")
        linux = container.get("linuxParameters", {})
        for name in _NOT_OF_LINUX:
            if linux.get(name):
                raise _no(name)
        for capability in linux.get("capabilities", {}).get("add", ()):
            if capability != "SYS_PTRACE":
                raise client_error(f"{capability} is not allowed on Fargate.")
        driver = container.get("logConfiguration", {}).get("logDriver", "awslogs")
        if driver not in _DRIVERS:
            raise client_error(f"{driver} is not a valid log driver. Must be one of [{','.join(_DRIVERS)}]")


def _check_container(members: dict[str, Any], container: dict[str, Any]) -> None:
    if container.get("stopTimeout", 0) > _LONGEST_STOP:
        raise client_error(
            "Tasks using the Fargate launch type must have a container stop timeout of less than 120 seconds."
        )
    if members.get("executionRoleArn") is None:
        start = "Fargate requires task definition to have execution role ARN to support"
        if ".dkr.ecr." in container.get("image", ""):
            raise client_error(f"{start} ECR images.")
        if container.get("logConfiguration", {}).get("logDriver") == "awslogs":
            raise client_error(f"{start} log driver awslogs.")


def _no(member: str) -> Exception:
    return client_error(f"Fargate compatible task definitions do not support {member}")
