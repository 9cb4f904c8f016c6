"""Target tracking: the two alarms by which both scaling services hold a metric at its target."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from cloudlet.services.api import Call

_SCALE_IN_AT = 0.9  # of the target, so that it does not swing
_ALARMS = {"AlarmHigh": ("GreaterThanThreshold", 3), "AlarmLow": ("LessThanThreshold", 15)}

Ask = Callable[[str, str, str, dict[str, Any]], Awaitable[Any]]


async def put_alarms(
    ask: Ask, call: Call, policy: str, resource: str, configuration: dict[str, Any], metric: dict[str, Any], known: Any
) -> list[dict[str, str]]:
    """Have the alarms of a policy, an ARN, be what its configuration says, and give them as policies show them.

    ``resource`` is what is scaled; ``metric`` are the members of the alarms that say what they look at; ``known`` are
    those that the policy has.
    """
    named = {one["AlarmName"].rpartition("-Alarm")[2].partition("-")[0]: one["AlarmName"] for one in known}
    made = []
    for kind, (comparison, periods) in _ALARMS.items():
        old = named.get(kind.removeprefix("Alarm"))
        if kind == "AlarmLow" and configuration.get("DisableScaleIn"):
            if old is not None:
                await ask(call.scope, "cloudwatch", "DeleteAlarms", {"AlarmNames": [old]})
            continue
        name, target = old or f"TargetTracking-{resource}-{kind}-{uuid.uuid4()}", configuration["TargetValue"]
        alarm = {
            "AlarmName": name,
            "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy}.",
            "ActionsEnabled": True,
            "AlarmActions": [policy],
            "EvaluationPeriods": periods,
            "Threshold": target if kind == "AlarmHigh" else round(target * _SCALE_IN_AT, 6),
            "ComparisonOperator": comparison,
            **metric,
        }
        await ask(call.scope, "cloudwatch", "PutMetricAlarm", alarm)
        arn = f"arn:aws:cloudwatch:{call.region}:{call.account}:alarm:{name}"
        made.append({"AlarmName": name, "AlarmARN": arn})
    return made
