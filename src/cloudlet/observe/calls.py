"""The latest calls of every AWS API, for the console and for a test that asks what an application did."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError

if TYPE_CHECKING:
    from cloudlet.services.api import Call

_KEPT = 2000

# Durations are the machine's own, whatever the cloud's clock reads.
stopwatch = time.perf_counter


class Calls:
    """A ring of calls; recording one costs about a microsecond."""

    def __init__(self, clock_now: Any) -> None:
        self._now = clock_now
        self._ring: deque[tuple[float, Call, int, str, float]] = deque(maxlen=_KEPT)
        self.count = 0

    def record(self, call: Call, status: int, error: AwsError | None, started: float) -> None:
        """Remember a call that has been answered."""
        self.count += 1
        # The request is dropped: its body may be large.
        call.request = None
        self._ring.append((self._now(), call, status, error.code if error else "", stopwatch() - started))

    def latest(self, service: str = "", operation: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """The newest calls first, as JSON."""
        found: list[dict[str, Any]] = []
        for at, call, status, error, seconds in reversed(self._ring):
            if service not in ("", call.service) or operation not in ("", call.operation):
                continue
            found.append(
                {
                    "time": at,
                    "service": call.service,
                    "operation": call.operation,
                    "account": call.account,
                    "region": call.region,
                    "principal": call.principal,
                    "status": status,
                    "error": error,
                    "milliseconds": round(seconds * 1000, 3),
                    "requestId": call.request_id,
                }
            )
            if len(found) >= limit:
                break
        return found

    def clear(self) -> None:
        """Forget all calls."""
        self._ring.clear()
        self.count = 0
