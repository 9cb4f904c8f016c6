"""EC2 Auto Scaling. What there should be is in ``groups.py``; what makes it so in ``keeping.py``."""

from __future__ import annotations

from cloudlet.services.autoscaling.base import group_arn
from cloudlet.services.autoscaling.measuring import Measuring


class Service(Measuring):
    """Groups of instances that are kept at their size."""

    refused = {
        "CancelInstanceRefresh": "WaitForTransitioningInstances!=True",
        "CreateAutoScalingGroup": "Operator",
        "StartInstanceRefresh": "Strategy!=Rolling",
    }

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        scope = f"{account}/{region}"
        return [
            {"type": "AWS::AutoScaling::AutoScalingGroup", "name": one.name, "arn": group_arn(scope, one.name)}
            for one in self.groups.list(scope)
        ]
