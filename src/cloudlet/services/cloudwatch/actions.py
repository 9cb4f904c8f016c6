"""What alarms do when their state changes: actions through an outbox, in the transaction of the change."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.control.outbox import Delivery, Outbox, Undeliverable
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call
from cloudlet.services.cloudwatch import records
from cloudlet.services.cloudwatch.base import Base, validation
from cloudlet.services.cloudwatch.evaluation import iso
from cloudlet.services.cloudwatch.records import Alarm
from cloudlet.store import Tx

ACTIONS = {"OK": "OKActions", "ALARM": "AlarmActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
_TRIES = 8
_LONGEST_SUBJECT = 100
_SELF = "cloudwatch.amazonaws.com"
_LAMBDA_SELF = "lambda.alarms.cloudwatch.amazonaws.com"
_SERVICES = ("sns", "lambda", "autoscaling", "automate")
# arn:aws:automate:<region>:ec2:<action>, on the instance that the alarm's metric is of
_OF_INSTANCES = {"stop": "StopInstances", "terminate": "TerminateInstances", "reboot": "RebootInstances"}
_STATISTICS = {
    "SampleCount": "SAMPLE_COUNT",
    "Average": "AVERAGE",
    "Sum": "SUM",
    "Minimum": "MINIMUM",
    "Maximum": "MAXIMUM",
}
_REGIONS = {
    "us-east-1": "US East (N. Virginia)",
    "us-east-2": "US East (Ohio)",
    "us-west-1": "US West (N. California)",
    "us-west-2": "US West (Oregon)",
    "ca-central-1": "Canada (Central)",
    "eu-central-1": "EU (Frankfurt)",
    "eu-north-1": "EU (Stockholm)",
    "eu-west-1": "EU (Ireland)",
    "eu-west-2": "EU (London)",
    "eu-west-3": "EU (Paris)",
    "ap-northeast-1": "Asia Pacific (Tokyo)",
    "ap-south-1": "Asia Pacific (Mumbai)",
    "ap-southeast-1": "Asia Pacific (Singapore)",
    "ap-southeast-2": "Asia Pacific (Sydney)",
    "sa-east-1": "South America (Sao Paulo)",
}


class Actions(Base):
    """The actions of all alarms."""

    async def start(self) -> None:
        await super().start()
        self.outbox = Outbox(self.db, self.clock, self._act, retries=_retries)
        await self.outbox.start()

    async def stop(self) -> None:
        await self.outbox.stop()
        await super().stop()

    async def check_actions(self, call: Call, members: dict[str, Any], composite: bool) -> None:
        """Raises ValidationError for what is no action, NotImplemented for one that is not there."""
        for name in ACTIONS.values():
            for action in members.get(name, ()):
                parts = action.split(":")
                if len(parts) < 6 or parts[0] != "arn" or not parts[2]:
                    raise validation(f"Invalid arn syntax: {action}")
                if parts[2] not in _SERVICES:
                    raise not_implemented(f"{call.operation} with the action {action}")
                if composite and parts[2] in ("autoscaling", "automate"):
                    raise validation(f"Composite alarms do not support the action {action}")
                if parts[2] == "automate":
                    _check_instance(call, action, members)
                if parts[2] == "autoscaling":
                    await self.cloud.service(_scaling_service(action))

    def order(self, tx: Tx, scope: str, old: Alarm, new: Alarm, now: float) -> bool:
        """Put a changed state's actions, and the event that tells of it, into the outbox; whether there are any."""
        members = new.members
        account, region = scope.split("/")
        heard = "events" in self.cloud.store.names()
        if heard:
            event = {
                "Source": "aws.cloudwatch",
                "DetailType": "CloudWatch Alarm State Change",
                "Resources": [members["AlarmArn"]],
                "Time": now,
                "Detail": json.dumps(_lambda_event(account, region, old, new, now)["alarmData"]),
            }
            self.outbox.add(tx, f"arn:aws:events:{region}:{account}:event-bus/default", json.dumps(event).encode())
        actions = members[ACTIONS[members["StateValue"]]] if members["ActionsEnabled"] else []
        for action in actions:
            of_lambda = action.split(":")[2] == "lambda"
            message = (_lambda_event if of_lambda else _notification)(account, region, old, new, now)
            subject = f'{members["StateValue"]}: "{members["AlarmName"]}" in {_REGIONS.get(region, region)}'
            kind = "CompositeAlarm" if new.composite else "MetricAlarm"
            payload = {
                "scope": scope,
                "alarm": members["AlarmName"],
                "kind": kind,
                "state": members["StateValue"],
                "subject": subject[:_LONGEST_SUBJECT],
                "message": message,
                "instance": _instance_of(members),
            }
            self.outbox.add(tx, action, json.dumps(payload).encode())
        return heard or bool(actions)

    async def _act(self, delivery: Delivery) -> None:
        order = json.loads(delivery.payload)
        if delivery.target.split(":")[2] == "events":
            await self._tell(delivery.target, order)
            return
        action, message = delivery.target, json.dumps(order["message"])
        parts = action.split(":")
        service, operation, principal = parts[2], "Publish", _SELF
        account, region = parts[4], parts[3]
        if service == "sns":
            input = {"TopicArn": action, "Message": message, "Subject": order["subject"]}
        elif service == "lambda":
            operation, principal = "Invoke", _LAMBDA_SELF
            input = {"FunctionName": action, "InvocationType": "Event", "Payload": message.encode()}
        elif service == "automate":
            service, operation = "ec2", _OF_INSTANCES[parts[5]]
            account, region = order["scope"].split("/")
            input = {"InstanceIds": [order["instance"]]}
        else:
            service, operation = _scaling_service(action), "ExecutePolicy"
            input = {"PolicyName": action, "HonorCooldown": True}
        try:
            await self.cloud.call(service, operation, input, account=account, region=region, principal=principal)
        except AwsError as error:
            if (error.status or 400) < 500 or error.code == "NotImplemented":
                await self._noted(order, action, f"Failed to execute action {action}", str(error))
                raise Undeliverable(str(error)) from None
            raise
        await self._noted(order, action, f"Successfully executed action {action}", "")

    async def _tell(self, bus: str, event: dict[str, Any]) -> None:
        """Put an event onto the default bus."""
        parts = bus.split(":")
        await self.cloud.call(
            "events", "PutEvents", {"Entries": [event]}, account=parts[4], region=parts[3], principal=_SELF
        )

    async def _noted(self, order: dict[str, Any], action: str, summary: str, error: str) -> None:
        data = {
            "actionState": "Failed" if error else "Succeeded",
            "stateUpdateTimestamp": int(self.clock.now() * 1000),
            "notificationResource": action,
            "publishedMessage": order["message"],
        }
        if error:
            data["error"] = error
        await self.db.write(
            lambda tx: records.note(
                tx, order["scope"], order["alarm"], order["kind"], self.clock.now(), "Action", summary, data
            )
        )


def _check_instance(call: Call, action: str, members: dict[str, Any]) -> None:
    """Judge an action on an instance. Raises ValidationError, and NotImplemented for what is not done to instances."""
    parts = action.split(":")
    if parts[4] != "ec2" or parts[5] not in _OF_INSTANCES:
        raise not_implemented(f"{call.operation} with the action {action}")
    if not _instance_of(members):
        raise validation(f"The action {action} needs an alarm on a metric with the dimension InstanceId")


def _instance_of(members: dict[str, Any]) -> str:
    """The instance that an alarm's metric is of; empty where it is of none."""
    return next((one["Value"] for one in members.get("Dimensions", ()) if one["Name"] == "InstanceId"), "")


def _retries(failed: int, delivery: Delivery) -> float | None:
    return float(2**failed) if failed < _TRIES else None


def _scaling_service(action: str) -> str:
    """Which service a scaling policy is of."""
    return "application-autoscaling" if ":resource/" in action else "autoscaling"


def _notification(account: str, region: str, old: Alarm, new: Alarm, now: float) -> dict[str, Any]:
    """The message that a topic gets."""
    members = new.members
    message: dict[str, Any] = {
        "AlarmName": members["AlarmName"],
        "AlarmDescription": members.get("AlarmDescription"),
        "AWSAccountId": account,
        "AlarmConfigurationUpdatedTimestamp": iso(members["AlarmConfigurationUpdatedTimestamp"]),
        "NewStateValue": members["StateValue"],
        "NewStateReason": members["StateReason"],
        "StateChangeTime": iso(now),
        "Region": _REGIONS.get(region, region),
        "AlarmArn": members["AlarmArn"],
        "OldStateValue": old.members["StateValue"],
        "OKActions": members["OKActions"],
        "AlarmActions": members["AlarmActions"],
        "InsufficientDataActions": members["InsufficientDataActions"],
    }
    if new.composite:
        return {**message, "AlarmRule": members["AlarmRule"]}
    trigger: dict[str, Any] = {}
    if "Metrics" in members:
        trigger["Metrics"] = members["Metrics"]
    else:
        trigger["MetricName"], trigger["Namespace"] = members["MetricName"], members["Namespace"]
        if "Statistic" in members:
            trigger["StatisticType"], trigger["Statistic"] = "Statistic", _STATISTICS[members["Statistic"]]
        else:
            trigger["StatisticType"] = "ExtendedStatistic"
            trigger["ExtendedStatistic"] = members["ExtendedStatistic"]
        trigger["Unit"] = members.get("Unit")
        trigger["Dimensions"] = [{"value": one["Value"], "name": one["Name"]} for one in members["Dimensions"]]
    trigger["Period"] = members.get("Period")
    trigger["EvaluationPeriods"] = members["EvaluationPeriods"]
    if "DatapointsToAlarm" in members:
        trigger["DatapointsToAlarm"] = members["DatapointsToAlarm"]
    trigger["ComparisonOperator"] = members["ComparisonOperator"]
    limit = "ThresholdMetricId" if "ThresholdMetricId" in members else "Threshold"
    trigger[limit] = members[limit]
    trigger["TreatMissingData"] = members.get("TreatMissingData", "missing")
    trigger["EvaluateLowSampleCountPercentile"] = members.get("EvaluateLowSampleCountPercentile", "")
    return {**message, "Trigger": trigger}


def _lambda_event(account: str, region: str, old: Alarm, new: Alarm, now: float) -> dict[str, Any]:
    """The event that a function gets."""
    members = new.members
    configuration: dict[str, Any] = {}
    if members.get("AlarmDescription"):
        configuration["description"] = members["AlarmDescription"]
    if new.composite:
        configuration["alarmRule"] = members["AlarmRule"]
    else:
        configuration["metrics"] = [_metric(one) for one in queries_of(members)]
    return {
        "source": "aws.cloudwatch",
        "alarmArn": members["AlarmArn"],
        "accountId": account,
        "time": iso(now),
        "region": region,
        "alarmData": {
            "alarmName": members["AlarmName"],
            "state": _state(members),
            "previousState": _state(old.members),
            "configuration": configuration,
        },
    }


def _state(members: dict[str, Any]) -> dict[str, Any]:
    state = {
        "value": members["StateValue"],
        "reason": members["StateReason"],
        "timestamp": iso(members["StateUpdatedTimestamp"]),
    }
    return {**state, "reasonData": members["StateReasonData"]} if "StateReasonData" in members else state


def _metric(query: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": query["Id"], "returnData": query.get("ReturnData", True)}
    if "Expression" in query:
        return {**shown, "expression": query["Expression"], "label": query.get("Label", "")}
    stat = query["MetricStat"]
    dimensions = {one["Name"]: one["Value"] for one in stat["Metric"].get("Dimensions", ())}
    metric = {"namespace": stat["Metric"]["Namespace"], "name": stat["Metric"]["MetricName"], "dimensions": dimensions}
    return {**shown, "metricStat": {"metric": metric, "period": stat["Period"], "stat": stat["Stat"]}}


def queries_of(members: dict[str, Any]) -> list[dict[str, Any]]:
    """What a metric alarm looks at, as metric data queries."""
    if "Metrics" in members:
        return list(members["Metrics"])
    metric = {name: members[name] for name in ("Namespace", "MetricName", "Dimensions")}
    stat = {
        "Metric": metric,
        "Period": members["Period"],
        "Stat": members.get("Statistic") or members["ExtendedStatistic"],
    }
    if "Unit" in members:
        stat["Unit"] = members["Unit"]
    return [{"Id": "m1", "MetricStat": stat, "ReturnData": True}]
