"""Query and Scan: a page of a table or an index, with everything that a request may say about it."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.dynamodb import composites, keyconditions, legacy, ranges, records
from cloudlet.services.dynamodb.capacity import Usage
from cloudlet.services.dynamodb.errors import DETECTED, bad_parameter, invalid
from cloudlet.services.dynamodb.expressions import Expressions, Predicate, Projection, refuse_mixture
from cloudlet.services.dynamodb.items import Items, legacy_projection
from cloudlet.services.dynamodb.keyconditions import Bounds
from cloudlet.services.dynamodb.ranges import Range
from cloudlet.services.dynamodb.reporting import measured
from cloudlet.services.dynamodb.schema import IndexPlan, Plan
from cloudlet.services.dynamodb.values import Item, check_item, decode
from cloudlet.store import Tx

_PAGE = 1024 * 1024  # bytes that one page reads
_AT_ONCE = 64  # rows that are read on the event loop; a longer page is read beside it
_SMALL = 128 * 1024  # bytes of the same
_MANY = 1 << 30


class Page:
    """One page in the making."""

    def __init__(self, rows: Range, limit: int, test: Predicate | None, projection: Projection | None) -> None:
        self._rows = rows
        self._limit = limit
        self._test = test
        self._projection = projection
        self.wants_items = True
        self.base: Plan | None = None  # where the whole items are, when an index lacks some of what is wanted
        self.found: list[Any] = []
        self.passed = 0  # rows that met the filter
        self.scanned = 0
        self.size = 0
        self.fetched: list[int] = []  # sizes of the items that were fetched from the base table
        self.last: tuple[bytes, ...] | None = None
        self.last_body = b""
        self.complete = False
        self.stopped = False  # by the limit or the size, so that there may be more

    def advance(self, tx: Tx, count: int, most: int) -> None:
        """Read up to ``count`` more rows and about ``most`` bytes. Raises nothing that a client has caused."""
        rows = self._rows if self.last is None else self._rows.after(self.last)
        wanted = min(count, self._limit - self.scanned)
        read = taken = 0
        plain = self._test is None and self._projection is None and self.base is None
        for row in rows.rows(tx, wanted):
            size, body = row[-2], row[-1]
            if self.size + size > _PAGE and self.scanned:
                self.complete = self.stopped = True
                return
            read += 1
            taken += size
            self.scanned += 1
            self.size += size
            self.last, self.last_body = row[:-2], body
            if plain:
                self.passed += 1
                if self.wants_items:
                    self.found.append(body)
            else:
                self._take(tx, row)
            if taken >= most:
                return
        if self.scanned >= self._limit:
            self.complete = self.stopped = True
        elif read < wanted:
            self.complete = True

    def _take(self, tx: Tx, row: ranges.Row) -> None:
        body = row[-1]
        if self.base is not None:
            whole = tx.execute(records.GET, (self.base.id, row[2], row[3])).fetchone()
            if whole is None:
                return
            self.fetched.append(whole[0])
            body = whole[1]
        item = decode(body)
        if self._test is not None and not self._test(item):
            return
        self.passed += 1
        if self.wants_items:
            self.found.append(body if self._projection is None else self._projection.project(item))


class Reading(Items):
    """Query and Scan."""

    @measured
    async def Query(self, call: Call, input: Input) -> Output:
        backwards = not input.get("ScanIndexForward", True)
        old_way: tuple[str, ...] = ("AttributesToGet", "QueryFilter", "ConditionalOperator")
        if "KeyConditionExpression" in input:
            # The older conditions on keys go with expressions, only not with one on keys.
            old_way += ("KeyConditions",)
        refuse_mixture(input, ("ProjectionExpression", "FilterExpression", "KeyConditionExpression"), old_way)
        expressions = Expressions(input)
        if "KeyConditionExpression" in input:
            tree = expressions.condition("KeyConditionExpression", input["KeyConditionExpression"]).tree
        elif "KeyConditions" in input:
            tree = None
        else:
            raise invalid(
                "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."
            )
        test, filtered = _filter(input, expressions, "QueryFilter")
        projection = _projection(input, expressions)
        if "Select" in input:
            with DETECTED:
                _check_select(input, projection)
        expressions.finish()
        if tree is not None:
            conditions = keyconditions.from_expression(tree, expressions.values)
        else:
            conditions = keyconditions.from_legacy(legacy.read_conditions(input["KeyConditions"]))
        plan = self._plan(call, input["TableName"])
        index = _index(plan, input)
        keys = plan.keys if index is None else index.keys
        if keys.composite:
            hash, bounds = composites.resolve(conditions, keys)
        else:
            hash, bounds = keyconditions.resolve(conditions, keys.hash, keys.range)
        for name in filtered:
            if name in keys.names:
                word = "Filter Expression" if "FilterExpression" in input else "QueryFilter"
                raise invalid(f"{word} can only contain non-primary key attributes: Primary key attribute: {name}")
        where = "items" if index is None else "entries"
        rows = ranges.of_query(where, plan.id if index is None else index.id, hash, bounds, backwards)
        if "ExclusiveStartKey" in input:
            rows = rows.after(_start_of_query(plan, index, input["ExclusiveStartKey"], hash, bounds))
        return await self._read(call, input, plan, index, rows, test, projection)

    @measured
    async def Scan(self, call: Call, input: Input) -> Output:
        refuse_mixture(
            input,
            ("ProjectionExpression", "FilterExpression"),
            ("AttributesToGet", "ScanFilter", "ConditionalOperator"),
        )
        segment, segments = _segments(input)
        expressions = Expressions(input)
        test, _ = _filter(input, expressions, "ScanFilter")
        projection = _projection(input, expressions)
        if "Select" in input:
            _check_select(input, projection)
        expressions.finish()
        plan = self._plan(call, input["TableName"])
        index = _index(plan, input)
        where = "items" if index is None else "entries"
        rows = ranges.of_scan(where, plan.id if index is None else index.id, segment, segments)
        if "ExclusiveStartKey" in input:
            start = start_of(plan, index, input["ExclusiveStartKey"])
            if not ranges.in_segment(start[0], segment, segments):
                raise invalid(
                    "The provided starting key is invalid: Invalid ExclusiveStartKey. Please use "
                    "ExclusiveStartKey with correct Segment. "
                    f"TotalSegments: {segments} Segment: {segment}"
                )
            rows = rows.after(start)
        return await self._read(call, input, plan, index, rows, test, projection)

    async def _read(
        self,
        call: Call,
        input: Input,
        plan: Plan,
        index: IndexPlan | None,
        rows: Range,
        test: Predicate | None,
        projection: Projection | None,
    ) -> Output:
        """Read one page and answer with it."""
        page = Page(rows, input.get("Limit", _MANY), test, projection)
        if "Select" in input or index is not None:
            _select(page, input, plan, index, projection)
        await self._db.read(lambda tx: page.advance(tx, _AT_ONCE, _SMALL))
        while not page.complete:
            await self._db.scan(lambda tx: page.advance(tx, _MANY, _MANY))
        output: Output = {"Count": page.passed, "ScannedCount": page.scanned}
        if page.wants_items:
            if projection is None and call.request is not None:
                output["Items"] = [Raw(body) for body in page.found]
            else:
                output["Items"] = [decode(body) for body in page.found] if projection is None else page.found
        if page.stopped:
            last = decode(page.last_body)
            names = plan.keys.names if index is None else (*index.names, *plan.keys.names)
            output["LastEvaluatedKey"] = {name: last[name] for name in names}
        usage = Usage(plan)
        consistent = input.get("ConsistentRead", False)
        usage.read(page.size, consistent, index=index)
        for size in page.fetched:
            usage.read(size, consistent)
        self.reporting.consumed(usage, "Read")
        if "ReturnConsumedCapacity" in input and (consumed := usage.shown(input)) is not None:
            output["ConsumedCapacity"] = consumed
        return output


def _filter(input: Input, expressions: Expressions, name: str) -> tuple[Predicate | None, frozenset[str]]:
    """The filter, said in either way, and the attributes it looks at."""
    if "FilterExpression" in input:
        condition = expressions.condition("FilterExpression", input["FilterExpression"])
        return expressions.bind(condition), frozenset(str(path.parts[0]) for path in condition.used.paths)
    return legacy.filter_of(input, name)


def _projection(input: Input, expressions: Expressions) -> Projection | None:
    if "ProjectionExpression" in input:
        return expressions.projection(input["ProjectionExpression"])
    return legacy_projection(input["AttributesToGet"]) if "AttributesToGet" in input else None


def _index(plan: Plan, input: Input) -> IndexPlan | None:
    """The index that a request reads, or None. Raises ValidationException."""
    if "IndexName" not in input:
        return None
    index = plan.index(input["IndexName"])
    if index.index.building:
        raise invalid(f"Cannot read from backfilling global secondary index: {index.index.name}")
    if index.index.is_global and input.get("ConsistentRead"):
        raise invalid("Consistent reads are not supported on global secondary indexes")
    return index


def _check_select(input: Input, projection: Projection | None) -> None:
    """Whether Select goes with what else is said. Raises ValidationException."""
    select = input["Select"]
    given = "ProjectionExpression" if "ProjectionExpression" in input else "AttributesToGet"
    if projection is not None and select != "SPECIFIC_ATTRIBUTES":
        only = "only the Count" if select == "COUNT" else select
        raise invalid(f"Cannot specify the {given} when choosing to get {only}")
    if select == "SPECIFIC_ATTRIBUTES" and projection is None:
        raise invalid(
            "Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES"
        )
    if select == "ALL_PROJECTED_ATTRIBUTES" and "IndexName" not in input:
        raise invalid("ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName")


def _select(page: Page, input: Input, plan: Plan, index: IndexPlan | None, projection: Projection | None) -> None:
    """What of the items is wanted, and where it is. Raises ValidationException."""
    select = input.get("Select")
    page.wants_items = select != "COUNT"
    if index is None or index.projected is None:
        return
    projected = index.projected
    if select == "ALL_ATTRIBUTES":
        if index.index.is_global:
            raise bad_parameter(
                "Select type ALL_ATTRIBUTES is not supported for global secondary index "
                f"{index.index.name} because its projection type is not ALL"
            )
        page.base = plan
    elif projection is not None:
        lacking = [name for name in (str(path.parts[0]) for path in projection.paths) if name not in projected]
        if lacking and index.index.is_global:
            raise bad_parameter(f"Global secondary index {index.index.name} does not project [{', '.join(lacking)}]")
        page.base = plan if lacking else None


def _segments(input: Input) -> tuple[int, int]:
    segment, segments = input.get("Segment"), input.get("TotalSegments")
    if segment is None and segments is None:
        return 0, 1
    if segments is None:
        raise invalid(
            "The TotalSegments parameter is required but was not present in the request when Segment "
            "parameter is present"
        )
    if segment is None:
        raise invalid(
            "The Segment parameter is required but was not present in the request when parameter "
            "TotalSegments is present"
        )
    if segment >= segments:
        raise invalid(
            "The Segment parameter is zero-based and must be less than parameter TotalSegments: "
            f"Segment: {segment} is not less than TotalSegments: {segments}"
        )
    return segment, segments


def start_of(plan: Plan, index: IndexPlan | None, key: Item) -> tuple[bytes, ...]:
    """The row that an ExclusiveStartKey names. Raises ValidationException."""
    check_item(key)
    names = {*plan.keys.names, *(() if index is None else index.names)}
    if key.keys() != names:
        raise _bad_start()
    own = {name: key[name] for name in plan.keys.names}
    try:
        if index is None:
            return plan.find(own)
        place = index.place(key)
        item = plan.find(own)
    except AwsError as error:
        raise _bad_start() from error
    if place is None:
        raise _bad_start()
    return (*place, *item)


def _start_of_query(plan: Plan, index: IndexPlan | None, key: Item, hash: bytes, bounds: Bounds) -> tuple[bytes, ...]:
    """As ``start_of``, within what the query reads."""
    start = start_of(plan, index, key)
    if start[0] != hash:
        raise invalid("The provided starting key is outside query boundaries based on provided conditions")
    if not keyconditions.satisfies(bounds, start[1]):
        raise invalid("The provided starting key does not match the range key predicate")
    return start


def _bad_start() -> AwsError:
    return invalid("The provided starting key is invalid: The provided key element does not match the schema")
