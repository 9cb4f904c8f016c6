"""Scaling policies: their alarms, and what is done when one of them goes off.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-simple-step.html
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.autoscaling.base import invalid, name_in, page
from cloudlet.services.autoscaling.groups import resized
from cloudlet.services.autoscaling.keeping import Keeping
from cloudlet.services.autoscaling.records import Group, Policy
from cloudlet.services.scaling import capacity, tracking

_PREDEFINED = {
    "ASGAverageCPUUtilization": ("AWS/EC2", "CPUUtilization"),
    "ASGAverageNetworkIn": ("AWS/EC2", "NetworkIn"),
    "ASGAverageNetworkOut": ("AWS/EC2", "NetworkOut"),
}


class Policies(Keeping):
    """Operations on scaling policies."""

    async def PutScalingPolicy(self, call: Call, input: Input) -> Output:
        name = name_in(call, input["AutoScalingGroupName"])
        self.group(call.scope, name)
        kind = input.get("PolicyType", "SimpleScaling")
        if kind == "PredictiveScaling":
            raise not_implemented("PutScalingPolicy with PredictiveScaling")
        _check(kind, input)
        key = f"{name}/{input['PolicyName']}"
        known = self.policies.get(call.scope, key)
        old: dict[str, Any] = known.value.members if known is not None else {}
        arn = old.get("PolicyARN") or (
            f"arn:aws:autoscaling:{call.region}:{call.account}:scalingPolicy:{uuid.uuid4()}:autoScalingGroupName/"
            f"{name}:policyName/{input['PolicyName']}"
        )
        members = {
            "Enabled": True,
            **input,
            "AutoScalingGroupName": name,
            "PolicyType": kind,
            "PolicyARN": arn,
            "Alarms": old.get("Alarms", []),
        }
        if kind == "StepScaling":
            members.setdefault("MetricAggregationType", "Average")
        # The policy is there before its alarms, whose action it is.
        await self._put(call.scope, key, members)
        if kind == "TargetTrackingScaling":
            members = {**members, "Alarms": await self._put_alarms(call, members)}
            await self._put(call.scope, key, members)
        return {"PolicyARN": arn, "Alarms": members["Alarms"]}

    async def DescribePolicies(self, call: Call, input: Input) -> Output:
        name = name_in(call, input.get("AutoScalingGroupName", ""))
        names, types = input.get("PolicyNames"), input.get("PolicyTypes")
        found = [
            record.value.members
            for record in self.policies.list(call.scope, f"{name}/" if name else "")
            if (not names or record.value.members["PolicyName"] in names or record.value.members["PolicyARN"] in names)
            and (not types or record.value.members["PolicyType"] in types)
        ]
        output = page("ScalingPolicies", found, input)
        output["ScalingPolicies"] = [
            await tracking.with_alarms(self.ask, call.scope, one) for one in output["ScalingPolicies"]
        ]
        return output

    async def DeletePolicy(self, call: Call, input: Input) -> Output:
        key, _ = self._policy(call, input)
        await self._drop(call.scope, key)
        return {}

    async def ExecutePolicy(self, call: Call, input: Input) -> Output:
        members = self._policy(call, input)[1]
        name = members["AutoScalingGroupName"]
        group = self.group(call.scope, name)
        if not members["Enabled"] or "AlarmNotification" in group.suspended:
            return {}
        if "MetricValue" in input:
            wanted = capacity.stepped(group.desired, input["MetricValue"], input.get("BreachThreshold", 0), members)
            await self._scale(call.scope, name, members, wanted, "user request")
        elif call.request is not None:
            if members["PolicyType"] != "SimpleScaling":
                raise invalid("MetricValue is required for a policy of this type.")
            if input.get("HonorCooldown") and self._is_cooling(group, members):
                raise AwsError("ScalingActivityInProgress", f"The cooldown of {name} is not over.")
            wanted = capacity.adjusted(group.desired, members["ScalingAdjustment"], _adjustment(members))
            await self._scale(call.scope, name, members, wanted, "user request executed a policy and")
        else:
            await self._answer_alarms(call.scope, name, members)
        return {}

    async def drop_policies(self, scope: str, name: str) -> None:
        for record in self.policies.list(scope, f"{name}/"):
            await self._drop(scope, record.name)

    # Alarms

    async def _answer_alarms(self, scope: str, name: str, members: dict[str, Any]) -> None:
        """CloudWatch tells that an alarm whose action is this policy is on."""
        found = await self.ask(scope, "cloudwatch", "DescribeAlarms", {"ActionPrefix": members["PolicyARN"]})
        for alarm in found["MetricAlarms"]:
            if alarm["StateValue"] != "ALARM" or members["PolicyARN"] not in alarm["AlarmActions"]:
                continue
            group = self.group(scope, name)
            if self._is_cooling(group, members):
                return
            cause = f"monitor alarm {alarm['AlarmName']} in state ALARM triggered policy {members['PolicyName']} and"
            if members["PolicyType"] == "SimpleScaling":
                wanted = capacity.adjusted(group.desired, members["ScalingAdjustment"], _adjustment(members))
                await self._scale(scope, name, members, wanted, cause)
                continue
            points = json.loads(alarm.get("StateReasonData") or "{}").get("recentDatapoints") or []
            if not points:
                continue
            value = float(points[-1])
            if members["PolicyType"] == "StepScaling":
                wanted = capacity.stepped(group.desired, value, alarm["Threshold"], members)
            else:
                target = members["TargetTrackingConfiguration"]["TargetValue"]
                wanted = capacity.tracked(group.desired, value, target)
                is_high = alarm["ComparisonOperator"] == "GreaterThanThreshold"
                wanted = max(wanted, group.desired) if is_high else min(wanted, group.desired)
            await self._scale(scope, name, members, wanted, cause)

    def _is_cooling(self, group: Group, members: dict[str, Any]) -> bool:
        """Whether the last change of capacity is too fresh for a simple policy, or an instance warms up."""
        now = self.clock.now()
        if members["PolicyType"] == "SimpleScaling":
            seconds = members.get("Cooldown", group.members["DefaultCooldown"])
        else:
            warm = group.members.get("DefaultInstanceWarmup", group.members["DefaultCooldown"])
            seconds = members.get("EstimatedInstanceWarmup", warm)
        return bool(now < group.changed + seconds)

    async def _scale(self, scope: str, name: str, members: dict[str, Any], wanted: int, who: str) -> None:
        now = self.clock.now()

        def change(group: Group) -> Group:
            desired = capacity.bounded(wanted, group.members["MinSize"], group.members["MaxSize"])
            return resized(msgspec.structs.replace(group, failures=0), desired, now, who)

        await self.change(scope, name, change)
        self.look_after(scope, name)

    async def _put_alarms(self, call: Call, members: dict[str, Any]) -> list[dict[str, str]]:
        configuration, name = members["TargetTrackingConfiguration"], members["AutoScalingGroupName"]
        wanted = tracking.alarms(configuration, _metric(name, configuration))
        return await tracking.put_alarms(self.ask, call, members["PolicyARN"], name, wanted, members["Alarms"])

    # Parts

    def _policy(self, call: Call, input: Input) -> tuple[str, dict[str, Any]]:
        """A policy by its ARN, or by its name and its group's. Raises ValidationError."""
        given = input["PolicyName"]
        group = name_in(call, input.get("AutoScalingGroupName", ""))
        for record in self.policies.list(call.scope, f"{group}/" if group else ""):
            if given in (record.value.members["PolicyARN"], record.value.members["PolicyName"]):
                return record.name, record.value.members
        raise invalid(f"PolicyName: {given} does not exist")

    async def _put(self, scope: str, key: str, members: dict[str, Any]) -> None:
        await self.db.write(lambda tx: self.policies.put(tx, scope, key, Policy(members)))

    async def _drop(self, scope: str, key: str) -> None:
        record = self.policies.get(scope, key)
        if record is None:
            return
        await tracking.drop_alarms(self.ask, scope, record.value.members)
        await self.db.write(lambda tx: self.policies.delete(tx, scope, key))


def _check(kind: str, input: Input) -> None:
    if kind == "SimpleScaling":
        if "ScalingAdjustment" not in input:
            raise invalid("Scaling increment must be specified for a SimpleScaling policy")
        if "AdjustmentType" not in input:
            raise invalid("AdjustmentType and ScalingAdjustment are required for policies of type SimpleScaling")
        if input.get("StepAdjustments"):
            raise invalid("StepAdjustments is not supported for policies of type SimpleScaling")
    elif kind == "StepScaling":
        if not input.get("StepAdjustments") or "AdjustmentType" not in input:
            raise invalid(
                "AdjustmentType and at least one StepAdjustment are required for policies of type StepScaling"
            )
        if "ScalingAdjustment" in input or "Cooldown" in input:
            raise invalid("Cooldown and ScalingAdjustment are not supported for policies of type StepScaling")
    elif kind == "TargetTrackingScaling":
        if "TargetTrackingConfiguration" not in input:
            raise invalid("TargetTrackingConfiguration is required for policies of type TargetTrackingScaling")
        _metric(input["AutoScalingGroupName"], input["TargetTrackingConfiguration"])
    else:
        raise invalid(f"PolicyType {kind} is not valid.")


def _adjustment(members: dict[str, Any]) -> dict[str, Any]:
    least = members.get("MinAdjustmentMagnitude", members.get("MinAdjustmentStep"))
    return {"AdjustmentType": members["AdjustmentType"], **({"MinAdjustmentMagnitude": least} if least else {})}


def _metric(group: str, configuration: dict[str, Any]) -> dict[str, Any]:
    """The members of an alarm on what a policy tracks. Raises NotImplemented, ValidationError."""
    if (own := configuration.get("CustomizedMetricSpecification")) is not None:
        return tracking.customized(own)
    predefined = configuration.get("PredefinedMetricSpecification")
    if predefined is None:
        raise invalid("A metric must be specified for a target tracking policy.")
    kind = predefined["PredefinedMetricType"]
    dimensions = [{"Name": "AutoScalingGroupName", "Value": group}]
    made: dict[str, Any] = {"Period": 60, "Statistic": "Average"}
    if kind in _PREDEFINED:
        namespace, metric = _PREDEFINED[kind]
        return {**made, "Namespace": namespace, "MetricName": metric, "Dimensions": dimensions}
    if kind != "ALBRequestCountPerTarget":
        raise invalid(f"PredefinedMetricType {kind} is not valid.")
    requests = tracking.requests_of(predefined.get("ResourceLabel", ""))
    if requests is None:
        raise invalid("ResourceLabel must be specified for ALBRequestCountPerTarget.")
    return requests
