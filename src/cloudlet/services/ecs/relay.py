"""Our endpoint inside a task: a listener in the pod's own network namespace, at the address it has outside.

So ``AWS_ENDPOINT_URL``, the metadata and the credentials are on the task's loopback, where every SDK allows them, and
we need not listen on any network.
"""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlsplit

from cloudlet.engines.containers.namespaces import listen

log = logging.getLogger("cloudlet.ecs")

_CHUNK = 65536


class Relay:
    """One listener for each pod that has a network of its own."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        host = parts.hostname or "127.0.0.1"
        self.port = parts.port or 80
        self._target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self._outside = f"http://{self._target if ':' not in self._target else f'[{self._target}]'}:{self.port}"
        self._servers: dict[str, asyncio.Server] = {}

    def endpoint(self, pod: str, namespace: str, host_address: str) -> str:
        """Our endpoint's URL as a pod's containers reach it; ``host_address`` is the engine's own way to us."""
        if pod in self._servers:
            return f"http://127.0.0.1:{self.port}"
        return f"http://{host_address}:{self.port}" if namespace and host_address else self._outside

    async def open(self, pod: str, namespace: str) -> None:
        """Listen in a pod; nothing to do where it shares this machine's network."""
        if not namespace or pod in self._servers:
            return
        try:
            listener = await asyncio.to_thread(listen, namespace, "127.0.0.1", self.port)
            self._servers[pod] = await asyncio.start_server(self._join, sock=listener)
        except OSError as error:
            log.warning("task %s does not reach %s: %s", pod, self._outside, error)

    async def close(self, pod: str) -> None:
        """The pod goes."""
        server = self._servers.pop(pod, None)
        if server is not None:
            server.close()

    async def stop(self) -> None:
        """Close all."""
        for pod in list(self._servers):
            await self.close(pod)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(self._target, self.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()
