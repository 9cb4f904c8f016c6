"""CloudWatch. Metrics are in ``metrics.py`` and ``queries.py``, alarms in ``alarms.py`` and ``watching.py``."""

from __future__ import annotations

from cloudlet.services.cloudwatch.alarms import Alarms
from cloudlet.services.cloudwatch.dashboards import Dashboards


class Service(Alarms, Dashboards):
    """Series of numbers, alarms on them, and dashboards; other services report to it through ``cloud.metrics``."""

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {
                "type": f"AWS::CloudWatch::{'CompositeAlarm' if record.value.composite else 'Alarm'}",
                "name": record.name,
                "arn": record.value.members["AlarmArn"],
            }
            for record in self.alarms.list(f"{account}/{region}")
        ]
