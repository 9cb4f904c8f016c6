"""Deployments that shift traffic, one pure step after the other, in a world where everything works at once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cloudlet.errors import AwsError
from cloudlet.services.ecs import controller, hooks, shifting, strategies
from cloudlet.services.ecs.records import Deployment, Service, ServiceDeployment, Task
from cloudlet.services.forwards import shared_out, weights

BALANCER = {
    "targetGroupArn": "first",
    "containerName": "web",
    "containerPort": 80,
    "advancedConfiguration": {
        "alternateTargetGroupArn": "second",
        "productionListenerRule": "rule",
        "roleArn": "role",
    },
}
LAMBDA = {"hookTargetArn": "function", "roleArn": "role"}
# A hook at each stage that may have one: the deployment stops there to ask.
EVERYWHERE = [
    {
        **LAMBDA,
        "lifecycleStages": [stage for stage in shifting.STAGES if stage not in ("SCALE_UP", "BAKE_TIME", "CLEAN_UP")],
    }
]


class World:
    """Tasks that are ready as soon as they are started, rules that are told at once, and a clock that jumps."""

    def __init__(self, answers: dict[str, list[str]] | None = None, **configuration: Any) -> None:
        self.now = 1000.0
        self.answers = answers or {}
        self.tasks: list[Task] = []
        self.trace: list[tuple[str, float, float]] = []
        self.counts: set[tuple[str, int, int]] = set()
        members = {
            "serviceName": "s",
            "schedulingStrategy": "REPLICA",
            "deploymentController": {"type": "ECS"},
            "deploymentConfiguration": strategies.configuration(configuration, "REPLICA"),
            "loadBalancers": [BALANCER],
        }
        self.service = Service(members, self.now, 2)
        self.last: ServiceDeployment | None = None

    def deploy(self, id: str) -> None:
        new = Deployment(f"ecs-svc/{id}", "PRIMARY", f"web:{id}", self.now, self.now, {"loadBalancers": [BALANCER]})
        self.service = controller.deploy(self.service, new, self.now)

    def run(self, until: str = "", most: int = 200) -> ServiceDeployment:
        """Carry out plans until the deployment is over, or has come to a stage."""
        for _ in range(most):
            current = self.service.current
            if current is None or current.stage == until != "":
                return current or self._over()
            self.step()
        raise AssertionError(f"it does not end: {self.service.current}")

    def step(self) -> None:
        plan = controller.plan(self.service, self.tasks, self.now)
        self.service = plan.service
        current = plan.service.current
        if current is not None and current.stage:
            if not self.trace or self.trace[-1] != (current.stage, current.share, current.test):
                self.trace.append((current.stage, current.share, current.test))
            self.last = current
            if current.is_over:
                self.service = msgspec.structs.replace(self.service, current=None)
        for deployment, count in plan.start:
            for _ in range(count):
                task = Task(f"t{len(self.tasks)}", "c", "web", {}, self.now, (), deployment=deployment.id)
                self.tasks.append(
                    msgspec.structs.replace(task, status="RUNNING", ready=True, was_ready=True, started=self.now)
                )
        gone = {task.id for task, _ in plan.stop}
        self.tasks = [
            msgspec.structs.replace(task, status="STOPPED", desired="STOPPED", ready=False) if task.id in gone else task
            for task in self.tasks
        ]
        self.tasks = [
            msgspec.structs.replace(task, counted=True) if task.id in {one.id for one in plan.count} else task
            for task in self.tasks
        ]
        if not plan.is_empty or self.service.current is None or current is None:
            return
        if plan.shift:
            told = msgspec.structs.replace(current, carried=(current.share, current.test), carried_at=self.now)
            self.service = msgspec.structs.replace(self.service, current=told)
        elif plan.ask:
            for hook in plan.ask:
                words = self.answers.get(current.stage, [])
                status = words.pop(0) if words else "SUCCEEDED"
                current = hooks.answered(current, hook.id, hooks.Answer(status, 60.0, {"asked": True}), self.now)
            self.service = msgspec.structs.replace(self.service, current=current)
        elif plan.wake is not None:
            assert plan.wake > self.now
            self.now = plan.wake

    def alive(self) -> list[str]:
        return sorted(task.deployment for task in self.tasks if task.is_active)

    def _over(self) -> ServiceDeployment:
        assert self.last is not None
        return self.last


def settled(**configuration: Any) -> World:
    world = World(**configuration)
    world.deploy("1")
    assert world.run().status == "SUCCESSFUL"
    world.trace.clear()
    return world


def test_blue_green_goes_through_every_stage() -> None:
    world = settled(strategy="BLUE_GREEN", bakeTimeInMinutes=10, lifecycleHooks=EVERYWHERE)
    before = world.now
    world.deploy("2")
    world.run(until="BAKE_TIME")
    assert world.alive() == ["ecs-svc/1"] * 2 + ["ecs-svc/2"] * 2
    assert world.run().status == "SUCCESSFUL"
    assert world.now - before == 600
    assert [stage for stage, _, _ in world.trace] == list(shifting.STAGES[1:])
    assert ("POST_TEST_TRAFFIC_SHIFT", 0, 100) in world.trace
    assert world.alive() == ["ecs-svc/2"] * 2
    assert world.service.deployments[0].groups == ("second",)
    assert world.service.deployments[0].rollout == "COMPLETED"
    assert controller.plan(world.service, world.tasks, world.now).service.steady
    world.deploy("3")
    world.run()
    assert world.service.deployments[0].groups == ("first",)


@pytest.mark.parametrize(
    ("configuration", "shares", "minutes"),
    [
        ({"strategy": "CANARY"}, [5, 100], 10),
        ({"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 12.5}}, [12.5, 100], 10),
        ({"strategy": "LINEAR"}, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100], 9 * 6),
        (
            {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 33.4, "stepBakeTimeInMinutes": 1}},
            [33.4, 66.8, 100],
            2,
        ),
    ],
)
def test_steps_of_traffic_each_with_its_time(configuration: dict[str, Any], shares: list[float], minutes: int) -> None:
    world = settled(**configuration, lifecycleHooks=EVERYWHERE)
    before = world.now
    world.deploy("2")
    assert world.run().status == "SUCCESSFUL"
    assert [share for stage, share, _ in world.trace if stage == "PRODUCTION_TRAFFIC_SHIFT"] == shares
    assert world.now - before == minutes * 60
    assert [stage for stage, _, _ in world.trace].count("PRE_PRODUCTION_TRAFFIC_SHIFT") == len(shares)


def test_a_function_that_says_no_turns_it_back() -> None:
    world = settled(
        strategy="CANARY", lifecycleHooks=[{**LAMBDA, "lifecycleStages": ["POST_PRODUCTION_TRAFFIC_SHIFT"]}]
    )
    world.answers = {"POST_PRODUCTION_TRAFFIC_SHIFT": ["IN_PROGRESS", "FAILED"]}
    world.deploy("2")
    done = world.run()
    assert done.status == "ROLLBACK_SUCCESSFUL"
    assert "POST_PRODUCTION_TRAFFIC_SHIFT" in done.reason
    assert [stage for stage, _, _ in world.trace][-3:] == ["PRODUCTION_TRAFFIC_SHIFT", "TEST_TRAFFIC_SHIFT", "CLEAN_UP"]
    assert world.trace[-1][1:] == (0, 0)
    assert world.alive() == ["ecs-svc/1"] * 2
    assert [one.id for one in world.service.deployments] == ["ecs-svc/1"]
    assert world.service.members["taskDefinition"] == "web:1"


def test_alarms_breakers_users_and_pauses_turn_it_back_too() -> None:
    pause = {
        "targetType": "PAUSE",
        "lifecycleStages": ["PRE_SCALE_UP"],
        "timeoutConfiguration": {"timeoutInMinutes": 5},
    }
    world = settled(
        strategy="BLUE_GREEN", bakeTimeInMinutes=60, alarms={"enable": True, "rollback": True, "alarmNames": ["a"]}
    )
    world.deploy("2")
    current = world.run(until="BAKE_TIME")
    world.service = msgspec.structs.replace(world.service, current=msgspec.structs.replace(current, alarms=("a",)))
    assert world.run().status == "ROLLBACK_SUCCESSFUL"

    world.deploy("3")
    current = world.run(until="BAKE_TIME")
    asked = msgspec.structs.replace(current, status="STOP_REQUESTED")
    world.service = msgspec.structs.replace(world.service, current=asked)
    assert world.run().status == "STOPPED"
    assert world.alive() == ["ecs-svc/1"] * 2 + ["ecs-svc/3"] * 2

    world = settled(strategy="BLUE_GREEN")
    world.service.members["deploymentConfiguration"]["lifecycleHooks"] = [pause]
    world.deploy("2")
    before = world.now
    assert world.run().status == "ROLLBACK_SUCCESSFUL"
    assert world.now - before == 300
    assert not any(task.deployment == "ecs-svc/2" for task in world.tasks)

    world.deploy("3")
    current = world.run(until="PRE_SCALE_UP")
    world.step()
    go_on = hooks.answered(current, current.hooks[0].id, hooks.Answer("SUCCEEDED"), world.now)
    world.service = msgspec.structs.replace(world.service, current=go_on)
    assert world.run().status == "SUCCESSFUL"


def test_a_deployment_in_the_way_is_cleared_first() -> None:
    world = settled(strategy="BLUE_GREEN", bakeTimeInMinutes=60)
    world.deploy("2")
    world.run(until="BAKE_TIME")
    world.trace.clear()
    world.deploy("3")
    assert world.run().status == "SUCCESSFUL"
    assert world.trace[0] == ("RECONCILE_SERVICE", 0, 0)
    assert world.alive() == ["ecs-svc/3"] * 2
    assert world.service.deployments[0].groups == ("second",)


def test_weights_of_rules() -> None:
    actions = [{"Type": "forward", "TargetGroupArn": "first", "Order": 1}]
    assert shared_out(actions, ("first", "second"), 10.0)[0]["ForwardConfig"]["TargetGroups"] == [
        {"TargetGroupArn": "first", "Weight": 90},
        {"TargetGroupArn": "second", "Weight": 10},
    ]
    assert weights(0.1) == (998, 1)
    assert weights(12.5) == (874, 125)
    assert shared_out(actions, ("", "first"), 100.0)[0]["ForwardConfig"]["TargetGroups"] == [
        {"TargetGroupArn": "first", "Weight": 100}
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 2.9}},
        {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 0.15}},
        {"strategy": "BLUE_GREEN", "canaryConfiguration": {"canaryPercent": 5.0}},
        {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 1441},
        {"strategy": "BLUE_GREEN", "lifecycleHooks": [{"hookTargetArn": "f", "lifecycleStages": ["PRE_SCALE_UP"]}]},
        {
            "strategy": "BLUE_GREEN",
            "lifecycleHooks": [{"targetType": "PAUSE", "lifecycleStages": ["TEST_TRAFFIC_SHIFT"]}],
        },
    ],
)
def test_what_a_configuration_may_not_say(given: dict[str, Any]) -> None:
    with pytest.raises(AwsError, match=r"InvalidParameter|must|only|not supported"):
        strategies.configuration(given, "REPLICA")
