"""Network load balancers' datagrams, and the logs of connections."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from test_elbv2 import address_of, elb, eventually, forward, free_port, healthy, load_balancer, refused, vpc
from test_elbv2_guards import Authority, Secure
from test_elbv2_traffic import certificate

from cloudlet.testing.local import LocalCloud

__all__ = ["elb"]


class Echo:
    """Answers bytes and datagrams on one port, in capitals."""

    def __init__(self) -> None:
        self._stream = socket.create_server(("127.0.0.1", 0))
        self.port = self._stream.getsockname()[1]
        self._datagrams = socket.socket(type=socket.SOCK_DGRAM)
        self._datagrams.bind(("127.0.0.1", self.port))
        threading.Thread(target=self._connections, daemon=True).start()
        threading.Thread(target=self._messages, daemon=True).start()

    def _connections(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._stream.accept()
                with connection:
                    if data := connection.recv(100):
                        connection.sendall(data.upper())

    def _messages(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, client = self._datagrams.recvfrom(100)
                if not data:
                    return
                self._datagrams.sendto(data.upper(), client)

    def stop(self) -> None:
        self._stream.close()
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._datagrams.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.stop()


def target(cloud: LocalCloud, name: str, protocol: str, echo: Echo) -> str:
    elb = cloud.client("elbv2")
    wanted = {"Protocol": protocol, "Port": echo.port, "VpcId": vpc(cloud), "TargetType": "ip"}
    arn = elb.create_target_group(Name=name, **wanted, HealthCheckIntervalSeconds=5)["TargetGroups"][0][
        "TargetGroupArn"
    ]
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "127.0.0.1"}])
    return str(arn)


def said(address: str, port: int, message: bytes) -> bytes:
    """The answer to a datagram."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        for _ in range(5):
            client.sendto(message, (address, port))
            with contextlib.suppress(TimeoutError, ConnectionError):
                return client.recv(100)
    return b""


def lines(cloud: LocalCloud, prefix: str) -> list[str]:
    """The lines of all logs whose keys begin so."""
    s3, made = cloud.client("s3"), []
    for one in s3.list_objects_v2(Bucket="logs", Prefix=prefix).get("Contents", []):
        if one["Key"].endswith(".log.gz"):
            body = s3.get_object(Bucket="logs", Key=one["Key"])["Body"].read()
            made += gzip.decompress(body).decode().splitlines()
    return made


def test_datagrams(cloud: LocalCloud, elb: Any, echo: Echo) -> None:
    datagrams, both = target(cloud, "datagrams", "UDP", echo), target(cloud, "both", "TCP_UDP", echo)
    bytes_ = target(cloud, "bytes", "TCP", echo)
    one = load_balancer(cloud, "net", Type="network", Scheme="internal")["LoadBalancerArn"]
    first, second = free_port(), free_port()
    wrong = {"LoadBalancerArn": one, "Port": first, "Protocol": "UDP", "DefaultActions": forward(bytes_)}
    assert refused(elb.create_listener, **wrong)[0] == "IncompatibleProtocols"
    elb.create_listener(LoadBalancerArn=one, Port=first, Protocol="UDP", DefaultActions=forward(datagrams))
    made = elb.create_listener(LoadBalancerArn=one, Port=second, Protocol="TCP_UDP", DefaultActions=forward(both))
    healthy(cloud, datagrams, 1)
    healthy(cloud, both, 1)
    address = address_of(cloud, "net")
    for where in (address, "127.0.0.1"):
        assert said(where, first, b"one") == b"ONE"
        assert said(where, second, b"two") == b"TWO"
        with socket.create_connection((where, second), 5) as client:
            client.sendall(b"three")
            assert client.recv(100) == b"THREE"
    shown = elb.describe_target_group_attributes(TargetGroupArn=datagrams)["Attributes"]
    assert {"Key": "preserve_client_ip.enabled", "Value": "true"} in shown
    pairs = [{"Key": "proxy_protocol_v2.enabled", "Value": "true"}]
    assert (
        refused(elb.modify_target_group_attributes, TargetGroupArn=datagrams, Attributes=pairs)[0] == "NotImplemented"
    )
    watch, whole = cloud.client("cloudwatch"), [{"Name": "LoadBalancer", "Value": one.partition(":loadbalancer/")[2]}]

    def total(name: str) -> float:
        when = {"StartTime": time.time() - 600, "EndTime": time.time() + 7200, "Period": 86400}
        wanted = {"Namespace": "AWS/NetworkELB", "MetricName": name, "Dimensions": whole, "Statistics": ["Sum"]}
        return sum(point["Sum"] for point in watch.get_metric_statistics(**wanted, **when)["Datapoints"])

    def counted() -> bool:
        cloud.advance(60)
        return total("ProcessedBytes_UDP") > 0

    eventually(counted)
    assert total("NewFlowCount_UDP") >= 2
    eventually(lambda: (cloud.advance(60), total("NewFlowCount_TCP") >= 1)[1])
    elb.delete_listener(ListenerArn=made["Listeners"][0]["ListenerArn"])
    eventually(lambda: said(address, second, b"gone") == b"")


def test_logs_of_connections(cloud: LocalCloud, elb: Any, echo: Echo) -> None:
    cloud.client("s3").create_bucket(Bucket="logs")
    front = Secure(cloud, [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}])
    arn = target(cloud, "bytes", "TCP", echo)
    net = load_balancer(cloud, "net", Type="network", Scheme="internal")["LoadBalancerArn"]
    port, shown = free_port(), certificate(cloud, "two.example")
    wanted = {"Protocol": "TLS", "Port": port, "Certificates": [{"CertificateArn": shown}]}
    listener = elb.create_listener(LoadBalancerArn=net, **wanted, DefaultActions=forward(arn))["Listeners"][0]
    for one, kind in ((front.arn, "connection_logs"), (front.arn, "access_logs"), (net, "access_logs")):
        values = {f"{kind}.s3.enabled": "true", f"{kind}.s3.bucket": "logs", f"{kind}.s3.prefix": kind[:3] + one[-4:]}
        pairs = [{"Key": key, "Value": value} for key, value in values.items()]
        elb.modify_load_balancer_attributes(LoadBalancerArn=one, Attributes=pairs)
    healthy(cloud, arn, 1)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def talk() -> None:
        front.get("/logged")
        with (
            socket.create_connection((address_of(cloud, "net"), port), 5) as plain,
            context.wrap_socket(plain, server_hostname="two.example") as client,
        ):
            client.sendall(b"hello")
            assert client.recv(100) == b"HELLO"

    def delivered() -> bool:
        talk()
        cloud.advance(300)
        return bool(lines(cloud, f"con{front.arn[-4:]}") and lines(cloud, f"acc{net[-4:]}"))

    eventually(delivered, 40)
    fields = lines(cloud, f"con{front.arn[-4:]}")[0].split(" ")
    assert (fields[1], fields[3], fields[4]) == ("127.0.0.1", str(front.port), "TLSv1.2")
    assert 0 < float(fields[6]) < 5
    assert fields[7:11] == ["-", "-", "-", "-"]
    assert fields[11].startswith("TID_")
    requests = eventually(lambda: (cloud.advance(300), lines(cloud, f"acc{front.arn[-4:]}"))[1], 40)
    assert requests[0].rsplit(" ", 1)[1].startswith("TID_")
    flow = lines(cloud, f"acc{net[-4:]}")[0].split(" ")
    assert len(flow) == 22
    assert (flow[0], flow[1], flow[4]) == ("tls", "2.0", listener["ListenerArn"].rpartition("/")[2])
    assert (flow[9], flow[10], flow[12], flow[17]) == ("5", "5", shown, "two.example")


def test_certificates_of_iam(cloud: LocalCloud, elb: Any, tmp_path: Any) -> None:
    certificate, key = Authority(tmp_path, "authority").client("iam.example")
    with open(certificate) as body, open(key) as private:
        made = cloud.client("iam").upload_server_certificate(
            ServerCertificateName="own", CertificateBody=body.read(), PrivateKey=private.read()
        )["ServerCertificateMetadata"]["Arn"]
    one, port = load_balancer(cloud)["LoadBalancerArn"], free_port()
    fixed = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}]
    wanted = {"LoadBalancerArn": one, "Protocol": "HTTPS", "Port": port, "DefaultActions": fixed}
    missing = [{"CertificateArn": f"{made}x"}]
    words = f"Certificate '{made}x' not found"
    assert refused(elb.create_listener, **wanted, Certificates=missing) == ("CertificateNotFound", words)
    elb.create_listener(**wanted, Certificates=[{"CertificateArn": made}])
    pem = ssl.get_server_certificate((address_of(cloud), port))
    assert x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string() == "CN=iam.example"


def test_elastic_addresses(cloud: LocalCloud, elb: Any) -> None:
    ec2 = cloud.client("ec2")
    first, second = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]][:2]
    ids = [ec2.allocate_address()["AllocationId"] for _ in range(2)]
    wanted = [{"SubnetId": first, "AllocationId": ids[0]}]
    application = {"SubnetMappings": [*wanted, {"SubnetId": second, "AllocationId": ids[1]}]}
    assert refused(elb.create_load_balancer, Name="a", **application)[0] == "InvalidConfigurationRequest"
    nobody = [{"SubnetId": first, "AllocationId": "eipalloc-0123456789abcdef0"}]
    assert (
        refused(elb.create_load_balancer, Name="n", Type="network", SubnetMappings=nobody)[0] == "AllocationIdNotFound"
    )

    (made,) = elb.create_load_balancer(Name="n", Type="network", SubnetMappings=wanted)["LoadBalancers"]
    (again,) = elb.create_load_balancer(Name="n", Type="network", SubnetMappings=wanted)["LoadBalancers"]
    assert again["LoadBalancerArn"] == made["LoadBalancerArn"]
    (address,) = ec2.describe_addresses(AllocationIds=ids[:1])["Addresses"]
    (shown,) = made["AvailabilityZones"][0]["LoadBalancerAddresses"]
    assert shown == {"IpAddress": address["PublicIp"], "AllocationId": ids[0]}
    (interface,) = ec2.describe_network_interfaces(NetworkInterfaceIds=[address["NetworkInterfaceId"]])[
        "NetworkInterfaces"
    ]
    assert interface["Description"] == f"ELB net/n/{made['LoadBalancerArn'].rpartition('/')[2]}"
    assert refused(elb.create_load_balancer, Name="m", Type="network", SubnetMappings=wanted)[0] == "ResourceInUse"
    with pytest.raises(ClientError, match="in use"):
        ec2.release_address(AllocationId=ids[0])

    arn = made["LoadBalancerArn"]
    elb.set_subnets(LoadBalancerArn=arn, SubnetMappings=[{"SubnetId": second, "AllocationId": ids[1]}])
    ec2.release_address(AllocationId=ids[0])
    elb.delete_load_balancer(LoadBalancerArn=arn)
    ec2.release_address(AllocationId=ids[1])
