"""What can be scaled: for each dimension who is asked how much there is, who is told how much there is to be."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Input, Output
from cloudlet.services.scaling import tracking
from cloudlet.services.scaling.capacity import tracked
from cloudlet.services.scaling.tracking import Alarms

_MINUTE = 60

# Calls an operation of a service, in the target's account and region.
Ask = Callable[[str, str, Input], Awaitable[Output]]


class Scalable(Protocol):
    """One scalable dimension of one kind of resource."""

    dimension: str
    what: str  # as activities say it: "Setting <what> to 3."
    service: str  # whose change it is, as activities say it
    role: str  # of the service-linked role that scales it
    alarms_follow: bool = False  # whether the thresholds of predefined metrics depend on the capacity that there is

    def parts(self, resource: str) -> tuple[str, ...] | None:
        """What a resource's id names; None when it names no such resource."""
        ...

    async def current(self, ask: Ask, resource: str) -> int:
        """The capacity that is wanted now. Raises ValidationException where there is no such resource."""
        ...

    async def set(self, ask: Ask, resource: str, capacity: int) -> None:
        """Want another capacity. Raises AwsError."""
        ...

    async def alarms(self, ask: Ask, resource: str, configuration: dict[str, Any]) -> Alarms:
        """The alarms that hold a predefined metric at its target. Raises NotImplemented, ValidationException."""
        ...

    def wanted(self, capacity: int, value: float, configuration: dict[str, Any]) -> int:
        """The capacity that would bring a metric from its value to the policy's target."""
        return tracked(capacity, value, configuration["TargetValue"])


class EcsService(Scalable):
    """How many tasks of a service are wanted."""

    dimension = "ecs:service:DesiredCount"
    what = "desired count"
    service = "ecs"
    role = "ecs.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_ECSService"
    _metrics = {
        "ECSServiceAverageCPUUtilization": "CPUUtilization",
        "ECSServiceAverageMemoryUtilization": "MemoryUtilization",
    }

    def parts(self, resource: str) -> tuple[str, ...] | None:
        kind, *parts = resource.split("/")
        return tuple(parts) if kind == "service" and len(parts) == 2 and all(parts) else None

    async def current(self, ask: Ask, resource: str) -> int:
        _, cluster, service = resource.split("/")
        found = await ask("ecs", "DescribeServices", {"cluster": cluster, "services": [service]})
        live = [one for one in found["services"] if one["status"] == "ACTIVE"]
        if not live:
            raise validation(f"ECS service doesn't exist: {resource}")
        return int(live[0]["desiredCount"])

    async def set(self, ask: Ask, resource: str, capacity: int) -> None:
        _, cluster, service = resource.split("/")
        await ask("ecs", "UpdateService", {"cluster": cluster, "service": service, "desiredCount": capacity})

    async def alarms(self, ask: Ask, resource: str, configuration: dict[str, Any]) -> Alarms:
        predefined = configuration["PredefinedMetricSpecification"]
        kind = predefined["PredefinedMetricType"]
        if kind == "ALBRequestCountPerTarget":
            requests = tracking.requests_of(predefined.get("ResourceLabel", ""))
            if requests is None:
                raise validation("A resource label is required for ALBRequestCountPerTarget.")
            return tracking.alarms(configuration, requests)
        if kind not in self._metrics:
            raise validation(f"The predefined metric type {kind} is not supported for ECS services.")
        _, cluster, service = resource.split("/")
        metric = {
            "Namespace": "AWS/ECS",
            "MetricName": self._metrics[kind],
            "Dimensions": [{"Name": "ClusterName", "Value": cluster}, {"Name": "ServiceName", "Value": service}],
            "Statistic": "Average",
            "Period": 60,
            "Unit": "Percent",
        }
        return tracking.alarms(configuration, metric)


class FunctionConcurrency(Scalable):
    """How many sandboxes of a function's alias or version are kept ready."""

    dimension = "lambda:function:ProvisionedConcurrency"
    what = "desired concurrency"
    service = "lambda"
    role = "lambda.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_LambdaConcurrency"

    def parts(self, resource: str) -> tuple[str, ...] | None:
        kind, *parts = resource.split(":")
        return tuple(parts) if kind == "function" and len(parts) == 2 and all(parts) else None

    async def current(self, ask: Ask, resource: str) -> int:
        _, function, qualifier = resource.split(":")
        place = {"FunctionName": function, "Qualifier": qualifier}
        try:
            found = await ask("lambda", "GetProvisionedConcurrencyConfig", place)
        except AwsError as error:
            if error.code == "ProvisionedConcurrencyConfigNotFoundException":
                return 0
            raise validation(f"Lambda function doesn't exist: {resource}") from None
        return int(found["RequestedProvisionedConcurrentExecutions"])

    async def set(self, ask: Ask, resource: str, capacity: int) -> None:
        _, function, qualifier = resource.split(":")
        place: Input = {"FunctionName": function, "Qualifier": qualifier}
        if capacity:
            place["ProvisionedConcurrentExecutions"] = capacity
        await ask("lambda", f"{'Put' if capacity else 'Delete'}ProvisionedConcurrencyConfig", place)

    async def alarms(self, ask: Ask, resource: str, configuration: dict[str, Any]) -> Alarms:
        kind = configuration["PredefinedMetricSpecification"]["PredefinedMetricType"]
        if kind != "LambdaProvisionedConcurrencyUtilization":
            raise validation(f"The predefined metric type {kind} is not supported for {self.dimension}.")
        _, function, qualifier = resource.split(":")
        metric = {
            "Namespace": "AWS/Lambda",
            "MetricName": "ProvisionedConcurrencyUtilization",
            "Dimensions": [
                {"Name": "FunctionName", "Value": function},
                {"Name": "Resource", "Value": f"{function}:{qualifier}"},
            ],
            "Statistic": "Average",
            "Period": _MINUTE,
        }
        return tracking.alarms(configuration, metric)


class TableCapacity(Scalable):
    """The capacity units that a table or one of its indexes is provisioned with."""

    service = "dynamodb"
    alarms_follow = True
    role = "dynamodb.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_DynamoDBTable"

    def __init__(self, kind: str, units: str) -> None:
        self._kind = kind
        self._units = units
        self.dimension = f"dynamodb:{kind}:{units}"
        self.what = f"{'read' if units.startswith('Read') else 'write'} capacity units"

    def parts(self, resource: str) -> tuple[str, ...] | None:
        parts = resource.split("/")
        wanted = ("table", "index")[: 1 if self._kind == "table" else 2]
        return tuple(parts[1::2]) if tuple(parts[::2]) == wanted and len(parts) == 2 * len(wanted) else None

    async def current(self, ask: Ask, resource: str) -> int:
        return int((await self._provisioned(ask, resource))[self._units])

    async def set(self, ask: Ask, resource: str, capacity: int) -> None:
        throughput = {**await self._provisioned(ask, resource), self._units: capacity}
        table, *index = resource.split("/")[1::2]
        change: Input = {"ProvisionedThroughput": throughput}
        if index:
            change = {"GlobalSecondaryIndexUpdates": [{"Update": {"IndexName": index[0], **change}}]}
        await ask("dynamodb", "UpdateTable", {"TableName": table, **change})

    async def _provisioned(self, ask: Ask, resource: str) -> dict[str, int]:
        table, *index = resource.split("/")[1::2]
        try:
            found = (await ask("dynamodb", "DescribeTable", {"TableName": table}))["Table"]
        except AwsError:
            raise validation(f"DynamoDB table does not exist: {resource}") from None
        if index:
            indexes = found.get("GlobalSecondaryIndexes", ())
            found = next((one for one in indexes if one["IndexName"] == index[0]), None)
            if found is None:
                raise validation(f"DynamoDB index does not exist: {resource}")
        names = ("ReadCapacityUnits", "WriteCapacityUnits")
        return {name: found.get("ProvisionedThroughput", {}).get(name, 0) for name in names}

    async def alarms(self, ask: Ask, resource: str, configuration: dict[str, Any]) -> Alarms:
        """Alarms on what is consumed, and on whether the capacity is another one than they were made for."""
        kind = configuration["PredefinedMetricSpecification"]["PredefinedMetricType"]
        if kind != f"DynamoDB{self._units.removesuffix('Units')}Utilization":
            raise validation(f"The predefined metric type {kind} is not supported for {self.dimension}.")
        table, *index = resource.split("/")[1::2]
        dimensions = [{"Name": "TableName", "Value": table}]
        dimensions += [{"Name": "GlobalSecondaryIndexName", "Value": name} for name in index]
        common: dict[str, Any] = {"Namespace": "AWS/DynamoDB", "Dimensions": dimensions}
        consumed = {**common, "MetricName": f"Consumed{self._units}", "Statistic": "Sum", "Period": _MINUTE}
        provisioned = {**common, "MetricName": f"Provisioned{self._units}", "Statistic": "Average", "Period": 300}
        capacity, target = await self.current(ask, resource), configuration["TargetValue"]
        above = {"ComparisonOperator": "GreaterThanThreshold"}
        below = {"ComparisonOperator": "LessThanThreshold"}
        full = capacity * _MINUTE / 100  # units in a minute for each percent of what is provisioned
        found = {
            "AlarmHigh": {**consumed, **above, "EvaluationPeriods": 2, "Threshold": round(full * target, 6)},
            "AlarmLow": {**consumed, **below, "EvaluationPeriods": 15, "Threshold": round(full * (target - 20), 6)},
            "ProvisionedCapacityHigh": {**provisioned, **above, "EvaluationPeriods": 3, "Threshold": float(capacity)},
            "ProvisionedCapacityLow": {**provisioned, **below, "EvaluationPeriods": 3, "Threshold": float(capacity)},
        }
        if configuration.get("DisableScaleIn"):
            del found["AlarmLow"]
        return found

    def wanted(self, capacity: int, value: float, configuration: dict[str, Any]) -> int:
        if "PredefinedMetricSpecification" not in configuration:
            return super().wanted(capacity, value, configuration)
        # The value is what was consumed in a minute, the target a percentage.
        target: float = configuration["TargetValue"]
        return math.ceil(round(value * 100 / (_MINUTE * target), 6))


_ALL: tuple[Scalable, ...] = (
    EcsService(),
    FunctionConcurrency(),
    *(TableCapacity(kind, f"{what}CapacityUnits") for kind in ("table", "index") for what in ("Read", "Write")),
)
SCALABLES: dict[str, Scalable] = {one.dimension: one for one in _ALL}


def scalable(namespace: str, resource: str, dimension: str) -> Scalable:
    """What scales a resource. Raises ValidationException, and NotImplemented for what does not scale here."""
    if namespace not in {one.service for one in SCALABLES.values()}:
        raise not_implemented(f"scaling in the namespace {namespace}")
    found = SCALABLES.get(dimension)
    if found is None or found.service != namespace or found.parts(resource) is None:
        raise validation("Unsupported service namespace, resource type or scalable dimension")
    return found


def validation(message: str) -> AwsError:
    """ValidationException."""
    return AwsError("ValidationException", message)
