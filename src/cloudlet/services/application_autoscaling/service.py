"""Application Auto Scaling, of services, functions and tables. Targets, policies and schedules have a file each."""

from __future__ import annotations

from cloudlet.services.api import Tagged
from cloudlet.services.application_autoscaling.scheduled import Scheduled


class Service(Scheduled):
    """What is measured comes from CloudWatch's alarms; what is scaled is asked of its own service."""

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {
                "type": "AWS::ApplicationAutoScaling::ScalableTarget",
                "name": record.value.members["ResourceId"],
                "arn": record.value.members["ScalableTargetARN"],
            }
            for record in self.targets.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        targets = [record.value for record in self.targets.list(f"{account}/{region}")]
        return [(one.members["ScalableTargetARN"], one.tags) for one in targets]
