"""CloudFormation's types of CloudWatch."""

from __future__ import annotations

import json
from typing import ClassVar

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, tags_of


class _Alarm(ResourceType):
    """An alarm; putting it is idempotent. ``Ref`` is its name."""

    replaces = frozenset(("AlarmName",))
    operation: ClassVar[str]

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("AlarmName") or do.name(255)
        return await self._put(do, name, properties)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self._put(do, physical.id, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("cloudwatch", "DeleteAlarms", {"AlarmNames": [physical.id]})

    async def _put(self, do: Deployment, name: str, properties: Properties) -> Physical:
        await do.call("cloudwatch", self.operation, {**properties, "AlarmName": name, "Tags": []})
        arn = f"arn:aws:cloudwatch:{do.region}:{do.account}:alarm:{name}"
        await _tag(do, arn, properties)
        return Physical(name, {"Arn": arn})


class Alarm(_Alarm):
    """A metric alarm."""

    type = "AWS::CloudWatch::Alarm"
    required = frozenset(("ComparisonOperator", "EvaluationPeriods"))
    operation = "PutMetricAlarm"


class CompositeAlarm(_Alarm):
    """An alarm on other alarms."""

    type = "AWS::CloudWatch::CompositeAlarm"
    required = frozenset(("AlarmRule",))
    operation = "PutCompositeAlarm"


class Dashboard(ResourceType):
    """A dashboard. ``Ref`` is its name."""

    type = "AWS::CloudWatch::Dashboard"
    required = frozenset(("DashboardBody",))
    replaces = frozenset(("DashboardName",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        return await self._put(do, properties.get("DashboardName") or do.name(255), properties)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self._put(do, physical.id, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await do.call("cloudwatch", "DeleteDashboards", {"DashboardNames": [physical.id]})
        except AwsError as error:
            if error.code not in ("ResourceNotFound", "DashboardNotFoundError"):
                raise

    async def _put(self, do: Deployment, name: str, properties: Properties) -> Physical:
        body = properties["DashboardBody"]
        text = body if isinstance(body, str) else json.dumps(body)
        await do.call("cloudwatch", "PutDashboard", {**properties, "DashboardName": name, "DashboardBody": text})
        return Physical(name)


class InsightRule(ResourceType):
    """A rule of Contributor Insights. ``Ref`` is its ARN."""

    type = "AWS::CloudWatch::InsightRule"
    required = frozenset(("RuleBody", "RuleName", "RuleState"))
    replaces = frozenset(("RuleName",))
    refuses = frozenset(("ApplyOnTransformedLogs",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name, body = properties["RuleName"], properties["RuleBody"]
        text = body if isinstance(body, str) else json.dumps(body)
        input = {"RuleName": name, "RuleDefinition": text, "RuleState": properties["RuleState"]}
        await do.call("cloudwatch", "PutInsightRule", input)
        arn = f"arn:aws:cloudwatch:{do.region}:{do.account}:insight-rule/{name}"
        await _tag(do, arn, properties)
        return Physical(arn, {"Arn": arn, "Id": arn, "RuleName": name})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        name = physical.id.partition("insight-rule/")[2]
        await do.call("cloudwatch", "DeleteInsightRules", {"RuleNames": [name]})


class AnomalyDetector(ResourceType):
    """An anomaly detector. ``Ref`` is its identifier."""

    type = "AWS::CloudWatch::AnomalyDetector"
    replaces = frozenset(
        (
            *("Dimensions", "MetricCharacteristics", "MetricMathAnomalyDetector", "MetricName", "Namespace"),
            *("SingleMetricAnomalyDetector", "Stat"),
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        input = {**properties}
        if (configuration := input.get("Configuration")) and "MetricTimeZone" in configuration:
            # CloudFormation spells it in another way.
            input["Configuration"] = {**configuration, "MetricTimezone": configuration["MetricTimeZone"]}
            del input["Configuration"]["MetricTimeZone"]
        id = (await do.call("cloudwatch", "PutAnomalyDetector", input))["AnomalyDetectorId"]
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await do.call("cloudwatch", "DeleteAnomalyDetector", {"AnomalyDetectorId": physical.id})
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise


async def _tag(do: Deployment, arn: str, properties: Properties) -> None:
    """Give a resource its tags: those given in putting what is there already would be passed over."""
    wanted = tags_of(do, properties)
    found = (await do.call("cloudwatch", "ListTagsForResource", {"ResourceARN": arn}))["Tags"]
    if gone := [tag["Key"] for tag in found if tag["Key"] not in wanted]:
        await do.call("cloudwatch", "UntagResource", {"ResourceARN": arn, "TagKeys": gone})
    if wanted:
        tags = [{"Key": key, "Value": value} for key, value in wanted.items()]
        await do.call("cloudwatch", "TagResource", {"ResourceARN": arn, "Tags": tags})


TYPES = [Alarm, AnomalyDetector, CompositeAlarm, Dashboard, InsightRule]
