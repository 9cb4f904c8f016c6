"""What DynamoDB tells CloudWatch: capacity that was consumed, how long requests took, and which of them failed."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.observe.calls import stopwatch
from cloudlet.observe.metrics import Gauge, Metrics
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.dynamodb.records import Table
from cloudlet.store import Record, Resources

if TYPE_CHECKING:
    from cloudlet.services.dynamodb.base import Base
    from cloudlet.services.dynamodb.capacity import Usage
    from cloudlet.services.dynamodb.schema import Plan

NAMESPACE = "AWS/DynamoDB"
_NO_USERS_MISTAKE = ("ConditionalCheckFailedException", "TransactionCanceledException")


class Reporting:
    """Counts of all tables. Nothing is ever throttled here, so that ThrottledRequests is never counted."""

    def __init__(self, metrics: Metrics, tables: Resources[Table]) -> None:
        self._metrics = metrics
        self._tables = tables
        self._used: dict[str, set[str]] = {}  # scope -> tables used since the provisioned capacity was told
        metrics.gauge(self._measure)

    def consumed(self, usage: Usage, kind: str) -> None:
        """A request took capacity; ``kind`` is Read or Write. An index that is not global takes its table's."""
        plan = usage.plan
        name, units = f"Consumed{kind}CapacityUnits", usage.table
        for index, of_index in usage.indexes.items():
            if plan.index(index).index.is_global:
                whose = (("GlobalSecondaryIndexName", index), *plan.dimensions)
                self._metrics.add(plan.scope, NAMESPACE, name, whose, of_index, "Count")
            else:
                units += of_index
        if units:
            self._metrics.add(plan.scope, NAMESPACE, name, plan.dimensions, units, "Count")
        if plan.table.throughput:
            self._used.setdefault(plan.scope, set()).add(plan.table.name)

    def wrote_plainly(self, plan: Plan, size: int) -> None:
        """One item of this size was put into a table that has nothing but items."""
        units = float(max(1, -(-size // 1024)))
        self._metrics.add(plan.scope, NAMESPACE, "ConsumedWriteCapacityUnits", plan.dimensions, units, "Count")
        if plan.table.throughput:
            self._used.setdefault(plan.scope, set()).add(plan.table.name)

    def answered(self, call: Call, operation: str, table: str, output: Output, started: float) -> None:
        """An operation on a table succeeded."""
        whose = (("Operation", operation), ("TableName", table))
        # Tens of microseconds are enough to tell, and keep the different values few.
        took = round((stopwatch() - started) * 1e3, 2)
        self._metrics.add(call.scope, NAMESPACE, "SuccessfulRequestLatency", whose, took, "Milliseconds")
        if operation in ("Query", "Scan"):
            self._metrics.add(call.scope, NAMESPACE, "ReturnedItemCount", whose, output["Count"], "Count")

    def refused(self, call: Call, tables: list[str], error: AwsError) -> None:
        """An operation failed by what its request says, or by a condition."""
        if error.code not in _NO_USERS_MISTAKE:
            self._metrics.add(call.scope, NAMESPACE, "UserErrors", (), 1, "Count")
        elif error.code == "ConditionalCheckFailedException":
            for table in tables:
                whose = (("TableName", table),)
                self._metrics.add(call.scope, NAMESPACE, "ConditionalCheckFailedRequests", whose, 1, "Count")

    def expired(self, scope: str, table: str, count: int) -> None:
        """Items went because their time was over."""
        whose = (("TableName", table),)
        self._metrics.add(scope, NAMESPACE, "TimeToLiveDeletedItemCount", whose, count, "Count")

    async def _measure(self) -> list[Gauge]:
        """What is provisioned for the tables that were used in the last minute."""
        used, self._used = self._used, {}
        found = [self._tables.get(scope, name) for scope, names in used.items() for name in names]
        return [gauge for record in found if record is not None for gauge in _provisioned(record)]


def _provisioned(record: Record[Table]) -> list[Gauge]:
    table = record.value
    whose: list[tuple[tuple[tuple[str, str], ...], dict[str, int]]] = [((("TableName", table.name),), table.throughput)]
    whose += [
        ((("GlobalSecondaryIndexName", index.name), ("TableName", table.name)), index.throughput)
        for index in table.indexes
        if index.is_global
    ]
    return [
        Gauge(record.scope, NAMESPACE, f"Provisioned{kind}CapacityUnits", dimensions, "Count", units)
        for dimensions, throughput in whose
        for kind in ("Read", "Write")
        if (units := throughput.get(f"{kind}CapacityUnits"))
    ]


_Operation = Callable[[Any, Call, Input], Awaitable[Output]]


def measured(operation: _Operation) -> _Operation:
    """An operation on items that CloudWatch hears of. Raises what the operation raises."""
    name = operation.__name__

    @functools.wraps(operation)
    async def run(self: Base, call: Call, input: Input) -> Output:
        started = stopwatch()
        try:
            output = await operation(self, call, input)
        except AwsError as error:
            self.reporting.refused(call, _tables_of(input), error)
            raise
        if (table := input.get("TableName")) is not None:
            self.reporting.answered(call, name, _name_of(table), output, started)
        else:
            for table in _tables_of(input):
                self.reporting.answered(call, name, table, output, started)
        return output

    return run


def _tables_of(input: Input) -> list[str]:
    """The tables that a request names; one with statements names none."""
    if "TableName" in input:
        return [_name_of(input["TableName"])]
    if "RequestItems" in input:
        return [_name_of(name) for name in input["RequestItems"]]
    wanted: list[dict[str, str]] = [next(iter(item.values()), {}) for item in input.get("TransactItems", ())]
    return sorted({_name_of(one["TableName"]) for one in wanted if "TableName" in one})


def _name_of(table: str) -> str:
    return table.split("/")[1] if table.startswith("arn:") and "/" in table else table
