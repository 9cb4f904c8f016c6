"""CloudFormation's types of Step Functions."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, tags_of
from cloudlet.stacks.package import LOCAL

_SUBSTITUTION = re.compile(r"\$\{([A-Za-z0-9_.-]+)\}")


class StateMachine(ResourceType):
    """A state machine. ``Ref`` is its ARN."""

    type = "AWS::StepFunctions::StateMachine"
    required = frozenset(("RoleArn",))
    replaces = frozenset(("StateMachineName", "StateMachineType"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("StateMachineName") or do.name(80)
        settings = _settings(properties)
        made = await do.call(
            "stepfunctions",
            "CreateStateMachine",
            {
                "name": name,
                "definition": await _definition(do, properties),
                "roleArn": properties["RoleArn"],
                "type": properties.get("StateMachineType", "STANDARD"),
                "tags": [{"key": key, "value": value} for key, value in tags_of(do, properties).items()],
                **{key: value for key, value in settings.items() if value is not None},
            },
        )
        return await _machine(do, made["stateMachineArn"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        settings = _settings(new)
        given = {
            "stateMachineArn": physical.id,
            "definition": await _definition(do, new),
            "roleArn": new["RoleArn"],
            "loggingConfiguration": settings["loggingConfiguration"] or {"level": "OFF"},
            "tracingConfiguration": settings["tracingConfiguration"] or {"enabled": False},
            "encryptionConfiguration": settings["encryptionConfiguration"] or {"type": "AWS_OWNED_KEY"},
        }
        await do.call("stepfunctions", "UpdateStateMachine", given)
        await _retag(do, physical.id, tags_of(do, new))
        return await _machine(do, physical.id)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("stepfunctions", "DeleteStateMachine", {"stateMachineArn": physical.id})


async def _machine(do: Deployment, arn: str) -> Physical:
    found = await do.call("stepfunctions", "DescribeStateMachine", {"stateMachineArn": arn})
    attributes = {
        "Arn": arn,
        "Name": found["name"],
        "StateMachineRevisionId": found.get("revisionId", "INITIAL"),
    }
    return Physical(arn, attributes)


async def _definition(do: Deployment, properties: Properties) -> str:
    """The definition's text, with its substitutions made. Raises AwsError when there is not exactly one."""
    given = [key for key in ("Definition", "DefinitionString", "DefinitionS3Location") if key in properties]
    if len(given) != 1:
        words = "Exactly one of Definition, DefinitionString and DefinitionS3Location must be specified."
        raise AwsError("InvalidRequest", words)
    if given[0] == "Definition":
        text = json.dumps(properties["Definition"], separators=(",", ":"))
    elif given[0] == "DefinitionString":
        text = properties["DefinitionString"]
        text = text if isinstance(text, str) else json.dumps(text)
    else:
        text = await _stored(do, properties["DefinitionS3Location"])
    substitutions = properties.get("DefinitionSubstitutions") or {}
    text = _SUBSTITUTION.sub(lambda match: _text(substitutions.get(match[1], match[0])), text)
    return _as_json(text) if given[0] == "DefinitionS3Location" else text


async def _stored(do: Deployment, place: Any) -> str:
    """The text of a definition, JSON or YAML, that lies in S3 or in a local file that a template names."""
    if isinstance(place, str):
        path = do.local_path(place)
        if path is None:
            raise AwsError("InvalidRequest", f"DefinitionS3Location {place} is neither a local path nor a place in S3")
        return await asyncio.to_thread(Path(path).read_text, encoding="utf-8")
    if place["Bucket"] == LOCAL:
        return await asyncio.to_thread(Path(place["Key"]).read_text, encoding="utf-8")
    where = {"Bucket": place["Bucket"], "Key": place["Key"]}
    if "Version" in place:
        where["VersionId"] = place["Version"]
    body = (await do.call("s3", "GetObject", where))["Body"]
    whole = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
    return whole.decode()


def _as_json(text: str) -> str:
    if text.lstrip().startswith("{"):
        return text
    import yaml

    try:
        return json.dumps(yaml.safe_load(text))
    except (yaml.YAMLError, TypeError) as error:
        raise AwsError("InvalidDefinition", f"Invalid State Machine Definition: '{error}'") from None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _settings(properties: Properties) -> dict[str, Any]:
    """The configurations, which the API writes with small letters; None where the template has none."""
    names = ("LoggingConfiguration", "TracingConfiguration", "EncryptionConfiguration")
    return {name[0].lower() + name[1:]: properties.get(name) for name in names}


async def _retag(do: Deployment, arn: str, tags: dict[str, str]) -> None:
    before = (await do.call("stepfunctions", "ListTagsForResource", {"resourceArn": arn}))["tags"]
    if gone := [tag["key"] for tag in before if tag["key"] not in tags]:
        await do.call("stepfunctions", "UntagResource", {"resourceArn": arn, "tagKeys": gone})
    if tags:
        added = [{"key": key, "value": value} for key, value in tags.items()]
        await do.call("stepfunctions", "TagResource", {"resourceArn": arn, "tags": added})


class Activity(ResourceType):
    """An activity. ``Ref`` is its ARN."""

    type = "AWS::StepFunctions::Activity"
    required = frozenset(("Name",))
    replaces = frozenset(("Name", "EncryptionConfiguration"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        tags = [{"key": key, "value": value} for key, value in tags_of(do, properties).items()]
        given = {"name": properties["Name"], "tags": tags}
        if "EncryptionConfiguration" in properties:
            given["encryptionConfiguration"] = properties["EncryptionConfiguration"]
        arn = (await do.call("stepfunctions", "CreateActivity", given))["activityArn"]
        return Physical(arn, {"Arn": arn, "Name": properties["Name"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await _retag(do, physical.id, tags_of(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("stepfunctions", "DeleteActivity", {"activityArn": physical.id})


class StateMachineVersion(ResourceType):
    """A published version. ``Ref`` is its ARN."""

    type = "AWS::StepFunctions::StateMachineVersion"
    required = frozenset(("StateMachineArn",))
    replaces = frozenset(("StateMachineArn", "StateMachineRevisionId", "Description"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        given = {"stateMachineArn": properties["StateMachineArn"]}
        if "Description" in properties:
            given["description"] = properties["Description"]
        # The revision may be the one that CloudFormation calls INITIAL.
        if properties.get("StateMachineRevisionId", "INITIAL") != "INITIAL":
            given["revisionId"] = properties["StateMachineRevisionId"]
        made = await do.call("stepfunctions", "PublishStateMachineVersion", given)
        arn = made["stateMachineVersionArn"]
        return Physical(arn, {"Arn": arn})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("stepfunctions", "DeleteStateMachineVersion", {"stateMachineVersionArn": physical.id})


class StateMachineAlias(ResourceType):
    """An alias. ``Ref`` is its ARN."""

    type = "AWS::StepFunctions::StateMachineAlias"
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        given = {"name": properties.get("Name") or do.name(80), "routingConfiguration": _routes(properties)}
        if "Description" in properties:
            given["description"] = properties["Description"]
        made = await do.call("stepfunctions", "CreateStateMachineAlias", given)
        arn = made["stateMachineAliasArn"]
        return Physical(arn, {"Arn": arn})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        given = {
            "stateMachineAliasArn": physical.id,
            "description": new.get("Description", ""),
            "routingConfiguration": _routes(new),
        }
        await do.call("stepfunctions", "UpdateStateMachineAlias", given)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await do.call("stepfunctions", "DeleteStateMachineAlias", {"stateMachineAliasArn": physical.id})
        except AwsError as error:
            if error.code != "ResourceNotFound":
                raise


def _routes(properties: Properties) -> list[dict[str, Any]]:
    """The routing: a deployment preference moves everything to its version at once, as on AWS with ALL_AT_ONCE."""
    preference = properties.get("DeploymentPreference")
    if preference is None:
        routes: list[dict[str, Any]] = properties.get("RoutingConfiguration", [])
        return [
            {"stateMachineVersionArn": route["StateMachineVersionArn"], "weight": route["Weight"]} for route in routes
        ]
    if preference.get("Type") != "ALL_AT_ONCE":
        raise AwsError("NotImplemented", "Cloudlet does not implement DeploymentPreference other than ALL_AT_ONCE.")
    return [{"stateMachineVersionArn": preference["StateMachineVersionArn"], "weight": 100}]


TYPES = [StateMachine, Activity, StateMachineVersion, StateMachineAlias]
