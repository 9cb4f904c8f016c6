"""CloudFormation's types of ECR."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of


class Repository(ResourceType):
    """A repository. ``Ref`` is its name."""

    type = "AWS::ECR::Repository"
    replaces = frozenset(("RepositoryName", "EncryptionConfiguration"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _check(properties)
        name = properties.get("RepositoryName") or do.name(256, lower=True)
        input = {"repositoryName": name, "tags": _pairs(tags_of(do, properties)), **_settings(properties)}
        if encryption := properties.get("EncryptionConfiguration"):
            input["encryptionConfiguration"] = _lower(encryption)
        try:
            made = await do.call("ecr", "CreateRepository", input)
            uri = made["repository"]["repositoryUri"]
        except AwsError as error:
            if error.code != "RepositoryAlreadyExistsException" or properties.get("RepositoryName"):
                raise
            uri = await _uri(do, name)
        await do.initiated(name)
        await self._set_policies(do, name, {}, properties)
        return _physical(do, name, uri)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        _check(new)
        place = {"repositoryName": physical.id}
        if changed(old, new, "ImageTagMutability", "ImageTagMutabilityExclusionFilters"):
            mutability = {key: value for key, value in _settings(new).items() if key.startswith("imageTagMutability")}
            await do.call("ecr", "PutImageTagMutability", {"imageTagMutability": "MUTABLE", **place, **mutability})
        if changed(old, new, "ImageScanningConfiguration"):
            scan = _lower(new.get("ImageScanningConfiguration", {"ScanOnPush": False}))
            await do.call("ecr", "PutImageScanningConfiguration", {**place, "imageScanningConfiguration": scan})
        await self._set_policies(do, physical.id, old, new)
        arn = {"resourceArn": physical.attributes["Arn"]}
        tags = tags_of(do, new)
        before = {tag["Key"]: tag["Value"] for tag in (await do.call("ecr", "ListTagsForResource", arn))["tags"]}
        if gone := [key for key in before if key not in tags]:
            await do.call("ecr", "UntagResource", {**arn, "tagKeys": gone})
        if tags and tags != before:
            await do.call("ecr", "TagResource", {**arn, "tags": _pairs(tags)})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        force = str(properties.get("EmptyOnDelete", False)).lower() == "true"
        await _unless_gone(do, "DeleteRepository", {"repositoryName": physical.id, "force": force})

    async def _set_policies(self, do: Deployment, name: str, old: Properties, new: Properties) -> None:
        """The policies of a repository, which have operations of their own."""
        place = {"repositoryName": name}
        if changed(old, new, "RepositoryPolicyText"):
            if "RepositoryPolicyText" in new:
                text = _text(new["RepositoryPolicyText"])
                await do.call("ecr", "SetRepositoryPolicy", {**place, "policyText": text})
            else:
                await _unless_gone(do, "DeleteRepositoryPolicy", place)
        before, after = old.get("LifecyclePolicy", {}), new.get("LifecyclePolicy", {})
        if before != after:
            if after.get("RegistryId", do.account) != do.account:
                raise not_implemented(f"{self.type} with a LifecyclePolicy in another account's registry")
            if text := after.get("LifecyclePolicyText"):
                await do.call("ecr", "PutLifecyclePolicy", {**place, "lifecyclePolicyText": _text(text)})
            else:
                await _unless_gone(do, "DeleteLifecyclePolicy", place)


_KNOWN = frozenset(
    (
        *("EmptyOnDelete", "EncryptionConfiguration", "ImageScanningConfiguration", "ImageTagMutability"),
        *("ImageTagMutabilityExclusionFilters", "LifecyclePolicy", "RepositoryName", "RepositoryPolicyText", "Tags"),
    )
)


def _check(properties: Properties) -> None:
    if unknown := sorted(properties.keys() - _KNOWN):
        raise AwsError("ValidationError", f"Unsupported property of {Repository.type}: {', '.join(unknown)}")


def _settings(properties: Properties) -> Properties:
    settings: Properties = {}
    if "ImageTagMutability" in properties:
        settings["imageTagMutability"] = properties["ImageTagMutability"]
    if filters := properties.get("ImageTagMutabilityExclusionFilters"):
        settings["imageTagMutabilityExclusionFilters"] = [
            {
                "filterType": each.get("ImageTagMutabilityExclusionFilterType"),
                "filter": each.get("ImageTagMutabilityExclusionFilterValue"),
            }
            for each in filters
        ]
    if scanning := properties.get("ImageScanningConfiguration"):
        settings["imageScanningConfiguration"] = _lower(scanning)
    return settings


def _physical(do: Deployment, name: str, uri: str) -> Physical:
    return Physical(name, {"Arn": f"arn:aws:ecr:{do.region}:{do.account}:repository/{name}", "RepositoryUri": uri})


async def _uri(do: Deployment, name: str) -> str:
    found = await do.call("ecr", "DescribeRepositories", {"repositoryNames": [name]})
    return str(found["repositories"][0]["repositoryUri"])


def _lower(document: dict[str, Any]) -> dict[str, Any]:
    """Properties under the names of the API's members, which differ in their first letter."""
    return {name[0].lower() + name[1:]: value for name, value in document.items()}


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call("ecr", operation, input)
    except AwsError as error:
        if not error.code.endswith("NotFoundException"):
            raise


class RegistryPolicy(ResourceType):
    """The policy of the whole registry. ``Ref`` is the registry's id."""

    type = "AWS::ECR::RegistryPolicy"
    required = frozenset(("PolicyText",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        await do.call("ecr", "PutRegistryPolicy", {"policyText": _text(properties["PolicyText"])})
        return _of_registry(do)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteRegistryPolicy", {})


class ReplicationConfiguration(ResourceType):
    """The rules of replication of the whole registry. ``Ref`` is the registry's id."""

    type = "AWS::ECR::ReplicationConfiguration"
    required = frozenset(("ReplicationConfiguration",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        rules = _deep(properties["ReplicationConfiguration"])
        await do.call("ecr", "PutReplicationConfiguration", {"replicationConfiguration": rules})
        return _of_registry(do)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("ecr", "PutReplicationConfiguration", {"replicationConfiguration": {"rules": []}})


class RegistryScanningConfiguration(ResourceType):
    """What of the whole registry is scanned. ``Ref`` is the registry's id."""

    type = "AWS::ECR::RegistryScanningConfiguration"
    required = frozenset(("Rules", "ScanType"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        await do.call("ecr", "PutRegistryScanningConfiguration", _deep(properties))
        return _of_registry(do)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("ecr", "PutRegistryScanningConfiguration", {"scanType": "BASIC", "rules": []})


class PullThroughCacheRule(ResourceType):
    """A rule of the cache. ``Ref`` is its prefix."""

    type = "AWS::ECR::PullThroughCacheRule"
    required = frozenset(("EcrRepositoryPrefix", "UpstreamRegistryUrl"))
    replaces = frozenset(("EcrRepositoryPrefix", "UpstreamRegistryUrl", "UpstreamRegistry", "UpstreamRepositoryPrefix"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        prefix = str(properties["EcrRepositoryPrefix"])
        await do.initiated(prefix)
        await do.call("ecr", "CreatePullThroughCacheRule", _lower(properties))
        return Physical(prefix)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        changes: Properties = {
            key: new[key] for key in ("EcrRepositoryPrefix", "CredentialArn", "CustomRoleArn") if key in new
        }
        await do.call("ecr", "UpdatePullThroughCacheRule", _lower(changes))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeletePullThroughCacheRule", {"ecrRepositoryPrefix": physical.id})


class RepositoryCreationTemplate(ResourceType):
    """A repository creation template. ``Ref`` is its prefix."""

    type = "AWS::ECR::RepositoryCreationTemplate"
    required = frozenset(("AppliedFor", "Prefix"))
    replaces = frozenset(("Prefix",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        await do.initiated(str(properties["Prefix"]))
        return _of_template(await do.call("ecr", "CreateRepositoryCreationTemplate", _template(properties)))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        # What is no longer there is emptied.
        emptied: Properties = {
            name: empty
            for name, empty in (
                ("Description", ""),
                ("ResourceTags", []),
                ("RepositoryPolicy", ""),
                ("LifecyclePolicy", ""),
            )
            if name in old
        }
        return _of_template(await do.call("ecr", "UpdateRepositoryCreationTemplate", _template({**emptied, **new})))

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteRepositoryCreationTemplate", {"prefix": physical.id})


def _template(properties: Properties) -> Properties:
    settings = _lower(properties)
    if "encryptionConfiguration" in settings:
        settings["encryptionConfiguration"] = _lower(settings["encryptionConfiguration"])
    return {key: value for key, value in settings.items() if key not in _MUTABILITY} | {
        key: value for key, value in _settings(properties).items() if key in _MUTABILITY
    }


_MUTABILITY = ("imageTagMutability", "imageTagMutabilityExclusionFilters")


def _of_template(answer: dict[str, Any]) -> Physical:
    made = answer["repositoryCreationTemplate"]
    return Physical(made["prefix"], {"CreatedAt": made["createdAt"], "UpdatedAt": made["updatedAt"]})


def _of_registry(do: Deployment) -> Physical:
    return Physical(do.account, {"RegistryId": do.account})


def _deep(value: Any) -> Any:
    """Like ``_lower``, all the way down."""
    if isinstance(value, list):
        return [_deep(each) for each in value]
    if isinstance(value, dict):
        return {name: _deep(each) for name, each in _lower(value).items()}
    return value


TYPES = [
    Repository,
    RegistryPolicy,
    ReplicationConfiguration,
    RegistryScanningConfiguration,
    PullThroughCacheRule,
    RepositoryCreationTemplate,
]
