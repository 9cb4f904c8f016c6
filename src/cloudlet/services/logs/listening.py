"""Who listens to a group's new events: subscriptions, metric filters, and rules of CloudWatch's Contributor Insights.

What they make of a batch goes into the outbox, in the transaction that stores the events.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Protocol

from cloudlet.services.api import Call, Input
from cloudlet.services.logs.patterns import Pattern, selector

_DATA_AT_ONCE = 1000  # of one PutMetricData

Deliveries = list[tuple[str, bytes]]  # targets and payloads, for the outbox
Matched = list[tuple[int, Any, dict[str, str]]]  # events with their ids and what a pattern took from them


class Listener(Protocol):
    """Who hears of a group's new events."""

    def deliveries(self, call: Call, input: Input, events: list[Any], first: int) -> Deliveries:
        """What these events, whose ids count up from ``first``, have the outbox deliver."""
        ...


class Subscription(NamedTuple):
    """A subscription filter: its destination gets the events that match."""

    members: dict[str, Any]
    matches: Pattern

    def deliveries(self, call: Call, input: Input, events: list[Any], first: int) -> Deliveries:
        matched = _matched(self.matches, events, first)
        if not matched:
            return []
        document = {
            "messageType": "DATA_MESSAGE",
            "owner": call.account,
            "logGroup": input["logGroupName"],
            "logStream": input["logStreamName"],
            "subscriptionFilters": [self.members["filterName"]],
            "logEvents": [_sent(id, event, extracted) for id, event, extracted in matched],
        }
        return [(self.members["destinationArn"], json.dumps(document).encode())]


class Measure(NamedTuple):
    """A metric filter: CloudWatch gets numbers."""

    members: dict[str, Any]
    matches: Pattern

    def deliveries(self, call: Call, input: Input, events: list[Any], first: int) -> Deliveries:
        return _metric_data(call, self.members, events, _matched(self.matches, events, first))


def _matched(matches: Pattern, events: list[Any], first: int) -> Matched:
    found = ((id, event, matches(event["message"])) for id, event in enumerate(events, first))
    return [(id, event, extracted) for id, event, extracted in found if extracted is not None]


def _sent(id: int, event: Any, extracted: dict[str, str]) -> dict[str, Any]:
    """An event as a subscriber sees it; extracted fields only of space-delimited patterns."""
    sent = {"id": f"{event['timestamp']:028d}{id:028d}", "timestamp": event["timestamp"], "message": event["message"]}
    fields = {name[1:]: value for name, value in extracted.items() if not name.startswith("$.")}
    return {**sent, "extractedFields": fields} if fields else sent


def _metric_data(call: Call, members: dict[str, Any], events: list[Any], matched: Matched) -> Deliveries:
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
