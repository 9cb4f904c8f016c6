"""Status changes of executions, told to EventBridge: written with the change, delivered at least once."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.control.outbox import Delivery, Outbox, Undeliverable
from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.stepfunctions.records import Execution
from cloudlet.store import Database, Tx

_SELF = "states.amazonaws.com"
_EVENTS = "events"
_PAUSES = (1.0, 5.0, 30.0)
_LARGEST = 248 * 1024  # bytes of input and output that an event still has


class Announcer:
    """Tells of executions, once there is an EventBridge that could have rules."""

    def __init__(self, cloud: Cloud, db: Database) -> None:
        self._cloud = cloud
        self._listening = False
        self.outbox = Outbox(db, cloud.clock, self._deliver, retries=_retries)

    def change(self, body: Execution, name: str, status: str, started: float, stopped: float | None) -> bytes | None:
        """The event of a change; None while nobody can listen."""
        self._listening = self._listening or _EVENTS in self._cloud.store.names()
        if not self._listening:
            return None
        detail: dict[str, Any] = {
            "executionArn": body.arn,
            "stateMachineArn": body.machine_arn,
            "name": name,
            "status": status,
            "startDate": int(started * 1000),
            "stopDate": int(stopped * 1000) if stopped is not None else None,
            **_data("input", body.input),
            **_data("output", body.output if status == "SUCCEEDED" else None),
            "stateMachineVersionArn": body.version_arn or None,
            "stateMachineAliasArn": body.alias_arn or None,
            "redriveCount": body.redrives,
            "redriveDate": int(body.redriven * 1000) if body.redrives else None,
            "error": body.error,
            "cause": body.cause,
        }
        return msgspec.json.encode(detail)

    def add(self, tx: Tx, change: bytes) -> None:
        """Write an event in the transaction of its change; ``outbox.wake`` is called after it."""
        self.outbox.add(tx, _EVENTS, change)

    async def _deliver(self, delivery: Delivery) -> None:
        detail = msgspec.json.decode(delivery.payload)
        arn = detail["executionArn"]
        entry = {
            "Source": "aws.states",
            "DetailType": "Step Functions Execution Status Change",
            "Resources": [arn],
            "Detail": delivery.payload.decode(),
            "Time": delivery.added,
        }
        _, _, _, region, account, _ = arn.split(":", 5)
        try:
            await self._cloud.call(
                _EVENTS, "PutEvents", {"Entries": [entry]}, account=account, region=region, principal=_SELF
            )
        except AwsError as error:
            if error.code == "NotImplemented":
                raise Undeliverable(str(error)) from error
            raise


def _retries(attempt: int, delivery: Delivery) -> float | None:
    return _PAUSES[attempt - 1] if attempt <= len(_PAUSES) else None


def _data(name: str, value: str | None) -> dict[str, Any]:
    """An input or output, left out when it would make the event too large."""
    if value is None:
        return {name: None, f"{name}Details": None}
    included = len(value) <= _LARGEST // 2
    return {name: value if included else None, f"{name}Details": {"included": included}}
