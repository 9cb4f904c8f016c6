"""Rates of requests: token buckets, in memory."""

from __future__ import annotations

from dataclasses import dataclass

from cloudlet.control.clock import Clock

_MOST = 10_000  # buckets that are held; then they begin anew


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Throttle:
    """A bucket for each of whatever has a rate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, ...], _Bucket] = {}

    def takes(self, key: tuple[str, ...], rate: float | None, burst: float | None) -> bool:
        """Take a token of a bucket that gets ``rate`` a second and holds ``burst`` at most; False when it is empty."""
        if rate is None and burst is None:
            return True
        now = self._clock.now()
        most = float(burst if burst is not None else max(1.0, rate or 0.0))
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _MOST:
                self._buckets.clear()
            bucket = self._buckets[key] = _Bucket(most, now)
        bucket.tokens = min(most, bucket.tokens + (now - bucket.at) * (rate if rate is not None else most))
        bucket.at = now
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True
