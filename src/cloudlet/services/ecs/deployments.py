"""Service deployments and revisions: what has been, is and will be deployed of a service; stopped and continued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ecs import hooks, shifting
from cloudlet.services.ecs.base import client_error, invalid, last, page
from cloudlet.services.ecs.controller import desired_count, threshold
from cloudlet.services.ecs.describing import task_counts
from cloudlet.services.ecs.records import Service, ServiceDeployment, ServiceRevision, Task
from cloudlet.services.ecs.services import Services
from cloudlet.store import Tx

_MOST = 20  # ARNs of one request
_BRIEF = (
    "serviceDeploymentArn",
    "serviceArn",
    "clusterArn",
    "startedAt",
    "createdAt",
    "finishedAt",
    "targetServiceRevisionArn",
    "status",
    "statusReason",
)
_AS_SET = (
    "capacityProviderStrategy",
    "launchType",
    "platformVersion",
    "platformFamily",
    "loadBalancers",
    "serviceRegistries",
    "networkConfiguration",
    "serviceConnectConfiguration",
)


class Deployments(Services):
    """Operations on the deployments of services whose controller is ECS."""

    async def ListServiceDeployments(self, call: Call, input: Input) -> Output:
        cluster, service = self.cluster(call, input), last(input["service"])
        name = f"{cluster}/{service}"
        record = self.services.get(call.scope, name)
        if record is None:
            raise AwsError("ServiceNotFoundException", "Service not found.")
        made = input.get("createdAt") or {}
        found = [
            one
            for one in self._deployments_of(call.scope, name)
            if (not input.get("status") or one.status in input["status"])
            and made.get("after", 0.0) <= one.created
            and one.created < made.get("before", float("inf"))
        ]
        shown = [self._described_service_deployment(call.scope, name, record.value, one) for one in found]
        brief = [{key: one[key] for key in _BRIEF if key in one} for one in shown]
        return page("serviceDeployments", brief, input, _MOST)

    async def DescribeServiceDeployments(self, call: Call, input: Input) -> Output:
        found, failures = [], []
        for arn in _few(input["serviceDeploymentArns"], "serviceDeploymentArns"):
            name, number = _parts(arn, "service-deployment")
            service = self.services.get(call.scope, name)
            record = self.deployments.get(call.scope, f"{name}/{number}") if number else None
            if service is None or record is None:
                failures.append({"arn": arn, "reason": "MISSING"})
                continue
            shown = self._described_service_deployment(call.scope, name, service.value, record.value)
            shown.pop("targetServiceRevisionArn")
            found.append(shown)
        return {"serviceDeployments": found, "failures": failures}

    async def DescribeServiceRevisions(self, call: Call, input: Input) -> Output:
        found, failures = [], []
        for arn in _few(input["serviceRevisionArns"], "serviceRevisionArns"):
            name, number = _parts(arn, "service-revision")
            record = self.revisions.get(call.scope, f"{name}/{number}") if number else None
            if record is None:
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                found.append(self._described_revision(call.scope, name, record.value))
        return {"serviceRevisions": found, "failures": failures}

    async def StopServiceDeployment(self, call: Call, input: Input) -> Output:
        status = "STOP_REQUESTED" if input.get("stopType") == "ABORT" else "ROLLBACK_REQUESTED"
        now = self.clock.now()

        def stop(one: ServiceDeployment) -> ServiceDeployment:
            if one.status != "IN_PROGRESS":
                raise AwsError("ConflictException", _over(one))
            return msgspec.structs.replace(one, status=status, updated=now)

        return await self._change_current(call, input["serviceDeploymentArn"], stop, "ConflictException")

    async def ContinueServiceDeployment(self, call: Call, input: Input) -> Output:
        now, goes_on = self.clock.now(), input.get("action", "CONTINUE") == "CONTINUE"
        answer = hooks.Answer("SUCCEEDED") if goes_on else hooks.Answer("FAILED", reason="A user said so.")

        def go_on(one: ServiceDeployment) -> ServiceDeployment:
            hook = hooks.find(one, input["hookId"])
            if hook is None or hook.status != "AWAITING_ACTION":
                raise invalid(f"The hook {input['hookId']} does not await an action.")
            return hooks.answered(one, hook.id, answer, now)

        return await self._change_current(call, input["serviceDeploymentArn"], go_on, "InvalidParameterException")

    async def _change_current(
        self, call: Call, arn: str, change: Callable[[ServiceDeployment], ServiceDeployment], over: str
    ) -> Output:
        """Change a deployment that is under way, else raise ``over``. Raises ServiceDeploymentNotFoundException."""
        name, number = _parts(arn, "service-deployment")

        def work(tx: Tx) -> None:
            record = self.deployments.get(call.scope, f"{name}/{number}", tx) if number else None
            service = self.services.get(call.scope, name, tx)
            if record is None or service is None:
                raise AwsError("ServiceDeploymentNotFoundException", "The service deployment was not found.")
            current = service.value.current
            if current is None or current.number != number:
                raise AwsError(over, _over(record.value))
            self.put_service(tx, call.scope, name, msgspec.structs.replace(service.value, current=change(current)))

        await self.db.write(work)
        self.look_after(call.scope, name)
        return {"serviceDeploymentArn": arn}

    # As the API shows them

    def _deployments_of(self, scope: str, name: str) -> list[ServiceDeployment]:
        """The deployments of a service that are remembered, newest first."""
        found = [record.value for record in self.deployments.list(scope, f"{name}/")]
        return sorted(found, key=lambda one: -one.created)

    def _described_service_deployment(
        self, scope: str, name: str, service: Service, one: ServiceDeployment
    ) -> dict[str, Any]:
        cluster, _, short = name.partition("/")
        tasks = self.tasks_of(scope, cluster, short)
        target = self.revision_arn(scope, name, one.target)
        weighs = shifting.shifts(one.configuration)
        share, test = (one.share, one.test) if weighs else (None, None)
        shown: dict[str, Any] = {
            "serviceDeploymentArn": self.arn(scope, "service-deployment", f"{name}/{one.number}"),
            "serviceArn": self.arn(scope, "service", name),
            "clusterArn": self.arn(scope, "cluster", cluster),
            "createdAt": one.created,
            "startedAt": one.created,
            "updatedAt": one.updated,
            "targetServiceRevisionArn": target,
            "targetServiceRevision": _summary(service, one.target, target, tasks, share, test),
            "sourceServiceRevisions": [
                _summary(
                    service,
                    source,
                    self.revision_arn(scope, name, source),
                    tasks,
                    None if share is None else 100 - share,
                    None if test is None else 100 - test,
                )
                for source in one.sources
            ],
            "status": one.status,
            "deploymentConfiguration": one.configuration,
            "deploymentCircuitBreaker": _circuit(service, one),
            "alarms": _alarms(one),
        }
        if one.status == "STOPPED":
            shown["stoppedAt"] = one.finished
        if one.finished:
            shown["finishedAt"] = one.finished
        if one.reason:
            shown["statusReason"] = one.reason
        if one.rollback:
            to = one.rollback["to"]
            shown["rollback"] = {key: one.rollback[key] for key in ("reason", "startedAt")}
            shown["rollback"]["serviceRevisionArn"] = self.revision_arn(scope, name, to)
        if one.stage and not one.is_over:
            shown["lifecycleStage"] = one.stage
            shown["lifecycleHookDetails"] = [hooks.shown(hook) for hook in one.hooks]
        return shown

    def _described_revision(self, scope: str, name: str, revision: ServiceRevision) -> dict[str, Any]:
        one = revision.deployment
        cluster, _, short = name.partition("/")
        definition = self.definition(scope, one.task_definition)
        digests = {
            container.name: container.digest
            for task in self.tasks_of(scope, cluster, short)
            if task.deployment == one.id
            for container in task.containers
            if container.digest
        } | revision.images
        images = [
            {
                "containerName": container["name"],
                "image": container["image"],
                **({"imageDigest": digests[container["name"]]} if container["name"] in digests else {}),
            }
            for container in (definition.containers if definition is not None else ())
        ]
        balancers = one.settings.get("loadBalancers", ())
        return {
            "serviceRevisionArn": self.revision_arn(scope, name, one.id),
            "serviceArn": self.arn(scope, "service", name),
            "clusterArn": self.arn(scope, "cluster", cluster),
            "taskDefinition": one.task_definition,
            "createdAt": one.created,
            "containerImages": images,
            "guardDutyEnabled": False,
            **{key: one.settings[key] for key in _AS_SET if key in one.settings},
            "resolvedConfiguration": {
                "loadBalancers": [
                    {"targetGroupArn": group, **_rule(balancer)}
                    for group, balancer in zip(one.groups, balancers, strict=False)
                ]
            },
        }


def _over(one: ServiceDeployment) -> str:
    return f"The service deployment is not in progress: it is {one.status}."


def _summary(
    service: Service, id: str, arn: str, tasks: list[Task], share: float | None, test: float | None
) -> dict[str, Any]:
    """How many tasks a revision has, and which per cent of the traffic where that is shifted."""
    return {
        "arn": arn,
        **task_counts(service, id, tasks),
        **({"requestedProductionTrafficWeight": share} if share is not None else {}),
        **({"requestedTestTrafficWeight": test} if test is not None else {}),
    }


def _circuit(service: Service, one: ServiceDeployment) -> dict[str, Any]:
    breaker = one.configuration.get("deploymentCircuitBreaker") or {}
    if not breaker.get("enable"):
        return {"status": "DISABLED", "failureCount": one.failures, "threshold": threshold({}, desired_count(service))}
    most = threshold(breaker, desired_count(service))
    return {"status": _monitor(one, one.failures >= most), "failureCount": one.failures, "threshold": most}


def _alarms(one: ServiceDeployment) -> dict[str, Any]:
    settings = one.configuration.get("alarms") or {}
    if not settings.get("enable"):
        return {"status": "DISABLED"}
    shown = {"status": _monitor(one, bool(one.alarms)), "alarmNames": settings.get("alarmNames", [])}
    return shown | ({"triggeredAlarmNames": list(one.alarms)} if one.alarms else {})


def _monitor(one: ServiceDeployment, is_triggered: bool) -> str:
    if is_triggered:
        return "TRIGGERED"
    return "MONITORING_COMPLETE" if one.is_over else "MONITORING"


def _rule(balancer: dict[str, Any]) -> dict[str, Any]:
    rule = balancer.get("advancedConfiguration", {}).get("productionListenerRule")
    return {"productionListenerRule": rule} if rule else {}


def _few(arns: list[str], member: str) -> list[str]:
    if not arns:
        raise invalid(f"{member} cannot be empty.")
    if len(arns) > _MOST:
        raise client_error(f"{member} can have at most {_MOST} items.")
    return arns


def _parts(arn: str, kind: str) -> tuple[str, str]:
    """The service's name in the store, and the number at the end of an ARN; nothing for any other ARN."""
    parts = arn.rpartition(":")[2].split("/")
    return ("/".join(parts[1:3]), parts[3]) if len(parts) == 4 and parts[0] == kind else ("", "")
