"""CloudFormation's types of X-Ray."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, tags_of


class Group(ResourceType):
    """A group. ``Ref`` is its ARN."""

    type = "AWS::XRay::Group"
    required = frozenset(("GroupName",))
    replaces = frozenset(("GroupName",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        given = {key: value for key, value in properties.items() if key != "Tags"}
        try:
            made = await do.call("xray", "CreateGroup", {**given, "Tags": _tags(do, properties)})
        except AwsError as error:
            if error.message != "Group already exists":
                raise
            # Made by an attempt that was cut off: it has this resource's tags.
            made = await do.call("xray", "GetGroup", {"GroupName": properties["GroupName"]})
            if not await _is_ours(do, made["Group"]["GroupARN"]):
                raise
        arn = made["Group"]["GroupARN"]
        return Physical(arn, {"GroupARN": arn})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        given = {key: new[key] for key in ("InsightsConfiguration",) if key in new}
        expression = new.get("FilterExpression", "")
        await do.call("xray", "UpdateGroup", {"GroupARN": physical.id, "FilterExpression": expression, **given})
        await _retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteGroup", {"GroupARN": physical.id})


class SamplingRule(ResourceType):
    """A sampling rule. ``Ref`` is its ARN."""

    type = "AWS::XRay::SamplingRule"
    required = frozenset(("SamplingRule",))
    replaces = frozenset(("SamplingRule/Version",))
    refuses = frozenset(("SamplingRuleRecord", "SamplingRuleUpdate"))
    ignored = frozenset(("RuleName",))  # kept for old templates: the rule itself has it

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        rule = _rule(do, properties)
        try:
            made = await do.call("xray", "CreateSamplingRule", {"SamplingRule": rule, "Tags": _tags(do, properties)})
        except AwsError:
            found = await do.call("xray", "GetSamplingRules", {})
            rules = [one["SamplingRule"] for one in found["SamplingRuleRecords"]]
            arns = [one["RuleARN"] for one in rules if one["RuleName"] == rule["RuleName"]]
            if not arns or not await _is_ours(do, arns[0]):
                raise
            return Physical(arns[0], {"RuleARN": arns[0]})
        arn = made["SamplingRuleRecord"]["SamplingRule"]["RuleARN"]
        return Physical(arn, {"RuleARN": arn})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        rule = _rule(do, new)
        if rule["RuleName"] != physical.id.rpartition("/")[2]:
            made = await self.create(do, new)
            await self.delete(do, physical, old)
            return made
        changes = {key: value for key, value in rule.items() if key not in ("Version", "RuleARN")}
        await do.call("xray", "UpdateSamplingRule", {"SamplingRuleUpdate": changes})
        await _retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteSamplingRule", {"RuleARN": physical.id})


def _rule(do: Deployment, properties: Properties) -> dict[str, Any]:
    """The rule of a template, with the name that it has or is given."""
    rule = dict(properties["SamplingRule"])
    rule["RuleName"] = rule.get("RuleName") or properties.get("RuleName") or do.name(32)
    return {"Version": 1, **rule}


def _tags(do: Deployment, properties: Properties) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags_of(do, properties).items()]


async def _is_ours(do: Deployment, arn: str) -> bool:
    """Whether something has the tags of this very resource."""
    tags = (await do.call("xray", "ListTagsForResource", {"ResourceARN": arn}))["Tags"]
    found = {one["Key"]: one["Value"] for one in tags}
    own = {key: value for key, value in do.tags.items() if key.startswith("aws:cloudformation:")}
    return bool(own) and all(found.get(key) == value for key, value in own.items())


async def _retag(do: Deployment, arn: str, properties: Properties) -> None:
    tags = tags_of(do, properties)
    known = (await do.call("xray", "ListTagsForResource", {"ResourceARN": arn}))["Tags"]
    if gone := [one["Key"] for one in known if one["Key"] not in tags]:
        await do.call("xray", "UntagResource", {"ResourceARN": arn, "TagKeys": gone})
    if tags:
        await do.call("xray", "TagResource", {"ResourceARN": arn, "Tags": _tags(do, properties)})


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call("xray", operation, input)
    except AwsError as error:
        if error.message not in ("Group not found", "Sampling rule does not exist"):
            raise


TYPES = [Group, SamplingRule]
