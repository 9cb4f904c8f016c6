"""Several clouds on one machine: 127.0.0.1 has each port only once, and nobody answers for another's load balancer."""

from __future__ import annotations

import contextlib
import ssl
import urllib.error
import urllib.request
from typing import Any

from test_elbv2 import Front, elb, eventually, fixed, free_port, get, load_balancer
from test_elbv2_network import Echo, echo, said, target
from test_elbv2_traffic import certificate, forward

from cloudlet.testing.local import LocalCloud

__all__ = ["echo", "elb"]


def shown(cloud: LocalCloud, name: str = "front") -> dict[str, Any]:
    (found,) = [one for one in cloud.control("resources")["resources"] if one["name"] == name]
    return dict(found)


def asked(cloud: LocalCloud, name: str = "front") -> bytes:
    """What the endpoint that is shown answers; nothing while the cloud still starts."""
    url = shown(cloud, name)["endpoint"]
    host, _, port = url.removeprefix("http://").partition(":")
    with contextlib.suppress(OSError):
        return get("127.0.0.1", int(port), host=f"{host}:{port}").body
    return b""


def test_two_clouds(cloud: LocalCloud, elb: Any, tmp_path: Any) -> None:
    port = free_port()
    Front(cloud, fixed(200, "first"), port=port)
    with LocalCloud(data_dir=tmp_path / "second") as second:
        front = Front(second, fixed(200, "second"), port=port)
        assert (asked(cloud), asked(second)) == (b"first", b"second")
        names = [shown(one)["endpoint"].removeprefix("http://").partition(":")[0] for one in (cloud, second)]
        assert shown(cloud)["endpoint"].endswith(f":{port}")
        moved = shown(second)["endpoint"]
        other = int(moved.rpartition(":")[2])
        assert other != port
        assert shown(second)["mapped"] == f"port {port} is at 127.0.0.1:{other}"
        assert get(front.address, port).body == b"second"  # its own address has its own port

        # The name of another's load balancer is refused, also with a port; any other host finds the only one.
        for host in (names[1], f"{names[1]}:{port}"):
            answer = get("127.0.0.1", port, host=host)
            assert (answer.status, b"No load balancer of this name" in answer.body) == (421, True)
        assert get("127.0.0.1", other, host=names[0]).status == 421
        assert get("127.0.0.1", port).body == b"first"
        assert get("127.0.0.1", port, host="shop.example").body == b"first"

        # Those that come later share the port that stands for theirs; so they do after a kill.
        Front(second, fixed(200, "third"), "later", port=port)
        assert (asked(second), asked(second, "later")) == (b"second", b"third")
        assert shown(second, "later")["endpoint"].endswith(f":{other}")
        second.kill()
        second.start()
        assert shown(second)["endpoint"] == moved
        assert (asked(second), asked(second, "later")) == (b"second", b"third")

        # Once the port is free it is theirs after a restart.
        elb.delete_load_balancer(LoadBalancerArn=elb.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"])
        eventually(lambda: get("127.0.0.1", other, host=names[1]).body == b"second")
        second.stop()
        second.start()
        eventually(lambda: shown(second)["endpoint"].endswith(f":{port}"))
        eventually(lambda: asked(second) == b"second")
        assert "mapped" not in shown(second)


def test_a_listener_made_anew_keeps_its_port(cloud: LocalCloud, elb: Any) -> None:
    front = Front(cloud, fixed(200, "one"))
    elb.delete_listener(ListenerArn=front.listener)
    elb.create_listener(LoadBalancerArn=front.arn, Protocol="HTTP", Port=front.port, DefaultActions=fixed(200, "two"))
    assert shown(cloud)["endpoint"].endswith(f":{front.port}")
    assert asked(cloud) == b"two"


def test_names_of_others_over_tls(cloud: LocalCloud, elb: Any) -> None:
    one, port = load_balancer(cloud), free_port()
    arn = certificate(cloud, "one.example")
    elb.create_listener(
        LoadBalancerArn=one["LoadBalancerArn"],
        Protocol="HTTPS",
        Port=port,
        Certificates=[{"CertificateArn": arn}],
        DefaultActions=fixed(200, "one"),
    )
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def status(host: str) -> int:
        request = urllib.request.Request(f"https://127.0.0.1:{port}/", headers={"host": host})
        try:
            with urllib.request.urlopen(request, context=context, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert [status(host) for host in (one["DNSName"], "one.example", "b.us-east-1.elb.localhost")] == [200, 200, 421]


def test_datagrams_of_two_clouds(cloud: LocalCloud, elb: Any, echo: Echo, tmp_path: Any) -> None:
    port = free_port()

    def make(where: LocalCloud) -> None:
        arn = target(where, "datagrams", "UDP", echo)
        owner = load_balancer(where, "net", Type="network")["LoadBalancerArn"]
        where.client("elbv2").create_listener(
            LoadBalancerArn=owner, Protocol="UDP", Port=port, DefaultActions=forward(arn)
        )

    make(cloud)
    with LocalCloud(data_dir=tmp_path / "second") as second:
        make(second)
        other = int(shown(second, "net")["endpoint"].rpartition(":")[2])
        for one in (port, other):
            eventually(lambda one=one: said("127.0.0.1", one, b"hello") == b"HELLO")
        assert other != port
