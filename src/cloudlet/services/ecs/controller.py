"""What is to be done for a service: desired state and tasks in, a plan out. Pure: it reads no clock and starts nothing.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service_definition_parameters.html
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from cloudlet.services.ecs.records import Deployment, Service, Task

_QUICK = 10.0  # seconds: a task that ends by itself within them has not really started
_SETTLES = 2.0  # seconds that tasks are watched before a deployment with a circuit breaker is done
_LONGEST_PAUSE = 300.0
_LEAST_FAILURES, _MOST_FAILURES = 3, 200  # of the circuit breaker's threshold
FAILED_CODES = frozenset(("EssentialContainerExited", "TaskFailedToStart"))


@dataclass(slots=True)
class Plan:
    """What to do, in one transaction. ``wake`` is when to look again though nothing has happened."""

    service: Service
    before: Service
    start: list[tuple[Deployment, int]] = field(default_factory=list)
    stop: list[tuple[Task, str]] = field(default_factory=list)
    count: list[Task] = field(default_factory=list)  # their ends are counted in ``service``
    events: list[str] = field(default_factory=list)
    wake: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.start or self.stop or self.count or self.events) and self.service == self.before


def plan(service: Service, tasks: Sequence[Task], now: float) -> Plan:
    """The steps from what is to what should be. A plan that has been carried out is followed by an empty one."""
    made = Plan(service, service)
    if service.status == "INACTIVE":
        return made
    _count_ends(made, tasks, now)
    active = [task for task in tasks if task.is_active]
    if service.status == "DRAINING":
        made.stop = [(task, f"Service {_name(service)} was deleted") for task in active]
        if all(task.status == "STOPPED" for task in tasks):
            made.service = msgspec.structs.replace(made.service, status="INACTIVE", deployments=())
        return made
    for task in active:
        if task.fault:
            made.stop.append((task, task.fault))
    active = [task for task in active if not task.fault]
    if _is_external(service):
        _keep_task_sets(made, active, now)
    elif made.service.primary is not None:
        _break_circuit(made, now)
        _roll(made, active, now)
        _complete(made, active, tasks, now)
    return made


def desired_count(service: Service) -> int:
    """How many tasks there should be: this machine is the one place for a daemon."""
    return 1 if service.members.get("schedulingStrategy") == "DAEMON" else service.desired


def threshold(desired: int) -> int:
    """How many failed tasks trip the circuit breaker."""
    return min(_MOST_FAILURES, max(_LEAST_FAILURES, math.ceil(desired * 0.5)))


def wanted(deployment: Deployment, desired: int) -> int:
    """How many tasks a task set should have, or a deployment in the end."""
    if deployment.scale is None:
        return desired if deployment.status == "PRIMARY" else 0
    return math.ceil(desired * deployment.scale / 100)


def _count_ends(made: Plan, tasks: Sequence[Task], now: float) -> None:
    """Book each stopped task once: what fails counts against its deployment, what goes well ends a streak."""
    for task in tasks:
        deployment = _of(made.service, task.deployment)
        if task.status == "STOPPED" and not task.counted:
            made.count.append(task)
            ran = task.execution_stopped - task.started if task.started and task.execution_stopped else 0.0
            failed = bool(task.fault) or (
                task.stop_code in FAILED_CODES and (not task.was_ready or (ran < _QUICK and task.execution_stopped > 0))
            )
            if failed and deployment is not None:
                made.service = _with(
                    made.service,
                    msgspec.structs.replace(
                        deployment,
                        failures=deployment.failures + 1,
                        last_failure=now,
                        failed_tasks=deployment.failed_tasks + 1,
                        updated=now,
                    ),
                )
                if deployment.failures + 1 == _LEAST_FAILURES:
                    made.events.append(
                        "is unable to consistently start tasks successfully. For more information, see the "
                        "Troubleshooting section of the Amazon ECS Developer Guide."
                    )
        elif task.is_active and task.ready and deployment is not None and deployment.failures:
            if now - task.started >= _QUICK:
                made.service = _with(made.service, msgspec.structs.replace(deployment, failures=0))
            else:
                _wake(made, task.started + _QUICK)


def _break_circuit(made: Plan, now: float) -> None:
    service, primary = made.service, made.service.primary
    breaker = service.members["deploymentConfiguration"].get("deploymentCircuitBreaker") or {}
    if (
        primary is None
        or not breaker.get("enable")
        or primary.rollout != "IN_PROGRESS"
        or primary.failed_tasks < threshold(desired_count(service))
    ):
        return
    reason = "ECS deployment circuit breaker: tasks failed to start."
    made.events.append(f"(deployment {primary.id}) deployment failed: tasks failed to start.")
    failed = msgspec.structs.replace(primary, rollout="FAILED", reason=reason, updated=now)
    if not breaker.get("rollback") or primary.is_rollback or service.last_good is None:
        made.service = _with(service, failed)
        return
    good = service.last_good
    back = msgspec.structs.replace(
        good,
        status="PRIMARY",
        updated=now,
        rollout="IN_PROGRESS",
        reason=f"ECS deployment circuit breaker: rolling back to deploymentId {good.id}.",
        failed_tasks=0,
        failures=0,
        is_rollback=True,
    )
    made.events.append(f"rolling back to deployment {good.id}.")
    made.service = with_primary(_with(service, failed), back)


def with_primary(service: Service, new: Deployment) -> Service:
    """The service with a new primary deployment: those before it go on as ACTIVE until it has replaced them."""
    rest = tuple(msgspec.structs.replace(one, status="ACTIVE") for one in service.deployments if one.id != new.id)
    members = {**service.members, **new.settings, "taskDefinition": new.task_definition}
    return msgspec.structs.replace(service, members=members, deployments=(new, *rest), steady=False)


def _roll(made: Plan, active: list[Task], now: float) -> None:
    """Bring the primary deployment up and the others down, within the bounds of healthy per cent."""
    service, primary = made.service, made.service.primary
    assert primary is not None
    desired, settings = desired_count(service), service.members["deploymentConfiguration"]
    least = math.ceil(desired * settings["minimumHealthyPercent"] / 100)
    most = max(1, math.floor(desired * settings["maximumPercent"] / 100)) if desired else 0
    new = [task for task in active if task.deployment == primary.id]
    old = [task for task in active if task.deployment != primary.id]
    ready = sum(task.ready for task in active)
    if primary.rollout == "FAILED":
        return

    stops: list[Task] = []
    surplus = len(new) - desired
    for task in sorted(new, key=lambda one: (one.ready, -one.created)):
        if surplus > 0 and task.protected_until <= now:
            stops.append(task)
            surplus -= 1
            ready -= task.ready
    # Those that nobody counts on go first, then as many as the others can spare.
    for task in sorted(old, key=lambda one: (one.ready, one.created)):
        if task.protected_until > now:
            _wake(made, task.protected_until)
        elif not task.ready:
            stops.append(task)
        elif ready > least:
            stops.append(task)
            ready -= 1
    made.stop += [(task, f"Scaling activity initiated by (deployment {primary.id})") for task in stops]

    room = most - (len(active) - len(stops))
    count = min(desired - len(new), room)
    if count > 0:
        due = primary.last_failure + pause(primary.failures)
        if primary.failures and due > now:
            _wake(made, due)
        else:
            made.start.append((primary, count))


def _complete(made: Plan, active: list[Task], tasks: Sequence[Task], now: float) -> None:
    """Notice that a deployment is done, and that the service is as it should be."""
    service, primary = made.service, made.service.primary
    assert primary is not None
    desired = desired_count(service)
    new = [task for task in active if task.deployment == primary.id]
    is_settled = (
        not made.start
        and len(new) == desired == sum(task.ready for task in new)
        and len(new) == len(active)
        and all(task.deployment == primary.id or task.status == "STOPPED" for task in tasks)
    )
    if is_settled and primary.rollout == "IN_PROGRESS":
        breaker = service.members["deploymentConfiguration"].get("deploymentCircuitBreaker") or {}
        settles = max((task.started + _SETTLES for task in new), default=now)
        if breaker.get("enable") and settles > now:
            _wake(made, settles)
            return
        done = msgspec.structs.replace(
            primary, rollout="COMPLETED", reason=f"ECS deployment {primary.id} completed.", updated=now, failed_tasks=0
        )
        service = msgspec.structs.replace(service, deployments=(done,), last_good=done)
        made.events.append(f"(deployment {primary.id}) deployment completed.")
    if is_settled and not service.steady:
        made.events.append("has reached a steady state.")
    made.service = msgspec.structs.replace(service, steady=is_settled)


def _keep_task_sets(made: Plan, active: list[Task], now: float) -> None:
    """Each task set has its share of the desired count; whoever controls the deployments says which."""
    known = {one.id for one in made.service.deployments}
    made.stop += [(task, "Task set was deleted") for task in active if task.deployment not in known]
    for one in made.service.deployments:
        own = [task for task in active if task.deployment == one.id]
        missing = wanted(one, made.service.desired) - len(own)
        due = one.last_failure + pause(one.failures)
        if missing > 0 and one.failures and due > now:
            _wake(made, due)
        elif missing > 0:
            made.start.append((one, missing))
        for task in sorted(own, key=lambda task: (task.ready, -task.created))[: max(0, -missing)]:
            made.stop.append((task, f"Scaling activity initiated by (deployment {one.id})"))


def pause(failures: int) -> float:
    """Seconds between a failed task and the next try: none after the first, then growing."""
    return 0.0 if failures < 2 else min(_LONGEST_PAUSE, float(2 ** min(failures - 2, 10)))


def new_deployment_id() -> str:
    """An id as AWS makes them."""
    return f"ecs-svc/{secrets.randbelow(9 * 10**18) + 10**18}"


def _is_external(service: Service) -> bool:
    return (service.members.get("deploymentController") or {}).get("type") == "EXTERNAL"


def _name(service: Service) -> str:
    return str(service.members["serviceName"])


def _of(service: Service, id: str) -> Deployment | None:
    return next((one for one in service.deployments if one.id == id), None)


def _with(service: Service, changed: Deployment) -> Service:
    return msgspec.structs.replace(
        service, deployments=tuple(changed if one.id == changed.id else one for one in service.deployments)
    )


def _wake(made: Plan, when: float) -> None:
    made.wake = when if made.wake is None else min(made.wake, when)
