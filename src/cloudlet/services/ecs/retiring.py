"""Instances of capacity providers that their groups end: protected while they have tasks, drained before they go.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/managed-instance-draining.html
"""

from __future__ import annotations

import logging
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs.capacity import Capacity
from cloudlet.services.ecs.records import ContainerInstance, Task

log = logging.getLogger("cloudlet.ecs")

HOOK = "ecs-managed-draining-termination-hook"
_LONGEST = 7200  # seconds that a group waits for tasks to leave an instance


class Retiring(Capacity):
    """Managed draining, and managed termination protection."""

    async def start(self) -> None:
        self._hears_actions = False
        await super().start()
        for record in self.instances.all():
            if record.value.provider:
                self.cloud.spawn(self._drain_again(record.scope, record.value), "instances that were being drained")

    async def RegisterContainerInstance(self, call: Call, input: Input) -> Output:
        output = await super().RegisterContainerInstance(call, input)
        made = output["containerInstance"]
        if provider := made.get("capacityProviderName"):
            await self._settle(call.scope, provider, made["ec2InstanceId"])
        return output

    async def provider_changed(self, scope: str, name: str) -> None:
        for record in self.instances.list(scope):
            if record.value.provider == name:
                await self._settle(scope, name, record.value.ec2_id)

    async def _settle(self, scope: str, provider: str, ec2_id: str) -> None:
        """Have the group of a provider do with an instance as the provider says."""
        settings = self.providers.get(scope, provider)
        if settings is None:
            return
        own = settings.value.members["autoScalingGroupProvider"]
        group = {"AutoScalingGroupName": own["autoScalingGroupArn"].rpartition("/")[2]}
        hook = {**group, "LifecycleHookName": HOOK}
        try:
            if own["managedDraining"] == "ENABLED":
                await self._hear_actions()
                terms = {"HeartbeatTimeout": _LONGEST, "DefaultResult": "CONTINUE"}
                transition = {"LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING"}
                await self._ask(scope, "autoscaling", "PutLifecycleHook", {**hook, **terms, **transition})
            elif HOOK in [one["LifecycleHookName"] for one in await self._hooks_of_group(scope, group)]:
                await self._ask(scope, "autoscaling", "DeleteLifecycleHook", hook)
            if own["managedTerminationProtection"] == "ENABLED":
                protection = {**group, "InstanceIds": [ec2_id], "ProtectedFromScaleIn": True}
                await self._ask(scope, "autoscaling", "SetInstanceProtection", protection)
        except AwsError as error:
            log.warning("the group of the capacity provider %s: %s", provider, error)

    async def _hooks_of_group(self, scope: str, group: dict[str, Any]) -> list[dict[str, Any]]:
        found = await self._ask(scope, "autoscaling", "DescribeLifecycleHooks", group)
        return list(found["LifecycleHooks"])

    async def _hear_actions(self) -> None:
        if not self._hears_actions:
            self._hears_actions = True
            autoscaling: Any = await self.cloud.service("autoscaling")
            autoscaling.watch_actions(self._action)

    def _action(self, scope: str, detail: dict[str, Any]) -> None:
        if detail["LifecycleHookName"] == HOOK:
            id, group = detail["EC2InstanceId"], detail["AutoScalingGroupName"]
            self.cloud.spawn(self._drain(scope, group, id), f"{id} is drained")

    async def _drain_again(self, scope: str, instance: ContainerInstance) -> None:
        """Take up the draining of an instance that its group wanted to end while nobody looked."""
        await self._hear_actions()
        ask = {"InstanceIds": [instance.ec2_id]}
        shown = (await self._ask(scope, "autoscaling", "DescribeAutoScalingInstances", ask))["AutoScalingInstances"]
        for one in shown:
            if one["LifecycleState"] == "Terminating:Wait":
                await self._drain(scope, one["AutoScalingGroupName"], instance.ec2_id)

    async def _drain(self, scope: str, group: str, ec2_id: str) -> None:
        """Have tasks leave an instance; the group ends it when the last one has."""
        found = [one.value for one in self.instances.list(scope) if one.value.ec2_id == ec2_id]
        for instance in found:
            self.retiring[instance.id] = group
            ask = {"cluster": instance.cluster, "containerInstances": [instance.id], "status": "DRAINING"}
            await self._ask(scope, "ecs", "UpdateContainerInstancesState", ask)
            await self._let_go_when_empty(scope, instance)
        if not found:
            await self._let_go(scope, group, ec2_id)

    def task_changed(self, scope: str, task: Task) -> None:
        super().task_changed(scope, task)
        if task.status == "STOPPED" and task.instance in self.retiring:
            instance = self._find(scope, task.cluster, task.instance)
            if instance is not None:
                self.cloud.spawn(self._let_go_when_empty(scope, instance), f"{instance.ec2_id} is empty")

    async def _let_go_when_empty(self, scope: str, instance: ContainerInstance) -> None:
        group = self.retiring.get(instance.id)
        if group is not None and not self._tasks_on(scope, instance):
            del self.retiring[instance.id]
            await self._let_go(scope, group, instance.ec2_id)

    async def _let_go(self, scope: str, group: str, ec2_id: str) -> None:
        ask = {"AutoScalingGroupName": group, "LifecycleHookName": HOOK, "InstanceId": ec2_id}
        try:
            await self._ask(
                scope, "autoscaling", "CompleteLifecycleAction", {**ask, "LifecycleActionResult": "CONTINUE"}
            )
        except AwsError as error:
            log.debug("%s has gone already: %s", ec2_id, error)
