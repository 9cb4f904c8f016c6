"""Tasks: run, stopped, described. What happens to them is in ``running.py``."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs import admission, describing, validation
from cloudlet.services.ecs.base import Base, from_tags, invalid, last, new_id, page
from cloudlet.services.ecs.placement import Lack
from cloudlet.services.ecs.records import Container, Task, TaskDefinition
from cloudlet.store import Tx

_MOST = 10  # tasks of one RunTask
NO_INSTANCES = "No Container Instances were found in your cluster."
_PROTECTION = 120  # minutes, when nothing else is asked
_OVERRIDES = ("command", "cpu", "environment", "environmentFiles", "memory", "memoryReservation", "name")


class Tasks(Base):
    """Operations on tasks."""

    async def RunTask(self, call: Call, input: Input) -> Output:
        for name in ("volumeConfigurations",):
            if input.get(name):
                raise not_implemented(f"RunTask with {name}")
        cluster = self.cluster(call, input)
        if not 1 <= input.get("count", 1) <= _MOST:
            raise invalid("count must be between 1 and 10.")
        definition = self.usable_definition(call.scope, input["taskDefinition"])
        launch = self.launch_of(call.scope, cluster, input)
        validation.check_fits(definition.members, launch["kind"], input.get("networkConfiguration"))
        admission.check_placement(input, launch["kind"])
        await self.check_network(call, input.get("networkConfiguration"))
        made = _asked_for(call, input, cluster, definition, launch["members"], self.clock.now())
        names = [f"{cluster}/{task.id}" for task in made]
        constraints, strategy = input.get("placementConstraints") or (), input.get("placementStrategy") or ()

        def work(tx: Tx) -> tuple[list[Task], list[dict[str, str]]]:
            self.cluster(call, input, tx)
            if known := [one.value for name in names if (one := self.tasks.get(call.scope, name, tx))]:
                if known[0].asked != made[0].asked:
                    raise AwsError(
                        "ConflictException",
                        "The RunTask request could not be processed due to conflicts. The provided clientToken is "
                        "already in use with a different RunTask request.",
                        resourceIds=[self.arn(call.scope, "task", f"{cluster}/{task.id}") for task in known],
                    )
                return known, []
            tasks, failures = made, []
            if launch["kind"] == "EC2":
                tasks, lacks, count = self.placed(tx, call.scope, made, definition, constraints, strategy)
                if self.brings_capacity(call.scope, made[0]):
                    there = {task.id for task in tasks}
                    asked = list(constraints), list(strategy)
                    tasks += [msgspec.structs.replace(task, placement=asked) for task in made if task.id not in there]
                elif not count:
                    raise invalid(NO_INSTANCES)
                else:
                    failures = [{"arn": one.instance.arn, "reason": one.reason} for one in lacks]
            for task in tasks:
                self.put_task(tx, call.scope, task)
            return tasks, failures

        started, failures = await self.db.write(work)
        for task in started:
            self.take_up(call.scope, task)
        return {"tasks": [self.described_task(call.scope, task, True) for task in started], "failures": failures}

    async def StopTask(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        task = self._task(call, cluster, input["task"])
        reason = input.get("reason") or "Task stopped by user"
        await self.order_stop(call.scope, task, "UserInitiated", reason)
        return {"task": self.described_task(call.scope, self._task(call, cluster, input["task"]), True)}

    async def DescribeTasks(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        if not input["tasks"]:
            raise invalid("Tasks cannot be empty.")
        if len(input["tasks"]) > 100:
            raise invalid("Tasks cannot have more than 100 elements.")
        found, failures = [], []
        for identifier in input["tasks"]:
            record = self.tasks.get(call.scope, f"{cluster}/{last(identifier)}")
            if record is None:
                arn = self.arn(call.scope, "task", f"{cluster}/{last(identifier)}")
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                found.append(self.described_task(call.scope, record.value, "TAGS" in (input.get("include") or ())))
        return {"tasks": found, "failures": failures}

    async def ListTasks(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        if "daemonName" in input:
            raise not_implemented("ListTasks with daemonName")
        wanted = input.get("desiredStatus") or "RUNNING"
        service = last(input["serviceName"]) if "serviceName" in input else None
        if service is not None and self.services.get(call.scope, f"{cluster}/{service}") is None:
            raise AwsError("ServiceNotFoundException", "Service not found.")
        found = [
            task
            for record in self.tasks.list(call.scope, f"{cluster}/")
            if (task := record.value).desired == wanted
            and (service is None or task.service == service)
            and ("family" not in input or last(task.task_definition).partition(":")[0] == input["family"])
            and ("startedBy" not in input or task.members.get("startedBy") == input["startedBy"])
            and ("launchType" not in input or task.members.get("launchType") == input["launchType"])
            and ("containerInstance" not in input or task.instance == last(input["containerInstance"]))
        ]
        arns = [self.arn(call.scope, "task", f"{cluster}/{task.id}") for task in found]
        return page("taskArns", arns, input)

    async def UpdateTaskProtection(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        minutes = input.get("expiresInMinutes", _PROTECTION)
        if not 1 <= minutes <= 2880:
            raise invalid("expiresInMinutes must be between 1 and 2880.")
        until = self.clock.now() + minutes * 60 if input["protectionEnabled"] else 0.0
        for identifier in input.get("tasks") or ():
            task = self._task(call, cluster, identifier)
            if not task.service:
                raise invalid("Task protection is only supported for tasks of a service.")
            await self.change_task(call.scope, task, protected_until=until)
        return await self.GetTaskProtection(call, input)

    async def GetTaskProtection(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        found, failures, now = [], [], self.clock.now()
        for identifier in input.get("tasks") or ():
            arn = self.arn(call.scope, "task", f"{cluster}/{last(identifier)}")
            record = self.tasks.get(call.scope, f"{cluster}/{last(identifier)}")
            if record is None:
                failures.append({"arn": arn, "reason": "MISSING"})
                continue
            until = record.value.protected_until
            found.append(
                {"taskArn": arn, "protectionEnabled": until > now, **({"expirationDate": until} if until > now else {})}
            )
        return {"protectedTasks": found, "failures": failures}

    # What operations, services and runners share

    async def check_network(self, call: Call, network: dict[str, Any] | None) -> None:
        """Raises InvalidParameterException for subnets and security groups that are not there."""
        members = (network or {}).get("awsvpcConfiguration") or {}
        for what, ids, operation, key in (
            ("subnet", members.get("subnets"), "DescribeSubnets", "SubnetIds"),
            ("security group", members.get("securityGroups"), "DescribeSecurityGroups", "GroupIds"),
        ):
            if not ids:
                continue
            try:
                await self.cloud.call("ec2", operation, {key: ids}, account=call.account, region=call.region)
            except AwsError as error:
                where = f"Error retrieving {what} information for [{', '.join(ids)}]"
                raise invalid(f"{where}: {error.message} (ErrorCode: {error.code})") from None

    def placed(
        self,
        tx: Tx,
        scope: str,
        tasks: Sequence[Task],
        definition: TaskDefinition,
        constraints: Sequence[dict[str, Any]],
        strategy: Sequence[dict[str, Any]],
    ) -> tuple[list[Task], list[Lack], int]:
        """Those of some tasks that found a place, why the others did not, and how many instances there are."""
        raise NotImplementedError

    def brings_capacity(self, scope: str, task: Task) -> bool:
        """Whether the capacity provider of a task brings the instance that it lacks."""
        raise NotImplementedError

    def take_up(self, scope: str, task: Task) -> None:
        """Begin to carry out a task that is stored."""
        raise NotImplementedError

    async def order_stop(self, scope: str, task: Task, code: str, reason: str) -> None:
        """Want a task stopped; the first reason counts."""

        def work(tx: Tx) -> None:
            record = self.tasks.get(scope, f"{task.cluster}/{task.id}", tx)
            if record is not None and record.value.is_active:
                self.put_task(tx, scope, stopping(record.value, code, reason, self.clock.now()))

        await self.db.write(work)
        record = self.tasks.get(scope, f"{task.cluster}/{task.id}")
        if record is not None:
            self.take_up(scope, record.value)

    async def change_task(self, scope: str, task: Task, **changes: Any) -> Task | None:
        """Change some of a task as it is when it is this change's turn; None when the task is gone."""

        def work(tx: Tx) -> Task | None:
            record = self.tasks.get(scope, f"{task.cluster}/{task.id}", tx)
            if record is None:
                return None
            made = msgspec.structs.replace(record.value, **changes)
            if made == record.value:
                return made
            made = msgspec.structs.replace(made, version=record.value.version + 1)
            self.put_task(tx, scope, made)
            return made

        return await self.db.write(work)

    async def change_container(self, scope: str, task: Task, name: str, **changes: Any) -> None:
        """Change one container of a task, whatever happens to the others meanwhile."""
        await self.db.write(lambda tx: self.change_container_in(tx, scope, task, name, **changes))

    def change_container_in(self, tx: Tx, scope: str, task: Task, name: str, **changes: Any) -> None:
        """The same in a transaction, with what else belongs to it."""
        record = self.tasks.get(scope, f"{task.cluster}/{task.id}", tx)
        if record is not None:
            containers = tuple(
                msgspec.structs.replace(one, **changes) if one.name == name else one for one in record.value.containers
            )
            if containers != record.value.containers:
                made = msgspec.structs.replace(record.value, containers=containers, version=record.value.version + 1)
                self.put_task(tx, scope, made)

    def _task(self, call: Call, cluster: str, identifier: str) -> Task:
        record = self.tasks.get(call.scope, f"{cluster}/{last(identifier)}")
        if record is None:
            raise invalid("The referenced task was not found.")
        return record.value

    def launch_of(self, scope: str, cluster: str, input: Input) -> dict[str, Any]:
        """What a launch type or a capacity provider strategy means: ``kind``, and the members that say so."""
        strategy = input.get("capacityProviderStrategy")
        if strategy and "launchType" in input:
            raise invalid(
                "Specifying both a launch type and capacity provider strategy is not supported. "
                "Remove one and try again."
            )
        if not strategy and "launchType" not in input:
            record = self.clusters.get(scope, cluster)
            strategy = record.value.members.get("defaultCapacityProviderStrategy") if record is not None else None
        if strategy and len(strategy) > 1 and not any(one.get("weight", 0) for one in strategy):
            raise invalid(
                "There are no capacity providers in the capacity provider strategy with a weight value greater than "
                "zero."
            )
        version = input.get("platformVersion")
        if version is not None and input.get("launchType") == "EC2":
            raise invalid("The platform version must be null when specifying an EC2 launch type.")
        fargate = {"platformVersion": "1.4.0" if version in (None, "LATEST") else version, "platformFamily": "Linux"}
        if strategy:
            name = last(max(strategy, key=lambda one: (one.get("base", 0), one.get("weight", 0)))["capacityProvider"])
            if name not in ("FARGATE", "FARGATE_SPOT") and self.providers.get(scope, name) is None:
                raise invalid(
                    "The specified capacity provider was not found. Specify a valid name or ARN and try again."
                )
            kind = "FARGATE" if name.startswith("FARGATE") else "EC2"
            members = {"capacityProviderName": name, "launchType": kind, **(fargate if kind == "FARGATE" else {})}
            return {"kind": kind, "members": members, "strategy": strategy}
        kind = input.get("launchType") or "EC2"
        if kind not in ("EC2", "FARGATE"):
            raise not_implemented(f"the launch type {kind}")
        members = {"launchType": kind, **(fargate if kind == "FARGATE" else {})}
        return {"kind": kind, "members": members, "strategy": None}

    def described_task(self, scope: str, task: Task, with_tags: bool) -> dict[str, Any]:
        """A task as the API shows it."""
        found = self.definition(scope, task.task_definition)
        definition = found.members if found is not None else {}
        return describing.described(task, definition, lambda *what: self.arn(scope, *what), scope, with_tags)


def new_task(
    definition: TaskDefinition,
    cluster: str,
    members: dict[str, Any],
    now: float,
    *,
    service: str = "",
    deployment: str = "",
    tags: dict[str, str] | None = None,
) -> Task:
    """A task that nobody has started yet."""
    return Task(
        id=new_id(),
        cluster=cluster,
        task_definition=definition.members["taskDefinitionArn"],
        members=members,
        created=now,
        containers=tuple(Container(one["name"], new_id(), one["image"]) for one in definition.containers),
        service=service,
        deployment=deployment,
        key=secrets.token_urlsafe(16),
        tags=tags or {},
    )


def _asked_for(
    call: Call, input: Input, cluster: str, definition: TaskDefinition, launch: dict[str, Any], now: float
) -> list[Task]:
    """The tasks that RunTask asks for; the same ones for the same client token."""
    tags = from_tags(input.get("tags"))
    if input.get("propagateTags") == "TASK_DEFINITION":
        tags = {**definition.tags, **tags}
    if input.get("enableECSManagedTags"):
        tags["aws:ecs:clusterName"] = cluster
    members: dict[str, Any] = {
        **launch,
        "overrides": checked_overrides(definition, input.get("overrides") or {}),
        "group": input.get("group") or f"family:{definition.members['family']}",
        "enableExecuteCommand": input.get("enableExecuteCommand", False),
        **{key: input[key] for key in ("startedBy", "networkConfiguration") if key in input},
    }
    made = [new_task(definition, cluster, members, now, tags=tags) for _ in range(input.get("count", 1))]
    if token := input.get("clientToken"):
        made = [
            msgspec.structs.replace(task, id=_id_of(call.scope, cluster, token, number), asked=_digest(input))
            for number, task in enumerate(made)
        ]
    return made


def _id_of(scope: str, cluster: str, token: str, number: int) -> str:
    """A task's id that is always the same for its client token."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{scope} {cluster} {token} {number}").hex


def _digest(input: Input) -> str:
    asked = {key: value for key, value in input.items() if key != "clientToken"}
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()


def stopping(task: Task, code: str, reason: str, now: float) -> Task:
    """The task as one that shall stop."""
    return msgspec.structs.replace(
        task, desired="STOPPED", stopping=now, stop_code=code, stop_reason=reason, ready=False, version=task.version + 1
    )


def checked_overrides(definition: TaskDefinition, overrides: dict[str, Any]) -> dict[str, Any]:
    names = {one["name"] for one in definition.containers}
    for one in overrides.get("containerOverrides") or ():
        if one.get("name") not in names:
            raise invalid(f"Override for container named {one.get('name')} is not a container in the TaskDefinition.")
        for key in one:
            if key not in _OVERRIDES:
                raise not_implemented(f"RunTask with containerOverrides.{key}")
    if overrides.get("inferenceAcceleratorOverrides"):
        raise not_implemented("RunTask with inferenceAcceleratorOverrides")
    for key in ("cpu", "memory"):
        if key in overrides and not re.fullmatch(r"\d+", overrides[key]):
            raise invalid(f"Invalid '{key}' setting for task.")
    return overrides
