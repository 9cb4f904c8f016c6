"""CloudFormation's types of Application Auto Scaling."""

from __future__ import annotations

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of

_SERVICE = "application-autoscaling"
_PLACE = ("ServiceNamespace", "ResourceId", "ScalableDimension")


class ScalableTarget(ResourceType):
    """A scalable target with its scheduled actions. ``Ref`` is its resource, dimension and namespace."""

    type = "AWS::ApplicationAutoScaling::ScalableTarget"
    required = frozenset(("MaxCapacity", "MinCapacity", *_PLACE))
    replaces = frozenset(_PLACE)

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        place = {key: properties[key] for key in _PLACE}
        input = {key: properties[key] for key in properties if key not in ("ScheduledActions", "Tags")}
        asked = {"ServiceNamespace": place["ServiceNamespace"], "ResourceIds": [place["ResourceId"]]}
        asked["ScalableDimension"] = place["ScalableDimension"]
        if not (await do.call(_SERVICE, "DescribeScalableTargets", asked))["ScalableTargets"]:
            input["Tags"] = tags_of(do, properties)  # a run that was cut off may have made it
        await do.call(_SERVICE, "RegisterScalableTarget", input)
        id = f"{place['ResourceId']}|{place['ScalableDimension']}|{place['ServiceNamespace']}"
        await do.initiated(id)
        await _schedule(do, place, {}, properties)
        return Physical(id, {"Id": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        place = {key: new[key] for key in _PLACE}
        if changed(old, new, "MinCapacity", "MaxCapacity", "RoleARN", "SuspendedState"):
            keys = ("MinCapacity", "MaxCapacity", "RoleARN", "SuspendedState")
            input = {**place, **{key: new[key] for key in keys if key in new}}
            await do.call(_SERVICE, "RegisterScalableTarget", input)
        await _schedule(do, place, old, new)
        await _retag(do, place, tags_of(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        resource, dimension, namespace = physical.id.split("|")
        place = {"ServiceNamespace": namespace, "ResourceId": resource, "ScalableDimension": dimension}
        await _unless_gone(do, "DeregisterScalableTarget", place)


class ScalingPolicy(ResourceType):
    """A scaling policy. ``Ref`` is its ARN."""

    type = "AWS::ApplicationAutoScaling::ScalingPolicy"
    required = frozenset(("PolicyName", "PolicyType"))
    replaces = frozenset(("PolicyName", "ScalingTargetId", *_PLACE))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        input = {key: value for key, value in properties.items() if key != "ScalingTargetId"}
        made = await do.call(_SERVICE, "PutScalingPolicy", {**input, **_target(properties)})
        return Physical(made["PolicyARN"], {"Arn": made["PolicyARN"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        place = {"PolicyName": properties["PolicyName"], **_target(properties)}
        await _unless_gone(do, "DeleteScalingPolicy", place)


def _target(properties: Properties) -> Properties:
    """A policy's target, named by its id or by its parts."""
    if id := properties.get("ScalingTargetId"):
        resource, dimension, namespace = id.split("|")
        return {"ServiceNamespace": namespace, "ResourceId": resource, "ScalableDimension": dimension}
    return {key: properties[key] for key in _PLACE if key in properties}


async def _schedule(do: Deployment, place: Properties, old: Properties, new: Properties) -> None:
    before = {one["ScheduledActionName"]: one for one in old.get("ScheduledActions") or ()}
    after = {one["ScheduledActionName"]: one for one in new.get("ScheduledActions") or ()}
    for name in before.keys() - after.keys():
        await _unless_gone(do, "DeleteScheduledAction", {**place, "ScheduledActionName": name})
    for name, action in after.items():
        if before.get(name) != action:
            await do.call(_SERVICE, "PutScheduledAction", {**place, **action})


async def _retag(do: Deployment, place: Properties, wanted: dict[str, str]) -> None:
    asked = {"ServiceNamespace": place["ServiceNamespace"], "ResourceIds": [place["ResourceId"]]}
    asked["ScalableDimension"] = place["ScalableDimension"]
    for one in (await do.call(_SERVICE, "DescribeScalableTargets", asked))["ScalableTargets"]:
        target = {"ResourceARN": one["ScalableTargetARN"]}
        there = (await do.call(_SERVICE, "ListTagsForResource", target))["Tags"]
        if gone := [key for key in there if key not in wanted]:
            await do.call(_SERVICE, "UntagResource", {**target, "TagKeys": gone})
        if wanted and wanted != there:
            await do.call(_SERVICE, "TagResource", {**target, "Tags": wanted})


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call(_SERVICE, operation, input)
    except AwsError as error:
        if error.code != "ObjectNotFoundException":
            raise


TYPES = [ScalableTarget, ScalingPolicy]
