"""The HTTP server: uvicorn's protocol on uvloop, without uvicorn's ten ticks a second."""

from __future__ import annotations

import asyncio
import socket

from uvicorn.config import Config as UvicornConfig
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cloudlet.gateway.asgi import Application

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 picks a free one. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class Server:
    """Serves an application on a bound socket until ``close``."""

    def __init__(self, application: Application, listener: socket.socket) -> None:
        self._config = UvicornConfig(
            application,
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
        )
        self._state = ServerState()
        self._listener = listener
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept connections from now on."""
        self._config.load()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: HttpToolsProtocol(config=self._config, server_state=self._state, app_state={}),
            sock=self._listener,
        )

    async def close(self, grace: float = 2.0) -> None:
        """Accept no more, let requests under way finish for ``grace`` seconds, then cut them off."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            _, late = await asyncio.wait(list(self._state.tasks), timeout=grace)
            for task in late:
                task.cancel()
