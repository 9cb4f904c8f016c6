"""What a task definition asks of a container is there, or is refused by its name; what tasks use is counted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from test_ecs import register, run, stopped, wait_for

from cloudlet.testing import LocalCloud


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
        ({"logConfiguration": {"logDriver": "json-file"}}, "log driver json-file is not supported for Fargate"),
        ({"logConfiguration": {"logDriver": "splunk"}}, "RegisterTaskDefinition with the log driver splunk"),
        (
            {"logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g", "awslogs-format": "x"}}},
            "the log option awslogs-format",
        ),
        ({"linuxParameters": {"swappiness": 10}}, r"linuxParameters\.swappiness"),
        ({"linuxParameters": {"capabilities": {"add": ["NET_ADMIN"]}}}, "NET_ADMIN is not supported for Fargate"),
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
    wait_for(lambda: ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["lastStatus"] == "RUNNING")
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

    assert wait_for(lambda: most("CpuUtilized")) > 50  # of 256, which it would all take
    assert most("CpuReserved") == 256
    assert most("MemoryReserved") == 512
    command = [sys.executable, "-m", "cloudlet", "status", "--usage", "--json", "--endpoint", engine_cloud.endpoint]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (one,) = said["tasks"] if isinstance(said, dict) else said
    assert one["task"] == arn
    assert one["seconds"] >= 60
    assert one["vcpu_seconds"] == pytest.approx(one["seconds"] * 0.25, abs=0.2)
    assert one["gb_seconds"] == pytest.approx(one["seconds"] * 0.5, abs=0.2)
