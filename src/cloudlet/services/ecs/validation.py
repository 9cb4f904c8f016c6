"""What makes a task definition valid, and its members as AWS gives them back."""

from __future__ import annotations

import re
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Input
from cloudlet.services.ecs import fargate, firelens
from cloudlet.services.ecs.base import client_error

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,255}\Z")
_MOST_CONTAINERS = 10
# What containers that share an elastic network interface cannot have of their own, and how AWS calls it.
_NOT_WITH_AWSVPC = {
    "links": "Links are not supported when",
    "hostname": "hostname is not supported on container when",
    "dnsServers": "DNS servers are not supported on container when",
    "dnsSearchDomains": "DNS search domains are not supported on container when",
    "extraHosts": "Extra hosts are not supported on container when",
    "disableNetworking": "Disable Networking is not supported on container when",
}
# Members that nothing here carries out: (member of the definition), (of a container), (of its linuxParameters).
_NOT_OF_TASK = ("enableFaultInjection", "trustedExecutionConfiguration", "pidMode", "ipcMode")
_NOT_OF_CONTAINER = (
    "resourceRequirements",
    "credentialSpecs",
    "systemControls",
    "dockerSecurityOptions",
    "disableNetworking",
)
_NOT_OF_LINUX = ("devices", "maxSwap", "swappiness")
# The options of awslogs; a ``mode`` has no meaning here: no container ever waits for its log.
_AWSLOGS = ("group", "region", "stream-prefix", "create-group")
_LOG_OPTIONS = {
    "awslogs": (*(f"awslogs-{name}" for name in _AWSLOGS), "mode", "max-buffer-size"),
    "json-file": (),
}
_LOG_DRIVERS = ("awslogs", "json-file", firelens.DRIVER)  # json-file stays with the engine


def normalized(input: Input) -> dict[str, Any]:
    """The members of a valid definition with AWS's defaults. Raises ClientException and NotImplemented."""
    if not _NAME.match(input["family"]):
        raise client_error("Family contains invalid characters.")
    if not input["containerDefinitions"]:
        raise client_error("Container list cannot be empty.")
    if len(input["containerDefinitions"]) > _MOST_CONTAINERS:
        raise client_error("Too many containers.")
    is_fargate = "FARGATE" in input.get("requiresCompatibilities", ())
    if is_fargate:
        fargate.check_members(input, input["containerDefinitions"])
    if input.get("networkMode") == "awsvpc":
        _check_awsvpc(input["containerDefinitions"])
    _refuse(input)
    members = {key: value for key, value in input.items() if key not in ("tags", "containerDefinitions")}
    for container in input["containerDefinitions"]:
        _check_names(container)
    if input.get("requiresCompatibilities") and "EXTERNAL" in input["requiresCompatibilities"]:
        raise not_implemented("RegisterTaskDefinition with requiresCompatibilities EXTERNAL")
    if "MANAGED_INSTANCES" in input.get("requiresCompatibilities", ()):
        raise not_implemented("RegisterTaskDefinition with requiresCompatibilities MANAGED_INSTANCES")
    for key, unit in (("cpu", "vCPU"), ("memory", "GB")):
        if key in members:
            members[key] = str(_amount(members[key], unit, key))
    if is_fargate:
        fargate.check(members, input["containerDefinitions"])
    members.setdefault("networkMode", "bridge")
    members["volumes"] = [_volume(one) for one in members.get("volumes", ())]
    members.setdefault("placementConstraints", [])
    members["containerDefinitions"] = [_container(one, members) for one in input["containerDefinitions"]]
    _check_together(members)
    awsvpc_fits = members.get("networkMode") == "awsvpc" and "cpu" in members and "memory" in members
    members["compatibilities"] = ["EC2", "FARGATE"] if is_fargate or awsvpc_fits else ["EC2"]
    return members


def _refuse(input: Input) -> None:
    """Name what is not here before anything else is looked at."""
    operation = "RegisterTaskDefinition"
    if input.get("inferenceAccelerators"):  # AWS has ended Elastic Inference
        raise client_error("Unsupported field 'inferenceAccelerators'.")
    for name in _NOT_OF_TASK:
        if input.get(name):
            raise not_implemented(f"{operation} with {name}")
    if (system := input.get("runtimePlatform", {}).get("operatingSystemFamily", "LINUX")) != "LINUX":
        raise not_implemented(f"{operation} with the operatingSystemFamily {system}")
    for volume in input.get("volumes", ()):
        for name in ("fsxWindowsFileServerVolumeConfiguration", "s3filesVolumeConfiguration", "configuredAtLaunch"):
            if volume.get(name):
                raise not_implemented(f"{operation} with {name}")
        driver = volume.get("dockerVolumeConfiguration", {}).get("driver", "local")
        if driver != "local":
            raise not_implemented(f"{operation} with the volume driver {driver}")
        if volume.get("dockerVolumeConfiguration", {}).get("driverOpts"):
            raise not_implemented(f"{operation} with dockerVolumeConfiguration.driverOpts")
    for container in input["containerDefinitions"]:
        for name in _NOT_OF_CONTAINER:
            if container.get(name):
                raise not_implemented(f"{operation} with {name}")
        linux = container.get("linuxParameters", {})
        for name in _NOT_OF_LINUX:
            if linux.get(name):
                raise not_implemented(f"{operation} with linuxParameters.{name}")
        if any(one.get("mountOptions") for one in linux.get("tmpfs", ())):
            raise not_implemented(f"{operation} with linuxParameters.tmpfs.mountOptions")
        log = container.get("logConfiguration")
        if log is not None and log["logDriver"] not in _LOG_DRIVERS:
            raise not_implemented(f"{operation} with the log driver {log['logDriver']}")
        for name in (log or {}).get("options", {}):
            if log is not None and name not in _LOG_OPTIONS.get(log["logDriver"], (name,)):
                raise not_implemented(f"{operation} with the log option {name}")
        if log is not None and log.get("secretOptions") and log["logDriver"] != firelens.DRIVER:
            raise not_implemented(f"{operation} with secretOptions for the log driver {log['logDriver']}")


def _amount(text: str, unit: str, key: str) -> int:
    """CPU units or MiB: a number, or an amount such as ``.5 vCPU`` and ``2 GB``."""
    found = re.fullmatch(r"\s*(\d*\.?\d+)\s*(" + unit + r")?\s*", text, re.IGNORECASE)
    if found is None or (found[2] is None and not found[1].isdigit()):
        raise client_error(
            f"Invalid '{key}' setting for task. For more information, see the Troubleshooting section of the Amazon "
            "ECS Developer Guide."
        )
    return int(float(found[1]) * 1024) if found[2] else int(found[1])


def _check_awsvpc(containers: list[dict[str, Any]]) -> None:
    for container in containers:
        for name, words in _NOT_WITH_AWSVPC.items():
            if container.get(name):
                raise client_error(f"{words} networkMode=awsvpc.")


def _check_names(container: dict[str, Any]) -> None:
    if not container.get("name"):
        raise client_error("Container.name should not be null or empty.")
    if not _NAME.match(container["name"]):
        raise client_error("Container.name contains invalid characters.")
    if not container.get("image"):
        raise client_error("Container.image should not be null or empty.")
    if any(character.isspace() for character in container["image"]):
        raise client_error("Container.image contains invalid characters.")


def _container(container: dict[str, Any], members: dict[str, Any]) -> dict[str, Any]:
    """A container's members with AWS's defaults."""
    name = container["name"]
    memory, reserved = container.get("memory"), container.get("memoryReservation")
    if memory is None and reserved is None and "memory" not in members:
        raise client_error(
            f"Invalid setting for container '{name}'. "
            "At least one of 'memory' or 'memoryReservation' must be specified."
        )
    if memory is not None and memory < 6:
        raise client_error(f"Invalid setting for container '{name}'. 'memory' must be at least 6 MiB.")
    if memory is not None and reserved is not None and reserved > memory:
        raise client_error(
            f"Invalid setting for container '{name}'. 'memory' must be greater than or equal to 'memoryReservation'."
        )
    ports = [_port(one, members.get("networkMode", "bridge"), name) for one in container.get("portMappings", ())]
    made = {
        **container,
        "cpu": container.get("cpu", 0),
        "essential": container.get("essential", True),
        "environment": container.get("environment", []),
        "mountPoints": container.get("mountPoints", []),
        "volumesFrom": container.get("volumesFrom", []),
        "portMappings": ports,
    }
    made["systemControls"] = []
    if (check := container.get("healthCheck")) is not None:
        if check["command"][:1] not in (["CMD"], ["CMD-SHELL"], ["NONE"]):
            raise client_error("Container.healthCheck.command must begin with CMD or CMD-SHELL.")
        made["healthCheck"] = {"interval": 30, "timeout": 5, "retries": 3, **check}
        for key, low, high in (("interval", 5, 300), ("timeout", 2, 60), ("retries", 1, 10), ("startPeriod", 0, 300)):
            if not low <= made["healthCheck"].get(key, low) <= high:
                raise client_error(f"Container.healthCheck.{key} must be between {low} and {high}.")
    log = container.get("logConfiguration")
    if log is not None and log["logDriver"] == "awslogs":
        needed = [name for name in ("awslogs-region", "awslogs-group") if name not in log.get("options", {})]
        if needed:
            raise client_error(f"Log driver awslogs requires options: {', '.join(needed)}")
    for file in container.get("environmentFiles", ()):
        if not file["value"].startswith("arn:aws:s3:::"):
            raise client_error("Invalid S3 ARN for environment file.")
    if container.get("secrets") and "executionRoleArn" not in members:
        raise client_error(
            "When you are specifying container secrets, you must also specify a value for 'executionRoleArn'."
        )
    plain = {one["name"] for one in container.get("environment", ())}
    if twice := next((one["name"] for one in container.get("secrets", ()) if one["name"] in plain), None):
        raise client_error(
            "The secret name must be unique and not shared with any new or existing environment variables set on the "
            f"container, such as '{twice}'."
        )
    for word in ("start", "stop"):
        if container.get(f"{word}Timeout", 2) < 2:
            raise client_error(f"Granular {word} timeout on container '{name}' must be at least 2 seconds.")
    period = container.get("restartPolicy", {}).get("restartAttemptPeriod", 60)
    if not 60 <= period <= 1800:
        raise client_error(f"The 'restartAttemptPeriod' setting for container '{name}' must be between 60 and 1800.")
    for limit in container.get("ulimits", ()):
        if limit["softLimit"] > limit["hardLimit"] >= 0:
            raise client_error(f"Soft limit exceeds hard limit for ulimit {limit['name']}")
    return made


def _volume(volume: dict[str, Any]) -> dict[str, Any]:
    if (efs := volume.get("efsVolumeConfiguration")) is not None:
        access = efs.get("authorizationConfig", {})
        if access.get("iam") == "ENABLED" and efs.get("transitEncryption") != "ENABLED":
            raise client_error("EFS IAM authorization requires TransitEncryption to be enabled.")
        if access.get("accessPointId") and efs.get("rootDirectory", "/") != "/":
            raise client_error(
                'When using an EFS access point, the root directory must either be set to "/" or be omitted.'
            )
        return {**volume, "efsVolumeConfiguration": {"rootDirectory": "/", **volume["efsVolumeConfiguration"]}}
    return volume


def _port(mapping: dict[str, Any], mode: str, container: str) -> dict[str, Any]:
    protocol = mapping.get("protocol", "tcp")
    if protocol not in ("tcp", "udp", "http"):
        raise client_error("Valid values for portMapping protocol are tcp and udp.")
    # AWS's own examples say "http", and AWS takes it for "tcp".
    made = {**mapping, "protocol": "udp" if protocol == "udp" else "tcp"}
    if "containerPortRange" in mapping:
        raise not_implemented("RegisterTaskDefinition with containerPortRange")
    if not 0 < mapping.get("containerPort", 0) < 65536:
        raise client_error(f"Invalid 'containerPort' setting for container '{container}'.")
    if not 0 <= mapping.get("hostPort", 0) < 65536:
        raise client_error(f"Invalid 'hostPort' setting for container '{container}'.")
    if mode in ("awsvpc", "host"):
        if mapping.get("hostPort") not in (None, mapping["containerPort"]):
            raise client_error(
                f"When networkMode={mode}, the host ports and container ports in port mappings must match."
            )
        made["hostPort"] = mapping["containerPort"]
    else:
        made.setdefault("hostPort", 0)
    return made


def _check_together(members: dict[str, Any]) -> None:
    """What containers say of each other and of the task."""
    containers = members["containerDefinitions"]
    names = [one["name"] for one in containers]
    if len(set(names)) < len(names):
        raise client_error("Container names must be unique.")
    if not any(one["essential"] for one in containers):
        raise client_error("At least one container must be marked as essential.")
    volumes = {one.get("name") for one in members["volumes"]}
    needs: dict[str, list[str]] = {}
    for container in containers:
        for given in container["volumesFrom"]:
            if (source := given.get("sourceContainer")) not in names or source == container["name"]:
                raise client_error(f"Invalid 'volumesFrom' setting. Unknown container: '{source}'.")
        for mount in container["mountPoints"]:
            if mount.get("sourceVolume") not in volumes:
                raise client_error(f"Unknown volume '{mount.get('sourceVolume')}'.")
        for dependency in container.get("dependsOn", ()):
            other = next((one for one in containers if one["name"] == dependency["containerName"]), None)
            if other is None:
                raise client_error(
                    f"Cannot depend on container + '{dependency['containerName']}' because it does not exist"
                )
            if dependency["condition"] in ("SUCCESS", "COMPLETE") and other["essential"]:
                raise client_error(
                    "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container"
                )
            if dependency["condition"] == "HEALTHY" and "healthCheck" not in other:
                raise client_error("A dependency container with HEALTHY condition must have health check configured")
            needs.setdefault(container["name"], []).append(other["name"])
        for link in container.get("links", ()):
            if (mode := members.get("networkMode", "bridge")) != "bridge":
                raise client_error(f"Links are not supported when networkMode={mode}.")
            if link.partition(":")[0] not in names:
                raise client_error(f"Invalid link: {link}")
    firelens.check(containers)
    _check_cycles(needs)
    if "memory" in members:
        whole, parts = int(members["memory"]), sum(one.get("memoryReservation", 0) for one in containers)
        for one in containers:
            if one.get("memory", 0) > whole:
                raise client_error(f"The 'memory' setting for container '{one['name']}' is greater than for the task.")
        if parts > whole:
            raise client_error("Invalid 'memoryReservation' settings: their sum is greater than for the task.")
    if "cpu" in members and sum(one["cpu"] for one in containers) > int(members["cpu"]):
        raise client_error("The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.")
    ports = [port for one in containers for port in one["portMappings"]]
    taken = [(port["hostPort"], port["protocol"]) for port in ports if port["hostPort"]]
    if twice := next((one for one in taken if taken.count(one) > 1), None):
        raise client_error(f"The host port {twice[0]} is used multiple times in task.")
    named = [port["name"] for port in ports if "name" in port]
    if again := next((name for name in named if named.count(name) > 1), None):
        raise client_error(f"The port mapping name is already used: {again}")


def _check_cycles(needs: dict[str, list[str]]) -> None:
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            raise client_error("Container dependsOn contains a cycle")
        if name not in done:
            for other in needs.get(name, ()):
                visit(other, (*way, name))
            done.add(name)

    for name in needs:
        visit(name, ())


def check_fits(definition: dict[str, Any], launch: str, network: dict[str, Any] | None) -> None:
    """Whether tasks of a definition can be started so. Raises InvalidParameterException."""
    if launch not in definition["compatibilities"]:
        raise AwsError("InvalidParameterException", f"Task definition does not support launch_type {launch}.")
    if definition.get("networkMode") == "awsvpc":
        if not network or "awsvpcConfiguration" not in network:
            raise AwsError(
                "InvalidParameterException",
                "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
            )
        if not network["awsvpcConfiguration"].get("subnets"):
            raise AwsError("InvalidParameterException", "subnets can not be empty.")
        if launch == "EC2" and network["awsvpcConfiguration"].get("assignPublicIp") == "ENABLED":
            raise AwsError("InvalidParameterException", "Assign public IP is not supported for this launch type.")
    elif network and "awsvpcConfiguration" in network:
        raise AwsError(
            "InvalidParameterException",
            "Network Configuration is not valid for the given networkMode of this task definition.",
        )
