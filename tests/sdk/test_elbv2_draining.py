"""Deregistered targets: they finish what they have under way, and no longer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from test_elbv2 import Front, Server, address_of, elb, eventually, forward, free_port, group, healthy, servers
from test_elbv2_network import Echo, echo, load_balancer, said, target

from cloudlet.testing.local import LocalCloud

__all__ = ["echo", "elb", "servers"]


def states(elb: Any, arn: str) -> dict[int, str]:
    found = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    return {one["Target"]["Port"]: one["TargetHealth"]["State"] for one in found}


def deregister(elb: Any, arn: str, *ports: int) -> None:
    elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": "127.0.0.1", "Port": port} for port in ports])


def test_a_target_leaves_once_it_has_finished(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    idle, other = servers("idle"), servers("other")
    with socket.create_server(("127.0.0.1", 0)) as held:
        busy = held.getsockname()[1]
        arn = group(cloud, "shop", idle, other, HealthCheckProtocol="HTTP", HealthCheckPort=str(other.port))
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "127.0.0.1", "Port": busy}])
        front = Front(cloud, forward(arn))
        healthy(cloud, arn, 3)

        statuses: list[int] = []
        threads: list[threading.Thread] = []

        def held_one() -> socket.socket | None:
            """A request to the one that does not answer; the others answer at once and keep their connections."""
            threads.append(threading.Thread(target=lambda: statuses.append(front.get("/long").status)))
            threads[-1].start()
            with contextlib.suppress(TimeoutError):
                return held.accept()[0]
            return None

        held.settimeout(0.2)
        connection = eventually(held_one)
        connection.recv(1000)

        deregister(elb, arn, busy, idle.port)
        assert states(elb, arn) == {busy: "draining", idle.port: "draining", other.port: "healthy"}
        eventually(lambda: idle.port not in states(elb, arn))
        assert {front.get().json["name"] for _ in range(10)} == {"other"}
        time.sleep(1)
        assert states(elb, arn)[busy] == "draining"

        # Also where nobody else is left, and the control plane has been away.
        deregister(elb, arn, other.port)
        cloud.kill()
        cloud.start()
        elb = cloud.client("elbv2")
        eventually(lambda: states(elb, arn) == {busy: "draining"})
        assert front.get().status == 503
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}
        eventually(lambda: not states(elb, arn), 7)
        connection.close()


def test_the_delay_is_the_longest(cloud: LocalCloud, elb: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        arn = group(cloud, "shop", HealthCheckEnabled=None, HealthCheckPort="1")
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "127.0.0.1", "Port": port}])
        front = Front(cloud, forward(arn))
        with socket.create_connection((front.address, front.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            connection, _ = held.accept()
            deregister(elb, arn, port)
            cloud.advance(290)
            time.sleep(0.5)
            assert states(elb, arn) == {port: "draining"}
            cloud.advance(11)
            eventually(lambda: not states(elb, arn), 3)
            connection.close()


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_flows(cloud: LocalCloud, elb: Any, echo: Echo, protocol: str) -> None:
    one, port = load_balancer(cloud, "net", Type="network"), free_port()
    arn = target(cloud, "flows", protocol, echo)
    elb.create_listener(
        LoadBalancerArn=one["LoadBalancerArn"], Protocol=protocol, Port=port, DefaultActions=forward(arn)
    )
    healthy(cloud, arn, 1)
    address = address_of(cloud, "net")
    if protocol == "UDP":
        assert said(address, port, b"hello") == b"HELLO"
        deregister(elb, arn, echo.port)
        eventually(lambda: not states(elb, arn), 3)
        return
    with socket.create_connection((address, port)) as client:
        time.sleep(0.1)
        deregister(elb, arn, echo.port)
        time.sleep(1.5)
        assert states(elb, arn) == {echo.port: "draining"}
        client.sendall(b"hello")
        assert client.recv(100) == b"HELLO"
    eventually(lambda: not states(elb, arn), 7)
