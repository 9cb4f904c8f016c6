"""What a task definition asks of a container is there, or is refused by its name; what tasks use is counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from test_ecs import network, register, run, stopped

from cloudlet.testing import LocalCloud, eventually


def test_a_dependency_has_its_time_to_start(engine_cloud: LocalCloud, busybox: str) -> None:
    ecs = engine_cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    slow = {
        "name": "slow",
        "image": busybox,
        "command": ["sleep", "600"],
        "essential": False,
        "startTimeout": 2,
        "stopTimeout": 2,
    }
    after = {"dependsOn": [{"containerName": "slow", "condition": "COMPLETE"}]}
    arn = run(engine_cloud, register(ecs, busybox, "true", others=[slow], container=after))
    ended = stopped(ecs, arn)
    assert ended["stopCode"] == "TaskFailedToStart"
    assert "did not become COMPLETE within its startTimeout" in ended["stoppedReason"]


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"logConfiguration": {"logDriver": "json-file"}}, "json-file is not a valid log driver"),
        ({"logConfiguration": {"logDriver": "splunk"}}, "RegisterTaskDefinition with the log driver splunk"),
        (
            {"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g", "awslogs-format": "x"}}},
            "the log option awslogs-format",
        ),
        ({"linuxParameters": {"swappiness": 10}}, "do not support swappiness"),
        ({"linuxParameters": {"capabilities": {"add": ["NET_ADMIN"]}}}, "NET_ADMIN is not allowed on Fargate"),
        ({"systemControls": [{"namespace": "net.core.somaxconn", "value": "1"}]}, "systemControls"),
        ({"volumesFrom": [{"sourceContainer": "other"}]}, "volumesFrom"),
    ],
)
def test_what_is_not_there_is_refused_by_name(cloud: LocalCloud, container: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words):
        register(cloud.client("ecs"), "/x", "true", container=container)


def test_what_tasks_use_is_counted(engine_cloud: LocalCloud, busybox: str) -> None:
    ecs, metrics = engine_cloud.client("ecs"), engine_cloud.client("cloudwatch")
    ecs.create_cluster(clusterName="c", settings=[{"name": "containerInsights", "value": "enabled"}])
    arn = run(engine_cloud, register(ecs, busybox, "sh", "-c", "while :; do :; done"))
    eventually(lambda: ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["lastStatus"] == "RUNNING")
    time.sleep(1)
    engine_cloud.advance(60)
    dimensions = [{"Name": "ClusterName", "Value": "c"}, {"Name": "TaskDefinitionFamily", "Value": "web"}]

    def most(name: str) -> float:
        now = datetime.now(UTC)
        found = metrics.get_metric_statistics(
            Namespace="ECS/ContainerInsights",
            MetricName=name,
            Dimensions=dimensions,
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=60,
            Statistics=["Maximum"],
        )["Datapoints"]
        return max((one["Maximum"] for one in found), default=0.0)

    assert eventually(lambda: most("CpuUtilized")) > 50  # of 256, which it would all take
    assert most("CpuReserved") == 256
    assert most("MemoryReserved") == 512
    command = [sys.executable, "-m", "cloudlet", "status", "--usage", "--json", "--endpoint", engine_cloud.endpoint]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (one,) = said["tasks"] if isinstance(said, dict) else said
    assert one["task"] == arn
    assert one["seconds"] >= 60
    assert one["vcpu_seconds"] == pytest.approx(one["seconds"] * 0.25, abs=0.2)
    assert one["gb_seconds"] == pytest.approx(one["seconds"] * 0.5, abs=0.2)


def test_a_stack_whose_service_never_becomes_stable_rolls_back(engine_cloud: LocalCloud, busybox: str) -> None:
    cloud, stacks, ecs = engine_cloud, engine_cloud.client("cloudformation"), engine_cloud.client("ecs")

    def resources(breaker: bool, **members: Any) -> dict[str, Any]:
        image = busybox if breaker or members else "localhost:9/none:1"
        container = {"Name": "app", "Image": image, "Command": ["false"], **members}
        definition = {
            "Family": "web",
            "RequiresCompatibilities": ["FARGATE"],
            "NetworkMode": "awsvpc",
            "Cpu": "256",
            "Memory": "512",
            "ContainerDefinitions": [container],
        }
        service = {
            "Cluster": {"Ref": "Cluster"},
            "TaskDefinition": {"Ref": "Definition"},
            "LaunchType": "FARGATE",
            "DesiredCount": 1,
            "NetworkConfiguration": {"AwsvpcConfiguration": {"Subnets": subnets}},
            "DeploymentConfiguration": {"DeploymentCircuitBreaker": {"Enable": breaker, "Rollback": breaker}},
        }
        return {
            "Cluster": {"Type": "AWS::ECS::Cluster", "Properties": {"ClusterName": "c"}},
            "Definition": {"Type": "AWS::ECS::TaskDefinition", "Properties": definition},
            "Service": {"Type": "AWS::ECS::Service", "Properties": service},
        }

    def cluster_is_there() -> bool:
        return [one["status"] for one in ecs.describe_clusters(clusters=["c"])["clusters"]] == ["ACTIVE"]

    subnets = network(cloud)["awsvpcConfiguration"]["subnets"]
    for breaker in (True, False):
        stacks.create_stack(StackName="s", TemplateBody=json.dumps({"Resources": resources(breaker)}))

        def status() -> str:
            return str(stacks.describe_stacks(StackName="s")["Stacks"][0]["StackStatus"])

        eventually(lambda: status() == "ROLLBACK_COMPLETE", 60)
        failed = [
            one
            for one in stacks.describe_stack_events(StackName="s")["StackEvents"]
            if one["ResourceStatus"] == "CREATE_FAILED" and one["LogicalResourceId"] == "Service"
        ]
        assert len(failed) == 1
        (cluster,) = ecs.describe_clusters(clusters=["c"])["clusters"]
        assert (cluster["status"], cluster["activeServicesCount"], cluster["runningTasksCount"]) == ("INACTIVE", 0, 0)
        assert "Service" in failed[0]["ResourceStatusReason"] or "Circuit" in failed[0]["ResourceStatusReason"]
        if (pods := cloud.data_dir / "containers/pods").exists():
            assert os.listdir(pods) == []
            assert os.listdir(cloud.data_dir / "containers/containers") == []
        else:
            identity = json.loads((cloud.data_dir / "cloud.json").read_text())["id"]
            mine = ["podman", "ps", "-a", "-q", "--filter", f"label=cloudlet.cloud={identity}"]
            assert subprocess.run(mine, capture_output=True, text=True, check=True).stdout == ""
        stacks.delete_stack(StackName="s")
        stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})

    # Nobody waits for what a user has called off.
    check = {"Command": ["CMD", "false"], "StartPeriod": 300}
    never = resources(False, Command=["sleep", "600"], StopTimeout=2, HealthCheck=check)
    stack = stacks.create_stack(StackName="s", TemplateBody=json.dumps({"Resources": never}))["StackId"]
    eventually(lambda: ecs.list_tasks(cluster="c")["taskArns"] if cluster_is_there() else [])
    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    assert ecs.list_clusters()["clusterArns"] == []
