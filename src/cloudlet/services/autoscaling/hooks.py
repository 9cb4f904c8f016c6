"""Lifecycle hooks, and the topics that hear of a group's instances."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.services.api import Call, Input, Output
from cloudlet.services.autoscaling.base import invalid, name_in, page
from cloudlet.services.autoscaling.controller import LAUNCHING, TERMINATING
from cloudlet.services.autoscaling.groups import completed_hook
from cloudlet.services.autoscaling.members import Members
from cloudlet.services.autoscaling.records import Hook, Member, Notification, Wait
from cloudlet.store import Tx

_TYPES = (
    *("autoscaling:EC2_INSTANCE_LAUNCH", "autoscaling:EC2_INSTANCE_LAUNCH_ERROR", "autoscaling:EC2_INSTANCE_TERMINATE"),
    *("autoscaling:EC2_INSTANCE_TERMINATE_ERROR", "autoscaling:TEST_NOTIFICATION"),
)


class Hooks(Members):
    """Operations on lifecycle hooks and notifications."""

    async def PutLifecycleHook(self, call: Call, input: Input) -> Output:
        name = name_in(call, input["AutoScalingGroupName"])
        key = f"{name}/{input['LifecycleHookName']}"

        def work(tx: Tx) -> dict[str, Any]:
            self.group(call.scope, name, tx)
            known = self.hooks.get(call.scope, key, tx)
            old: dict[str, Any] = known.value.members if known is not None else {}
            members = completed_hook({**old, **input, "AutoScalingGroupName": name})
            self.hooks.put(tx, call.scope, key, Hook(members))
            return members

        hook = await self.db.write(work)
        if input.get("NotificationTargetARN"):
            await self.test_target(call.scope, name, hook)
        return {}

    async def DescribeLifecycleHooks(self, call: Call, input: Input) -> Output:
        name = name_in(call, input["AutoScalingGroupName"])
        self.group(call.scope, name)
        wanted = input.get("LifecycleHookNames")
        found = [
            record.value.members
            for record in self.hooks.list(call.scope, f"{name}/")
            if not wanted or record.value.members["LifecycleHookName"] in wanted
        ]
        return {"LifecycleHooks": found}

    async def DescribeLifecycleHookTypes(self, call: Call, input: Input) -> Output:
        return {"LifecycleHookTypes": [LAUNCHING, TERMINATING]}

    async def DeleteLifecycleHook(self, call: Call, input: Input) -> Output:
        name = name_in(call, input["AutoScalingGroupName"])
        key = f"{name}/{input['LifecycleHookName']}"
        if not await self.db.write(lambda tx: self.hooks.delete(tx, call.scope, key)):
            raise invalid(f"No Lifecycle Hook found with name {input['LifecycleHookName']}")
        for member in self.group(call.scope, name).instances:
            for wait in member.waits:
                if wait.hook == input["LifecycleHookName"]:
                    await self.proceed(call.scope, name, member.id, wait.token, "CONTINUE")
        return {}

    async def CompleteLifecycleAction(self, call: Call, input: Input) -> Output:
        name, member, wait = self._waiting(call, input)
        result = input["LifecycleActionResult"]
        if result not in ("CONTINUE", "ABANDON"):
            raise invalid("Lifecycle action result must be one of: [CONTINUE, ABANDON]")
        await self.proceed(call.scope, name, member.id, wait.token, result)
        return {}

    async def RecordLifecycleActionHeartbeat(self, call: Call, input: Input) -> Output:
        name, member, wait = self._waiting(call, input)
        record = self.hooks.get(call.scope, f"{name}/{wait.hook}")
        seconds = record.value.members["HeartbeatTimeout"] if record is not None else 3600
        longer = msgspec.structs.replace(wait, due=min(wait.latest, self.clock.now() + seconds))
        waits = tuple(longer if one.token == wait.token else one for one in member.waits)
        await self.change_member(call.scope, name, member.id, was=member.state, waits=waits)
        self.look_after(call.scope, name)
        return {}

    def _waiting(self, call: Call, input: Input) -> tuple[str, Member, Wait]:
        """An open lifecycle action and its instance, by its token or by that. Raises ValidationError."""
        name = name_in(call, input["AutoScalingGroupName"])
        for member in self.group(call.scope, name).instances:
            for wait in member.waits:
                is_it = wait.token == input.get("LifecycleActionToken") or member.id == input.get("InstanceId")
                if is_it and wait.hook == input["LifecycleHookName"]:
                    return name, member, wait
        if "LifecycleActionToken" in input:
            raise invalid(f"No active Lifecycle Action found with token {input['LifecycleActionToken']}")
        raise invalid(f"No active Lifecycle Action found with instance ID {input.get('InstanceId')}")

    async def proceed(self, scope: str, name: str, id: str, token: str, result: str) -> None:
        """End a lifecycle action of an instance, which goes on after the last one, or ends if it is abandoned."""
        raise NotImplementedError

    async def test_target(self, scope: str, name: str, hook: dict[str, Any]) -> None:
        """Send a hook's target its first message."""
        raise NotImplementedError

    # Notifications

    async def PutNotificationConfiguration(self, call: Call, input: Input) -> Output:
        name, topic = name_in(call, input["AutoScalingGroupName"]), input["TopicARN"]
        self.group(call.scope, name)
        types = tuple(input["NotificationTypes"])
        if unknown := [one for one in types if one not in _TYPES]:
            raise invalid(f'"{unknown[0]}" is not a valid Notification Type.')
        await self.db.write(
            lambda tx: self.notifications.put(tx, call.scope, f"{name}/{topic}", Notification(topic, types))
        )
        await self.notify(call.scope, name, "autoscaling:TEST_NOTIFICATION", {})
        return {}

    async def DescribeNotificationConfigurations(self, call: Call, input: Input) -> Output:
        names = {name_in(call, one) for one in input.get("AutoScalingGroupNames") or ()}
        found = [
            {
                "AutoScalingGroupName": record.name.partition("/")[0],
                "TopicARN": record.value.topic,
                "NotificationType": one,
            }
            for record in self.notifications.list(call.scope)
            for one in record.value.types
            if not names or record.name.partition("/")[0] in names
        ]
        return page("NotificationConfigurations", found, input)

    async def DeleteNotificationConfiguration(self, call: Call, input: Input) -> Output:
        key = f"{name_in(call, input['AutoScalingGroupName'])}/{input['TopicARN']}"
        if not await self.db.write(lambda tx: self.notifications.delete(tx, call.scope, key)):
            raise invalid(f"Notification configuration not found for topic {input['TopicARN']}")
        return {}

    async def DescribeAutoScalingNotificationTypes(self, call: Call, input: Input) -> Output:
        return {"AutoScalingNotificationTypes": list(_TYPES)}

    async def notify(self, scope: str, name: str, kind: str, more: dict[str, Any]) -> None:
        """Tell the topics that want to hear of this."""
        raise NotImplementedError
