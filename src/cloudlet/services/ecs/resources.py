"""CloudFormation's types of ECS."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of

# Members whose keys are the user's own, and names that templates write in another way than the API.
_OWN_KEYS = frozenset(("DockerLabels", "Options", "DriverOpts", "Labels", "HookDetails"))
_RENAMED = {
    "EFSVolumeConfiguration": "efsVolumeConfiguration",
    "FSxWindowsFileServerVolumeConfiguration": "fsxWindowsFileServerVolumeConfiguration",
    "FilesystemId": "fileSystemId",
    "IAM": "iam",
}


class Cluster(ResourceType):
    """A cluster. ``Ref`` is its name."""

    type = "AWS::ECS::Cluster"
    replaces = frozenset(("ClusterName",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("ClusterName") or do.name(255)
        input: Properties = {"clusterName": name, **_cluster_settings(properties)}
        input |= _lowered({key: properties[key] for key in _STRATEGY if key in properties})
        if tags := tags_of(do, properties):
            input["tags"] = _pairs(tags)
        made = await do.call("ecs", "CreateCluster", input)
        return Physical(name, {"Arn": made["cluster"]["clusterArn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        if changed(old, new, "ClusterSettings", "Configuration", "ServiceConnectDefaults"):
            await do.call("ecs", "UpdateCluster", {"cluster": physical.id, **_cluster_settings(new)})
        if changed(old, new, *_STRATEGY):
            await do.call("ecs", "PutClusterCapacityProviders", {"cluster": physical.id, **_strategy(new)})
        await _retag(do, physical.attributes["Arn"], tags_of(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteCluster", {"cluster": physical.id})


class CapacityProvider(ResourceType):
    """A capacity provider. ``Ref`` is its name."""

    type = "AWS::ECS::CapacityProvider"
    replaces = frozenset(("AutoScalingGroupProvider/AutoScalingGroupArn", "Name"))
    refuses = frozenset(("ClusterName", "ManagedInstancesProvider"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("Name") or do.name(255)
        input = {"name": name, **_lowered({key: properties[key] for key in properties if key not in ("Name", "Tags")})}
        if tags := tags_of(do, properties):
            input["tags"] = _pairs(tags)
        try:
            await do.call("ecs", "CreateCapacityProvider", input)
        except AwsError as error:
            if "already exists" not in error.message or properties.get("Name"):
                raise
        return Physical(name)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        if changed(old, new, "AutoScalingGroupProvider"):
            provider = _lowered(new["AutoScalingGroupProvider"])
            provider.pop("autoScalingGroupArn", None)
            await do.call("ecs", "UpdateCapacityProvider", {"name": physical.id, "autoScalingGroupProvider": provider})
        arn = f"arn:aws:ecs:{do.region}:{do.account}:capacity-provider/{physical.id}"
        await _retag(do, arn, tags_of(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteCapacityProvider", {"capacityProvider": physical.id})


class ClusterCapacityProviderAssociations(ResourceType):
    """The capacity providers of a cluster. ``Ref`` is the cluster's name."""

    type = "AWS::ECS::ClusterCapacityProviderAssociations"
    required = frozenset(("Cluster", "CapacityProviders", "DefaultCapacityProviderStrategy"))
    replaces = frozenset(("Cluster",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        await do.call("ecs", "PutClusterCapacityProviders", {"cluster": properties["Cluster"], **_strategy(properties)})
        return Physical(properties["Cluster"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "PutClusterCapacityProviders", {"cluster": physical.id, **_strategy({})})


class TaskDefinition(ResourceType):
    """A revision of a task definition. ``Ref`` is its ARN; every change makes another revision."""

    type = "AWS::ECS::TaskDefinition"
    replaces = frozenset(
        (
            *("ContainerDefinitions", "Cpu", "EnableFaultInjection", "EphemeralStorage", "ExecutionRoleArn", "Family"),
            *("InferenceAccelerators", "IpcMode", "Memory", "NetworkMode", "PidMode", "PlacementConstraints"),
            *("ProxyConfiguration", "RequiresCompatibilities", "RuntimePlatform", "TaskRoleArn", "Volumes"),
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        input = _lowered({key: value for key, value in properties.items() if key not in ("Family", "Tags")})
        proxy = input.get("proxyConfiguration", {})
        if "proxyConfigurationProperties" in proxy:
            proxy["properties"] = proxy.pop("proxyConfigurationProperties")
        input["family"] = properties.get("Family") or do.name(255)
        if tags := tags_of(do, properties):
            input["tags"] = _pairs(tags)
        made = await do.call("ecs", "RegisterTaskDefinition", input)
        arn = made["taskDefinition"]["taskDefinitionArn"]
        return Physical(arn, {"TaskDefinitionArn": arn})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await _retag(do, physical.id, tags_of(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeregisterTaskDefinition", {"taskDefinition": physical.id})


class Service(ResourceType):
    """A service. ``Ref`` is its ARN; it is made once its tasks run."""

    type = "AWS::ECS::Service"
    replaces = frozenset(("Cluster", "DeploymentController", "LaunchType", "Role", "SchedulingStrategy", "ServiceName"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("ServiceName") or do.name(255)
        input = {"serviceName": name, **_service(properties)}
        if tags := tags_of(do, properties):
            input["tags"] = _pairs(tags)
        if input.get("schedulingStrategy", "REPLICA") == "REPLICA" and "taskDefinition" in input:
            input.setdefault("desiredCount", 1)
        cluster = {"cluster": properties["Cluster"]} if "Cluster" in properties else {}
        found = await do.call("ecs", "DescribeServices", {**cluster, "services": [name]})
        live = [one for one in found["services"] if one["status"] == "ACTIVE"]
        if live and not properties.get("ServiceName"):
            made = live[0]
        else:
            made = await _made(do, input)
        await do.initiated(made["serviceArn"])
        await _stable(do, made)
        return Physical(made["serviceArn"], {"Name": name, "ServiceArn": made["serviceArn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        input = _service(new)
        for key in ("launchType", "role", "schedulingStrategy", "deploymentController"):
            input.pop(key, None)
        if "PlacementConstraints" in old:
            input.setdefault("placementConstraints", [])
        if "PlacementStrategies" in old:
            input.setdefault("placementStrategy", [])
        for key, name in (("LoadBalancers", "loadBalancers"), ("ServiceRegistries", "serviceRegistries")):
            if changed(old, new, key):
                input.setdefault(name, [])
            else:
                input.pop(name, None)
        if new.get("DeploymentController", {}).get("Type") == "CODE_DEPLOY":
            # What it has been deployed with since is CodeDeploy's; a change of it is refused in ECS's words.
            for key, name in _OF_TASK_SETS.items():
                if not changed(old, new, key):
                    input.pop(name, None)
        if changed(old, new, "ForceNewDeployment") and new.get("ForceNewDeployment"):
            input["forceNewDeployment"] = bool(new["ForceNewDeployment"].get("EnableForceNewDeployment"))
        if any(old.get(key) != new.get(key) for key in {*old, *new} - {"Tags"}):
            made = await do.call("ecs", "UpdateService", {**input, "service": physical.id})
            await _stable(do, made["service"])
        await _retag(do, physical.id, tags_of(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        cluster, name = physical.id.split("/")[-2:]
        await _unless_gone(do, "DeleteService", {"cluster": cluster, "service": name, "force": True})
        ecs = await do.service("ecs")
        while True:
            news = ecs.news_of(f"{do.account}/{do.region}", f"{cluster}/{name}")
            try:
                found = await do.call("ecs", "DescribeServices", {"cluster": cluster, "services": [name]})
            except AwsError:
                return
            if all(one["status"] == "INACTIVE" for one in found["services"]):
                return
            await news


_OF_TASK_SETS = {
    "TaskDefinition": "taskDefinition",
    "NetworkConfiguration": "networkConfiguration",
    "PlatformVersion": "platformVersion",
    "CapacityProviderStrategy": "capacityProviderStrategy",
}


class TaskSet(ResourceType):
    """A task set of a service whose deployment controller is EXTERNAL. ``Ref`` is its ARN."""

    type = "AWS::ECS::TaskSet"
    required = frozenset(("Cluster", "Service", "TaskDefinition"))
    replaces = frozenset(
        (
            *("CapacityProviderStrategy", "Cluster", "ExternalId", "LaunchType", "LoadBalancers"),
            *("NetworkConfiguration", "PlatformVersion", "Service", "ServiceRegistries", "TaskDefinition"),
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        input = _lowered({key: value for key, value in properties.items() if key != "Tags"})
        if tags := tags_of(do, properties):
            input["tags"] = _pairs(tags)
        made = (await do.call("ecs", "CreateTaskSet", {**input, "clientToken": do.name(36)}))["taskSet"]
        return Physical(made["taskSetArn"], {"Id": made["id"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        place = {"cluster": new["Cluster"], "service": new["Service"], "taskSet": physical.id}
        scale = _lowered(new.get("Scale") or {"Value": 100.0, "Unit": "PERCENT"})
        await do.call("ecs", "UpdateTaskSet", {**place, "scale": scale})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        place = {"cluster": properties["Cluster"], "service": properties["Service"]}
        await _unless_gone(do, "DeleteTaskSet", {**place, "taskSet": physical.id, "force": True})


class PrimaryTaskSet(ResourceType):
    """Which task set of a service is its primary one. Deleting it changes nothing."""

    type = "AWS::ECS::PrimaryTaskSet"
    required = frozenset(("Cluster", "Service", "TaskSetId"))
    replaces = frozenset(("Cluster", "Service"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        input = {"cluster": properties["Cluster"], "service": properties["Service"]}
        await do.call("ecs", "UpdateServicePrimaryTaskSet", {**input, "primaryTaskSet": properties["TaskSetId"]})
        return Physical(do.name())

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await self.create(do, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        return None


_LISTENER_TRIES = 50  # each a tenth of a second
_STRATEGY = ("CapacityProviders", "DefaultCapacityProviderStrategy")


def _strategy(properties: Properties) -> Properties:
    return {
        "capacityProviders": properties.get("CapacityProviders") or [],
        "defaultCapacityProviderStrategy": _lowered(properties.get("DefaultCapacityProviderStrategy") or []),
    }


def _cluster_settings(properties: Properties) -> Properties:
    made: Properties = {}
    if "ClusterSettings" in properties:
        made["settings"] = _lowered(properties["ClusterSettings"])
    for key in ("Configuration", "ServiceConnectDefaults"):
        if key in properties:
            made[key[0].lower() + key[1:]] = _lowered(properties[key])
    return made


def _service(properties: Properties) -> Properties:
    """A service's properties as the API's members."""
    skipped = ("ServiceName", "Tags", "ForceNewDeployment", "PlacementStrategies")
    made: Properties = _lowered({key: value for key, value in properties.items() if key not in skipped})
    for hook in made.get("deploymentConfiguration", {}).get("lifecycleHooks", ()):
        if isinstance(hook.get("hookDetails"), str):
            hook["hookDetails"] = json.loads(hook["hookDetails"])
    if "PlacementStrategies" in properties:
        made["placementStrategy"] = _lowered(properties["PlacementStrategies"])
    return made


async def _made(do: Deployment, input: Properties) -> Properties:
    """The service. A listener of the same template that it does not wait for may come a moment later than it, which
    AWS's own pace hides: it is given some seconds."""
    left = _LISTENER_TRIES
    while True:
        try:
            return dict((await do.call("ecs", "CreateService", input))["service"])
        except AwsError as error:
            left -= 1
            if "does not have an associated load balancer" not in error.message or not left:
                raise
        await do.wait(asyncio.sleep(0.1))


async def _stable(do: Deployment, service: Properties) -> None:
    """Wait until a service has its tasks. Raises AwsError when it does not get them."""
    cluster, name = service["clusterArn"], service["serviceName"]
    ecs = await do.service("ecs")
    deployment = next((one["id"] for one in service["deployments"] if one["status"] == "PRIMARY"), "")
    while True:
        news = ecs.news_of(f"{do.account}/{do.region}", f"{cluster.rpartition('/')[2]}/{name}")
        found = (await do.call("ecs", "DescribeServices", {"cluster": cluster, "services": [name]}))["services"]
        if not found or found[0]["status"] != "ACTIVE":
            raise AwsError("NotStabilized", f"Service {name} was deleted before it was stable.")
        one = found[0]
        now = next((each for each in one["deployments"] if each["id"] == deployment), None)
        if (now is None and deployment) or (now is not None and now["rolloutState"] == "FAILED"):
            raise AwsError("NotStabilized", await _failure(do, one))
        # Done is what its load balancer calls healthy too; of task sets somebody else is in charge.
        sets = one.get("taskSets") or []
        is_steady = all(each["stabilityStatus"] == "STEADY_STATE" for each in sets)
        is_done = now["rolloutState"] == "COMPLETED" if now is not None else is_steady
        if is_done and len(one["deployments"]) <= 1:
            return
        if now is not None and now["failedTasks"] >= 3 and not now["runningCount"]:
            raise AwsError("NotStabilized", f"Service {name} is unable to start tasks: {await _why(do, one)}")
        await do.wait(news)


async def _failure(do: Deployment, service: Properties) -> str:
    """Why the last deployment of a service has failed."""
    place = {"cluster": service["clusterArn"], "service": service["serviceName"]}
    found = (await do.call("ecs", "ListServiceDeployments", place))["serviceDeployments"]
    reason = found[0].get("statusReason", "") if found else ""
    if reason and "circuit breaker" not in reason:
        return f"ECS deployment failed: {reason}"
    return f"ECS Deployment Circuit Breaker was triggered: {await _why(do, service)}"


async def _why(do: Deployment, service: Properties) -> str:
    """Why the last task of a service has stopped."""
    cluster = service["clusterArn"]
    arns = await do.call(
        "ecs", "ListTasks", {"cluster": cluster, "serviceName": service["serviceName"], "desiredStatus": "STOPPED"}
    )
    if not arns["taskArns"]:
        return "tasks failed to start."
    found = (await do.call("ecs", "DescribeTasks", {"cluster": cluster, "tasks": arns["taskArns"][-100:]}))["tasks"]
    last = max(found, key=lambda one: one.get("stoppingAt", 0.0))
    return str(last.get("stoppedReason", "tasks failed to start."))


async def _retag(do: Deployment, arn: str, tags: dict[str, str]) -> None:
    found = await do.call("ecs", "ListTagsForResource", {"resourceArn": arn})
    before = {tag["key"]: tag["value"] for tag in found["tags"]}
    if gone := [key for key in before if key not in tags]:
        await do.call("ecs", "UntagResource", {"resourceArn": arn, "tagKeys": gone})
    if new := {key: value for key, value in tags.items() if before.get(key) != value}:
        await do.call("ecs", "TagResource", {"resourceArn": arn, "tags": _pairs(new)})


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call("ecs", operation, input)
    except AwsError as error:
        gone = (
            "ClusterNotFoundException",
            "ServiceNotFoundException",
            "ServiceNotActiveException",
            "TaskSetNotFoundException",
        )
        words = ("Unable to describe task definition", "is inactive", "does not exist")
        if error.code not in gone and not any(word in error.message for word in words):
            raise


def _lowered(value: Any) -> Any:
    """A template's members with the names that the API has."""
    if isinstance(value, list):
        return [_lowered(one) for one in value]
    if isinstance(value, dict):
        return {
            _RENAMED.get(key) or key[0].lower() + key[1:]: one if key in _OWN_KEYS else _lowered(one)
            for key, one in value.items()
        }
    return value


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


TYPES = [
    *(Cluster, CapacityProvider, ClusterCapacityProviderAssociations, TaskDefinition, Service),
    *(TaskSet, PrimaryTaskSet),
]
