"""Log events: written in batches, read along a stream, and searched in a group."""

from __future__ import annotations

import asyncio
import heapq
import re
from collections.abc import Callable, Iterator
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.logs import records
from cloudlet.services.logs.base import no_such_stream, read_token
from cloudlet.services.logs.filters import Filters
from cloudlet.services.logs.listening import Deliveries, Listener
from cloudlet.services.logs.patterns import compile_pattern
from cloudlet.services.logs.records import OVERHEAD, Event, Group, Place
from cloudlet.services.pages import token_of
from cloudlet.store import Tx

_BATCH_BYTES = 1_048_576
_DAY = 86_400_000
_TOO_OLD = 14 * _DAY
_TOO_NEW = 2 * 3_600_000
_EVENTS_AT_MOST = 10_000
_ANSWER_BYTES = 1_048_576
_LOOKED_AT = 50_000  # events that one search looks at before it answers with a token to go on
_CHUNK = 1000
_STREAMS_AT_MOST = 100
_MATCHED_HERE = 64  # a larger batch is matched against filters off the event loop
_TOKEN = re.compile(r"([fb])/(\d{28})(\d{28})/s")


class Events(Filters):
    """Operations on log events."""

    async def PutLogEvents(self, call: Call, input: Input) -> Output:
        scope, events = call.scope, input["logEvents"]
        group_name, stream_name = input["logGroupName"], input["logStreamName"]
        group = self.group(scope, group_name)
        size = _check_batch(events)
        events, rejected = self._accepted(group, events)
        if rejected:
            size = sum(_size(event["message"]) for event in events)
        listeners = self.listeners(scope, group_name)
        first = self.new_ids(len(events)) if events else 0
        deliveries: Deliveries = []
        if listeners and events:
            if len(events) > _MATCHED_HERE:
                deliveries = await asyncio.to_thread(_heard, listeners, call, input, events, first)
            else:
                deliveries = _heard(listeners, call, input, events, first)

        def put(tx: Tx) -> int:
            volume = self.group(scope, group_name, tx).volume
            stream = records.stream(tx, volume, stream_name)
            if stream is None:
                raise no_such_stream()
            if events:
                rows = [
                    (volume, event["timestamp"], id, stream.number, event["message"])
                    for id, event in enumerate(events, first)
                ]
                records.insert(tx, volume, stream, rows, size)
                for target, payload in deliveries:
                    self.outbox.add(tx, target, payload)
            return stream.newest

        newest = await self.db.write(put)
        if deliveries:
            self.outbox.wake()
        if events:
            self._report(call, group_name, len(events), size)
            if group.retention:
                self.expects(scope, group, events[0]["timestamp"])
            self.followers.tell(scope, group_name, stream_name, events)
            newest = first + len(events) - 1
        output: Output = {"nextSequenceToken": f"{newest:056d}"}
        if rejected:
            output["rejectedLogEventsInfo"] = rejected
        return output

    def _report(self, call: Call, group: str, count: int, size: int) -> None:
        """Tell CloudWatch what came."""
        dimensions = (("LogGroupName", group),)
        self.cloud.metrics.add(call.scope, "AWS/Logs", "IncomingLogEvents", dimensions, count, "None")
        self.cloud.metrics.add(call.scope, "AWS/Logs", "IncomingBytes", dimensions, size, "Bytes")

    def _accepted(self, group: Group, events: list[Any]) -> tuple[list[Any], Output]:
        """The events that are neither too old nor too new, and what is said of the others."""
        now = self.now()
        oldest, expired, latest = now - _TOO_OLD, self.cutoff(group), now + _TOO_NEW
        if events[0]["timestamp"] >= max(oldest, expired) and events[-1]["timestamp"] <= latest:
            return events, {}
        rejected: Output = {}
        start, end = 0, len(events)
        if too_old := sum(event["timestamp"] < oldest for event in events):
            rejected["tooOldLogEventEndIndex"] = start = too_old
        if gone := sum(oldest <= event["timestamp"] < expired for event in events):
            rejected["expiredLogEventEndIndex"] = start = start + gone
        if too_new := sum(event["timestamp"] > latest for event in events):
            rejected["tooNewLogEventStartIndex"] = end = end - too_new
        return events[start:end], rejected

    async def GetLogEvents(self, call: Call, input: Input) -> Output:
        group = self.group_of(call, input)
        limit = input.get("limit", _EVENTS_AT_MOST)
        start, end = max(input.get("startTime", 0), self.cutoff(group)), input.get("endTime", 2**62)
        if start > end:
            raise AwsError("InvalidParameterException", "startTime must be less than or equal to endTime.")
        backward, after = not input.get("startFromHead", False), None
        if token := input.get("nextToken"):
            match = _TOKEN.fullmatch(token)
            if match is None:
                raise AwsError("InvalidParameterException", "The specified nextToken is invalid.")
            backward, after = match[1] == "b", (int(match[2]), int(match[3]))

        def find(tx: Tx) -> list[Event]:
            stream = records.stream(tx, group.volume, input["logStreamName"])
            if stream is None:
                raise no_such_stream()
            return records.of_stream(tx, stream.number, start, end, after, backward, limit)

        found = _fitting(await self.db.scan(find))
        if backward:
            found.reverse()
        here = after or (start, 0)
        first, last = (found[0][:2], found[-1][:2]) if found else (here, here)
        return {
            "events": [
                {"timestamp": event.timestamp, "message": event.message, "ingestionTime": event.ingested}
                for event in found
            ],
            "nextForwardToken": f"f/{event_id(*last)}/s",
            "nextBackwardToken": f"b/{event_id(*first)}/s",
        }

    async def FilterLogEvents(self, call: Call, input: Input) -> Output:
        group = self.group_of(call, input)
        names, prefix = input.get("logStreamNames", []), input.get("logStreamNamePrefix", "")
        if names and prefix:
            raise AwsError(
                "InvalidParameterException",
                "You cannot specify both logStreamNames and logStreamNamePrefix in the same request.",
            )
        matches = compile_pattern(input.get("filterPattern", ""))
        limit = input.get("limit", _EVENTS_AT_MOST)
        start, end = max(input.get("startTime", 0), self.cutoff(group)), input.get("endTime", 2**62 - 1) + 1
        after, descending = None, not input.get("startFromHead", True)
        if token := input.get("nextToken"):
            timestamp, id, descending = read_token(token, int, int, bool)
            after = (timestamp, id)

        def search(tx: Tx) -> tuple[list[tuple[str, Event]], Place | None]:
            read = _reader(tx, group.volume, names, prefix, start, end, after, descending)
            known: dict[int, str] = {}
            found: list[tuple[str, Event]] = []
            size = 0
            for looked_at, event in enumerate(read, start=1):
                if event.stream not in known:
                    known[event.stream] = records.stream_names(tx, {event.stream}).get(event.stream, "")
                name = known[event.stream]
                if name and name.startswith(prefix) and matches(event.message) is not None:
                    found.append((name, event))
                    size += _size(event.message)
                if len(found) >= limit or size >= _ANSWER_BYTES or looked_at >= _LOOKED_AT:
                    return found, event[:2]
            return found, None

        found, place = await self.db.scan(search)
        output: Output = {
            "events": [
                {
                    "logStreamName": name,
                    "timestamp": event.timestamp,
                    "message": event.message,
                    "ingestionTime": event.ingested,
                    "eventId": event_id(event.timestamp, event.id),
                }
                for name, event in found
            ],
            "searchedLogStreams": [],
        }
        if place is not None:
            output["nextToken"] = token_of(*place, descending)
        return output


def _heard(listeners: list[Listener], call: Call, input: Input, events: list[Any], first: int) -> Deliveries:
    """What all listeners make of a batch."""
    return [one for listener in listeners for one in listener.deliveries(call, input, events, first)]


def _reader(
    tx: Tx, volume: int, names: list[str], prefix: str, start: int, end: int, after: Place | None, descending: bool
) -> Iterator[Event]:
    """Events in order: of the streams of these names, or of the group when streams are too many to be merged."""
    numbers: list[int] | None = None
    if names:
        numbers = []
        for name in names:
            if (stream := records.stream(tx, volume, name)) is None:
                raise no_such_stream()
            numbers.append(stream.number)
    elif prefix:
        streams = records.streams_by_name(tx, volume, prefix, None, False, _STREAMS_AT_MOST + 1)
        if len(streams) <= _STREAMS_AT_MOST:
            numbers = [stream.number for stream in streams]
    if numbers is None:
        return _walk(lambda place: records.of_group(tx, volume, start, end, place, descending, _CHUNK), after)

    def of(number: int) -> Iterator[Event]:
        return _walk(lambda place: records.of_stream(tx, number, start, end, place, descending, _CHUNK), after)

    return heapq.merge(*(of(number) for number in numbers), key=lambda event: event[:2], reverse=descending)


def _walk(read: Callable[[Place | None], list[Event]], place: Place | None) -> Iterator[Event]:
    """All events, read chunk by chunk."""
    while True:
        chunk = read(place)
        yield from chunk
        if len(chunk) < _CHUNK:
            return
        place = chunk[-1][:2]


def event_id(timestamp: int, id: int) -> str:
    """An event's id as clients see it, and the heart of tokens: its place."""
    return f"{timestamp:028d}{id:028d}"


def _size(message: str) -> int:
    return (len(message) if message.isascii() else len(message.encode())) + OVERHEAD


def _fitting(events: list[Event]) -> list[Event]:
    """As many events as an answer may hold, at least one."""
    size = 0
    for number, event in enumerate(events):
        size += _size(event.message)
        if size > _ANSWER_BYTES and number:
            return events[:number]
    return events


def _check_batch(events: list[Any]) -> int:
    """The size of a batch. Raises InvalidParameterException when it may not be stored."""
    size, before = 0, 0
    for event in events:
        size += _size(event["message"])
        if event["timestamp"] < before:
            raise AwsError(
                "InvalidParameterException",
                "Log events in a single PutLogEvents request must be in chronological order.",
            )
        before = event["timestamp"]
    if size > _BATCH_BYTES:
        raise AwsError("InvalidParameterException", f"Upload too large: {size} bytes exceeds limit of {_BATCH_BYTES}")
    if events[-1]["timestamp"] - events[0]["timestamp"] > _DAY:
        raise AwsError(
            "InvalidParameterException",
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        )
    return size
