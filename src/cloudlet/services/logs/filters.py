"""Subscription and metric filters: what they are, and the delivery of events that match them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from typing import Any, NamedTuple

from cloudlet.control.outbox import Delivery, Outbox, Undeliverable
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.logs.groups import Groups, page_of
from cloudlet.services.logs.patterns import Pattern, compile_pattern, selector
from cloudlet.services.logs.records import MetricFilter, SubscriptionFilter
from cloudlet.store import Tx

_SELF = "logs.amazonaws.com"
_SUBSCRIPTIONS_AT_MOST = 2
_METRICS_AT_MOST = 100
_TRIES = 8
_DATA_AT_ONCE = 1000  # of one PutMetricData


class Listener(NamedTuple):
    """A filter of a group, ready to be used; ``metric`` tells the two kinds apart."""

    members: dict[str, Any]
    matches: Pattern
    metric: bool


class Filters(Groups):
    """Operations on filters, and their data plane."""

    async def start(self) -> None:
        await super().start()
        self._listeners: dict[tuple[str, str], list[Listener]] = {}
        self.outbox = Outbox(self.db, self.clock, self._deliver, retries=_retries)
        await self.outbox.start()

    async def stop(self) -> None:
        await self.outbox.stop()
        await super().stop()

    def filters_changed(self, scope: str, group: str) -> None:
        self._listeners.pop((scope, group), None)

    def listeners(self, scope: str, group: str) -> list[Listener]:
        """The filters of a group. Costs a dictionary look-up."""
        found = self._listeners.get((scope, group))
        if found is None:
            prefix = f"{group}\n"
            subscriptions = [record.value.members for record in self.subscriptions.list(scope, prefix)]
            metrics = [record.value.members for record in self.metrics.list(scope, prefix)]
            found = [Listener(each, compile_pattern(each["filterPattern"]), False) for each in subscriptions]
            found += [Listener(each, compile_pattern(each["filterPattern"]), True) for each in metrics]
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

    def deliveries(
        self, call: Call, input: Input, listeners: list[Listener], events: list[Any], first: int
    ) -> list[tuple[str, bytes]]:
        """What these events have the outbox deliver: targets and payloads."""
        found: list[tuple[str, bytes]] = []
        for listener in listeners:
            matching = [(id, event, listener.matches(event["message"])) for id, event in enumerate(events, first)]
            matched = [(id, event, extracted) for id, event, extracted in matching if extracted is not None]
            if listener.metric:
                found += _metric_data(call, listener.members, events, matched)
            elif matched:
                document = {
                    "messageType": "DATA_MESSAGE",
                    "owner": call.account,
                    "logGroup": input["logGroupName"],
                    "logStream": input["logStreamName"],
                    "subscriptionFilters": [listener.members["filterName"]],
                    "logEvents": [_sent(id, event, extracted) for id, event, extracted in matched],
                }
                found.append((listener.members["destinationArn"], json.dumps(document).encode()))
        return found

    async def _deliver(self, delivery: Delivery) -> None:
        parts = delivery.target.split(":")
        service, region, account = parts[2], parts[3], parts[4]
        if service == "cloudwatch":
            operation, input = "PutMetricData", json.loads(delivery.payload)
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


def _sent(id: int, event: Any, extracted: dict[str, str]) -> dict[str, Any]:
    """An event as a subscriber sees it; extracted fields only of space-delimited patterns."""
    sent = {"id": f"{event['timestamp']:028d}{id:028d}", "timestamp": event["timestamp"], "message": event["message"]}
    fields = {name[1:]: value for name, value in extracted.items() if not name.startswith("$.")}
    return {**sent, "extractedFields": fields} if fields else sent


def _metric_data(
    call: Call, members: dict[str, Any], events: list[Any], matched: list[tuple[int, Any, dict[str, str]]]
) -> list[tuple[str, bytes]]:
    """The data that a metric filter makes of a batch, in the input of PutMetricData."""
    found = []
    for metric in members["metricTransformations"]:
        data = []
        for _, event, extracted in matched:
            value = _number(_value(metric["metricValue"], event["message"], extracted))
            if value is None:
                continue
            datum = {"MetricName": metric["metricName"], "Value": value, "Timestamp": event["timestamp"] / 1000}
            dimensions = {
                name: _value(source, event["message"], extracted)
                for name, source in metric.get("dimensions", {}).items()
            }
            if None in dimensions.values():
                continue
            if dimensions:
                datum["Dimensions"] = [{"Name": name, "Value": value} for name, value in dimensions.items()]
            data.append(datum)
        if not matched and "defaultValue" in metric:
            data.append(
                {
                    "MetricName": metric["metricName"],
                    "Value": metric["defaultValue"],
                    "Timestamp": events[-1]["timestamp"] / 1000,
                }
            )
        if unit := metric.get("unit"):
            for datum in data:
                datum["Unit"] = unit
        target = f"arn:aws:cloudwatch:{call.region}:{call.account}:{metric['metricNamespace']}"
        for start in range(0, len(data), _DATA_AT_ONCE):
            input = {"Namespace": metric["metricNamespace"], "MetricData": data[start : start + _DATA_AT_ONCE]}
            found.append((target, json.dumps(input).encode()))
    return found


def _value(source: str, message: str, extracted: dict[str, str]) -> str | None:
    """A value that a metric takes from an event, or the one that it always has."""
    if not source.startswith("$"):
        return source
    if source in extracted or not source.startswith("$."):
        return extracted.get(source)
    try:
        found = selector(source)(json.loads(message))
    except ValueError:
        return None
    return (found[0] if isinstance(found[0], str) else json.dumps(found[0])) if found else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
