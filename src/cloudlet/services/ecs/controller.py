"""What is to be done for a service: desired state and tasks in, a plan out. Pure: it reads no clock and starts nothing.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service_definition_parameters.html
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cloudlet.services.ecs import hooks, shifting
from cloudlet.services.ecs.records import Deployment, Hook, Service, ServiceDeployment, Task

_QUICK = 10.0  # seconds: a task that ends by itself within them has not really started
_SETTLES = 2.0  # seconds that tasks are watched before a deployment with a circuit breaker is done
_LONGEST_PAUSE = 300.0
_LEAST_FAILURES, _MOST_FAILURES = 3, 200  # of the circuit breaker's threshold
_MINUTE = 60.0
FAILED_CODES = frozenset(("EssentialContainerExited", "TaskFailedToStart"))


@dataclass(slots=True)
class Plan:
    """What to do: the records in one transaction, then ``shift`` and ``ask``.

    ``wake`` is when to look again though nothing has happened.
    """

    service: Service
    before: Service
    start: list[tuple[Deployment, int]] = field(default_factory=list)
    stop: list[tuple[Task, str]] = field(default_factory=list)
    count: list[Task] = field(default_factory=list)  # their ends are counted in ``service``
    events: list[str] = field(default_factory=list)
    wake: float | None = None
    shift: bool = False  # the listeners' rules are to be told what the service's deployment says
    ask: list[Hook] = field(default_factory=list)  # functions of hooks that are due

    @property
    def only_starts(self) -> bool:
        """Whether nothing is to be stored but new tasks."""
        return not (self.stop or self.count or self.events) and self.service == self.before

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to store."""
        return not (self.start or self.stop or self.count or self.events) and self.service == self.before

    def wake_at(self, when: float | None) -> None:
        """Look again then, or before."""
        if when is not None:
            self.wake = when if self.wake is None else min(self.wake, when)


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
    if has_task_sets(service):
        _keep_task_sets(made, active, now)
    elif service.primary is not None:
        _fail_when_due(made, now)
        current = made.service.current
        if current is not None and not current.is_over and shifting.shifts(current.configuration):
            _go_through_stages(made, current, active, tasks, now)
        else:
            _roll(made, active, now)
            _complete(made, active, tasks, now)
    return made


def deploy(service: Service, new: Deployment, now: float) -> Service:
    """The service with another deployment, which is to take the place of all that it has."""
    configuration = service.members["deploymentConfiguration"]
    blue = service.last_good
    groups = shifting.groups_of(service.members["loadBalancers"], blue, shifting.shifts(configuration))
    new = msgspec.structs.replace(new, groups=groups)
    current = ServiceDeployment(
        number=new.number,
        target=new.id,
        sources=tuple(one.id for one in service.deployments),
        configuration=configuration,
        created=now,
        updated=now,
    )
    return msgspec.structs.replace(_with_primary(service, new), current=current)


def desired_count(service: Service) -> int:
    """How many tasks there should be; of a daemon, as many as there are instances for it."""
    return service.desired


def has_task_sets(service: Service) -> bool:
    """Whether somebody else controls its deployments: CodeDeploy, or whoever makes task sets."""
    return (service.members.get("deploymentController") or {}).get("type") in ("CODE_DEPLOY", "EXTERNAL")


def threshold(breaker: dict[str, Any], desired: int) -> int:
    """How many failed tasks trip a circuit breaker."""
    given = breaker.get("thresholdConfiguration") or {"type": "BOUNDED_PERCENT", "value": 50}
    if given["type"] == "COUNT":
        return int(given["value"])
    count = math.ceil(desired * int(given["value"]) / 100)
    if given["type"] == "UNBOUNDED_PERCENT":
        return max(1, count)
    return min(_MOST_FAILURES, max(_LEAST_FAILURES, count))


def wanted(service: Service, one: Deployment) -> int:
    """How many tasks a task set should have now, or a deployment."""
    if one.scale is not None:
        return math.ceil(service.desired * one.scale / 100)
    desired, current = desired_count(service), service.current
    if current is None or not shifting.shifts(current.configuration):
        return desired if one.status == "PRIMARY" else 0
    if one.id == current.target:
        return desired if current.stage and shifting.wants_green(current) else 0
    blue = _blue(service, current)
    return desired if blue is not None and one.id == blue.id and shifting.wants_blue(current) else 0


def pause(failures: int) -> float:
    """Seconds between a failed task and the next try: none after the first, then growing."""
    return 0.0 if failures < 2 else min(_LONGEST_PAUSE, float(2 ** min(failures - 2, 10)))


def new_deployment_id() -> str:
    """An id as AWS makes them."""
    return f"ecs-svc/{secrets.randbelow(9 * 10**18) + 10**18}"


# Failures


def _count_ends(made: Plan, tasks: Sequence[Task], now: float) -> None:
    """Book each ending task once: what fails counts against its deployment, what goes well ends a streak.

    One that takes its time to stop counts at once, so that those that fail do not pile up.
    """
    for task in tasks:
        deployment = made.service.deployment(task.deployment)
        if not task.is_active and not task.counted:
            made.count.append(task)
            if deployment is not None and _has_failed(task):
                failed = msgspec.structs.replace(
                    deployment,
                    failures=deployment.failures + 1,
                    last_failure=now,
                    failed_tasks=deployment.failed_tasks + 1,
                    updated=now,
                )
                made.service = _with(made.service, failed)
                if failed.failures == _LEAST_FAILURES:
                    made.events.append(
                        "is unable to consistently start tasks successfully. For more information, see the "
                        "Troubleshooting section of the Amazon ECS Developer Guide."
                    )
        elif task.is_active and task.ready and deployment is not None:
            _count_health(made, deployment, task, now)


def _has_failed(task: Task) -> bool:
    is_early = not task.was_ready or task.stopping - task.started < _QUICK
    by_itself = task.stop_code in FAILED_CODES or (not task.started and task.stop_code == "TerminationNotice")
    return bool(task.fault) or (by_itself and is_early)


def _count_health(made: Plan, deployment: Deployment, task: Task, now: float) -> None:
    """A task that has run well for some time ends AWS's count, and the streak when it was started after it."""
    resets = _breaker(made.service).get("resetOnHealthyTask", True) and deployment.failed_tasks > 0
    ends = deployment.failures > 0 and task.started >= deployment.last_failure
    if not (resets or ends):
        return
    if now - task.started < _QUICK:
        made.wake_at(task.started + _QUICK)
        return
    changes = ({"failed_tasks": 0} if resets else {}) | ({"failures": 0} if ends else {})
    made.service = _with(made.service, msgspec.structs.replace(deployment, **changes))


def _fail_when_due(made: Plan, now: float) -> None:
    """End a deployment, or turn it back, for whatever says so."""
    service, current, primary = made.service, made.service.current, made.service.primary
    if current is None or primary is None or current.status == "ROLLBACK_IN_PROGRESS":
        return
    current = msgspec.structs.replace(current, failures=primary.failed_tasks)
    made.service = service = msgspec.structs.replace(service, current=current)
    breaker, alarms = _breaker(service), current.configuration.get("alarms") or {}
    if current.status in ("STOP_REQUESTED", "ROLLBACK_REQUESTED"):
        _fail(made, "Service deployment was stopped by a user request.", current.status == "ROLLBACK_REQUESTED", now)
    elif breaker.get("enable") and primary.failed_tasks >= threshold(breaker, desired_count(service)):
        made.events.append(f"(deployment {primary.id}) deployment failed: tasks failed to start.")
        _fail(made, "ECS deployment circuit breaker: tasks failed to start.", bool(breaker.get("rollback")), now)
    elif current.alarms:
        made.events.append(f"(deployment {primary.id}) deployment failed: alarm detected.")
        _fail(made, "ECS deployment failed: alarm detected.", bool(alarms.get("rollback")), now)
    elif current.fault:
        made.events.append(f"(deployment {primary.id}) deployment failed: {current.fault}")
        _fail(made, current.fault, True, now)


def _fail(made: Plan, reason: str, is_back: bool, now: float) -> None:
    service, current, primary = made.service, made.service.current, made.service.primary
    assert current is not None
    assert primary is not None
    service = _with(service, msgspec.structs.replace(primary, rollout="FAILED", reason=reason, updated=now))
    good = service.last_good
    if not is_back or good is None or good.id == primary.id:
        status = "ROLLBACK_FAILED" if is_back else "STOPPED"
        ended = msgspec.structs.replace(current, status=status, reason=reason, finished=now, updated=now)
        made.service = msgspec.structs.replace(service, current=ended)
        return
    word = reason.partition(":")[0] if ":" in reason else "ECS deployment"
    back = msgspec.structs.replace(
        good,
        updated=now,
        rollout="IN_PROGRESS",
        reason=f"{word}: rolling back to deploymentId {good.id}.",
        failed_tasks=0,
        failures=0,
    )
    made.events.append(f"rolling back to deployment {good.id}.")
    current = shifting.roll_back(current, reason, good.id, now)
    made.service = msgspec.structs.replace(_with_primary(service, back), current=current)


def _breaker(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.members["deploymentConfiguration"].get("deploymentCircuitBreaker") or {}
    return found


# Rolling


def _roll(made: Plan, active: list[Task], now: float) -> None:
    """Bring the primary deployment up and the others down, within the bounds of healthy per cent."""
    service, primary = made.service, made.service.primary
    assert primary is not None
    desired, settings = desired_count(service), service.members["deploymentConfiguration"]
    least = math.ceil(desired * settings["minimumHealthyPercent"] / 100)
    most = max(1, math.floor(desired * settings["maximumPercent"] / 100)) if desired else 0
    new = [task for task in active if task.deployment == primary.id and not task.leaving]
    old = [task for task in active if task.deployment != primary.id or task.leaving]
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
            made.wake_at(task.protected_until)
        elif not task.ready:
            stops.append(task)
        elif ready > least:
            stops.append(task)
            ready -= 1
    made.stop += [(task, f"Scaling activity initiated by (deployment {primary.id})") for task in stops]

    room = most - (len(active) - len(stops))
    count = min(desired - len(new), room)
    if count > 0:
        _start(made, primary, count, now)


def _start(made: Plan, one: Deployment, count: int, now: float) -> None:
    """Start tasks; each failed one has the next tries wait longer."""
    due = one.last_failure + pause(one.failures)
    if one.failures and due > now:
        made.wake_at(due)
    else:
        made.start.append((one, count))


def _complete(made: Plan, active: list[Task], tasks: Sequence[Task], now: float) -> None:
    """Notice that a deployment is done, and that the service is as it should be."""
    service, primary = made.service, made.service.primary
    assert primary is not None
    desired = desired_count(service)
    new = [task for task in active if task.deployment == primary.id and not task.leaving]
    is_settled = (
        not made.start
        and len(new) == desired == sum(task.ready for task in new)
        and len(new) == len(active)
        and all(task.deployment == primary.id or task.status == "STOPPED" for task in tasks)
    )
    healthy = new if is_settled else _early(service, new, tasks)
    if healthy is not None and primary.rollout == "IN_PROGRESS":
        if (settles := _settled_at(service, healthy, now)) > now:
            made.wake_at(settles)
            return
        service = _done(made, primary, now)
        if (current := service.current) is not None:
            status = "ROLLBACK_SUCCESSFUL" if shifting.is_back(current) else "SUCCESSFUL"
            current = msgspec.structs.replace(current, status=status, finished=now, updated=now)
            service = msgspec.structs.replace(service, current=current)
    if is_settled and not service.steady:
        made.events.append("has reached a steady state.")
    made.service = msgspec.structs.replace(service, steady=is_settled)


def _early(service: Service, new: list[Task], tasks: Sequence[Task]) -> list[Task] | None:
    """The tasks that a deployment with early success criteria has gone well with, or None while it has not."""
    current = service.current
    early = (current.configuration.get("earlySuccessCriteria") or {}) if current is not None else {}
    if current is None or shifting.is_back(current) or not early.get("enable"):
        return None
    old_stay = any(task.deployment != current.target and task.status != "STOPPED" for task in tasks)
    if early["sourceServiceRevisionCleanup"] == "BLOCKING" and old_stay:
        return None
    enough = math.ceil(desired_count(service) * early["healthyPercent"] / 100)
    ready = sorted((task for task in new if task.ready), key=lambda task: task.started)
    return ready[:enough] if len(ready) >= enough else None


def _settled_at(service: Service, new: list[Task], now: float) -> float:
    """When a deployment whose tasks are all there has been watched for long enough."""
    current = service.current
    bake = 0.0
    if current is not None and current.status == "IN_PROGRESS":
        bake = _MINUTE * current.configuration.get("bakeTimeInMinutes", 0)
    if _breaker(service).get("enable"):
        bake = max(bake, _SETTLES)
    return max((task.started + bake for task in new), default=now) if bake else now


def _done(made: Plan, one: Deployment, now: float) -> Service:
    """The service with this deployment alone, which a roll-back will go back to."""
    done = msgspec.structs.replace(
        one, rollout="COMPLETED", reason=f"ECS deployment {one.id} completed.", updated=now, failed_tasks=0
    )
    made.events.append(f"(deployment {one.id}) deployment completed.")
    return msgspec.structs.replace(made.service, deployments=(done,), last_good=done)


# Shifting


def _go_through_stages(
    made: Plan, current: ServiceDeployment, active: list[Task], tasks: Sequence[Task], now: float
) -> None:
    """Take a deployment with a strategy as far as it goes, with the tasks that each revision has at its stage."""
    green, blue = made.service.deployment(current.target), _blue(made.service, current)
    assert green is not None
    stays = blue if shifting.is_back(current) else green
    known = {green.id, *([blue.id] if blue is not None else [])}
    ready = [task for task in active if task.deployment == green.id and task.ready]
    left = [task.deployment for task in tasks if task.status != "STOPPED"]
    if not current.stage:
        current = shifting.begin(current, now, any(one.id not in known for one in made.service.deployments))
    seen = shifting.Seen(
        has_blue=blue is not None,
        is_ready=len(ready) >= desired_count(made.service),
        others=any(one not in known for one in left),
        leaving=stays is not None and any(one != stays.id for one in left),
    )
    current = shifting.advance(current, seen, now)
    made.service = msgspec.structs.replace(made.service, current=current)
    if current.is_over and stays is not None:
        made.service = _done(made, stays, now)
        return
    for one in made.service.deployments:
        own = [task for task in active if task.deployment == one.id]
        _hold(made, one, own, wanted(made.service, one), now)
    made.stop += [
        (task, "Its deployment has ended") for task in active if made.service.deployment(task.deployment) is None
    ]
    made.shift = shifting.wants_shift(current, blue is not None)
    made.ask = hooks.due(current, now)
    made.wake_at(shifting.wake(current, now))


def _blue(service: Service, current: ServiceDeployment) -> Deployment | None:
    """What serves until the target does: the last deployment that went well, if it is still there."""
    good = service.last_good
    return service.deployment(good.id) if good is not None and good.id != current.target else None


def _hold(made: Plan, one: Deployment, own: list[Task], count: int, now: float) -> None:
    """Keep the number of a deployment's tasks."""
    if len(own) < count:
        _start(made, one, count - len(own), now)
    surplus = len(own) - count
    for task in sorted(own, key=lambda task: (task.ready, -task.created)):
        if surplus > 0 and task.protected_until <= now:
            made.stop.append((task, f"Scaling activity initiated by (deployment {one.id})"))
            surplus -= 1
        elif surplus > 0:
            made.wake_at(task.protected_until)


def _keep_task_sets(made: Plan, active: list[Task], now: float) -> None:
    """Each task set has its share of the desired count; whoever controls the deployments says which."""
    known = {one.id for one in made.service.deployments}
    made.stop += [(task, "Task set was deleted") for task in active if task.deployment not in known]
    for one in made.service.deployments:
        _hold(made, one, [task for task in active if task.deployment == one.id], wanted(made.service, one), now)


# Parts


def _with_primary(service: Service, new: Deployment) -> Service:
    """The service with another primary deployment: those before it go on as ACTIVE until it has replaced them."""
    new = msgspec.structs.replace(new, status="PRIMARY")
    rest = tuple(msgspec.structs.replace(one, status="ACTIVE") for one in service.deployments if one.id != new.id)
    members = {**service.members, **new.settings, "taskDefinition": new.task_definition}
    return msgspec.structs.replace(service, members=members, deployments=(new, *rest), steady=False)


def _name(service: Service) -> str:
    return str(service.members["serviceName"])


def _with(service: Service, changed: Deployment) -> Service:
    return msgspec.structs.replace(
        service, deployments=tuple(changed if one.id == changed.id else one for one in service.deployments)
    )
