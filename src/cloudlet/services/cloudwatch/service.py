"""CloudWatch: metrics are in ``metrics.py`` and ``queries.py``, alarms in ``alarms.py``, the rest by its name."""

from __future__ import annotations

from cloudlet.services.api import GLOBAL_REGION, Tagged
from cloudlet.services.cloudwatch.alarms import Alarms
from cloudlet.services.cloudwatch.contributors import Contributors
from cloudlet.services.cloudwatch.dashboards import Dashboards
from cloudlet.services.cloudwatch.detectors import Detectors
from cloudlet.services.cloudwatch.tagging import Tagging


class Service(Alarms, Contributors, Dashboards, Detectors, Tagging):
    """Series of numbers, alarms on them, and who contributes to logs; services report through ``cloud.metrics``."""

    refused = {
        "PutCompositeAlarm": "ActionsSuppressorWaitPeriod ActionsSuppressorExtensionPeriod",
        "PutMetricData": "StrictEntityValidation",
    }

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {
                "type": f"AWS::CloudWatch::{'CompositeAlarm' if record.value.composite else 'Alarm'}",
                "name": record.name,
                "arn": record.value.members["AlarmArn"],
            }
            for record in self.alarms.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        scope, prefix = f"{account}/{region}", f"arn:aws:cloudwatch:{region}:{account}"
        found = [(f"{prefix}:alarm:{one.name}", one.value.tags) for one in self.alarms.list(scope)]
        found += [(f"{prefix}:insight-rule/{one.name}", one.value.tags) for one in self.insight_rules.list(scope)]
        if region == GLOBAL_REGION:
            dashboards = self.dashboards.list(f"{account}/global")
            found += [(f"arn:aws:cloudwatch::{account}:dashboard/{one.name}", one.value.tags) for one in dashboards]
        return found
