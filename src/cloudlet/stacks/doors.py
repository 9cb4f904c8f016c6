"""AWS's host names of data planes, which templates put together themselves, as front doors of this cloud (ADR 7)."""

from __future__ import annotations

import re
from collections.abc import Callable

Door = Callable[[str, str], str]  # (name of a data plane, label of its resource) -> URL without a slash at the end

_URL = re.compile(
    r"(https?|wss?)://([a-z0-9][a-z0-9.-]*)\."
    r"(?:(execute-api)\.[a-z0-9-]+\.amazonaws\.com"
    r"|(lambda-url)\.[a-z0-9-]+\.on\.aws"
    r"|(s3-website)[.-][a-z0-9-]+\.amazonaws\.com)"
    r"(?::443)?(?![\w.:-])"
)


def local(text: str, door: Door) -> str:
    """The text with every such URL leading to its front door; a WebSocket API's stays one of a WebSocket."""
    if ".amazonaws.com" not in text and ".on.aws" not in text:
        return text

    def led(found: re.Match[str]) -> str:
        scheme, label, *names = found.groups()
        url = door(next(name for name in names if name), label)
        return url.replace("http", "ws", 1) if scheme.startswith("ws") else url

    return _URL.sub(led, text)
