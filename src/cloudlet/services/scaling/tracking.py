"""Target tracking: the alarms by which both scaling services hold a metric at its target."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from cloudlet.services.api import Call

_SCALE_IN_AT = 0.9  # of the target, so that it does not swing
_UNIQUE = 37  # characters at the end of an alarm's name

Ask = Callable[[str, str, str, dict[str, Any]], Awaitable[Any]]
Alarms = dict[str, dict[str, Any]]  # what tells an alarm's name from the others' -> its members


def alarms(configuration: dict[str, Any], metric: dict[str, Any]) -> Alarms:
    """The alarms above and below a target; ``metric`` are the members that say what they look at."""
    target = configuration["TargetValue"]
    found: Alarms = {
        "AlarmHigh": {"ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 3, "Threshold": target}
    }
    if not configuration.get("DisableScaleIn"):
        low = round(target * _SCALE_IN_AT, 6)
        found["AlarmLow"] = {"ComparisonOperator": "LessThanThreshold", "EvaluationPeriods": 15, "Threshold": low}
    return {kind: {**members, **metric} for kind, members in found.items()}


def customized(given: dict[str, Any]) -> dict[str, Any]:
    """What alarms on a CustomizedMetricSpecification look at."""
    if "Metrics" not in given:
        keys = ("MetricName", "Namespace", "Dimensions", "Statistic", "Unit", "Period")
        return {"Period": 60, "Dimensions": [], **{key: given[key] for key in keys if key in given}}
    queries = []
    for one in given["Metrics"]:
        query = {"ReturnData": True, **one}
        if "MetricStat" in one:
            query["MetricStat"] = {"Period": 60, **one["MetricStat"]}
        queries.append(query)
    return {"Metrics": queries}


def requests_of(label: str) -> dict[str, Any] | None:
    """What alarms on ALBRequestCountPerTarget look at; None where the resource label names no target group."""
    balancer, _, group = label.partition("/targetgroup/")
    if not group:
        return None
    return {
        "Namespace": "AWS/ApplicationELB",
        "MetricName": "RequestCountPerTarget",
        "Dimensions": [
            {"Name": "LoadBalancer", "Value": balancer},
            {"Name": "TargetGroup", "Value": f"targetgroup/{group}"},
        ],
        "Statistic": "Sum",
        "Period": 60,
    }


async def put_alarms(
    ask: Ask, call: Call, policy: str, resource: str, wanted: Alarms, known: list[dict[str, str]]
) -> list[dict[str, str]]:
    """Have a policy, an ARN, have these alarms instead of those that are known, and give them as policies show them.

    ``resource`` is what is scaled.
    """
    named = {one["AlarmName"][:-_UNIQUE].rpartition("-")[2]: one["AlarmName"] for one in known}
    if gone := [name for kind, name in named.items() if kind not in wanted]:
        await ask(call.scope, "cloudwatch", "DeleteAlarms", {"AlarmNames": gone})
    made = []
    for kind, members in wanted.items():
        name = named.get(kind) or f"TargetTracking-{resource}-{kind}-{uuid.uuid4()}"
        alarm = {
            "AlarmName": name,
            "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy}.",
            "ActionsEnabled": True,
            "AlarmActions": [policy],
            **members,
        }
        await ask(call.scope, "cloudwatch", "PutMetricAlarm", alarm)
        made.append({"AlarmName": name, "AlarmARN": f"arn:aws:cloudwatch:{call.region}:{call.account}:alarm:{name}"})
    return made


async def drop_alarms(ask: Ask, scope: str, policy: dict[str, Any]) -> None:
    """Delete the alarms that were made for a policy; those of other policies than target tracking are the user's."""
    names = [one["AlarmName"] for one in policy["Alarms"]]
    if names and policy["PolicyType"] == "TargetTrackingScaling":
        await ask(scope, "cloudwatch", "DeleteAlarms", {"AlarmNames": names})


async def with_alarms(ask: Ask, scope: str, policy: dict[str, Any]) -> dict[str, Any]:
    """A policy as it is shown, with the user's own alarms whose action it is."""
    if policy["PolicyType"] == "TargetTrackingScaling":
        return policy
    found = await ask(scope, "cloudwatch", "DescribeAlarms", {"ActionPrefix": policy["PolicyARN"]})
    alarms = [{"AlarmName": one["AlarmName"], "AlarmARN": one["AlarmArn"]} for one in found["MetricAlarms"]]
    return {**policy, "Alarms": alarms}
