"""Consumed capacity and item collections: what AWS would have counted."""

from __future__ import annotations

from typing import Any

from cloudlet.services.api import Input
from cloudlet.services.dynamodb.schema import IndexPlan, Plan
from cloudlet.services.dynamodb.values import Item, item_size
from cloudlet.services.dynamodb.writing import Outcome

_READ_BLOCK = 4096
_WRITE_BLOCK = 1024


class Usage:
    """The units that one request has taken from one table and its indexes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.table = 0.0
        self.indexes: dict[str, float] = {}

    def read(self, size: int, consistent: bool, factor: float = 1.0, index: IndexPlan | None = None) -> None:
        """Count a read of so many bytes: at least one block, half of it when it need not be consistent."""
        units = _blocks(size, _READ_BLOCK) * (1.0 if consistent else 0.5) * factor
        if index is None:
            self.table += units
        else:
            self.indexes[index.index.name] = self.indexes.get(index.index.name, 0.0) + units

    def write(self, outcome: Outcome, factor: float = 1.0) -> None:
        """Count a write by the larger of the item before and after, and what changes in the indexes."""
        self.table += _blocks(max(outcome.old_size, outcome.new_size), _WRITE_BLOCK) * factor
        for index in self.plan.indexes:
            if units := _index_units(index, outcome.old, outcome.new):
                self.indexes[index.index.name] = self.indexes.get(index.index.name, 0.0) + units * factor

    def shown(self, input: Input, kind: str = "") -> dict[str, Any] | None:
        """A ConsumedCapacity as the request wants it; ``kind`` (Read, Write) is told in transactions."""
        wanted = input.get("ReturnConsumedCapacity", "NONE")
        if wanted == "NONE":
            return None
        shown = {"TableName": self.plan.table.name, **_units(self.table + sum(self.indexes.values()), kind)}
        if wanted == "INDEXES":
            shown["Table"] = _units(self.table, kind)
            for name, scope in (("LocalSecondaryIndexes", False), ("GlobalSecondaryIndexes", True)):
                used = {
                    index.index.name: _units(self.indexes[index.index.name], kind)
                    for index in self.plan.indexes
                    if index.index.is_global == scope and index.index.name in self.indexes
                }
                if used:
                    shown[name] = used
        return shown


def _units(units: float, kind: str) -> dict[str, Any]:
    return {"CapacityUnits": units, f"{kind}CapacityUnits": units} if kind else {"CapacityUnits": units}


def _blocks(size: int, block: int) -> int:
    return max(1, -(-size // block))


def _index_units(index: IndexPlan, old: Item | None, new: Item | None) -> int:
    before = index.standing(old) if old is not None else None
    after = index.standing(new) if new is not None else None
    was = index.project(old) if before is not None and old is not None else None
    now = index.project(new) if after is not None and new is not None else None
    old_units = 0 if was is None else _blocks(item_size(was), _WRITE_BLOCK)
    new_units = 0 if now is None else _blocks(item_size(now), _WRITE_BLOCK)
    if before != after:
        return old_units + new_units
    return 0 if was == now else max(old_units, new_units)
