"""CloudFormation's types of EventBridge."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of


class Rule(ResourceType):
    """A rule with its targets. ``Ref`` is its name, on a bus of one's own ``<bus>|<name>``."""

    type = "AWS::Events::Rule"
    replaces = frozenset(("Name", "EventBusName"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("Name") or do.name(64)
        bus = _bus_of(properties)
        made = await do.call("events", "PutRule", {**_rule(name, properties), "Tags": _tags(do, properties)})
        if entries := _targets(properties):
            await do.call("events", "PutTargets", {"Rule": name, **bus, "Targets": entries})
        short = bus.get("EventBusName", "default").rpartition("/")[2]
        shown = {"Arn": made["RuleArn"], "RuleName": name}
        return Physical(name if short == "default" else f"{short}|{name}", shown)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        name, bus = physical.id.rpartition("|")[2], _bus_of(new)
        await do.call("events", "PutRule", _rule(name, new))
        await _retag(do, physical.attributes["Arn"], tags_of(do, new))
        before, after = _targets(old), _targets(new)
        kept = {entry["Id"] for entry in after}
        if gone := [entry["Id"] for entry in before if entry["Id"] not in kept]:
            await do.call("events", "RemoveTargets", {"Rule": name, **bus, "Ids": gone})
        if after:
            await do.call("events", "PutTargets", {"Rule": name, **bus, "Targets": after})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        name, bus = physical.id.rpartition("|")[2], _bus_of(properties)
        try:
            found = await do.call("events", "ListTargetsByRule", {"Rule": name, **bus})
            if ids := [entry["Id"] for entry in found["Targets"]]:
                await do.call("events", "RemoveTargets", {"Rule": name, **bus, "Ids": ids})
            await do.call("events", "DeleteRule", {"Name": name, **bus})
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise


def _rule(name: str, properties: Properties) -> Properties:
    given = {key: properties[key] for key in _RULE if properties.get(key) is not None}
    return {"Name": name, **given}


_RULE = ("Description", "EventBusName", "EventPattern", "RoleArn", "ScheduleExpression", "State")


def _bus_of(properties: Properties) -> dict[str, str]:
    return {"EventBusName": properties["EventBusName"]} if properties.get("EventBusName") else {}


def _targets(properties: Properties) -> list[Properties]:
    """Targets as PutTargets takes them: a task's settings have other names in templates."""
    entries = []
    for entry in properties.get("Targets") or []:
        if "EcsParameters" in entry:
            entry = {**entry, "EcsParameters": _task(entry["EcsParameters"])}
        entries.append(entry)
    return entries


def _task(parameters: Properties) -> Properties:
    task = dict(parameters)
    if "TagList" in task:
        task["Tags"] = task.pop("TagList")
    if (network := task.get("NetworkConfiguration")) and "AwsVpcConfiguration" in network:
        task["NetworkConfiguration"] = {"awsvpcConfiguration": network["AwsVpcConfiguration"]}
    for name in ("CapacityProviderStrategy", "PlacementConstraints"):
        if name in task:
            task[name] = [{key[:1].lower() + key[1:]: value for key, value in one.items()} for one in task[name]]
    if "PlacementStrategies" in task:
        strategies = task.pop("PlacementStrategies")
        task["PlacementStrategy"] = [{key.lower(): value for key, value in one.items()} for one in strategies]
    return task


class EventBus(ResourceType):
    """An event bus. ``Ref`` is its name."""

    type = "AWS::Events::EventBus"
    required = frozenset(("Name",))
    replaces = frozenset(("Name", "EventSourceName"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties["Name"]
        given = {key: value for key, value in properties.items() if key not in ("Policy", "Tags")}
        try:
            made = await do.call("events", "CreateEventBus", {**given, "Tags": _tags(do, properties)})
            arn = made["EventBusArn"]
        except AwsError as error:
            if error.code != "ResourceAlreadyExistsException" or not await _ours(do, name):
                raise
            arn = (await do.call("events", "DescribeEventBus", {"Name": name}))["Arn"]
        await do.initiated(name)
        if properties.get("Policy"):
            await do.call("events", "PutPermission", {"EventBusName": name, "Policy": _text(properties["Policy"])})
        return Physical(name, {"Arn": arn, "Name": name, "Policy": properties.get("Policy", "")})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        name = physical.id
        given = {key: value for key, value in new.items() if key in _BUS}
        if changed(old, new, *_BUS):
            await do.call("events", "UpdateEventBus", {"Name": name, "Description": "", **given})
        if changed(old, new, "Policy"):
            if new.get("Policy"):
                await do.call("events", "PutPermission", {"EventBusName": name, "Policy": _text(new["Policy"])})
            else:
                await do.call("events", "RemovePermission", {"EventBusName": name, "RemoveAllPermissions": True})
        await _retag(do, physical.attributes["Arn"], tags_of(do, new))
        return Physical(name, {**physical.attributes, "Policy": new.get("Policy", "")})

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("events", "DeleteEventBus", {"Name": physical.id})


_BUS = ("Description", "KmsKeyIdentifier", "DeadLetterConfig", "LogConfig")


async def _ours(do: Deployment, bus: str) -> bool:
    """Whether a bus that exists is what this stack made before it was interrupted."""
    arn = f"arn:aws:events:{do.region}:{do.account}:event-bus/{bus}"
    tags = (await do.call("events", "ListTagsForResource", {"ResourceARN": arn}))["Tags"]
    return {"Key": "aws:cloudformation:stack-id", "Value": do.stack_id} in tags


class EventBusPolicy(ResourceType):
    """One statement of a bus's policy."""

    type = "AWS::Events::EventBusPolicy"
    required = frozenset(("StatementId",))
    replaces = frozenset(("StatementId", "EventBusName"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        await self._put(do, properties)
        return Physical(f"{properties.get('EventBusName', 'default')}|{properties['StatementId']}")

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await self._put(do, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        bus, _, statement = physical.id.rpartition("|")
        try:
            await do.call("events", "RemovePermission", {"EventBusName": bus, "StatementId": statement})
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise

    async def _put(self, do: Deployment, properties: Properties) -> None:
        bus, id = properties.get("EventBusName", "default"), properties["StatementId"]
        if "Statement" not in properties:
            given = {key: value for key, value in properties.items() if key in ("Action", "Principal", "Condition")}
            await do.call("events", "PutPermission", {"EventBusName": bus, "StatementId": id, **given})
            return
        found = await do.call("events", "DescribeEventBus", {"Name": bus})
        policy = json.loads(found.get("Policy") or '{"Version":"2012-10-17","Statement":[]}')
        others = [one for one in policy["Statement"] if one.get("Sid") != id]
        policy["Statement"] = [*others, {**properties["Statement"], "Sid": id}]
        await do.call("events", "PutPermission", {"EventBusName": bus, "Policy": _text(policy)})


class Archive(ResourceType):
    """An archive. ``Ref`` is its name."""

    type = "AWS::Events::Archive"
    required = frozenset(("SourceArn",))
    replaces = frozenset(("ArchiveName", "SourceArn"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("ArchiveName") or do.name(48)
        given = {key: value for key, value in properties.items() if key != "SourceArn"}
        input = {**given, "ArchiveName": name, "EventSourceArn": properties["SourceArn"]}
        try:
            arn = (await do.call("events", "CreateArchive", input))["ArchiveArn"]
        except AwsError as error:
            if error.code != "ResourceAlreadyExistsException" or "ArchiveName" in properties:
                raise
            arn = (await do.call("events", "DescribeArchive", {"ArchiveName": name}))["ArchiveArn"]
        return Physical(name, {"Arn": arn, "ArchiveName": name})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        empty = {"Description": "", "EventPattern": "", "RetentionDays": 0}
        given = {key: value for key, value in new.items() if key != "SourceArn"}
        await do.call("events", "UpdateArchive", {**empty, **given, "ArchiveName": physical.id})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await do.call("events", "DeleteArchive", {"ArchiveName": physical.id})
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise


class Connection(ResourceType):
    """A connection. ``Ref`` is its name."""

    type = "AWS::Events::Connection"
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("Name") or do.name(64)
        try:
            made = await do.call("events", "CreateConnection", {**properties, "Name": name})
        except AwsError as error:
            if error.code != "ResourceAlreadyExistsException" or "Name" in properties:
                raise
            made = await do.call("events", "UpdateConnection", {**properties, "Name": name})
        found = await do.call("events", "DescribeConnection", {"Name": name})
        secret = {"SecretArn": found["SecretArn"]} if "SecretArn" in found else {}
        return Physical(name, {**_arns(made["ConnectionArn"]), **secret})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await do.call("events", "UpdateConnection", {"Description": "", **new, "Name": physical.id})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteConnection", physical.id)


class ApiDestination(ResourceType):
    """An API destination. ``Ref`` is its name."""

    type = "AWS::Events::ApiDestination"
    required = frozenset(("ConnectionArn", "HttpMethod", "InvocationEndpoint"))
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("Name") or do.name(64)
        try:
            made = await do.call("events", "CreateApiDestination", {**properties, "Name": name})
        except AwsError as error:
            if error.code != "ResourceAlreadyExistsException" or "Name" in properties:
                raise
            made = await do.call("events", "UpdateApiDestination", {**properties, "Name": name})
        return Physical(name, _arns(made["ApiDestinationArn"]))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        defaults = {"Description": "", "InvocationRateLimitPerSecond": 300}
        await do.call("events", "UpdateApiDestination", {**defaults, **new, "Name": physical.id})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteApiDestination", physical.id)


def _arns(arn: str) -> dict[str, str]:
    """An ARN and, as policies name it, the same without the id at its end."""
    return {"Arn": arn, "ArnForPolicy": arn.rpartition("/")[0]}


async def _unless_gone(do: Deployment, operation: str, name: str) -> None:
    try:
        await do.call("events", operation, {"Name": name})
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise


def _tags(do: Deployment, properties: Properties) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags_of(do, properties).items()]


async def _retag(do: Deployment, arn: str, tags: dict[str, str]) -> None:
    known = (await do.call("events", "ListTagsForResource", {"ResourceARN": arn}))["Tags"]
    if gone := [tag["Key"] for tag in known if tag["Key"] not in tags]:
        await do.call("events", "UntagResource", {"ResourceARN": arn, "TagKeys": gone})
    if tags:
        entries = [{"Key": key, "Value": value} for key, value in tags.items()]
        await do.call("events", "TagResource", {"ResourceARN": arn, "Tags": entries})


def _text(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))


TYPES = [Rule, EventBus, EventBusPolicy, Archive, Connection, ApiDestination]
