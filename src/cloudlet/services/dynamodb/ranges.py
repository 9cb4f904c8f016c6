"""Reads in the order of keys: which rows of a table or an index, as one indexed statement."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from cloudlet.services.dynamodb.keyconditions import Bounds
from cloudlet.store import Tx

_COLUMNS = {"items": ("hash", "range"), "entries": ("hash", "range", "item_hash", "item_range")}

Key = tuple[bytes, ...]
Row = tuple[Any, ...]  # the key's columns, then size and item


class Limit(NamedTuple):
    """An end of a range: the first columns of a key, itself included or not."""

    key: Key
    included: bool


class Range(NamedTuple):
    """Rows of one table or index, within one hash key or across all."""

    table: str  # items or entries
    id: int
    hash: bytes | None
    low: Limit | None = None
    high: Limit | None = None
    backwards: bool = False

    def after(self, key: Key) -> Range:
        """What is left of it after a row, in the direction of reading."""
        rest = Limit(key if self.hash is None else key[1:], False)
        return self._replace(high=rest) if self.backwards else self._replace(low=rest)

    def rows(self, tx: Tx, count: int) -> Any:
        """Up to ``count`` rows, one after the other."""
        parameters: list[Any] = [self.id]
        if self.hash is not None:
            parameters.append(self.hash)
        for limit in (self.low, self.high):
            if limit is not None:
                parameters += limit.key
        parameters.append(count)
        sql = _sql(self.table, self.hash is not None, _form(self.low), _form(self.high), self.backwards)
        return tx.execute(sql, parameters)


def _form(limit: Limit | None) -> tuple[int, bool] | None:
    return None if limit is None else (len(limit.key), limit.included)


@functools.cache
def _sql(
    table: str, one_hash: bool, low: tuple[int, bool] | None, high: tuple[int, bool] | None, backwards: bool
) -> str:
    columns = _COLUMNS[table]
    ordered = columns[1:] if one_hash else columns
    where = "id = ? AND hash = ?" if one_hash else "id = ?"
    for form, operator in ((low, ">"), (high, "<")):
        if form is not None:
            count, included = form
            names, marks = ", ".join(ordered[:count]), ", ".join("?" * count)
            left, right = (f"({names})", f"({marks})") if count > 1 else (names, marks)
            where += f" AND {left} {operator}{'=' if included else ''} {right}"
    order = ", ".join(f"{name} DESC" if backwards else name for name in ordered)
    return f"SELECT {', '.join(columns)}, size, item FROM {table} WHERE {where} ORDER BY {order} LIMIT ?"


def of_query(table: str, id: int, hash: bytes, bounds: Bounds, backwards: bool) -> Range:
    """The rows with a hash key whose range keys lie in some bounds."""
    low = None if bounds.low is None else Limit((bounds.low,), bounds.low_included)
    high = None if bounds.high is None else Limit((bounds.high,), bounds.high_included)
    return Range(table, id, hash, low, high, backwards)


def of_scan(table: str, id: int, segment: int, segments: int) -> Range:
    """One of so many equal parts of all rows: hash keys begin with two bytes of a checksum."""
    if segments == 1:
        return Range(table, id, None)
    first, end = -(-segment * 0x10000 // segments), -(-(segment + 1) * 0x10000 // segments)
    if first >= end:
        # More segments than checksums: this one has none.
        return Range(table, id, None, Limit((b"\xff\xff\xff",), True), Limit((b"",), False))
    low = Limit((first.to_bytes(2),), True)
    high = Limit((end.to_bytes(2),), False) if end < 0x10000 else None
    return Range(table, id, None, low, high)


def in_segment(hash: bytes, segment: int, segments: int) -> bool:
    """Whether a stored hash key belongs to a segment."""
    return int.from_bytes(hash[:2]) * segments // 0x10000 == segment
