"""What a service, or a task that is run alone, may be asked for, in AWS's words."""

from __future__ import annotations

from typing import Any

from cloudlet.services.api import Input
from cloudlet.services.ecs.base import client_error, invalid
from cloudlet.services.ecs.records import TaskDefinition

_LONGEST_TOKEN = 36
_BINPACK = ("cpu", "memory")
_DAEMON = "The daemon scheduling strategy does not support"


def check(input: Input, launch: str, scheduling: str) -> None:
    """Raises InvalidParameterException for what a new or a changed service cannot have."""
    if len(input.get("clientToken", "")) > _LONGEST_TOKEN:
        raise invalid(f"idempotency token longer than {_LONGEST_TOKEN}.")
    if scheduling == "DAEMON":
        _check_daemon(input, launch)
    if input.get("desiredCount", 0) < 0:
        raise invalid("DesiredCount can not be lesser than 0")
    if input.get("healthCheckGracePeriodSeconds") and not input.get("loadBalancers"):
        raise invalid("Health check grace period is only valid for services configured to use load balancers")
    check_placement(input, launch)


def check_placement(input: Input, launch: str) -> None:
    """Raises InvalidParameterException for placements that cannot be."""
    if launch == "FARGATE" and input.get("placementConstraints"):
        raise invalid("Placement constraints are not supported with FARGATE launch type.")
    if launch == "FARGATE" and input.get("placementStrategy"):
        raise invalid("Placement strategies are not supported with FARGATE launch type.")
    for one in input.get("placementStrategy") or ():
        if one.get("type") == "binpack" and one.get("field", "").lower() not in _BINPACK:
            raise invalid(f"binpack field '{one.get('field', '')}' is invalid")


def _check_daemon(input: Input, launch: str) -> None:
    if launch == "FARGATE":
        raise invalid(f"{_DAEMON} the FARGATE launch type. Change the launch type and try again")
    if "desiredCount" in input:
        raise invalid(f"{_DAEMON} a desired count for services. Remove the desired count value and try again")
    if input.get("placementStrategy"):
        raise invalid(f"{_DAEMON} placement strategies.")
    if (input.get("deploymentConfiguration") or {}).get("maximumPercent", 100) > 100:
        raise invalid(f"{_DAEMON} values above 100 for maximumPercent.")


def check_update(controller: str, input: Input) -> None:
    """That nothing is asked of a service that only its deployment controller may do."""
    if controller == "EXTERNAL":
        if "taskDefinition" in input:
            raise invalid("Unable to update task definition on services with an EXTERNAL deployment controller.")
        return
    parts = {
        "taskDefinition": "task definition",
        "networkConfiguration": "network parameters",
        "platformVersion": "platform version",
        "loadBalancers": "load balancers",
        "serviceRegistries": "service registries",
        "capacityProviderStrategy": "capacity provider strategy",
    }
    words = "on services with a CODE_DEPLOY deployment controller. Use AWS CodeDeploy to trigger a new deployment."
    for member, part in parts.items():
        if member in input:
            raise invalid(f"Unable to update {part} {words}")
    if input.get("forceNewDeployment"):
        raise invalid(f"Cannot force a new deployment {words}")


def check_code_deploy(input: Input, scheduling: str) -> None:
    """That a service is one that CodeDeploy can deploy."""
    if scheduling == "DAEMON":
        raise invalid("The DAEMON scheduling strategy is not supported with the CODE_DEPLOY deployment controller.")
    if (input.get("deploymentConfiguration") or {}).get("deploymentCircuitBreaker", {}).get("enable"):
        raise invalid("DeploymentCircuitBreaker feature can be configured only with ECS deployment controller.")
    if len(input.get("loadBalancers") or ()) != 1:
        raise invalid("A service with the CODE_DEPLOY deployment controller must have one load balancer.")


def check_containers(definition: TaskDefinition, members: dict[str, Any]) -> None:
    """That load balancers and registries name containers and ports that are there."""
    ports = {one["name"]: {port["containerPort"] for port in one["portMappings"]} for one in definition.containers}
    for balancer in members.get("loadBalancers") or ():
        container, port = balancer.get("containerName"), balancer.get("containerPort")
        if "targetGroupArn" not in balancer:
            raise invalid("loadBalancers must have a targetGroupArn.")
        if container not in ports:
            raise invalid(f"The container {container} does not exist in the task definition.")
        if port not in ports[container]:
            raise invalid(f"The container {container} did not have a container port {port} defined.")
    for registry in members.get("serviceRegistries") or ():
        container = registry.get("containerName")
        if container is not None and container not in ports:
            raise invalid(f"The container {container} does not exist in the task definition.")
    if (members.get("loadBalancers") or ()) and len(members["loadBalancers"]) > 5:
        raise client_error("load balancers can have at most 5 items.")
