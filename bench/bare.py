"""Answers every request at once with as many bytes as it asks for (``x-answer-size``)."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from cloudlet.gateway.server import Server, listen
from cloudlet.http import Request, Response


async def answer(request: Request) -> Response:
    """Read the body, answer, nothing else."""
    await request.read(1 << 20)
    return Response(200, {"content-type": "application/json"}, b"x" * int(request.headers.get("x-answer-size", 2)))


async def main() -> None:
    """Serve until killed."""
    server = Server(answer, listen("127.0.0.1", int(sys.argv[1])))
    await server.start()
    await asyncio.Event().wait()


uvloop.run(main())
