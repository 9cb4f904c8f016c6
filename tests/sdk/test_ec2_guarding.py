"""Security groups in force between real tasks. Needs root, nftables and an engine for containers."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.engines.containers.network import HostReach
from cloudlet.engines.proxies import envoy
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.testing import LocalCloud

PORT = 8080


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image: a root file system with nothing but busybox in it."""
    busybox = shutil.which("busybox")
    if busybox is None or b"dynamically" in subprocess.run(["file", "-L", busybox], capture_output=True).stdout:
        pytest.skip("needs a static busybox: apt-get install busybox-static")
    folder = tmp_path_factory.mktemp("image")
    for name in ("bin", "etc", "tmp", "www"):
        (folder / name).mkdir()
    shutil.copy(busybox, folder / "bin/busybox")
    for name in ("httpd", "sh", "sleep", "wget"):
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (folder / "www/index.html").write_text("hello")
    return str(folder)


@pytest.fixture(params=["processes", "podman"])
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """A cloud on each engine that this machine has."""
    if not HostReach.possible():
        pytest.skip("needs root, with ip, nft and nsenter")
    if shutil.which("bwrap" if request.param == "processes" else "podman") is None:
        pytest.skip(f"needs what runs {request.param}")
    monkeypatch.setenv("CLOUDLET_ENGINE", request.param)
    with LocalCloud() as running:
        yield running
        print(running.log)


class Network:
    """A VPC, and tasks in it that serve a page."""

    def __init__(self, cloud: LocalCloud, image: str) -> None:
        self.cloud = cloud
        self.ec2, self.ecs = cloud.client("ec2"), cloud.client("ecs")
        self.vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnet = self.ec2.create_subnet(VpcId=self.vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
        self.ecs.create_cluster(clusterName="c")
        self.ecs.register_task_definition(
            family="web",
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            containerDefinitions=[
                {
                    "name": "app",
                    "image": image,
                    "command": ["httpd", "-f", "-p", str(PORT), "-h", "/www"],
                    "portMappings": [{"containerPort": PORT}],
                    "stopTimeout": 2,
                }
            ],
        )

    def group(self, name: str) -> str:
        made = self.ec2.create_security_group(GroupName=name, Description=name, VpcId=self.vpc)
        return str(made["GroupId"])

    def task(self, *groups: str) -> str:
        """The address of a new task."""
        network = {"awsvpcConfiguration": {"subnets": [self.subnet], "securityGroups": list(groups)}}
        made = self.ecs.run_task(cluster="c", taskDefinition="web", launchType="FARGATE", networkConfiguration=network)
        arn = made["tasks"][0]["taskArn"]
        assert soon(lambda: self._shown(arn)["lastStatus"] == "RUNNING")
        found = self._shown(arn)
        details = {one["name"]: one["value"] for one in found["attachments"][0]["details"]}
        return str(details["privateIPv4Address"])

    def _shown(self, arn: str) -> dict[str, Any]:
        return self.ecs.describe_tasks(cluster="c", tasks=[arn])["tasks"][0]  # type: ignore[no-any-return]

    def reaches(self, source: str, target: str) -> bool:
        """Whether a task is let through to another, as a program in its network namespace sees it."""
        dial = f"import socket; socket.create_connection(({target!r}, {PORT}), 0.4)"
        ask = ["nsenter", f"--net={namespace_of(source)}", sys.executable, "-ISc", dial]
        return subprocess.run(ask, capture_output=True, timeout=10).returncode == 0

    def stop(self, address: str) -> None:
        """Stop the task of that address."""
        arns = self.ecs.list_tasks(cluster="c")["taskArns"]
        mine = {"name": "privateIPv4Address", "value": address}
        (arn,) = (arn for arn in arns if mine in self._shown(arn)["attachments"][0]["details"])
        self.ecs.stop_task(cluster="c", task=arn)
        assert soon(lambda: self._shown(arn)["lastStatus"] == "STOPPED")


def namespace_of(address: str) -> str:
    """The network namespace that has an address."""
    paths = [*Path("/run/netns").glob("*"), *Path("/proc").glob("[0-9]*/ns/net")]
    for path in paths:
        told = subprocess.run(["nsenter", f"--net={path}", "ip", "-4", "-o", "addr"], capture_output=True, text=True)
        if f" {address}/" in told.stdout:
            return str(path)
    raise AssertionError(f"nobody has {address}")


def from_here(target: str) -> bool:
    """Whether this machine gets a task's page."""
    return answers(target, PORT)


def answers(address: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=0.5) as answer:
            return bool(answer.read() == b"hello")
    except OSError:
        return False


def soon(check: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not (found := check()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def test_tasks_are_reached_only_by_whom_a_rule_names(cloud: LocalCloud, image: str) -> None:
    network = Network(cloud, image)
    ec2 = network.ec2
    client, other, server = (network.group(name) for name in ("client", "other", "server"))
    port = {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT}
    from_client = {"GroupId": server, "IpPermissions": [{**port, "UserIdGroupPairs": [{"GroupId": client}]}]}
    ec2.authorize_security_group_ingress(**from_client)
    allowed, denied, target = network.task(client), network.task(other), network.task(server)
    assert soon(lambda: network.reaches(allowed, target))
    assert not network.reaches(denied, target)
    assert not from_here(target), "no rule lets this machine in"

    # Rules that come and go are in force at once; a block of the VPC means the tasks in its subnets.
    ec2.revoke_security_group_ingress(**from_client)
    assert soon(lambda: not network.reaches(allowed, target))
    by_block = {"GroupId": server, "IpPermissions": [{**port, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}]}
    ec2.authorize_security_group_ingress(**by_block)
    assert soon(lambda: network.reaches(denied, target))
    assert not from_here(target)
    ec2.revoke_security_group_ingress(**by_block)
    ec2.authorize_security_group_ingress(
        GroupId=server, IpPermissions=[{**port, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    )
    assert soon(lambda: from_here(target))
    # What a task may not send, it does not.
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    ec2.revoke_security_group_egress(GroupId=other, IpPermissions=everything)
    assert soon(lambda: not network.reaches(denied, target))
    assert network.reaches(allowed, target)

    # EC2 shows a task's interface as long as it is there, and its group is needed as long.
    by_address = {"Filters": [{"Name": "private-ip-address", "Values": [denied]}]}
    (shown,) = ec2.describe_network_interfaces(**by_address)["NetworkInterfaces"]
    assert ([one["GroupId"] for one in shown["Groups"]], shown["Status"]) == ([other], "in-use")
    with pytest.raises(ClientError, match="DependencyViolation"):
        ec2.delete_security_group(GroupId=other)

    # It stays so through a kill, and new members are known afterwards.
    cloud.kill()
    assert not network.reaches(denied, target)
    assert network.reaches(allowed, target)
    cloud.start()
    network.ec2, network.ecs = cloud.client("ec2"), cloud.client("ecs")
    assert not network.reaches(denied, target)
    assert network.reaches(network.task(client), target)
    network.ec2.authorize_security_group_egress(GroupId=other, IpPermissions=everything)
    assert soon(lambda: network.reaches(denied, target))
    network.stop(denied)
    assert network.ec2.describe_network_interfaces(**by_address)["NetworkInterfaces"] == []
    network.ec2.delete_security_group(GroupId=other)


def test_a_load_balancer_speaks_for_its_groups(cloud: LocalCloud, image: str) -> None:
    try:
        envoy.binary()
    except ProxyMissing as missing:
        pytest.skip(str(missing))
    network = Network(cloud, image)
    ec2, elb = network.ec2, cloud.client("elbv2")
    both = {"VpcId": network.vpc, "AvailabilityZone": "us-east-1b"}
    second = ec2.create_subnet(CidrBlock="10.0.2.0/24", **both)["Subnet"]["SubnetId"]
    front, other, tasks = (network.group(name) for name in ("front", "other", "tasks"))
    # Another task has the load balancer's group too: the group alone does not say that this machine is in it.
    rule = {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT, "UserIdGroupPairs": [{"GroupId": front}]}
    ec2.authorize_security_group_ingress(GroupId=tasks, IpPermissions=[rule])
    network.task(front)
    target = network.task(tasks)
    assert not from_here(target)
    made = elb.create_load_balancer(Name="front", Subnets=[network.subnet, second], SecurityGroups=[front])
    arn = made["LoadBalancers"][0]["LoadBalancerArn"]
    check = {"HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 2, "HealthyThresholdCount": 2}
    group = elb.create_target_group(
        Name="tasks", Protocol="HTTP", Port=PORT, VpcId=network.vpc, TargetType="ip", **check
    )["TargetGroups"][0]["TargetGroupArn"]
    elb.create_listener(
        LoadBalancerArn=arn,
        Protocol="HTTP",
        Port=18080,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": target}])
    (shown,) = [one for one in cloud.control("resources")["resources"] if one["type"].endswith("::LoadBalancer")]
    assert soon(lambda: answers(shown["address"], 18080))
    elb.set_security_groups(LoadBalancerArn=arn, SecurityGroups=[other])
    assert soon(lambda: not from_here(target))

    # A function in the VPC is a member of its groups, as long as it is there.
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", "def handler(event, context): return 1")
    functions = cloud.client("lambda")
    functions.create_function(
        FunctionName="f",
        Runtime="python3.11",
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/f",
        Code={"ZipFile": code.getvalue()},
        VpcConfig={"SubnetIds": [network.subnet], "SecurityGroupIds": [front]},
    )
    assert soon(lambda: from_here(target))
    functions.delete_function(FunctionName="f")
    assert soon(lambda: not from_here(target))
