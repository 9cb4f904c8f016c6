"""What docs/traffic.md shows: containers behind a load balancer, found by name, joined by a mesh, and in trouble."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.config import Config

from cloudlet.engines.proxies import envoy
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.testing import LocalCloud, eventually

TEMPLATE = Path(__file__).parents[2] / "examples" / "traffic" / "template.yaml"

# One deployment serves all tests that a process runs of this file, in any order.
pytestmark = pytest.mark.timeout(240)


class Traffic:
    """The example, deployed. Its stack and its cluster are called ``traffic``."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        assert self.deploy()
        # Its own address, as programs that ask our DNS server see it: other clouds may have port 80 of 127.0.0.1.
        (shown,) = [one for one in cloud.control("resources")["resources"] if one["type"].endswith("::LoadBalancer")]
        self._address = shown["address"]

    def deploy(self, **parameters: str) -> bool:
        """Deploy it with these parameters; whether that succeeded."""
        given = [f"--parameter={name}={value}" for name, value in parameters.items()]
        run = subprocess.run(
            [*(sys.executable, "-m", "cloudlet", "deploy", str(TEMPLATE), "--endpoint", self.cloud.endpoint), *given],
            capture_output=True,
            text=True,
            timeout=200,
        )
        print(run.stdout, run.stderr)
        return run.returncode == 0

    def ask(self) -> str:
        """One call through the load balancer."""
        connection = http.client.HTTPConnection(self._address, 80, timeout=20)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return f"{answer.status} {answer.read().decode().strip()}"
        except (OSError, http.client.HTTPException) as error:
            return f"failed: {error!r}"
        finally:
            connection.close()

    def tasks(self, service: str) -> dict[str, str]:
        """The address of each task of a service that is well, by the task's id."""
        ecs = self.cloud.client("ecs")
        arns = ecs.list_tasks(cluster="traffic", serviceName=service)["taskArns"]
        found = ecs.describe_tasks(cluster="traffic", tasks=arns)["tasks"] if arns else []
        well = ("HEALTHY", "UNKNOWN") if service == "front" else ("HEALTHY",)  # the load balancer looks after front
        running = [one for one in found if one["lastStatus"] == "RUNNING" and one["healthStatus"] in well]
        details = {one["taskArn"]: one["attachments"][0]["details"] for one in running}
        return {
            arn.rpartition("/")[2]: next(one["value"] for one in each if one["name"] == "privateIPv4Address")
            for arn, each in details.items()
        }

    def counts(self) -> dict[str, int]:
        """How many tasks of each service are well."""
        return {service: len(self.tasks(service)) for service in ("front", "back", "next")}


class Load:
    """Calls from some clients at once, until the block is left. Every answer is kept."""

    def __init__(self, traffic: Traffic, clients: int = 2) -> None:
        self.answers: list[str] = []
        self._traffic = traffic
        self._stop = threading.Event()
        self._clients = [threading.Thread(target=self._call) for _ in range(clients)]

    def _call(self) -> None:
        while not self._stop.is_set():
            self.answers.append(self._traffic.ask())
            time.sleep(0.005)

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for client in self._clients:
            client.join()

    def more(self, count: int) -> list[str]:
        """The next answers."""
        start = len(self.answers)
        eventually(lambda: len(self.answers) >= start + count)
        return self.answers[start : start + count]

    @property
    def failed(self) -> list[str]:
        """Answers other than those of ``back``."""
        return [answer for answer in self.answers if not answer.startswith("200 back ")]


@pytest.fixture(scope="module")
def traffic() -> Iterator[Traffic]:
    try:
        envoy.binary()
    except ProxyMissing as missing:
        pytest.skip(str(missing))
    if os.geteuid() != 0 or not shutil.which("nft") or not (shutil.which("bwrap") or shutil.which("podman")):
        pytest.skip("needs root, nft, and bwrap or podman")
    with LocalCloud() as cloud:
        yield Traffic(cloud)
        print(cloud.log)


def tell(address: str, what: str) -> None:
    """POST to a task itself: ``break`` or ``die``."""
    try:
        urllib.request.urlopen(f"http://{address}:8080/{what}", data=b"", timeout=5).close()
    except OSError:
        assert what == "die"


def test_a_canary_gets_its_share(traffic: Traffic) -> None:
    assert {traffic.ask().split()[2] for _ in range(20)} == {"1"}
    with Load(traffic, 4) as load:
        assert traffic.deploy(Canary="10")
        versions = Counter(answer.split()[2] for answer in load.more(1000))
        assert 50 < versions["2"] < 160, versions
        assert traffic.deploy(Canary="0")
        assert {answer.split()[2] for answer in load.more(200)[8:]} == {"1"}
    assert not load.failed, Counter(load.failed)


def test_a_task_that_answers_503_is_ejected_and_no_caller_sees_it(traffic: Traffic) -> None:
    tasks = traffic.tasks("back")
    bad, address = next(iter(tasks.items()))
    with Load(traffic) as load:
        eventually(lambda: {bad} < {answer.split()[3] for answer in load.answers})
        tell(address, "break")
        time.sleep(3)
        # Its health check is good and its service keeps it; only the mesh sees that it fails.
        assert set(traffic.tasks("back")) == set(tasks)
        assert bad not in {answer.split()[3] for answer in load.more(100)}
    assert not load.failed, Counter(load.failed)
    traffic.cloud.client("ecs").stop_task(cluster="traffic", task=bad)
    eventually(lambda: len(traffic.tasks("back")) == 2 and bad not in traffic.tasks("back"))


def test_a_dead_task_is_replaced_and_no_request_fails(traffic: Traffic) -> None:
    before = traffic.tasks("back")
    dead, address = next(iter(before.items()))
    # The prefix that the SDK puts before the host cannot stand before an address.
    config = Config(inject_host_prefix=False)
    find = traffic.cloud.client("servicediscovery", config=config).discover_instances
    with Load(traffic) as load:
        load.more(20)
        tell(address, "die")
        eventually(lambda: {answer.split()[3] for answer in load.more(20)} - before.keys())
        eventually(lambda: len(traffic.tasks("back")) == 2)
    assert dead not in traffic.tasks("back")
    assert not load.failed, Counter(load.failed)

    def found() -> set[str]:
        instances = find(NamespaceName="traffic.local", ServiceName="back")["Instances"]
        return {one["Attributes"]["AWS_INSTANCE_IPV4"] for one in instances}

    eventually(lambda: found() == set(traffic.tasks("back").values()))


def test_the_control_plane_is_killed_under_load(traffic: Traffic) -> None:
    before = {service: traffic.tasks(service) for service in ("front", "back", "next")}
    with Load(traffic) as load:
        for _ in range(3):
            load.more(50)
            traffic.cloud.kill()
            load.more(100)
            traffic.cloud.start()
        load.more(50)
        assert {service: traffic.tasks(service) for service in before} == before
    assert not load.failed, Counter(load.failed)
    assert {answer.split()[3] for answer in load.answers} == set(before["back"])


def test_a_bad_deployment_rolls_back_by_itself(traffic: Traffic) -> None:
    before = traffic.tasks("front")
    with Load(traffic) as load:
        assert not traffic.deploy(FrontVersion="broken")
    assert not load.failed, Counter(load.failed)
    assert traffic.tasks("front") == before
    (stack,) = traffic.cloud.client("cloudformation").describe_stacks(StackName="traffic")["Stacks"]
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"


def test_one_service_follows_its_own_load(traffic: Traffic) -> None:
    assert traffic.counts() == {"front": 1, "back": 2, "next": 1}
    ecs = traffic.cloud.client("ecs")

    def settled() -> bool:
        (front,) = ecs.describe_services(cluster="traffic", services=["front"])["services"]
        return bool(front["deployments"][0]["rolloutState"] == "COMPLETED" and not front["pendingCount"]) and (
            front["runningCount"] == front["desiredCount"] == len(traffic.tasks("front"))
        )

    def minute() -> int:
        """A minute passes; how many tasks there are once what it has begun is done."""
        traffic.cloud.advance(60)
        time.sleep(1)  # the numbers of that minute are on their way
        eventually(settled)
        return traffic.counts()["front"]

    with Load(traffic, 4) as load:
        for _ in range(30):
            # A minute's worth of load, however long that takes here: the policy wants 60 calls for each task.
            load.more(90 * len(traffic.tasks("front")))
            if minute() == 4:
                break
        assert traffic.counts() == {"front": 4, "back": 2, "next": 1}
    assert not load.failed, Counter(load.failed)
