"""Answers every request at once with as many bytes as it asks for (``x-answer-size``)."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop

from cloudlet.gateway.server import Server, listen


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, answer, nothing else."""
    while (await receive()).get("more_body"):
        pass
    size = next((int(value) for name, value in scope["headers"] if name == b"x-answer-size"), 2)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * size})


async def main() -> None:
    """Serve until killed."""
    server = Server(application, listen("127.0.0.1", int(sys.argv[1])))  # type: ignore[arg-type]
    await server.start()
    await asyncio.Event().wait()


uvloop.run(main())
