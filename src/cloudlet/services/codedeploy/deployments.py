"""Deployments: made, shown, stopped and let go. How they are carried out is in ``running.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.codedeploy import appspec, course
from cloudlet.services.codedeploy.base import few, new_deployment_id, page
from cloudlet.services.codedeploy.errors import Failure
from cloudlet.services.codedeploy.records import Deployment, Ending, Event
from cloudlet.services.codedeploy.revisions import checked_location
from cloudlet.services.codedeploy.running import Running
from cloudlet.store import Tx

_REMEMBERED = 1000  # deployments of a group
_OF_INSTANCES = ("targetInstances", "updateOutdatedInstancesOnly", "ec2DeploymentOptions")


class Deployments(Running):
    """The operations on them."""

    async def CreateDeployment(self, call: Call, input: Input) -> Output:
        application = self.application(call, input["applicationName"])
        self.group(call, input["applicationName"], input.get("deploymentGroupName", ""))
        if application.platform == "Server":
            raise not_implemented("CreateDeployment on the Server compute platform, which needs the CodeDeploy agent")
        for member in _OF_INSTANCES:
            if input.get(member):
                words = f"{member} cannot be specified for the {application.platform} compute platform."
                raise AwsError("InvalidInputException", words)
        if "revision" not in input:
            raise AwsError("RevisionRequiredException", "Revision is required")
        location = checked_location(input["revision"])
        if content := (location.get("string") or location.get("appSpecContent") or {}).get("content"):
            try:
                appspec.parse(content, application.platform)
            except Failure as failure:
                raise AwsError("InvalidRevisionException", failure.message) from None
        return {"deploymentId": await self.begin(call, application.platform, location, input)}

    async def begin(self, call: Call, platform: str, location: dict[str, Any], input: Input, external: str = "") -> str:
        """Make a deployment and carry it out from here on; ``external`` is what it is made for. Its id."""
        id, now = new_deployment_id(), self.clock.now()
        name, place = input["applicationName"], f"{input['applicationName']}/{input['deploymentGroupName']}"

        def work(tx: Tx) -> None:
            group = self.group(call, name, input["deploymentGroupName"], tx)
            of_group = [one for one in self.deployments.list(call.scope, tx=tx) if one.value.place == place]
            if active := next((one for one in of_group if not one.value.is_over), None):
                words = (
                    f"The Deployment Group '{input['deploymentGroupName']}' already has an active Deployment "
                    f"'{active.name}'"
                )
                raise AwsError("DeploymentLimitExceededException", words)
            config = self.config(call, input.get("deploymentConfigName") or group.members["deploymentConfigName"], tx)
            if config["computePlatform"] != platform:
                words = f"The deployment configuration is not for the compute platform {platform}."
                raise AwsError("InvalidDeploymentConfigNameException", words)
            overrides = {"autoRollbackConfiguration": "autoRollbackConfiguration"}
            overrides |= {"overrideAlarmConfiguration": "alarmConfiguration"}
            settings = group.members | {to: input[of] for of, to in overrides.items() if of in input}
            made = Deployment(
                id=id,
                application=name,
                group=input["deploymentGroupName"],
                platform=platform,
                config=config["deploymentConfigName"],
                routing=config["trafficRoutingConfig"],
                revision=location,
                settings=settings,
                created=now,
                updated=now,
                description=input.get("description", ""),
                external=external,
                previous=group.revision,
                events=course.events_of(platform, _has_test(settings)),
            )
            self.deployments.put(tx, call.scope, id, made)
            self.groups.put(tx, call.scope, place, replace(group, last_attempt=id))
            self.use_revision(tx, call.scope, name, location, input["deploymentGroupName"])
            for old in sorted(of_group, key=lambda one: -one.value.created)[_REMEMBERED:]:
                self.deployments.delete(tx, call.scope, old.name)

        await self.db.write(work)
        self.take_up(call.scope, id)
        return id

    async def GetDeployment(self, call: Call, input: Input) -> Output:
        return {"deploymentInfo": _shown(self.deployment(call, input["deploymentId"]))}

    async def BatchGetDeployments(self, call: Call, input: Input) -> Output:
        records = [self.deployments.get(call.scope, id) for id in few(input["deploymentIds"], 25)]
        return {"deploymentsInfo": [_shown(record.value) for record in records if record is not None]}

    async def ListDeployments(self, call: Call, input: Input) -> Output:
        application, group = input.get("applicationName", ""), input.get("deploymentGroupName", "")
        if application and not group:
            raise AwsError("DeploymentGroupNameRequiredException", "Deployment Group name is missing")
        if group and not application:
            raise AwsError("ApplicationNameRequiredException", "Application name is missing")
        if application:
            self.group(call, application, group)
        among, made = input.get("includeOnlyStatuses") or (), input.get("createTimeRange") or {}
        found = [
            record.name
            for record in self.deployments_of(call.scope, application, group)
            if (not among or record.value.status in among)
            and ("externalId" not in input or record.value.external == input["externalId"])
            and made.get("start", 0.0) <= record.value.created <= made.get("end", float("inf"))
        ]
        return page("deployments", found, input)

    async def StopDeployment(self, call: Call, input: Input) -> Output:
        ending = Ending(
            "Stopped",
            "MANUAL_STOP",
            "The deployment was stopped by a user.",
            "DEPLOYMENT_STOP_ON_REQUEST",
            input.get("autoRollbackEnabled"),
        )
        await self._change_active(call, input["deploymentId"], lambda one: replace(one, ending=one.ending or ending))
        words = "No more commands will be scheduled for execution in the deployment instances"
        return {"status": "Succeeded", "statusMessage": words}

    async def ContinueDeployment(self, call: Call, input: Input) -> Output:
        kind = input.get("deploymentWaitType", "READY_WAIT")

        def go_on(one: Deployment) -> Deployment:
            if kind == "TERMINATION_WAIT" and one.retiring_since:
                return replace(one, is_retired=True)
            if kind == "READY_WAIT" and one.status == "Ready":
                return replace(one, is_let_go=True)
            words = f"The deployment {one.id} is not waiting for {kind}."
            raise AwsError("DeploymentIsNotInReadyStateException", words)

        await self._change_active(call, input.get("deploymentId", ""), go_on)
        return {}

    async def SkipWaitTimeForInstanceTermination(self, call: Call, input: Input) -> Output:
        return await self.ContinueDeployment(call, {**input, "deploymentWaitType": "TERMINATION_WAIT"})

    async def PutLifecycleEventHookExecutionStatus(self, call: Call, input: Input) -> Output:
        id, status = input.get("lifecycleEventHookExecutionId", ""), input.get("status", "")
        if status not in ("Succeeded", "Failed"):
            words = f"The status of a lifecycle event hook must be Succeeded or Failed, not {status}."
            raise AwsError("InvalidLifecycleEventHookExecutionStatusException", words)
        now = self.clock.now()

        def answer(one: Deployment) -> Deployment:
            event = _asked(one, id)
            if event.status != "InProgress":
                raise AwsError("LifecycleEventAlreadyCompletedException", "The lifecycle event is already completed.")
            one = course.ended(one, event.name, now, status)
            return one if status == "Succeeded" or one.ending else replace(one, ending=_HOOK_FAILED)

        _asked(self.deployment(call, input.get("deploymentId", "")), id)
        await self._change_active(call, input["deploymentId"], answer, "LifecycleEventAlreadyCompletedException")
        return {"lifecycleEventHookExecutionId": id}

    # Targets

    async def ListDeploymentTargets(self, call: Call, input: Input) -> Output:
        one = self.deployment(call, input["deploymentId"])
        among = (input.get("targetFilters") or {}).get("TargetStatus")
        ids = [target_id(one)] if one.target and (not among or _target_status(one) in among) else []
        return page("targetIds", ids, input)

    async def GetDeploymentTarget(self, call: Call, input: Input) -> Output:
        return {"deploymentTarget": await self._target(call, input["deploymentId"], input["targetId"])}

    async def BatchGetDeploymentTargets(self, call: Call, input: Input) -> Output:
        if len(input["targetIds"]) > 25:
            raise AwsError("DeploymentTargetListSizeExceededException", "At most 25 targets may be asked for.")
        found = [await self._target(call, input["deploymentId"], id) for id in input["targetIds"]]
        return {"deploymentTargets": found}

    async def _target(self, call: Call, id: str, target: str) -> dict[str, Any]:
        one = self.deployment(call, id)
        if not one.target:
            raise AwsError("DeploymentNotStartedException", f"The deployment {id} has not started.")
        if target != target_id(one):
            words = f"The target {target} does not exist in the deployment {id}."
            raise AwsError("DeploymentTargetDoesNotExistException", words)
        shown = {
            "deploymentId": id,
            "targetId": target,
            "status": _target_status(one),
            "lastUpdatedAt": one.updated,
            "lifecycleEvents": [_shown_event(event) for event in one.events],
            **self.platform(one).described(call.scope, one, await self.sets_of(call.scope, one)),
        }
        kind = "lambdaTarget" if one.platform == "Lambda" else "ecsTarget"
        return {"deploymentTargetType": f"{one.platform}Target", kind: shown}

    async def _change_active(
        self,
        call: Call,
        id: str,
        change: Callable[[Deployment], Deployment],
        over: str = "DeploymentAlreadyCompletedException",
    ) -> None:
        """Change a deployment that is under way and see what follows; raises ``over`` for any other."""

        def work(tx: Tx) -> None:
            one = self.deployment(call, id, tx)
            if one.is_over:
                raise AwsError(over, f"The deployment {id} is already completed.")
            self.deployments.put(tx, call.scope, id, replace(change(one), updated=self.clock.now()))

        await self.db.write(work)
        self.nudge(id)


_HOOK_FAILED = Ending(
    "Failed",
    "HOOK_EXECUTION_FAILURE",
    "The deployment failed because one or more of the lifecycle event validation functions failed.",
    "DEPLOYMENT_FAILURE",
)


def target_id(one: Deployment) -> str:
    """The id of the one thing that is deployed to."""
    if one.platform == "Lambda":
        return f"{one.target['Name']}:{one.target['Alias']}"
    service = one.settings["ecsServices"][0]
    return f"{service.get('clusterName', 'default')}:{service['serviceName']}"


def _asked(one: Deployment, hook: str) -> Event:
    found = next((event for event in one.events if event.hook and event.hook == hook), None)
    if found is None:
        words = f"The lifecycle event hook execution ID is not one of the deployment {one.id}."
        raise AwsError("InvalidLifecycleEventHookExecutionIdException", words)
    return found


def _has_test(settings: dict[str, Any]) -> bool:
    pairs = (settings.get("loadBalancerInfo") or {}).get("targetGroupPairInfoList") or [{}]
    return bool((pairs[0].get("testTrafficRoute") or {}).get("listenerArns"))


def _target_status(one: Deployment) -> str:
    return {"Created": "Pending", "Stopped": "Failed"}.get(one.status, one.status)


def _shown_event(event: Event) -> dict[str, Any]:
    shown: dict[str, Any] = {"lifecycleEventName": event.name, "status": event.status}
    if event.message:
        shown["diagnostics"] = {"errorCode": "UnknownError", "message": event.message}
    times = {"startTime": event.started, "endTime": event.ended}
    return shown | {key: when for key, when in times.items() if when}


def _shown(one: Deployment) -> dict[str, Any]:
    rolls = one.settings.get("autoRollbackConfiguration")
    times = {"startTime": one.started, "completeTime": one.finished}
    kept = ("blueGreenDeploymentConfiguration", "loadBalancerInfo", "deploymentStyle")
    optional = {
        "revision": one.revision,
        "description": one.description,
        "externalId": one.external,
        "previousRevision": one.previous,
        "errorInformation": one.error,
        "rollbackInfo": one.rollback,
        "autoRollbackConfiguration": rolls,
    }
    return {
        "applicationName": one.application,
        "deploymentGroupName": one.group,
        "deploymentConfigName": one.config,
        "deploymentId": one.id,
        "status": one.status,
        "createTime": one.created,
        "creator": one.creator,
        "ignoreApplicationStopFailures": False,
        "updateOutdatedInstancesOnly": False,
        "instanceTerminationWaitTimeStarted": bool(one.retiring_since),
        "fileExistsBehavior": "DISALLOW",
        "deploymentStatusMessages": [],
        "computePlatform": one.platform,
        **{key: when for key, when in times.items() if when},
        **{key: one.settings[key] for key in kept if key in one.settings},
        **{key: value for key, value in optional.items() if value},
    }
