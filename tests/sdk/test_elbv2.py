"""Load balancers through boto3, with real servers behind them and real requests through them."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import refused

from cloudlet.engines.proxies import envoy
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.testing import LocalCloud, eventually

try:
    envoy.binary()
except ProxyMissing as absent:
    pytest.skip(str(absent), allow_module_level=True)


class Server:
    """An HTTP server that says its name and what it was asked, and sets the cookie of ``?cookie=``; ``healthy`` is the
    status of ``/health``."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.name, self.healthy = name, 200
        self.connections: list[socket.socket] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections.append(self.request)
                super().setup()

            def do_GET(self) -> None:
                status = server.healthy if self.path == "/health" else 200
                if self.path.startswith("/slow"):
                    time.sleep(1)
                body = json.dumps(
                    {"name": server.name, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
                ).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                if "?cookie=" in self.path:
                    self.send_header("set-cookie", f"{self.path.partition('?cookie=')[2]}=1; Path=/")
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
        """As a process that is killed: nothing listens, and every connection is cut."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


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
    except http.client.HTTPException:
        return False
    except OSError:
        return True
    return False


def address_of(cloud: LocalCloud, name: str = "front") -> str:
    (found,) = [one for one in cloud.control("resources")["resources"] if one["name"] == name]
    return str(found["address"])


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
    assert address.startswith("127.")
    assert address != "127.0.0.1"
    answer = get(address, port, "/x?y=1", host="shop.example")
    assert (answer.status, answer.json["name"], answer.json["path"]) == (200, "a", "/x?y=1")
    told = answer.json["headers"]
    assert told["host"] == f"shop.example:{port}"
    assert re.fullmatch("Root=1-[0-9a-f]{8}-[0-9a-f]{24}", told["x-amzn-trace-id"])
    assert (told["x-forwarded-proto"], told["x-forwarded-port"]) == ("http", str(port))
    assert told["x-forwarded-for"].count(".") == 3
    assert not [name for name in (*told, *answer.headers) if "envoy" in name or "cloudlet" in name]
    assert get("127.0.0.1", port, "/shared", host=one["DNSName"]).json["path"] == "/shared"
    elb.delete_load_balancer(LoadBalancerArn=one["LoadBalancerArn"])
    eventually(lambda: gone(address, port), 5)


def rule(elb: Any, listener: str, priority: int, actions: list[dict[str, Any]], *conditions: dict[str, Any]) -> str:
    made = elb.create_rule(ListenerArn=listener, Priority=priority, Conditions=list(conditions), Actions=actions)
    return str(made["Rules"][0]["RuleArn"])


def path_is(*values: str) -> dict[str, Any]:
    return {"Field": "path-pattern", "PathPatternConfig": {"Values": list(values)}}


def host_is(*values: str) -> dict[str, Any]:
    return {"Field": "host-header", "HostHeaderConfig": {"Values": list(values)}}


class Front:
    """A load balancer with one HTTP listener."""

    def __init__(self, cloud: LocalCloud, actions: list[dict[str, Any]], name: str = "front", port: int = 0) -> None:
        self.elb, self.port = cloud.client("elbv2"), port or free_port()
        self.arn = load_balancer(cloud, name)["LoadBalancerArn"]
        self.listener = self.elb.create_listener(
            LoadBalancerArn=self.arn, Protocol="HTTP", Port=self.port, DefaultActions=actions
        )["Listeners"][0]["ListenerArn"]
        self.address = address_of(cloud, name)

    def get(self, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        return get(self.address, self.port, path, method, **headers)


def test_rules(cloud: LocalCloud, elb: Any) -> None:
    front = Front(cloud, fixed(404, "nothing"))
    seen = front.get().status  # the default action is there at once
    assert seen == 404

    def header(name: str, *values: str) -> dict[str, Any]:
        return {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": name, "Values": list(values)}}

    def query(*pairs: dict[str, str]) -> dict[str, Any]:
        return {"Field": "query-string", "QueryStringConfig": {"Values": list(pairs)}}

    rules = [
        ("exact", path_is("/exact")),
        ("prefix", path_is("/api/*")),
        ("wild", path_is("/img/*.png", "/doc/????")),
        ("host", host_is("*.Example.com", "example.org")),
        ("header", header("X-Client", "mobile*", "tablet")),
        ("method", {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["PUT", "DELETE"]}}),
        ("query", query({"Key": "version", "Value": "v1"}, {"Value": "*debug*"})),
        (
            "source",
            path_is("/source"),
            {"Field": "source-ip", "SourceIpConfig": {"Values": ["0.0.0.0/1", "128.0.0.0/1"]}},
        ),
        ("nobody", path_is("/nobody"), {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.1.128.0/17"]}}),
    ]
    for priority, (name, *conditions) in enumerate(rules, 10):
        rule(elb, front.listener, priority, fixed(200, name), *conditions)
    redirect = {
        "Protocol": "HTTPS",
        "Port": "8443",
        "Host": "new.example",
        "Path": "/v2/#{path}",
        "StatusCode": "HTTP_301",
    }
    rule(elb, front.listener, 1, [{"Type": "redirect", "RedirectConfig": redirect}], path_is("/old/*"))
    plain = {"Path": "/login", "Query": "from=here", "StatusCode": "HTTP_302"}
    rule(elb, front.listener, 2, [{"Type": "redirect", "RedirectConfig": plain}], path_is("/account"))
    # Each of Envoy's threads takes the rules up by itself.
    eventually(lambda: all(front.get("/account").status == 302 for _ in range(10)))

    def outcome(path: str = "/", method: str = "GET", **headers: str) -> str:
        return front.get(path, method, **headers).body.decode()

    assert outcome("/exact") == "exact"
    assert (outcome("/exact/"), outcome("/Exact")) == ("nothing", "nothing")
    assert outcome("/api/orders?x=1") == "prefix"
    assert (outcome("/img/a/b.png"), outcome("/doc/1234"), outcome("/doc/12345")) == ("wild", "wild", "nothing")
    assert (outcome(host="a.example.COM"), outcome(host="example.org:80"), outcome(host="example.com")) == (
        "host",
        "host",
        "nothing",
    )
    assert (outcome(x_client="Mobile Safari"), outcome(x_client="desktop")) == ("header", "nothing")
    assert (outcome(method="PUT"), outcome(method="POST")) == ("method", "nothing")
    assert (outcome("/?a=b&version=v1"), outcome("/?q=my-debug-x"), outcome("/?version=v2")) == (
        "query",
        "query",
        "nothing",
    )
    assert (outcome("/source"), outcome("/nobody")) == ("source", "nothing")
    assert outcome("/source", x_cloudlet_source="10.1.200.1") == "source"
    moved = front.get("/old/a/b?c=d", host="old.example")
    assert (moved.status, moved.headers["location"]) == (301, "https://new.example:8443/v2/old/a/b?c=d")
    found = front.get("/account?x=y", host=f"here.example:{front.port}")
    assert (found.status, found.headers["location"]) == (302, f"http://here.example:{front.port}/login?from=here")
    answer = front.get("/exact")
    assert (answer.headers["server"], answer.headers["content-type"]) == ("awselb/2.0", "text/plain")

    described = elb.describe_rules(ListenerArn=front.listener)["Rules"]
    assert [one["Priority"] for one in described] == ["1", "2", *(str(number) for number in range(10, 19)), "default"]
    by_name = {one["Actions"][0].get("FixedResponseConfig", {}).get("MessageBody"): one["RuleArn"] for one in described}
    assert refused(rule, elb=elb, listener=front.listener, priority=10, actions=fixed(200))[0] == "ValidationError"
    with pytest.raises(ClientError, match="PriorityInUse"):
        rule(elb, front.listener, 10, fixed(200), path_is("/y"))
    elb.set_rule_priorities(
        RulePriorities=[{"RuleArn": by_name["exact"], "Priority": 11}, {"RuleArn": by_name["prefix"], "Priority": 10}]
    )
    elb.modify_rule(RuleArn=by_name["prefix"], Conditions=[path_is("/exact")])
    eventually(lambda: outcome("/exact") == "prefix")
    elb.delete_rule(RuleArn=by_name["prefix"])
    eventually(lambda: outcome("/exact") == "exact")
    assert refused(elb.delete_rule, RuleArn=described[-1]["RuleArn"])[0] == "OperationNotPermitted"
    assert refused(elb.delete_rule, RuleArn=by_name["prefix"])[0] == "RuleNotFound"


def test_weights_and_cookies(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    blue, green = group(cloud, "blue", servers("b1"), servers("b2")), group(cloud, "green", servers("g"))
    weighted = [{"TargetGroupArn": blue, "Weight": 90}, {"TargetGroupArn": green, "Weight": 10}]
    front = Front(cloud, [{"Type": "forward", "ForwardConfig": {"TargetGroups": weighted}}])
    healthy(cloud, blue, 2)
    healthy(cloud, green, 1)
    seen = Counter(front.get().json["name"] for _ in range(400))
    assert 15 <= seen["g"] <= 70
    assert abs(seen["b1"] - seen["b2"]) < 60

    sticky = {"TargetGroups": weighted, "TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 60}}
    elb.modify_listener(ListenerArn=front.listener, DefaultActions=[{"Type": "forward", "ForwardConfig": sticky}])
    enabled = [{"Key": "stickiness.enabled", "Value": "true"}]
    elb.modify_target_group_attributes(TargetGroupArn=blue, Attributes=enabled)

    def cookies(answer: Answer) -> str:
        return answer.headers.get("set-cookie", "")

    eventually(lambda: "AWSALBTG=" in cookies(front.get()))
    first = eventually(lambda: (lambda answer: answer if "AWSALB=" in cookies(answer) else None)(raw_get(front)))
    jar = "; ".join(one.split(";")[0] for one in first.cookies)
    assert {front.get(cookie=jar).json["name"] for _ in range(40)} == {first.json["name"]}

    wrong = refused(
        elb.modify_target_group_attributes,
        TargetGroupArn=blue,
        Attributes=[{"Key": "stickiness.type", "Value": "app_cookie"}],
    )
    words = "You must specify an application cookie name for stickiness of type 'app_cookie'"
    assert wrong == ("InvalidConfigurationRequest", words)


class Raw(Answer):
    """An answer with each of its cookies."""

    cookies: list[str]


def raw_get(front: Front) -> Raw:
    connection = http.client.HTTPConnection(front.address, front.port, timeout=10)
    connection.request("GET", "/")
    answer = connection.getresponse()
    made = Raw(answer.status, {}, answer.read())
    made.cookies = answer.headers.get_all("set-cookie") or []
    made.headers["set-cookie"] = "; ".join(made.cookies)
    connection.close()
    return made


def test_only_healthy_targets_get_traffic(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    good, bad = servers("good"), servers("bad")
    bad.healthy = 500
    arn = group(cloud, "shop", good, bad)
    states = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    assert {one["TargetHealth"]["State"] for one in states} == {"unused"}
    front = Front(cloud, forward(arn))

    def state(server: Server) -> tuple[str, str]:
        targets = [{"Id": "127.0.0.1", "Port": server.port}]
        (one,) = elb.describe_target_health(TargetGroupArn=arn, Targets=targets)["TargetHealthDescriptions"]
        return one["TargetHealth"]["State"], one["TargetHealth"].get("Reason", "")

    eventually(lambda: (state(good), state(bad)) == (("healthy", ""), ("unhealthy", "Target.FailedHealthChecks")))
    assert {front.get().json["name"] for _ in range(20)} == {"good"}
    elb.get_waiter("target_in_service").wait(
        TargetGroupArn=arn, Targets=[{"Id": "127.0.0.1", "Port": good.port}], WaiterConfig={"Delay": 1}
    )
    bad.healthy = 200
    eventually(lambda: state(bad) == ("healthy", ""), 25)
    eventually(lambda: {front.get().json["name"] for _ in range(20)} == {"good", "bad"})

    # A dead one is no error for its callers even before its health check says so.
    good.stop()
    assert {front.get().json["name"] for _ in range(20)} == {"bad"}

    # Deregistered targets drain, get nothing, and are forgotten when their delay is over.
    elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": "127.0.0.1", "Port": bad.port}])
    assert state(bad) == ("draining", "Target.DeregistrationInProgress")
    elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": "127.0.0.1", "Port": good.port}])
    eventually(lambda: front.get().status == 503)
    assert b"503 Service Temporarily Unavailable" in front.get().body
    cloud.advance(301)
    eventually(lambda: not elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"])
    assert state(bad) == ("unused", "Target.NotRegistered")
