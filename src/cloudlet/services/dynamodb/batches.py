"""Batches: many items in one request, each for itself."""

from __future__ import annotations

from typing import Any

from cloudlet.services.api import Call, Input, Output
from cloudlet.services.dynamodb import records, writing
from cloudlet.services.dynamodb.capacity import Usage
from cloudlet.services.dynamodb.errors import invalid, wrong_key
from cloudlet.services.dynamodb.expressions import Projection
from cloudlet.services.dynamodb.items import read_projection
from cloudlet.services.dynamodb.reading import Reading
from cloudlet.services.dynamodb.reporting import measured
from cloudlet.services.dynamodb.schema import Plan, fresh
from cloudlet.services.dynamodb.values import decode, encode
from cloudlet.services.dynamodb.writing import Outcome, Write
from cloudlet.store import Tx

_READ_AT_MOST = 100
_WRITTEN_AT_MOST = 25
_ANSWER = 16 * 1024 * 1024  # bytes of items that one answer holds
_SHORT = 25  # items that are read on the event loop


class Batches(Reading):
    """BatchGetItem and BatchWriteItem."""

    @measured
    async def BatchGetItem(self, call: Call, input: Input) -> Output:
        requests = input["RequestItems"]
        if sum(len(request["Keys"]) for request in requests.values()) > _READ_AT_MOST:
            raise invalid("Too many items requested for the BatchGetItem call")
        wanted: list[tuple[str, Plan, Projection | None, list[tuple[bytes, bytes]]]] = []
        for name, request in requests.items():
            projection = read_projection(request)
            plan = self._plan(call, name)
            places = [plan.find(key) for key in request["Keys"]]
            if len(set(places)) < len(places):
                raise invalid("Provided list of item keys contains duplicates")
            wanted.append((name, plan, projection, places))

        def read(tx: Tx) -> list[list[tuple[int, bytes] | None]]:
            """Each table's rows in the order of the keys, up to the size of an answer."""
            room = _ANSWER
            found = []
            for _, plan, _, places in wanted:
                rows: list[tuple[int, bytes] | None] = []
                for place in places:
                    row = tx.execute(records.GET, (plan.id, *place)).fetchone()
                    if row is not None and (room := room - row[0]) < 0:
                        break
                    rows.append(row)
                found.append(rows)
            return found

        short = sum(len(places) for *_, places in wanted) <= _SHORT
        tables = await (self._db.read if short else self._db.scan)(read)
        output: Output = {"Responses": {}, "UnprocessedKeys": {}}
        consumed = []
        for (name, plan, projection, _), rows in zip(wanted, tables, strict=True):
            request, usage = requests[name], Usage(plan)
            items: list[Any] = []
            for row in rows:
                usage.read(0 if row is None else row[0], request.get("ConsistentRead", False))
                if row is not None:
                    whole = projection is None
                    items.append(self._shown(call, row[1]) if whole else projection.project(decode(row[1])))  # type: ignore[union-attr]
            output["Responses"][name] = items
            if len(rows) < len(request["Keys"]):
                output["UnprocessedKeys"][name] = {**request, "Keys": request["Keys"][len(rows) :]}
            self.reporting.consumed(usage, "Read")
            if (shown := usage.shown(input)) is not None:
                consumed.append(shown)
        if consumed:
            output["ConsumedCapacity"] = consumed
        return output

    @measured
    async def BatchWriteItem(self, call: Call, input: Input) -> Output:
        requests = input["RequestItems"]
        if sum(map(len, requests.values())) > _WRITTEN_AT_MOST:
            raise invalid("Too many items requested for the BatchWriteItem call")
        writes: list[tuple[str, Write]] = []
        for name, asked in requests.items():
            for request in asked:
                _check_form(request)
            plan = self._plan(call, name)
            of_table = [_write_of(plan, request) for request in asked]
            if len({(write.hash, write.range) for write in of_table}) < len(of_table):
                raise invalid("Provided list of item keys contains duplicates")
            writes += [(name, write) for write in of_table]
        now = self.clock.now()

        def do(tx: Tx) -> list[Outcome | None]:
            return [_put_or_apply(tx, fresh(tx, self._tables, write.plan), write, now) for _, write in writes]

        outcomes = await self._db.write(do, long=any(write.plan.indexes for _, write in writes))
        for _, write in writes:
            self._written(write.plan, now, write.item)
        output: Output = {"UnprocessedItems": {}}
        usages = {name: Usage(write.plan) for name, write in writes}
        for (name, write), outcome in zip(writes, outcomes, strict=True):
            usages[name].write(outcome or Outcome(None, write.item, 0, write.size))
        for usage in usages.values():
            self.reporting.consumed(usage, "Write")
        if input.get("ReturnConsumedCapacity", "NONE") != "NONE":
            output["ConsumedCapacity"] = [usage.shown(input) for usage in usages.values()]
        if input.get("ReturnItemCollectionMetrics") == "SIZE":
            metrics: dict[str, Any] = {}
            for name, write in writes:
                if write.plan.local:
                    metrics.setdefault(name, []).append(await self._collection(write))
            output["ItemCollectionMetrics"] = metrics
        return output


def _put_or_apply(tx: Tx, plan: Plan, write: Write, now: float) -> Outcome | None:
    """A put into a table with nothing but items need not look at what was there."""
    if plan.plain and write.item is not None:
        tx.execute(records.PUT, (plan.id, write.hash, write.range, write.size, encode(write.item)))
        return None
    return write.apply(tx, plan, now)


def _check_form(request: dict[str, Any]) -> None:
    if len(request) != 1:
        given = "has more than one datatypes set" if request else "is empty"
        raise invalid(f"Supplied AttributeValue {given}, must contain exactly one of the supported datatypes")


def _write_of(plan: Plan, request: dict[str, Any]) -> Write:
    if "PutRequest" in request:
        item = request["PutRequest"]["Item"]
        if any(name not in item for name in plan.keys.names):
            raise wrong_key()  # PutItem names the key; a batch does not
        return writing.put_of(plan, item)
    return writing.delete_of(plan, request["DeleteRequest"]["Key"])
