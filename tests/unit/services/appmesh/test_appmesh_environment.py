"""The variables of App Mesh's Envoy image: each has its effect, or is refused by name."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from cloudlet.control.supervisor import Supervisor, new_cloud_id
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.engines.proxies.envoy import Envoy, binary
from cloudlet.errors import AwsError
from cloudlet.services.appmesh.environment import Environment, environment_of, with_files
from cloudlet.services.appmesh.gateway import BOOTSTRAP
from cloudlet.services.appmesh.snapshots import gateway_snapshot
from cloudlet.services.appmesh.tracing import Datadog, Jaeger, Xray
from cloudlet.services.appmesh.unheeded import unheeded
from cloudlet.services.appmesh.world import Found, Proxy, World

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
    more = {
        "APPMESH_RESOURCE_NAME": NODE,
        "APPMESH_VIRTUAL_NODE_CLUSTER": "old",
        "ENVOY_ADMIN_MODE": "uds",
        "ENVOY_ADMIN_ACCESS_ENABLE_IPV6": "true",
        "ENVOY_STATS_FLUSH_INTERVAL": "1m500ms",
        "ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH": "/logs/ejected",
        "ENABLE_ENVOY_DOG_STATSD": "true",
        "STATSD_SOCKET_PATH": "/sockets/statsd",
        "MAX_REQUESTS_PER_IO_CYCLE": "1",
        "APPMESH_SET_TRACING_DECISION": "false",
    }
    made = environment_of(more)
    assert (made.cluster, made.admin_port, made.admin_ipv6) == ("old", 0, True)
    assert not unheeded({**given, **more})
    assert made.sockets == {"statsd": "/sockets/statsd"}
    bootstrap = made.bootstrap(Proxy(files={"/logs": "/srv/logs"}))
    assert bootstrap["stats_flush_interval"] == "60.5s"
    assert bootstrap["cluster_manager"] == {"outlier_detection": {"event_log_path": "/srv/logs/ejected"}}
    assert bootstrap["stats_sinks"][0]["typed_config"]["address"] == {"pipe": {"path": "/sockets/statsd"}}
    assert bootstrap["layered_runtime"]["layers"][0]["static_layer"] == {
        "re2.max_program_size.error_level": 1000,
        "http.max_requests_per_io_cycle": 1,
        "envoy.reloadable_features.http_set_tracing_decision_in_request_id": False,
    }


def test_tracing_for_xray() -> None:
    _, mesh, _, node = NODE.split("/")
    given = {"APPMESH_RESOURCE_ARN": NODE, "ENABLE_ENVOY_XRAY_TRACING": "1"}
    assert environment_of(given).tracer == Xray(mesh, node, f"{mesh}/{node}")
    more = {"AWS_XRAY_DAEMON_ADDRESS": "tcp:127.0.0.1:2000 udp:127.0.0.2:2001", "XRAY_SAMPLING_RATE": "1"}
    assert environment_of({**given, **more, "XRAY_SEGMENT_NAME": "me"}).tracer == Xray(
        mesh, node, "me", "127.0.0.2", 2001, 1.0
    )
    with pytest.raises(ValueError, match="XRAY_SAMPLING_RATE"):
        environment_of({**given, "XRAY_SAMPLING_RATE": "2"})
    proxy = Proxy(
        tracer=environment_of({**given, "XRAY_SAMPLING_RULE_MANIFEST": "/rules/x"}).tracer, files={"/rules": "/r"}
    )
    assert proxy.traced["tracing"]["provider"]["typed_config"]["sampling_rule_manifest"] == {"filename": "/r/x"}
    with pytest.raises(ValueError, match="Only a single envoy trace driver"):
        environment_of({**given, "ENABLE_ENVOY_JAEGER_TRACING": "1"})


async def test_spans_reach_a_collector(tmp_path: Path) -> None:
    """One of Jaeger, in Zipkin's JSON: a real Envoy tells it of a request to itself."""
    try:
        binary()
    except ProxyMissing as missing:
        pytest.skip(str(missing))
    said: asyncio.Queue[bytes] = asyncio.Queue()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        said.put_nowait(head + await reader.readuntil(b"\r\n0\r\n\r\n"))
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    collector = await asyncio.start_server(collect, "127.0.0.1", 0)
    port = collector.sockets[0].getsockname()[1]
    variables = {"ENABLE_ENVOY_JAEGER_TRACING": "1", "JAEGER_TRACER_VERSION": "JSON", "JAEGER_TRACER_PORT": str(port)}
    environment = environment_of({"APPMESH_RESOURCE_ARN": NODE, **variables})
    assert environment.tracer == Jaeger(port=port, json=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listens = free.getsockname()[1]
    proxy = Proxy(tracer=environment.tracer, stdout=str(tmp_path / "lines"), egress_port=listens)
    node = {"listeners": [{"portMapping": {"port": listens, "protocol": "http"}}]}
    world = World("shop", {}, gateways={"front": node})
    supervisor = Supervisor(new_cloud_id())
    envoy = Envoy(supervisor, tmp_path / "envoy", "spans", bootstrap={**environment.bootstrap(proxy), **BOOTSTRAP})
    try:
        await envoy.start()
        await envoy.publish(gateway_snapshot(world, "front", Found(), proxy))
        async with asyncio.timeout(10):
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", listens)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
            writer.write(b"GET /lost HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            assert b" 404 " in await reader.readline()
            writer.close()
            span = await said.get()
        assert span.startswith(b"POST /api/v2/spans ")
        assert b"/lost" in span
    finally:
        await supervisor.stop_all()
        collector.close()


def test_datadog() -> None:
    made = environment_of({"APPMESH_RESOURCE_ARN": NODE, "ENABLE_ENVOY_DATADOG_TRACING": "1"})
    assert made.tracer == Datadog("envoy-shop/front")
    (cluster,) = made.bootstrap(Proxy())["static_resources"]["clusters"]
    assert cluster["name"] == "datadog_agent"


def test_files_are_merged() -> None:
    given = {"APPMESH_RESOURCE_ARN": NODE, "ENABLE_ENVOY_JAEGER_TRACING": "1", "ENABLE_ENVOY_STATS_TAGS": "1"}
    made = environment_of({**given, "ENVOY_STATS_CONFIG_FILE": "/s", "ENVOY_RESOURCES_CONFIG_FILE": "/r"})
    assert made.files == {"ENVOY_STATS_CONFIG_FILE": "/s", "ENVOY_RESOURCES_CONFIG_FILE": "/r"}
    assert not made.tags
    texts = {
        "ENVOY_STATS_CONFIG_FILE": "statsConfig: {stats_tags: []}",
        "ENVOY_RESOURCES_CONFIG_FILE": "static_resources:\n  clusters:\n  - name: mine\n",
    }
    merged = with_files(made.bootstrap(Proxy()), texts)
    assert merged["stats_config"] == {"stats_tags": []}
    assert [cluster["name"] for cluster in merged["static_resources"]["clusters"]] == ["jaeger", "mine"]
    for text, reason in (
        ("", "says nothing"),
        ("admin: {}", "says admin"),
        ("stats_config: {}", "multiple stats_config"),
        ("[", "ENVOY_STATS_CONFIG_FILE: "),
    ):
        with pytest.raises(ValueError, match=reason):
            with_files(merged, {"ENVOY_STATS_CONFIG_FILE": text})


def test_what_has_no_effect_is_named() -> None:
    given = {
        "APPMESH_RESOURCE_ARN": NODE,
        "APPMESH_METRIC_EXTENSION_VERSION": "1",
        "APPNET_AGENT_ADMIN_MODE": "tcp",
        "ENVOY_MADE_UP": "1",
        "PATH": "/bin",
        "HC_POLL_INTERVAL_MS": "",
    }
    stats = environment_of(given).bootstrap(Proxy())["stats_config"]["stats_tags"]
    assert stats == [
        {"tag_name": "Mesh", "fixed_value": "shop"},
        {"tag_name": "VirtualNode", "fixed_value": "front"},
    ]
    assert [line.split()[1] for line in unheeded(given)] == [
        "APPMESH_METRIC_EXTENSION_VERSION",
        "APPNET_AGENT_ADMIN_MODE",
        "ENVOY_MADE_UP",
    ]


@pytest.mark.parametrize("name", ["ENVOY_CONFIG_FILE"])
def test_what_is_refused(name: str) -> None:
    with pytest.raises(AwsError, match=name):
        environment_of({"APPMESH_RESOURCE_ARN": NODE, name: "1"})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"APPMESH_RESOURCE_ARN": "mesh/shop"}, "does not name a virtual node or a virtual gateway"),
        ({"APPMESH_RESOURCE_ARN": NODE, "ENVOY_LOG_LEVEL": "loud"}, "ENVOY_LOG_LEVEL must be one of trace, debug"),
        ({"APPMESH_RESOURCE_ARN": NODE, "ENVOY_ADMIN_ACCESS_PORT": "0"}, "must be a number from 1 to 65535"),
        ({"APPMESH_RESOURCE_ARN": NODE, "ENABLE_ENVOY_STATS_TAGS": "maybe"}, "must be a boolean value"),
        ({"APPMESH_RESOURCE_ARN": NODE, "ENVOY_STATS_FLUSH_INTERVAL": "5"}, "must be a duration"),
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
    bootstrap = Environment(NODE, tags=True, statsd=("127.0.0.1", port)).bootstrap(Proxy())
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
