"""CloudFormation's types of Secrets Manager."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of

_MARKS = ("aws:cloudformation:stack-id", "aws:cloudformation:logical-id")


class Secret(ResourceType):
    """A secret. ``Ref`` is its ARN."""

    type = "AWS::SecretsManager::Secret"
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _check(properties)
        name = properties.get("Name") or do.name(512)
        input = {"Name": name, "Tags": _pairs(tags_of(do, properties)), **await _value(do, properties)}
        for member in ("Description", "KmsKeyId"):
            if member in properties:
                input[member] = properties[member]
        try:
            arn = (await do.call("secretsmanager", "CreateSecret", input))["ARN"]
        except AwsError as error:
            if error.code != "ResourceExistsException":
                raise
            known = await do.call("secretsmanager", "DescribeSecret", {"SecretId": name})
            tags = {tag["Key"]: tag["Value"] for tag in known.get("Tags", [])}
            # Made by this step before a crash, or not: the mark of this stack's resource tells.
            if any(tags.get(mark) != do.tags.get(mark, "") for mark in _MARKS):
                raise
            arn = known["ARN"]
        return Physical(arn, {"Id": arn})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        _check(new)
        secret = {"SecretId": physical.id}
        input = {name: new.get(name, "") for name in ("Description", "KmsKeyId") if changed(old, new, name)}
        if changed(old, new, "SecretString", "GenerateSecretString"):
            input |= await _value(do, new)
        if input:
            await do.call("secretsmanager", "UpdateSecret", {**secret, **input})
        tags = tags_of(do, new)
        known = await do.call("secretsmanager", "DescribeSecret", secret)
        before = {tag["Key"]: tag["Value"] for tag in known.get("Tags", [])}
        if gone := [key for key in before if key not in tags]:
            await do.call("secretsmanager", "UntagResource", {**secret, "TagKeys": gone})
        if tags and tags != before:
            await do.call("secretsmanager", "TagResource", {**secret, "Tags": _pairs(tags)})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        input = {"SecretId": physical.id, "ForceDeleteWithoutRecovery": True}
        await _unless_gone(do, "DeleteSecret", input)


_KNOWN = frozenset(("Description", "GenerateSecretString", "KmsKeyId", "Name", "SecretString", "Tags"))


def _check(properties: Properties) -> None:
    for name in ("ReplicaRegions", "Type"):
        if properties.get(name):
            raise not_implemented(f"{Secret.type} with {name}")
    if unknown := sorted(properties.keys() - _KNOWN - {"ReplicaRegions", "Type"}):
        raise AwsError("ValidationError", f"Unsupported property of {Secret.type}: {', '.join(unknown)}")
    if "SecretString" in properties and "GenerateSecretString" in properties:
        raise AwsError("ValidationError", "You can't specify both SecretString and GenerateSecretString.")


async def _value(do: Deployment, properties: Properties) -> Properties:
    """The value that the properties give, or the one that they let be made up."""
    if "SecretString" in properties:
        return {"SecretString": properties["SecretString"]}
    if "GenerateSecretString" not in properties:
        return {}
    wish = dict(properties["GenerateSecretString"] or {})
    template, key = wish.pop("SecretStringTemplate", None), wish.pop("GenerateStringKey", None)
    password = (await do.call("secretsmanager", "GetRandomPassword", wish))["RandomPassword"]
    if template is None and key is None:
        return {"SecretString": password}
    try:
        document = json.loads(template)
        document[key] = password
    except (TypeError, ValueError):
        raise AwsError(
            "ValidationError", "SecretStringTemplate must be a JSON object, and GenerateStringKey go with it."
        ) from None
    return {"SecretString": json.dumps(document)}


class ResourcePolicy(ResourceType):
    """The policy of a secret. ``Ref`` is the secret's ARN."""

    type = "AWS::SecretsManager::ResourcePolicy"
    required = frozenset(("ResourcePolicy", "SecretId"))
    replaces = frozenset(("SecretId",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        policy = properties["ResourcePolicy"]
        input = {**properties, "ResourcePolicy": policy if isinstance(policy, str) else json.dumps(policy)}
        return Physical((await do.call("secretsmanager", "PutResourcePolicy", input))["ARN"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteResourcePolicy", {"SecretId": physical.id})


class RotationSchedule(ResourceType):
    """When a secret is rotated, and by which function. ``Ref`` is the secret's ARN."""

    type = "AWS::SecretsManager::RotationSchedule"
    required = frozenset(("SecretId",))
    replaces = frozenset(("SecretId",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        for name in ("HostedRotationLambda", "ExternalSecretRotationMetadata", "ExternalSecretRotationRoleArn"):
            if name in properties:
                raise not_implemented(f"{self.type} with {name}")
        input = {name: value for name, value in properties.items() if name != "RotateImmediatelyOnUpdate"}
        input["RotateImmediately"] = properties.get("RotateImmediatelyOnUpdate", True)
        known = await do.call("secretsmanager", "DescribeSecret", {"SecretId": properties["SecretId"]})
        wish = ("RotationLambdaARN", "RotationRules")
        if known.get("RotationEnabled") and all(name not in input or known.get(name) == input[name] for name in wish):
            return Physical(known["ARN"])
        return Physical((await do.call("secretsmanager", "RotateSecret", input))["ARN"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "CancelRotateSecret", {"SecretId": physical.id})


_TARGETS = {
    "AWS::RDS::DBInstance": ("DescribeDBInstances", "DBInstance"),
    "AWS::RDS::DBCluster": ("DescribeDBClusters", "DBCluster"),
}
_ENGINES = {"aurora-mysql": "mysql", "aurora": "mysql", "aurora-postgresql": "postgres"}
_ADDED = ("engine", "host", "port", "dbname", "dbInstanceIdentifier", "dbClusterIdentifier")


class SecretTargetAttachment(ResourceType):
    """Where the database is that a secret is for, written into the secret. ``Ref`` is the secret's ARN."""

    type = "AWS::SecretsManager::SecretTargetAttachment"
    required = frozenset(("SecretId", "TargetId", "TargetType"))
    replaces = frozenset(("SecretId",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        kind = properties["TargetType"]
        if kind not in _TARGETS:
            raise not_implemented(f"{self.type} with the TargetType {kind}")
        operation, name = _TARGETS[kind]
        id = properties["TargetId"]
        found = (await do.call("rds", operation, {f"{name}Identifier": id}))[f"{name}s"][0]
        endpoint = found.get("Endpoint", "")
        place = {
            "engine": _ENGINES.get(found["Engine"], found["Engine"]),
            "host": endpoint["Address"] if isinstance(endpoint, dict) else endpoint,
            "port": endpoint["Port"] if isinstance(endpoint, dict) else found.get("Port"),
            "dbname": found.get("DBName") or found.get("DatabaseName"),
            f"{name[0:2].lower()}{name[2:]}Identifier": found[f"{name}Identifier"],
        }
        return Physical(await self._merge(do, properties["SecretId"], place))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await self._merge(do, physical.id, {})
        except AwsError as error:
            if error.code not in ("ResourceNotFoundException", "InvalidRequestException"):
                raise

    async def _merge(self, do: Deployment, id: str, place: dict[str, Any]) -> str:
        """Write a database's place into a secret, in place of any other; the secret's ARN."""
        known = await do.call("secretsmanager", "GetSecretValue", {"SecretId": id})
        try:
            before = json.loads(known["SecretString"])
            after = {key: value for key, value in before.items() if key not in _ADDED}
        except (KeyError, ValueError, AttributeError):
            raise AwsError("ValidationError", "The secret's value must be a JSON object.") from None
        after |= {key: value for key, value in place.items() if value is not None}
        if after != before:
            await do.call("secretsmanager", "PutSecretValue", {"SecretId": id, "SecretString": json.dumps(after)})
        return str(known["ARN"])


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call("secretsmanager", operation, input)
    except AwsError as error:
        if error.code not in ("ResourceNotFoundException", "InvalidRequestException"):
            raise


TYPES = [Secret, ResourcePolicy, RotationSchedule, SecretTargetAttachment]
