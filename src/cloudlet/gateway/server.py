"""The server: a listening socket and the connections that it accepts."""

from __future__ import annotations

import asyncio
import socket

from cloudlet.gateway.http1 import Connection, Connections, Handler

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
    """Serves a handler on a bound socket until ``close``."""

    def __init__(self, handle: Handler, listener: socket.socket) -> None:
        self._connections = Connections(handle)
        self._listener = listener
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._connections, loop), sock=self._listener, backlog=_BACKLOG
        )

    async def close(self, grace: float = 2.0) -> None:
        """Accept no more, let requests under way finish for ``grace`` seconds, then cut them off."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections.open):
            connection.close_when_idle()
        if self._connections.tasks:
            _, late = await asyncio.wait(list(self._connections.tasks), timeout=grace)
            for task in late:
                task.cancel()
        for connection in list(self._connections.open):
            connection.close()
