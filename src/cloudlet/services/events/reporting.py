"""What EventBridge tells CloudWatch: which rules matched, and what became of their targets' events."""

from __future__ import annotations

from cloudlet.observe.metrics import Dimensions, Metrics
from cloudlet.services.events.records import DEFAULT, Rule

_NAMESPACE = "AWS/Events"


class Reporting:
    """Counts of all rules."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def matched(self, rule: Rule) -> None:
        """An event has matched, or a schedule was due."""
        self._add(rule, "MatchedEvents")
        self._add(rule, "TriggeredRules")

    def invoked(self, rule: Rule) -> None:
        """A target has got an event."""
        self._add(rule, "Invocations")

    def failed(self, rule: Rule, dead_lettered: bool) -> None:
        """An event could not be delivered to a target."""
        self._add(rule, "FailedInvocations")
        if dead_lettered:
            self._add(rule, "InvocationsSentToDlq")

    def _add(self, rule: Rule, name: str) -> None:
        dimensions: Dimensions = (("RuleName", rule.name),)
        if rule.bus != DEFAULT:
            dimensions = (("EventBusName", rule.bus), *dimensions)
        self._metrics.add(rule.scope, _NAMESPACE, name, dimensions, 1, "Count")
