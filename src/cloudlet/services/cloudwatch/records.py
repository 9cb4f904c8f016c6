"""What CloudWatch keeps: points of series, contributions and the history of alarms in tables, the rest as resources.

A point is the summary of a second (high resolution), a minute, five minutes or an hour. Points grow coarser with age
and are deleted in the end, as AWS does it: what is stored is bounded by the number of metrics, not of values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from cloudlet.control.outbox import Outbox
from cloudlet.services.cloudwatch.statistics import Summary, unpack
from cloudlet.store import Tx

_DAY = 86_400
# Resolution in seconds -> how long its points are kept, and the resolution into which they go then.
AGES = {1: (10_800, 60), 60: (15 * _DAY, 300), 300: (63 * _DAY, 3600), 3600: (455 * _DAY, 0)}
_CONTRIBUTIONS_KEPT = 15 * _DAY
_HISTORY_KEPT = 30 * _DAY
_FORGOTTEN_AT_ONCE = 20  # so that the table shrinks while each write stays short

MIGRATIONS = (
    """
    CREATE TABLE series (
        number INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        dimensions TEXT NOT NULL, last INTEGER NOT NULL);
    CREATE UNIQUE INDEX series_by_name ON series (scope, namespace, name, dimensions);
    CREATE TABLE point (
        series INTEGER NOT NULL, time INTEGER NOT NULL, resolution INTEGER NOT NULL, unit TEXT NOT NULL,
        count REAL NOT NULL, sum REAL NOT NULL, least REAL NOT NULL, greatest REAL NOT NULL, packed BLOB,
        PRIMARY KEY (series, time, resolution, unit)) WITHOUT ROWID;
    CREATE INDEX point_by_age ON point (resolution, time);
    CREATE TABLE history (
        number INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, alarm TEXT NOT NULL, kind TEXT NOT NULL,
        time REAL NOT NULL, item TEXT NOT NULL, summary TEXT NOT NULL, data TEXT NOT NULL);
    CREATE INDEX history_by_alarm ON history (scope, alarm, number);
    CREATE INDEX history_by_time ON history (time);
    """,
    Outbox.MIGRATION,
    """
    CREATE TABLE contribution (
        scope TEXT NOT NULL, rule TEXT NOT NULL, time INTEGER NOT NULL, keys TEXT NOT NULL,
        count REAL NOT NULL, sum REAL NOT NULL, least REAL NOT NULL, greatest REAL NOT NULL,
        PRIMARY KEY (scope, rule, time, keys)) WITHOUT ROWID;
    CREATE INDEX contribution_by_time ON contribution (time);
    """,
)


class Alarm(msgspec.Struct, frozen=True, omit_defaults=True):
    """An alarm: ``members`` are as DescribeAlarms shows them."""

    members: dict[str, Any]
    composite: bool = False
    tags: dict[str, str] = {}


class Dashboard(msgspec.Struct, frozen=True):
    """A dashboard: a document that the console shows."""

    body: str
    modified: float
    tags: dict[str, str] = {}


class InsightRule(msgspec.Struct, frozen=True):
    """A rule of Contributor Insights; ``definition`` is the JSON that it was given."""

    definition: str
    state: str
    tags: dict[str, str] = {}


class AnomalyDetector(msgspec.Struct, frozen=True, omit_defaults=True):
    """A detector; ``members`` say what it is of, as DescribeAnomalyDetectors shows it, and name it."""

    id: str
    members: dict[str, Any]
    configuration: dict[str, Any] = {}
    characteristics: dict[str, Any] = {}


class Metric(NamedTuple):
    """What a series is of. ``dimensions`` are sorted by name."""

    scope: str
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """How it is found in the table."""
        return self.scope, self.namespace, self.name, json.dumps(self.dimensions, separators=(",", ":"))


class Datum(NamedTuple):
    """Values to be stored. ``time`` is the start of its stretch of ``resolution`` seconds."""

    metric: Metric
    time: int
    resolution: int
    unit: str
    summary: Summary


class Point(NamedTuple):
    """A stored summary."""

    time: int
    resolution: int
    unit: str
    summary: Summary


class Contribution(NamedTuple):
    """What one contributor of a rule has added in a minute."""

    time: int
    keys: tuple[str, ...]
    summary: Summary


def add(tx: Tx, data: Iterable[Datum]) -> None:
    """Add values to the points of their stretches."""
    for datum in data:
        number = tx.execute(
            "SELECT number FROM series WHERE scope = ? AND namespace = ? AND name = ? AND dimensions = ?",
            key := datum.metric.key,
        ).fetchone()
        if number is None:
            number = tx.execute(
                "INSERT INTO series (scope, namespace, name, dimensions, last) VALUES (?, ?, ?, ?, 0) RETURNING number",
                key,
            ).fetchone()
        if _put(tx, number[0], datum.time, datum.resolution, datum.unit, datum.summary):
            tx.execute("UPDATE series SET last = max(last, ?) WHERE number = ?", (datum.time, number[0]))


def _put(tx: Tx, number: int, time: int, resolution: int, unit: str, summary: Summary) -> bool:
    """Add a summary to a point; whether the point is new."""
    row = tx.execute(
        "SELECT count, sum, least, greatest, packed FROM point WHERE series = ? AND time = ? AND resolution = ? "
        "AND unit = ?",
        (number, time, resolution, unit),
    ).fetchone()
    if row is not None:
        merged = _summary(row)
        merged.add(summary)
        summary = merged
    tx.execute(
        "INSERT OR REPLACE INTO point VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (number, time, resolution, unit, summary.count, summary.sum, summary.least, summary.greatest, summary.pack()),
    )
    return row is None


def _summary(row: Sequence[Any]) -> Summary:
    return Summary(row[0], row[1], row[2], row[3], unpack(row[4]))


def read(tx: Tx, metric: Metric, start: int, end: int, unit: str | None) -> list[Point]:
    """A metric's points with ``start <= time < end``, of one unit or of all."""
    number = tx.execute(
        "SELECT number FROM series WHERE scope = ? AND namespace = ? AND name = ? AND dimensions = ?", metric.key
    ).fetchone()
    if number is None:
        return []
    rows = tx.execute(
        "SELECT time, resolution, unit, count, sum, least, greatest, packed FROM point "
        "WHERE series = ? AND time >= ? AND time < ? ORDER BY time",
        (number[0], start, end),
    )
    return [Point(row[0], row[1], row[2], _summary(row[3:])) for row in rows if unit is None or row[2] == unit]


def values_since(tx: Tx, metric: Metric, since: int, most: int) -> int:
    """How many points a metric has since then; no more than ``most`` are counted."""
    (count,) = tx.execute(
        "SELECT count(*) FROM (SELECT 1 FROM series JOIN point ON point.series = series.number WHERE scope = ? "
        "AND namespace = ? AND name = ? AND dimensions = ? AND time >= ? LIMIT ?)",
        (*metric.key, since, most),
    ).fetchone()
    return int(count)


def metrics(tx: Tx, scope: str, namespace: str, name: str, since: int, after: tuple[str, str, str]) -> Iterable[Metric]:
    """Metrics that have had values since then, in order, beyond a place."""
    rows = tx.execute(
        "SELECT namespace, name, dimensions FROM series WHERE scope = ? AND (namespace, name, dimensions) > (?, ?, ?) "
        "AND last >= ? AND (? = '' OR namespace = ?) AND (? = '' OR name = ?) ORDER BY namespace, name, dimensions",
        (scope, *after, since, namespace, namespace, name, name),
    )
    for namespace, name, dimensions in rows:
        yield Metric(scope, namespace, name, tuple((one, value) for one, value in json.loads(dimensions)))


def next_aging(tx: Tx) -> float | None:
    """When the first point or contribution will be old enough to become coarser or to go, None where there is none."""
    found = []
    for resolution, (age, _) in AGES.items():
        row = tx.execute("SELECT min(time) FROM point WHERE resolution = ?", (resolution,)).fetchone()
        if row[0] is not None:
            found.append(float(row[0] + age))
    row = tx.execute("SELECT min(time) FROM contribution").fetchone()
    if row[0] is not None:
        found.append(float(row[0] + _CONTRIBUTIONS_KEPT))
    return min(found) if found else None


def grow_old(tx: Tx, now: float, limit: int) -> bool:
    """Put some old points into coarser ones, or delete them, and old contributions; whether there may be more."""
    more = False
    for resolution, (age, coarser) in AGES.items():
        rows = tx.execute(
            "SELECT series, time, unit, count, sum, least, greatest, packed FROM point "
            "WHERE resolution = ? AND time < ? ORDER BY time LIMIT ?",
            (resolution, int(now - age), limit),
        ).fetchall()
        for series, time, unit, *rest in rows:
            if coarser:
                _put(tx, series, time // coarser * coarser, coarser, unit, _summary(rest))
        tx.executemany(
            "DELETE FROM point WHERE series = ? AND time = ? AND resolution = ? AND unit = ?",
            [(row[0], row[1], resolution, row[2]) for row in rows],
        )
        if rows and not coarser:
            tx.execute("DELETE FROM series WHERE last < ?", (int(now - age),))
        more = more or len(rows) == limit
    gone = tx.execute(
        "SELECT scope, rule, time, keys FROM contribution WHERE time < ? LIMIT ?",
        (int(now - _CONTRIBUTIONS_KEPT), limit),
    ).fetchall()
    tx.executemany("DELETE FROM contribution WHERE scope = ? AND rule = ? AND time = ? AND keys = ?", gone)
    return more or len(gone) == limit


def contribute(tx: Tx, scope: str, rule: str, found: Iterable[Contribution]) -> None:
    """Add to what a rule's contributors have in their minutes."""
    for one in found:
        added = one.summary
        tx.execute(
            "INSERT INTO contribution VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "count = count + excluded.count, sum = sum + excluded.sum, "
            "least = min(least, excluded.least), greatest = max(greatest, excluded.greatest)",
            (scope, rule, one.time, json.dumps(one.keys), added.count, added.sum, added.least, added.greatest),
        )


def contributions(tx: Tx, scope: str, rule: str, start: int, end: int) -> Iterable[Contribution]:
    """What a rule's contributors have added from ``start`` until before ``end``."""
    rows = tx.execute(
        "SELECT time, keys, count, sum, least, greatest FROM contribution "
        "WHERE scope = ? AND rule = ? AND time >= ? AND time < ?",
        (scope, rule, start, end),
    )
    for time, keys, count, total, least, greatest in rows:
        yield Contribution(time, tuple(json.loads(keys)), Summary(count, total, least, greatest, None))


def forget_contributions(tx: Tx, scope: str, rule: str) -> None:
    """A rule is gone, or counts something else."""
    tx.execute("DELETE FROM contribution WHERE scope = ? AND rule = ?", (scope, rule))


def note(tx: Tx, scope: str, alarm: str, kind: str, time: float, item: str, summary: str, data: dict[str, Any]) -> None:
    """Write a line into an alarm's history, and forget some that are older than a month."""
    tx.execute(
        "INSERT INTO history (scope, alarm, kind, time, item, summary, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (scope, alarm, kind, time, item, summary[:255], json.dumps(data, separators=(",", ":"))),
    )
    tx.execute(
        "DELETE FROM history WHERE number IN (SELECT number FROM history WHERE time < ? LIMIT ?)",
        (time - _HISTORY_KEPT, _FORGOTTEN_AT_ONCE),
    )


def history(
    tx: Tx, scope: str, alarm: str, item: str, start: float, end: float, after: int, descending: bool, limit: int
) -> list[tuple[int, str, str, float, str, str, str]]:
    """Lines of the history of one alarm or of all, beyond a number in the order asked for."""
    beyond = "<" if descending else ">"
    return tx.execute(
        "SELECT number, alarm, kind, time, item, summary, data FROM history WHERE scope = ? AND (? = '' OR alarm = ?) "
        f"AND (? = '' OR item = ?) AND time >= ? AND time <= ? AND number {beyond} ? "
        f"ORDER BY number {'DESC' if descending else 'ASC'} LIMIT ?",
        (scope, alarm, alarm, item, item, start, end, after, limit),
    ).fetchall()
