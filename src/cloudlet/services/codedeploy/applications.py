"""Applications, deployment configurations and tags."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.codedeploy.base import Base, checked, few, from_tags, new_id, page, to_tags
from cloudlet.services.codedeploy.configs import PREDEFINED
from cloudlet.services.codedeploy.records import Application, Config
from cloudlet.store import Tx

_MEMBERS = {"TimeBasedCanary": "timeBasedCanary", "TimeBasedLinear": "timeBasedLinear"}


class Applications(Base):
    """The operations on them."""

    async def CreateApplication(self, call: Call, input: Input) -> Output:
        name = checked(input["applicationName"], "Application")
        platform = input.get("computePlatform", "Server")
        made = Application(new_id(), platform, self.clock.now(), from_tags(input.get("tags")))

        def work(tx: Tx) -> None:
            if self.applications.get(call.scope, name, tx) is not None:
                words = f"An application with the name {name} already exists."
                raise AwsError("ApplicationAlreadyExistsException", words)
            self.applications.put(tx, call.scope, name, made)

        await self.db.write(work)
        return {"applicationId": made.id}

    async def GetApplication(self, call: Call, input: Input) -> Output:
        name = input["applicationName"]
        return {"application": _shown(name, self.application(call, name))}

    async def BatchGetApplications(self, call: Call, input: Input) -> Output:
        names = few(input["applicationNames"])
        if not names:
            raise AwsError("ApplicationNameRequiredException", "Application name is missing")
        found = [(name, self.applications.get(call.scope, name)) for name in names]
        missing = [name for name, record in found if record is None]
        if missing:
            account = call.account
            raise AwsError("ApplicationDoesNotExistException", f"Applications not found for {account}")
        return {"applicationsInfo": [_shown(name, record.value) for name, record in found if record is not None]}

    async def ListApplications(self, call: Call, input: Input) -> Output:
        return page("applications", [record.name for record in self.applications.list(call.scope)], input)

    async def UpdateApplication(self, call: Call, input: Input) -> Output:
        name, new = input.get("applicationName", ""), input.get("newApplicationName", "")

        def work(tx: Tx) -> None:
            application = self.application(call, name, tx)
            if not new or new == name:
                return
            checked(new, "Application")
            if self.applications.get(call.scope, new, tx) is not None:
                words = f"An application with the name {new} already exists."
                raise AwsError("ApplicationAlreadyExistsException", words)
            self.applications.delete(tx, call.scope, name)
            self.applications.put(tx, call.scope, new, application)
            for group in self.groups.list(call.scope, f"{name}/", tx):
                members = {**group.value.members, "applicationName": new}
                self.groups.delete(tx, call.scope, group.name)
                place = f"{new}/{members['deploymentGroupName']}"
                self.groups.put(tx, call.scope, place, replace(group.value, members=members))
            for revision in self.revisions.list(call.scope, f"{name}/", tx):
                self.revisions.delete(tx, call.scope, revision.name)
                self.revisions.put(tx, call.scope, f"{new}/{revision.name.partition('/')[2]}", revision.value)
            for one in self.deployments.list(call.scope, tx=tx):
                if one.value.application == name:
                    self.deployments.put(tx, call.scope, one.name, replace(one.value, application=new))

        await self.db.write(work)
        return {}

    async def DeleteApplication(self, call: Call, input: Input) -> Output:
        name = input["applicationName"]

        def work(tx: Tx) -> None:
            self.applications.delete(tx, call.scope, name)
            for group in self.groups.list(call.scope, f"{name}/", tx):
                self.groups.delete(tx, call.scope, group.name)
            for revision in self.revisions.list(call.scope, f"{name}/", tx):
                self.revisions.delete(tx, call.scope, revision.name)

        await self.db.write(work)
        return {}

    # Deployment configurations

    async def CreateDeploymentConfig(self, call: Call, input: Input) -> Output:
        name = checked(input["deploymentConfigName"], "DeploymentConfig")
        if name.startswith("CodeDeployDefault."):
            words = f"Deployment config names that begin with CodeDeployDefault. are reserved: {name}"
            raise AwsError("InvalidDeploymentConfigNameException", words)
        if "zonalConfig" in input:
            raise not_implemented("CreateDeploymentConfig with zonalConfig")
        platform = input.get("computePlatform", "Server")
        members = {
            "deploymentConfigId": new_id(),
            "deploymentConfigName": name,
            "createTime": self.clock.now(),
            "computePlatform": platform,
            **_speed(platform, input),
        }

        def work(tx: Tx) -> None:
            if self.configs.get(call.scope, name, tx) is not None:
                words = f"Deployment configuration name already exists: {name}"
                raise AwsError("DeploymentConfigAlreadyExistsException", words)
            self.configs.put(tx, call.scope, name, Config(members))

        await self.db.write(work)
        return {"deploymentConfigId": members["deploymentConfigId"]}

    async def GetDeploymentConfig(self, call: Call, input: Input) -> Output:
        return {"deploymentConfigInfo": self.config(call, input["deploymentConfigName"])}

    async def ListDeploymentConfigs(self, call: Call, input: Input) -> Output:
        names = [*PREDEFINED, *(record.name for record in self.configs.list(call.scope))]
        return page("deploymentConfigsList", names, input)

    async def DeleteDeploymentConfig(self, call: Call, input: Input) -> Output:
        name = input["deploymentConfigName"]
        if name in PREDEFINED:
            words = f"Cannot delete the deployment configuration {name}: it is one of the default configurations."
            raise AwsError("InvalidOperationException", words)

        def work(tx: Tx) -> None:
            groups = self.groups.list(call.scope, tx=tx)
            if any(group.value.members["deploymentConfigName"] == name for group in groups):
                words = f"Deployment configuration {name} is in use."
                raise AwsError("DeploymentConfigInUseException", words)
            self.configs.delete(tx, call.scope, name)

        await self.db.write(work)
        return {}

    # Tags

    async def TagResource(self, call: Call, input: Input) -> Output:
        new = from_tags(input["Tags"])
        await self.db.write(lambda tx: self._retag(tx, call, input["ResourceArn"], lambda tags: {**tags, **new}))
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])

        def without(tags: dict[str, str]) -> dict[str, str]:
            return {key: value for key, value in tags.items() if key not in gone}

        await self.db.write(lambda tx: self._retag(tx, call, input["ResourceArn"], without))
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        kind, name = _parts(input["ResourceArn"])
        if kind == "application":
            return {"Tags": to_tags(self.application(call, name).tags)}
        if kind == "deploymentgroup":
            application, _, group = name.partition("/")
            return {"Tags": to_tags(self.group(call, application, group).tags)}
        return {"Tags": []}

    def _retag(self, tx: Tx, call: Call, arn: str, change: Any) -> None:
        kind, name = _parts(arn)
        if kind == "application":
            known = self.application(call, name, tx)
            self.applications.put(tx, call.scope, name, replace(known, tags=change(known.tags)))
        elif kind == "deploymentgroup":
            application, _, group_name = name.partition("/")
            group = self.group(call, application, group_name, tx)
            self.groups.put(tx, call.scope, name, replace(group, tags=change(group.tags)))
        else:
            raise AwsError("ArnNotSupportedException", f"The ARN is not supported: {arn}")


def _parts(arn: str) -> tuple[str, str]:
    """The kind and the name that an ARN is about. Raises InvalidArnException."""
    parts = arn.split(":", 6)
    if len(parts) < 7 or parts[2] != "codedeploy" or (parts[5] == "deploymentgroup" and "/" not in parts[6]):
        raise AwsError("InvalidArnException", f"The ARN is not in a valid format: {arn}")
    return parts[5], parts[6]


def _shown(name: str, application: Application) -> dict[str, Any]:
    return {
        "applicationId": application.id,
        "applicationName": name,
        "createTime": application.created,
        "linkedToGitHub": False,
        "computePlatform": application.platform,
    }


def _speed(platform: str, input: Input) -> dict[str, Any]:
    """How fast a configuration goes: healthy hosts of servers, the routing of everything else."""
    if platform == "Server":
        if "minimumHealthyHosts" not in input:
            words = "Minimum healthy hosts must be specified for the Server compute platform."
            raise AwsError("InvalidMinimumHealthyHostValueException", words)
        return {"minimumHealthyHosts": input["minimumHealthyHosts"]}
    if "minimumHealthyHosts" in input:
        words = f"Minimum healthy hosts cannot be specified for the {platform} compute platform."
        raise AwsError("InvalidMinimumHealthyHostValueException", words)
    routing = dict(input.get("trafficRoutingConfig") or {"type": "AllAtOnce"})
    kind = routing.get("type", "AllAtOnce")
    member = _MEMBERS.get(kind)
    if {"timeBasedCanary", "timeBasedLinear"} & routing.keys() - {member}:
        raise _routing(f"The traffic routing configuration {kind} takes no other one's settings.")
    if member is not None:
        own = routing.get(member) or {}
        percent, minutes = (own.get(f"{member[9:].lower()}{name}") for name in ("Percentage", "Interval"))
        if not isinstance(percent, int) or not 1 <= percent <= 99:
            raise _routing("The percentage must be between 1 and 99.")
        if not isinstance(minutes, int) or not 1 <= minutes <= 2880:
            raise _routing("The interval must be between 1 and 2880 minutes.")
    return {"trafficRoutingConfig": {**routing, "type": kind}}


def _routing(words: str) -> AwsError:
    return AwsError("InvalidTrafficRoutingConfigurationException", words)
