"""Services: how many tasks of what there should be. Keeping them so is in ``keeping.py``."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.errors import not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs import admission, strategies, validation
from cloudlet.services.ecs.base import from_tags, invalid, last, page, to_tags
from cloudlet.services.ecs.controller import deploy, desired_count, has_task_sets, new_deployment_id, wanted
from cloudlet.services.ecs.describing import described_deployment, task_counts
from cloudlet.services.ecs.records import (
    ON_THE_WAY,
    Deployment,
    Service,
    TaskDefinition,
)
from cloudlet.services.ecs.tasks import Tasks
from cloudlet.store import Tx

# What tasks of a deployment are started with: members of the service that a new deployment takes over.
SETTINGS = (
    "launchType",
    "capacityProviderStrategy",
    "platformVersion",
    "platformFamily",
    "networkConfiguration",
    "loadBalancers",
    "serviceRegistries",
    "serviceConnectConfiguration",
    "serviceConnectResources",
    "serviceConnectNamespace",  # its name, which certificates are for; never shown
)
_AS_GIVEN = (
    "serviceName",
    "loadBalancers",
    "serviceRegistries",
    "networkConfiguration",
    "placementConstraints",
    "placementStrategy",
    "healthCheckGracePeriodSeconds",
    "enableExecuteCommand",
    "enableECSManagedTags",
    "propagateTags",
    "availabilityZoneRebalancing",
)
_WHOLE = 100.0  # per cent of the desired count
_NOT_HERE = ("vpcLatticeConfigurations", "gatewayConnectors", "volumeConfigurations", "monitoring")


class Services(Tasks):
    """Operations on services."""

    async def CreateService(self, call: Call, input: Input) -> Output:
        self._refuse(call, input)
        name = self.checked_name(input["serviceName"], "Service")
        cluster = self.cluster(call, input)
        launch = self.launch_of(call.scope, cluster, input)
        definition = self._definition_to_create(call, input, launch["kind"])
        members = self._new_members(call, input, launch)
        await self._check_traffic(call, members, members, definition)
        if definition is not None:
            members |= await self.connect_members(call, cluster, name, input, definition.members)
        now = self.clock.now()
        made = Service(members, now, input.get("desiredCount", 0), tags=from_tags(input.get("tags")))
        if definition is not None and has_task_sets(made):
            first = self._new_deployment(made, definition, now)
            made = msgspec.structs.replace(made, deployments=(msgspec.structs.replace(first, scale=_WHOLE),))
            made.members["taskDefinition"] = first.task_definition
        elif definition is not None:
            made = deploy(made, self._new_deployment(made, definition, now), now)

        def work(tx: Tx) -> Service:
            self.cluster(call, input, tx)
            known = self.services.get(call.scope, f"{cluster}/{name}", tx)
            if known is not None and known.value.status != "INACTIVE":
                if known.value.status == "DRAINING":
                    raise invalid("Unable to Start a service that is still Draining.")
                if msgspec.structs.replace(made, **_moments(known.value)) == known.value:
                    return known.value
                raise invalid("Creation of service was not idempotent.")
            self.put_service(tx, call.scope, f"{cluster}/{name}", made)
            return made

        await self.db.write(work)
        self.look_after(call.scope, f"{cluster}/{name}")
        return {"service": self._described(call.scope, cluster, name, True)}

    async def UpdateService(self, call: Call, input: Input) -> Output:
        self._refuse(call, input)
        cluster = self.cluster(call, input)
        name = last(input["service"])
        old = self.service(call, cluster, name)
        controller = old.members["deploymentController"]
        if input.get("deploymentController", controller) != controller:
            raise not_implemented("UpdateService with another deploymentController")
        is_external = has_task_sets(old)
        if is_external:
            admission.check_update(controller["type"], input)
        kind = "FARGATE" if "platformVersion" in old.members else "EC2"
        balancers = input.get("loadBalancers", old.members["loadBalancers"])
        admission.check({**input, "loadBalancers": balancers}, kind, old.members["schedulingStrategy"])
        definition = None
        if not is_external:
            primary = old.primary
            assert primary is not None
            identifier = input.get("taskDefinition") or primary.task_definition
            definition = (
                self.usable_definition(call.scope, identifier)
                if "taskDefinition" in input
                else self.definition(call.scope, identifier)
            )
        changes = self._changes(call, cluster, old, input)
        if definition is not None:
            members = {**old.members, **changes}
            kind = "FARGATE" if "platformVersion" in members else "EC2"
            validation.check_fits(definition.members, kind, members.get("networkConfiguration"))
            admission.check_containers(definition, members)
        await self._check_traffic(call, changes, {**old.members, **changes}, definition)
        if definition is not None:
            changes |= await self.connect_members(call, cluster, name, input, definition.members)
        now = self.clock.now()

        def work(tx: Tx) -> None:
            service = self.service(call, cluster, name, tx)
            members = {**service.members, **changes}
            if "capacityProviderStrategy" in changes:
                members.pop("launchType", None)
            made = msgspec.structs.replace(
                service, members=members, desired=input.get("desiredCount", service.desired), steady=False
            )
            if definition is not None and service.primary is not None:
                new = self._new_deployment(made, definition, now)
                before = service.primary
                if (
                    input.get("forceNewDeployment")
                    or new.task_definition != before.task_definition
                    or new.settings != before.settings
                ):
                    made = deploy(made, new, now)
            self.put_service(tx, call.scope, f"{cluster}/{name}", made)

        await self.db.write(work)
        self.look_after(call.scope, f"{cluster}/{name}")
        return {"service": self._described(call.scope, cluster, name, True)}

    def _changes(self, call: Call, cluster: str, old: Service, input: Input) -> dict[str, Any]:
        """The members that UpdateService changes, as they are to be."""
        changes = {key: input[key] for key in _AS_GIVEN if key in input}
        if "deploymentConfiguration" in input:
            merged = strategies.merged(old.members["deploymentConfiguration"], input["deploymentConfiguration"])
            changes["deploymentConfiguration"] = strategies.configuration(merged, old.members["schedulingStrategy"])
        if "capacityProviderStrategy" in input or "platformVersion" in input:
            ask: Input = {key: input[key] for key in ("capacityProviderStrategy", "platformVersion") if key in input}
            if "capacityProviderStrategy" not in ask:
                for key in ("launchType", "capacityProviderStrategy"):
                    if key in old.members:
                        ask[key] = old.members[key]
            changes |= launch_members(self.launch_of(call.scope, cluster, ask))
        return changes

    async def DeleteService(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        name = last(input["service"])

        def work(tx: Tx) -> None:
            service = self.service(call, cluster, name, tx)
            is_daemon = service.members["schedulingStrategy"] == "DAEMON"
            if not input.get("force") and not is_daemon:
                if service.desired > 0:
                    raise invalid("The service cannot be stopped while it is scaled above 0.")
                own = (
                    service.members["deploymentController"]["type"] == "CODE_DEPLOY"
                )  # its one task set is the service
                if has_task_sets(service) and len(service.deployments) > own:
                    raise invalid("The service cannot be stopped while deployments are active.")
            made = msgspec.structs.replace(service, status="DRAINING", desired=0, steady=False, current=None)
            self.put_service(tx, call.scope, f"{cluster}/{name}", made)

        await self.db.write(work)
        self.look_after(call.scope, f"{cluster}/{name}")
        return {"service": self._described(call.scope, cluster, name, True)}

    async def DescribeServices(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        if not input["services"]:
            raise invalid("Services cannot be empty.")
        if len(input["services"]) > 10:
            raise invalid("Services cannot have more than 10 elements.")
        found, failures = [], []
        for identifier in input["services"]:
            name = last(identifier)
            if self.services.get(call.scope, f"{cluster}/{name}") is None:
                arn = self.arn(call.scope, "service", f"{cluster}/{name}")
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                found.append(self._described(call.scope, cluster, name, "TAGS" in (input.get("include") or ())))
        return {"services": found, "failures": failures}

    async def ListServices(self, call: Call, input: Input) -> Output:
        cluster = self.cluster(call, input)
        if input.get("resourceManagementType", "CUSTOMER") != "CUSTOMER":
            return {"serviceArns": []}
        found = [
            record.name
            for record in self.services.list(call.scope, f"{cluster}/")
            if record.value.status == "ACTIVE"
            and ("launchType" not in input or record.value.members.get("launchType") == input["launchType"])
            and (
                "schedulingStrategy" not in input
                or record.value.members["schedulingStrategy"] == input["schedulingStrategy"]
            )
        ]
        return page("serviceArns", [self.arn(call.scope, "service", name) for name in found], input, 10)

    # What the keeper carries out

    def look_after(self, scope: str, name: str) -> None:
        """Compare a service with its tasks soon."""
        raise NotImplementedError

    async def check_balancers(
        self, scope: str, balancers: list[dict[str, Any]], mode: str, may_be_alone: bool = False
    ) -> None:
        """Raises InvalidParameterException for a load balancer that tasks cannot be registered with."""
        raise NotImplementedError

    async def check_registries(self, registries: list[dict[str, Any]]) -> None:
        """Raises NotImplemented where Cloud Map is not there."""
        raise NotImplementedError

    async def connect_members(
        self, call: Call, cluster: str, name: str, input: Input, definition: dict[str, Any]
    ) -> dict[str, Any]:
        """The members of a service that Service Connect adds, checked."""
        raise NotImplementedError

    # Parts

    def _definition_to_create(self, call: Call, input: Input, launch: str) -> TaskDefinition | None:
        """The task definition of a new service; None for one whose task sets have theirs. Raises for what cannot be."""
        controller = (input.get("deploymentController") or {}).get("type", "ECS")
        strategy = input.get("schedulingStrategy", "REPLICA")
        admission.check(input, launch, strategy)
        if controller == "CODE_DEPLOY":
            admission.check_code_deploy(input, strategy)
        if strategy == "REPLICA" and "desiredCount" not in input and controller != "EXTERNAL":
            raise invalid("Desired count can not be empty for services with the REPLICA scheduling strategy.")
        if controller == "EXTERNAL":
            if "taskDefinition" in input:
                raise invalid("TaskDefinition must be blank.")
            return None
        if "taskDefinition" not in input:
            raise invalid("TaskDefinition can not be blank.")
        definition = self.usable_definition(call.scope, input["taskDefinition"])
        validation.check_fits(definition.members, launch, input.get("networkConfiguration"))
        admission.check_containers(definition, input)
        return definition

    def _new_members(self, call: Call, input: Input, launch: dict[str, Any]) -> dict[str, Any]:
        """What a new service keeps of what was asked for, with AWS's defaults."""
        scheduling = input.get("schedulingStrategy", "REPLICA")
        members = {
            "loadBalancers": [],
            "serviceRegistries": [],
            "placementConstraints": [],
            "placementStrategy": [],
            "enableECSManagedTags": False,
            "enableExecuteCommand": False,
            "propagateTags": "NONE",
            "availabilityZoneRebalancing": "DISABLED",
            **({"healthCheckGracePeriodSeconds": 0} if input.get("loadBalancers") else {}),
            **{key: input[key] for key in _AS_GIVEN if key in input},
            "schedulingStrategy": scheduling,
            "deploymentController": {"type": (input.get("deploymentController") or {}).get("type", "ECS")},
            "deploymentConfiguration": strategies.configuration(input.get("deploymentConfiguration") or {}, scheduling),
            **launch_members(launch),
            "createdBy": call.principal or f"arn:aws:iam::{call.account}:root",
        }
        if role := input.get("role"):
            members["roleArn"] = role if role.startswith("arn:") else f"arn:aws:iam::{call.account}:role/{role}"
        return members

    async def _check_traffic(
        self, call: Call, given: dict[str, Any], members: dict[str, Any], definition: TaskDefinition | None
    ) -> None:
        """That the networks, load balancers and registries that are given are there, and fit the service."""
        strategies.check_balancers(members["loadBalancers"], members["deploymentConfiguration"]["strategy"])
        await self.check_network(call, given.get("networkConfiguration"))
        if given.get("loadBalancers"):
            mode = definition.members["networkMode"] if definition is not None else ""
            await self.check_balancers(call.scope, given["loadBalancers"], mode)
        if given.get("serviceRegistries"):
            await self.check_registries(given["serviceRegistries"])

    def _refuse(self, call: Call, input: Input) -> None:
        """Name what is not here."""
        operation = call.operation or "CreateService"
        for name in _NOT_HERE:
            if input.get(name):
                raise not_implemented(f"{operation} with {name}")
        for balancer in input.get("loadBalancers") or ():
            if "loadBalancerName" in balancer:
                raise not_implemented(f"{operation} with a Classic Load Balancer")

    def _new_deployment(self, service: Service, definition: TaskDefinition, now: float) -> Deployment:
        settings = {key: service.members[key] for key in SETTINGS if key in service.members}
        return Deployment(
            id=new_deployment_id(),
            status="PRIMARY",
            task_definition=definition.members["taskDefinitionArn"],
            created=now,
            updated=now,
            settings=settings,
            reason="",
        )

    def _described(self, scope: str, cluster: str, name: str, with_tags: bool) -> dict[str, Any]:
        record = self.services.get(scope, f"{cluster}/{name}")
        assert record is not None
        service = record.value
        tasks = self.tasks_of(scope, cluster, name)
        is_external = has_task_sets(service)
        shown = [described_deployment(service, one, tasks) for one in service.deployments] if not is_external else []
        described = {
            "serviceArn": self.arn(scope, "service", f"{cluster}/{name}"),
            "clusterArn": self.arn(scope, "cluster", cluster),
            "status": service.status,
            "desiredCount": desired_count(service) if service.status == "ACTIVE" else 0,
            "runningCount": sum(task.status == "RUNNING" for task in tasks),
            "pendingCount": sum(task.status in ON_THE_WAY for task in tasks),
            "createdAt": service.created,
            "events": [{"id": id, "createdAt": when, "message": text} for id, when, text in service.events],
            "deployments": shown,
            "roleArn": f"arn:aws:iam::{scope.split('/')[0]}:role/aws-service-role/ecs.amazonaws.com/"
            "AWSServiceRoleForECS",
            **service.members,
        }
        if service.current is not None:
            number = service.current.number
            described["currentServiceDeployment"] = self.arn(scope, "service-deployment", f"{cluster}/{name}/{number}")
        if not is_external:
            described["currentServiceRevisions"] = [
                {"arn": self.revision_arn(scope, f"{cluster}/{name}", one.id), **task_counts(service, one.id, tasks)}
                for one in service.deployments
            ]
        if is_external:
            described["taskSets"] = [
                self.described_task_set(scope, cluster, service, one) for one in service.deployments
            ]
        if with_tags:
            described["tags"] = to_tags(service.tags)
        return described

    def described_task_set(self, scope: str, cluster: str, service: Service, one: Deployment) -> dict[str, Any]:
        """A deployment as the task set that it is."""
        name = service.members["serviceName"]
        tasks = [task for task in self.tasks_of(scope, cluster, name) if task.deployment == one.id]
        running = sum(task.status == "RUNNING" for task in tasks)
        count = wanted(service, one)
        active = [task for task in tasks if task.is_active]
        is_steady = len(active) == count == sum(task.ready for task in active)
        return {
            "id": one.id,
            "taskSetArn": self.arn(scope, "task-set", f"{cluster}/{name}/{one.id}"),
            "serviceArn": self.arn(scope, "service", f"{cluster}/{name}"),
            "clusterArn": self.arn(scope, "cluster", cluster),
            "status": one.status,
            "taskDefinition": one.task_definition,
            "computedDesiredCount": count,
            "pendingCount": sum(task.status in ON_THE_WAY for task in tasks),
            "runningCount": running,
            "createdAt": one.created,
            "updatedAt": one.updated,
            "scale": {"value": one.scale or 0.0, "unit": "PERCENT"},
            "stabilityStatus": "STEADY_STATE" if is_steady else "STABILIZING",
            "stabilityStatusAt": one.updated,
            **one.settings,
            **{key: value for key, value in one.task_set.items() if key != "clientToken"},
        }


def launch_members(launch: dict[str, Any]) -> dict[str, Any]:
    members = dict(launch["members"])
    members.pop("capacityProviderName", None)
    if launch["strategy"]:
        members.pop("launchType", None)
        members["capacityProviderStrategy"] = launch["strategy"]
    return members


def _moments(service: Service) -> dict[str, Any]:
    """What differs between two services that were asked for with the same words."""
    return {
        "created": service.created,
        "deployments": service.deployments,
        "events": service.events,
        "steady": service.steady,
        "last_good": service.last_good,
        "current": service.current,
        "status": service.status,
    }
