"""Where App Mesh joins a task: its ``proxyConfiguration`` makes a container the proxy of all others' traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.appmesh.environment import resource_of
from cloudlet.services.appmesh.images import is_envoy_image

if TYPE_CHECKING:
    from cloudlet.engines.containers.api import Container, PodState
    from cloudlet.services.api import Cloud
    from cloudlet.services.ecs.records import Task


# The runtime id of a container in whose place App Mesh's own Envoy runs.
IN_PLACE = "appmesh"


async def check(cloud: Cloud, members: dict[str, Any]) -> None:
    """Raises ClientException for a proxy that is no container, NotImplemented where App Mesh is not there."""
    proxy = members["proxyConfiguration"]
    if proxy["containerName"] not in [one["name"] for one in members["containerDefinitions"]]:
        raise AwsError("ClientException", f"Proxy container '{proxy['containerName']}' is not in the task definition.")
    if members.get("networkMode") != "awsvpc":
        raise AwsError("ClientException", "proxyConfiguration is only supported when networkMode is awsvpc.")
    try:
        appmesh = await cloud.service("appmesh")
    except AwsError:
        raise not_implemented("RegisterTaskDefinition with proxyConfiguration, without the service appmesh") from None
    if not hasattr(appmesh, "sidecar"):
        raise not_implemented("RegisterTaskDefinition with proxyConfiguration")


def is_proxy(definition: dict[str, Any], members: dict[str, Any]) -> bool:
    """Whether a container is the proxy of its task: as its proxyConfiguration says, or a virtual gateway's Envoy."""
    if "proxyConfiguration" in definition:
        return bool(definition["proxyConfiguration"]["containerName"] == members["name"])
    variables = {one["name"]: one["value"] for one in members.get("environment", ()) if "value" in one}
    return is_envoy_image(members["image"]) or bool(resource_of(variables))


async def prepare(
    cloud: Cloud, scope: str, task: Task, definition: dict[str, Any], pod: PodState, container: Container
) -> Container | None:
    """The proxy's container as it shall run, or None where App Mesh runs the proxy itself.

    Called before any other container of the task starts, and again after a restart of the control plane:
    ``appmesh.sidecar(scope, task, proxyConfiguration, pod, container)`` makes the pod's traffic pass the proxy.
    """
    appmesh: Any = await cloud.service("appmesh")
    proxy = definition.get("proxyConfiguration", {})
    made: Container | None = await appmesh.sidecar(scope, task, proxy, pod, container)
    return made


async def finish(cloud: Cloud, scope: str, task: Task, definition: dict[str, Any]) -> None:
    """The task has ended: ``appmesh.sidecar_gone(scope, task)`` forgets its proxy."""
    if any(is_proxy(definition, one) for one in definition["containerDefinitions"]):
        appmesh: Any = await cloud.service("appmesh")
        await appmesh.sidecar_gone(scope, task)
