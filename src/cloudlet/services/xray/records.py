"""What X-Ray keeps: segments by their traces for 30 days, sampling rules and groups as resources."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from cloudlet.store import Tx

KEPT = 30 * 86_400.0  # seconds after a trace's last segment has come

Document = dict[str, Any]

MIGRATIONS = (
    """
    CREATE TABLE trace (
        scope TEXT NOT NULL, id TEXT NOT NULL, start REAL NOT NULL, finish REAL NOT NULL, touched REAL NOT NULL,
        PRIMARY KEY (scope, id)) WITHOUT ROWID;
    CREATE INDEX trace_by_start ON trace (scope, start);
    CREATE INDEX trace_by_finish ON trace (scope, finish);
    CREATE INDEX trace_by_touched ON trace (touched);
    CREATE TABLE segment (
        scope TEXT NOT NULL, trace TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (scope, trace, id)) WITHOUT ROWID;
    CREATE TABLE sampled (
        scope TEXT NOT NULL, rule TEXT NOT NULL, time INTEGER NOT NULL, requests INTEGER NOT NULL,
        borrowed INTEGER NOT NULL, sampled INTEGER NOT NULL, PRIMARY KEY (scope, rule, time)) WITHOUT ROWID;
    """,
)


class SamplingRule(msgspec.Struct, frozen=True):
    """``members`` are as GetSamplingRules shows them."""

    members: dict[str, Any]
    created: float
    modified: float
    tags: dict[str, str] = {}


class Group(msgspec.Struct, frozen=True):
    """A filter expression with a name."""

    id: str
    expression: str = ""
    insights: bool = False
    notifications: bool = False
    tags: dict[str, str] = {}


class Encryption(msgspec.Struct, frozen=True):
    """That somebody has set how traces are encrypted; there is but one way."""

    kind: str = "NONE"


class Segment(NamedTuple):
    """A segment, or a subsegment that came by itself, as a row."""

    scope: str
    trace: str
    id: str
    start: float
    finish: float
    document: str  # as JSON


def add(tx: Tx, segments: Iterable[Segment], now: float) -> None:
    """Store segments; one that was there already, in progress, is replaced."""
    for one in segments:
        tx.execute(
            "INSERT INTO trace VALUES (?, ?, ?, ?, ?) ON CONFLICT (scope, id) DO UPDATE SET "
            "start = min(start, excluded.start), finish = max(finish, excluded.finish), touched = excluded.touched",
            (one.scope, one.trace, one.start, one.finish, now),
        )
        row = one.scope, one.trace, one.id, one.document
        tx.execute("INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?)", row)


def traces_between(
    tx: Tx, scope: str, start: float, end: float, by_finish: bool, after: tuple[float, str], limit: int
) -> list[tuple[float, str]]:
    """(time, id) of the traces that began, or ended, in a stretch of time, beyond a place in it."""
    column = "finish" if by_finish else "start"
    return tx.execute(
        f"SELECT {column}, id FROM trace WHERE scope = ? AND {column} >= ? AND {column} <= ? "
        f"AND ({column}, id) > (?, ?) ORDER BY {column}, id LIMIT ?",
        (scope, start, end, *after, limit),
    ).fetchall()


def traces_in(tx: Tx, scope: str, start: float, end: float, limit: int) -> list[str]:
    """The ids of the traces that were under way in a stretch of time, the latest first."""
    rows = tx.execute(
        "SELECT id FROM trace WHERE scope = ? AND start <= ? AND finish >= ? ORDER BY start DESC LIMIT ?",
        (scope, end, start, limit),
    )
    return [row[0] for row in rows]


def documents(tx: Tx, scope: str, trace: str) -> list[Document]:
    """All segments of a trace, none where it is not known."""
    rows = tx.execute("SELECT document FROM segment WHERE scope = ? AND trace = ?", (scope, trace))
    return [json.loads(row[0]) for row in rows]


def oldest(tx: Tx) -> float | None:
    """When the trace was touched that has been left alone longest."""
    row = tx.execute("SELECT min(touched) FROM trace").fetchone()
    return float(row[0]) if row[0] is not None else None


def forget(tx: Tx, before: float, limit: int) -> bool:
    """Delete some of the traces that nobody has added to since; whether there may be more."""
    rows: Sequence[tuple[str, str]] = tx.execute(
        "SELECT scope, id FROM trace WHERE touched <= ? LIMIT ?", (before, limit)
    ).fetchall()
    tx.executemany("DELETE FROM segment WHERE scope = ? AND trace = ?", rows)
    tx.executemany("DELETE FROM trace WHERE scope = ? AND id = ?", rows)
    tx.execute("DELETE FROM sampled WHERE time <= ?", (int(before),))
    return len(rows) == limit


def count_sampled(tx: Tx, scope: str, rule: str, time: int, requests: int, borrowed: int, sampled: int) -> None:
    """Add to the statistics of a rule."""
    tx.execute(
        "INSERT INTO sampled VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (scope, rule, time) DO UPDATE SET "
        "requests = requests + excluded.requests, borrowed = borrowed + excluded.borrowed, "
        "sampled = sampled + excluded.sampled",
        (scope, rule, time, requests, borrowed, sampled),
    )


def sampling_statistics(tx: Tx, scope: str, since: int) -> list[tuple[str, int, int, int, int]]:
    """(rule, time, requests, borrowed, sampled) since then."""
    return tx.execute(
        "SELECT rule, time, requests, borrowed, sampled FROM sampled WHERE scope = ? AND time >= ? ORDER BY time, rule",
        (scope, since),
    ).fetchall()
