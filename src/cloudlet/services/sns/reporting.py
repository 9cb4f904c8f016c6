"""What SNS tells CloudWatch: what was published to each topic, and what became of it."""

from __future__ import annotations

from cloudlet.observe.metrics import Metrics
from cloudlet.services.sns.records import Topic

_NAMESPACE = "AWS/SNS"


class Reporting:
    """Counts of all topics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def published(self, topic: Topic, sizes: list[int]) -> None:
        """Messages of these sizes were accepted."""
        self._add(topic, "NumberOfMessagesPublished", len(sizes))
        for size in sizes:
            self._metrics.add(topic.scope, _NAMESPACE, "PublishSize", _of(topic), size, "Bytes")

    def delivered(self, topic: Topic, count: int = 1) -> None:
        """So many subscribers have got a message."""
        self._add(topic, "NumberOfNotificationsDelivered", count)

    def filtered(self, topic: Topic, count: int) -> None:
        """So many subscribers did not want a message."""
        self._add(topic, "NumberOfNotificationsFilteredOut", count)

    def failed(self, topic: Topic, dead_lettered: bool) -> None:
        """A message could not be delivered to a subscriber."""
        self._add(topic, "NumberOfNotificationsFailed", 1)
        if dead_lettered:
            self._add(topic, "NumberOfNotificationsRedrivenToDlq", 1)

    def _add(self, topic: Topic, name: str, count: int) -> None:
        if count:
            self._metrics.add(topic.scope, _NAMESPACE, name, _of(topic), count, "Count")


def _of(topic: Topic) -> tuple[tuple[str, str], ...]:
    return (("TopicName", topic.name),)
