"""Load balancers: TLS, other protocols, functions, logs and numbers, and what outlives a kill."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import socket
import ssl
import threading
import time
import zipfile
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from test_elbv2 import (
    Front,
    Server,
    address_of,
    elb,
    eventually,
    fixed,
    forward,
    free_port,
    get,
    group,
    healthy,
    load_balancer,
    path_is,
    refused,
    rule,
    servers,
)

from cloudlet.testing.local import LocalCloud

__all__ = ["elb", "servers"]


def certificate(cloud: LocalCloud, name: str) -> str:
    acm = cloud.client("acm")
    arn = str(acm.request_certificate(DomainName=name)["CertificateArn"])
    acm.get_waiter("certificate_validated").wait(CertificateArn=arn, WaiterConfig={"Delay": 1})
    return arn


def shown(address: str, port: int, name: str, alpn: tuple[str, ...] = ()) -> tuple[str, str | None]:
    """The common name of the certificate that is shown for a name, and the protocol that was agreed on."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    with socket.create_connection((address, port), 5) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        return next(one for one in ("one.example", "two.example") if one.encode() in der), tls.selected_alpn_protocol()


def test_https_with_several_certificates(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    one, two = certificate(cloud, "one.example"), certificate(cloud, "two.example")
    front = Front(cloud, fixed(404))
    arn, port = group(cloud, "shop", servers("a")), free_port()
    listener = {"LoadBalancerArn": front.arn, "Protocol": "HTTPS", "Port": port, "DefaultActions": forward(arn)}
    assert refused(elb.create_listener, **listener) == (
        "ValidationError",
        "A certificate must be specified for HTTPS listeners",
    )
    unknown = [{"CertificateArn": one[:-1] + ("0" if one[-1] != "0" else "1")}]
    assert refused(elb.create_listener, **listener, Certificates=unknown)[0] == "CertificateNotFound"
    made = elb.create_listener(
        **listener, Certificates=[{"CertificateArn": one}], SslPolicy="ELBSecurityPolicy-TLS13-1-2-2021-06"
    )["Listeners"][0]
    assert shown(front.address, port, "two.example")[0] == "one.example"
    elb.add_listener_certificates(ListenerArn=made["ListenerArn"], Certificates=[{"CertificateArn": two}])
    eventually(lambda: shown(front.address, port, "two.example")[0] == "two.example")
    assert shown(front.address, port, "x.example", ("h2", "http/1.1")) == ("one.example", "h2")
    cloud.kill()
    cloud.start()
    for _ in range(20):  # the certificates are with the proxy, not with who told it
        assert shown(front.address, port, "two.example")[0] == "two.example"
        time.sleep(0.02)
    in_use = cloud.client("acm").describe_certificate(CertificateArn=two)["Certificate"]["InUseBy"]
    assert in_use == [front.arn]

    healthy(cloud, arn, 1)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((front.address, port)) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(b"GET /x HTTP/1.1\r\nhost: one.example\r\nconnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: tls.recv(65536), b""))
    assert b'"x-forwarded-proto": "https"' in answer
    redirect = {"Protocol": "HTTPS", "Port": str(port), "StatusCode": "HTTP_301"}
    elb.modify_listener(ListenerArn=front.listener, DefaultActions=[{"Type": "redirect", "RedirectConfig": redirect}])
    moved = eventually(
        lambda: (lambda found: found if found.status == 301 else None)(front.get("/y", host="a.example"))
    )
    assert moved.headers["location"] == f"https://a.example:{port}/y"
    elb.remove_listener_certificates(ListenerArn=made["ListenerArn"], Certificates=[{"CertificateArn": two}])
    eventually(lambda: shown(front.address, port, "two.example")[0] == "one.example")


def test_network_load_balancer(cloud: LocalCloud, elb: Any) -> None:
    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = echo.accept()
                with connection:
                    if data := connection.recv(100):
                        connection.sendall(data.upper())

    with socket.create_server(("127.0.0.1", 0)) as echo:
        threading.Thread(target=serve, daemon=True).start()
        one = load_balancer(cloud, "net", Type="network", Scheme="internal")
        assert one["DNSName"].startswith("internal-net-")
        made = elb.create_target_group(
            Name="echo", Protocol="TCP", Port=echo.getsockname()[1], VpcId=one["VpcId"] or "vpc-1", TargetType="ip"
        )["TargetGroups"][0]
        assert (made["HealthCheckProtocol"], made["HealthCheckTimeoutSeconds"]) == ("TCP", 10)
        arn, port = made["TargetGroupArn"], free_port()
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "127.0.0.1"}])
        listener = {"LoadBalancerArn": one["LoadBalancerArn"], "Port": port}
        assert (
            refused(elb.create_listener, **listener, Protocol="HTTP", DefaultActions=forward(arn))[0]
            == "ValidationError"
        )
        assert (
            refused(elb.create_listener, **listener, Protocol="UDP", DefaultActions=forward(arn))[0]
            == "IncompatibleProtocols"
        )
        elb.create_listener(**listener, Protocol="TCP", DefaultActions=forward(arn))
        healthy(cloud, arn, 1)
        for address in (address_of(cloud, "net"), "127.0.0.1"):
            with socket.create_connection((address, port), 5) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"HELLO"


_CODE = """
import json
def handler(event, context):
    if event["path"] == "/fail":
        raise ValueError("no")
    body = {key: event[key] for key in ("httpMethod", "path", "queryStringParameters", "body", "isBase64Encoded")}
    body["host"] = event["headers"]["host"]
    body["group"] = event["requestContext"]["elb"]["targetGroupArn"]
    return {"statusCode": 201, "statusDescription": "201 Created", "headers": {"X-A": "b"}, "body": json.dumps(body)}
"""


def test_a_function_behind_it(cloud: LocalCloud, elb: Any) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("index.py", _CODE)
    function = cloud.client("lambda").create_function(
        FunctionName="back",
        Runtime="python3.12",
        Handler="index.handler",
        Role="arn:aws:iam::000000000000:role/r",
        Code={"ZipFile": archive.getvalue()},
    )["FunctionArn"]
    cloud.client("lambda").get_waiter("function_active_v2").wait(FunctionName="back")
    arn = elb.create_target_group(Name="functions", TargetType="lambda")["TargetGroups"][0]["TargetGroupArn"]
    assert refused(elb.register_targets, TargetGroupArn=arn, Targets=[{"Id": function + "x"}])[0] == "InvalidTarget"
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": function}])
    front = Front(cloud, forward(arn))
    answer = front.get("/a%20b?x=1%202&y", host="shop.example")
    assert (answer.status, answer.headers["x-a"]) == (201, "b")
    assert answer.json == {
        "httpMethod": "GET",
        "path": "/a%20b",
        "queryStringParameters": {"x": "1%202", "y": ""},
        "body": "",
        "isBase64Encoded": False,
        "host": f"shop.example:{front.port}",
        "group": arn,
    }
    assert front.get("/fail").status == 502


def test_numbers_and_access_logs(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    cloud.client("s3").create_bucket(Bucket="logs")
    arn = group(cloud, "shop", servers("a"))
    front = Front(cloud, forward(arn))
    rule(elb, front.listener, 7, fixed(403, "no"), path_is("/admin"))
    attributes = {
        "access_logs.s3.enabled": "true",
        "access_logs.s3.bucket": "nothing-here",
        "access_logs.s3.prefix": "p",
    }

    def enable() -> None:
        pairs = [{"Key": key, "Value": value} for key, value in attributes.items()]
        elb.modify_load_balancer_attributes(LoadBalancerArn=front.arn, Attributes=pairs)

    with pytest.raises(Exception, match="InvalidConfigurationRequest"):
        enable()
    attributes["access_logs.s3.bucket"] = "logs"
    enable()
    healthy(cloud, arn, 1)
    eventually(lambda: front.get("/admin").status == 403)
    time.sleep(0.1)
    for _ in range(5):
        assert front.get("/orders?x=1", user_agent="me").status == 200
    time.sleep(1.2)  # Envoy writes its logs once a second
    cloud.advance(60)
    watch = cloud.client("cloudwatch")
    whole = {"Name": "LoadBalancer", "Value": front.arn.partition(":loadbalancer/")[2]}
    target = {"Name": "TargetGroup", "Value": arn.rpartition(":")[2]}

    def total(name: str, *dimensions: dict[str, str], statistic: str = "Sum") -> float:
        found = watch.get_metric_statistics(
            Namespace="AWS/ApplicationELB",
            MetricName=name,
            Dimensions=list(dimensions),
            StartTime=time.time() - 600,
            EndTime=time.time() + 7200,
            Period=86400,
            Statistics=[statistic],
        )["Datapoints"]
        return sum(point[statistic] for point in found)

    def counted() -> bool:
        cloud.advance(60)
        return total("RequestCount", whole) >= 5

    eventually(counted)
    assert total("RequestCount", whole, target) == total("HTTPCode_Target_2XX_Count", whole) == 5
    assert total("HTTPCode_ELB_4XX_Count", whole) >= 1
    assert total("HTTP_Fixed_Response_Count", whole) >= 1
    assert total("NewConnectionCount", whole) >= 6
    assert total("RequestCountPerTarget", target) == 5
    assert total("HealthyHostCount", whole, target, statistic="Maximum") == 1
    assert 0 <= total("TargetResponseTime", whole, target, statistic="Average") < 1

    def delivered() -> list[str]:
        cloud.advance(60)
        made = []
        for one in cloud.client("s3").list_objects_v2(Bucket="logs", Prefix="p/AWSLogs/").get("Contents", []):
            if one["Key"].endswith(".log.gz"):
                body = cloud.client("s3").get_object(Bucket="logs", Key=one["Key"])["Body"].read()
                made += [line for line in gzip.decompress(body).decode().splitlines() if "/orders" in line]
        return made if len(made) >= 5 else []

    lines = eventually(delivered)
    assert len(lines) == 5
    assert lines[0].startswith("http ")
    assert f'"GET http://{front.address}:{front.port}/orders?x=1 HTTP/1.1" "me"' in lines[0]
    assert arn in lines[0]


def test_no_request_is_lost_when_the_control_plane_is_killed(
    cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]
) -> None:
    arn = group(cloud, "shop", servers("a"), servers("b"))
    front = Front(cloud, forward(arn))
    healthy(cloud, arn, 2)
    (proxy,) = [one for one in psutil.process_iter() if _is_proxy_of(one, cloud)]
    seen: list[int] = []
    failed: list[str] = []
    over = threading.Event()

    def drive() -> None:
        while not over.is_set():
            try:
                seen.append(front.get().status)
            except OSError as error:
                failed.append(str(error))

    drivers = [threading.Thread(target=drive) for _ in range(4)]
    for driver in drivers:
        driver.start()
    for _ in range(3):
        cloud.kill()
        time.sleep(0.2)
        cloud.start()
        rule(cloud.client("elbv2"), front.listener, len(seen) + 1, fixed(418), path_is("/x"))
        eventually(lambda: front.get("/x").status == 418)
    over.set()
    for driver in drivers:
        driver.join()
    assert not failed
    assert set(seen) == {200}
    assert [one.pid for one in psutil.process_iter() if _is_proxy_of(one, cloud)] == [proxy.pid]
    assert address_of(cloud) == front.address

    # An Envoy that dies is there again with all that it carried.
    proxy.kill()
    eventually(lambda: _answers(front))
    cloud.client("elbv2").delete_listener(ListenerArn=front.listener)
    eventually(lambda: not [one for one in psutil.process_iter() if _is_proxy_of(one, cloud)])


def _answers(front: Front) -> bool:
    try:
        return front.get().status == 200
    except OSError:
        return False


def _is_proxy_of(process: psutil.Process, cloud: LocalCloud) -> bool:
    with contextlib.suppress(psutil.Error):
        command = process.cmdline()
        return bool(command) and "envoy" in command[0] and str(cloud.data_dir) in " ".join(command)
    return False


def test_500_targets_at_once(cloud: LocalCloud, elb: Any) -> None:
    arn = group(cloud, "many")
    front = Front(cloud, forward(arn))
    eventually(lambda: front.get().status == 503)
    targets = [{"Id": f"127.1.{number // 250}.{number % 250 + 1}", "Port": 9} for number in range(500)]
    elb.register_targets(TargetGroupArn=arn, Targets=targets)
    eventually(lambda: len(elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]) == 500)
    elb.deregister_targets(TargetGroupArn=arn, Targets=targets)


_TEMPLATE = {
    "Parameters": {
        "Weight": {"Type": "Number", "Default": 50},
        "Port": {"Type": "Number"},
        "Target": {"Type": "Number"},
    },
    "Resources": {
        "Front": {
            "Type": "AWS::ElasticLoadBalancingV2::LoadBalancer",
            "Properties": {
                "Subnets": [],
                "LoadBalancerAttributes": [{"Key": "idle_timeout.timeout_seconds", "Value": "30"}],
            },
        },
        "Group": {
            "Type": "AWS::ElasticLoadBalancingV2::TargetGroup",
            "Properties": {
                "Protocol": "HTTP",
                "Port": 80,
                "VpcId": "",
                "TargetType": "ip",
                "HealthCheckPath": "/health",
                "TargetGroupAttributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": 5}],
                "Targets": [{"Id": "127.0.0.1", "Port": {"Ref": "Target"}}],
            },
        },
        "Listener": {
            "Type": "AWS::ElasticLoadBalancingV2::Listener",
            "Properties": {
                "LoadBalancerArn": {"Ref": "Front"},
                "Port": {"Ref": "Port"},
                "Protocol": "HTTP",
                "DefaultActions": [{"Type": "forward", "TargetGroupArn": {"Ref": "Group"}}],
            },
        },
        "Rule": {
            "Type": "AWS::ElasticLoadBalancingV2::ListenerRule",
            "Properties": {
                "ListenerArn": {"Ref": "Listener"},
                "Priority": {"Ref": "Weight"},
                "Conditions": [{"Field": "path-pattern", "Values": ["/teapot"]}],
                "Actions": [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "418"}}],
            },
        },
    },
    "Outputs": {
        "Name": {"Value": {"Fn::GetAtt": ["Front", "DNSName"]}},
        "Full": {"Value": {"Fn::GetAtt": ["Group", "TargetGroupFullName"]}},
    },
}


def test_a_stack(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    from test_elbv2 import subnets, vpc

    server, port = servers("a"), free_port()
    _TEMPLATE["Resources"]["Front"]["Properties"]["Subnets"] = subnets(cloud)
    _TEMPLATE["Resources"]["Group"]["Properties"]["VpcId"] = vpc(cloud)
    stacks = cloud.client("cloudformation")

    def parameters(weight: int) -> list[dict[str, str]]:
        values = {"Weight": weight, "Port": port, "Target": server.port}
        return [{"ParameterKey": key, "ParameterValue": str(value)} for key, value in values.items()]

    stacks.create_stack(StackName="web", TemplateBody=json.dumps(_TEMPLATE), Parameters=parameters(50))
    stacks.get_waiter("stack_create_complete").wait(StackName="web", WaiterConfig={"Delay": 0.2})
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stacks.describe_stacks()["Stacks"][0]["Outputs"]}
    assert outputs["Full"].startswith("targetgroup/web-")
    (one,) = elb.describe_load_balancers()["LoadBalancers"]
    assert one["DNSName"] == outputs["Name"]
    address = address_of(cloud, one["LoadBalancerName"])
    eventually(lambda: get(address, port).status == 200)
    assert get(address, port, "/teapot").status == 418
    stacks.update_stack(StackName="web", UsePreviousTemplate=True, Parameters=parameters(60))
    stacks.get_waiter("stack_update_complete").wait(StackName="web", WaiterConfig={"Delay": 0.2})
    (listener,) = elb.describe_listeners(LoadBalancerArn=one["LoadBalancerArn"])["Listeners"]
    rules = elb.describe_rules(ListenerArn=listener["ListenerArn"])["Rules"]
    assert [found["Priority"] for found in rules] == ["60", "default"]
    stacks.delete_stack(StackName="web")
    stacks.get_waiter("stack_delete_complete").wait(StackName="web", WaiterConfig={"Delay": 0.2})
    assert not elb.describe_load_balancers()["LoadBalancers"]
    assert not elb.describe_target_groups()["TargetGroups"]


def test_two_share_a_port(cloud: LocalCloud, elb: Any) -> None:
    one = Front(cloud, fixed(200, "one"), "one")
    two = Front(cloud, fixed(200, "two"), "two", port=one.port)
    assert one.address != two.address
    assert (one.get().body, two.get().body) == (b"one", b"two")
    names = {found["LoadBalancerName"]: found["DNSName"] for found in elb.describe_load_balancers()["LoadBalancers"]}
    for name in ("one", "two"):
        host = names[name]
        eventually(lambda host=host, name=name: get("127.0.0.1", one.port, host=host).body == name.encode())
        assert get("127.0.0.1", one.port, host=f"{host}:{one.port}").body == name.encode()


def test_a_port_that_cannot_be_had_is_mapped(cloud: LocalCloud) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        front = Front(cloud, fixed(200, "mapped"), port=taken.getsockname()[1])
        (found,) = [one for one in cloud.control("resources")["resources"] if one["name"] == "front"]
        own, shared = found["mapped"].split(", ")
        assert own.startswith(f"port {front.port} is at {front.address}:")
        assert shared.startswith(f"port {front.port} is at 127.0.0.1:")
        assert found["endpoint"].endswith(shared.rpartition(":")[2])
        for where in (own, shared):
            address, _, port = where.rpartition(" ")[2].partition(":")
            assert get(address, int(port)).body == b"mapped"


def test_websockets(cloud: LocalCloud, elb: Any) -> None:
    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            while asked := connection.recv(4096):
                if b"upgrade: websocket" in asked.lower():
                    connection.sendall(
                        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
                    )
                    while data := connection.recv(100):
                        connection.sendall(data[::-1])
                    return
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        arn = group(cloud, "sockets")
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "127.0.0.1", "Port": server.getsockname()[1]}])
        front = Front(cloud, forward(arn))
        healthy(cloud, arn, 1)
        with socket.create_connection((front.address, front.port), 5) as client:
            client.sendall(b"GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 101")
            client.sendall(b"abc")
            assert client.recv(100) == b"cba"


def test_http2_on_both_sides(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    """An Envoy that is a load balancer's target speaks HTTP/2 without TLS, as a gRPC server does."""
    inner = Front(cloud, fixed(200, "inner"), "inner")
    made = elb.create_target_group(
        Name="grpc",
        Protocol="HTTP",
        ProtocolVersion="GRPC",
        Port=inner.port,
        VpcId=elb.describe_load_balancers()["LoadBalancers"][0]["VpcId"] or "vpc-1",
        TargetType="ip",
    )["TargetGroups"][0]
    assert (made["HealthCheckPath"], made["Matcher"]) == ("/AWS.ALB/healthcheck", {"GrpcCode": "12"})
    elb.register_targets(TargetGroupArn=made["TargetGroupArn"], Targets=[{"Id": inner.address, "Port": inner.port}])
    outer = Front(cloud, forward(made["TargetGroupArn"]), "outer")
    healthy(cloud, made["TargetGroupArn"], 1)
    assert outer.get().body == b"inner"


def test_changes_under_traffic_lose_nothing(cloud: LocalCloud, elb: Any, servers: Callable[[str], Server]) -> None:
    blue, green = group(cloud, "blue", servers("blue")), group(cloud, "green", servers("green"))
    front = Front(cloud, forward(blue))
    healthy(cloud, blue, 1)
    outcomes: list[tuple[int, str]] = []
    over = threading.Event()

    def drive() -> None:
        while not over.is_set():
            answer = front.get()
            outcomes.append((answer.status, answer.json["name"] if answer.status == 200 else answer.body.decode()))

    slow: list[int] = []
    drivers = [threading.Thread(target=drive) for _ in range(4)]
    drivers.append(threading.Thread(target=lambda: slow.append(front.get("/slow").status)))
    for driver in drivers:
        driver.start()
    time.sleep(0.3)
    # Green has never been in use: it is switched to at once, and blue finishes what it was asked.
    elb.modify_listener(ListenerArn=front.listener, DefaultActions=forward(green))
    target = {"Id": "127.0.0.1"}
    targets = elb.describe_target_health(TargetGroupArn=blue)["TargetHealthDescriptions"]
    elb.deregister_targets(TargetGroupArn=blue, Targets=[{**target, "Port": targets[0]["Target"]["Port"]}])
    eventually(lambda: outcomes[-1][1] == "green")
    for _ in range(5):
        extra = group(cloud, f"extra-{_}", servers("green"))
        elb.modify_listener(ListenerArn=front.listener, DefaultActions=forward(extra))
        time.sleep(0.1)
    over.set()
    for driver in drivers:
        driver.join()
    assert {outcome for outcome in outcomes if outcome[0] != 200} == set()
    assert {name for _, name in outcomes} == {"blue", "green"}
    assert slow == [200]
