"""Which container instance a task is put on: what it needs, what there is, constraints, then strategies. Pure.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-placement.html
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cloudlet.services.ecs import query
from cloudlet.services.ecs.records import ContainerInstance, Task

_DYNAMIC = range(32768, 61000)  # ports that are given out, as Linux does
Binding = tuple[int, int, str]  # container port, the instance's port, protocol


@dataclass(slots=True)
class Need:
    """What one task takes of an instance."""

    cpu: int  # units
    memory: int  # MiB
    ports: list[tuple[int, int, str]]  # container port, the wished port of the instance or 0, protocol


@dataclass(slots=True)
class Seat:
    """An instance with what is left of it."""

    instance: ContainerInstance
    tasks: list[Task] = field(default_factory=list)
    cpu: int = 0
    memory: int = 0
    taken: set[tuple[int, str]] = field(default_factory=set)  # ports

    def facts(self) -> dict[str, list[str]]:
        """What expressions are asked about."""
        one = self.instance
        groups = [task.members.get("group", "") for task in self.tasks]
        found = {f"attribute:{each['name']}": [each.get("value", "")] for each in one.attributes}
        states = [task.status for task in self.tasks]
        return found | {
            "agentConnected": [str(one.connected).lower()],
            "agentVersion": [one.version_info.get("agentVersion", "")],
            "ec2InstanceId": [one.ec2_id],
            "registeredAt": [str(one.registered_at)],
            "runningTasksCount": [str(states.count("RUNNING"))],
            "pendingTasksCount": [str(len(states) - states.count("RUNNING"))],
            "task:group": groups,
        }


@dataclass(frozen=True, slots=True)
class Lack:
    """Why an instance cannot take a task: AWS's word for it, such as ``RESOURCE:MEMORY``."""

    instance: ContainerInstance
    reason: str


def need_of(definition: dict[str, Any], overrides: dict[str, Any]) -> Need:
    """What a task of a definition takes."""
    containers = definition["containerDefinitions"]
    own = {one["name"]: one for one in overrides.get("containerOverrides") or ()}
    cpu = overrides.get("cpu") or definition.get("cpu")
    memory = overrides.get("memory") or definition.get("memory")
    if not cpu:
        cpu = sum(own.get(one["name"], {}).get("cpu", one.get("cpu", 0)) for one in containers)
    if not memory:
        memory = sum(_memory({**one, **own.get(one["name"], {})}) for one in containers)
    ports = []
    if definition.get("networkMode") in ("bridge", "host"):
        ports = [
            (port["containerPort"], port.get("hostPort", 0), port.get("protocol", "tcp"))
            for one in containers
            for port in one.get("portMappings", ())
        ]
    return Need(int(cpu), int(memory), ports)


def seat_of(instance: ContainerInstance, tasks: Iterable[Task]) -> Seat:
    """An instance with the tasks that are on it."""
    here = [task for task in tasks if task.instance == instance.id and task.status != "STOPPED"]
    seat = Seat(instance, here, instance.cpu, instance.memory)
    seat.taken = {(int(port), "tcp") for port in instance.ports} | {(int(port), "udp") for port in instance.ports_udp}
    for task in here:
        seat.cpu -= task.takes[0]
        seat.memory -= task.takes[1]
        seat.taken |= {(port, protocol) for _, port, protocol in task.bindings}
    return seat


def put(task: Task, need: Need, seat: Seat) -> Task:
    """The task on that instance, which has less left from then on."""
    bindings: list[Binding] = []
    for port, wished, protocol in need.ports:
        number = wished or next(one for one in _DYNAMIC if (one, protocol) not in seat.taken)
        seat.taken.add((number, protocol))
        bindings.append((port, number, protocol))
    one = seat.instance
    placed = msgspec.structs.replace(
        task,
        instance=one.id,
        host=one.ec2_id,
        takes=(need.cpu, need.memory),
        bindings=tuple(bindings),
        members={**task.members, "containerInstanceArn": one.arn},
    )
    seat.cpu -= need.cpu
    seat.memory -= need.memory
    seat.tasks.append(placed)
    return placed


def lack(need: Need, seat: Seat) -> str:
    """What an instance does not have for a task, or nothing."""
    if not seat.instance.connected:
        return "AGENT"
    if need.cpu > seat.cpu:
        return "RESOURCE:CPU"
    if need.memory > seat.memory:
        return "RESOURCE:MEMORY"
    if any(wished and (wished, protocol) in seat.taken for _, wished, protocol in need.ports):
        return "RESOURCE:PORTS"
    return ""


def instances_needed(seats: Sequence[Seat], needs: Sequence[Need], is_busy: Callable[[Seat], bool]) -> int:
    """How many instances there should be for the tasks that have a place and for what others need.

    New ones are as large as those that are there; of the first one nobody knows yet how large it will be.
    """
    busy = [seat for seat in seats if is_busy(seat)]
    if not needs:
        return len(busy)
    if not seats:
        return 1
    used = [_copy(seat) for seat in busy]
    model = seat_of(seats[0].instance, ())
    for need in sorted(needs, key=lambda one: (-one.memory, -one.cpu)):
        seat = next((one for one in used if not lack(need, one)), None)
        if seat is None:
            seat = _copy(model)
            used.append(seat)
        seat.cpu -= need.cpu
        seat.memory -= need.memory
        seat.taken |= {(wished, protocol) for _, wished, protocol in need.ports if wished}
    # Whatever says otherwise, a constraint perhaps, they have found no place on those that are there.
    return max(len(used), len(seats) + 1)


def _copy(seat: Seat) -> Seat:
    return Seat(seat.instance, [], seat.cpu, seat.memory, set(seat.taken))


def cannot_place(lacks: Sequence[Lack], count: int) -> str:
    """What a service says of tasks that find no place."""
    start = "was unable to place a task because no container instance met all of its requirements. Reason: "
    if not count:
        return f"{start}No Container Instances were found in your cluster."
    nearest = lacks[-1]
    words = {
        "RESOURCE:CPU": "has insufficient CPU units available.",
        "RESOURCE:MEMORY": "has insufficient memory available.",
        "RESOURCE:PORTS": "is already using a port required by your task.",
        "AGENT": "encountered error 'AGENT'.",
    }.get(nearest.reason)
    if words is None:
        return f"{start}{nearest.reason}"
    id = nearest.instance.id
    return f"{start.removesuffix('Reason: ')}The closest matching container-instance {id} {words}"


def choose(
    need: Need,
    seats: Sequence[Seat],
    constraints: Sequence[dict[str, Any]],
    strategy: Sequence[dict[str, Any]],
    group: str,
) -> tuple[Seat | None, list[Lack]]:
    """The best instance for a task of a group; else why each of them is not."""
    tests = [query.parse(one["expression"]) for one in constraints if one.get("type") == "memberOf"]
    is_distinct = any(one.get("type") == "distinctInstance" for one in constraints)
    good, lacks = [], []
    for seat in seats:
        reason = lack(need, seat)
        if not reason and not all(test(seat.facts()) for test in tests):
            reason = "MemberOf placement constraint unsatisfied."
        if not reason and is_distinct and any(task.members.get("group") == group for task in seat.tasks):
            reason = "DistinctInstance placement constraint unsatisfied."
        if reason:
            lacks.append(Lack(seat.instance, reason))
        else:
            good.append(seat)
    if not good:
        return None, lacks
    ranks = [_rank(one, seats, group) for one in strategy or ({"type": "spread", "field": "instanceId"},)]
    return min(good, key=lambda seat: [rank(seat) for rank in ranks]), []


def _rank(strategy: dict[str, Any], seats: Sequence[Seat], group: str) -> Callable[[Seat], float]:
    """How little an instance is wished for."""
    kind, what = strategy.get("type", "random"), strategy.get("field", "")
    if kind == "random":
        return lambda seat: random.random()
    if kind == "binpack":
        return lambda seat: float(seat.cpu if what.lower() == "cpu" else seat.memory)
    counts: dict[str, int] = {}
    for seat in seats:
        own = sum(task.members.get("group") == group for task in seat.tasks)
        counts[_place(seat, what)] = counts.get(_place(seat, what), 0) + own
    return lambda seat: float(counts[_place(seat, what)])


def _place(seat: Seat, what: str) -> str:
    """What tasks are spread over: the instance, or a value of an attribute of it."""
    if what.lower() in ("instanceid", "host", ""):
        return seat.instance.id
    return next(iter(seat.facts().get(what, [""])), "")


def _memory(container: dict[str, Any]) -> int:
    """What is set aside for a container: its soft limit where it has one."""
    return int(container.get("memoryReservation") or container.get("memory") or 0)
