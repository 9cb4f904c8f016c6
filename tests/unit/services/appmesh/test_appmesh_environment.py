"""The variables of App Mesh's Envoy image: each has its effect, or is refused by name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloudlet.control.supervisor import Supervisor, new_cloud_id
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.engines.proxies.envoy import Envoy, binary
from cloudlet.errors import AwsError
from cloudlet.services.appmesh.environment import Environment, environment_of
from cloudlet.services.appmesh.tracing import Xray

NODE = "mesh/shop/virtualNode/front"


def test_what_has_an_effect() -> None:
    assert environment_of({"APPMESH_VIRTUAL_NODE_NAME": NODE}) == Environment(NODE)
    given = {
        "APPMESH_RESOURCE_ARN": f"arn:aws:appmesh:us-east-1:000000000000:{NODE}",
        "APPMESH_RESOURCE_CLUSTER": "mine",
        "ENVOY_ADMIN_ACCESS_PORT": "9000",
        "ENVOY_ADMIN_ACCESS_LOG_FILE": "/dev/stdout",
        "ENVOY_LOG_LEVEL": "debug",
        "ENVOY_CONCURRENCY": "2",
        "ENABLE_ENVOY_STATS_TAGS": "1",
        "ENABLE_ENVOY_DOG_STATSD": "1",
        "STATSD_PORT": "8126",
        "ENABLE_ENVOY_XRAY_TRACING": "0",
    }
    made = environment_of(given)
    assert made == Environment(NODE, "mine", 9000, "/dev/stdout", "debug", 2, True, ("127.0.0.1", 8126))


def test_tracing_for_xray() -> None:
    _, mesh, _, node = NODE.split("/")
    given = {"APPMESH_RESOURCE_ARN": NODE, "ENABLE_ENVOY_XRAY_TRACING": "1"}
    assert environment_of(given).xray == Xray(mesh, node, f"{mesh}/{node}")
    more = {"AWS_XRAY_DAEMON_ADDRESS": "tcp:127.0.0.1:2000 udp:127.0.0.2:2001", "XRAY_SAMPLING_RATE": "1"}
    assert environment_of({**given, **more, "XRAY_SEGMENT_NAME": "me"}).xray == Xray(
        mesh, node, "me", "127.0.0.2", 2001, 1.0
    )
    with pytest.raises(ValueError, match="XRAY_SAMPLING_RATE"):
        environment_of({**given, "XRAY_SAMPLING_RATE": "2"})
    with pytest.raises(AwsError, match="XRAY_SAMPLING_RULE_MANIFEST"):
        environment_of({**given, "XRAY_SAMPLING_RULE_MANIFEST": "/rules"})


@pytest.mark.parametrize(
    "name", ["ENABLE_ENVOY_JAEGER_TRACING", "APPMESH_METRIC_EXTENSION_VERSION", "ENVOY_TRACING_CFG_FILE"]
)
def test_what_is_refused(name: str) -> None:
    with pytest.raises(AwsError, match=name):
        environment_of({"APPMESH_RESOURCE_ARN": NODE, name: "1"})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"APPMESH_RESOURCE_ARN": "mesh/shop"}, "does not name a virtual node or a virtual gateway"),
        ({"APPMESH_RESOURCE_ARN": NODE, "ENVOY_LOG_LEVEL": "loud"}, "ENVOY_LOG_LEVEL must be one of trace, debug"),
        ({"APPMESH_RESOURCE_ARN": NODE, "ENVOY_ADMIN_ACCESS_PORT": "0"}, "must be a number from 1 to 65535"),
    ],
)
def test_what_cannot_be(given: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        environment_of(given)


async def test_numbers_reach_a_dogstatsd_daemon_with_their_tags(tmp_path: Path) -> None:
    try:
        binary()
    except ProxyMissing as missing:
        pytest.skip(str(missing))
    said: asyncio.Queue[bytes] = asyncio.Queue()

    class Daemon(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            said.put_nowait(data)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Daemon, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    supervisor = Supervisor(new_cloud_id())
    bootstrap = Environment(NODE, tags=True, statsd=("127.0.0.1", port)).bootstrap()
    envoy = Envoy(supervisor, tmp_path, "numbers", bootstrap={**bootstrap, "stats_flush_interval": "0.1s"})
    try:
        await envoy.start()
        async with asyncio.timeout(10):
            line = await said.get()
        assert b"appmesh.mesh:shop" in line
        assert b"appmesh.virtual_node:front" in line
    finally:
        await supervisor.stop_all()
        transport.close()
