"""The law of ECS: whatever ends, and whenever the control plane is killed, a task is never orphaned or doubled.

``CLOUDLET_LAWS`` is how many stories are told (60 when it is not set).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock
from unittest.mock import AsyncMock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudlet.control.clock import Clock
from cloudlet.engines.containers.api import Abilities, Container, ContainerState, Pod, PodState, Usage
from cloudlet.errors import not_implemented
from cloudlet.services.api import Call
from cloudlet.services.ecs import images, keeping
from cloudlet.services.ecs.service import Service
from cloudlet.store.sqlite import SqliteStore

SCOPE = "000000000000/us-east-1"
STORIES = int(os.environ.get("CLOUDLET_LAWS", "60"))
GROUPS = ("first", "second")
RULE = "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener-rule/app/x/1/2/3"


class Simulated:
    """An engine whose containers are entries in a dictionary. It outlives the control plane, as a real one does."""

    def __init__(self) -> None:
        self.pods: dict[str, PodState] = {}
        self.containers: dict[str, ContainerState] = {}
        self.runs: dict[str, int] = {}
        self.bad_images: set[str] = set()
        self.pause = 0
        self.made = 0  # pods so far: each has an address of its own
        self._exited: Callable[[ContainerState], object] = lambda state: None

    async def start(self, logs: Any, exited: Callable[[ContainerState], object]) -> Abilities:
        self._exited = exited
        return Abilities("simulated", "1", True, True, True, True)

    async def recover(self) -> tuple[list[PodState], list[ContainerState]]:
        await self.step()
        return list(self.pods.values()), list(self.containers.values())

    async def create_pod(self, pod: Pod) -> PodState:
        await self.step()
        self.made += pod.name not in self.pods
        made = PodState(pod.name, f"10.0.0.{self.made}", "", (), pod.labels)
        return self.pods.setdefault(pod.name, made)

    async def remove_pod(self, name: str) -> None:
        await self.step()
        self.pods.pop(name, None)
        for one in [one for one in self.containers.values() if one.pod == name]:
            del self.containers[one.name]

    async def run(self, container: Container) -> ContainerState:
        assert container.pod in self.pods
        await self.step()
        known = self.containers.get(container.name)
        if known is not None and known.exit_code is None:
            return known
        self.runs[container.name] = self.runs.get(container.name, 0) + 1
        made = ContainerState(container.name, container.pod, container.image, 1, 0.0)
        self.containers[container.name] = made
        await self.step()
        if container.image in self.bad_images:
            self.kill(container.name, 1)
        return made

    async def stop(self, name: str, grace: float) -> None:
        await self.step()
        self.kill(name, 0)

    async def remove(self, name: str) -> None:
        await self.step()
        self.containers.pop(name, None)

    async def ensure_image(self, reference: str, credentials: tuple[str, str] | None = None, digest: str = "") -> str:
        await self.step()
        return "sha256:0"

    async def usage(self, names: Sequence[str]) -> dict[str, Usage]:
        return {}

    async def execute(self, name: str, argv: Sequence[str], *, tty: bool = False, environment: Any = None) -> Any:
        raise NotImplementedError

    async def load_image(self, folder: Path, reference: str) -> None:
        raise NotImplementedError

    async def clear(self) -> None:
        self.pods.clear()
        self.containers.clear()

    async def stop_engine(self) -> None:
        pass

    def kill(self, name: str, code: int) -> None:
        """A container ends."""
        state = self.containers.get(name)
        if state is not None and state.exit_code is None:
            self.containers[name] = replace(state, exit_code=code)
            self._exited(self.containers[name])

    def running(self) -> list[str]:
        """The pods in which something runs."""
        return sorted({one.pod for one in self.containers.values() if one.exit_code is None})

    async def step(self) -> None:
        for _ in range(self.pause):
            await asyncio.sleep(0)


class Balancer:
    """A load balancer's rule, its groups and their targets, and a function that is a hook. It outlives us too."""

    def __init__(self) -> None:
        self.targets: dict[str, set[str]] = {group: set() for group in GROUPS}
        self.weights: dict[str, int] = {GROUPS[0]: 1}
        self.answers: list[str] = []
        self._told: list[Callable[[], object]] = []

    def watch_health(self, told: Callable[[], object]) -> Callable[[], None]:
        self._told = [told]
        return self._told.clear

    def ask(self, operation: str, input: Any) -> Any:
        group = input.get("TargetGroupArn", "")
        ids = {f"{one['Id']}:{one['Port']}" for one in input.get("Targets", ())}
        if operation == "DescribeSubnets":
            return {}
        if operation == "DescribeTargetGroups":
            return {"TargetGroups": [{"TargetType": "ip", "LoadBalancerArns": ["x"]}]}
        if operation == "DescribeRules":
            return {"Rules": [{"Actions": [{"Type": "forward", "TargetGroupArn": GROUPS[0]}]}]}
        if operation == "DescribeTargetHealth":
            there = [one.rpartition(":") for one in sorted(self.targets[group])]
            healthy = {"TargetHealth": {"State": "healthy"}}
            return {
                "TargetHealthDescriptions": [{"Target": {"Id": id, "Port": int(n)}, **healthy} for id, _, n in there]
            }
        if operation == "Invoke":
            return {"Payload": b'{"hookStatus": "%s"}' % (self.answers.pop() if self.answers else "SUCCEEDED").encode()}
        if operation == "ModifyRule":
            chosen = input["Actions"][0]["ForwardConfig"]["TargetGroups"]
            self.weights = {one["TargetGroupArn"]: one["Weight"] for one in chosen}
        elif operation == "RegisterTargets":
            self.targets[group] |= ids
        elif operation == "DeregisterTargets":
            self.targets[group] -= ids
        else:
            raise not_implemented(operation)
        for told in list(self._told):
            told()
        return {}


class _Metrics:
    def add(self, *_: Any) -> None:
        pass

    def gauge(self, *_: Any) -> None:
        pass


class World:
    """The cloud as ECS sees it, with a control plane that can be killed at any point."""

    endpoint = "http://127.0.0.1:4566"
    supervisor: Any = None
    config: Any = None

    def __init__(self, folder: Path, engine: Simulated) -> None:
        self.data_dir = folder
        self.clock = Clock()
        self.metrics: Any = _Metrics()
        self.engine = engine
        self.balancer = Balancer()
        self.fault = ""  # of load balancing
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        self.store = SqliteStore(self.data_dir / "store", "off")
        self.ecs = Service(self)  # type: ignore[arg-type]
        await self.ecs.start()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def call(self, service: str, operation: str, input: Any, **_: Any) -> Any:
        await self.engine.step()
        if self.fault and operation in ("RegisterTargets", "DeregisterTargets"):
            raise RuntimeError(self.fault)
        return self.balancer.ask(operation, input)

    async def service(self, name: str) -> Any:
        if name == "ec2":
            return AsyncMock()  # it guards nothing here
        if name != "elbv2":
            raise not_implemented(f"the service {name!r}")
        return self.balancer

    async def ask(self, operation: str, **input: Any) -> Any:
        method = getattr(self.ecs, operation)
        return await method(Call("000000000000", "us-east-1", operation=operation), input)

    async def kill(self) -> None:
        """End the control plane in the middle of whatever it does, and start another one on the same state."""
        self.ecs._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ecs._reconciler.stop()
        if self.ecs._engine is not None and not self.ecs._engine.done():
            self.ecs._engine.cancel()
        await self.store.close()
        await self.open()

    async def settle_at_last(self) -> None:
        """Settle, with another deployment where the last one was given up."""
        for _ in range(400):
            await asyncio.sleep(0.002)
            record = self.ecs.services.get(SCOPE, "c/s")
            assert record is not None
            if (primary := record.value.primary) is not None and primary.rollout == "FAILED":
                await self.ask("UpdateService", cluster="c", service="s", forceNewDeployment=True)
            elif record.value.current is None:
                break
            self.clock.advance(5)
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing happens any more; pauses between tries are passed over."""
        for _ in range(400):
            await asyncio.sleep(0.002)
            if self.is_settled():
                await asyncio.sleep(0.004)
                if self.is_settled():
                    return
            self.clock.advance(5)
        raise AssertionError(f"it does not settle: {[task.value for task in self.ecs.tasks.all()]}")

    def is_settled(self) -> bool:
        """Whether every service has its ready tasks and nothing is under way."""
        if self.ecs._dirty:
            return False
        tasks = [record.value for record in self.ecs.tasks.all()]
        if any(
            task.status not in ("RUNNING", "STOPPED") or (task.status == "RUNNING") != task.is_active for task in tasks
        ):
            return False
        for record in self.ecs.services.all():
            active = [task for task in tasks if task.is_active and task.service == record.value.members["serviceName"]]
            if record.value.current is not None:
                return False
            if any(one.rollout == "IN_PROGRESS" for one in record.value.deployments):
                return False
            if len(active) != record.value.desired or not all(task.ready for task in active):
                return False
        return True

    def check(self) -> None:
        """What runs is what is recorded, each once; nothing is left to do."""
        tasks = [record.value for record in self.ecs.tasks.all() if record.value.status == "RUNNING"]
        assert self.engine.running() == sorted(task.id for task in tasks)
        assert sorted(self.engine.pods) == sorted(task.id for task in tasks)
        assert all(count == 1 for count in self.engine.runs.values()), "a container was started twice"
        for record in self.ecs.services.all():
            plan = self.ecs._planned(record.scope, record.name)
            assert plan is None or (plan.is_empty and not plan.shift and not plan.ask), plan
            self._check_traffic(record.value, tasks)

    def _check_traffic(self, service: Any, tasks: list[Any]) -> None:
        """All traffic goes to the group of the one deployment that is left, and its tasks alone are in a group."""
        if service.status != "ACTIVE" or not service.members["loadBalancers"]:
            return
        (group,) = service.primary.groups
        addresses = {f"{task.address}:80" for task in tasks}
        assert self.balancer.targets == {one: addresses if one == group else set() for one in GROUPS}
        weights = self.balancer.weights
        assert {one for one in weights if weights[one]} == {group}


HOOK = {"hookTargetArn": "f", "roleArn": "r", "lifecycleStages": ["POST_SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT"]}
HOW: list[dict[str, Any]] = [
    {},
    {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 1, "lifecycleHooks": [HOOK]},
    {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 10.0, "canaryBakeTimeInMinutes": 1}},
    {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 40.0, "stepBakeTimeInMinutes": 1}},
]


async def _begin(world: World, how: int = 0) -> None:
    await world.open()
    await world.ask("CreateCluster", clusterName="c")
    for image in ("one", "two"):
        await world.ask(
            "RegisterTaskDefinition",
            family="web",
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[
                {"name": "app", "image": image, "memory": 64, "portMappings": [{"containerPort": 80}]},
                {"name": "side", "image": "side", "memory": 64, "essential": False},
            ],
        )
    advanced = {"alternateTargetGroupArn": GROUPS[1], "productionListenerRule": RULE, "roleArn": "role"}
    balancer = {"targetGroupArn": GROUPS[0], "containerName": "app", "containerPort": 80}
    await world.ask(
        "CreateService",
        cluster="c",
        serviceName="s",
        taskDefinition="web:1",
        launchType="FARGATE",
        desiredCount=2,
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        loadBalancers=[balancer | ({"advancedConfiguration": advanced} if how else {})],
        deploymentConfiguration=HOW[how],
    )


ACTIONS = st.one_of(
    st.tuples(st.just("desired"), st.integers(0, 4)),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("kill"), st.integers(0, 6)),
    st.tuples(st.just("deploy"), st.integers(1, 2)),
    st.tuples(st.just("stop"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.integers(0, 8)),
    st.tuples(st.just("later"), st.integers(0, 90)),
    st.tuples(st.just("turn back"), st.integers(0, 1)),
    st.tuples(st.just("say no"), st.integers(0, 1)),
)


async def _act(world: World, what: str, number: int) -> None:
    engine = world.engine
    if what == "desired":
        await world.ask("UpdateService", cluster="c", service="s", desiredCount=number)
    elif what == "deploy":
        await world.ask("UpdateService", cluster="c", service="s", taskDefinition=f"web:{number}")
    elif what == "end" and engine.containers:
        engine.kill(sorted(engine.containers)[number % len(engine.containers)], number % 3)
    elif what == "stop":
        tasks = sorted(record.value.id for record in world.ecs.tasks.all())
        if tasks:
            await world.ask("StopTask", cluster="c", task=tasks[number % len(tasks)])
    elif what == "later":
        world.clock.advance(number)
    elif what == "say no":
        world.balancer.answers = [("FAILED", "IN_PROGRESS")[number]]
    elif what == "turn back":
        found = await world.ask("ListServiceDeployments", cluster="c", service="s", status=["IN_PROGRESS"])
        for one in found["serviceDeployments"]:
            arn, kind = one["serviceDeploymentArn"], ("ROLLBACK", "ABORT")[number]
            await world.ask("StopServiceDeployment", serviceDeploymentArn=arn, stopType=kind)
    elif what == "wait":
        for _ in range(number * 3):
            await asyncio.sleep(0)
    elif what == "kill":
        for _ in range(number * 2):
            await asyncio.sleep(0)
        await world.kill()


@settings(max_examples=STORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTIONS, max_size=12), st.integers(0, 3), st.integers(0, len(HOW) - 1))
def test_a_task_is_never_orphaned_or_doubled(actions: list[tuple[str, int]], pause: int, how: int) -> None:
    async def story() -> None:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            engine = Simulated()
            engine.pause = pause
            world = World(Path(folder), engine)
            try:
                await _begin(world, how)
                for what, number in actions:
                    await _act(world, what, number)
                await world.settle_at_last()
                world.check()
                await world.kill()
                runs = dict(engine.runs)
                await world.settle()
                world.check()
                assert engine.runs == runs, "a restart has started something anew"
                await world.ask("DeleteService", cluster="c", service="s", force=True)
                await world.settle()
                assert not engine.pods
                assert not engine.containers
            finally:
                for task in list(world._tasks):
                    task.cancel()
                await world.ecs.stop()
                await world.store.close()

    _tell(story)


def _tell(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a story on a simulated engine, where no registry answers."""
    with (
        mock.patch.object(keeping, "open_engine", lambda cloud: cloud.engine),
        mock.patch.object(images, "_ask", AsyncMock(return_value="")),
    ):
        asyncio.run(story())


def test_a_bad_deployment_rolls_back_by_itself() -> None:
    async def story() -> None:
        with tempfile.TemporaryDirectory() as folder:
            engine = Simulated()
            engine.bad_images.add("two")
            world = World(Path(folder), engine)
            await _begin(world)
            await world.ask(
                "UpdateService",
                cluster="c",
                service="s",
                deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": True}},
            )
            await world.settle()
            before = sorted(engine.running())
            await world.ask("UpdateService", cluster="c", service="s", taskDefinition="web:2")
            for _ in range(200):
                await asyncio.sleep(0.002)
                world.clock.advance(2)
                found = (await world.ask("DescribeServices", cluster="c", services=["s"]))["services"][0]
                assert found["runningCount"] >= 2  # the old tasks serve on
                if len(found["deployments"]) == 1 and found["deployments"][0]["rolloutState"] == "COMPLETED":
                    break
            assert found["taskDefinition"].endswith("web:1")
            assert any("circuit breaker" in str(one) or "rolling back" in str(one) for one in found["events"])
            assert engine.running() == before
            for task in list(world._tasks):
                task.cancel()
            await world.ecs.stop()
            await world.store.close()

    _tell(story)


def test_tasks_do_not_pile_up_while_another_service_is_broken() -> None:
    """What cannot be joined to its load balancer, or taken out of it, is tried again less and less often."""

    async def story() -> None:
        with tempfile.TemporaryDirectory() as folder:
            engine = Simulated()
            world = World(Path(folder), engine)
            world.fault = "records of another version"
            await _begin(world)
            for _ in range(60):
                await asyncio.sleep(0.005)
                world.clock.advance(1)
                assert len(engine.pods) <= 4, "those that failed are still there"
            assert 4 <= engine.made <= 20
            world.fault = ""
            await world.settle()
            world.check()
            # And while those that run are put down.
            world.fault = "records of another version"
            for record in world.ecs.tasks.all():
                if record.value.status == "RUNNING":
                    await world.ask("StopTask", cluster="c", task=record.value.id)
            for _ in range(60):
                await asyncio.sleep(0.005)
                world.clock.advance(1)
                assert len(engine.pods) <= 4
            world.fault = ""
            await world.settle()
            world.check()
            for task in list(world._tasks):
                task.cancel()
            await world.ecs.stop()
            await world.store.close()

    _tell(story)
