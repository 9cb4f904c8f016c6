"""CloudFormation's types of ECR."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError
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


TYPES = [Repository]
