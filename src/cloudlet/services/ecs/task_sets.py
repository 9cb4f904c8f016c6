"""Task sets: the deployments of a service whose deployment controller is EXTERNAL, or CodeDeploy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs import validation
from cloudlet.services.ecs.admission import check_containers
from cloudlet.services.ecs.base import from_tags, invalid, last, to_tags
from cloudlet.services.ecs.controller import new_deployment_id
from cloudlet.services.ecs.deployments import Deployments
from cloudlet.services.ecs.records import Deployment, Service
from cloudlet.services.ecs.services import launch_members
from cloudlet.store import Tx

_MOST = 5  # task sets of a service
_TOKEN = "clientToken"
_OWNERS = {"EXTERNAL": "", "CODE_DEPLOY": "codedeploy.amazonaws.com"}  # who manages them; nobody in particular


class TaskSets(Deployments):
    """Operations on task sets."""

    async def CreateTaskSet(self, call: Call, input: Input) -> Output:
        cluster, name = self.cluster(call, input), last(input["service"])
        owner = _OWNERS.get(self.service(call, cluster, name).members["deploymentController"]["type"])
        if owner is None or owner not in ("", call.principal):
            raise invalid(
                "Amazon ECS only supports task set management on services configured to use external deployment "
                "controllers."
            )
        definition = self.usable_definition(call.scope, input["taskDefinition"])
        launch = self.launch_of(call.scope, cluster, input)
        validation.check_fits(definition.members, launch["kind"], input.get("networkConfiguration"))
        check_containers(definition, input)
        await self.check_network(call, input.get("networkConfiguration"))
        given = {
            key: input[key] for key in ("networkConfiguration", "loadBalancers", "serviceRegistries") if key in input
        }
        settings = given | launch_members(launch)
        for key in ("loadBalancers", "serviceRegistries"):
            settings.setdefault(key, [])
        if settings["loadBalancers"]:
            mode = definition.members["networkMode"]
            await self.check_balancers(call.scope, settings["loadBalancers"], mode, may_be_alone=bool(owner))
        if settings["serviceRegistries"]:
            await self.check_registries(settings["serviceRegistries"])
        now = self.clock.now()
        tags = to_tags(from_tags(input.get("tags")))
        made = Deployment(
            id=new_deployment_id(),
            status="ACTIVE",
            task_definition=definition.members["taskDefinitionArn"],
            created=now,
            updated=now,
            settings=settings,
            scale=_scale(input.get("scale")),
            task_set={
                **{key: input[key] for key in ("externalId", _TOKEN) if key in input},
                **({"tags": tags} if tags else {}),
            },
        )

        def known(service: Service) -> Deployment | None:
            token = input.get(_TOKEN)
            return next((one for one in service.deployments if token and one.task_set.get(_TOKEN) == token), None)

        def add(service: Service) -> Service:
            if known(service) is not None:
                return service
            if len(service.deployments) >= _MOST:
                raise invalid(
                    f"{_MOST} deployments exist on the service. Unable to create new TaskSet since this exceeds the "
                    "maximum limit."
                )
            return msgspec.structs.replace(service, deployments=(*service.deployments, made))

        service = await self._change_service(call, cluster, name, add)
        return {"taskSet": self.described_task_set(call.scope, cluster, service, known(service) or made)}

    async def DescribeTaskSets(self, call: Call, input: Input) -> Output:
        cluster, name = self.cluster(call, input), last(input["service"])
        service = self.service(call, cluster, name)
        asked = [_id(one) for one in input.get("taskSets") or ()]
        with_tags = "TAGS" in (input.get("include") or ())
        found = []
        for one in service.deployments:
            if one.scale is not None and (not asked or one.id in asked):
                shown = self.described_task_set(call.scope, cluster, service, one)
                if not with_tags:
                    shown.pop("tags", None)
                found.append(shown)
        known = {one.id for one in service.deployments}
        failures = [
            {"arn": self.arn(call.scope, "task-set", f"{cluster}/{name}/{id}"), "reason": "MISSING"}
            for id in asked
            if id not in known
        ]
        return {"taskSets": found, "failures": failures}

    async def UpdateTaskSet(self, call: Call, input: Input) -> Output:
        return await self._change_task_set(call, input, input["taskSet"], lambda one: {"scale": _scale(input["scale"])})

    async def UpdateServicePrimaryTaskSet(self, call: Call, input: Input) -> Output:
        cluster, name, id = self.cluster(call, input), last(input["service"]), _id(input["primaryTaskSet"])
        now = self.clock.now()

        def choose(service: Service) -> Service:
            new = msgspec.structs.replace(_one(service, id), status="PRIMARY", updated=now)
            every = tuple(
                new if one.id == id else msgspec.structs.replace(one, status="ACTIVE") for one in service.deployments
            )
            members = {**service.members, "taskDefinition": new.task_definition}
            for key in ("loadBalancers", "serviceRegistries", "networkConfiguration"):
                if key in new.settings:
                    members[key] = new.settings[key]
            return msgspec.structs.replace(service, members=members, deployments=every)

        service = await self._change_service(call, cluster, name, choose)
        return {"taskSet": self.described_task_set(call.scope, cluster, service, _one(service, id))}

    async def DeleteTaskSet(self, call: Call, input: Input) -> Output:
        cluster, name, id = self.cluster(call, input), last(input["service"]), _id(input["taskSet"])
        before = self.service(call, cluster, name)
        gone = _one(before, id)
        if gone.status == "PRIMARY" and not input.get("force"):
            raise invalid("The task set cannot be deleted while it is the primary task set.")

        def drop(service: Service) -> Service:
            _one(service, id)
            return msgspec.structs.replace(
                service, deployments=tuple(one for one in service.deployments if one.id != id)
            )

        service = await self._change_service(call, cluster, name, drop)
        return {"taskSet": {**self.described_task_set(call.scope, cluster, service, gone), "status": "DRAINING"}}

    async def _change_task_set(
        self, call: Call, input: Input, identifier: str, changes: Callable[[Deployment], dict[str, Any]]
    ) -> Output:
        cluster, name, id = self.cluster(call, input), last(input["service"]), _id(identifier)
        now = self.clock.now()

        def change(service: Service) -> Service:
            old = _one(service, id)
            new = msgspec.structs.replace(old, updated=now, **changes(old))
            return msgspec.structs.replace(
                service, deployments=tuple(new if one.id == id else one for one in service.deployments)
            )

        service = await self._change_service(call, cluster, name, change)
        return {"taskSet": self.described_task_set(call.scope, cluster, service, _one(service, id))}

    async def _change_service(
        self, call: Call, cluster: str, name: str, change: Callable[[Service], Service]
    ) -> Service:
        def work(tx: Tx) -> Service:
            made = change(self.service(call, cluster, name, tx))
            self.put_service(tx, call.scope, f"{cluster}/{name}", made)
            return made

        service = await self.db.write(work)
        self.look_after(call.scope, f"{cluster}/{name}")
        return service


def _id(identifier: str) -> str:
    """The id of a task set, which has a slash, from itself or from an ARN."""
    return "ecs-svc/" + last(identifier)


def _one(service: Service, id: str) -> Deployment:
    one = service.deployment(id)
    if one is not None:
        return one
    raise AwsError("TaskSetNotFoundException", "The specified task set does not exist.")


def _scale(scale: dict[str, Any] | None) -> float:
    value = float((scale or {}).get("value", 100.0))
    if not 0 <= value <= 100:
        raise invalid("The task set scale must be between 0 and 100.")
    return value
