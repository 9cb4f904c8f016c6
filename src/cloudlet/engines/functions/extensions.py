"""Extensions: programs of a layer that run beside the runtime and hear of its invocations.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

INVOKE, SHUTDOWN = "INVOKE", "SHUTDOWN"
_EVENTS = frozenset((INVOKE, SHUTDOWN))

# Starts every extension of a folder, then becomes the runtime. $1: the folder; then the command.
START = 'folder=$1; shift; for one in "$folder"/*; do [ -f "$one" ] && [ -x "$one" ] && "$one" & done; exec "$@"'

Answer = Callable[[dict[str, Any]], object]  # gives a waiting extension its next event


class Refused(Exception):
    """A request that cannot be: ``kind`` is the API's word for it."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


@dataclass(slots=True)
class _Extension:
    """One that has registered."""

    name: str
    events: frozenset[str]
    answer: Answer | None = None  # while it waits for its next event


def programs(opt: Path | None) -> frozenset[str]:
    """The names of the extensions that a layer brings."""
    folder = opt / "extensions" if opt is not None else None
    if folder is None or not folder.is_dir():
        return frozenset()
    return frozenset(one.name for one in folder.iterdir() if one.is_file() and os.access(one, os.X_OK))


class Extensions:
    """The extensions of one sandbox; ``changed`` is called when one of them waits for its next event."""

    def __init__(self, expected: frozenset[str], changed: Callable[[], None]) -> None:
        self._expected = expected
        self._changed = changed
        self._known: dict[str, _Extension] = {}

    @property
    def settled(self) -> bool:
        """Whether all that must register have, and all that have wait for their next event."""
        return self._expected <= {one.name for one in self._known.values()} and all(
            one.answer is not None for one in self._known.values()
        )

    def register(self, name: str, events: Any) -> str:
        """Take up an extension; its identifier. Raises Refused."""
        if not name:
            raise Refused("Extension.InvalidExtensionName", "Invalid Lambda-Extension-Name")
        if not isinstance(events, list) or not _EVENTS.issuperset(events):
            raise Refused("InvalidEventType", "Unsupported event type")
        if any(one.name == name for one in self._known.values()):
            raise Refused("Extension.AlreadyRegistered", f"Extension with name {name} already registered")
        identifier = str(uuid.uuid4())
        self._known[identifier] = _Extension(name, frozenset(events))
        return identifier

    def wait(self, identifier: str, answer: Answer) -> None:
        """An extension asks for its next event. Raises Refused."""
        extension = self._known.get(identifier)
        if extension is None:
            raise Refused("Extension.UnknownExtensionIdentifier", "Unknown extension " + identifier)
        extension.answer = answer
        self._changed()

    def tell(self, kind: str, event: dict[str, Any]) -> bool:
        """Tell those who have asked for such events; whether there was any."""
        told = [one for one in self._known.values() if kind in one.events and one.answer is not None]
        for one in told:
            answer, one.answer = one.answer, None
            assert answer is not None
            answer({"eventType": kind, **event})
        return bool(told)


def registered(function_name: str, version: str, handler: str) -> bytes:
    """What an extension is told of the function when it has registered."""
    return json.dumps({"functionName": function_name, "functionVersion": version, "handler": handler}).encode()


async def ended(sandbox: int) -> None:
    """Return when the extensions among a sandbox's processes have ended. The kernel says when: pidfd_open(2)."""
    loop = asyncio.get_running_loop()
    for process in _running(sandbox):
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


def _running(sandbox: int) -> list[psutil.Process]:
    try:
        family = psutil.Process(sandbox).children(recursive=True)
        return [one for one in family if any("/extensions/" in argument for argument in one.cmdline())]
    except (psutil.Error, ValueError):
        return []
