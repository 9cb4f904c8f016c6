"""SQS. Queues and their attributes are in ``queues.py``, messages in ``delivery.py``, move tasks in ``moving.py``."""

from __future__ import annotations

from cloudlet.services.api import Tagged, tags_in
from cloudlet.services.sqs.delivery import Delivery
from cloudlet.services.sqs.moving import Moving


class Service(Moving, Delivery):
    """Standard and FIFO queues: what is in flight, delayed or deduplicated is in the store, never in memory."""

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {
                "type": "AWS::SQS::Queue",
                "name": record.name,
                "arn": record.value.arn,
                "endpoint": f"{self.cloud.endpoint}/{account}/{record.name}",
            }
            for record in self._queues.list(f"{account}/{region}")
        ]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self._queues)
