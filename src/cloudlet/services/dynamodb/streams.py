"""Streams: what is written with an item, and what their readers see of it."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any, TypedDict

import msgspec
from msgspec.structs import replace

from cloudlet.control.clock import Timer
from cloudlet.services.dynamodb import definitions, records
from cloudlet.services.dynamodb.base import Base, place_of
from cloudlet.services.dynamodb.errors import invalid
from cloudlet.services.dynamodb.records import Stream, Table
from cloudlet.services.dynamodb.schema import Plan, table_arn
from cloudlet.services.dynamodb.values import AttributeValue, Item, encode, item_size
from cloudlet.store import Record, Tx

RETENTION = 24 * 3600.0
_CHUNK = 500
_TRIM_PAUSE = 60.0  # seconds between two trimmings while records grow old one after the other
_NUMBER_BASE = 10**20  # sequence numbers have 21 digits

_NEWEST = "SELECT max(sequence) FROM changes WHERE id = ?"
_APPEND = "INSERT INTO changes VALUES (?, ?, ?)"
_AFTER = "SELECT sequence, record FROM changes WHERE id = ? AND sequence > ? ORDER BY sequence LIMIT ?"
_ANY_AFTER = "SELECT 1 FROM changes WHERE id = ? AND sequence > ? LIMIT 1"
_OLDEST = "SELECT min(sequence) FROM changes WHERE id = ?"
_TRIM = (
    "DELETE FROM changes WHERE (id, sequence) IN "
    "(SELECT id, sequence FROM changes WHERE id = ? AND sequence < ? ORDER BY sequence LIMIT ?)"
)


class _Change(TypedDict, total=False):
    ApproximateCreationDateTime: int
    Keys: dict[str, AttributeValue]
    NewImage: dict[str, AttributeValue]
    OldImage: dict[str, AttributeValue]
    SequenceNumber: str
    SizeBytes: int
    StreamViewType: str


class _Record(TypedDict, total=False):
    eventID: str
    eventName: str
    eventVersion: str
    eventSource: str
    awsRegion: str
    dynamodb: _Change
    userIdentity: dict[str, str]


decode_record: Any = msgspec.json.Decoder(_Record).decode


def number_of(sequence: int) -> str:
    """A sequence number as clients see it."""
    return str(_NUMBER_BASE + sequence)


def sequence_of(number: str) -> int:
    """The stored sequence of a client's number. Raises ValueError."""
    return int(number) - _NUMBER_BASE


def append(
    tx: Tx, plan: Plan, key: Item, old: Item | None, new: Item | None, now: float, by_service: bool = False
) -> None:
    """Write the record of an item's change; what changes nothing leaves none."""
    table = plan.table
    if old == new:
        return
    (newest,) = tx.execute(_NEWEST, (table.stream_id,)).fetchone()
    sequence = max(int(now * 1e6), (newest or 0) + 1)
    change: dict[str, Any] = {"ApproximateCreationDateTime": int(now), "Keys": key}
    if new is not None and table.stream_view in ("NEW_IMAGE", "NEW_AND_OLD_IMAGES"):
        change["NewImage"] = new
    if old is not None and table.stream_view in ("OLD_IMAGE", "NEW_AND_OLD_IMAGES"):
        change["OldImage"] = old
    size = sum(item_size(change[part]) for part in ("Keys", "NewImage", "OldImage") if part in change)
    change |= {"SequenceNumber": number_of(sequence), "SizeBytes": size, "StreamViewType": table.stream_view}
    record: dict[str, Any] = {
        "eventID": f"{random.getrandbits(128):032x}",
        "eventName": "INSERT" if old is None else "REMOVE" if new is None else "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": plan.scope.partition("/")[2],
        "dynamodb": change,
    }
    if by_service:
        record["userIdentity"] = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
    tx.execute(_APPEND, (table.stream_id, sequence, encode(record)))


class Streams(Base):
    """The streams of all tables. One shard each: numbers grow within it, and it closes with its stream."""

    async def start(self) -> None:
        await super().start()
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._trimming: Timer | None = None
        if self._streams.all():
            self._trim_at(self.clock.now() + _TRIM_PAUSE)

    async def stop(self) -> None:
        if self._trimming is not None:
            self._trimming.cancel()
        await super().stop()

    async def stream(self, arn: str) -> Stream | None:
        """A stream, or None when there is none of that ARN or it is no longer kept."""
        scope, _ = place_of(arn)
        record = self._streams.get(scope, arn)
        if record is None or (record.value.closed and record.value.closed + RETENTION <= self.clock.now()):
            return None
        return record.value

    def streams_of(self, scope: str, table: str = "") -> list[Stream]:
        """The streams of a scope, or those of one table there."""
        dropped = self.clock.now() - RETENTION
        return [
            record.value
            for record in self._streams.list(scope)
            if (not table or record.value.table == table) and not 0 < record.value.closed <= dropped
        ]

    async def changes(self, stream: Stream, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to ``limit`` records after a sequence that are not older than a day."""
        after = max(after, self.horizon())
        return await self._db.read(lambda tx: tx.execute(_AFTER, (stream.id, after, limit)).fetchall())

    async def newest(self, stream: Stream) -> int:
        """The sequence of the latest record, or one before all that are to come."""
        (newest,) = await self._db.read(lambda tx: tx.execute(_NEWEST, (stream.id,)).fetchone())
        return int(newest or stream.first - 1)

    def horizon(self) -> int:
        """Records up to this sequence are no longer seen."""
        return int((self.clock.now() - RETENTION) * 1e6)

    async def latest_positions(self, arn: str) -> dict[str, str]:
        """The sequence number in each shard after which everything is new."""
        stream = await self.stream(arn)
        return {} if stream is None else {shard_of(stream): number_of(await self.newest(stream))}

    async def wait_for_change(self, arn: str, after: str | None) -> None:
        """Return once a stream has a record after a sequence number, or changes itself."""
        scope, _ = place_of(arn)
        record = self._streams.get(scope, arn)
        start = sequence_of(after) if after else 0
        if record is not None:
            id = record.value.id
            if await self._db.read(lambda tx: tx.execute(_ANY_AFTER, (id, start)).fetchone()) is not None:
                return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.setdefault(arn, set())
        waiters.add(waiter)
        try:
            await waiter
        finally:
            waiters.discard(waiter)
            if not waiters and self._waiting.get(arn) is waiters:
                del self._waiting[arn]

    def _stream_changed(self, table: Table) -> None:
        """Wake those who wait for a table's stream, and see that its records go when they are old."""
        if not table.stream:
            return
        for waiter in self._waiting.get(table.stream, ()):
            if not waiter.done():
                waiter.set_result(None)
        if self._trimming is None:
            self._trim_at(self.clock.now() + _TRIM_PAUSE)

    def _open_stream(self, tx: Tx, scope: str, table: Table, view: str, now: float) -> Table:
        label = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        arn = f"{table_arn(scope, table.name)}/stream/{label}"
        while self._streams.get(scope, arn, tx) is not None:
            # Two streams of one millisecond.
            now += 0.001
            label = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
            arn = f"{table_arn(scope, table.name)}/stream/{label}"
        stream = Stream(records.new_id(tx), arn, table.name, label, view, table.keys, now, int(now * 1e6))
        self._streams.put(tx, scope, arn, stream)
        return replace(table, stream=arn, stream_id=stream.id, stream_view=view)

    def _close_stream(self, tx: Tx, scope: str, table: Table, now: float) -> Table:
        record = self._streams.get(scope, table.stream, tx)
        if record is not None:
            (newest,) = tx.execute(_NEWEST, (record.value.id,)).fetchone()
            last = max(newest or 0, record.value.first)
            self._streams.put(tx, scope, table.stream, replace(record.value, closed=now, last=last))
        return replace(table, stream_view="")

    def _switch_stream(self, tx: Tx, scope: str, table: Table, given: dict[str, Any], now: float) -> Table:
        view = definitions.stream_view(given)
        if view:
            if table.stream_view:
                raise invalid("Table already has an enabled stream: TableName: " + table.name)
            return self._open_stream(tx, scope, table, view, now)
        if not table.stream_view:
            raise invalid("Table has no stream to disable: TableName: " + table.name)
        return self._close_stream(tx, scope, table, now)

    def _trim_at(self, when: float) -> None:
        self._trimming = self.clock.call_at(when, lambda: self.cloud.spawn(self._trim(), "dynamodb trims streams"))

    async def _trim(self) -> None:
        """Delete what is older than a day, and come back when the next record will be."""
        due = [at for record in self._streams.all() if (at := await self._trim_one(record)) is not None]
        self._trimming = None
        if due:
            self._trim_at(max(min(due), self.clock.now() + _TRIM_PAUSE))

    async def _trim_one(self, record: Record[Stream]) -> float | None:
        """Trim one stream; when it has something old again, or None. A closed one goes with its last record."""
        stream, horizon = record.value, self.horizon()
        while (oldest := await self._db.read(lambda tx: _oldest(tx, stream))) is not None and oldest < horizon:
            await self._db.write(lambda tx: tx.execute(_TRIM, (stream.id, horizon, _CHUNK)).rowcount, long=True)
        if oldest is not None:
            return oldest / 1e6 + RETENTION
        if not stream.closed:
            return None
        if stream.closed + RETENTION > self.clock.now():
            return stream.closed + RETENTION
        await self._db.write(lambda tx: self._streams.delete(tx, record.scope, record.name))
        return None


def shard_of(stream: Stream) -> str:
    """The id of a stream's one shard."""
    return f"shardId-{stream.first:020d}-{stream.id:08x}"


def _oldest(tx: Tx, stream: Stream) -> int | None:
    (oldest,) = tx.execute(_OLDEST, (stream.id,)).fetchone()
    return None if oldest is None else int(oldest)
