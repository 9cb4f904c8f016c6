"""CloudFormation's types of CodeDeploy."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, is_own, tags_of

# Names that the API writes in another way than templates, and members that are capitals in both.
_RENAMED = {"ECSServices": "ecsServices"}
_CAPITALS = frozenset(("Key", "Type", "Value"))


class Application(ResourceType):
    """An application. ``Ref`` is its name."""

    type = "AWS::CodeDeploy::Application"
    replaces = frozenset(("ApplicationName", "ComputePlatform"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("ApplicationName") or do.name(100)
        input = {"applicationName": name, "computePlatform": properties.get("ComputePlatform", "Server")}
        try:
            await do.call("codedeploy", "CreateApplication", {**input, "tags": _pairs(tags_of(do, properties))})
        except AwsError as error:
            if error.code != "ApplicationAlreadyExistsException" or not await _is_mine(do, f"application:{name}"):
                raise
        return Physical(name)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await _retag(do, f"application:{physical.id}", tags_of(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("codedeploy", "DeleteApplication", {"applicationName": physical.id})


class DeploymentConfig(ResourceType):
    """A deployment configuration. ``Ref`` is its name."""

    type = "AWS::CodeDeploy::DeploymentConfig"
    replaces = frozenset(
        ("ComputePlatform", "DeploymentConfigName", "MinimumHealthyHosts", "TrafficRoutingConfig", "ZonalConfig")
    )
    refuses = frozenset(("ZonalConfig",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("DeploymentConfigName") or do.name(100)
        try:
            await do.call("codedeploy", "CreateDeploymentConfig", {**_input(properties), "deploymentConfigName": name})
        except AwsError as error:
            if error.code != "DeploymentConfigAlreadyExistsException" or "DeploymentConfigName" in properties:
                raise
        return Physical(name)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("codedeploy", "DeleteDeploymentConfig", {"deploymentConfigName": physical.id})


class DeploymentGroup(ResourceType):
    """A deployment group. ``Ref`` is its name."""

    type = "AWS::CodeDeploy::DeploymentGroup"
    required = frozenset(("ApplicationName", "ServiceRoleArn"))
    replaces = frozenset(("ApplicationName", "DeploymentGroupName"))
    refuses = frozenset(("Deployment",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        application, name = properties["ApplicationName"], properties.get("DeploymentGroupName") or do.name(100)
        input = {**_input(properties), "deploymentGroupName": name, "tags": _pairs(tags_of(do, properties))}
        try:
            await do.call("codedeploy", "CreateDeploymentGroup", input)
        except AwsError as error:
            arn = f"deploymentgroup:{application}/{name}"
            if error.code != "DeploymentGroupAlreadyExistsException" or not await _is_mine(do, arn):
                raise
        which = {"applicationName": application, "deploymentGroupName": name}
        made = await do.call("codedeploy", "GetDeploymentGroup", which)
        return Physical(name, {"Id": made["deploymentGroupInfo"]["deploymentGroupId"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        gone = {key: value for key, value in _input(old).items() if key not in _input(new)}
        cleared = {key: _NOTHING[key] for key in gone if key in _NOTHING}
        input = {**cleared, **_input(new), "currentDeploymentGroupName": physical.id}
        input.pop("deploymentGroupName", None)
        await do.call("codedeploy", "UpdateDeploymentGroup", input)
        await _retag(do, f"deploymentgroup:{new['ApplicationName']}/{physical.id}", tags_of(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        which = {"applicationName": properties["ApplicationName"], "deploymentGroupName": physical.id}
        await do.call("codedeploy", "DeleteDeploymentGroup", which)


# What a property goes back to that the template no longer has.
_NOTHING: Properties = {
    "alarmConfiguration": {"enabled": False, "alarms": []},
    "autoRollbackConfiguration": {"enabled": False, "events": []},
    "autoScalingGroups": [],
    "ec2TagFilters": [],
    "onPremisesInstanceTagFilters": [],
    "outdatedInstancesStrategy": "UPDATE",
    "terminationHookEnabled": False,
    "triggerConfigurations": [],
}


def _input(properties: Properties) -> Properties:
    """A template's properties as the API's members."""
    made: Properties = _lowered({key: value for key, value in properties.items() if key != "Tags"})
    for outer, inner, group in (
        ("ec2TagSet", "ec2TagSetList", "ec2TagGroup"),
        ("onPremisesTagSet", "onPremisesTagSetList", "onPremisesTagGroup"),
    ):
        if outer in made:
            made[outer] = {inner: [one[group] for one in made[outer][inner]]}
    return made


def _lowered(value: Any) -> Any:
    if isinstance(value, list):
        return [_lowered(one) for one in value]
    if isinstance(value, dict):
        is_filter = value.keys() <= _CAPITALS and "Key" in value
        return {
            key if is_filter else _RENAMED.get(key) or key[0].lower() + key[1:]: _lowered(one)
            for key, one in value.items()
        }
    return value


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


async def _tags(do: Deployment, arn: str) -> dict[str, str]:
    found = await do.call("codedeploy", "ListTagsForResource", {"ResourceArn": arn})
    return {tag["Key"]: tag["Value"] for tag in found["Tags"]}


async def _is_mine(do: Deployment, name: str) -> bool:
    """Whether what is there already was made by a run of this very step that was cut off."""
    return is_own(do, await _tags(do, _arn(do, name)))


async def _retag(do: Deployment, name: str, tags: dict[str, str]) -> None:
    arn = _arn(do, name)
    before = await _tags(do, arn)
    if gone := [key for key in before if key not in tags]:
        await do.call("codedeploy", "UntagResource", {"ResourceArn": arn, "TagKeys": gone})
    if tags and tags != before:
        await do.call("codedeploy", "TagResource", {"ResourceArn": arn, "Tags": _pairs(tags)})


def _arn(do: Deployment, name: str) -> str:
    return f"arn:aws:codedeploy:{do.region}:{do.account}:{name}"


TYPES = [Application, DeploymentConfig, DeploymentGroup]
