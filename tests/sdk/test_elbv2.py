"""Load balancers through boto3, with real servers behind them and real requests through them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.engines.proxies import envoy
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.testing.local import LocalCloud

try:
    envoy.binary()
except ProxyMissing as absent:
    pytest.skip(str(absent), allow_module_level=True)


class Server:
    """An HTTP server that says its name and what it was asked; ``healthy`` is the status of ``/health``."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.name, self.healthy = name, 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status = server.healthy if self.path == "/health" else 200
                body = json.dumps(
                    {"name": server.name, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
                ).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_PUT = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        class Quick(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 100

        self._server = Quick(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def servers() -> Iterator[Callable[[str], Server]]:
    made: list[Server] = []

    def make(name: str) -> Server:
        made.append(Server(name))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def elb(cloud: LocalCloud) -> Any:
    return cloud.client("elbv2")


def refused(call: Any, **parameters: Any) -> tuple[str, str]:
    """The code and the message of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def subnets(cloud: LocalCloud) -> list[str]:
    """Two subnets of the default VPC, or two names where this cloud has no EC2."""
    try:
        found = cloud.client("ec2").describe_subnets()["Subnets"]
        return [subnet["SubnetId"] for subnet in found][:2]
    except ClientError:
        return ["subnet-1", "subnet-2"]


def vpc(cloud: LocalCloud) -> str:
    try:
        return str(cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"])
    except ClientError:
        return "vpc-1"


def load_balancer(cloud: LocalCloud, name: str = "front", **more: Any) -> dict[str, Any]:
    made = cloud.client("elbv2").create_load_balancer(Name=name, Subnets=subnets(cloud), **more)
    return dict(made["LoadBalancers"][0])


def group(cloud: LocalCloud, name: str, *servers: Server, **more: Any) -> str:
    """A target group with servers, checked every five seconds."""
    elb = cloud.client("elbv2")
    wanted = {"Protocol": "HTTP", "Port": 80, "VpcId": vpc(cloud), "TargetType": "ip", "HealthCheckPath": "/health"}
    wanted |= {"HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 2, "UnhealthyThresholdCount": 2}
    wanted |= {"HealthyThresholdCount": 2, **more}
    arn = elb.create_target_group(Name=name, **{k: v for k, v in wanted.items() if v is not None})["TargetGroups"][0]
    targets = [{"Id": "127.0.0.1", "Port": server.port} for server in servers]
    if targets:
        elb.register_targets(TargetGroupArn=arn["TargetGroupArn"], Targets=targets)
    return str(arn["TargetGroupArn"])


def forward(arn: str) -> list[dict[str, Any]]:
    return [{"Type": "forward", "TargetGroupArn": arn}]


def fixed(status: int, body: str = "") -> list[dict[str, Any]]:
    config = {"StatusCode": str(status), "MessageBody": body, "ContentType": "text/plain"}
    return [{"Type": "fixed-response", "FixedResponseConfig": config}]


class Answer:
    """An answer; ``json`` is what a ``Server`` says."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def get(address: str, port: int, path: str = "/", method: str = "GET", **headers: str) -> Answer:
    """One request on a connection of its own. A header's underscores stand for hyphens."""
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def gone(address: str, port: int) -> bool:
    """Whether nothing listens there any more."""
    try:
        get(address, port)
    except OSError:
        return True
    return False


def address_of(cloud: LocalCloud, name: str = "front") -> str:
    (found,) = [one for one in cloud.control("resources")["resources"] if one["name"] == name]
    return str(found["address"])


def eventually(check: Callable[[], Any], seconds: float = 15) -> Any:
    """The first true answer of ``check``."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return found


def healthy(cloud: LocalCloud, arn: str, count: int) -> None:
    """Wait until so many targets are healthy."""

    def there() -> bool:
        found = cloud.client("elbv2").describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        return sum(one["TargetHealth"]["State"] == "healthy" for one in found) == count

    eventually(there)


def test_a_request_comes_through(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    one = load_balancer(cloud)
    assert one["DNSName"].startswith("front-")
    assert one["DNSName"].endswith(".us-east-1.elb.localhost")
    arn, port = group(cloud, "shop", servers("a")), free_port()
    made = elb.create_listener(
        LoadBalancerArn=one["LoadBalancerArn"], Protocol="HTTP", Port=port, DefaultActions=forward(arn)
    )["Listeners"][0]
    assert made["DefaultActions"][0]["ForwardConfig"]["TargetGroups"] == [{"TargetGroupArn": arn, "Weight": 1}]
    healthy(cloud, arn, 1)
    address = address_of(cloud)
    assert address.startswith("127.") and address != "127.0.0.1"
    answer = get(address, port, "/x?y=1", host="shop.example")
    assert (answer.status, answer.json["name"], answer.json["path"]) == (200, "a", "/x?y=1")
    told = answer.json["headers"]
    assert told["host"] == "shop.example"
    assert (told["x-forwarded-proto"], told["x-forwarded-port"]) == ("http", str(port))
    assert told["x-forwarded-for"].count(".") == 3
    assert not [name for name in (*told, *answer.headers) if "envoy" in name or "cloudlet" in name]
    assert get("127.0.0.1", port, "/shared", host=one["DNSName"]).json["path"] == "/shared"
    elb.delete_load_balancer(LoadBalancerArn=one["LoadBalancerArn"])
    eventually(lambda: gone(address, port), 5)
