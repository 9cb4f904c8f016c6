"""Hot reload: local folders are watched, and a change is told at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from cloudlet.services.api import Cloud
from cloudlet.stacks import overlay

_SETTLE = 50  # milliseconds that a change may go on, so that one save is one change


class Folders:
    """The watched folders. Nothing runs while there is none."""

    def __init__(self, cloud: Cloud, changed: Callable[[str], None]) -> None:
        self._cloud = cloud
        self._changed = changed
        self._folders: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def watch(self, folders: set[str]) -> None:
        """Watch these folders, and no others."""
        if folders == self._folders:
            return
        self.stop()
        self._folders = folders
        if folders:
            self._task = self._cloud.spawn(self._follow(), "hot reload")

    def stop(self) -> None:
        """Watch nothing."""
        self._folders = set()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _follow(self) -> None:
        from watchfiles import awatch

        there = [folder for folder in self._folders if Path(folder).is_dir()]
        # What lies over its dependencies is watched where it comes from.
        sources = {folder: await asyncio.to_thread(overlay.source_of, Path(folder)) for folder in there}
        roots = [(str((sources[folder] or Path(folder)).resolve()), folder) for folder in there]
        for folder in there:
            await self._refresh(folder, sources[folder])
        if not roots:
            return
        # The watcher's own timeout only serves programs that cannot be cancelled.
        async for changes in awatch(*{root for root, _ in roots}, debounce=_SETTLE, step=10, rust_timeout=600_000):
            paths = [path for _, path in changes]
            for root, folder in roots:
                if any(path == root or path.startswith(root + "/") for path in paths):
                    await self._refresh(folder, sources[folder])
                    self._changed(folder)

    async def _refresh(self, folder: str, source: Path | None) -> None:
        if source is not None and source.is_dir():
            await asyncio.to_thread(overlay.refresh, Path(folder))
