"""CloudFormation's types of EC2 Auto Scaling."""

from __future__ import annotations

import base64
import re
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.autoscaling.balancing import sources_of
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, is_own

_SERVICE = "autoscaling"


class LaunchConfiguration(ResourceType):
    """A launch configuration; any change makes a new one. ``Ref`` is its name."""

    type = "AWS::AutoScaling::LaunchConfiguration"
    required = frozenset(("ImageId", "InstanceType"))
    replaces = frozenset(
        (
            *("AssociatePublicIpAddress", "BlockDeviceMappings", "EbsOptimized", "IamInstanceProfile", "ImageId"),
            *("InstanceMonitoring", "InstanceType", "KeyName", "LaunchConfigurationName", "MetadataOptions"),
            *("PlacementTenancy", "SecurityGroups", "SpotPrice", "UserData"),
        )
    )
    refuses = frozenset(("ClassicLinkVPCId", "ClassicLinkVPCSecurityGroups", "InstanceId", "KernelId", "RamDiskId"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("LaunchConfigurationName") or do.name(255)
        input = {**properties, "LaunchConfigurationName": name}
        if "InstanceMonitoring" in input:
            input["InstanceMonitoring"] = {"Enabled": input["InstanceMonitoring"]}
        if "UserData" in input:
            input["UserData"] = encoded(input["UserData"])
        await _unless(do, "CreateLaunchConfiguration", input, "AlreadyExists")
        return Physical(name)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless(do, "DeleteLaunchConfiguration", {"LaunchConfigurationName": physical.id}, "ValidationError")


_GROUP = (
    *("AvailabilityZones", "CapacityRebalance", "Context", "DefaultInstanceWarmup", "DesiredCapacityType"),
    *("HealthCheckGracePeriod", "HealthCheckType", "LaunchConfigurationName"),
    *("LaunchTemplate", "MaxSize", "MinSize", "MixedInstancesPolicy", "NewInstancesProtectedFromScaleIn"),
    *("ServiceLinkedRoleARN", "TerminationPolicies"),
)


class AutoScalingGroup(ResourceType):
    """A group of instances. ``Ref`` is its name."""

    type = "AWS::AutoScaling::AutoScalingGroup"
    required = frozenset(("MaxSize", "MinSize"))
    replaces = frozenset(("AutoScalingGroupName", "InstanceId", "PlacementGroup"))
    refuses = frozenset(
        (
            *("InstanceId", "LoadBalancerNames", "MaxInstanceLifetime", "PlacementGroup", "InstanceMaintenancePolicy"),
            *("AvailabilityZoneDistribution", "AvailabilityZoneImpairmentPolicy", "CapacityReservationSpecification"),
            *("AvailabilityZoneIds", "DeletionProtection", "InstanceLifecyclePolicy"),
        )
    )
    ignored = frozenset(("SkipZonalShiftValidation",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("AutoScalingGroupName") or do.name(255)
        input = _input(properties) | {"AutoScalingGroupName": name, "Tags": _tags(do, name, properties)}
        input["TargetGroupARNs"] = _targets(properties)
        if "LifecycleHookSpecificationList" in properties:
            input["LifecycleHookSpecificationList"] = properties["LifecycleHookSpecificationList"]
        if not await _unless(do, "CreateAutoScalingGroup", input, "AlreadyExists"):
            marks = {tag["Key"]: tag["Value"] for tag in (await _group(do, name))["Tags"]}
            if not is_own(do, marks):
                raise AwsError("AlreadyExists", f"{name} already exists.")
        await do.initiated(name)
        await _configure(do, name, {}, properties)
        return Physical(name, {"AutoScalingGroupARN": (await _group(do, name))["AutoScalingGroupARN"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        name = physical.id
        input = _input(new) | {"AutoScalingGroupName": name}
        if not changed(old, new, "DesiredCapacity"):
            input.pop("DesiredCapacity", None)
        await do.call(_SERVICE, "UpdateAutoScalingGroup", input)
        before, after = _targets(old), _targets(new)
        for operation, arns in (
            ("AttachLoadBalancerTargetGroups", [one for one in after if one not in before]),
            ("DetachLoadBalancerTargetGroups", [one for one in before if one not in after]),
        ):
            if arns:
                await do.call(_SERVICE, operation, {"AutoScalingGroupName": name, "TargetGroupARNs": arns})
        tags = _tags(do, name, new)
        await do.call(_SERVICE, "CreateOrUpdateTags", {"Tags": tags})
        kept = {tag["Key"] for tag in tags}
        gone = [tag for tag in (await _group(do, name))["Tags"] if tag["Key"] not in kept]
        if gone:
            await do.call(_SERVICE, "DeleteTags", {"Tags": gone})
        await _configure(do, name, old, new)
        await _set_hooks(do, name, old, new)
        rolling = (do.update_policy or {}).get("AutoScalingRollingUpdate")
        if rolling is not None:
            await _roll(do, name, rolling)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        name = physical.id
        if await _unless(
            do, "DeleteAutoScalingGroup", {"AutoScalingGroupName": name, "ForceDelete": True}, "ValidationError"
        ):
            service: Any = await do.service(_SERVICE)
            await service.gone(f"{do.account}/{do.region}", name)


class LifecycleHook(ResourceType):
    """A lifecycle hook. ``Ref`` is its name."""

    type = "AWS::AutoScaling::LifecycleHook"
    required = frozenset(("AutoScalingGroupName", "LifecycleTransition"))
    replaces = frozenset(("AutoScalingGroupName", "LifecycleHookName"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("LifecycleHookName") or do.name(255)
        await do.call(_SERVICE, "PutLifecycleHook", {**properties, "LifecycleHookName": name})
        return Physical(name, {"LifecycleHookName": name})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await do.call(_SERVICE, "PutLifecycleHook", {**new, "LifecycleHookName": physical.id})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        group = properties["AutoScalingGroupName"]
        input = {"AutoScalingGroupName": group, "LifecycleHookName": physical.id}
        await _unless(do, "DeleteLifecycleHook", input, "ValidationError")


class ScalingPolicy(ResourceType):
    """A scaling policy. ``Ref`` is its ARN."""

    type = "AWS::AutoScaling::ScalingPolicy"
    required = frozenset(("AutoScalingGroupName",))
    replaces = frozenset(("AutoScalingGroupName",))
    refuses = frozenset(("PredictiveScalingConfiguration",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = do.name(255)
        made = await do.call(_SERVICE, "PutScalingPolicy", {**properties, "PolicyName": name})
        return Physical(made["PolicyARN"], {"Arn": made["PolicyARN"], "PolicyName": name})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless(do, "DeletePolicy", {"PolicyName": physical.id}, "ValidationError")


class ScheduledAction(ResourceType):
    """A scheduled action. ``Ref`` is its name."""

    type = "AWS::AutoScaling::ScheduledAction"
    required = frozenset(("AutoScalingGroupName",))
    replaces = frozenset(("AutoScalingGroupName",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = do.name(255)
        await do.call(_SERVICE, "PutScheduledUpdateGroupAction", {**properties, "ScheduledActionName": name})
        return Physical(name, {"ScheduledActionName": name})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        input = {"AutoScalingGroupName": properties["AutoScalingGroupName"], "ScheduledActionName": physical.id}
        await _unless(do, "DeleteScheduledAction", input, "ValidationError")


def encoded(data: str) -> str:
    """User data as templates give it: in base64 already, or as it is."""
    try:
        base64.b64decode(data, validate=True)
    except ValueError:
        return base64.b64encode(data.encode()).decode()
    return data


async def _configure(do: Deployment, name: str, old: Properties, new: Properties) -> None:
    """Metrics and notifications of a group."""
    if changed(old, new, "MetricsCollection"):
        if old.get("MetricsCollection"):
            await do.call(_SERVICE, "DisableMetricsCollection", {"AutoScalingGroupName": name})
        for one in new.get("MetricsCollection") or ():
            await do.call(_SERVICE, "EnableMetricsCollection", {"AutoScalingGroupName": name, **one})
    wanted = [_notification(one) for one in _notifications(new)]
    for one in (_notification(one) for one in _notifications(old)):
        if one not in wanted:
            input = {"AutoScalingGroupName": name, "TopicARN": one["TopicARN"]}
            await _unless(do, "DeleteNotificationConfiguration", input, "ValidationError")
    for one in wanted:
        await do.call(_SERVICE, "PutNotificationConfiguration", {"AutoScalingGroupName": name, **one})


def _notifications(properties: Properties) -> list[Properties]:
    single = [properties["NotificationConfiguration"]] if properties.get("NotificationConfiguration") else []
    return [*(properties.get("NotificationConfigurations") or []), *single]


def _notification(one: Properties) -> Properties:
    topics = one["TopicARN"]
    default = ["autoscaling:EC2_INSTANCE_LAUNCH", "autoscaling:EC2_INSTANCE_TERMINATE"]
    return {
        "TopicARN": topics[0] if isinstance(topics, list) else topics,
        "NotificationTypes": one.get("NotificationTypes") or default,
    }


def _input(properties: Properties) -> Properties:
    """What Create and Update operations take as it is."""
    input = {key: properties[key] for key in _GROUP if key in properties}
    if "VPCZoneIdentifier" in properties:
        subnets = properties["VPCZoneIdentifier"]
        input["VPCZoneIdentifier"] = subnets if isinstance(subnets, str) else ",".join(subnets)
    if "Cooldown" in properties:
        input["DefaultCooldown"] = properties["Cooldown"]
    if "DesiredCapacity" in properties:
        input["DesiredCapacity"] = properties["DesiredCapacity"]
    return input


def _targets(properties: Properties) -> list[str]:
    """The target groups of a group, by either of their names."""
    return [*(properties.get("TargetGroupARNs") or []), *sources_of(properties.get("TrafficSources") or [])]


async def _set_hooks(do: Deployment, name: str, old: Properties, new: Properties) -> None:
    """The lifecycle hooks that a group's own properties list."""
    before = {one["LifecycleHookName"]: one for one in old.get("LifecycleHookSpecificationList") or ()}
    after = {one["LifecycleHookName"]: one for one in new.get("LifecycleHookSpecificationList") or ()}
    for hook in before.keys() - after.keys():
        input = {"AutoScalingGroupName": name, "LifecycleHookName": hook}
        await _unless(do, "DeleteLifecycleHook", input, "ValidationError")
    for hook, one in after.items():
        if one != before.get(hook):
            await do.call(_SERVICE, "PutLifecycleHook", {**one, "AutoScalingGroupName": name})


def _tags(do: Deployment, name: str, properties: Properties) -> list[Properties]:
    own = properties.get("Tags") or []
    known = {tag["Key"] for tag in own}
    stack = [
        {"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in do.tags.items() if key not in known
    ]
    return [{"ResourceId": name, "ResourceType": "auto-scaling-group", **tag} for tag in [*own, *stack]]


async def _roll(do: Deployment, name: str, policy: Properties) -> None:
    """Replace the instances that were launched from something else, in batches, each with its signals."""
    service: Any = await do.service(_SERVICE)
    scope = f"{do.account}/{do.region}"
    left = [one.id for one in await service.outdated(scope, name)]
    group = await _group(do, name)
    spare = group["DesiredCapacity"] - int(policy.get("MinInstancesInService", 0))
    batch = max(1, min(int(policy.get("MaxBatchSize", 1)), spare))
    waits = str(policy.get("WaitOnResourceSignals", False)).lower() == "true"
    suspended = [one for one in policy.get("SuspendProcesses") or () if one not in ("Launch", "Terminate")]
    if suspended:
        await do.call(_SERVICE, "SuspendProcesses", {"AutoScalingGroupName": name, "ScalingProcesses": suspended})
    while left:
        now, left = left[:batch], left[batch:]
        before = await do.signals()
        await service.replace(scope, name, now, "a rolling update")
        if waits:
            await do.signals(before + len(now), duration(str(policy.get("PauseTime", "PT5M"))))
    if suspended:
        await do.call(_SERVICE, "ResumeProcesses", {"AutoScalingGroupName": name, "ScalingProcesses": suspended})


def duration(text: str) -> float:
    """Seconds of an ISO 8601 duration such as PT5M. Raises ValidationError."""
    found = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?", text)
    if found is None or not any(found.groups()):
        raise AwsError("ValidationError", f"{text} is not a duration such as PT5M")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


async def _group(do: Deployment, name: str) -> Properties:
    found = await do.call(_SERVICE, "DescribeAutoScalingGroups", {"AutoScalingGroupNames": [name]})
    return found["AutoScalingGroups"][0]  # type: ignore[no-any-return]


async def _unless(do: Deployment, operation: str, input: Properties, code: str) -> bool:
    """Call an operation; False where it ends with an error that says that it was done."""
    try:
        await do.call(_SERVICE, operation, input)
    except AwsError as error:
        if error.code == code:
            return False
        raise
    return True


TYPES = [AutoScalingGroup, LaunchConfiguration, LifecycleHook, ScalingPolicy, ScheduledAction]
