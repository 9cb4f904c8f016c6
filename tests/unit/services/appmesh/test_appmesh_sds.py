"""Secrets of the task's own SDS server: a real Envoy asks it for them over its socket."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections import defaultdict
from pathlib import Path

import pytest

from cloudlet.control.supervisor import Supervisor, new_cloud_id
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.engines.proxies.envoy import Envoy, binary
from cloudlet.services.acm.authority import Authority
from cloudlet.services.appmesh.environment import environment_of
from cloudlet.services.appmesh.gateway import BOOTSTRAP
from cloudlet.services.appmesh.snapshots import gateway_snapshot
from cloudlet.services.appmesh.world import Found, Proxy, World

_TYPE = b"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8


def field(number: int, content: bytes) -> bytes:
    """One member of a protobuf message that is text, bytes or another message."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def inline(text: str) -> bytes:
    return field(3, text.encode())


class Sds:
    """An SDS server in a few frames of HTTP/2: each stream is told one secret, the one that it names."""

    def __init__(self, secrets: dict[str, bytes]) -> None:
        self._secrets = secrets

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(kind: int, flags: int, stream: int, content: bytes = b"") -> None:
            writer.write(len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content)

        told: set[int] = set()
        asked: defaultdict[int, bytes] = defaultdict(bytes)
        try:
            await reader.readexactly(24)
            send(_SETTINGS, 0, 0)
            send(_WINDOW_UPDATE, 0, 0, (1 << 30).to_bytes(4, "big"))  # Envoy tells at length what it can do
            while True:
                head = await reader.readexactly(9)
                content = await reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind in (_SETTINGS, _PING) and not flags & 1:
                    send(kind, 1, 0, content if kind == _PING else b"")
                elif kind == _HEADERS:
                    # :status 200 and content-type, by their places in HPACK's table.
                    send(_HEADERS, 4, stream, b"\x88\x5f\x10application/grpc")
                elif kind == _DATA and stream not in told:
                    asked[stream] += content
                    name = next((name for name in self._secrets if field(3, name.encode()) in asked[stream]), "")
                    if not name:
                        continue
                    told.add(stream)
                    secret = field(1, name.encode()) + self._secrets[name]
                    message = field(1, b"1") + field(2, field(1, _TYPE) + field(2, secret)) + field(4, _TYPE)
                    send(_DATA, 0, stream, b"\0" + len(message).to_bytes(4, "big") + message)
        except asyncio.IncompleteReadError:
            writer.close()


async def test_secrets_of_a_server(tmp_path: Path) -> None:
    try:
        binary()
    except ProxyMissing as missing:
        pytest.skip(str(missing))
    authority = Authority(tmp_path / "authority")
    for name in ("front", "known", "stranger"):
        chain, key = authority.issue([f"{name}.local"], "EC_prime256v1", time.time())
        (tmp_path / f"{name}.pem").write_text(chain + key)
    (tmp_path / "ca.pem").write_text(authority.pem(time.time()))
    pem = (tmp_path / "front.pem").read_text()
    secrets = {
        "spiffe://front": field(2, field(1, inline(pem)) + field(2, inline(pem))),
        "spiffe://roots": field(4, field(1, inline((tmp_path / "ca.pem").read_text()))),
    }
    far = tmp_path / ("far" * 30)  # further than a socket's path can say
    far.mkdir()
    os.chdir(far)
    server = await asyncio.start_unix_server(Sds(secrets).serve, "sds")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    resource = "mesh/shop/virtualGateway/in"
    environment = environment_of({"APPMESH_RESOURCE_ARN": resource, "APPMESH_SDS_SOCKET_PATH": "/run/sds"})
    proxy = Proxy(stdout=str(tmp_path / "lines"), sds=environment.sds)
    tls = {
        "mode": "STRICT",
        "certificate": {"sds": {"secretName": "spiffe://front"}},
        "validation": {
            "trust": {"sds": {"secretName": "spiffe://roots"}},
            "subjectAlternativeNames": {"match": {"exact": ["known.local"]}},
        },
    }
    gateway = {"listeners": [{"portMapping": {"port": port, "protocol": "http"}, "tls": tls}]}
    made = gateway_snapshot(World("shop", {}, gateways={"in": gateway}), "in", Found(), proxy)
    assert not made.secrets
    supervisor = Supervisor(new_cloud_id())
    folder = tmp_path / "envoy"
    folder.mkdir()
    (folder / "sds").symlink_to(far / "sds")
    envoy = Envoy(supervisor, folder, "sds", bootstrap={**environment.bootstrap(proxy), **BOOTSTRAP})

    async def ask(name: str) -> bytes:
        """The answer's first line; nothing where a certificate is not taken."""
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        context.load_cert_chain(tmp_path / f"{name}.pem")
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="front.local"
            )
        except OSError:
            return b""
        try:
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            return await reader.readline()
        except OSError:
            return b""
        finally:
            writer.close()

    try:
        await envoy.start()
        await envoy.publish(made)
        async with asyncio.timeout(15):
            while await ask("known") != b"HTTP/1.1 404 Not Found\r\n":
                await asyncio.sleep(0.05)
        assert await ask("stranger") == b""
        assert await ask("known") == b"HTTP/1.1 404 Not Found\r\n"
    finally:
        os.chdir("/")
        await supervisor.stop_all()
        server.close()
