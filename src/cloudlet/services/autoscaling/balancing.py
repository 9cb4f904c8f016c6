"""The target groups that a group's instances are registered with, by both of their names: traffic sources too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.autoscaling.base import invalid, name_in, page
from cloudlet.services.autoscaling.configurations import Configurations
from cloudlet.services.autoscaling.records import Group


class Balancing(Configurations):
    """Operations on a group's target groups."""

    async def AttachLoadBalancerTargetGroups(self, call: Call, input: Input) -> Output:
        arns = input["TargetGroupARNs"]
        await self.check_targets(call, arns)
        await self._set_targets(call, input, lambda known: [*known, *(one for one in arns if one not in known)])
        return {}

    async def DetachLoadBalancerTargetGroups(self, call: Call, input: Input) -> Output:
        gone = input["TargetGroupARNs"]
        await self._set_targets(call, input, lambda known: [one for one in known if one not in gone])
        return {}

    async def AttachTrafficSources(self, call: Call, input: Input) -> Output:
        arns = sources_of(input["TrafficSources"])
        await self.check_targets(call, arns)
        await self._set_targets(call, input, lambda known: [*known, *(one for one in arns if one not in known)])
        return {}

    async def DetachTrafficSources(self, call: Call, input: Input) -> Output:
        gone = sources_of(input["TrafficSources"])
        await self._set_targets(call, input, lambda known: [one for one in known if one not in gone])
        return {}

    async def DescribeLoadBalancerTargetGroups(self, call: Call, input: Input) -> Output:
        group = self.group(call.scope, name_in(call, input["AutoScalingGroupName"]))
        found = [
            {"LoadBalancerTargetGroupARN": arn, "State": _attached(group)} for arn in group.members["TargetGroupARNs"]
        ]
        return page("LoadBalancerTargetGroups", found, input)

    async def DescribeTrafficSources(self, call: Call, input: Input) -> Output:
        group = self.group(call.scope, name_in(call, input["AutoScalingGroupName"]))
        found = [
            {"TrafficSource": arn, "Identifier": arn, "Type": "elbv2", "State": _attached(group)}
            for arn in group.members["TargetGroupARNs"]
            if input.get("TrafficSourceType", "elbv2") == "elbv2"
        ]
        return page("TrafficSources", found, input)

    async def DescribeLoadBalancers(self, call: Call, input: Input) -> Output:
        self.group(call.scope, name_in(call, input["AutoScalingGroupName"]))
        return {"LoadBalancers": []}

    # Parts

    async def check_targets(self, call: Call, arns: list[str]) -> None:
        """Raises ValidationError for target groups that are not there."""
        for arn in arns:
            try:
                await self.ask(call.scope, "elbv2", "DescribeTargetGroups", {"TargetGroupArns": [arn]})
            except AwsError as error:
                raise invalid(f"Provided Target Groups may not be valid. {error.message}") from None

    async def _set_targets(self, call: Call, input: Input, change: Any) -> None:
        name = name_in(call, input["AutoScalingGroupName"])
        before = self.group(call.scope, name).members["TargetGroupARNs"]
        after = change(before)
        await self.change(
            call.scope,
            name,
            lambda one: msgspec.structs.replace(one, members={**one.members, "TargetGroupARNs": after}),
        )
        await self.move_targets(call.scope, name, before, after)

    async def move_targets(self, scope: str, name: str, before: list[str], after: list[str]) -> None:
        """Register a group's instances with new target groups, and take them out of old ones."""
        raise NotImplementedError


def sources_of(given: Sequence[dict[str, Any]]) -> list[str]:
    """The ARNs of target groups that are given as traffic sources. Raises NotImplemented."""
    for one in given:
        if one.get("Type", "elbv2") != "elbv2":
            raise not_implemented(f"a traffic source of type {one['Type']}")
    return [one["Identifier"] for one in given]


def _attached(group: Group) -> str:
    return "InService" if any(one.is_registered for one in group.instances) else "Added"
