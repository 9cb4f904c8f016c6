"""A cloud that is put down while things begin to run: nothing of it is left, and nothing is complained of."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cloudlet.testing import LocalCloud, eventually


@pytest.fixture(params=["podman", "processes"])
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    program = {"podman": "podman", "processes": "bwrap"}[request.param]
    if shutil.which(program) is None or os.geteuid() != 0:
        pytest.skip(f"needs {program} and root")
    monkeypatch.setenv("CLOUDLET_ENGINE", request.param)
    with LocalCloud() as running:
        yield running


def left_of(id: str) -> list[str]:
    """The containers and the networks of a cloud."""
    found = [name for name in os.listdir("/run/netns") if id[:8] in name] if Path("/run/netns").is_dir() else []
    if shutil.which("podman") is not None:
        command = ["podman", "ps", "--all", "--quiet", "--filter", f"label=cloudlet.cloud={id}"]
        found += subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return found


def test_instances_that_are_just_being_launched_go_with_their_cloud(cloud: LocalCloud) -> None:
    ids = []
    for pause in (0.0, 0.1, 0.3, 0.6, 1.2):
        image = cloud.client("ssm").get_parameter(
            Name="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
        )
        cloud.client("ec2").run_instances(ImageId=image["Parameter"]["Value"], MinCount=1, MaxCount=1)
        time.sleep(pause)  # the moment at which it is put down is what this is about
        ids.append(json.loads((cloud.data_dir / "cloud.json").read_text())["id"])
        cloud.control("reset", {})
    assert [left_of(id) for id in ids] == [[]] * len(ids)
    assert "ERROR" not in cloud.log


def test_tasks_that_are_just_being_stopped_go_with_their_cloud(cloud: LocalCloud, tmp_path: Path) -> None:
    program = shutil.which("busybox")
    if program is None or b"dynamically" in subprocess.run(["file", "-L", program], capture_output=True).stdout:
        pytest.skip("needs a static busybox: apt-get install busybox-static")
    (tmp_path / "bin").mkdir()
    shutil.copy(program, tmp_path / "bin/sleep")
    mark = str(100_000 + os.getpid())  # the first process of a container, which a stop signal does not end
    ecs = cloud.client("ecs")
    ecs.create_cluster(clusterName="c")
    container = {"name": "app", "image": str(tmp_path), "command": ["sleep", mark], "stopTimeout": 20}
    ecs.register_task_definition(
        family="app",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[container],
    )
    subnets = [cloud.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]]
    network = {"awsvpcConfiguration": {"subnets": subnets}}
    started = ecs.run_task(cluster="c", taskDefinition="app", launchType="FARGATE", networkConfiguration=network)
    arn = started["tasks"][0]["taskArn"]

    def state() -> str:
        return str(ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]["lastStatus"])

    eventually(lambda: state() == "RUNNING")
    assert processes(mark) != []
    ecs.stop_task(cluster="c", task=arn)
    eventually(lambda: state() in ("DEACTIVATING", "STOPPING"))
    time.sleep(0.3)  # the engine is at it
    cloud.stop()
    assert processes(mark) == []


def processes(mark: str) -> list[int]:
    return [one.pid for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [])[-1:] == [mark]]
