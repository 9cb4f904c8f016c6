"""Trying again, and giving up: what rules and schedules have in common."""

from __future__ import annotations

import random

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.targets.requests import is_final

TRIES, AGE = 185, 86_400  # the most that a retry policy allows, and what is so without one
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 480.0
_DEAD_LETTER_PAUSE = 20.0


def pause_after(failed: int) -> float:
    """Seconds from a failed try to the next one: each twice the one before, about, so that 185 take a day."""
    return min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2.0 ** min(failed - 1, 20)) * random.uniform(0.8, 1.2)


async def bury(cloud: Cloud, queue: str, body: str, attributes: dict[str, str], principal: str) -> None:
    """Send a dead letter; tried until the queue takes it or is gone. Raises AwsError."""
    _, _, _, region, account, _ = queue.split(":", 5)
    input = {
        "QueueUrl": queue,
        "MessageBody": body,
        "MessageAttributes": {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
    }
    while True:
        try:
            await cloud.call("sqs", "SendMessage", input, account=account, region=region, principal=principal)
            return
        except AwsError as refused:
            if is_final(refused):
                raise
            await cloud.clock.sleep(_DEAD_LETTER_PAUSE)
