"""Service Connect with real tasks and Envoys: names, balancing, retries, live changes, a kill of the control plane."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from callers import Strict
from cryptography import x509
from test_acm_pca import root
from test_ecs import network, register

from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.engines.proxies.envoy import binary
from cloudlet.testing import LocalCloud, eventually

_SAY = "hostname >/www/index.html; exec httpd -f -p 8080 -h /www"


@pytest.fixture(autouse=True)
def _needs() -> None:
    if os.geteuid() != 0 or not shutil.which("nft"):
        pytest.skip("needs root and nft: tasks with network namespaces of their own")
    try:
        binary()
    except ProxyMissing as error:
        pytest.skip(str(error))


def _service(cloud: LocalCloud, name: str, definition: str, count: int = 1, **connect: Any) -> None:
    cloud.client("ecs").create_service(
        cluster="c",
        serviceName=name,
        taskDefinition=definition,
        desiredCount=count,
        launchType="FARGATE",
        networkConfiguration=network(cloud),
        enableExecuteCommand=True,
        serviceConnectConfiguration={"enabled": True, **connect},
    )


def _steady(ecs: Any, *names: str) -> None:
    def done() -> bool:
        found = ecs.describe_services(cluster="c", services=list(names))["services"]
        return all(
            len(one["deployments"]) == 1 and one["deployments"][0]["rolloutState"] == "COMPLETED" for one in found
        )

    eventually(done, 40)


def _ask(cloud: LocalCloud, ecs: Any) -> str:
    """What a client task gets from the endpoint. A static busybox resolves no names: it reads the hosts file itself."""
    from test_ecs_exec import Plugin

    task = ecs.list_tasks(cluster="c", serviceName="client")["taskArns"][0]
    command = "sh -c 'set -- $(grep -w web /etc/hosts); wget -q -O - http://$1:80/ || echo failed'"
    plugin = Plugin(ecs.execute_command(cluster="c", task=task, interactive=True, command=command)["session"])
    return plugin.until().replace(b"\0ready", b"").decode().strip()


def _envoys(cloud: LocalCloud) -> set[int]:
    """The Envoys of a cloud. Others' processes come and go meanwhile."""
    found = psutil.process_iter(["name", "cmdline"])
    return {one.pid for one in found if one.info["name"] == "envoy" and str(cloud.data_dir) in str(one.info["cmdline"])}


def test_services_find_each_other(engine_cloud: LocalCloud, busybox: str) -> None:
    cloud = engine_cloud
    ecs, discovery = cloud.client("ecs"), cloud.client("servicediscovery")
    logs = cloud.client("logs")
    logs.create_log_group(logGroupName="/proxy")
    cluster = ecs.create_cluster(clusterName="c", serviceConnectDefaults={"namespace": "shop"})["cluster"]
    namespace = discovery.list_namespaces()["Namespaces"][0]
    assert (namespace["Name"], namespace["Type"]) == ("shop", "HTTP")
    assert cluster["serviceConnectDefaults"]["namespace"] == namespace["Arn"]

    port = [{"containerPort": 8080, "name": "web", "appProtocol": "http"}]
    web = register(ecs, busybox, "sh", "-c", _SAY, family="web", container={"portMappings": port})
    client = register(ecs, busybox, "sleep", "600", family="client")
    services = [{"portName": "web", "clientAliases": [{"port": 80, "dnsName": "web"}]}]
    options = {"awslogs-group": "/proxy", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "envoy"}
    _service(cloud, "web", web, 2, services=services)
    _steady(ecs, "web")
    _service(
        cloud,
        "client",
        client,
        logConfiguration={"logDriver": "awslogs", "options": options},
        accessLogConfiguration={"format": "JSON"},
    )
    _steady(ecs, "client")

    there = ecs.list_services_by_namespace(namespace="shop")["serviceArns"]
    assert [arn.rpartition("/")[2] for arn in there] == ["client", "web"]
    described = ecs.describe_services(cluster="c", services=["web"])["services"][0]["deployments"][0]
    resource = described["serviceConnectResources"][0]
    assert resource["discoveryName"] == "web"
    instances = discovery.list_instances(ServiceId=resource["discoveryArn"].rpartition("/")[2])["Instances"]
    assert len(instances) == 2
    answers = {_ask(cloud, ecs) for _ in range(6)}
    assert len(answers) == 2, answers  # both tasks
    assert "failed" not in answers

    # A third is there as soon as it is ready, one that goes is gone at once; no request fails meanwhile.
    ecs.update_service(cluster="c", service="web", desiredCount=3)
    _steady(ecs, "web")
    eventually(
        lambda: len(discovery.list_instances(ServiceId=resource["discoveryArn"].rpartition("/")[2])["Instances"]) == 3
    )
    assert len({_ask(cloud, ecs) for _ in range(9)}) == 3
    ecs.update_service(cluster="c", service="web", desiredCount=1)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert _ask(cloud, ecs) != "failed"
    eventually(lambda: len(ecs.list_tasks(cluster="c", serviceName="web")["taskArns"]) == 1)

    # The control plane is killed, and an Envoy: traffic goes on, and changes are still told.
    before = _envoys(cloud)
    assert len(before) == 2
    cloud.kill()
    cloud.start()
    ecs = cloud.client("ecs")
    assert _ask(cloud, ecs) != "failed"
    after = _envoys(cloud)
    assert before == after
    for pid in after:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: _ask(cloud, ecs) not in ("failed", ""))
    ecs.update_service(cluster="c", service="web", desiredCount=2)
    eventually(lambda: len({_ask(cloud, ecs) for _ in range(6)}) == 2)

    def lines() -> list[str]:
        streams = logs.describe_log_streams(logGroupName="/proxy")["logStreams"]
        names = [one["logStreamName"] for one in streams]
        assert all(name.startswith("envoy/ecs-service-connect-") for name in names)
        return [
            one["message"]
            for name in names
            for one in logs.get_log_events(logGroupName="/proxy", logStreamName=name)["events"]
        ]

    assert eventually(lambda: [line for line in lines() if '"path":"/"' in line and '"response_code":200' in line])
    for name in ("client", "web"):
        ecs.delete_service(cluster="c", service=name, force=True)
    eventually(lambda: ecs.describe_services(cluster="c", services=["web"])["services"][0]["status"] == "INACTIVE")
    eventually(lambda: not discovery.list_services()["Services"])


def test_what_service_connect_refuses(engine_cloud: LocalCloud, busybox: str) -> None:
    ecs = engine_cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    port = [{"containerPort": 8080, "name": "web"}]
    web = register(ecs, busybox, "sleep", "60", family="web", container={"portMappings": port})
    with pytest.raises(ClientError, match="namespace"):
        _service(engine_cloud, "web", web, services=[{"portName": "web"}])
    with pytest.raises(ClientError, match="NamespaceNotFoundException"):
        _service(engine_cloud, "web", web, namespace="none", services=[{"portName": "web"}])
    with pytest.raises(ClientError, match="does not refer to any named PortMapping"):
        _service(engine_cloud, "web", web, services=[{"portName": "other"}])
    tls = {"issuerCertificateAuthority": {"awsPcaAuthorityArn": "arn"}}
    with pytest.raises(ClientError, match="must be the ARN of a private certificate authority"):
        _service(engine_cloud, "web", web, services=[{"portName": "web", "tls": tls}])


def test_a_service_that_is_refused_leaves_no_name_in_cloud_map(engine_cloud: LocalCloud, busybox: str) -> None:
    ecs, balancing = engine_cloud.client("ecs"), engine_cloud.client("elbv2")
    ecs.create_cluster(clusterName="c", serviceConnectDefaults={"namespace": "shop"})
    port = [{"containerPort": 8080, "name": "web"}]
    web = register(ecs, busybox, "sleep", "60", family="web", container={"portMappings": port})
    vpc = engine_cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    group = balancing.create_target_group(Name="web", Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip")
    arn = group["TargetGroups"][0]["TargetGroupArn"]
    with pytest.raises(ClientError, match="does not have an associated load balancer"):
        ecs.create_service(
            cluster="c",
            serviceName="web",
            taskDefinition=web,
            desiredCount=1,
            launchType="FARGATE",
            networkConfiguration=network(engine_cloud),
            loadBalancers=[{"targetGroupArn": arn, "containerName": "app", "containerPort": 8080}],
            serviceConnectConfiguration={"enabled": True, "services": [{"portName": "web"}]},
        )
    assert engine_cloud.client("servicediscovery").list_services()["Services"] == []


def test_a_stack_connects_its_service(engine_cloud: LocalCloud, busybox: str) -> None:
    port = {"ContainerPort": 8080, "Name": "web", "AppProtocol": "http"}
    container = {
        "Name": "app",
        "Image": busybox,
        "Command": ["sh", "-c", _SAY],
        "PortMappings": [port],
        "StopTimeout": 2,
    }
    resources = {
        "Cluster": {
            "Type": "AWS::ECS::Cluster",
            "Properties": {"ClusterName": "c", "ServiceConnectDefaults": {"Namespace": "shop"}},
        },
        "Definition": {
            "Type": "AWS::ECS::TaskDefinition",
            "Properties": {
                "Family": "web",
                "RequiresCompatibilities": ["FARGATE"],
                "NetworkMode": "awsvpc",
                "Cpu": "256",
                "Memory": "512",
                "ContainerDefinitions": [container],
            },
        },
        "Service": {
            "Type": "AWS::ECS::Service",
            "Properties": {
                "ServiceName": "web",
                "Cluster": {"Ref": "Cluster"},
                "TaskDefinition": {"Ref": "Definition"},
                "LaunchType": "FARGATE",
                "DesiredCount": 1,
                "NetworkConfiguration": {
                    "AwsvpcConfiguration": {"Subnets": network(engine_cloud)["awsvpcConfiguration"]["subnets"]}
                },
                "ServiceConnectConfiguration": {
                    "Enabled": True,
                    "Services": [{"PortName": "web", "ClientAliases": [{"Port": 80, "DnsName": "web"}]}],
                },
            },
        },
    }
    stacks = engine_cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=json.dumps({"Resources": resources}))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    (service,) = engine_cloud.client("ecs").describe_services(cluster="c", services=["web"])["services"]
    (deployment,) = service["deployments"]
    assert deployment["serviceConnectConfiguration"]["services"][0]["clientAliases"] == [{"port": 80, "dnsName": "web"}]
    assert deployment["serviceConnectResources"][0]["discoveryName"] == "web"
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1, "MaxAttempts": 60})


_SERVER = """
import http.server, os, socket, threading
name = socket.gethostname()
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1
    def do_GET(self):
        body = name.encode()
        self.send_response(500 if os.path.exists(f"/app/{name}.bad") else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
def raw():
    listening = socket.create_server(("0.0.0.0", 7000))
    while True:
        other, _ = listening.accept()
        other.sendall(other.recv(100) + b" " + name.encode())
        other.close()
threading.Thread(target=raw, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Page).serve_forever()
"""
_CLIENT = """
import http.client, socket, time
seen = set()
def ask():
    try:
        web = http.client.HTTPConnection("web", 80, timeout=5)
        web.request("GET", "/")
        answer = web.getresponse()
        return f"{answer.status} {answer.read().decode()}"
    except OSError as error:
        return f"error {error}"
def raw():
    with socket.create_connection(("raw", 7000), timeout=5) as other:
        other.sendall(b"hello")
        return b"".join(iter(lambda: other.recv(100), b"")).decode()
with open("/app/said", "a", buffering=1) as said:
    said.write(f"{time.time()} raw {raw()}\\n")
    while True:
        answer = ask()
        if answer not in seen or not answer.startswith("200"):
            seen.add(answer)
            said.write(f"{time.time()} {answer}\\n")
        time.sleep(0.005)
"""


def test_endpoints_are_told_within_a_tenth_of_a_second_and_bad_ones_are_left_out(
    engine_cloud: LocalCloud, tmp_path: Path
) -> None:
    python = "/usr/bin/python3"
    if not os.path.exists(python):
        pytest.skip("needs the system's python3")
    cloud, ecs = engine_cloud, engine_cloud.client("ecs")
    ecs.create_cluster(clusterName="c", serviceConnectDefaults={"namespace": "shop"})
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "server.py").write_text(_SERVER)
    (folder / "client.py").write_text(_CLIENT)
    ports = [
        {"containerPort": 8080, "name": "web", "appProtocol": "http"},
        {"containerPort": 7000, "name": "raw"},
    ]
    web = register(ecs, str(folder), python, "server.py", family="web", container={"portMappings": ports})
    client = register(ecs, str(folder), python, "client.py", family="client")
    offered = [
        {"portName": "web", "clientAliases": [{"port": 80, "dnsName": "web"}]},
        {"portName": "raw", "clientAliases": [{"port": 7000, "dnsName": "raw"}]},
    ]
    _service(cloud, "web", web, services=offered)
    _steady(ecs, "web")
    _service(cloud, "client", client)
    _steady(ecs, "client")

    def said(*, since: float = 0.0) -> list[tuple[float, str]]:
        lines = (folder / "said").read_text().splitlines() if (folder / "said").exists() else []
        pairs = [(float(line.partition(" ")[0]), line.partition(" ")[2]) for line in lines]
        return [pair for pair in pairs if pair[0] > since]

    eventually(lambda: len(said()) >= 2)
    first = said()[1][1]
    assert said()[0][1] == f"raw hello {first.removeprefix('200 ')}"
    assert first.startswith("200 ")

    ecs.update_service(cluster="c", service="web", desiredCount=2)
    when, second = eventually(lambda: [one for one in said() if one[1].startswith("200") and one[1] != first])[0]
    arns = ecs.list_tasks(cluster="c", serviceName="web")["taskArns"]
    started = max(one["startedAt"].timestamp() for one in ecs.describe_tasks(cluster="c", tasks=arns)["tasks"])
    print(f"an endpoint was used {(when - started) * 1000:.0f} ms after its task was RUNNING")
    assert when - started < 0.5  # 0.1 where nothing else runs

    # One that answers five times in a row with an error is left out.
    bad = second.removeprefix("200 ")
    begun = time.time()
    (folder / f"{bad}.bad").touch()
    eventually(lambda: len([one for one in said(since=begun) if one[1] == f"500 {bad}"]) >= 5)
    eventually(lambda: time.time() - said(since=begun)[-1][0] > 2)
    errors = said(since=begun)
    print(f"left out after {len(errors)} errors, {errors[-1][0] - begun:.2f} s")
    assert {answer for _, answer in errors} == {f"500 {bad}"}
    assert len(errors) < 200  # of some hundred requests a second


_GRPC_SERVER = """
const http2 = require("http2"), name = require("os").hostname();
http2.createServer().on("stream", (stream, headers) => {
  stream.on("error", () => {});
  if (headers[":path"] === "/shop.Shop/Slow") return;
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "x-server": name }));
  stream.on("data", (part) => stream.write(part));
  stream.on("end", () => stream.end());
}).listen(8080);
"""
_GRPC_CLIENT = """
const http2 = require("http2"), fs = require("fs");
function call(method, done) {
  const session = http2.connect("http://web:80");
  session.on("error", (error) => done("error " + error.code));
  const stream = session.request({
    ":method": "POST", ":path": "/shop.Shop/" + method, "content-type": "application/grpc", te: "trailers",
  });
  let status = "", body = "", answer = "";
  stream.on("error", (error) => { answer = "reset " + error.code; });
  stream.on("response", (headers) => { status = headers[":status"]; answer = headers["grpc-status"] || ""; });
  stream.on("trailers", (trailers) => { answer = trailers["grpc-status"]; });
  stream.on("data", (part) => { body += part; });
  stream.on("close", () => { session.close(); done(`${status} ${answer} ${body}`.trim()); });
  stream.write("first,");
  setTimeout(() => stream.end("last"), 20);
}
function again() {
  call("Echo", (echo) => call("Slow", (slow) => {
    fs.appendFileSync("/app/said", `${echo} | ${slow}\\n`);
    setTimeout(again, 100);
  }));
}
again();
"""


def _shown(address: str, port: int, trusted: str) -> x509.Certificate:
    """The certificate that an Envoy shows to who trusts an authority and asks for the endpoint's name."""
    context = ssl.create_default_context(cadata=trusted)
    with (
        socket.create_connection((address, port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="web.shop") as secure,
    ):
        assert secure.version() == "TLSv1.3"
        return x509.load_der_x509_certificate(secure.getpeercert(True) or b"")


def test_grpc_and_then_tls_of_a_private_authority(engine_cloud: LocalCloud, tmp_path: Path) -> None:
    node = shutil.which("node", path="/usr/bin")
    if node is None:
        pytest.skip("needs the system's node")
    cloud, ecs = engine_cloud, engine_cloud.client("ecs")
    pca, secrets = cloud.client("acm-pca"), cloud.client("secretsmanager")
    ecs.create_cluster(clusterName="c", serviceConnectDefaults={"namespace": "shop"})
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / "server.js").write_text(_GRPC_SERVER)
    (folder / "client.js").write_text(_GRPC_CLIENT)
    port = [{"containerPort": 8080, "name": "web", "appProtocol": "grpc"}]
    web = register(ecs, str(folder), node, "server.js", family="web", container={"portMappings": port})
    client = register(ecs, str(folder), node, "client.js", family="client")
    offered = {
        "portName": "web",
        "clientAliases": [{"port": 80, "dnsName": "web"}],
        "timeout": {"perRequestTimeoutSeconds": 1},
    }
    _service(cloud, "web", web, services=[offered])
    _steady(ecs, "web")
    _service(cloud, "client", client)

    def said() -> list[str]:
        return (folder / "said").read_text().splitlines() if (folder / "said").exists() else []

    # Streams and trailers come through, and a call that takes too long ends as unavailable.
    assert eventually(said, 40)[0] == "200 0 first,last | 200 14"

    # The service changes to TLS: the client, which has been there before, is told with the new tasks.
    authority = root(pca, curve=True)
    trusted = pca.get_certificate_authority_certificate(CertificateAuthorityArn=authority)["Certificate"]
    tls = {"issuerCertificateAuthority": {"awsPcaAuthorityArn": authority}}
    connect = {"enabled": True, "services": [{**offered, "tls": tls}]}
    ecs.update_service(cluster="c", service="web", serviceConnectConfiguration=connect)
    _steady(ecs, "web")
    (arn,) = ecs.list_tasks(cluster="c", serviceName="web")["taskArns"]
    (task,) = ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"]
    details = {one["name"]: one["value"] for one in task["attachments"][0]["details"]}
    place = (details["privateIPv4Address"], 15100)
    first = _shown(*place, trusted)
    assert 6 < (first.not_valid_after_utc - first.not_valid_before_utc).days <= 8
    with socket.create_connection(place, timeout=5) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert plain.recv(100)[:1] == b"\x15"  # an alert of TLS
    before = len(said())
    eventually(lambda: len(said()) > before + 1)
    assert said()[-1] == "200 0 first,last | 200 14"
    assert {line for line in said() if "error" in line or "reset" in line} == set()
    (secret,) = secrets.list_secrets(Filters=[{"Key": "name", "Values": ["ecs-sc!"]}])["SecretList"]
    assert {"Key": "AmazonECSManaged", "Value": "true"} in secret["Tags"]

    # It is the same after a kill, and another one after five days.
    cloud.kill()
    cloud.start()
    ecs = cloud.client("ecs")
    assert ecs.describe_services(cluster="c", services=["web"])["services"]
    assert _shown(*place, trusted).serial_number == first.serial_number
    cloud.advance(5 * 86_400 + 60)
    eventually(lambda: _shown(*place, trusted).serial_number != first.serial_number)
    before = len(said())
    eventually(lambda: len(said()) > before + 1)
    assert said()[-1] == "200 0 first,last | 200 14"
    for name in ("client", "web"):
        ecs.delete_service(cluster="c", service=name, force=True)
    secrets = cloud.client("secretsmanager")
    eventually(lambda: not secrets.list_secrets()["SecretList"])


def test_a_secret_is_of_the_role_s_making_and_goes_with_tls(busybox: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("needs bwrap")
    monkeypatch.setenv("CLOUDLET_ENGINE", "processes")
    with Strict() as cloud:
        ecs, iam, secrets = cloud.client("ecs"), cloud.client("iam"), cloud.client("secretsmanager")
        authority = root(cloud.client("acm-pca"), curve=True)
        key = cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
        ecs.create_cluster(clusterName="c", serviceConnectDefaults={"namespace": "shop"})

        def trusts(service: str) -> str:
            statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
            return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

        iam.create_role(RoleName="task", AssumeRolePolicyDocument=trusts("ecs-tasks.amazonaws.com"))
        role = iam.create_role(RoleName="tls", AssumeRolePolicyDocument=trusts("ecs.amazonaws.com"))["Role"]["Arn"]
        port = [{"containerPort": 8080, "name": "web", "appProtocol": "http"}]
        web = register(ecs, busybox, "sh", "-c", _SAY, family="web", container={"portMappings": port})
        offered = {"portName": "web", "clientAliases": [{"port": 80, "dnsName": "web"}]}
        tls = {"issuerCertificateAuthority": {"awsPcaAuthorityArn": authority}, "kmsKey": key, "roleArn": role}
        _service(cloud, "web", web, services=[{**offered, "tls": tls}])

        def reasons() -> str:
            tasks = ecs.list_tasks(cluster="c", serviceName="web", desiredStatus="STOPPED")["taskArns"]
            found = ecs.describe_tasks(cluster="c", tasks=tasks)["tasks"] if tasks else []
            return " ".join(one.get("stoppedReason", "") for one in found)

        eventually(lambda: "assumed-role/tls/service-connect is not authorized to perform:" in reasons(), 30)
        allowed = [
            {"Effect": "Allow", "Action": "acm-pca:*", "Resource": authority},
            {
                "Effect": "Allow",
                "Action": ["secretsmanager:CreateSecret", "secretsmanager:TagResource"],
                "Resource": "arn:aws:secretsmanager:*:*:secret:ecs-sc!*",
                "Condition": {"StringEquals": {"aws:RequestTag/AmazonECSManaged": "true"}},
            },
            {
                "Effect": "Allow",
                "Action": ["secretsmanager:GetSecretValue", "secretsmanager:DeleteSecret"],
                "Resource": "arn:aws:secretsmanager:*:*:secret:ecs-sc!*",
            },
        ]
        document = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        iam.put_role_policy(RoleName="tls", PolicyName="p", PolicyDocument=document)
        _steady(ecs, "web")
        (secret,) = secrets.list_secrets(Filters=[{"Key": "name", "Values": ["ecs-sc!"]}])["SecretList"]
        assert secret["KmsKeyId"] == key

        # Without TLS nobody needs it any more; with TLS again there is another.
        for services, count in (([offered], 0), ([{**offered, "tls": tls}], 1)):
            connect = {"enabled": True, "services": services}
            ecs.update_service(cluster="c", service="web", serviceConnectConfiguration=connect)
            _steady(ecs, "web")
            eventually(lambda: len(secrets.list_secrets()["SecretList"]) == count)  # noqa: B023
        ecs.delete_service(cluster="c", service="web", force=True)
        eventually(lambda: not secrets.list_secrets()["SecretList"])
