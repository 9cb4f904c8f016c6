"""App Mesh's Envoys and X-Ray: a task with both sidecars, as AWS's examples have them."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.request
from typing import Any

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


def ask(url: str, header: str) -> bytes:
    """The body, nothing while nobody answers."""
    try:
        request = urllib.request.Request(url, headers={"X-Amzn-Trace-Id": header})
        return urllib.request.urlopen(request, timeout=5).read()  # type: ignore[no-any-return]
    except OSError:
        return b""


def test_envoys_trace(engine_cloud: LocalCloud, busybox: str) -> None:
    cloud = engine_cloud
    try:
        binary()
    except ProxyMissing as missing:
        pytest.skip(str(missing))
    if os.geteuid() != 0 or not shutil.which("nft"):
        pytest.skip("needs root and nft")
    ecs, appmesh, ec2, xray = (cloud.client(name) for name in ("ecs", "appmesh", "ec2", "xray"))
    cloud.client("logs").create_log_group(logGroupName="/mesh")
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(GroupName="web", Description="the web", VpcId=subnet["VpcId"])["GroupId"]
    anyone = {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[anyone])
    appmesh.create_mesh(**MESH)
    listener = {"portMapping": {"port": 8080, "protocol": "http"}}
    appmesh.create_virtual_node(
        **MESH,
        virtualNodeName="blue",
        spec={"listeners": [listener], "serviceDiscovery": {"dns": {"hostname": "blue.shop.local"}}},
    )
    variables = {
        "APPMESH_RESOURCE_ARN": "mesh/shop/virtualNode/blue",
        "ENABLE_ENVOY_XRAY_TRACING": "1",
        "XRAY_SAMPLING_RATE": "1",
    }
    properties = {"IgnoredUID": "1337", "ProxyIngressPort": "15000", "ProxyEgressPort": "15001", "AppPorts": "8080"}
    ecs.register_task_definition(
        family="blue",
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
        containerDefinitions=[
            {
                "name": "app",
                "image": busybox,
                "command": ["sh", "-c", "echo daemon $AWS_XRAY_DAEMON_ADDRESS; exec httpd -f -p 8080 -h /www"],
                "portMappings": [{"containerPort": 8080}],
                "logConfiguration": LOGS,
                "stopTimeout": 2,
            },
            {
                "name": "envoy",
                "image": ENVOY,
                "user": "1337",
                "environment": [{"name": name, "value": value} for name, value in variables.items()],
            },
            {"name": "xray", "image": "public.ecr.aws/xray/aws-xray-daemon:latest"},
        ],
    )
    ecs.create_cluster(clusterName="c")
    network = {"awsvpcConfiguration": {"subnets": [subnet["SubnetId"]], "securityGroups": [group]}}
    run = {"cluster": "c", "taskDefinition": "blue", "launchType": "FARGATE", "networkConfiguration": network}
    arn = ecs.run_task(**run)["tasks"][0]["taskArn"]

    def running() -> dict[str, Any] | None:
        [task] = ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"]
        assert task["lastStatus"] != "STOPPED", task
        return task if task["lastStatus"] == "RUNNING" else None

    task = eventually(running)
    assert [one["lastStatus"] for one in task["containers"]] == ["RUNNING"] * 3
    interface = task["attachments"][0]["details"]
    address = next(one["value"] for one in interface if one["name"] == "privateIPv4Address")

    def traced(since: float) -> list[dict[str, Any]]:
        now = time.time()
        found = xray.get_trace_summaries(StartTime=since, EndTime=now + 60, FilterExpression='service("shop/blue")')
        return found["TraceSummaries"]  # type: ignore[no-any-return]

    began = time.time() - 5
    unsampled = f"Root=1-{int(began):08x}-{os.urandom(12).hex()};Sampled=0"
    eventually(lambda: ask(f"http://{address}:8080/", unsampled) == b"hello")  # it listens
    header = f"Root=1-{int(began):08x}-{os.urandom(12).hex()};Parent={os.urandom(8).hex()};Sampled=1"
    assert eventually(lambda: ask(f"http://{address}:8080/", header)) == b"hello"
    [one] = eventually(lambda: traced(began))
    assert one["Id"] in header
    assert one["Http"]["HttpStatus"] == 200
    [segment] = xray.batch_get_traces(TraceIds=[one["Id"]])["Traces"][0]["Segments"]
    document = json.loads(segment["Document"])
    assert document["origin"] == "AWS::AppMesh::Proxy"
    assert document["aws"]["app_mesh"] == {"mesh_name": "shop", "virtual_node_name": "blue"}
    assert document["parent_id"] in header

    def lines() -> list[str]:
        events = cloud.client("logs").filter_log_events(logGroupName="/mesh")["events"]
        return [event["message"] for event in events]

    assert eventually(lambda: "daemon 127.0.0.1:2000" in lines())

    # Envoy goes on while we are gone, and its traces come again afterwards.
    cloud.kill()
    cloud.start()
    ecs, xray = cloud.client("ecs"), cloud.client("xray")
    header = f"Root=1-{int(began):08x}-{os.urandom(12).hex()};Parent={os.urandom(8).hex()};Sampled=1"

    def again() -> bool:
        ask(f"http://{address}:8080/", header)
        return any(one["Id"] in header for one in traced(began))

    eventually(again)
    ecs.stop_task(cluster="c", task=arn)
    eventually(lambda: not ecs.list_tasks(cluster="c")["taskArns"])
