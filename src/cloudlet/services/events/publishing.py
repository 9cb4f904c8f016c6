"""PutEvents: an event is matched, and stored once for each target in the transaction that acknowledges it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.observe import traces
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.events import records
from cloudlet.services.events.base import Base, Listeners, bus_arn, pattern_of, place_of
from cloudlet.services.events.errors import invalid
from cloudlet.services.events.records import DEFAULT, Archive, Job
from cloudlet.services.schedules.expressions import text
from cloudlet.store import Tx

LARGEST = 262_144  # bytes of a request's entries
DAY = 86_400.0
_decode = msgspec.json.Decoder().decode


class Publishing(Base):
    """Operations on events."""

    async def PutEvents(self, call: Call, input: Input) -> Output:
        if "EndpointId" in input:
            raise not_implemented("PutEvents with EndpointId")
        entries = input["Entries"]
        if sum(_size(entry) for entry in entries) > LARGEST:
            raise invalid("Total size of the entries in the request is over the limit.")
        now = self.clock.now()
        outcomes: list[dict[str, str]] = []
        accepted: list[tuple[str, dict[str, Any]]] = []
        headers: dict[str, str] = {}
        trace = traces.header_of(call)
        for entry in entries:
            try:
                detail = self._check(call, entry)
            except AwsError as error:
                outcomes.append({"ErrorCode": error.code, "ErrorMessage": error.message})
                continue
            account, region, bus = place_of(call, entry.get("EventBusName"))
            id = str(uuid.uuid4())
            outcomes.append({"EventId": id})
            headers[id] = entry.get("TraceHeader") or trace
            event = {
                "version": "0",
                "id": id,
                "detail-type": entry["DetailType"],
                "source": entry["Source"],
                "account": call.account,
                "time": text(entry.get("Time", now)),
                "region": region,
                "resources": entry.get("Resources", []),
                "detail": detail,
            }
            accepted.append((bus_arn(account, region, bus), event))
        await self._accept(accepted, headers=headers)
        failed = sum("ErrorCode" in outcome for outcome in outcomes)
        return {"FailedEntryCount": failed, "Entries": outcomes}

    def _check(self, call: Call, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry's detail. Raises the error that stands in the entry's outcome."""
        for name in ("Source", "DetailType", "Detail"):
            if not entry.get(name):
                reason = f"Parameter {name} is not valid. Reason: {name} is a required argument."
                raise AwsError("InvalidArgument", reason)
        # Only services may speak as AWS: those call each other inside this process.
        if entry["Source"].startswith("aws.") and not call.principal.endswith(".amazonaws.com"):
            raise AwsError("NotAuthorizedForSourceException", "Not authorized for the source.")
        try:
            detail = _decode(entry["Detail"])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            detail = None
        if not isinstance(detail, dict):
            raise AwsError("MalformedDetail", "Detail is malformed.")
        return detail

    async def _accept(
        self,
        events: list[tuple[str, dict[str, Any]]],
        only: frozenset[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Store events for the targets of the rules that match, and in archives; ``only`` names rules of a replay.

        ``headers`` are the traces that events belong to, by their ids.
        """
        rows: list[tuple[str, bytes]] = []
        kept: list[tuple[Archive, bytes]] = []
        now = self.clock.now()
        for bus, event in events:
            listeners = self._listeners.get(bus)
            if listeners is not None:
                body = records.pack(event)
                trace = headers.get(event["id"], "") if headers else ""
                rows += self._deliveries(listeners, event, body, now, only, trace)
                if "replay-name" not in event:
                    kept += [
                        (archive, body)
                        for archive, pattern in listeners.archives.values()
                        if pattern is None or pattern.matches(event)
                    ]
        if not rows and not kept:
            return
        add = self._outbox.add

        def store(tx: Tx) -> None:
            for target, payload in rows:
                add(tx, target, payload)
            for archive, body in kept:
                oldest = now - archive.days * DAY if archive.days else 0.0
                records.archive(tx, archive.number, now, body, oldest)

        await self._db.write(store)
        self._outbox.wake()

    def _deliveries(
        self,
        listeners: Listeners,
        event: dict[str, Any],
        body: bytes,
        now: float,
        only: frozenset[str] | None,
        trace: str,
    ) -> list[tuple[str, bytes]]:
        """The outbox's rows for an event: target and payload."""
        rows: list[tuple[str, bytes]] = []
        for rule, pattern, _ in listeners.of(event["source"]):
            if (only is None or rule.arn in only) and pattern.matches(event):
                self._reports.matched(rule)
                rows += [
                    (f"{rule.arn} {id}", records.pack(Job(rule.arn, id, msgspec.Raw(body), now, trace)))
                    for id in rule.targets
                ]
        return rows

    async def _pass_on(self, bus: str, event: dict[str, Any]) -> None:
        """Give an event of one bus to another. Raises ResourceNotFoundException."""
        _, _, _, region, account, resource = bus.split(":", 5)
        self._bus(Call(account, region), resource.removeprefix("event-bus/") or DEFAULT)
        if (event["account"], event["region"]) != (account, region):
            event = {**event, "id": str(uuid.uuid4())}  # in another account or region it is another event
        await self._accept([(bus, event)])

    async def TestEventPattern(self, call: Call, input: Input) -> Output:
        pattern = pattern_of(input["EventPattern"])
        try:
            event = _decode(input["Event"])
        except (msgspec.DecodeError, UnicodeError):
            event = None
        needed = ("id", "account", "source", "time", "region", "detail-type")
        if not isinstance(event, dict) or not all(name in event for name in needed):
            raise invalid("Parameter Event is not valid.")
        return {"Result": pattern.matches(event)}


def _size(entry: dict[str, Any]) -> int:
    """The bytes of an entry that count."""
    texts = [entry.get("Source", ""), entry.get("DetailType", ""), entry.get("Detail", ""), *entry.get("Resources", [])]
    return sum(len(part.encode()) for part in texts) + (14 if "Time" in entry else 0)
