"""A container's health checks: a command inside it, again and again, and what its answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudlet.services.ecs.keeping import Keeping

_FIRST = 0.5  # seconds before a container is asked for the first time
_SOON = 1.0  # seconds between checks while it has not answered well yet and failures do not count


def checked(definition: dict[str, Any]) -> list[str]:
    """The containers whose checks say how well a task is."""
    return [one["name"] for one in definition["containerDefinitions"] if one["essential"] and "healthCheck" in one]


class Health:
    """Checks one container. ``changed`` is told HEALTHY and UNHEALTHY."""

    def __init__(
        self, keeper: Keeping, container: str, check: dict[str, Any], changed: Callable[[str], object]
    ) -> None:
        self._keeper = keeper
        self._container = container
        self._check = check
        self._changed = changed
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = self._keeper.cloud.spawn(self._run(), f"health of {self._container}")

    def stop(self) -> None:
        """End; nobody is told of anything any more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        check, clock = self._check, self._keeper.clock
        interval, free = float(check["interval"]), clock.now() + check.get("startPeriod", 0)
        kind, *words = check["command"]
        command = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
        failures, last = 0, ""
        due = clock.now() + interval  # the first failure that counts
        await clock.sleep(min(_FIRST, interval))
        while True:
            if await self._is_well(command, float(check["timeout"])):
                failures, state = 0, "HEALTHY"
            else:
                state = last
                if clock.now() >= free and clock.now() >= due - 0.001:
                    failures += 1
                    due = clock.now() + interval
                if failures >= check["retries"]:
                    state = "UNHEALTHY"
            if state and state != last:
                last = state
                self._changed(state)
            await clock.sleep(interval if last == "HEALTHY" else min(interval, _SOON))

    async def _is_well(self, command: list[str], timeout: float) -> bool:
        execution = None
        try:
            engine = await self._keeper.engine()
            async with asyncio.timeout(timeout):
                execution = await engine.execute(self._container, command)
                return await execution.wait() == 0
        except TimeoutError:
            if execution is not None:
                await execution.kill()
            return False
        except asyncio.CancelledError:
            raise
        except Exception:
            return False
