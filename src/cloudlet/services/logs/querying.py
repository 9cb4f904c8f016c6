"""The operations of Logs Insights: a query runs off the event loop, and its outcome is kept for a week."""

from __future__ import annotations

import heapq
import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.logs import records
from cloudlet.services.logs.base import read_token
from cloudlet.services.logs.events import Events, event_id
from cloudlet.services.logs.formulas import QueryError, shown_time
from cloudlet.services.logs.insights import Query, compile_query
from cloudlet.services.logs.records import Event, Group
from cloudlet.services.logs.values import Row, text_of
from cloudlet.services.pages import token_of
from cloudlet.store import Tx

log = logging.getLogger("cloudlet.logs")

_CHUNK = 1000
_KEPT = 7 * 86_400_000
_GROUPS_AT_MOST = 50
_PAGE = 10_000


class Querying(Events):
    """Operations on queries."""

    async def start(self) -> None:
        await super().start()
        for id, scope, value in await self.db.read(records.running_queries):
            self.cloud.spawn(self._run(id, scope, json.loads(value)), f"logs query {id}")

    async def StartQuery(self, call: Call, input: Input) -> Output:
        if input.get("queryLanguage", "CWLI") != "CWLI":
            raise not_implemented(f"StartQuery with queryLanguage {input['queryLanguage']}")
        names = self._groups_of_query(call, input)
        if input["startTime"] > input["endTime"]:
            raise AwsError("InvalidParameterException", "End time should not be before the start time.")
        text, limit = input["queryString"], input.get("limit")
        _compiled(text, limit)
        id, now = str(uuid.uuid4()), self.now()
        asked = {"groups": names, "start": input["startTime"], "end": input["endTime"], "text": text, "limit": limit}
        await self.db.write(
            lambda tx: records.add_query(tx, id, call.scope, now, json.dumps(asked), before=now - _KEPT)
        )
        self.cloud.spawn(self._run(id, call.scope, asked), f"logs query {id}")
        return {"queryId": id}

    def _groups_of_query(self, call: Call, input: Input) -> list[str]:
        given = [name for name in ("logGroupName", "logGroupNames", "logGroupIdentifiers") if input.get(name)]
        if len(given) != 1:
            raise AwsError(
                "InvalidParameterException",
                "Exactly one of logGroupName, logGroupNames or logGroupIdentifiers must be specified.",
            )
        value = input[given[0]]
        names = [value] if isinstance(value, str) else value
        if len(names) > _GROUPS_AT_MOST:
            raise AwsError("InvalidParameterException", f"A query can have at most {_GROUPS_AT_MOST} log groups.")
        return [self.identified(call, name).name for name in names]

    async def _run(self, id: str, scope: str, asked: dict[str, Any]) -> None:
        """Run a query and store its outcome."""
        groups = [record.value for name in asked["groups"] if (record := self.groups.get(scope, name)) is not None]
        query = _compiled(asked["text"], asked["limit"])
        start, end = _milliseconds(asked["start"]), _milliseconds(asked["end"]) + 999
        scanned = {"recordsMatched": 0.0, "recordsScanned": 0.0, "bytesScanned": 0.0}
        account = scope.partition("/")[0]
        try:
            rows = await self.db.scan(
                lambda tx: query.run(_counted(_events(tx, account, groups, self.cutoff, start, end), scanned))
            )
            status = "Complete"
        except Exception:
            log.exception("query %s failed", id)
            rows, status = [], "Failed"
        scanned["recordsMatched"] = float(len(rows))
        outcome = {"statistics": scanned, "results": [_shown(query, row) for row in rows]}
        await self.db.write(lambda tx: records.end_query(tx, id, status, json.dumps(outcome)), long=True)

    async def GetQueryResults(self, call: Call, input: Input) -> Output:
        found = await self.db.read(lambda tx: records.query(tx, call.scope, input["queryId"]))
        if found is None:
            raise _no_such_query(input["queryId"])
        output: Output = {"queryLanguage": "CWLI", "status": found.status, "results": []}
        if found.outcome:
            outcome = json.loads(found.outcome)
            (skip,) = read_token(input["nextToken"], int) if "nextToken" in input else (0,)
            size = input.get("maxItems", _PAGE)
            output["results"], output["statistics"] = outcome["results"][skip : skip + size], outcome["statistics"]
            if len(outcome["results"]) > skip + size:
                output["nextToken"] = token_of(skip + size)
        else:
            output["statistics"] = {"recordsMatched": 0.0, "recordsScanned": 0.0, "bytesScanned": 0.0}
        return output

    async def StopQuery(self, call: Call, input: Input) -> Output:
        id = input["queryId"]

        def stop(tx: Tx) -> None:
            found = records.query(tx, call.scope, id)
            if found is None:
                raise _no_such_query(id)
            if found.status != "Running":
                raise AwsError("InvalidParameterException", f"Query with id {id} is not running.")
            records.end_query(tx, id, "Cancelled", "")

        await self.db.write(stop)
        return {"success": True}

    async def DescribeQueries(self, call: Call, input: Input) -> Output:
        after = read_token(input["nextToken"], int, str) if "nextToken" in input else (2**62, "")
        size = input.get("maxResults", 1000)
        found = await self.db.scan(
            lambda tx: records.queries(tx, call.scope, input.get("status", ""), (after[0], after[1]), size + 1)
        )
        name = input.get("logGroupName")
        shown = []
        for query in found[:size]:
            asked = json.loads(query.asked)
            if name in (None, *asked["groups"]):
                shown.append(
                    {
                        "queryLanguage": "CWLI",
                        "queryId": query.id,
                        "queryString": asked["text"],
                        "status": query.status,
                        "createTime": query.created,
                        "logGroupName": asked["groups"][0],
                    }
                )
        output: Output = {"queries": shown}
        if len(found) > size:
            output["nextToken"] = token_of(found[size - 1].created, found[size - 1].id)
        return output

    async def GetLogRecord(self, call: Call, input: Input) -> Output:
        volume, timestamp, id = read_token(input["logRecordPointer"], int, int, int)
        record = next((one for one in self.groups.list(call.scope) if one.value.volume == volume), None)
        event = await self.db.read(lambda tx: records.event(tx, volume, timestamp, id)) if record is not None else None
        if event is None or record is None:
            raise AwsError("ResourceNotFoundException", "The specified log record does not exist.")
        streams = await self.db.read(lambda tx: records.stream_names(tx, {event.stream}))
        row = _row(call.account, record.value, event, streams.get(event.stream, ""))
        return {"logRecord": {name: text_of(value) for name, value in row.items()}}


def _compiled(text: str, limit: int | None) -> Query:
    try:
        return compile_query(text, limit)
    except QueryError as error:
        raise AwsError("MalformedQueryException", f"{error}") from None


def _milliseconds(time: int) -> int:
    """Seconds, or milliseconds where nobody can mean seconds."""
    return time if time > 100_000_000_000 else time * 1000


def _events(tx: Tx, account: str, groups: list[Group], cutoff: Any, start: int, end: int) -> Iterator[Row]:
    """The events of groups, the newest first."""

    def of(group: Group) -> Iterator[tuple[tuple[int, int], Row]]:
        names: dict[int, str] = {}
        first, place = max(start, cutoff(group)), None
        while True:
            chunk = records.of_group(tx, group.volume, first, end + 1, place, True, _CHUNK)
            names |= records.stream_names(tx, {event.stream for event in chunk} - names.keys())
            for event in chunk:
                if event.stream in names:
                    yield (event.timestamp, event.id), _row(account, group, event, names[event.stream])
            if len(chunk) < _CHUNK:
                return
            place = chunk[-1][:2]

    merged = heapq.merge(*(of(group) for group in groups), key=lambda pair: pair[0], reverse=True)
    return (row for _, row in merged)


def _row(account: str, group: Group, event: Event, stream: str) -> Row:
    return Row(
        {
            "@timestamp": float(event.timestamp),
            "@ingestionTime": float(event.ingested),
            "@message": event.message,
            "@logStream": stream,
            "@log": f"{account}:{group.name}",
            "@ptr": token_of(group.volume, event.timestamp, event.id),
            "@eventId": event_id(event.timestamp, event.id),
        }
    )


def _counted(rows: Iterator[Row], scanned: dict[str, float]) -> Iterator[Row]:
    for row in rows:
        scanned["recordsScanned"] += 1
        scanned["bytesScanned"] += len(row["@message"])
        yield row


def _shown(query: Query, row: Row) -> list[dict[str, str]]:
    """A row as an answer shows it; an event carries the pointer to itself."""
    shown = []
    for name in query.shown:
        value = row.find(name)
        if value is None:
            continue
        if name in ("@timestamp", "@ingestionTime") and isinstance(value, float):
            value = shown_time(value)
        shown.append({"field": name, "value": text_of(value)})
    if not query.grouped:
        shown.append({"field": "@ptr", "value": row["@ptr"]})
    return shown


def _no_such_query(id: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"Query with id {id} does not exist.")
