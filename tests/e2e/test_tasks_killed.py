"""A service of tasks, and kill -9 at random moments: of the control plane, of containers, while tasks come and go.

After each sequence there are as many containers and networks as tasks, and at no moment did no task answer.
``CLOUDLET_KILLS`` says how many sequences (3), ``CLOUDLET_SEED`` repeats those of an earlier run.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloudlet.testing import LocalCloud

_SEQUENCES = int(os.environ.get("CLOUDLET_KILLS", "3"))
_PORT = 8080
_LONGEST = 60.0  # seconds until everything is as it should be again
_CALM = 0.5  # seconds that it has to stay so
_LEAST = 3  # tasks of which one may always be killed


@pytest.fixture
def image(tmp_path: Path) -> str:
    """A root file system with nothing but busybox in it."""
    busybox = shutil.which("busybox")
    if busybox is None or b"dynamically" in subprocess.run(["file", "-L", busybox], capture_output=True).stdout:
        pytest.skip("needs a static busybox: apt-get install busybox-static")
    for name in ("bin", "etc", "tmp", "www"):
        (tmp_path / name).mkdir()
    shutil.copy(busybox, tmp_path / "bin/busybox")
    for name in ("httpd", "sh"):
        (tmp_path / "bin" / name).symlink_to("busybox")
    (tmp_path / "www/index.html").write_text("well")
    return str(tmp_path)


@pytest.fixture(params=["podman", "processes"])
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    if os.geteuid() != 0:
        pytest.skip("needs root: tasks with addresses of their own")
    program = {"podman": "podman", "processes": "bwrap"}[request.param]
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    monkeypatch.setenv("CLOUDLET_ENGINE", request.param)
    with LocalCloud() as running:
        yield running
        print(running.log[-20_000:])


class Traffic:
    """Asks the tasks that are known until one answers, round after round; in a ``silent`` round none of them does."""

    def __init__(self) -> None:
        self.addresses: list[str] = []  # the last that answered comes first
        self.answered = self.silent = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            addresses = self.addresses
            # A machine under load may be slow: nobody has answered when nobody does within seconds.
            found = next((one for wait in (0.5, 3.0) for one in addresses if _answers(one, wait)), None)
            if found is not None:
                self.answered += 1
                addresses.sort(key=lambda one: one != found)
            elif addresses and addresses is self.addresses:
                self.silent += 1


def _answers(address: str, seconds: float) -> bool:
    connection = http.client.HTTPConnection(address, _PORT, timeout=seconds)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read() == b"well"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _subnet(cloud: LocalCloud) -> str:
    return str(cloud.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"])


def _open_group(cloud: LocalCloud) -> str:
    """A security group that lets this test in."""
    ec2 = cloud.client("ec2")
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    group = ec2.create_security_group(GroupName="open", Description="open", VpcId=vpc["VpcId"])["GroupId"]
    everybody = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[everybody])
    return str(group)


class Shop:
    """The service, as ECS tells of it and as this machine shows it."""

    def __init__(self, cloud: LocalCloud, image: str) -> None:
        self.cloud = cloud
        self.mark = f"mark-{os.getpid()}-{random.getrandbits(32):x}"
        self.desired = _LEAST
        ecs = cloud.client("ecs")
        ecs.create_cluster(clusterName="c")
        container = {
            "name": "web",
            "image": image,
            "command": ["/bin/httpd", "-f", "-p", str(_PORT), "-h", "/www", "-r", self.mark],
            "portMappings": [{"containerPort": _PORT}],
            "stopTimeout": 2,
        }
        ecs.register_task_definition(
            family="web",
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[container],
        )
        network = {"awsvpcConfiguration": {"subnets": [_subnet(cloud)], "securityGroups": [_open_group(cloud)]}}
        ecs.create_service(
            cluster="c",
            serviceName="web",
            taskDefinition="web",
            launchType="FARGATE",
            desiredCount=self.desired,
            networkConfiguration=network,
        )

    def tasks(self) -> list[dict[str, Any]]:
        """All tasks that ECS knows to run, or wants to."""
        ecs = self.cloud.client("ecs")
        arns = ecs.list_tasks(cluster="c", desiredStatus="RUNNING")["taskArns"]
        arns += ecs.list_tasks(cluster="c", desiredStatus="STOPPED")["taskArns"]
        found = ecs.describe_tasks(cluster="c", tasks=arns)["tasks"] if arns else []
        return [one for one in found if one["lastStatus"] != "STOPPED"]

    def containers(self) -> list[int]:
        """The processes that the tasks' containers are."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if words[:1] == ["/bin/httpd"] and self.mark in words:
                found.append(process.pid)
        return found

    def networks(self, address: str) -> int:
        """How many pods are connected to the network that a task's address is of."""
        links = json.loads(subprocess.run(["ip", "-j", "address"], capture_output=True, check=True).stdout)
        for link in links:
            for one in link["addr_info"]:
                network = ipaddress.ip_interface(f"{one['local']}/{one['prefixlen']}").network
                if link["ifname"].startswith("cl") and ipaddress.ip_address(address) in network:
                    return len(os.listdir(f"/sys/class/net/{link['ifname']}/brif"))
        return 0

    def is_well(self) -> str:
        """Nothing when there is what should be, and only that; else what differs."""
        tasks, containers = self.tasks(), self.containers()
        states = [(one["lastStatus"], one["desiredStatus"]) for one in tasks]
        if states != [("RUNNING", "RUNNING")] * self.desired:
            return f"tasks {states}, wanted {self.desired}"
        if len(containers) != self.desired:
            return f"{len(containers)} containers of {self.desired} tasks"
        networks = self.networks(tasks[0]["containers"][0]["networkInterfaces"][0]["privateIpv4Address"])
        return "" if networks == self.desired else f"{networks} networks of {self.desired} tasks"

    def addresses(self) -> set[str]:
        return {
            interface["privateIpv4Address"]
            for one in self.tasks()
            if (one["lastStatus"], one["desiredStatus"]) == ("RUNNING", "RUNNING")
            for interface in one["containers"][0]["networkInterfaces"]
        }

    def reasons(self) -> list[str]:
        """Why tasks have stopped."""
        ecs = self.cloud.client("ecs")
        arns = ecs.list_tasks(cluster="c", desiredStatus="STOPPED")["taskArns"]
        return [one.get("stoppedReason", "?") for one in ecs.describe_tasks(cluster="c", tasks=arns)["tasks"]]

    def settle(self) -> None:
        """Wait until all is well and stays so. A service pauses when its tasks end early: then the clock moves."""
        begun, calm, why, moved = time.monotonic(), 0.0, "?", 0
        while time.monotonic() < begun + _LONGEST:
            why = self.is_well()
            if why and time.monotonic() > begun + 4 * (moved + 1):
                self.cloud.advance(300)
                moved += 1
            if why:
                calm = 0.0
            elif not calm:
                calm = time.monotonic()
            elif time.monotonic() - calm > _CALM:
                return
            time.sleep(0.05)
        raise AssertionError(f"{why}; {[(one['taskArn'][-8:], one['lastStatus']) for one in self.tasks()]}")


def test_tasks_live_through_kills(cloud: LocalCloud, image: str) -> None:
    seed = int(os.environ.get("CLOUDLET_SEED") or random.getrandbits(32))
    chance = random.Random(seed)
    print(f"CLOUDLET_SEED={seed}")
    shop = Shop(cloud, image)
    shop.settle()
    with Traffic() as traffic:
        for number in range(_SEQUENCES):
            traffic.addresses = list(shop.addresses())
            before = traffic.answered
            told, alone = _sequence(shop, chance)
            shop.settle()
            assert alone <= set(shop.containers()), f"seed {seed}: {told} took others too: {shop.reasons()}"
            print(f"{number}: {', '.join(told)}; {traffic.answered - before} answers")
            while traffic.answered == before and not traffic.silent:
                time.sleep(0.01)
            assert not traffic.silent, f"seed {seed}: nobody answered in {traffic.silent} rounds"


def _sequence(shop: Shop, chance: random.Random) -> tuple[list[str], set[int]]:
    """Kills in some order at some moments; what was done, and the containers that were left alone: one at least."""
    told: list[str] = []
    alive = shop.containers()
    chance.shuffle(alive)
    steps: list[Callable[[], None]] = []

    def kill_containers() -> None:
        victims = [alive.pop() for _ in range(chance.randint(1, len(alive) - 1))] if len(alive) > 1 else []
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        told.append(f"{len(victims)} containers")

    def kill_cloud() -> None:
        shop.cloud.kill()
        told.append("the control plane")
        _pause(chance)
        if chance.random() < 0.5:
            kill_containers()
            _pause(chance)
        shop.cloud.start()

    def scale() -> None:
        # Never down below what is left alone: which tasks go is ECS's choice.
        shop.desired = chance.choice([count for count in (_LEAST, _LEAST + 1, _LEAST + 2) if count >= shop.desired])
        shop.cloud.client("ecs").update_service(cluster="c", service="web", desiredCount=shop.desired)
        told.append(f"{shop.desired} wanted")

    steps = [chance.choice([kill_containers, scale, kill_cloud]) for _ in range(chance.randint(1, 3))]
    steps.insert(chance.randint(0, len(steps)), kill_cloud)
    for step in steps:
        step()
        _pause(chance)
    return told, set(alive)


def _pause(chance: random.Random) -> None:
    time.sleep(chance.choice([0.0, chance.random() * 0.1, chance.random() * 0.8]))
