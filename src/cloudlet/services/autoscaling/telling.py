"""What topics, queues and EventBridge hear of groups.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-sns-notifications.html
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.autoscaling.base import group_arn
from cloudlet.services.autoscaling.groups import moment
from cloudlet.services.autoscaling.hooks import Hooks
from cloudlet.services.autoscaling.records import Member
from cloudlet.services.telling import tell

log = logging.getLogger("cloudlet.autoscaling")

_TEST = "autoscaling:TEST_NOTIFICATION"
_WORDS = {
    "autoscaling:EC2_INSTANCE_LAUNCH": "launch",
    "autoscaling:EC2_INSTANCE_LAUNCH_ERROR": "launch error",
    "autoscaling:EC2_INSTANCE_TERMINATE": "termination",
    "autoscaling:EC2_INSTANCE_TERMINATE_ERROR": "termination error",
    _TEST: "test notification",
}


class Telling(Hooks):
    """Messages and events."""

    async def start(self) -> None:
        self._watchers: list[Callable[[str, dict[str, Any]], object]] = []
        await super().start()

    def watch_actions(self, told: Callable[[str, dict[str, Any]], object]) -> None:
        """Have ``told`` called with scope and detail of each lifecycle action that an instance waits for."""
        self._watchers.append(told)

    async def notify(self, scope: str, name: str, kind: str, more: dict[str, Any]) -> None:
        for record in self.notifications.list(scope, f"{name}/"):
            if kind not in record.value.types and kind != _TEST:
                continue
            message = {
                **self._about(scope),
                "Event": kind,
                "AutoScalingGroupName": name,
                "AutoScalingGroupARN": group_arn(scope, name),
                **more,
            }
            subject = f'Auto Scaling: {_WORDS[kind]} for group "{name}"'
            await self._send(scope, record.value.topic, subject, message)

    async def emit(self, scope: str, name: str, kind: str, detail: dict[str, Any]) -> None:
        """Tell EventBridge of a group."""
        await tell(self.cloud, scope, "autoscaling", kind, detail, group_arn(scope, name))

    async def tell_of_action(self, scope: str, name: str, member: Member, hook: dict[str, Any], token: str) -> None:
        """Tell EventBridge and a hook's target that an instance waits for them."""
        detail = {
            "LifecycleActionToken": token,
            "AutoScalingGroupName": name,
            "LifecycleHookName": hook["LifecycleHookName"],
            "EC2InstanceId": member.id,
            "LifecycleTransition": hook["LifecycleTransition"],
            **({"NotificationMetadata": hook["NotificationMetadata"]} if "NotificationMetadata" in hook else {}),
        }
        transition = hook["LifecycleTransition"].rpartition("_")[2]
        word = "launch" if transition == "LAUNCHING" else "terminate"
        for told in self._watchers:
            told(scope, detail)
        await self.emit(scope, name, f"EC2 Instance-{word} Lifecycle Action", detail)
        if target := hook.get("NotificationTargetARN"):
            subject = f"Auto Scaling:  Lifecycle action '{transition}' for instance {member.id} in progress."
            await self._send(scope, target, subject, {**self._about(scope), **detail})

    async def test_target(self, scope: str, name: str, hook: dict[str, Any]) -> None:
        subject = f'Auto Scaling: test notification for group "{name}"'
        about = {"AutoScalingGroupName": name, "AutoScalingGroupARN": group_arn(scope, name), "Event": _TEST}
        await self._send(scope, hook["NotificationTargetARN"], subject, {**self._about(scope), **about})

    async def _send(self, scope: str, target: str, subject: str, message: dict[str, Any]) -> None:
        text, parts = json.dumps(message), target.split(":")
        try:
            if parts[2] == "sns":
                await self.ask(scope, "sns", "Publish", {"TopicArn": target, "Subject": subject[:100], "Message": text})
            else:
                ask = {"QueueName": parts[5], "QueueOwnerAWSAccountId": parts[4]}
                url = (await self.ask(scope, "sqs", "GetQueueUrl", ask))["QueueUrl"]
                await self.ask(scope, "sqs", "SendMessage", {"QueueUrl": url, "MessageBody": text})
        except AwsError as error:
            log.warning("%s does not hear of it: %s", target, error)

    def _about(self, scope: str) -> dict[str, Any]:
        """What every message begins with."""
        account, now = scope.split("/")[0], moment(self.clock.now())
        return {"AccountId": account, "RequestId": str(uuid.uuid4()), "Service": "AWS Auto Scaling", "Time": now}

    def activity_of(self, scope: str, member: Member) -> dict[str, Any]:
        """What brings an instance up or down, as messages and events have it."""
        return self.activity_named(scope, member.activity)

    def activity_named(self, scope: str, key: str) -> dict[str, Any]:
        """An activity as messages and events have it."""
        record = self.activities.get(scope, key)
        if record is None:
            return {}
        members = record.value.members
        times: dict[str, Any] = {key: moment(members[key]) for key in ("StartTime", "EndTime") if key in members}
        names = ("ActivityId", "AutoScalingGroupName", "Description", "Cause", "Progress", "StatusCode")
        shown = {key: members[key] for key in names if key in members}
        return {**shown, **times, "Details": json.loads(members["Details"])}
