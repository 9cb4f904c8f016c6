"""Tasks of ECS joined by App Mesh: by their proxyConfiguration, with nothing else changed."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.engines.proxies.envoy import binary
from cloudlet.testing import LocalCloud, eventually

ENVOY = "public.ecr.aws/appmesh/aws-appmesh-envoy:v1.29.12.1-prod"
LOGS = {
    "logDriver": "awslogs",
    "options": {"awslogs-group": "/mesh", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "t"},
}
MESH = {"meshName": "shop"}


@pytest.fixture(params=["podman", "processes"])
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """A cloud on each engine that gives tasks a network of their own here."""
    try:
        binary()
    except ProxyMissing as missing:
        pytest.skip(str(missing))
    if os.geteuid() != 0 or not shutil.which("nft"):
        pytest.skip("needs root and nft")
    if not shutil.which("podman" if request.param == "podman" else "bwrap"):
        pytest.skip(f"needs what runs {request.param}")
    monkeypatch.setenv("CLOUDLET_ENGINE", request.param)
    with LocalCloud() as running:
        yield running
        print(running.log)


@pytest.fixture
def root(tmp_path: Path) -> str:
    """An image: busybox, with a page to serve."""
    busybox = shutil.which("busybox")
    if busybox is None or b"dynamically" in subprocess.run(["file", "-L", busybox], capture_output=True).stdout:
        pytest.skip("needs a static busybox: apt-get install busybox-static")
    for name in ("bin", "etc", "tmp", "www"):
        (tmp_path / name).mkdir()
    shutil.copy(busybox, tmp_path / "bin/busybox")
    for name in ("sh", "httpd", "wget", "sleep", "echo", "seq", "cat"):
        (tmp_path / "bin" / name).symlink_to("busybox")
    # And what Envoy needs, as App Mesh's own image has it.
    for library in re.findall(r"/\S+", subprocess.run(["ldd", binary()], capture_output=True, text=True).stdout):
        (tmp_path / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, tmp_path / library[1:])
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (tmp_path / "etc/more.yaml").write_text("stats_flush_interval: 7s\n")
    (tmp_path / "www/index.html").write_text("hello from blue\n")
    return str(tmp_path)


def define(cloud: LocalCloud, family: str, root: str, script: str, port: int, own_envoy: bool = False) -> str:
    """A task definition as App Mesh's examples have it; ``own_envoy``: with an image made from App Mesh's, which does
    something before it starts Envoy."""
    properties = {"IgnoredUID": "1337", "ProxyIngressPort": "15000", "ProxyEgressPort": "15001"}
    properties |= {"AppPorts": str(port), "EgressIgnoredIPs": "169.254.170.2,169.254.169.254"}
    variables = {"APPMESH_RESOURCE_ARN": f"mesh/shop/virtualNode/{family}", "APPNET_ENVOY_RESTART_COUNT": "3"}
    if own_envoy:
        variables |= {"ENVOY_RESOURCES_CONFIG_FILE": "/etc/more.yaml", "ENVOY_CONCURRENCY": "2"}
    environment = [{"name": name, "value": value} for name, value in variables.items()]
    app = {
        "name": "app",
        "image": root,
        "essential": True,
        "command": ["sh", "-c", script],
        "portMappings": [{"containerPort": port, "protocol": "http"}],
        "logConfiguration": LOGS,
        "dependsOn": [{"containerName": "envoy", "condition": "START"}],
        "stopTimeout": 2,
    }
    envoy = {
        "name": "envoy",
        "image": ENVOY,
        "essential": True,
        "user": "1337",
        "environment": environment,
        "logConfiguration": LOGS,
    }
    if own_envoy:
        envoy |= {"image": root, "entryPoint": ["sh", "-c", "echo prepared; exec /usr/bin/agent"]}
    # What the proxy itself waits for cannot wait for the proxy.
    daemon = {"name": "xray", "image": "public.ecr.aws/xray/aws-xray-daemon:latest", "essential": True}
    envoy["dependsOn"] = [{"containerName": "xray", "condition": "START"}]
    made = cloud.client("ecs").register_task_definition(
        family=family,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        executionRoleArn="arn:aws:iam::000000000000:role/task",
        proxyConfiguration={
            "type": "APPMESH",
            "containerName": "envoy",
            "properties": [{"name": name, "value": value} for name, value in properties.items()],
        },
        containerDefinitions=[app, envoy, daemon],
    )
    return str(made["taskDefinition"]["taskDefinitionArn"])


def answer_of(url: str) -> tuple[bytes, str] | None:
    """The body and the server's name; None while nothing listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read(), answer.headers["server"]
    except OSError:
        return None


def lines(cloud: LocalCloud, stream: str) -> list[str]:
    logs = cloud.client("logs")
    found = logs.filter_log_events(logGroupName="/mesh", logStreamNamePrefix=stream)["events"]
    return [event["message"] for event in found]


def test_tasks_are_joined(cloud: LocalCloud, root: str) -> None:
    ecs, appmesh, discovery = (cloud.client(name) for name in ("ecs", "appmesh", "servicediscovery"))
    cloud.client("logs").create_log_group(logGroupName="/mesh")
    ec2 = cloud.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(GroupName="web", Description="the web", VpcId=subnet["VpcId"])["GroupId"]
    everyone = [{"CidrIp": "0.0.0.0/0"}]
    ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "IpRanges": everyone}]
    )
    network = {"awsvpcConfiguration": {"subnets": [subnet["SubnetId"]], "securityGroups": [group]}}
    discovery.create_private_dns_namespace(Name="shop.local", Vpc=subnet["VpcId"])
    (space,) = eventually(lambda: discovery.list_namespaces()["Namespaces"])
    config = {"DnsRecords": [{"Type": "A", "TTL": 1}]}
    registry = discovery.create_service(Name="blue", NamespaceId=space["Id"], DnsConfig=config)["Service"]["Arn"]

    appmesh.create_mesh(**MESH)
    listener = {"portMapping": {"port": 8080, "protocol": "http"}}
    found = {"awsCloudMap": {"namespaceName": "shop.local", "serviceName": "blue"}}
    appmesh.create_virtual_node(
        **MESH, virtualNodeName="blue", spec={"listeners": [listener], "serviceDiscovery": found}
    )
    provider = {"virtualNode": {"virtualNodeName": "blue"}}
    appmesh.create_virtual_service(**MESH, virtualServiceName="blue.shop.local", spec={"provider": provider})
    front = {
        "backends": [{"virtualService": {"virtualServiceName": "blue.shop.local"}}],
        "logging": {"accessLog": {"file": {"path": "/dev/stdout", "format": {"text": "mesh %RESPONSE_CODE%"}}}},
    }
    appmesh.create_virtual_node(**MESH, virtualNodeName="front", spec=front)

    ecs.create_cluster(clusterName="c")
    blue = define(cloud, "blue", root, "exec httpd -f -p 8080 -h /www", 8080, own_envoy=True)
    ecs.create_service(
        cluster="c",
        serviceName="blue",
        taskDefinition=blue,
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration=network,
        serviceRegistries=[{"registryArn": registry}],
    )
    eventually(lambda: ecs.describe_services(cluster="c", services=["blue"])["services"][0]["runningCount"])
    eventually(lambda: discovery.list_instances(ServiceId=registry.rpartition("/")[2])["Instances"])
    # From outside, as a load balancer does, the task answers through its Envoy.
    (instance,) = discovery.list_instances(ServiceId=registry.rpartition("/")[2])["Instances"]
    address = instance["Attributes"]["AWS_INSTANCE_IPV4"]
    assert eventually(lambda: answer_of(f"http://{address}:8080/")) == (b"hello from blue\n", "envoy")
    said = lines(cloud, "t/envoy")
    assert "prepared" in said
    # A variable that has no effect is named; the others have theirs, also in the container's own Envoy.
    unheeded = "Cloudlet: APPNET_ENVOY_RESTART_COUNT has no effect: an Envoy that ends is started again, however often"
    assert said.count(unheeded) == 1
    (folder,) = (cloud.data_dir / "appmesh").iterdir()
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(os.path.relpath(folder / "admin.sock"))
        connection = http.client.HTTPConnection("envoy")
        connection.sock = admin
        connection.request("GET", "/server_info")
        info = json.loads(connection.getresponse().read())
    assert info["command_line_options"]["concurrency"] == 2
    assert info["command_line_options"]["config_yaml"] == "stats_flush_interval: 7s"
    # A static busybox cannot resolve names: any address will do, since Envoy takes the connection and goes by the Host.
    ask = "wget -q -O - --header 'Host: blue.shop.local:8080' http://192.0.2.1:8080/"
    script = f"for i in $(seq 30); do {ask} || echo no; sleep 0.2; done; exec sleep 100"
    (task,) = ecs.run_task(
        cluster="c",
        taskDefinition=define(cloud, "front", root, script, 9999),
        launchType="FARGATE",
        networkConfiguration=network,
    )["tasks"]
    eventually(lambda: len(lines(cloud, "t/app")) >= 30)
    answers = [line for line in lines(cloud, "t/app") if line in ("hello from blue", "no")]
    assert answers.count("hello from blue") >= 28, lines(cloud, "t/app")
    # It went through the mesh: Envoy's access log is the proxy container's log.
    eventually(lambda: lines(cloud, "t/envoy").count("mesh 200") >= 28)
    assert lines(cloud, "t/envoy").count(unheeded) == 2
    # Where a node cannot be carried as it says, the log of its Envoy says why: what Cloudlet finds out beforehand ...
    files = {"certificateChain": "/keys/front.pem", "privateKey": "/keys/front.key"}
    validation = {"trust": {"file": {"certificateChain": "/keys/ca.pem"}}}
    policy = {"tls": {"certificate": {"file": files}, "validation": validation}}
    backend = {"virtualService": {"virtualServiceName": "blue.shop.local", "clientPolicy": policy}}
    appmesh.update_virtual_node(**MESH, virtualNodeName="front", spec={"backends": [backend]})
    said = "Cloudlet: the Envoy of mesh/shop/virtualNode/front carries what it did before: the file /keys/"
    eventually(lambda: any(line.startswith(said) for line in lines(cloud, "t/envoy")))
    # ... and what only Envoy does, here in a container of its own.
    secured = {**listener, "tls": {"mode": "STRICT", "certificate": {"file": files}}}
    appmesh.update_virtual_node(
        **MESH, virtualNodeName="blue", spec={"listeners": [secured], "serviceDiscovery": found}
    )
    eventually(lambda: any("update rejected" in line and "/keys/" in line for line in lines(cloud, "t/envoy")))
    eventually(lambda: "the Envoy of mesh/shop/virtualNode/blue refuses what it was told: " in cloud.log)
    ecs.stop_task(cluster="c", task=task["taskArn"])
    ecs.update_service(cluster="c", service="blue", desiredCount=0)
    eventually(lambda: not ecs.list_tasks(cluster="c")["taskArns"])
    folder = cloud.data_dir / "appmesh"
    eventually(lambda: not list(folder.iterdir()))
