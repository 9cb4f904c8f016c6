"""Scaling policies: their alarms, and what is done when one of them goes off."""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.application_autoscaling.base import chosen, page
from cloudlet.services.application_autoscaling.records import Policy, Target
from cloudlet.services.application_autoscaling.scalable import SCALABLES, validation
from cloudlet.services.application_autoscaling.targets import Targets
from cloudlet.services.scaling import capacity, tracking

log = logging.getLogger("cloudlet.autoscaling")

_PROVISIONED = "-ProvisionedCapacity"  # in the names of alarms that tell of a capacity, not of a load
_COOLDOWN = 300.0  # seconds, for ECS
_AGAIN = 60.0  # seconds between looks while an alarm stays on


class Policies(Targets):
    """Operations on scaling policies."""

    async def start(self) -> None:
        await super().start()
        self._again: dict[str, Timer] = {}
        for record in self.policies.all():
            self._look_again(record.scope, record.name)

    async def stop(self) -> None:
        for timer in self._again.values():
            timer.cancel()
        await super().stop()

    async def PutScalingPolicy(self, call: Call, input: Input) -> Output:
        key = self.key(input)
        self.target(call, input)
        name = f"{key}|{input['PolicyName']}"
        known = self.policies.get(call.scope, name)
        old: dict[str, Any] = known.value.members if known is not None else {}
        kind = input.get("PolicyType") or old.get("PolicyType") or "StepScaling"
        configuration = f"{kind}PolicyConfiguration"
        if kind == "PredictiveScaling":
            raise not_implemented("PutScalingPolicy with PredictiveScaling")
        if old and old["PolicyType"] != kind:
            raise validation("The type of a policy cannot be changed.")
        if configuration not in input and configuration not in old:
            raise validation(f"{configuration} must be given for a policy of type {kind}.")
        if kind == "TargetTrackingScaling":
            self._check_metric(call, name, input.get(configuration) or old[configuration])
        members = {
            "PolicyARN": old.get("PolicyARN")
            or f"arn:aws:autoscaling:{call.region}:{call.account}:scalingPolicy:{uuid.uuid4()}:resource/"
            f"{input['ServiceNamespace']}/{input['ResourceId']}:policyName/{input['PolicyName']}",
            "PolicyName": input["PolicyName"],
            "ServiceNamespace": input["ServiceNamespace"],
            "ResourceId": input["ResourceId"],
            "ScalableDimension": input["ScalableDimension"],
            "PolicyType": kind,
            configuration: input.get(configuration, old.get(configuration)),
            "CreationTime": old.get("CreationTime") or self.clock.now(),
            "Alarms": old.get("Alarms", []),
        }
        if kind == "StepScaling" and not members[configuration].get("StepAdjustments"):
            raise validation("At least one step adjustment must be specified.")
        # The policy is there before its alarms, whose action it is.
        await self.db.write(lambda tx: self.policies.put(tx, call.scope, name, Policy(members)))
        if kind == "TargetTrackingScaling":
            try:
                members = {**members, "Alarms": await self._put_alarms(call, members)}
            except AwsError:
                if known is None:
                    await self.db.write(lambda tx: self.policies.delete(tx, call.scope, name))
                raise
            await self.db.write(lambda tx: self.policies.put(tx, call.scope, name, Policy(members)))
        return {"PolicyARN": members["PolicyARN"], "Alarms": members["Alarms"]}

    def _check_metric(self, call: Call, name: str, configuration: dict[str, Any]) -> None:
        """Raises ValidationException where another policy of the target tracks the same metric."""
        for record in self.policies.list(call.scope, f"{name.rpartition('|')[0]}|"):
            other = record.value.members.get("TargetTrackingScalingPolicyConfiguration")
            if record.name != name and other is not None and _tracked(other) == _tracked(configuration):
                raise validation("Only one TargetTrackingScaling policy for a given metric specification is allowed.")

    async def DescribeScalingPolicies(self, call: Call, input: Input) -> Output:
        names = input.get("PolicyNames")
        found = [
            one
            for one in chosen([record.value.members for record in self.policies.list(call.scope)], input)
            if not names or one["PolicyName"] in names or one["PolicyARN"] in names
        ]
        output = page("ScalingPolicies", found, input)
        output["ScalingPolicies"] = [
            await tracking.with_alarms(self.ask, call.scope, one) for one in output["ScalingPolicies"]
        ]
        return output

    async def DeleteScalingPolicy(self, call: Call, input: Input) -> Output:
        name = f"{self.key(input)}|{input['PolicyName']}"
        if self.policies.get(call.scope, name) is None:
            raise AwsError(
                "ObjectNotFoundException",
                f"No scaling policy found for service namespace: {input['ServiceNamespace']}, resource ID: "
                f"{input['ResourceId']}, scalable dimension: {input['ScalableDimension']}: {input['PolicyName']}",
            )
        await self.drop_policy(call.scope, name)
        return {}

    async def drop_policy(self, scope: str, name: str) -> None:
        record = self.policies.get(scope, name)
        if record is not None:
            await tracking.drop_alarms(self.ask, scope, record.value.members)
            await self.db.write(lambda tx: self.policies.delete(tx, scope, name))

    async def ExecutePolicy(self, call: Call, input: Input) -> Output:
        """An alarm whose action is a policy has gone off. Only CloudWatch calls this; it is no operation of the API."""
        for record in self.policies.list(call.scope):
            if record.value.members["PolicyARN"] == input["PolicyName"]:
                await self._execute(call.scope, record.name, record.value)
                return {}
        raise AwsError("ObjectNotFoundException", f"There is no policy {input['PolicyName']}.")

    # Alarms

    async def _put_alarms(self, call: Call, members: dict[str, Any]) -> list[dict[str, str]]:
        configuration = members["TargetTrackingScalingPolicyConfiguration"]
        if "CustomizedMetricSpecification" in configuration:
            wanted = tracking.alarms(configuration, tracking.customized(configuration["CustomizedMetricSpecification"]))
        elif "PredefinedMetricSpecification" in configuration:
            scaled = SCALABLES[members["ScalableDimension"]]
            wanted = await scaled.alarms(self.asker(call.scope), members["ResourceId"], configuration)
        else:
            raise validation("A metric must be specified for a target tracking policy.")
        policy, resource = members["PolicyARN"], members["ResourceId"]
        return await tracking.put_alarms(self.ask, call, policy, resource, wanted, members["Alarms"])

    async def _follow(self, scope: str, members: dict[str, Any]) -> None:
        """Have the thresholds of a policy's alarms fit the capacity that there is now, where they depend on it."""
        configuration = members.get("TargetTrackingScalingPolicyConfiguration", {})
        if SCALABLES[members["ScalableDimension"]].alarms_follow and "PredefinedMetricSpecification" in configuration:
            account, region = scope.split("/")
            await self._put_alarms(Call(account, region), members)

    async def _execute(self, scope: str, name: str, policy: Policy) -> None:
        """Do what the policy says about those of its alarms that are on."""
        members = policy.members
        key = name.rpartition("|")[0]
        record = self.targets.get(scope, key)
        if record is None:
            return
        for alarm in await self._alarms(scope, members):
            if alarm["StateValue"] != "ALARM":
                continue
            if _PROVISIONED not in alarm["AlarmName"]:
                value = await self._value(scope, alarm, members)
                if value is not None:
                    await self._answer(scope, key, record.value, members, alarm, value)
                self._look_again(scope, name)
            await self._follow(scope, members)

    async def _answer(
        self, scope: str, key: str, target: Target, members: dict[str, Any], alarm: dict[str, Any], value: float
    ) -> None:
        """Scale for one alarm, unless the last change is too fresh."""
        current, now = await self.current(scope, target.members), self.clock.now()
        configuration = members[f"{members['PolicyType']}PolicyConfiguration"]
        # During the cooldown of a scale-out, what that has added counts as part of the next one.
        if members["PolicyType"] == "StepScaling":
            out = inwards = float(configuration.get("Cooldown", 0))
            base = target.base if now < target.scaled_out + out else current
            wanted = capacity.stepped(base, value, alarm["Threshold"], configuration)
            if base != current:
                wanted = (
                    max(wanted, current)
                    if wanted > base
                    else capacity.stepped(current, value, alarm["Threshold"], configuration)
                )
        else:
            out = float(configuration.get("ScaleOutCooldown", _COOLDOWN))
            inwards = float(configuration.get("ScaleInCooldown", _COOLDOWN))
            is_high = alarm["ComparisonOperator"] == "GreaterThanThreshold"
            base = target.base if is_high and now < target.scaled_out + out else current
            wanted = SCALABLES[members["ScalableDimension"]].wanted(base, value, configuration)
            wanted = max(wanted, current) if is_high else min(wanted, current)
        suspended = target.members["SuspendedState"]
        if wanted > current and suspended["DynamicScalingOutSuspended"]:
            return
        if wanted < current and (
            suspended["DynamicScalingInSuspended"] or now < max(target.scaled_in + inwards, target.scaled_out + out)
        ):
            return
        cause = f"monitor alarm {alarm['AlarmName']} in state ALARM triggered policy {members['PolicyName']}"
        await self.scale(scope, key, current, wanted, cause)

    async def _alarms(self, scope: str, members: dict[str, Any]) -> list[dict[str, Any]]:
        """The alarms whose action is this policy."""
        if members["PolicyType"] == "TargetTrackingScaling":
            names = [one["AlarmName"] for one in members["Alarms"]]
            found = await self.ask(scope, "cloudwatch", "DescribeAlarms", {"AlarmNames": names})
        else:
            # The user's own alarms; only those that are on matter.
            found = await self.ask(scope, "cloudwatch", "DescribeAlarms", {"StateValue": "ALARM"})
        return [one for one in found["MetricAlarms"] if members["PolicyARN"] in one["AlarmActions"]]

    async def _value(self, scope: str, alarm: dict[str, Any], members: dict[str, Any]) -> float | None:
        """The newest value of an alarm's metric, by the policy's own statistic where it has one."""
        now, steps = self.clock.now(), members.get("StepScalingPolicyConfiguration", {})
        queries = alarm.get("Metrics") or [
            {
                "Id": "m",
                "MetricStat": {
                    "Metric": {
                        "Namespace": alarm["Namespace"],
                        "MetricName": alarm["MetricName"],
                        "Dimensions": alarm.get("Dimensions", []),
                    },
                    "Period": alarm["Period"],
                    "Stat": steps.get("MetricAggregationType") or alarm.get("Statistic") or alarm["ExtendedStatistic"],
                },
            }
        ]
        period = alarm.get("Period") or 60
        found = await self.ask(
            scope,
            "cloudwatch",
            "GetMetricData",
            {
                "MetricDataQueries": queries,
                "StartTime": now - period * (alarm["EvaluationPeriods"] + 2),
                "EndTime": now + period,
                "ScanBy": "TimestampDescending",
            },
        )
        for result in found["MetricDataResults"]:
            if result["Values"]:
                return float(result["Values"][0])
        data = json.loads(alarm.get("StateReasonData") or "{}").get("recentDatapoints") or []
        return float(data[-1]) if data else None

    def _look_again(self, scope: str, name: str) -> None:
        """An alarm that stays on goes on scaling: CloudWatch only tells of its change."""
        if (before := self._again.pop(f"{scope}|{name}", None)) is not None:
            before.cancel()

        def look() -> None:
            self._again.pop(f"{scope}|{name}", None)
            self.cloud.spawn(again(), "a scaling policy")

        async def again() -> None:
            record = self.policies.get(scope, name)
            if record is not None:
                try:
                    await self._execute(scope, name, record.value)
                except AwsError as error:
                    log.warning("scaling policy %s: %s", name, error)

        self._again[f"{scope}|{name}"] = self.clock.call_later(_AGAIN, look)


def _tracked(configuration: dict[str, Any]) -> list[Any]:
    """What a policy tracks."""
    return [configuration.get(name) for name in ("PredefinedMetricSpecification", "CustomizedMetricSpecification")]
