"""CloudFormation's types of S3."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.s3 import template
from cloudlet.services.s3.template import IGNORED, SETTINGS
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, tags_of

_GONE = frozenset(("NoSuchBucket", "NoSuchBucketPolicy"))
_OWNER = ("aws:cloudformation:stack-id", "aws:cloudformation:logical-id")
_OWN_PROPERTIES = frozenset(("BucketName", "ObjectLockEnabled", "Tags"))


class Bucket(ResourceType):
    """A bucket. ``Ref`` is its name."""

    type = "AWS::S3::Bucket"
    replaces = frozenset(("BucketName",))
    ignored = IGNORED

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _check(properties)
        name = properties.get("BucketName") or do.name(63, lower=True)
        await self._make(do, name, properties)
        await do.initiated(name)
        await _apply(do, name, {}, properties)
        return await _physical(do, name)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        _check(new)
        if template.flag(old.get("ObjectLockEnabled")) and not template.flag(new.get("ObjectLockEnabled")):
            raise AwsError("ValidationError", "ObjectLockEnabled cannot be switched off.")
        await _apply(do, physical.id, old, new)
        await _tag(do, physical.id, tags_of(do, new))
        return await _physical(do, physical.id)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteBucket", {"Bucket": physical.id})

    async def _make(self, do: Deployment, name: str, properties: Properties) -> None:
        """Create the bucket, unless an earlier run of this step has."""
        tags = tags_of(do, properties)
        try:
            found = await do.call("s3", "GetBucketTagging", {"Bucket": name})
        except AwsError as error:
            if error.code not in ("NoSuchBucket", "NoSuchTagSet"):
                raise
            if error.code == "NoSuchBucket":
                await self._create(do, name, properties, tags)
                return
            found = {"TagSet": []}
        known = {tag["Key"]: tag["Value"] for tag in found["TagSet"]}
        if any(known.get(key) != tags.get(key) for key in _OWNER):
            raise AwsError(
                "AlreadyExists", f"Resource of type 'AWS::S3::Bucket' with identifier '{name}' already exists."
            )

    async def _create(self, do: Deployment, name: str, properties: Properties, tags: dict[str, str]) -> None:
        configuration: Properties = {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        if do.region != "us-east-1":
            configuration["LocationConstraint"] = do.region
        input: Properties = {"Bucket": name, "CreateBucketConfiguration": configuration}
        if template.flag(properties.get("ObjectLockEnabled")):
            input["ObjectLockEnabledForBucket"] = True
        if controls := properties.get("OwnershipControls"):
            input["ObjectOwnership"] = controls["Rules"][0]["ObjectOwnership"]
        await do.call("s3", "CreateBucket", input)


class BucketPolicy(ResourceType):
    """The policy of a bucket. ``Ref`` is the bucket's name."""

    type = "AWS::S3::BucketPolicy"
    required = frozenset(("Bucket", "PolicyDocument"))
    replaces = frozenset(("Bucket",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties["Bucket"]
        document = properties["PolicyDocument"]
        text = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))
        await do.call("s3", "PutBucketPolicy", {"Bucket": name, "Policy": text})
        return Physical(name)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteBucketPolicy", {"Bucket": physical.id})


def _check(properties: Properties) -> None:
    unknown = properties.keys() - SETTINGS.keys() - _OWN_PROPERTIES
    if unknown:
        raise AwsError("ValidationError", f"Unsupported property of AWS::S3::Bucket: {', '.join(sorted(unknown))}")


async def _apply(do: Deployment, name: str, old: Properties, new: Properties) -> None:
    """Put what the template sets, and take back what it no longer sets."""
    for property, setting in SETTINGS.items():
        before, after = old.get(property), new.get(property)
        if before == after:
            continue
        for operation, input in setting(before, after):
            await do.call("s3", operation, {"Bucket": name, **input})


async def _tag(do: Deployment, name: str, tags: dict[str, str]) -> None:
    if tags:
        tag_set = [{"Key": key, "Value": value} for key, value in tags.items()]
        await do.call("s3", "PutBucketTagging", {"Bucket": name, "Tagging": {"TagSet": tag_set}})
    else:
        await do.call("s3", "DeleteBucketTagging", {"Bucket": name})


async def _physical(do: Deployment, name: str) -> Physical:
    found: dict[str, Any] = await do.call("s3", "HeadBucket", {"Bucket": name})
    return Physical(
        name,
        {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "DualStackDomainName": f"{name}.s3.dualstack.{do.region}.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{do.region}.amazonaws.com",
            "WebsiteURL": found["WebsiteUrl"],
        },
    )


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call("s3", operation, input)
    except AwsError as error:
        if error.code not in _GONE:
            raise


TYPES = [Bucket, BucketPolicy]
