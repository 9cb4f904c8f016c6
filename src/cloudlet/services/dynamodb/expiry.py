"""Time to live: items go when their time is over, by one timer for the earliest of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cloudlet.control.clock import Timer
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.dynamodb import records, writing
from cloudlet.services.dynamodb.errors import invalid
from cloudlet.services.dynamodb.records import Table
from cloudlet.services.dynamodb.schema import Plan
from cloudlet.services.dynamodb.settings import Settings
from cloudlet.services.dynamodb.values import Item, decode
from cloudlet.store import Tx

_CHUNK = 100
_FAR_AWAY = 365 * 86400.0
_FIRST = "SELECT at FROM expiries ORDER BY at LIMIT 1"
_DUE = "SELECT at, id, hash, range FROM expiries WHERE at <= ? ORDER BY at LIMIT ?"
_SOME = "SELECT hash, range, item FROM items WHERE id = ? AND (hash, range) > (?, ?) ORDER BY hash, range LIMIT ?"


class Expiry(Settings):
    """The deletion of expired items. AWS takes up to some days for it; here it is done at once."""

    _timer: Timer | None

    async def start(self) -> None:
        await super().start()
        self._timer = None
        self._expiring = False
        with_expiry = [record for record in self._tables.all() if record.value.ttl]
        for record in with_expiry:
            if record.value.ttl_noting:
                await self._note_expiries(Plan(record))
        if with_expiry:
            await self._await_expiry()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await super().stop()

    async def UpdateTimeToLive(self, call: Call, input: Input) -> Output:
        plan = self._plan_named(call, input["TableName"])
        given = input["TimeToLiveSpecification"]
        attribute = given["AttributeName"]

        def update(table: Table) -> dict[str, Any]:
            if given["Enabled"] and table.ttl:
                raise invalid("TimeToLive is already enabled")
            if not given["Enabled"] and not table.ttl:
                raise invalid("TimeToLive is already disabled")
            if not given["Enabled"] and table.ttl != attribute:
                raise invalid(
                    "TimeToLive is active on a different AttributeName: current AttributeName is " + table.ttl
                )
            return {"ttl": attribute if given["Enabled"] else "", "ttl_noting": given["Enabled"]}

        await self._edit(plan, update)
        if given["Enabled"]:
            await self._note_expiries(plan)
        return {"TimeToLiveSpecification": given}

    async def DescribeTimeToLive(self, call: Call, input: Input) -> Output:
        ttl = self._plan_named(call, input["TableName"]).table.ttl
        if not ttl:
            return {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}
        return {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": ttl}}

    def _written(self, plan: Plan, now: float, new: Item | None) -> None:
        """What follows a write: an item may expire sooner than all others, and a stream has a record."""
        if plan.table.ttl and new is not None and (at := plan.expiry(new)) is not None and writing.expires(at, now):
            self._expire_at(at)
        if plan.table.stream_view:
            self._stream_changed(plan.table)

    def _expire_at(self, at: float) -> None:
        if self._expiring or (self._timer is not None and self._timer.when <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        # What is further away than timers reach is looked at again then.
        self._timer = self.clock.call_at(min(at, self.clock.now() + _FAR_AWAY), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._expiring = True
        self.cloud.spawn(self._expire(), "dynamodb expires items")

    async def _await_expiry(self) -> None:
        row = await self._db.read(lambda tx: tx.execute(_FIRST).fetchone())
        if row is not None:
            self._expire_at(row[0])

    async def _expire(self) -> None:
        """Delete what is due; what an expiry was noted for may have changed or gone since."""
        now = self.clock.now()
        plans = {record.value.id: record for record in self._tables.all()}

        def expire(tx: Tx) -> tuple[bool, Counter[int]]:
            rows = tx.execute(_DUE, (int(now), _CHUNK)).fetchall()
            gone: Counter[int] = Counter()
            for at, id, hash, range in rows:
                tx.execute(records.DELETE_EXPIRY, (at, id, hash, range))
                known = plans.get(id)
                record = None if known is None else self._tables.get(known.scope, known.name, tx)
                row = tx.execute(records.GET, (id, hash, range)).fetchone()
                if record is None or record.value.id != id or not record.value.ttl or row is None:
                    continue
                plan, old = Plan(record), decode(row[1])
                if (due := plan.expiry(old)) is not None and due <= now:
                    writing.store(tx, plan, hash, range, old, None, 0, now, by_service=True)
                    gone[id] += 1
            return len(rows) == _CHUNK, gone

        try:
            more = True
            while more:
                more, gone = await self._db.write(expire, long=True)
                for id, count in gone.items():
                    self.reporting.expired(plans[id].scope, plans[id].name, count)
                    self._stream_changed(plans[id].value)
        finally:
            self._expiring = False
        await self._await_expiry()

    async def _note_expiries(self, plan: Plan) -> None:
        """Find out when the items that are there expire."""
        after = (b"", b"")
        more = True
        while more:
            start = after

            def note(tx: Tx, start: tuple[bytes, bytes] = start) -> list[tuple[bytes, bytes, bytes]]:
                record = self._tables.get(plan.scope, plan.table.name, tx)
                if record is None or record.value.id != plan.id:
                    return []
                current, now = Plan(record), self.clock.now()
                rows = tx.execute(_SOME, (plan.id, *start, _CHUNK)).fetchall()
                for hash, range, body in rows:
                    at = current.expiry(decode(body))
                    if at is not None and writing.expires(at, now):
                        tx.execute(records.PUT_EXPIRY, (at, plan.id, hash, range))
                return rows

            rows = await self._db.write(note, long=True)
            more = len(rows) == _CHUNK
            if rows:
                after = rows[-1][0], rows[-1][1]
        await self._edit(plan, lambda table: {"ttl_noting": False})
        await self._await_expiry()
