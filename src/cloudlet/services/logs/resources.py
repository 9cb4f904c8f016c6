"""CloudFormation's types of CloudWatch Logs."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, is_own, tags_of


class LogGroup(ResourceType):
    """A log group. ``Ref`` is its name; ``Arn`` ends with ``:*``."""

    type = "AWS::Logs::LogGroup"
    replaces = frozenset(("LogGroupName", "LogGroupClass"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("LogGroupName") or do.name(512)
        input = _input(properties, "RetentionInDays", "Tags") | {"logGroupName": name}
        if tags := tags_of(do, properties):
            input["tags"] = tags
        try:
            await do.call("logs", "CreateLogGroup", input)
        except AwsError as error:
            if error.code != "ResourceAlreadyExistsException":
                raise
            known = (await do.call("logs", "ListTagsLogGroup", {"logGroupName": name})).get("tags", {})
            if not is_own(do, known):
                message = f"Resource of type '{self.type}' with identifier '{name}' already exists."
                raise AwsError("AlreadyExists", message) from None
        await do.initiated(name)
        if days := properties.get("RetentionInDays"):
            await do.call("logs", "PutRetentionPolicy", {"logGroupName": name, "retentionInDays": days})
        return Physical(name, {"Arn": f"arn:aws:logs:{do.region}:{do.account}:log-group:{name}:*"})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        group = {"logGroupName": physical.id}
        # Members that only this operation checks: what a template may not say must not be passed over in an update.
        unknown = new.keys() - {
            *("LogGroupName", "LogGroupClass", "RetentionInDays", "KmsKeyId", "Tags", "DeletionProtectionEnabled")
        }
        if unknown:
            raise AwsError("ValidationError", f"Unsupported property of {self.type}: {', '.join(sorted(unknown))}")
        if changed(old, new, "RetentionInDays"):
            if days := new.get("RetentionInDays"):
                await do.call("logs", "PutRetentionPolicy", {**group, "retentionInDays": days})
            else:
                await do.call("logs", "DeleteRetentionPolicy", group)
        if changed(old, new, "KmsKeyId"):
            if key := new.get("KmsKeyId"):
                await do.call("logs", "AssociateKmsKey", {**group, "kmsKeyId": key})
            else:
                await do.call("logs", "DisassociateKmsKey", group)
        if changed(old, new, "DeletionProtectionEnabled"):
            protected = new.get("DeletionProtectionEnabled", False)
            await do.call(
                "logs",
                "PutLogGroupDeletionProtection",
                {"logGroupIdentifier": physical.id, "deletionProtectionEnabled": protected},
            )
        tags = tags_of(do, new)
        before = (await do.call("logs", "ListTagsLogGroup", group)).get("tags", {})
        if gone := [key for key in before if key not in tags]:
            await do.call("logs", "UntagLogGroup", {**group, "tags": gone})
        if tags:
            await do.call("logs", "TagLogGroup", {**group, "tags": tags})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteLogGroup", {"logGroupName": physical.id})


class LogStream(ResourceType):
    """A log stream. ``Ref`` is its name."""

    type = "AWS::Logs::LogStream"
    required = frozenset(("LogGroupName",))
    replaces = frozenset(("LogGroupName", "LogStreamName"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("LogStreamName") or do.name(512)
        input = _input(properties) | {"logStreamName": name}
        await _unless(do, "ResourceAlreadyExistsException", "CreateLogStream", input)
        return Physical(name)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        input = {"logGroupName": properties["LogGroupName"], "logStreamName": physical.id}
        await _unless_gone(do, "DeleteLogStream", input)


class _Filter(ResourceType):
    """A filter of a group; putting it is idempotent."""

    required = frozenset(("FilterPattern", "LogGroupName"))
    replaces = frozenset(("FilterName", "LogGroupName"))
    _kind: str

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("FilterName") or do.name(512)
        await self._put(do, name, properties)
        return Physical(name)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await self._put(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        input = {"logGroupName": properties["LogGroupName"], "filterName": physical.id}
        await _unless_gone(do, f"Delete{self._kind}", input)

    async def _put(self, do: Deployment, name: str, properties: Properties) -> None:
        await do.call("logs", f"Put{self._kind}", self._of(properties) | {"filterName": name})

    def _of(self, properties: Properties) -> Properties:
        return _input(properties)


class SubscriptionFilter(_Filter):
    """Where a group's events go. ``Ref`` is its name."""

    type = "AWS::Logs::SubscriptionFilter"
    required = frozenset(("DestinationArn", "FilterPattern", "LogGroupName"))
    _kind = "SubscriptionFilter"


class MetricFilter(_Filter):
    """What is counted in a group's events. ``Ref`` is its name."""

    type = "AWS::Logs::MetricFilter"
    required = frozenset(("FilterPattern", "LogGroupName", "MetricTransformations"))
    _kind = "MetricFilter"

    def _of(self, properties: Properties) -> Properties:
        transformations = [_transformation(each) for each in properties["MetricTransformations"]]
        return _input(properties) | {"metricTransformations": transformations}


class ResourcePolicy(ResourceType):
    """Who may write to log groups. ``Ref`` is its name."""

    type = "AWS::Logs::ResourcePolicy"
    required = frozenset(("PolicyDocument", "PolicyName"))
    replaces = frozenset(("PolicyName",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        document = properties["PolicyDocument"]
        text = document if isinstance(document, str) else json.dumps(document)
        await do.call("logs", "PutResourcePolicy", _input(properties) | {"policyDocument": text})
        return Physical(properties["PolicyName"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteResourcePolicy", {"policyName": physical.id})


class QueryDefinition(ResourceType):
    """A saved query. ``Ref`` is its id."""

    type = "AWS::Logs::QueryDefinition"
    required = frozenset(("Name", "QueryString"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        # After a crash the one that was made is there already.
        wanted = _input(properties)
        asked = {"queryDefinitionNamePrefix": properties["Name"]}
        for known in (await do.call("logs", "DescribeQueryDefinitions", asked))["queryDefinitions"]:
            if known["name"] == wanted["name"] and known["queryString"] == wanted["queryString"]:
                return _made(known["queryDefinitionId"])
        return _made((await do.call("logs", "PutQueryDefinition", wanted))["queryDefinitionId"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await do.call("logs", "PutQueryDefinition", _input(new) | {"queryDefinitionId": physical.id})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteQueryDefinition", {"queryDefinitionId": physical.id})


def _made(id: str) -> Physical:
    return Physical(id, {"QueryDefinitionId": id})


def _input(properties: Properties, *without: str) -> Properties:
    """Properties under the names of the API's members, which differ in their first letter."""
    return {_member(name): value for name, value in properties.items() if name not in without}


def _member(name: str) -> str:
    return name[0].lower() + name[1:]


def _transformation(given: dict[str, Any]) -> dict[str, Any]:
    made = {_member(name): value for name, value in given.items()}
    if "dimensions" in made:
        made["dimensions"] = {each["Key"]: each["Value"] for each in made["dimensions"]}
    return made


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    await _unless(do, "ResourceNotFoundException", operation, input)


async def _unless(do: Deployment, code: str, operation: str, input: Properties) -> None:
    try:
        await do.call("logs", operation, input)
    except AwsError as error:
        if error.code != code:
            raise


TYPES = [LogGroup, LogStream, SubscriptionFilter, MetricFilter, ResourcePolicy, QueryDefinition]
