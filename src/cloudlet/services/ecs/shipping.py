"""What containers print, on its way to CloudWatch Logs."""

from __future__ import annotations

from collections.abc import Callable

from cloudlet.services.api import Cloud
from cloudlet.services.loglines import LogLines, Stream

SELF = "ecs-tasks.amazonaws.com"
_LONGEST = 256 * 1024 - 26


class Shipping(LogLines):
    """Takes lines from the engine; each container's go to the stream that was made for it."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud, SELF)
        self._streams: dict[str, Stream] = {}
        self._routers: dict[str, Callable[[str, bytes], None]] = {}

    def direct(self, container: str, stream: Stream) -> None:
        """From here on what this container prints goes to that stream."""
        self._streams[container] = stream

    def route(self, container: str, router: Callable[[str, bytes], None]) -> None:
        """From here on what this container prints (source, line) goes there."""
        self._routers[container] = router

    def forget(self, container: str) -> None:
        """The container is gone."""
        self._routers.pop(container, None)
        self._streams.pop(container, None)

    def printed(self, container: str, source: str, line: bytes) -> None:
        """A line of a container; without a log configuration nobody keeps it."""
        if (router := self._routers.get(container)) is not None:
            router(source, line)
        stream = self._streams.get(container)
        text = line.decode(errors="replace").rstrip("\r\n") if stream is not None else ""
        if stream is not None and text:
            self.take(stream, [(int(self._cloud.clock.now() * 1000), text[:_LONGEST])])
