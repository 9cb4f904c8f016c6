"""Subscription and metric filters: the operations, and the delivery of what listeners make of events."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

from cloudlet.control.outbox import Delivery, Outbox, Undeliverable
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.logs.groups import Groups, page_of
from cloudlet.services.logs.listening import Listener, Measure, Subscription
from cloudlet.services.logs.patterns import compile_pattern
from cloudlet.services.logs.records import MetricFilter, SubscriptionFilter
from cloudlet.store import Tx

_SELF = "logs.amazonaws.com"
_SUBSCRIPTIONS_AT_MOST = 2
_METRICS_AT_MOST = 100
_TRIES = 8


class Filters(Groups):
    """Operations on filters, and their data plane."""

    async def start(self) -> None:
        await super().start()
        self._listeners: dict[tuple[str, str], list[Listener]] = {}
        self._more: Callable[[str, str], list[Listener]] = lambda scope, group: []
        if "cloudwatch" in self.cloud.store.names():
            # Its insight rules are to hear of the first event after a restart.
            cloudwatch: Any = await self.cloud.service("cloudwatch")
            self.hear(cloudwatch.rules_on)
        self.outbox = Outbox(self.db, self.clock, self._deliver, retries=_retries)
        await self.outbox.start()

    async def stop(self) -> None:
        await self.outbox.stop()
        await super().stop()

    def hear(self, more: Callable[[str, str], list[Listener]]) -> None:
        """Have ``more`` asked for further listeners of a scope's group; called again when its answers change."""
        self._more = more
        self._listeners.clear()

    def filters_changed(self, scope: str, group: str) -> None:
        self._listeners.pop((scope, group), None)

    def listeners(self, scope: str, group: str) -> list[Listener]:
        """Who hears of a group's events. Costs a dictionary look-up."""
        found = self._listeners.get((scope, group))
        if found is None:
            prefix = f"{group}\n"
            subscriptions = [record.value.members for record in self.subscriptions.list(scope, prefix)]
            metrics = [record.value.members for record in self.metrics.list(scope, prefix)]
            found = [Subscription(each, compile_pattern(each["filterPattern"])) for each in subscriptions]
            found += [Measure(each, compile_pattern(each["filterPattern"])) for each in metrics]
            found += self._more(scope, group)
            self._listeners[scope, group] = found
        return found

    # Subscription filters

    async def PutSubscriptionFilter(self, call: Call, input: Input) -> Output:
        group, name, destination = input["logGroupName"], input["filterName"], input["destinationArn"]
        for member in ("fieldSelectionCriteria", "emitSystemFields"):
            if input.get(member):
                raise not_implemented(f"PutSubscriptionFilter with {member}")
        if input.get("applyOnTransformedLogs"):
            raise not_implemented("PutSubscriptionFilter with applyOnTransformedLogs")
        compile_pattern(input["filterPattern"])
        self.group(call.scope, group)
        await self._check_destination(call, destination)
        members = {**input, "distribution": input.get("distribution", "ByLogStream"), "creationTime": self.now()}

        def put(tx: Tx) -> None:
            self.group(call.scope, group, tx)
            others = [
                record
                for record in self.subscriptions.list(call.scope, f"{group}\n", tx)
                if record.value.members["filterName"] != name
            ]
            if len(others) >= _SUBSCRIPTIONS_AT_MOST:
                raise AwsError("LimitExceededException", "Resource limit exceeded.")
            self.subscriptions.put(tx, call.scope, f"{group}\n{name}", SubscriptionFilter(members))

        await self.db.write(put)
        self.filters_changed(call.scope, group)
        return {}

    async def _check_destination(self, call: Call, arn: str) -> None:
        """Raises InvalidParameterException where the destination is not there."""
        parts = arn.split(":")
        service = parts[2] if len(parts) > 5 else ""
        checks: dict[str, tuple[str, Input]] = {
            "lambda": ("GetFunctionConfiguration", {"FunctionName": arn}),
            "kinesis": ("DescribeStreamSummary", {"StreamName": parts[-1].removeprefix("stream/")}),
            "firehose": ("DescribeDeliveryStream", {"DeliveryStreamName": parts[-1].removeprefix("deliverystream/")}),
        }
        if service == "logs":
            raise not_implemented("PutSubscriptionFilter with a logs destination")
        if service not in checks:
            raise AwsError("InvalidParameterException", "destinationArn for vendor lambda must be a lambda function")
        operation, named = checks[service]
        try:
            await self.cloud.call(service, operation, named, account=parts[4], region=parts[3], principal=_SELF)
        except AwsError as error:
            if error.code == "NotImplemented":
                raise
            what = {
                "lambda": "execute the lambda function. Make sure you have given CloudWatch Logs permission to execute "
                "your function.",
                "kinesis": "deliver test message to specified Kinesis stream. Check if the given kinesis stream is in "
                "ACTIVE state.",
                "firehose": "deliver test message to specified Firehose stream. Check if the given Firehose stream is "
                "in ACTIVE state.",
            }[service]
            raise AwsError("InvalidParameterException", f"Could not {what}") from None

    async def DescribeSubscriptionFilters(self, call: Call, input: Input) -> Output:
        group = input["logGroupName"]
        self.group(call.scope, group)
        found = self.subscriptions.list(call.scope, f"{group}\n{input.get('filterNamePrefix', '')}")
        page, token = page_of([record.value.members for record in found], input, lambda each: str(each["filterName"]))
        return {"subscriptionFilters": page} | token

    async def DeleteSubscriptionFilter(self, call: Call, input: Input) -> Output:
        group, name = input["logGroupName"], input["filterName"]
        self.group(call.scope, group)
        if not await self.db.write(lambda tx: self.subscriptions.delete(tx, call.scope, f"{group}\n{name}")):
            raise AwsError("ResourceNotFoundException", "The specified subscription filter does not exist.")
        self.filters_changed(call.scope, group)
        return {}

    # Metric filters

    async def PutMetricFilter(self, call: Call, input: Input) -> Output:
        group, name = input["logGroupName"], input["filterName"]
        for member in ("fieldSelectionCriteria", "emitSystemFieldDimensions", "applyOnTransformedLogs"):
            if input.get(member):
                raise not_implemented(f"PutMetricFilter with {member}")
        compile_pattern(input["filterPattern"])
        for metric in input["metricTransformations"]:
            if metric.get("dimensions") and "defaultValue" in metric:
                raise AwsError(
                    "InvalidParameterException",
                    "Invalid metric transformation: dimensions and default value are mutually exclusive properties.",
                )
        members = {**input, "creationTime": self.now()}

        def put(tx: Tx) -> None:
            self.group(call.scope, group, tx)
            others = self.metrics.list(call.scope, f"{group}\n", tx)
            if len(others) >= _METRICS_AT_MOST and all(other.value.members["filterName"] != name for other in others):
                raise AwsError("LimitExceededException", "Resource limit exceeded.")
            self.metrics.put(tx, call.scope, f"{group}\n{name}", MetricFilter(members))

        await self.db.write(put)
        self.filters_changed(call.scope, group)
        return {}

    async def DescribeMetricFilters(self, call: Call, input: Input) -> Output:
        name, namespace = input.get("metricName"), input.get("metricNamespace")
        if (name is None) != (namespace is None):
            raise AwsError(
                "InvalidParameterException",
                "If you include the metricName parameter in your request, you must also include the metricNamespace "
                "parameter.",
            )
        group, prefix = input.get("logGroupName"), input.get("filterNamePrefix", "")
        if group is not None:
            self.group(call.scope, group)
        found = [
            record
            for record in self.metrics.list(call.scope, f"{group}\n" if group is not None else "")
            if record.value.members["filterName"].startswith(prefix)
            and (
                name is None
                or any(
                    (each["metricName"], each["metricNamespace"]) == (name, namespace)
                    for each in record.value.members["metricTransformations"]
                )
            )
        ]
        page, token = page_of(found, input, lambda record: str(record.name))
        return {"metricFilters": [record.value.members for record in page]} | token

    async def DeleteMetricFilter(self, call: Call, input: Input) -> Output:
        group, name = input["logGroupName"], input["filterName"]
        self.group(call.scope, group)
        if not await self.db.write(lambda tx: self.metrics.delete(tx, call.scope, f"{group}\n{name}")):
            raise AwsError("ResourceNotFoundException", "The specified metric filter does not exist.")
        self.filters_changed(call.scope, group)
        return {}

    async def TestMetricFilter(self, call: Call, input: Input) -> Output:
        matches = compile_pattern(input["filterPattern"])
        found = []
        for number, message in enumerate(input["logEventMessages"], start=1):
            extracted = matches(message)
            if extracted is not None:
                found.append({"eventNumber": number, "eventMessage": message, "extractedValues": extracted})
        return {"matches": found}

    # Delivery

    async def _deliver(self, delivery: Delivery) -> None:
        parts = delivery.target.split(":")
        service, region, account = parts[2], parts[3], parts[4]
        if service == "cloudwatch":
            operation, input = "PutMetricData", json.loads(delivery.payload)
            if "Contributions" in input:
                cloudwatch: Any = await self.cloud.service("cloudwatch")
                await cloudwatch.contribute(f"{account}/{region}", input)
                return
        else:
            data = await asyncio.to_thread(gzip.compress, delivery.payload, 6)
            if service == "lambda":
                payload = json.dumps({"awslogs": {"data": base64.b64encode(data).decode()}}).encode()
                operation, input = (
                    "Invoke",
                    {"FunctionName": delivery.target, "InvocationType": "Event", "Payload": payload},
                )
            elif service == "kinesis":
                key = json.loads(delivery.payload)["logStream"]
                name = parts[-1].removeprefix("stream/")
                operation, input = "PutRecord", {"StreamName": name, "Data": data, "PartitionKey": key[:256]}
            else:
                name = parts[-1].removeprefix("deliverystream/")
                operation, input = "PutRecord", {"DeliveryStreamName": name, "Record": {"Data": data}}
        try:
            await self.cloud.call(service, operation, input, account=account, region=region, principal=_SELF)
        except AwsError as error:
            if error.code in ("NotImplemented", "ResourceNotFoundException"):
                raise Undeliverable(str(error)) from None
            raise


def _retries(failed: int, delivery: Delivery) -> float | None:
    return float(2**failed) if failed < _TRIES else None
