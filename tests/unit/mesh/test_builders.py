"""The builders that load balancers and meshes share, judged by Envoy itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloudlet.control.supervisor import Supervisor, new_cloud_id
from cloudlet.engines.proxies import envoy
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.mesh import Inconsistent, Snapshot
from cloudlet.mesh.access_logs import file_log
from cloudlet.mesh.clusters import assignment, circuit_breakers, cluster, endpoint, outlier_detection
from cloudlet.mesh.health_checks import grpc_check, health_check, http_check
from cloudlet.mesh.listeners import filter_chain, http_manager, listener, tcp_proxy, tls_inspector
from cloudlet.mesh.routes import destination, header, header_match, retry_policy, route_configuration, virtual_host
from cloudlet.mesh.tls import client_tls, plaintext, trust_secret
from cloudlet.mesh.typed import seconds


def everything(log: str) -> Snapshot:
    """A snapshot in which every builder has had its part."""
    limits: dict[str, Any] = {"interval": 5.0, "timeout": 2.0, "healthy": 2, "unhealthy": 3}
    retries = retry_policy(["connect-failure", "retriable-status-codes"], 2, per_try=0.5, statuses=[503])
    route = {
        "match": {"prefix": "/", "headers": [header_match("x", exact="1"), header_match("y", regex="a.*")]},
        "route": {**destination({"one": 90, "two": 10}), "retry_policy": retries},
        "request_headers_to_add": [header("z", "1")],
    }
    return Snapshot(
        clusters={
            "one": cluster(
                "one",
                http2=True,
                tls=client_tls(sni="one.local", trust="authority"),
                check_transport=plaintext(),
                health_checks=[health_check(**limits, http=http_check("/up", [(200, 299)], agent="x"), log=log)],
                outlier_detection=outlier_detection(errors=5, interval=10, ejection=30, percent=50),
                circuit_breakers=circuit_breakers(connections=10, pending=5),
                slow_start=30,
            ),
            "two": cluster("two", policy="LEAST_REQUEST", health_checks=[health_check(**limits)], panic_threshold=1),
            "three": cluster("three", http2=True, health_checks=[health_check(**limits, grpc=grpc_check("x"))]),
        },
        endpoints={
            "one": assignment("one", [endpoint("127.0.0.1", 1, weight=3, health_port=2)]),
            "two": assignment("two", []),
            "three": assignment("three", [endpoint("127.0.0.1", 3, draining=True)]),
        },
        routes={"all": route_configuration("all", [virtual_host("all", ["*"], [route])])},
        listeners={
            "http": listener(
                "http",
                "127.0.0.1",
                0,
                [filter_chain([http_manager("http", routes="all", access_logs=[file_log(log, {"a": "%PROTOCOL%"})])])],
            ),
            "tcp": listener(
                "tcp",
                "127.0.0.1",
                0,
                [
                    filter_chain([tcp_proxy("tcp", {"one": 1, "two": 2}, sticky=True)], server_names=["a.b"]),
                    filter_chain(
                        [tcp_proxy("tcp", {"two": 1}, idle_timeout=seconds(1.5), access_logs=[file_log(log)])]
                    ),
                ],
                listener_filters=[tls_inspector()],
            ),
        },
        secrets={"authority": trust_secret("authority", "", ["one.local"])},
    )


def test_durations() -> None:
    assert (seconds(1), seconds(0.25), seconds(0)) == ("1s", "0.25s", "0s")


def test_names_that_lead_nowhere_are_found() -> None:
    whole = everything("log")
    whole.check()
    whole.secrets.clear()
    with pytest.raises(Inconsistent, match="cluster one names authority"):
        whole.check()


async def test_envoy_takes_what_is_built(tmp_path: Path) -> None:
    try:
        envoy.binary()
    except ProxyMissing as missing:
        pytest.skip(str(missing))
    supervisor = Supervisor(new_cloud_id())
    proxy = envoy.Envoy(supervisor, tmp_path, "builders")
    await proxy.start()
    try:
        whole = everything(str(tmp_path / "events"))
        whole.secrets["authority"]["validation_context"] = {}  # no real authority is at hand
        await proxy.publish(whole)
        async with asyncio.timeout(5):
            while not (found := await proxy.stats("listener_manager.lds.update_(success|rejected)")) or not any(
                found.values()
            ):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        stats = await proxy.stats("(update_rejected|update_success)$")
        rejected = [name for name, value in stats.items() if name.endswith("rejected") and value]
        assert not rejected, (tmp_path / "log").read_text()
        dump = msgspec.json.decode(await proxy.admin("/config_dump?resource=dynamic_active_clusters"))
        assert {one["cluster"]["name"] for one in dump["configs"]} == {"one", "two", "three"}
    finally:
        await supervisor.stop_all()
