"""The DNS server as programs meet it: a resolver library, the command, functions, and a kill."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.resolver
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cloudlet.engines.functions.isolation import bubblewrap
from cloudlet.testing import LocalCloud, eventually


class Zone:
    """A hosted zone, changed by boto3 and asked by dnspython."""

    def __init__(self, cloud: LocalCloud, name: str) -> None:
        self.cloud = cloud
        self.route53 = cloud.client("route53")
        self.id = self.route53.create_hosted_zone(Name=name, CallerReference=name)["HostedZone"]["Id"]

    def put(self, name: str, kind: str, *values: str, action: str = "UPSERT", **more: Any) -> None:
        given = {"Name": name, "Type": kind, **more}
        if values:
            given |= {"TTL": more.get("TTL", 60), "ResourceRecords": [{"Value": value} for value in values]}
        batch = {"Changes": [{"Action": action, "ResourceRecordSet": given}]}
        self.route53.change_resource_record_sets(HostedZoneId=self.id, ChangeBatch=batch)

    def resolver(self) -> dns.resolver.Resolver:
        server = self.cloud.control("dns")
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port, resolver.lifetime = [server["address"]], server["port"], 5.0
        return resolver

    def ask(self, name: str, kind: str, tcp: bool = False) -> list[str]:
        return sorted(record.to_text() for record in self.resolver().resolve(name, kind, tcp=tcp))


@pytest.fixture
def zone(cloud: LocalCloud) -> Zone:
    return Zone(cloud, "shop.example")


class _Endpoint:
    """A web server that is well or not, as it is told."""

    def __init__(self) -> None:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if endpoint.well else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.well = True
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[_Endpoint]:
    running = _Endpoint()
    yield running
    running.close()


def test_answers_of_every_kind(cloud: LocalCloud, zone: Zone) -> None:
    zone.put("www.shop.example", "A", "10.0.0.1", "10.0.0.2")
    zone.put("*.shop.example", "TXT", '"hello" "w\\303\\244lt"')
    zone.put("shop.example", "MX", "10 mail.shop.example.")
    zone.put("_db._tcp.shop.example", "SRV", "1 2 5432 db.shop.example")
    zone.put("api.shop.example", "CNAME", "www.shop.example")
    zone.put("lb.shop.example", "CNAME", "gone.us-east-1.elb.localhost")
    zone.put("shop.example", "CAA", '0 issue "ca.example"')
    zone.put("six.shop.example", "AAAA", "fd00::1")
    for tcp in (False, True):
        assert zone.ask("WWW.shop.example", "A", tcp) == ["10.0.0.1", "10.0.0.2"]
        assert zone.ask("api.shop.example", "A", tcp) == ["10.0.0.1", "10.0.0.2"]
        assert zone.ask("any.thing.shop.example", "TXT", tcp) == ['"hello" "w\\195\\164lt"']
        assert zone.ask("_db._tcp.shop.example", "SRV", tcp) == ["1 2 5432 db.shop.example."]
    assert zone.ask("shop.example", "MX") == ["10 mail.shop.example."]
    assert zone.ask("shop.example", "CAA") == ['0 issue "ca.example"']
    assert zone.ask("six.shop.example", "AAAA") == ["fd00::1"]
    assert len(zone.ask("shop.example", "NS")) == 4
    assert zone.ask("anything.localhost", "A") == zone.ask("data-127.0.0.1", "A") == ["127.0.0.1"]
    with pytest.raises(dns.resolver.NXDOMAIN):
        zone.ask("x.www.shop.example", "A")
    for nothing in ("www.shop.example", "lb.shop.example", "_tcp.shop.example"):
        with pytest.raises(dns.resolver.NoAnswer):
            zone.ask(nothing, "AAAA")

    zone.put("many.shop.example", "TXT", *(f'"{number:0200d}"' for number in range(20)))
    server = cloud.control("dns")
    query = dns.message.make_query("many.shop.example", "TXT", use_edns=0, payload=4096)
    cut = dns.query.udp(query, server["address"], 5, server["port"])
    assert cut.flags & dns.flags.TC
    assert not cut.answer
    assert len(zone.ask("many.shop.example", "TXT", tcp=True)) == 20

    connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connection.settimeout(5)
    connection.sendto(b"\x12\x34\x01\x00\x00\x01" + b"\xff" * 40, (server["address"], server["port"]))
    assert connection.recv(100)[:4] == b"\x12\x34\x81\x01"  # FORMERR
    connection.close()


def test_everything_survives_a_kill(cloud: LocalCloud, zone: Zone) -> None:
    zone.put("www.shop.example", "A", "10.0.0.1")
    before = cloud.control("dns")
    cloud.kill()
    cloud.start()
    # Nobody has called yet: whoever has state to answer with is there with the cloud.
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [before["address"]], before["port"]
    assert [record.to_text() for record in resolver.resolve("www.shop.example", "A")] == ["10.0.0.1"]
    assert cloud.control("dns") == before


def test_names_outlive_the_control_plane(cloud: LocalCloud, zone: Zone) -> None:
    zone.put("www.shop.example", "A", "10.0.0.1")
    zone.put("late.shop.example", "A", "10.0.0.2")
    server = cloud.control("dns")
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = [server["address"]], server["port"], 20

    def ask(name: str, tcp: bool = False) -> str:
        return str(next(iter(resolver.resolve(f"{name}.shop.example", "A", tcp=tcp))))

    assert ask("www") == ask("www", tcp=True) == "10.0.0.1"
    cloud.kill()
    # What was asked before is answered as it was; what was not waits for the control plane.
    assert ask("www") == ask("www", tcp=True) == "10.0.0.1"
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(ask, "late")
        time.sleep(0.3)
        assert not waiting.done()
        cloud.start()
        assert waiting.result() == "10.0.0.2"

    # The front is killed: there is another at once, at the same address.
    (front,) = [one["pid"] for one in cloud.control("health")["children"] if one["name"] == "dns"]
    os.kill(front, signal.SIGKILL)
    assert ask("late") == "10.0.0.2"
    assert cloud.control("dns") == server


def test_a_kill_while_instances_come_and_go(cloud: LocalCloud) -> None:
    settings = Config(inject_host_prefix=False, retries={"max_attempts": 0}, max_pool_connections=8)
    discovery = cloud.client("servicediscovery", config=settings)
    vpc = cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    operation = discovery.create_private_dns_namespace(Name="shop.local", Vpc=vpc)["OperationId"]
    space = discovery.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    records = {"RoutingPolicy": "WEIGHTED", "DnsRecords": [{"Type": "A", "TTL": 5}]}
    service = discovery.create_service(Name="orders", NamespaceId=space, DnsConfig=records)["Service"]["Id"]
    told: set[str] = set()
    gone: set[str] = set()

    def come_and_go(worker: int) -> None:
        for number in range(1000):
            id = f"i-{worker}-{number}"
            try:
                address = {"AWS_INSTANCE_IPV4": f"10.0.{worker}.{number % 250}"}
                discovery.register_instance(ServiceId=service, InstanceId=id, Attributes=address)
                told.add(id)
                if number % 3 == 0:
                    told.discard(id)
                    discovery.deregister_instance(ServiceId=service, InstanceId=id)
                    gone.add(id)
            except (BotoCoreError, ClientError):
                return

    workers = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    time.sleep(1.0)
    cloud.kill()
    for worker in workers:
        worker.join()
    cloud.start()
    pages = discovery.get_paginator("list_instances").paginate(ServiceId=service)
    stored = {one["Id"] for page in pages for one in page["Instances"]}
    assert told
    assert told <= stored
    assert not gone & stored
    zone = discovery.get_namespace(Id=space)["Namespace"]["Properties"]["DnsProperties"]["HostedZoneId"]
    listed = cloud.client("route53").get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone)
    in_dns = {one["SetIdentifier"] for page in listed for one in page["ResourceRecordSets"] if "SetIdentifier" in one}
    assert in_dns == stored


def test_an_unhealthy_endpoint_leaves_the_answers(cloud: LocalCloud, zone: Zone, endpoint: _Endpoint) -> None:
    config = {"Type": "HTTP", "IPAddress": "127.0.0.1", "Port": endpoint.port, "FailureThreshold": 1}
    made = zone.route53.create_health_check(
        CallerReference="a", HealthCheckConfig={**config, "RequestInterval": 10, "ResourcePath": "/health"}
    )
    check = made["HealthCheck"]["Id"]
    zone.put("www.shop.example", "A", "10.0.0.1", SetIdentifier="a", MultiValueAnswer=True, HealthCheckId=check)
    zone.put("www.shop.example", "A", "10.0.0.2", SetIdentifier="b", MultiValueAnswer=True)
    assert _until(lambda: _status(zone, check), lambda status: "200" in status)
    assert zone.ask("www.shop.example", "A") == ["10.0.0.1", "10.0.0.2"]

    endpoint.well = False
    cloud.advance(10)
    assert _until(lambda: zone.ask("www.shop.example", "A"), lambda found: found == ["10.0.0.2"])
    assert "503" in _status(zone, check)
    cloud.kill()
    cloud.start()
    assert zone.ask("www.shop.example", "A") == ["10.0.0.2"]

    endpoint.well = True
    assert _until(lambda: zone.ask("www.shop.example", "A"), lambda found: len(found) == 2, advance=cloud)


def test_an_instance_of_cloud_map_that_fails_its_check(cloud: LocalCloud, endpoint: _Endpoint) -> None:
    discovery = cloud.client("servicediscovery")
    operation = discovery.create_public_dns_namespace(Name="shop.example")["OperationId"]
    space = discovery.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    service = discovery.create_service(
        Name="orders",
        NamespaceId=space,
        DnsConfig={"DnsRecords": [{"Type": "A", "TTL": 5}]},
        HealthCheckConfig={"Type": "HTTP", "ResourcePath": "/", "FailureThreshold": 1},
    )["Service"]["Id"]
    other = _Endpoint()
    try:
        for id, port in (("a", endpoint.port), ("b", other.port)):
            attributes = {"AWS_INSTANCE_IPV4": "127.0.0.1", "AWS_INSTANCE_PORT": str(port)}
            discovery.register_instance(ServiceId=service, InstanceId=id, Attributes=attributes)
        discovery.register_instance(
            ServiceId=service, InstanceId="b", Attributes={"AWS_INSTANCE_IPV4": "127.0.0.9", "AWS_INSTANCE_PORT": "1"}
        )
        both = {"a": "HEALTHY", "b": "UNHEALTHY"}
        assert _until(lambda: discovery.get_instances_health_status(ServiceId=service)["Status"], lambda s: s == both)
        server = cloud.control("dns")
        query = dns.message.make_query("orders.shop.example", "A")
        answer = dns.query.udp(query, server["address"], 5, server["port"])
        assert [record.to_text() for record in answer.answer[0]] == ["127.0.0.1"]
        assert len(cloud.client("route53").list_health_checks()["HealthChecks"]) == 2
    finally:
        other.close()


@pytest.mark.skipif(bubblewrap() is None, reason="bubblewrap cannot make sandboxes here")
def test_functions_resolve_our_names(cloud: LocalCloud) -> None:
    source = """
import signal
import socket
def handler(event, context):
    try:
        return socket.gethostbyname(event)
    except OSError as error:
        return str(error)
"""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", source)
    functions = cloud.client("lambda")
    functions.create_function(
        FunctionName="resolve",
        Runtime="python3.11",
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/anyone",
        Code={"ZipFile": packed.getvalue()},
        Timeout=20,
    )

    def resolve(name: str) -> str:
        answer = functions.invoke(FunctionName="resolve", Payload=json.dumps(name).encode())
        return str(json.loads(answer["Payload"].read()))

    # The sandbox is warm before there is a DNS server.
    assert resolve("localhost") == "127.0.0.1"
    zone = Zone(cloud, "shop.example")
    if cloud.control("dns")["port"] != 53:
        pytest.skip("port 53 may not be bound here")
    zone.put("www.shop.example", "A", "10.0.0.1")
    assert resolve("www.shop.example") == "10.0.0.1"
    assert resolve("data-127.0.0.1") == "127.0.0.1"


def test_the_command(cloud: LocalCloud, zone: Zone) -> None:
    zone.put("www.shop.example", "A", "10.0.0.1")
    server = cloud.control("dns")
    told = _command(cloud, "dns")
    assert f"dig @{server['address']}" in told.stdout
    assert json.loads(_command(cloud, "dns", "--json").stdout) == server
    assert _command(cloud, "dns", "www.shop.example").stdout == "www.shop.example.  60  A  10.0.0.1\n"
    nothing = _command(cloud, "dns", "nothing.shop.example", "mx")
    assert (nothing.returncode, nothing.stderr) == (1, "nothing.shop.example MX: NXDOMAIN\n")
    assert "Error" in _command(cloud, "dns", "www.shop.example", "nonsense").stderr


def test_an_unused_cloud_has_no_dns_server(cloud: LocalCloud) -> None:
    cloud.client("sqs").list_queues()
    assert cloud.control("health")["services"]["route53"] == "available"
    descriptors = f"/proc/{cloud.pid}/maps"
    if os.path.exists(descriptors):
        with open(descriptors) as maps:
            assert "/dns/" not in maps.read()


def _status(zone: Zone, check: str) -> str:
    found = zone.route53.get_health_check_status(HealthCheckId=check)["HealthCheckObservations"]
    return str(found[0]["StatusReport"]["Status"])


def _until(look: Any, good: Any, advance: LocalCloud | None = None) -> bool:
    """Whether what is looked at becomes good within some seconds."""
    end = time.monotonic() + 8
    while time.monotonic() < end:
        if good(look()):
            return True
        if advance is not None:
            advance.advance(10)
        time.sleep(0.1)
    return False


def _command(cloud: LocalCloud, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cloudlet", *arguments, "--endpoint", cloud.endpoint],
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_questions_are_logged(cloud: LocalCloud, zone: Zone) -> None:
    logs = cloud.client("logs")
    group = "/aws/route53/shop.example"
    logs.create_log_group(logGroupName=group)
    arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{group}"
    place = {"HostedZoneId": zone.id.rpartition("/")[2], "CloudWatchLogsLogGroupArn": arn}
    made = zone.route53.create_query_logging_config(**place)["QueryLoggingConfig"]
    assert zone.route53.list_query_logging_configs()["QueryLoggingConfigs"] == [made]
    with pytest.raises(ClientError, match="QueryLoggingConfigAlreadyExists"):
        zone.route53.create_query_logging_config(**place)
    zone.put("www.shop.example", "A", "10.0.0.1")
    zone.ask("www.shop.example", "A")
    zone.ask("www.shop.example", "A", tcp=True)
    with pytest.raises(dns.resolver.NXDOMAIN):
        zone.ask("none.shop.example", "AAAA")

    def logged(count: int) -> list[str]:
        lines: list[str] = []
        deadline = time.monotonic() + 5
        while len(lines) < count and time.monotonic() < deadline:
            try:
                found = logs.get_log_events(logGroupName=group, logStreamName=f"{place['HostedZoneId']}/LCL1")
                lines = [event["message"] for event in found["events"]]
            except logs.exceptions.ResourceNotFoundException:
                time.sleep(0.05)
        return lines

    told = [line.split(" ") for line in logged(3)]
    assert [one[3:7] for one in told] == [
        ["www.shop.example", "A", "NOERROR", "UDP"],
        ["www.shop.example", "A", "NOERROR", "TCP"],
        ["none.shop.example", "AAAA", "NXDOMAIN", "UDP"],
    ]
    assert (told[0][0], told[0][2], told[0][7:]) == ("1.0", place["HostedZoneId"], ["LCL1", "127.0.0.1", "-"])
    cloud.kill()
    cloud.start()
    zone.ask("www.shop.example", "A")
    assert len(logged(4)) == 4
    zone.route53.delete_query_logging_config(Id=made["Id"])
    with pytest.raises(ClientError, match="NoSuchQueryLoggingConfig"):
        zone.route53.get_query_logging_config(Id=made["Id"])


def test_an_alias_leads_to_a_load_balancer_while_that_is_well(
    cloud: LocalCloud, zone: Zone, endpoint: _Endpoint
) -> None:
    balancing, networks = cloud.client("elbv2"), cloud.client("ec2")
    vpc = networks.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        networks.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"us-east-1{letter}")["Subnet"]
        for n, letter in enumerate("ab")
    ]
    ids = [one["SubnetId"] for one in subnets]
    made = balancing.create_load_balancer(Name="front", Subnets=ids)["LoadBalancers"][0]
    group = balancing.create_target_group(
        Name="web",
        Protocol="HTTP",
        Port=endpoint.port,
        VpcId=vpc,
        TargetType="ip",
        HealthCheckIntervalSeconds=5,
        HealthCheckTimeoutSeconds=2,
        HealthyThresholdCount=2,
        UnhealthyThresholdCount=2,
    )["TargetGroups"][0]["TargetGroupArn"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    balancing.create_listener(
        LoadBalancerArn=made["LoadBalancerArn"],
        Protocol="HTTP",
        Port=port,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )
    alias = {"HostedZoneId": made["CanonicalHostedZoneId"], "DNSName": made["DNSName"], "EvaluateTargetHealth": True}
    zone.put("www.shop.example", "A", AliasTarget=alias, SetIdentifier="1", Failover="PRIMARY")
    zone.put("www.shop.example", "A", "10.0.0.2", SetIdentifier="2", Failover="SECONDARY")
    assert zone.ask("www.shop.example", "A") == ["10.0.0.2"]  # nothing is behind it yet

    def becomes(test: Callable[[list[str]], bool]) -> None:
        eventually(lambda: test(zone.ask("www.shop.example", "A")))

    balancing.register_targets(TargetGroupArn=group, Targets=[{"Id": "127.0.0.1", "Port": endpoint.port}])
    becomes(lambda found: found != ["10.0.0.2"])
    endpoint.well = False
    becomes(lambda found: found == ["10.0.0.2"])
