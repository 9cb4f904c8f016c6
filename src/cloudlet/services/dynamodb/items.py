"""Operations on single items."""

from __future__ import annotations

from typing import Any

from cloudlet.services.api import Call, Input, Output
from cloudlet.services.dynamodb import legacy, records, writing
from cloudlet.services.dynamodb.capacity import Usage
from cloudlet.services.dynamodb.errors import DETECTED, invalid
from cloudlet.services.dynamodb.expiry import Expiry
from cloudlet.services.dynamodb.expressions import Expressions, Predicate, Projection, refuse_mixture
from cloudlet.services.dynamodb.legacy import AttributeUpdates
from cloudlet.services.dynamodb.projections import compile_projection
from cloudlet.services.dynamodb.reporting import measured
from cloudlet.services.dynamodb.schema import Plan, fresh
from cloudlet.services.dynamodb.syntax import Path, Used
from cloudlet.services.dynamodb.updates import Update
from cloudlet.services.dynamodb.values import LARGEST_ITEM, Item, check_item, decode, empty_name, encode, too_large
from cloudlet.services.dynamodb.writing import Outcome, Write
from cloudlet.store import Tx

_COLLECTION = "SELECT coalesce(sum(size), 0) FROM items WHERE id = ? AND hash = ?"
_OLD_WAY = ("Expected", "ConditionalOperator")


class Items(Expiry):
    """Reading and writing one item."""

    @measured
    async def GetItem(self, call: Call, input: Input) -> Output:
        projection = read_projection(input) if len(input) > 2 else None
        plan = self._plan(call, input["TableName"])
        key = (plan.id, *plan.find(input["Key"]))
        row = await self._db.read(lambda tx: tx.execute(records.GET, key).fetchone())
        output: Output = {}
        if row is not None:
            output["Item"] = self._shown(call, row[1]) if projection is None else projection.project(decode(row[1]))
        usage = Usage(plan)
        usage.read(0 if row is None else row[0], input.get("ConsistentRead", False))
        self.reporting.consumed(usage, "Read")
        if "ReturnConsumedCapacity" in input and (consumed := usage.shown(input)) is not None:
            output["ConsumedCapacity"] = consumed
        return output

    @measured
    async def PutItem(self, call: Call, input: Input) -> Output:
        if len(input) == 2:
            return await self._put_simply(self._plan(call, input["TableName"]), input["Item"])
        with DETECTED:
            refuse_mixture(input, ("ConditionExpression",), _OLD_WAY)
            _check_return_values(input)
            check_item(input["Item"])
            expressions = Expressions(input, told=False)
            condition = read_condition(input, expressions)
            expressions.finish()
        plan = self._plan(call, input["TableName"])
        write = writing.put_of(plan, input["Item"])
        return await self._write(input, write, condition)

    async def _put_simply(self, plan: Plan, item: Item) -> Output:
        """A put of which nobody wants to hear anything: one statement where the table has nothing but items."""
        with DETECTED:
            size = check_item(item)
        if size > LARGEST_ITEM:
            raise too_large()
        hash, range = plan.place(item)
        if not plan.plain:
            return await self._write({}, writing.put_of(plan, item), None)
        row = (plan.id, hash, range, size, encode(item))
        now = self.clock.now

        def put(tx: Tx) -> None:
            if (current := fresh(tx, self._tables, plan)) is plan:
                tx.execute(records.PUT, row)
            else:
                writing.put_of(current, item).apply(tx, current, now())

        await self._db.write(put)
        self.reporting.wrote_plainly(plan, size)
        return {}

    @measured
    async def DeleteItem(self, call: Call, input: Input) -> Output:
        with DETECTED:
            refuse_mixture(input, ("ConditionExpression",), _OLD_WAY)
            _check_return_values(input)
            expressions = Expressions(input, told=False)
            condition = read_condition(input, expressions)
            expressions.finish()
        plan = self._plan(call, input["TableName"])
        return await self._write(input, writing.delete_of(plan, input["Key"]), condition)

    @measured
    async def UpdateItem(self, call: Call, input: Input) -> Output:
        update: Update | AttributeUpdates | None = None
        with DETECTED:
            refuse_mixture(input, ("UpdateExpression", "ConditionExpression"), ("AttributeUpdates", *_OLD_WAY))
            expressions = Expressions(input, told=False)
            if "UpdateExpression" in input:
                update = expressions.update(input["UpdateExpression"])
            elif "AttributeUpdates" in input:
                update = AttributeUpdates(input["AttributeUpdates"])
            condition = read_condition(input, expressions)
            expressions.finish()
        plan = self._plan(call, input["TableName"])
        write = writing.update_of(plan, input["Key"], update, expressions.values)
        return await self._write(input, write, condition)

    async def _write(self, input: Input, write: Write, condition: Predicate | None) -> Output:
        """Do a write and say of it what the request wants to hear."""
        plan, now = write.plan, self.clock.now()
        write.condition = condition
        write.shows_old = input.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"

        def do(tx: Tx) -> Outcome:
            return write.apply(tx, fresh(tx, self._tables, plan), now)

        outcome = await self._db.write(do)
        self._written(plan, now, outcome.new)
        usage = Usage(plan)
        usage.write(outcome)
        self.reporting.consumed(usage, "Write")
        output: Output = {}
        if input:
            attributes = _returned(input.get("ReturnValues", "NONE"), outcome, write)
            if attributes:
                output["Attributes"] = attributes
            if "ReturnConsumedCapacity" in input and (consumed := usage.shown(input)) is not None:
                output["ConsumedCapacity"] = consumed
            if input.get("ReturnItemCollectionMetrics") == "SIZE" and plan.local:
                output["ItemCollectionMetrics"] = await self._collection(write)
        return output

    async def _collection(self, write: Write) -> dict[str, Any]:
        """The collection that an item is in, with its size in gigabytes from one whole number to the next."""
        plan = write.plan
        part = plan.keys.hash
        (size,) = await self._db.scan(lambda tx: tx.execute(_COLLECTION, (plan.id, write.hash)).fetchone())
        low = float(size // 1024**3)
        key = write.item if write.item is not None else write.key
        return {"ItemCollectionKey": {part.name: key[part.name]}, "SizeEstimateRangeGB": [low, low + 1.0]}


def _returned(wanted: str, outcome: Outcome, write: Write) -> Item | None:
    match wanted:
        case "ALL_OLD":
            return outcome.old
        case "ALL_NEW":
            return outcome.new
        case "UPDATED_OLD" | "UPDATED_NEW":
            item = outcome.old if wanted == "UPDATED_OLD" else outcome.new
            if item is not None and write.update is not None:
                return compile_projection(write.update.paths)(item)
    return None


def _check_return_values(input: Input) -> None:
    if input.get("ReturnValues", "NONE") not in ("NONE", "ALL_OLD"):
        raise invalid("Return values set to invalid value")


def read_condition(input: Input, expressions: Expressions) -> Predicate | None:
    """A write's condition, said in either way, or None. Raises ValidationException."""
    if "ConditionExpression" in input:
        return expressions.predicate("ConditionExpression", input["ConditionExpression"])
    return legacy.expected(input)


def read_projection(input: Input) -> Projection | None:
    """What a read is to return, said in either way, or None for everything. Raises ValidationException."""
    refuse_mixture(input, ("ProjectionExpression",), ("AttributesToGet",))
    if "AttributesToGet" in input:
        return legacy_projection(input["AttributesToGet"])
    if "ProjectionExpression" not in input:
        return None
    expressions = Expressions(input)
    projection = expressions.projection(input["ProjectionExpression"])
    expressions.finish()
    return projection


def legacy_projection(names: list[str]) -> Projection:
    """``AttributesToGet`` as a projection. Raises ValidationException."""
    for name in names:
        if not name:
            raise empty_name()
        if names.count(name) > 1:
            raise invalid(f"One or more parameter values were invalid: Duplicate value in attribute name: {name}")
    paths = tuple(Path((name,)) for name in names)
    return Projection(compile_projection(paths), paths, Used())
