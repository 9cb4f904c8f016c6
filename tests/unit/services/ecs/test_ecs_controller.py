"""Plans of services: what is started and stopped, within the bounds of healthy per cent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cloudlet.services.ecs import controller
from cloudlet.services.ecs.records import Deployment, Service, Task


def service(desired: int, least: int = 100, most: int = 200, **more: Any) -> Service:
    settings = {"minimumHealthyPercent": least, "maximumPercent": most}
    members = {
        "serviceName": "s",
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "deploymentConfiguration": {**settings, **more},
        "loadBalancers": [],
    }
    return controller.deploy(Service(members, 0.0, desired), Deployment("new", "PRIMARY", "web:2", 0.0, 0.0), 0.0)


def tasks(count: int, deployment: str = "new", ready: bool = True, **more: Any) -> list[Task]:
    status = "RUNNING" if ready else "PENDING"
    return [
        msgspec.structs.replace(
            Task(f"{deployment}{number}", "c", "web", {}, 0.0, ()),
            **{"service": "s", "deployment": deployment, "ready": ready, "was_ready": ready, "status": status, **more},
        )
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("bounds", "new", "ready_new", "old", "starts", "stops"),
    [
        ((100, 200), 0, 0, 4, 4, 0),  # all new ones first
        ((100, 200), 4, 2, 4, 0, 2),  # as many old ones go as new ones are ready
        ((100, 200), 4, 4, 4, 0, 4),
        ((50, 100), 0, 0, 4, 2, 2),  # no room above: half goes to make it
        ((50, 100), 2, 0, 2, 0, 0),  # the other half waits
        ((50, 100), 2, 2, 2, 2, 2),
        ((0, 100), 0, 0, 4, 4, 4),  # all at once
        ((100, 150), 0, 0, 4, 2, 0),
    ],
)
def test_a_deployment_rolls_within_its_bounds(
    bounds: tuple[int, int], new: int, ready_new: int, old: int, starts: int, stops: int
) -> None:
    there = tasks(new, ready=False)[ready_new:] + tasks(ready_new) + tasks(old, "old")
    plan = controller.plan(service(4, *bounds), there, 100.0)
    assert sum(count for _, count in plan.start) == starts
    assert len(plan.stop) == stops
    assert all(task.deployment == "old" for task, _ in plan.stop)


def test_a_deployment_is_done_once_and_then_nothing_is_left_to_do() -> None:
    plan = controller.plan(service(2), tasks(2), 100.0)
    assert [event for event in plan.events if "steady state" in event]
    assert plan.service.deployments[0].rollout == "COMPLETED"
    again = controller.plan(plan.service, tasks(2), 101.0)
    assert again.is_empty


def test_failures_pause_and_then_trip_the_breaker() -> None:
    made = service(2, deploymentCircuitBreaker={"enable": True, "rollback": False})
    failed = tasks(2, ready=False, status="STOPPED", desired="STOPPED", stop_code="TaskFailedToStart")
    plan = controller.plan(made, failed, 100.0)
    assert plan.service.deployments[0].failed_tasks == 2
    assert not plan.start
    assert plan.wake == 101.0
    counted = [msgspec.structs.replace(task, counted=True) for task in failed]
    third = msgspec.structs.replace(failed[0], id="third")
    plan = controller.plan(plan.service, [*counted, third], 102.0)
    assert plan.service.deployments[0].rollout == "FAILED"
    assert not plan.start


def test_a_protected_task_is_not_scaled_in_and_an_unhealthy_one_is_replaced() -> None:
    there = tasks(3)
    there[0] = msgspec.structs.replace(there[0], protected_until=200.0)
    plan = controller.plan(service(1), there, 100.0)
    assert sorted(task.id for task, _ in plan.stop) == ["new1", "new2"]
    sick = [msgspec.structs.replace(tasks(1)[0], fault="Task failed container health checks"), *tasks(2)[1:]]
    plan = controller.plan(service(2), sick, 100.0)
    assert [reason for _, reason in plan.stop] == ["Task failed container health checks"]
    assert sum(count for _, count in plan.start) == 1


def test_one_task_that_is_well_does_not_hide_that_another_crashes_again_and_again() -> None:
    made, well, now = service(2), tasks(1, started=0.0)[0], 100.0
    pauses = []
    for number in range(6):
        started = msgspec.structs.replace(tasks(1)[0], id=f"bad{number}", started=now)
        ended = {"status": "STOPPED", "desired": "STOPPED", "stop_code": "EssentialContainerExited", "ready": False}
        crashed = msgspec.structs.replace(started, stopping=now + 1, **ended)
        plan = controller.plan(made, [well, crashed], now + 1)
        made, before = plan.service, now + 1
        now = plan.wake or before
        while not plan.start:
            plan = controller.plan(made, [well], now)
            made = plan.service
            now = plan.wake or now
        pauses.append(round(now - before))
    assert pauses == [0, 1, 2, 4, 8, 16]
    assert made.deployments[0].failed_tasks == 0  # as AWS counts: one task is healthy


def test_a_rolling_deployment_is_watched_for_alarms_while_it_bakes() -> None:
    alarms = {"enable": True, "rollback": True, "alarmNames": ["a"]}
    made = controller.plan(service(1, strategy="ROLLING", bakeTimeInMinutes=5, alarms=alarms), tasks(1), 0.0)
    assert made.wake == 300.0
    done = controller.plan(made.service, tasks(1), 300.0).service
    assert done.current is not None
    assert done.current.status == "SUCCESSFUL"
    newer = controller.deploy(done, Deployment("newer", "PRIMARY", "web:3", 400.0, 400.0), 400.0)
    assert newer.current is not None
    newer = msgspec.structs.replace(newer, current=msgspec.structs.replace(newer.current, alarms=("a",)))
    back = controller.plan(newer, [*tasks(1), *tasks(1, "newer")], 410.0)
    assert [task.deployment for task, _ in back.stop] == ["newer"]
    assert back.service.members["taskDefinition"] == "web:2"
    assert back.service.current is not None
    assert back.service.current.status == "ROLLBACK_IN_PROGRESS"
    again = controller.plan(back.service, tasks(1), 420.0).service
    assert again.current is not None
    assert again.current.status == "ROLLBACK_SUCCESSFUL"


@pytest.mark.parametrize(
    ("given", "desired", "most"),
    [
        ({}, 1, 3),
        ({}, 25, 13),
        ({}, 1000, 200),
        ({"type": "COUNT", "value": 1}, 50, 1),
        ({"type": "UNBOUNDED_PERCENT", "value": 10}, 5, 1),
        ({"type": "BOUNDED_PERCENT", "value": 10}, 100, 10),
    ],
)
def test_how_many_failures_trip_the_breaker(given: dict[str, Any], desired: int, most: int) -> None:
    assert controller.threshold({"thresholdConfiguration": given} if given else {}, desired) == most


def _early(cleanup: str, percent: int = 50, **more: Any) -> Service:
    criteria = {"enable": True, "healthyPercent": percent, "sourceServiceRevisionCleanup": cleanup}
    return service(4, 50, 200, earlySuccessCriteria=criteria, **more)


def test_enough_healthy_tasks_are_an_early_success_and_the_rest_follows() -> None:
    there = [*tasks(1), *tasks(3, ready=False)[1:], *tasks(4, "old")]
    assert controller.plan(_early("DEFERRED"), there, 100.0).service.deployments[0].rollout == "IN_PROGRESS"
    there = [*tasks(2), *tasks(4, ready=False)[2:], *tasks(4, "old")]
    plan = controller.plan(_early("DEFERRED"), there, 100.0)
    current = plan.service.current
    assert current is not None
    assert (current.status, plan.service.deployments[0].rollout) == ("SUCCESSFUL", "COMPLETED")
    assert not [event for event in plan.events if "steady state" in event]
    # The old ones go in the background, as many as can be spared, and what fails afterwards turns nothing back.
    assert {task.deployment for task, _ in plan.stop} == {"old"}
    later = controller.plan(plan.service, [*tasks(4), *tasks(1, "old")], 200.0)
    assert [task.deployment for task, _ in later.stop] == ["old"]
    done = controller.plan(later.service, tasks(4), 300.0)
    assert [event for event in done.events if "steady state" in event]
    assert not [event for event in done.events if "deployment completed" in event]


def test_an_early_success_waits_for_the_old_tasks_where_it_shall() -> None:
    there = [
        *tasks(2),
        *tasks(4, ready=False)[2:],
        *tasks(1, "old", status="STOPPING", desired="STOPPED", counted=True),
    ]
    plan = controller.plan(_early("BLOCKING"), there, 100.0)
    assert plan.service.deployments[0].rollout == "IN_PROGRESS"
    plan = controller.plan(plan.service, there[:-1], 101.0)
    assert plan.service.deployments[0].rollout == "COMPLETED"


def test_an_early_success_bakes_from_when_there_were_enough() -> None:
    made = _early("DEFERRED", bakeTimeInMinutes=1)
    there = [*tasks(2, started=100.0), *tasks(4, started=140.0)[2:], *tasks(1, "old", started=1.0)]
    plan = controller.plan(made, there, 150.0)
    assert (plan.service.deployments[0].rollout, plan.wake) == ("IN_PROGRESS", 160.0)
    assert controller.plan(made, there, 160.0).service.deployments[0].rollout == "COMPLETED"
