"""Auto Scaling groups: what there should be. Keeping them so is in ``keeping.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.autoscaling.balancing import Balancing, sources_of
from cloudlet.services.autoscaling.base import group_arn, invalid, name_in, page
from cloudlet.services.autoscaling.controller import LAUNCHING, TERMINATING
from cloudlet.services.autoscaling.mixing import completed_policy, template_of
from cloudlet.services.autoscaling.records import Group, Hook
from cloudlet.services.ec2.filters import chosen
from cloudlet.store import Tx

_KEPT = (
    *(
        "AutoScalingGroupName",
        "LaunchConfigurationName",
        "LaunchTemplate",
        "MixedInstancesPolicy",
        "MinSize",
        "MaxSize",
    ),
    *("DefaultCooldown", "AvailabilityZones", "TargetGroupARNs", "HealthCheckType", "HealthCheckGracePeriod"),
    *("VPCZoneIdentifier", "TerminationPolicies", "NewInstancesProtectedFromScaleIn", "ServiceLinkedRoleARN"),
    *("CapacityRebalance", "Context", "DesiredCapacityType", "DefaultInstanceWarmup"),
)
_REFUSED = (
    *("LoadBalancerNames", "InstanceId", "MaxInstanceLifetime", "PlacementGroup", "AvailabilityZoneDistribution"),
    *("AvailabilityZoneImpairmentPolicy", "CapacityReservationSpecification", "InstanceLifecyclePolicy"),
    *("DeletionProtection", "AvailabilityZoneIds", "InstanceMaintenancePolicy"),
)
PROCESSES = (
    *("AddToLoadBalancer", "AlarmNotification", "AZRebalance", "HealthCheck", "InstanceRefresh", "Launch"),
    *("ReplaceUnhealthy", "ScheduledActions", "Terminate"),
)
_TERMINATION_POLICIES = (
    *("AllocationStrategy", "ClosestToNextInstanceHour", "Default", "NewestInstance", "OldestInstance"),
    *("OldestLaunchConfiguration", "OldestLaunchTemplate"),
)
_TAG_PATHS = {
    "auto-scaling-group": ("ResourceId",),
    "key": ("Key",),
    "value": ("Value",),
    "propagate-at-launch": ("PropagateAtLaunch",),
}


class Groups(Balancing):
    """Operations on groups."""

    async def CreateAutoScalingGroup(self, call: Call, input: Input) -> Output:
        self._refuse(call, input)
        name = input["AutoScalingGroupName"]
        least: int = input["MinSize"]
        most: int = input["MaxSize"]
        desired: int = input.get("DesiredCapacity", least)
        _check_sizes(least, most, desired)
        await self._check_source(call, input)
        targets = [*(input.get("TargetGroupARNs") or ()), *sources_of(input.get("TrafficSources") or ())]
        await self.check_targets(call, targets)
        zones, subnets = await self._places(call, input)
        members: dict[str, Any] = {
            "DefaultCooldown": 300,
            "HealthCheckType": "EC2",
            "HealthCheckGracePeriod": 0,
            "TerminationPolicies": ["Default"],
            "NewInstancesProtectedFromScaleIn": False,
            "CapacityRebalance": False,
            "ServiceLinkedRoleARN": f"arn:aws:iam::{call.account}:role/aws-service-role/autoscaling.amazonaws.com/"
            "AWSServiceRoleForAutoScaling",
            **{key: input[key] for key in _KEPT if key in input},
            "TargetGroupARNs": list(dict.fromkeys(targets)),
            "AvailabilityZones": zones,
            "VPCZoneIdentifier": ",".join(subnets),
        }
        hooks = [
            completed_hook({**one, "AutoScalingGroupName": name})
            for one in input.get("LifecycleHookSpecificationList") or ()
        ]
        tags = {
            tag["Key"]: (tag.get("Value", ""), tag.get("PropagateAtLaunch", False)) for tag in input.get("Tags") or ()
        }
        now = self.clock.now()
        asked = (
            f"At {moment(now)} a user request created an AutoScalingGroup changing the desired capacity from 0 to "
            f"{desired}."
        )
        made = Group(members, desired, now, tags=tags, asked=asked)

        def work(tx: Tx) -> None:
            if self.groups.get(call.scope, name, tx) is not None:
                raise AwsError(
                    "AlreadyExists",
                    f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
                )
            self.groups.put(tx, call.scope, name, made)
            for hook in hooks:
                self.hooks.put(tx, call.scope, f"{name}/{hook['LifecycleHookName']}", Hook(hook))

        await self.db.write(work)
        self.look_after(call.scope, name)
        return {}

    async def UpdateAutoScalingGroup(self, call: Call, input: Input) -> Output:
        self._refuse(call, input)
        name = name_in(call, input["AutoScalingGroupName"])
        old = self.group(call.scope, name)
        await self._check_source(call, input, old.members)
        changes = {key: input[key] for key in _KEPT if key in input and key != "AutoScalingGroupName"}
        if "AvailabilityZones" in input or "VPCZoneIdentifier" in input:
            zones, subnets = await self._places(call, input)
            changes |= {"AvailabilityZones": zones, "VPCZoneIdentifier": ",".join(subnets)}
        gone = {
            "LaunchConfigurationName": ("LaunchTemplate", "MixedInstancesPolicy"),
            "LaunchTemplate": ("LaunchConfigurationName", "MixedInstancesPolicy"),
            "MixedInstancesPolicy": ("LaunchConfigurationName", "LaunchTemplate"),
        }
        dropped = {other for key, others in gone.items() if key in changes for other in others}
        now = self.clock.now()

        def change(group: Group) -> Group:
            members = {key: value for key, value in group.members.items() if key not in dropped} | changes
            least, most = members["MinSize"], members["MaxSize"]
            desired = input.get("DesiredCapacity", max(least, min(most, group.desired)))
            _check_sizes(least, most, desired)
            made = msgspec.structs.replace(group, members=members, failures=0)
            return resized(made, desired, now, "update of AutoScalingGroup constraints to")

        await self.change(call.scope, name, change)
        self.look_after(call.scope, name)
        return {}

    async def SetDesiredCapacity(self, call: Call, input: Input) -> Output:
        name = name_in(call, input["AutoScalingGroupName"])
        group, wanted, now = self.group(call.scope, name), input["DesiredCapacity"], self.clock.now()
        least, most = group.members["MinSize"], group.members["MaxSize"]
        if wanted > most:
            raise invalid(f"New SetDesiredCapacity value {wanted} is above max value {most} for the AutoScalingGroup.")
        if wanted < least:
            raise invalid(f"New SetDesiredCapacity value {wanted} is below min value {least} for the AutoScalingGroup.")
        if input.get("HonorCooldown") and now < group.changed + group.members["DefaultCooldown"]:
            raise AwsError(
                "ScalingActivityInProgress", f"Scaling activity in progress and cooldown is not over for {name}"
            )
        await self.change(
            call.scope, name, lambda one: resized(msgspec.structs.replace(one, failures=0), wanted, now, "user request")
        )
        self.look_after(call.scope, name)
        return {}

    async def DeleteAutoScalingGroup(self, call: Call, input: Input) -> Output:
        name = name_in(call, input["AutoScalingGroupName"])

        def change(tx: Tx) -> None:
            group = self.group(call.scope, name, tx)
            if group.instances and not input.get("ForceDelete"):
                raise AwsError(
                    "ResourceInUse",
                    "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance "
                    "request(s) still in the group.",
                )
            made = msgspec.structs.replace(
                group, status="Delete in progress", desired=0, asked="a user request to delete the group"
            )
            self.groups.put(tx, call.scope, name, made)

        await self.db.write(change)
        self.look_after(call.scope, name)
        return {}

    async def DescribeAutoScalingGroups(self, call: Call, input: Input) -> Output:
        names = {name_in(call, one) for one in input.get("AutoScalingGroupNames") or ()}
        found = [
            described(call.scope, record.value)
            for record in self.groups.list(call.scope)
            if not names or record.name in names
        ]
        paths = {"tag-key": ("Tags", "Key"), "tag-value": ("Tags", "Value")}
        output = page("AutoScalingGroups", chosen(found, input.get("Filters") or [], paths), input)
        if not input.get("IncludeInstances", True):
            for one in output["AutoScalingGroups"]:
                one["Instances"] = []
        return output

    async def DescribeScalingActivities(self, call: Call, input: Input) -> Output:
        if input.get("IncludeDeletedGroups"):
            raise not_implemented("DescribeScalingActivities with IncludeDeletedGroups")
        if input.get("Filters"):
            raise not_implemented("DescribeScalingActivities with Filters")
        name = name_in(call, input.get("AutoScalingGroupName", ""))
        wanted = input.get("ActivityIds")
        found = [
            record.value.members
            for record in reversed(self.activities.list(call.scope, f"{name}/" if name else ""))
            if not wanted or record.value.members["ActivityId"] in wanted
        ]
        return page("Activities", found, input, 100)

    # Processes

    async def SuspendProcesses(self, call: Call, input: Input) -> Output:
        wanted = _processes(input)
        why = f"User suspended at {moment(self.clock.now())}"
        await self.change_group(
            call,
            input,
            lambda group: msgspec.structs.replace(group, suspended={**dict.fromkeys(wanted, why), **group.suspended}),
        )
        return {}

    async def ResumeProcesses(self, call: Call, input: Input) -> Output:
        wanted = _processes(input)
        name = await self.change_group(
            call,
            input,
            lambda group: msgspec.structs.replace(
                group, suspended={key: value for key, value in group.suspended.items() if key not in wanted}
            ),
        )
        if "HealthCheck" in wanted:
            await self.check_health(call.scope, name)
        self.look_after(call.scope, name)
        return {}

    # Tags

    async def CreateOrUpdateTags(self, call: Call, input: Input) -> Output:
        for tag in input["Tags"]:
            name = tag.get("ResourceId", "")
            self.group(call.scope, name)

            def change(group: Group, tag: dict[str, Any] = tag) -> Group:
                entry = (tag.get("Value", ""), tag.get("PropagateAtLaunch", False))
                return msgspec.structs.replace(group, tags={**group.tags, tag["Key"]: entry})

            await self.change(call.scope, name, change)
        return {}

    async def DeleteTags(self, call: Call, input: Input) -> Output:
        for tag in input["Tags"]:
            name = tag.get("ResourceId", "")
            self.group(call.scope, name)

            def change(group: Group, gone: str = tag["Key"]) -> Group:
                return msgspec.structs.replace(group, tags={key: one for key, one in group.tags.items() if key != gone})

            await self.change(call.scope, name, change)
        return {}

    async def DescribeTags(self, call: Call, input: Input) -> Output:
        found = [tag for record in self.groups.list(call.scope) for tag in _tags(record.name, record.value)]
        return page("Tags", chosen(found, input.get("Filters") or [], _TAG_PATHS), input)

    # What the account has

    async def DescribeAccountLimits(self, call: Call, input: Input) -> Output:
        return {
            "MaxNumberOfAutoScalingGroups": 500,
            "MaxNumberOfLaunchConfigurations": 200,
            "NumberOfAutoScalingGroups": len(self.groups.list(call.scope)),
            "NumberOfLaunchConfigurations": len(self.configurations.list(call.scope)),
        }

    async def DescribeAdjustmentTypes(self, call: Call, input: Input) -> Output:
        names = ("ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity")
        return {"AdjustmentTypes": [{"AdjustmentType": name} for name in names]}

    async def DescribeScalingProcessTypes(self, call: Call, input: Input) -> Output:
        return {"Processes": [{"ProcessName": name} for name in PROCESSES]}

    async def DescribeTerminationPolicyTypes(self, call: Call, input: Input) -> Output:
        return {"TerminationPolicyTypes": list(_TERMINATION_POLICIES)}

    async def DescribeWarmPool(self, call: Call, input: Input) -> Output:
        self.group(call.scope, name_in(call, input["AutoScalingGroupName"]))
        return {"Instances": []}

    # Parts

    def _refuse(self, call: Call, input: Input) -> None:
        for name in _REFUSED:
            if input.get(name):
                raise not_implemented(f"{call.operation or 'CreateAutoScalingGroup'} with {name}")
        for one in input.get("HealthCheckType", "EC2").split(","):
            if one.strip() not in ("EC2", "ELB"):
                raise not_implemented(f"the health check type {one}")
        for policy in input.get("TerminationPolicies") or ():
            if policy.startswith("arn:"):
                raise not_implemented("termination policies that are Lambda functions")
            if policy not in _TERMINATION_POLICIES:
                raise invalid(f"Invalid termination policy: {policy}")
        if input.get("DesiredCapacityType", "units") != "units":
            raise not_implemented(f"the desired capacity type {input['DesiredCapacityType']}")

    async def check_health(self, scope: str, name: str) -> None:
        """See what has become of a group's instances while nobody looked."""
        raise NotImplementedError

    async def change_group(self, call: Call, input: Input, fn: Callable[[Group], Group]) -> str:
        """Change the group that is asked for: its name. Raises ValidationError."""
        name = name_in(call, input["AutoScalingGroupName"])
        self.group(call.scope, name)
        await self.change(call.scope, name, fn)
        return name

    async def _check_source(self, call: Call, input: Input, old: dict[str, Any] | None = None) -> None:
        """That there is one thing to launch from, and that it is there; it is completed. Raises ValidationError."""
        given = [key for key in ("LaunchConfigurationName", "LaunchTemplate", "MixedInstancesPolicy") if key in input]
        if not given and old is not None:
            return
        if len(given) != 1:
            raise invalid(
                "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or "
                "MixedInstancesPolicy parameter."
            )
        name = input.get("LaunchConfigurationName")
        if name and self.configurations.get(call.scope, name) is None:
            raise invalid(f"Launch configuration name not found - Launch configuration {name} not found")
        if "MixedInstancesPolicy" in input:
            input["MixedInstancesPolicy"] = completed_policy(input["MixedInstancesPolicy"])
        template = template_of(input)
        if not name and ("LaunchTemplateId" in template) == ("LaunchTemplateName" in template):
            raise invalid("Valid requests must contain either launchTemplateId or LaunchTemplateName")
        if template:
            names = ("LaunchTemplateId", "LaunchTemplateName")
            ask: dict[str, Any] = {key: template[key] for key in names if key in template}
            version = template.get("Version", "$Default")
            try:
                found = await self.ask(
                    call.scope, "ec2", "DescribeLaunchTemplateVersions", {**ask, "Versions": [version]}
                )
            except AwsError as error:
                raise invalid(f"You must use a valid fully-formed launch template. {error.message}") from None
            one = found["LaunchTemplateVersions"][0]
            # Which of its names was given, the group shows both.
            template |= {key: one[key] for key in ("LaunchTemplateId", "LaunchTemplateName")}

    async def _places(self, call: Call, input: Input) -> tuple[list[str], list[str]]:
        """The zones of a group, and its subnets. Raises ValidationError."""
        given = [one.strip() for one in input.get("VPCZoneIdentifier", "").split(",") if one.strip()]
        if given:
            try:
                found = (await self.ask(call.scope, "ec2", "DescribeSubnets", {"SubnetIds": given}))["Subnets"]
            except AwsError as error:
                raise invalid(f"{error.message}") from None
            zones = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in found}
            named = input.get("AvailabilityZones")
            if named and any(zone not in named for zone in zones.values()):
                raise invalid("The availability zones of the specified subnets and the Auto Scaling group do not match")
            return list(dict.fromkeys(zones[id] for id in given)), given
        named = input.get("AvailabilityZones") or []
        if not named:
            raise invalid("At least one Availability Zone or VPC Subnet is required.")
        known = {
            one["ZoneName"]
            for one in (await self.ask(call.scope, "ec2", "DescribeAvailabilityZones", {}))["AvailabilityZones"]
        }
        if unknown := [zone for zone in named if zone not in known]:
            raise invalid(f"Invalid availability zone: [{', '.join(unknown)}]")
        return list(named), []


def completed_hook(hook: dict[str, Any]) -> dict[str, Any]:
    """A lifecycle hook with AWS's defaults. Raises ValidationError, NotImplemented."""
    if hook.get("LifecycleTransition") not in (LAUNCHING, TERMINATING):
        raise invalid(
            f"Lifecycle transition must be one of: [{LAUNCHING}, {TERMINATING}] - {hook.get('LifecycleTransition')}"
        )
    if hook.get("DefaultResult", "ABANDON") not in ("CONTINUE", "ABANDON"):
        raise invalid("Lifecycle hook default result must be one of: [CONTINUE, ABANDON]")
    if not 30 <= hook.get("HeartbeatTimeout", 3600) <= 7200:
        raise invalid("Heartbeat timeout must be between 30 and 7200 seconds")
    target = hook.get("NotificationTargetARN")
    if target and target.split(":")[2:3] not in (["sns"], ["sqs"]):
        raise not_implemented(f"a lifecycle hook with the target {target}")
    made = {"HeartbeatTimeout": 3600, "DefaultResult": "ABANDON", **hook}
    return {**made, "GlobalTimeout": min(172800, made["HeartbeatTimeout"] * 100)}


def moment(seconds: float) -> str:
    """A time as causes of activities say it."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def described(scope: str, group: Group) -> dict[str, Any]:
    """A group as it is shown."""
    name = group.members["AutoScalingGroupName"]
    return {
        "LoadBalancerNames": [],
        "TrafficSources": [{"Identifier": arn, "Type": "elbv2"} for arn in group.members["TargetGroupARNs"]],
        **group.members,
        "AutoScalingGroupARN": group_arn(scope, name),
        "DesiredCapacity": group.desired,
        "CreatedTime": group.created,
        "Instances": [described_member(one) for one in group.instances if one.state != "Terminated"],
        "SuspendedProcesses": [
            {"ProcessName": key, "SuspensionReason": why} for key, why in sorted(group.suspended.items())
        ],
        "EnabledMetrics": [{"Metric": one, "Granularity": "1Minute"} for one in group.metrics],
        "Tags": _tags(name, group),
        **({"Status": group.status} if group.status else {}),
    }


def described_member(one: Any) -> dict[str, Any]:
    """An instance as its group shows it."""
    return {
        "InstanceId": one.id,
        "InstanceType": one.type,
        "AvailabilityZone": one.zone,
        "LifecycleState": one.state,
        "HealthStatus": one.health,
        "ProtectedFromScaleIn": one.is_protected,
        **one.source,
        **({"WeightedCapacity": str(one.weight)} if one.weight != 1 else {}),
    }


def resized(group: Group, desired: int, now: float, who: str) -> Group:
    """The group with another capacity, and why."""
    if desired == group.desired:
        return group
    asked = f"At {moment(now)} a {who} changed the desired capacity from {group.desired} to {desired}."
    return msgspec.structs.replace(group, desired=desired, asked=asked, changed=now)


def _check_sizes(least: int, most: int, desired: int) -> None:
    if least > most:
        raise invalid("Max bound, " + f"{most}, must be greater than or equal to min bound, {least}")
    if desired > most:
        raise invalid(f"Desired capacity:{desired} must be between the specified min size:{least} and max size:{most}")
    if desired < least:
        raise invalid(f"Desired capacity:{desired} must be between the specified min size:{least} and max size:{most}")


def _processes(input: Input) -> list[str]:
    wanted = input.get("ScalingProcesses") or list(PROCESSES)
    for one in wanted:
        if one not in PROCESSES:
            raise invalid(f"Invalid Process type: {one}")
    return list(wanted)


def _tags(name: str, group: Group) -> list[dict[str, Any]]:
    return [
        {
            "ResourceId": name,
            "ResourceType": "auto-scaling-group",
            "Key": key,
            "Value": value,
            "PropagateAtLaunch": launched,
        }
        for key, (value, launched) in sorted(group.tags.items())
    ]
