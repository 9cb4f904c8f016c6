"""Queues as the places where what was delivered is seen."""

from __future__ import annotations

import time
from typing import Any

from cloudlet.testing import LocalCloud


def queue(cloud: LocalCloud, name: str, **attributes: str) -> tuple[str, str]:
    """A new queue's URL and ARN."""
    if name.endswith(".fifo"):
        attributes = {"FifoQueue": "true", **attributes}
    url = cloud.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url, f"arn:aws:sqs:us-east-1:000000000000:{name}"


def receive(cloud: LocalCloud, url: str, wait: int = 10) -> list[dict[str, Any]]:
    """Take messages off a queue."""
    sqs = cloud.client("sqs")
    found: list[dict[str, Any]] = sqs.receive_message(
        QueueUrl=url,
        WaitTimeSeconds=wait,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        AttributeNames=["All"],
    ).get("Messages", [])
    for message in found:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def restart(cloud: LocalCloud) -> None:
    """Kill and start again; what was delivered is forgotten a moment later, until then it would be delivered twice."""
    time.sleep(0.1)
    cloud.kill()
    cloud.start()
