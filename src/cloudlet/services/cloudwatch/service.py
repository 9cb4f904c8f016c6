"""CloudWatch: metrics are in ``metrics.py`` and ``queries.py``, alarms in ``alarms.py``, the rest by its name."""

from __future__ import annotations

from cloudlet.services.cloudwatch.alarms import Alarms
from cloudlet.services.cloudwatch.contributors import Contributors
from cloudlet.services.cloudwatch.dashboards import Dashboards
from cloudlet.services.cloudwatch.detectors import Detectors
from cloudlet.services.cloudwatch.tagging import Tagging


class Service(Alarms, Contributors, Dashboards, Detectors, Tagging):
    """Series of numbers, alarms on them, and who contributes to logs; services report through ``cloud.metrics``."""

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {
                "type": f"AWS::CloudWatch::{'CompositeAlarm' if record.value.composite else 'Alarm'}",
                "name": record.name,
                "arn": record.value.members["AlarmArn"],
            }
            for record in self.alarms.list(f"{account}/{region}")
        ]
