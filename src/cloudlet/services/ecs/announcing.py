"""What EventBridge is told of tasks and deployments: written with the change, delivered at least once, in order.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_cwe_events.html
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from cloudlet.control.outbox import Delivery, Outbox, Undeliverable
from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.ecs.records import ServiceDeployment
from cloudlet.store import Database, Tx

_SELF = "ecs.amazonaws.com"
_EVENTS = "events"
_PAUSES = (1.0, 5.0, 30.0)
_GOOD, _BAD = ("SUCCESSFUL", "ROLLBACK_SUCCESSFUL"), ("STOPPED", "ROLLBACK_FAILED")


class Announcer:
    """Tells of changes, once there is an EventBridge that could have rules."""

    def __init__(self, cloud: Cloud, db: Database) -> None:
        self._cloud = cloud
        self._listening = False
        self._outbox = Outbox(db, cloud.clock, self._deliver, retries=_retries)

    async def start(self) -> None:
        """Deliver what an earlier run has left."""
        await self._outbox.start()

    async def stop(self) -> None:
        """Keep for the next run what is not delivered yet."""
        await self._outbox.stop()

    @property
    def is_heard(self) -> bool:
        """Whether anybody could listen."""
        self._listening = self._listening or _EVENTS in self._cloud.store.names()
        return self._listening

    def add(self, tx: Tx, kind: str, arn: str, detail: dict[str, Any], of: str = "") -> None:
        """Write an event about a resource in the transaction of its change; ``of`` is the resource it is filed under.

        ``wake`` is called after the transaction.
        """
        event = {"DetailType": kind, "Resources": [of or arn], "Detail": msgspec.json.encode(_timed(detail)).decode()}
        self._outbox.add(tx, _EVENTS, msgspec.json.encode(event), lane=arn)

    def wake(self) -> None:
        """Deliver what has been added, if anything has."""
        if self.is_heard:
            self._outbox.wake()

    async def _deliver(self, delivery: Delivery) -> None:
        event = msgspec.json.decode(delivery.payload)
        _, _, _, region, account, _ = event["Resources"][0].split(":", 5)
        entry = {"Source": "aws.ecs", "Time": delivery.added, **event}
        ask = {"Entries": [entry]}
        try:
            await self._cloud.call(_EVENTS, "PutEvents", ask, account=account, region=region, principal=_SELF)
        except AwsError as error:
            if error.code == "NotImplemented":
                raise Undeliverable(str(error)) from error
            raise


def news_of(old: ServiceDeployment | None, new: ServiceDeployment) -> list[dict[str, Any]]:
    """The details of the events that a deployment's change makes."""
    if old is not None and old.number == new.number and old.status == new.status:
        return []
    reason = new.reason or f"ECS deployment {new.target} "
    told: list[tuple[str, str, str]] = []
    if new.status in _GOOD:
        told = [("INFO", "COMPLETED", f"ECS deployment {new.rollback.get('to', new.target)} completed.")]
    elif new.status in _BAD:
        told = [("ERROR", "FAILED", new.reason or "ECS deployment was stopped.")]
    elif new.status == "ROLLBACK_IN_PROGRESS":
        back = f"ECS deployment {new.rollback['to']} in progress."
        told = [("ERROR", "FAILED", reason), ("INFO", "IN_PROGRESS", back)]
    elif new.status == "IN_PROGRESS" and (old is None or old.number != new.number):
        told = [("INFO", "IN_PROGRESS", f"ECS deployment {new.target} in progress.")]
    return [
        {
            "eventType": kind,
            "eventName": f"SERVICE_DEPLOYMENT_{name}",
            "deploymentId": new.target,
            "updatedAt": new.updated,
            "reason": words,
        }
        for kind, name, words in told
    ]


def _timed(value: Any) -> Any:
    """A document with moments as events have them."""
    if isinstance(value, dict):
        return {
            key: _iso(one) if key.endswith("At") and isinstance(one, float) else _timed(one)
            for key, one in value.items()
        }
    return [_timed(one) for one in value] if isinstance(value, list) else value


def _iso(moment: float) -> str:
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _retries(attempt: int, delivery: Delivery) -> float | None:
    return _PAUSES[attempt - 1] if attempt <= len(_PAUSES) else None
