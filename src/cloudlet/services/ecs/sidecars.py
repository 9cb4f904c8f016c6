"""Containers in whose place we run what they are: the Envoy of App Mesh, and X-Ray's daemon.

A task's ``proxyConfiguration`` makes a container the proxy of all others' traffic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.appmesh.environment import resource_of
from cloudlet.services.appmesh.images import is_envoy_image, is_xray_image

if TYPE_CHECKING:
    from cloudlet.engines.containers.api import Container, PodState
    from cloudlet.services.api import Cloud
    from cloudlet.services.ecs.records import Task


# The runtime id of a container in whose place App Mesh's own Envoy runs, or X-Ray's daemon is answered for.
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
    """Whether a container is the proxy of its task, a virtual gateway's Envoy, or X-Ray's daemon."""
    if is_xray_image(members["image"]):
        return True
    if "proxyConfiguration" in definition:
        return bool(definition["proxyConfiguration"]["containerName"] == members["name"])
    variables = {one["name"]: one["value"] for one in members.get("environment", ()) if "value" in one}
    return is_envoy_image(members["image"]) or bool(resource_of(variables))


def before_all(definition: dict[str, Any]) -> set[str]:
    """The containers that do not wait for the task's proxy: itself, and those that it waits for."""
    found: set[str] = set()
    left = [definition["proxyConfiguration"]["containerName"]]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            members = next(one for one in definition["containerDefinitions"] if one["name"] == name)
            left += [one["containerName"] for one in members.get("dependsOn", ())]
    return found


async def prepare(
    cloud: Cloud, scope: str, task: Task, definition: dict[str, Any], pod: PodState, container: Container
) -> Container | None:
    """The proxy's container as it shall run, or None where App Mesh runs the proxy itself.

    Called before any other container of the task starts, and again after a restart of the control plane:
    ``appmesh.sidecar(scope, task, proxyConfiguration, pod, container)`` makes the pod's traffic pass the proxy.
    """
    if is_xray_image(container.image):
        await daemon_address(cloud, scope, pod)
        return None
    appmesh: Any = await cloud.service("appmesh")
    proxy = definition.get("proxyConfiguration", {})
    made: Container | None = await appmesh.sidecar(scope, task, proxy, pod, container)
    return made


async def finish(cloud: Cloud, scope: str, task: Task, definition: dict[str, Any]) -> None:
    """The task has ended: ``appmesh.sidecar_gone(scope, task)`` forgets its proxy."""
    if _has_xray(definition):
        xray: Any = await cloud.service("xray")
        xray.close_daemon(task.id)
    containers = [one for one in definition["containerDefinitions"] if not is_xray_image(one["image"])]
    if any(is_proxy(definition, one) for one in containers):
        appmesh: Any = await cloud.service("appmesh")
        await appmesh.sidecar_gone(scope, task)


async def environment(cloud: Cloud, scope: str, definition: dict[str, Any], pod: PodState) -> dict[str, str]:
    """Where the containers of a task find X-Ray's daemon, if one of them is it. Raises CannotStart."""
    return {"AWS_XRAY_DAEMON_ADDRESS": await daemon_address(cloud, scope, pod)} if _has_xray(definition) else {}


async def daemon_address(cloud: Cloud, scope: str, pod: PodState) -> str:
    """Answer for X-Ray's daemon in a task's own network, or on this machine's. Raises CannotStart."""
    from cloudlet.engines.containers.api import CannotStart

    xray: Any = await cloud.service("xray")
    try:
        if not pod.namespace:
            return str(await xray.daemon(scope))
        await xray.open_daemon(pod.name, pod.namespace, scope)
    except OSError as error:
        raise CannotStart(f"X-Ray's daemon cannot listen: {error}") from None
    return "127.0.0.1:2000"


def _has_xray(definition: dict[str, Any]) -> bool:
    return any(is_xray_image(one["image"]) for one in definition["containerDefinitions"])
