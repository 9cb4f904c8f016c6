"""Deployment groups: what is deployed to, and how."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.codedeploy.applications import Applications
from cloudlet.services.codedeploy.base import SELF, checked, few, from_tags, new_id, page
from cloudlet.services.codedeploy.configs import DEFAULTS
from cloudlet.services.codedeploy.records import Group
from cloudlet.store import Tx

_MOST_ALARMS = 10
_SHIFTS = {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"}
_IN_PLACE = {"deploymentType": "IN_PLACE", "deploymentOption": "WITHOUT_TRAFFIC_CONTROL"}
_APART = ("tags", "currentDeploymentGroupName", "newDeploymentGroupName")
_OF_INSTANCES = ("ec2TagFilters", "onPremisesInstanceTagFilters", "autoScalingGroups", "ec2TagSet", "onPremisesTagSet")


class Groups(Applications):
    """The operations on them."""

    async def CreateDeploymentGroup(self, call: Call, input: Input) -> Output:
        application, name = input["applicationName"], checked(input["deploymentGroupName"], "DeploymentGroup")
        platform = self.application(call, application).platform
        members = _members(platform, {key: value for key, value in input.items() if key not in _APART})
        await self._check(call, platform, members)
        made = Group(new_id(), members, from_tags(input.get("tags")))

        def work(tx: Tx) -> None:
            self.application(call, application, tx)
            self._check_free(tx, call, application, name)
            self.groups.put(tx, call.scope, f"{application}/{name}", made)

        await self.db.write(work)
        return {"deploymentGroupId": made.id}

    async def UpdateDeploymentGroup(self, call: Call, input: Input) -> Output:
        application, old = input["applicationName"], input["currentDeploymentGroupName"]
        name = input.get("newDeploymentGroupName") or old
        platform = self.application(call, application).platform
        given = {key: value for key, value in input.items() if key not in _APART}
        changes = {**self.group(call, application, old).members, **given, "deploymentGroupName": name}
        members = _members(platform, changes)
        await self._check(call, platform, members)

        def work(tx: Tx) -> None:
            group = self.group(call, application, old, tx)
            if name != old:
                self._check_free(tx, call, application, checked(name, "DeploymentGroup"))
                self.groups.delete(tx, call.scope, f"{application}/{old}")
                for one in self.deployments.list(call.scope, tx=tx):
                    if one.value.place == f"{application}/{old}":
                        self.deployments.put(tx, call.scope, one.name, replace(one.value, group=name))
            self.groups.put(tx, call.scope, f"{application}/{name}", replace(group, members=members))

        await self.db.write(work)
        return {"hooksNotCleanedUp": []}

    async def DeleteDeploymentGroup(self, call: Call, input: Input) -> Output:
        place = f"{input['applicationName']}/{input['deploymentGroupName']}"
        await self.db.write(lambda tx: self.groups.delete(tx, call.scope, place))
        return {"hooksNotCleanedUp": []}

    async def GetDeploymentGroup(self, call: Call, input: Input) -> Output:
        group = self.group(call, input["applicationName"], input["deploymentGroupName"])
        return {"deploymentGroupInfo": self._shown_group(call, group)}

    async def BatchGetDeploymentGroups(self, call: Call, input: Input) -> Output:
        application = input["applicationName"]
        self.application(call, application)
        records = [self.groups.get(call.scope, f"{application}/{name}") for name in few(input["deploymentGroupNames"])]
        missing = [name for name, one in zip(input["deploymentGroupNames"], records, strict=True) if one is None]
        words = {"errorMessage": f"No Deployment Group found for name: {missing[0]}"} if missing else {}
        found = [self._shown_group(call, record.value) for record in records if record is not None]
        return {"deploymentGroupsInfo": found, **words}

    async def ListDeploymentGroups(self, call: Call, input: Input) -> Output:
        application = input["applicationName"]
        self.application(call, application)
        names = [record.name.partition("/")[2] for record in self.groups.list(call.scope, f"{application}/")]
        return {"applicationName": application, **page("deploymentGroups", names, input)}

    # Parts

    def _shown_group(self, call: Call, group: Group) -> dict[str, Any]:
        application = self.application(call, group.members["applicationName"])
        shown = {**group.members, "deploymentGroupId": group.id, "computePlatform": application.platform}
        if "autoScalingGroups" in shown:
            shown["autoScalingGroups"] = [{"name": name} for name in shown["autoScalingGroups"]]
        if group.revision:
            shown["targetRevision"] = group.revision
        for member, id in (
            ("lastAttemptedDeployment", group.last_attempt),
            ("lastSuccessfulDeployment", group.last_success),
        ):
            record = self.deployments.get(call.scope, id) if id else None
            if record is not None:
                one = record.value
                ended = {"endTime": one.finished} if one.finished else {}
                shown[member] = {"deploymentId": id, "status": one.status, "createTime": one.created, **ended}
        return shown

    def _check_free(self, tx: Tx, call: Call, application: str, name: str) -> None:
        if self.groups.get(call.scope, f"{application}/{name}", tx) is not None:
            words = f"A deployment group with the name {name} already exists for the application {application}."
            raise AwsError("DeploymentGroupAlreadyExistsException", words)

    async def _check(self, call: Call, platform: str, members: dict[str, Any]) -> None:
        """Raises what is wrong with a group."""
        config = self.config(call, members["deploymentConfigName"])
        if config["computePlatform"] != platform:
            words = (
                f"The deployment configuration {members['deploymentConfigName']} is for the compute platform "
                f"{config['computePlatform']}, not {platform}."
            )
            raise AwsError("InvalidDeploymentConfigNameException", words)
        if not members["serviceRoleArn"].startswith("arn:"):
            raise AwsError("InvalidRoleException", f"The role is not valid: {members['serviceRoleArn']}")
        alarms = (members.get("alarmConfiguration") or {}).get("alarms") or []
        if len(alarms) > _MOST_ALARMS:
            raise AwsError("AlarmsLimitExceededException", f"The maximum number of alarms is {_MOST_ALARMS}.")
        rollback = members.get("autoRollbackConfiguration") or {}
        if rollback.get("enabled") and not rollback.get("events"):
            words = "Auto rollback configuration is enabled, but no events are specified."
            raise AwsError("InvalidAutoRollbackConfigException", words)
        if platform == "Server":
            return
        if members["deploymentStyle"] != _SHIFTS:
            words = f"The deployment style of a group on the {platform} compute platform must be BLUE_GREEN and "
            raise AwsError("InvalidDeploymentStyleException", f"{words}WITH_TRAFFIC_CONTROL.")
        if wrong := [name for name in _OF_INSTANCES if members.get(name)]:
            words = f"{wrong[0]} cannot be specified for the {platform} compute platform."
            raise AwsError("InvalidInputException", words)
        if platform == "ECS":
            await self._check_ecs(call, members, config["trafficRoutingConfig"]["type"])
        elif members.get("ecsServices"):
            raise AwsError("InvalidECSServiceException", "ecsServices can only be specified for ECS deployment groups")

    async def _check_ecs(self, call: Call, members: dict[str, Any], routing: str) -> None:
        services = members.get("ecsServices") or []
        if len(services) != 1:
            raise AwsError("InvalidECSServiceException", "For ECS deployment group, ecsServices can not be null")
        if not members.get("blueGreenDeploymentConfiguration"):
            words = "For ECS deployment group, blueGreenDeploymentConfiguration can not be null"
            raise AwsError("InvalidBlueGreenDeploymentConfigurationException", words)
        pairs = (members.get("loadBalancerInfo") or {}).get("targetGroupPairInfoList") or []
        if len(pairs) != 1:
            words = "For ECS deployment group, loadBalancerInfo must have one targetGroupPairInfo"
            raise AwsError("InvalidLoadBalancerInfoException", words)
        if len(pairs[0].get("targetGroups") or ()) != 2:
            raise AwsError("InvalidTargetGroupPairException", "A target group pair must have two target groups")
        listeners = (pairs[0].get("prodTrafficRoute") or {}).get("listenerArns") or []
        if len(listeners) != 1:
            raise AwsError("InvalidTargetGroupPairException", "prodTrafficRoute must have one listener")
        place = {"cluster": services[0].get("clusterName", "default"), "services": [services[0]["serviceName"]]}
        try:
            found = (await self._ask(call, "ecs", "DescribeServices", place))["services"]
        except AwsError as error:
            raise AwsError("InvalidECSServiceException", error.message) from None
        if not found or found[0]["status"] != "ACTIVE":
            words = f"The ECS service {services[0]['serviceName']} could not be found or is not ACTIVE"
            raise AwsError("InvalidECSServiceException", words)
        if found[0]["deploymentController"]["type"] != "CODE_DEPLOY":
            words = "Deployment group's ECS service must be configured for a CODE_DEPLOY deployment controller."
            raise AwsError("InvalidECSServiceException", words)
        if routing != "AllAtOnce" and ":listener/net/" in listeners[0]:
            words = (
                "Only ALB supports gradual traffic routing, use AllAtOnce Traffic routing instead when you "
                "create/update Deployment group."
            )
            raise AwsError("InvalidTrafficRoutingConfigurationException", words)

    async def _ask(self, call: Call, service: str, operation: str, input: Input) -> Output:
        return await self.cloud.call(
            service, operation, input, account=call.account, region=call.region, principal=SELF
        )


def _members(platform: str, given: dict[str, Any]) -> dict[str, Any]:
    """A group's members with AWS's defaults."""
    members = {
        "deploymentConfigName": DEFAULTS[platform],
        "deploymentStyle": _IN_PLACE if platform == "Server" else _SHIFTS,
        "outdatedInstancesStrategy": "UPDATE",
        "terminationHookEnabled": False,
        "triggerConfigurations": [],
        "ec2TagFilters": [],
        "onPremisesInstanceTagFilters": [],
        "autoScalingGroups": [],
        **given,
    }
    if platform == "ECS":
        ready = {"actionOnTimeout": "CONTINUE_DEPLOYMENT", "waitTimeInMinutes": 0}
        given_blue = members.get("blueGreenDeploymentConfiguration")
        if given_blue is not None:
            members["blueGreenDeploymentConfiguration"] = {"deploymentReadyOption": ready, **given_blue}
    return members
