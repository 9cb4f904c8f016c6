"""The contract of a proxy, judged on every implementation with real connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloudlet.control.supervisor import Supervisor, new_cloud_id
from cloudlet.engines.proxies import envoy
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.engines.proxies.envoy import Envoy
from cloudlet.mesh import Inconsistent, Snapshot

_MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"

try:
    envoy.binary()
except ProxyMissing as missing:
    pytest.skip(str(missing), allow_module_level=True)


def free_port() -> int:
    """A port that is free on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def snapshot(port: int, upstream: int, status: int = 200) -> Snapshot:
    """A listener whose /fixed says ``status`` and whose other paths go to ``upstream``."""
    manager: dict[str, Any] = {
        "@type": _MANAGER,
        "stat_prefix": "test",
        "rds": {"route_config_name": "routes"},
        "http_filters": [{"name": "router", "typed_config": {"@type": _ROUTER}}],
    }
    fixed = {"match": {"prefix": "/fixed"}, "direct_response": {"status": status}}
    rest = {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": upstream}}
    return Snapshot(
        listeners={
            "front": {
                "name": "front",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
            }
        },
        routes={
            "routes": {
                "name": "routes",
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [fixed, rest]}],
            }
        },
        clusters={"upstream": {"name": "upstream", "type": "EDS", "connect_timeout": "1s"}},
        endpoints={
            "upstream": {
                "cluster_name": "upstream",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            }
        },
    )


def status_of(port: int, path: str) -> int:
    """The status of a GET, 0 when nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


async def seen(port: int, path: str, status: int, seconds: float = 5) -> float:
    """Seconds until the status is seen."""
    started = time.perf_counter()
    while await asyncio.to_thread(status_of, port, path) != status:
        assert time.perf_counter() - started < seconds, f"{path} does not answer {status}"
        await asyncio.sleep(0.005)
    return time.perf_counter() - started


@pytest.fixture
async def upstream() -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 299 Mine\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_what_is_published_is_carried(tmp_path: Path, upstream: int) -> None:
    supervisor, port = Supervisor(new_cloud_id()), free_port()
    proxy = Envoy(supervisor, tmp_path, "front")
    await proxy.start()
    try:
        await proxy.publish(snapshot(port, upstream))
        await seen(port, "/fixed", 200)
        await seen(port, "/x", 299)
        await proxy.publish(snapshot(port, upstream, status=418))
        await seen(port, "/fixed", 418)
        (endpoint,) = await proxy.endpoints()
        assert (endpoint.cluster, endpoint.port, endpoint.healthy) == ("upstream", upstream, True)
        assert endpoint.requests >= 1
        assert (await proxy.stats("http.test"))["http.test.downstream_rq_total"] >= 3

        broken = snapshot(port, upstream, status=500)
        broken.clusters.clear()
        with pytest.raises(Inconsistent, match="route routes names upstream"):
            await proxy.publish(broken)
        assert status_of(port, "/fixed") == 418
    finally:
        await supervisor.stop_all()
    assert status_of(port, "/fixed") == 0


async def test_its_folder_may_be_deep(tmp_path: Path) -> None:
    supervisor = Supervisor(new_cloud_id())
    proxy = Envoy(supervisor, tmp_path / ("deep" * 30), "front")
    await proxy.start()
    try:
        assert await proxy.stats("server.(live|uptime)")
    finally:
        await supervisor.stop_all()


async def test_a_route_moves_to_a_new_cluster_without_a_gap(tmp_path: Path, upstream: int) -> None:
    supervisor, port = Supervisor(new_cloud_id()), free_port()
    proxy = Envoy(supervisor, tmp_path, "front")
    await proxy.start()
    statuses: list[int] = []

    async def drive() -> None:
        while True:
            statuses.append(await asyncio.to_thread(status_of, port, "/x"))

    try:
        await proxy.publish(snapshot(port, upstream))
        await seen(port, "/x", 299)
        driver = asyncio.create_task(drive())
        for number in range(5):
            moved = snapshot(port, upstream)
            name = f"upstream-{number}"
            moved.clusters[name] = {**moved.clusters.pop("upstream"), "name": name}
            check = {"interval": "5s", "timeout": "1s", "healthy_threshold": 2, "unhealthy_threshold": 2}
            moved.clusters[name]["health_checks"] = [{**check, "tcp_health_check": {}}]
            moved.endpoints[name] = {**moved.endpoints.pop("upstream"), "cluster_name": name}
            moved.routes["routes"]["virtual_hosts"][0]["routes"][1]["route"]["cluster"] = name
            await proxy.publish(moved)
            await asyncio.sleep(0.05)
        driver.cancel()
        assert set(statuses) == {299}
        assert {endpoint.cluster for endpoint in await proxy.endpoints()} == {"upstream-4"}
    finally:
        await supervisor.stop_all()


async def test_it_outlives_the_control_plane_and_is_adopted(tmp_path: Path, upstream: int) -> None:
    cloud, port = new_cloud_id(), free_port()
    first = Supervisor(cloud)
    proxy = Envoy(first, tmp_path, "front")
    await proxy.start()
    await proxy.publish(snapshot(port, upstream))
    await seen(port, "/x", 299)
    (before,) = first.children

    # The control plane is gone without a word; another finds what it has left.
    second = Supervisor(cloud)
    second.find_leftovers()
    again = Envoy(second, tmp_path, "front")
    await again.start()
    try:
        (after,) = second.children
        assert (after.pid, after.adopted) == (before.pid, True)
        await again.publish(snapshot(port, upstream, status=418))
        await seen(port, "/fixed", 418)
    finally:
        await second.stop_all()
    assert not psutil.pid_exists(before.pid) or psutil.Process(before.pid).status() == psutil.STATUS_ZOMBIE
