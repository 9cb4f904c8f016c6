"""Container instances: the instances of EC2 that agents have registered, and the tasks that are put on them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from cloudlet.engines.containers.api import CannotStart, PodState
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs import placement, preparing, query, validation
from cloudlet.services.ecs.base import client_error, from_tags, invalid, last, new_id, page, to_tags
from cloudlet.services.ecs.guests import Guests
from cloudlet.services.ecs.placement import Lack, Seat
from cloudlet.services.ecs.records import ON_THE_WAY, ContainerInstance, Service, Task, TaskDefinition
from cloudlet.services.ecs.tasks import checked_overrides, new_task
from cloudlet.store import Tx

log = logging.getLogger("cloudlet.ecs")

_CAPABILITIES = (
    *("privileged-container", "docker-remote-api.1.17", "docker-remote-api.1.18", "docker-remote-api.1.19"),
    *("docker-remote-api.1.25", "docker-remote-api.1.44", "logging-driver.json-file", "logging-driver.awslogs"),
    *("ecr-auth", "task-iam-role", "task-iam-role-network-host"),
)
_ECS_CAPABILITIES = ("docker-plugin.local", "task-eni", "execution-role-awslogs", "execution-role-ecr-pull", "secrets")
_PORTS = ("22", "2375", "2376", "51678", "51679")
_LONGEST_END = 20.0  # seconds that an instance waits for its tasks
_REGISTERED = 0.96  # of its memory, what a machine tells of


class Instances(Guests):
    """Operations on container instances, and their tasks' places."""

    async def start(self) -> None:
        self._watching = False
        self._ends: dict[str, asyncio.Event] = {}  # tasks whose end is awaited
        self._hosts: dict[str, asyncio.Event] = {}  # instances on which tasks wait to be drained
        await super().start()
        if self.instances.all():
            self.cloud.spawn(self._watch(), "container instances are watched")

    # Operations

    async def RegisterContainerInstance(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        known = (
            self._find(call.scope, cluster, input["containerInstanceArn"]) if "containerInstanceArn" in input else None
        )
        try:
            document = json.loads(input.get("instanceIdentityDocument") or "")
            ec2_id = str(document["instanceId"])
        except (ValueError, KeyError, TypeError):
            raise client_error("Instance identity document is invalid.") from None
        facts = await self._described_by_ec2(call, ec2_id)
        resources = {one["name"]: one for one in input.get("totalResources") or ()}
        type_facts = await self._type(call, facts["InstanceType"])
        attributes = {
            **_attributes(facts),
            **{one["name"]: one.get("value", "") for one in input.get("attributes") or ()},
        }
        cpus, memory = type_facts["VCpuInfo"]["DefaultVCpus"], type_facts["MemoryInfo"]["SizeInMiB"]
        id = known.id if known is not None else new_id()
        made = ContainerInstance(
            id=id,
            arn=self.arn(call.scope, "container-instance", f"{cluster}/{id}"),
            cluster=cluster,
            ec2_id=ec2_id,
            cpu=resources.get("CPU", {}).get("integerValue", cpus * 1024),
            memory=resources.get("MEMORY", {}).get("integerValue", int(memory * _REGISTERED)),
            ports=tuple(resources.get("PORTS", {}).get("stringSetValue", _PORTS)),
            ports_udp=tuple(resources.get("PORTS_UDP", {}).get("stringSetValue", ())),
            attributes=[{"name": name, **({"value": value} if value else {})} for name, value in attributes.items()],
            version_info=input.get("versionInfo") or {},
            registered_at=known.registered_at if known is not None else self.clock.now(),
            provider=await self._provider_of(call, cluster, ec2_id),
            tags=from_tags(input.get("tags")),
        )

        def work(tx: Tx) -> None:
            self.cluster(call, input, tx)
            for record in self.instances.list(call.scope, f"{cluster}/", tx):
                if record.value.ec2_id == ec2_id and record.value.id != id:
                    # An agent that has lost its state is another container instance; the old one goes.
                    self.instances.delete(tx, call.scope, record.name)
            self.instances.put(tx, call.scope, f"{cluster}/{id}", made)

        await self._watch()
        await self.db.write(work)
        try:
            await self._described_by_ec2(call, ec2_id)
        except AwsError:
            # It ended while its agent registered it: nobody will tell of that again.
            await self._forget_instance(call.scope, made)
            raise
        self._cluster_changed(call.scope, cluster)
        return {"containerInstance": self._described_instance(call.scope, made, True)}

    async def DeregisterContainerInstance(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        instance = self._instance(call.scope, cluster, input["containerInstance"])
        if not input.get("force") and self._tasks_on(call.scope, instance):
            raise invalid("Found running tasks on the instance.")
        await self._forget_instance(call.scope, instance)
        gone = msgspec.structs.replace(instance, status="INACTIVE")
        return {"containerInstance": self._described_instance(call.scope, gone, True)}

    async def DescribeContainerInstances(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        if not input["containerInstances"]:
            raise client_error("Container Instances cannot be empty.")
        found, failures = [], []
        for identifier in input["containerInstances"]:
            instance = self._find(call.scope, cluster, identifier)
            if instance is None:
                arn = self.arn(call.scope, "container-instance", f"{cluster}/{last(identifier)}")
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                with_tags = "TAGS" in (input.get("include") or ())
                found.append(self._described_instance(call.scope, instance, with_tags))
        return {"containerInstances": found, "failures": failures}

    async def ListContainerInstances(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        wanted = input.get("status", "ACTIVE")
        test = query.parse(input["filter"]) if input.get("filter") else None
        arns = [
            seat.instance.arn
            for seat in self.seats(call.scope, cluster)
            if ("status" not in input or seat.instance.status == wanted) and (test is None or test(seat.facts()))
        ]
        return page("containerInstanceArns", arns, input)

    async def UpdateContainerInstancesState(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        if not input["containerInstances"]:
            raise invalid("Container instance IDs cannot be empty.")
        if input["status"] not in ("ACTIVE", "DRAINING"):
            raise invalid("Container instance status should be one of [ACTIVE, DRAINING]")
        found, failures = [], []

        def work(tx: Tx) -> None:
            for identifier in input["containerInstances"]:
                instance = self._find(call.scope, cluster, identifier, tx)
                if instance is None:
                    arn = self.arn(call.scope, "container-instance", f"{cluster}/{last(identifier)}")
                    failures.append({"arn": arn, "reason": "MISSING"})
                    continue
                changed = msgspec.structs.replace(instance, status=input["status"], version=instance.version + 1)
                self.instances.put(tx, call.scope, f"{cluster}/{instance.id}", changed)
                for task in self._tasks_on(call.scope, instance, tx):
                    moved = msgspec.structs.replace(task, leaving=bool(task.service) and input["status"] == "DRAINING")
                    self.put_task(tx, call.scope, moved)
                found.append(changed)

        await self.db.write(work)
        self._cluster_changed(call.scope, cluster)
        described = [self._described_instance(call.scope, one, False) for one in found]
        return {"containerInstances": described, "failures": failures}

    async def UpdateContainerAgent(self, call: Call, input: Input) -> Output:
        raise not_implemented("UpdateContainerAgent: the agent is part of Cloudlet")

    async def StartTask(self, call: Call, input: Input) -> Output:
        if input.get("volumeConfigurations"):
            raise not_implemented("StartTask with volumeConfigurations")
        cluster = self.cluster(call, input)
        if not input["containerInstances"]:
            raise client_error("Container Instances cannot be empty.")
        if len(input["containerInstances"]) > 10:
            raise invalid("Container instances cannot be more than 10.")
        definition = self.usable_definition(call.scope, input["taskDefinition"])
        validation.check_fits(definition.members, "EC2", input.get("networkConfiguration"))
        overrides = checked_overrides(definition, input.get("overrides") or {})
        members = {
            "launchType": "EC2",
            "overrides": overrides,
            "group": input.get("group") or f"family:{definition.members['family']}",
            "enableExecuteCommand": input.get("enableExecuteCommand", False),
            **({"startedBy": input["startedBy"]} if "startedBy" in input else {}),
            **({"networkConfiguration": input["networkConfiguration"]} if "networkConfiguration" in input else {}),
        }
        need, now = placement.need_of(definition.members, overrides), self.clock.now()
        made: list[Task] = []
        failures: list[dict[str, str]] = []

        def work(tx: Tx) -> None:
            seats = {seat.instance.id: seat for seat in self.seats(call.scope, cluster, tx)}
            for identifier in input["containerInstances"]:
                seat = seats.get(last(identifier))
                arn = self.arn(call.scope, "container-instance", f"{cluster}/{last(identifier)}")
                reason = "MISSING" if seat is None else placement.lack(need, seat)
                if seat is None or reason:
                    failures.append({"arn": arn, "reason": reason})
                    continue
                task = new_task(definition, cluster, members, now, tags=from_tags(input.get("tags")))
                task = placement.put(task, need, seat)
                self.put_task(tx, call.scope, task)
                made.append(task)

        await self.db.write(work)
        for task in made:
            self.take_up(call.scope, task)
        return {"tasks": [self.described_task(call.scope, task, True) for task in made], "failures": failures}

    # Attributes

    async def PutAttributes(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)

        def work(tx: Tx) -> None:
            for one in input["attributes"]:
                instance = self._target(call.scope, cluster, one, tx)
                kept = [each for each in instance.attributes if each["name"] != one["name"]]
                new = {key: one[key] for key in ("name", "value") if key in one}
                changed = msgspec.structs.replace(instance, attributes=[*kept, new])
                self.instances.put(tx, call.scope, f"{cluster}/{instance.id}", changed)

        await self.db.write(work)
        self._cluster_changed(call.scope, cluster)
        return {"attributes": [{"targetType": "container-instance", **one} for one in input["attributes"]]}

    async def DeleteAttributes(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)

        def work(tx: Tx) -> None:
            for one in input["attributes"]:
                instance = self._target(call.scope, cluster, one, tx)
                kept = [each for each in instance.attributes if each["name"] != one["name"]]
                if len(kept) == len(instance.attributes):
                    raise AwsError("TargetNotFoundException", "Target not found.")
                changed = msgspec.structs.replace(instance, attributes=kept)
                self.instances.put(tx, call.scope, f"{cluster}/{instance.id}", changed)

        await self.db.write(work)
        return {"attributes": input["attributes"]}

    async def ListAttributes(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        if input.get("attributeValue") and not input.get("attributeName"):
            raise client_error("attributeName must be specified with attributeValue.")
        found = [
            {"targetType": "container-instance", "targetId": record.value.arn, **one}
            for record in self.instances.list(call.scope, f"{cluster}/")
            for one in record.value.attributes
            if input.get("attributeName") in (None, "", one["name"])
            and input.get("attributeValue") in (None, "", one.get("value"))
        ]
        return page("attributes", found, input)

    def _target(self, scope: str, cluster: str, attribute: dict[str, Any], tx: Tx) -> ContainerInstance:
        instance = self._find(scope, cluster, attribute.get("targetId", ""), tx)
        if instance is None:
            raise AwsError("TargetNotFoundException", "Target not found.")
        return instance

    # Places

    def seats(self, scope: str, cluster: str, tx: Tx | None = None) -> list[Seat]:
        """The container instances of a cluster, with what is left of each."""
        records = self.instances.list(scope, f"{cluster}/", tx)
        if not records:
            return []
        tasks = [one.value for one in self.tasks.list(scope, f"{cluster}/", tx) if one.value.status != "STOPPED"]
        return [placement.seat_of(one.value, tasks) for one in records]

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
        provider = tasks[0].members.get("capacityProviderName") if tasks else None
        seats = [
            seat
            for seat in self.seats(scope, tasks[0].cluster if tasks else "", tx)
            if seat.instance.status == "ACTIVE" and (provider is None or seat.instance.provider == provider)
        ]
        every = [*definition.members["placementConstraints"], *constraints]
        found: list[Task] = []
        lacks: list[Lack] = []
        for task in tasks:
            need = placement.need_of(definition.members, task.members.get("overrides", {}))
            seat, why = placement.choose(need, seats, every, strategy, task.members.get("group", ""))
            if seat is None:
                lacks += why
            else:
                found.append(placement.put(task, need, seat))
        return found, lacks, len(seats)

    def daemons_wanted(self, scope: str, cluster: str, service: Service, tx: Tx | None = None) -> int:
        """How many instances a daemon should run on."""
        tests = [
            query.parse(one["expression"])
            for one in service.members.get("placementConstraints", ())
            if one.get("type") == "memberOf"
        ]
        return sum(
            seat.instance.status == "ACTIVE" and seat.instance.connected and all(test(seat.facts()) for test in tests)
            for seat in self.seats(scope, cluster, tx)
        )

    async def publish(self, scope: str, task: Task, pod: PodState) -> tuple[tuple[int, str, int, str], ...]:
        """Have a task's ports answer at its instance's address. Raises CannotStart."""
        ec2: Any = await self.cloud.service("ec2")
        forwards = [(host, protocol, pod.address, port) for port, host, protocol in task.bindings]
        await ec2.machines.forward(task.host, task.id, forwards)
        address = ec2.instance_address(*scope.split("/"), task.host)
        if not address:
            raise CannotStart(f"The instance {task.host} does not run.")
        return tuple((port, address, host, protocol) for port, host, protocol in task.bindings)

    async def unpublish(self, task: Task) -> None:
        """Take a task's ports back from its instance."""
        ec2: Any = await self.cloud.service("ec2")
        await ec2.machines.stop_forwarding(task.host, task.id)

    # What becomes of instances

    async def _watch(self) -> None:
        """Hear of instances that end, once."""
        if not self._watching:
            self._watching = True
            ec2: Any = await self.cloud.service("ec2")
            ec2.watch_instances(self._instance_changed)

    async def _instance_changed(self, scope: str, ec2_id: str, state: str) -> None:
        for record in self.instances.list(scope):
            instance = record.value
            if instance.ec2_id != ec2_id or state not in ("stopping", "shutting-down"):
                continue
            await self._end_tasks(scope, instance, "stopped" if state == "stopping" else "terminated")
            del self._hosts[ec2_id]
            if state == "shutting-down":
                await self._forget_instance(scope, instance)
            else:
                off = msgspec.structs.replace(instance, connected=False, version=instance.version + 1)
                await self.db.write(lambda tx, name=record.name, off=off: self.instances.put(tx, scope, name, off))  # type: ignore[misc]
                self._cluster_changed(scope, instance.cluster)

    async def _end_tasks(self, scope: str, instance: ContainerInstance, how: str) -> None:
        """Tasks end at once with their instance, whatever they wait for."""
        self._hosts.setdefault(instance.ec2_id, asyncio.Event()).set()
        tasks = self._tasks_on(scope, instance)
        ends = [self._ends.setdefault(task.id, asyncio.Event()) for task in tasks]
        for task in tasks:
            await self.order_stop(scope, task, "TerminationNotice", f"Host EC2 (instance {instance.ec2_id}) {how}.")
        if tasks:
            engine = await self.engine()
            names = [preparing.container_name(task, one.name) for task in tasks for one in task.containers]
            await asyncio.gather(*(engine.stop(name, 0) for name in names))
        try:
            async with asyncio.timeout(_LONGEST_END):
                for end in ends:
                    await end.wait()
        except TimeoutError:
            log.warning("tasks of %s take long to end", instance.ec2_id)

    def task_changed(self, scope: str, task: Task) -> None:
        super().task_changed(scope, task)
        if task.status == "STOPPED" and (end := self._ends.pop(task.id, None)) is not None:
            end.set()

    async def _drained(self, scope: str, task: Task) -> None:
        """Its last requests have been served, or its instance ends."""
        end = self._hosts.setdefault(task.host, asyncio.Event()) if task.host else None
        if end is None:
            await super()._drained(scope, task)
            return
        waits = [asyncio.ensure_future(super()._drained(scope, task)), asyncio.ensure_future(end.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    async def _forget_instance(self, scope: str, instance: ContainerInstance) -> None:
        await self.db.write(lambda tx: self.instances.delete(tx, scope, f"{instance.cluster}/{instance.id}"))
        self._cluster_changed(scope, instance.cluster)

    def _cluster_changed(self, scope: str, cluster: str) -> None:
        """Services may find places now, or lose them."""
        for record in self.services.list(scope, f"{cluster}/"):
            if record.value.status == "ACTIVE":
                self.look_after(scope, record.name)

    # Parts

    def _find(self, scope: str, cluster: str, identifier: str, tx: Tx | None = None) -> ContainerInstance | None:
        record = self.instances.get(scope, f"{cluster}/{last(identifier)}", tx)
        return record.value if record is not None else None

    def _instance(self, scope: str, cluster: str, identifier: str) -> ContainerInstance:
        found = self._find(scope, cluster, identifier)
        if found is None:
            raise client_error("Referenced container instance was not found.")
        return found

    def _tasks_on(self, scope: str, instance: ContainerInstance, tx: Tx | None = None) -> list[Task]:
        return [
            one.value
            for one in self.tasks.list(scope, f"{instance.cluster}/", tx)
            if one.value.instance == instance.id and one.value.status != "STOPPED"
        ]

    async def _described_by_ec2(self, call: Call, ec2_id: str) -> dict[str, Any]:
        try:
            found = await self._ask(call.scope, "ec2", "DescribeInstances", {"InstanceIds": [ec2_id]})
        except AwsError as error:
            raise client_error(f"Instance identity document is invalid: {error.message}") from None
        facts: dict[str, Any] = found["Reservations"][0]["Instances"][0]
        if facts["State"]["Name"] in ("shutting-down", "terminated"):
            raise client_error(f"Instance identity document is invalid: the instance '{ec2_id}' has ended.")
        return facts

    async def _type(self, call: Call, name: str) -> dict[str, Any]:
        found = await self._ask(call.scope, "ec2", "DescribeInstanceTypes", {"InstanceTypes": [name]})
        facts: dict[str, Any] = found["InstanceTypes"][0]
        return facts

    async def _provider_of(self, call: Call, cluster: str, ec2_id: str) -> str:
        """The capacity provider of the cluster whose Auto Scaling group an instance is in, or nothing."""
        record = self.clusters.get(call.scope, cluster)
        names = record.value.members.get("capacityProviders", ()) if record is not None else ()
        groups = {}
        for name in names:
            provider = self.providers.get(call.scope, last(name))
            if provider is not None:
                arn = provider.value.members["autoScalingGroupProvider"]["autoScalingGroupArn"]
                groups[arn.rpartition("/")[2]] = last(name)
        if not groups:
            return ""
        found = await self._ask(call.scope, "autoscaling", "DescribeAutoScalingInstances", {"InstanceIds": [ec2_id]})
        return next((groups.get(one["AutoScalingGroupName"], "") for one in found["AutoScalingInstances"]), "")

    def _described_instance(self, scope: str, instance: ContainerInstance, with_tags: bool) -> dict[str, Any]:
        tasks = self._tasks_on(scope, instance)
        seat = placement.seat_of(instance, tasks)
        return {
            "containerInstanceArn": instance.arn,
            "ec2InstanceId": instance.ec2_id,
            **({"capacityProviderName": instance.provider} if instance.provider else {}),
            "version": instance.version,
            "versionInfo": instance.version_info,
            "remainingResources": _resources(seat.cpu, seat.memory, seat.taken),
            "registeredResources": _resources(
                instance.cpu,
                instance.memory,
                {(int(one), "tcp") for one in instance.ports} | {(int(one), "udp") for one in instance.ports_udp},
            ),
            "status": instance.status,
            "agentConnected": instance.connected,
            "runningTasksCount": sum(task.status == "RUNNING" for task in tasks),
            "pendingTasksCount": sum(task.status in ON_THE_WAY for task in tasks),
            "attributes": instance.attributes,
            "registeredAt": instance.registered_at,
            "attachments": [],
            "tags": to_tags(instance.tags) if with_tags else [],
        }


def _resources(cpu: int, memory: int, taken: set[tuple[int, str]]) -> list[dict[str, Any]]:
    def number(name: str, value: int) -> dict[str, Any]:
        return {"name": name, "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": value}

    def ports(name: str, protocol: str) -> dict[str, Any]:
        values = [str(port) for port, one in sorted(taken) if one == protocol]
        made = {"name": name, "type": "STRINGSET", "doubleValue": 0.0, "longValue": 0, "integerValue": 0}
        return {**made, "stringSetValue": values}

    return [number("CPU", cpu), number("MEMORY", memory), ports("PORTS", "tcp"), ports("PORTS_UDP", "udp")]


def _attributes(facts: dict[str, Any]) -> dict[str, str]:
    """What the agent tells of its instance."""
    made = {f"com.amazonaws.ecs.capability.{name}": "" for name in _CAPABILITIES}
    made |= {f"ecs.capability.{name}": "" for name in _ECS_CAPABILITIES}
    return made | {
        "ecs.ami-id": facts["ImageId"],
        "ecs.availability-zone": facts["Placement"]["AvailabilityZone"],
        "ecs.cpu-architecture": facts["Architecture"],
        "ecs.instance-type": facts["InstanceType"],
        "ecs.os-family": "LINUX",
        "ecs.os-type": "linux",
        "ecs.subnet-id": facts.get("SubnetId", ""),
        "ecs.vpc-id": facts.get("VpcId", ""),
    }
