"""News of targets' health: Envoy writes a line for every check that changes or fails, and whoever watches is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudlet.engines.containers.follow import Follower


class HealthNews:
    """Tells watchers that the health of some targets may have changed. They look for themselves: news carry nothing."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._watchers: list[Callable[[], object]] = []
        self._follower: Follower | None = None

    def follow(self) -> None:
        """Read what Envoy writes, from where it was read last."""
        from cloudlet.engines.containers.follow import Follower

        if self._follower is None:
            self._follower = Follower()
            self._follower.add(self.file, lambda line: self.tell())

    def close(self) -> None:
        """Read no more."""
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    def tell(self) -> None:
        """Something has happened that targets' health may depend on."""
        for told in list(self._watchers):
            told()

    def watch(self, told: Callable[[], object]) -> Callable[[], None]:
        """Have ``told`` called, on the event loop, after every change; gives back what ends that."""
        self._watchers.append(told)
        return lambda: self._watchers.remove(told) if told in self._watchers else None
