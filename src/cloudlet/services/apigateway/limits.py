"""Rates and quotas: of API keys by their usage plans, and of methods by their stages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cloudlet.control.clock import Clock
from cloudlet.services.apigateway.refusals import Refused
from cloudlet.services.fronts.throttling import Throttle
from cloudlet.store import Database, Tx

MIGRATIONS = (
    "CREATE TABLE usage (scope TEXT NOT NULL, plan TEXT NOT NULL, key TEXT NOT NULL, day TEXT NOT NULL, "
    "count INTEGER NOT NULL, PRIMARY KEY (scope, plan, key, day)) WITHOUT ROWID",
)
_COUNT = "INSERT INTO usage VALUES (?, ?, ?, ?, 1) ON CONFLICT (scope, plan, key, day) DO UPDATE SET count = count + 1"


class Limits:
    """Token buckets, in memory, and counts of requests by day, in the store."""

    def __init__(self, clock: Clock, db: Database) -> None:
        self._clock = clock
        self._db = db
        self._throttle = Throttle(clock)

    def throttle(self, key: tuple[str, ...], settings: dict[str, Any]) -> None:
        """Take a token of a bucket with ``rateLimit`` tokens a second and ``burstLimit`` at most. Raises Refused."""
        rate, burst = settings.get("rateLimit"), settings.get("burstLimit")
        if not self._throttle.takes(key, rate, burst):
            raise Refused("THROTTLED")

    async def count(self, scope: str, plan: str, key: str, quota: dict[str, Any] | None) -> None:
        """Count a request of a key against its plan's quota. Raises Refused."""
        today = datetime.fromtimestamp(self._clock.now(), UTC).date()
        first = _first_day(today, quota.get("period", "DAY")) if quota else today
        limit = (int(quota["limit"]) - int(quota.get("offset", 0))) if quota else None

        def work(tx: Tx) -> bool:
            if limit is not None:
                (used,) = tx.execute(
                    "SELECT coalesce(sum(count), 0) FROM usage WHERE scope = ? AND plan = ? AND key = ? AND day >= ?",
                    (scope, plan, key, first.isoformat()),
                ).fetchone()
                if used >= limit:
                    return False
            tx.execute(_COUNT, (scope, plan, key, today.isoformat()))
            return True

        if not await self._db.write(work):
            raise Refused("QUOTA_EXCEEDED")

    async def usage(self, scope: str, plan: str, start: str, end: str, limit: int | None) -> dict[str, list[list[int]]]:
        """By key, for each day from ``start`` to ``end``: requests used, and what was left of the quota."""

        def read(tx: Tx) -> list[tuple[str, str, int]]:
            return tx.execute(
                "SELECT key, day, count FROM usage WHERE scope = ? AND plan = ? AND day BETWEEN ? AND ? ORDER BY key",
                (scope, plan, start, end),
            ).fetchall()

        days, day = [], datetime.fromisoformat(start).date()
        while day.isoformat() <= end:
            days.append(day.isoformat())
            day += timedelta(days=1)
        counted: dict[str, dict[str, int]] = {}
        for key, when, count in await self._db.scan(read):
            counted.setdefault(key, {})[when] = count
        return {
            key: [[by_day.get(day, 0), max(0, (limit or 0) - by_day.get(day, 0))] for day in days]
            for key, by_day in counted.items()
        }


def _first_day(today: Any, period: str) -> Any:
    if period == "WEEK":
        return today - timedelta(days=(today.weekday() + 1) % 7)  # weeks begin on Sunday
    return today.replace(day=1) if period == "MONTH" else today
