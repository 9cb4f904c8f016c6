"""Instances replaced in batches: instance refreshes, and rolling updates of stacks."""

from __future__ import annotations

import asyncio
import math
import uuid
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.autoscaling.base import name_in, page
from cloudlet.services.autoscaling.controller import is_going
from cloudlet.services.autoscaling.groups import moment
from cloudlet.services.autoscaling.records import COUNTED, Group, Member
from cloudlet.services.autoscaling.scheduled import Scheduled

_OPEN = ("Pending", "InProgress", "Cancelling")
_PREFERENCES = (
    "MinHealthyPercentage",
    "InstanceWarmup",
    "SkipMatching",
)
_REMEMBERED = 20


class Refreshing(Scheduled):
    """Operations on instance refreshes."""

    async def start(self) -> None:
        await super().start()
        for record in self.groups.all():
            if record.value.refreshes and record.value.refreshes[0]["Status"] in _OPEN:
                self.cloud.spawn(self._refresh(record.scope, record.name), f"instance refresh of {record.name}")

    async def StartInstanceRefresh(self, call: Call, input: Input) -> Output:
        for name in ("DesiredConfiguration",):
            if input.get(name):
                raise not_implemented(f"StartInstanceRefresh with {name}")
        preferences = input.get("Preferences") or {}
        for key in preferences:
            if key not in _PREFERENCES:
                raise not_implemented(f"StartInstanceRefresh with Preferences.{key}")
        name = name_in(call, input["AutoScalingGroupName"])
        group = self.group(call.scope, name)
        if group.refreshes and group.refreshes[0]["Status"] in _OPEN:
            raise AwsError(
                "InstanceRefreshInProgress", "An Instance Refresh is already in progress and blocks the execution."
            )
        made = {
            "InstanceRefreshId": str(uuid.uuid4()),
            "AutoScalingGroupName": name,
            "Status": "Pending",
            "StartTime": self.clock.now(),
            "PercentageComplete": 0,
            "InstancesToUpdate": len(group.instances),
            "Preferences": {"MinHealthyPercentage": 90, "InstanceWarmup": 0, "SkipMatching": False, **preferences},
        }
        await self.change(
            call.scope, name, lambda one: msgspec.structs.replace(one, refreshes=(made, *one.refreshes)[:_REMEMBERED])
        )
        self.cloud.spawn(self._refresh(call.scope, name), f"instance refresh of {name}")
        return {"InstanceRefreshId": made["InstanceRefreshId"]}

    async def CancelInstanceRefresh(self, call: Call, input: Input) -> Output:
        name = name_in(call, input["AutoScalingGroupName"])
        group = self.group(call.scope, name)
        if not group.refreshes or group.refreshes[0]["Status"] not in _OPEN:
            raise AwsError(
                "ActiveInstanceRefreshNotFound",
                f"No in progress or pending Instance Refresh found for Auto Scaling group {name}",
            )
        await self._note(call.scope, name, Status="Cancelling")
        return {"InstanceRefreshId": group.refreshes[0]["InstanceRefreshId"]}

    async def DescribeInstanceRefreshes(self, call: Call, input: Input) -> Output:
        group = self.group(call.scope, name_in(call, input["AutoScalingGroupName"]))
        wanted = input.get("InstanceRefreshIds")
        found = [one for one in group.refreshes if not wanted or one["InstanceRefreshId"] in wanted]
        return page("InstanceRefreshes", found, input)

    async def outdated(self, scope: str, name: str) -> list[Member]:
        """The instances that were launched from something else than what the group is launched from now."""
        group = self.group(scope, name)
        source = await self._source(scope, group)
        return [one for one in group.instances if one.source != source and not is_going(one)]

    async def replace(self, scope: str, name: str, ids: list[str], why: str) -> None:
        """Replace some instances, and return when the group is whole again."""
        for id in ids:
            held = self.holder(scope, id)
            if held is not None and not is_going(held[2]):
                cause = f"At {moment(self.clock.now())} an instance was taken out of service in response to {why}."
                await self.end_member(scope, name, held[2], cause)
        while (record := self.groups.get(scope, name)) is not None:
            news = self.news_of(scope, name)
            group = record.value
            there = {one.id for one in group.instances}
            counted = [one for one in group.instances if one.state in COUNTED]
            has = sum(one.weight for one in counted)
            whole = has >= group.desired and all(one.state == "InService" for one in counted)
            if group.status or (whole and not there & set(ids)):
                return
            await news

    async def _refresh(self, scope: str, name: str) -> None:
        preferences = self.group(scope, name).refreshes[0]["Preferences"]
        members = list(self.group(scope, name).instances)
        total = len(members)
        if preferences["SkipMatching"]:
            members = await self.outdated(scope, name)
            total = len(members)
        # Those that the refresh has launched itself, before a kill, are new already.
        began = self.group(scope, name).refreshes[0]["StartTime"]
        left = [one.id for one in members if not is_going(one) and one.launched <= began]
        await self._note(scope, name, Status="InProgress", InstancesToUpdate=len(left))
        desired = self.group(scope, name).desired
        batch = max(1, desired - math.ceil(desired * preferences["MinHealthyPercentage"] / 100))
        while left:
            if self.groups.get(scope, name) is None:
                return
            if self.group(scope, name).refreshes[0]["Status"] == "Cancelling":
                await self._note(scope, name, Status="Cancelled", EndTime=self.clock.now())
                return
            now, left = left[:batch], left[batch:]
            await self.replace(scope, name, now, "an instance refresh")
            await self.clock.sleep(preferences["InstanceWarmup"] or 0)
            done = round(100 * (total - len(left)) / max(1, total))
            await self._note(scope, name, PercentageComplete=done, InstancesToUpdate=len(left))
        await self._note(
            scope, name, Status="Successful", PercentageComplete=100, InstancesToUpdate=0, EndTime=self.clock.now()
        )

    async def _note(self, scope: str, name: str, **changes: Any) -> None:
        def change(group: Group) -> Group:
            first, *rest = group.refreshes
            return msgspec.structs.replace(group, refreshes=({**first, **changes}, *rest))

        await self.change(scope, name, change)

    def news_of(self, scope: str, name: str) -> asyncio.Future[None]:
        """Done at the next change of a group or of its instances."""
        news = asyncio.get_running_loop().create_future()
        self._news.setdefault((scope, name), []).append(news)
        return news
