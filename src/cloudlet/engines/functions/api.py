"""The seam: what a function is to the engine that runs it, and what an invocation comes to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

# Takes a function's log lines: the log stream's name, and (milliseconds since the epoch, text) for each.
LogSink = Callable[["Function", str, list[tuple[int, str]]], None]

# Gives the keys that a sandbox's function signs with, as environment variables, and until when they are good (epoch s).
Credentials = Callable[["Function"], Awaitable[tuple[dict[str, str], float]]]


@dataclass(frozen=True)
class Image:
    """A container image that is a function. What is empty is the image's own."""

    reference: str  # as the container engine takes it: by digest where it is in a registry, or a folder's path
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_dir: str = ""


@dataclass(frozen=True)
class Function:
    """One version of a function, ready to run. Two equal ones share their sandboxes."""

    key: str  # changes with everything that a running sandbox cannot take over
    name: str
    arn: str
    version: str
    runtime: str = ""
    handler: str = ""
    code: Path = Path()
    image: Image | None = None  # in place of runtime, handler, code and layers
    memory: int = 128  # MB
    storage: int = 512  # MB that /tmp may hold
    timeout: float = 3.0  # seconds
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    layers: tuple[Path, ...] = ()
    log_group: str = ""
    json_log: bool = False
    log_level: str = "INFO"  # of the function's own lines, where they are JSON
    system_level: str = "INFO"  # of the platform's
    role: str = ""
    traced: bool = False  # whether X-Ray's rules decide which of its invocations are traced


@dataclass(slots=True)
class Outcome:
    """What an invocation came to. ``error`` is empty, ``Handled`` or ``Unhandled``; ``log`` is what it printed."""

    payload: bytes
    error: str = ""
    log: str = ""
    seconds: float = 0.0
    stream: AsyncIterator[bytes] | None = None  # in place of the payload, where the runtime streams its result
    content_type: str = "application/json"
    init: float = 0.0  # seconds that its sandbox took to start, for its first invocation


class FunctionFailed(Exception):
    """The function cannot be run at all: its runtime is not there, its code cannot be started."""


class Throttled(Exception):
    """There was no room for another sandbox on this machine for long."""
