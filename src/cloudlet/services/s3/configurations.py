"""What is set on a bucket: each kind of configuration with its operations to put, get and delete it.

A configuration is stored as the members that its Get operation answers. Those with a meaning here are read where they
matter (``cors``, ``website``, ``lifecycle``, ``public_access_block``, ``encryption``); the others are records.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.s3 import policy
from cloudlet.services.s3.buckets import Buckets, access_denied, malformed_xml
from cloudlet.services.s3.records import Bucket
from cloudlet.services.s3.tags import check_tags

Operation = Callable[["Configurations", Call, Input], Awaitable[Output]]
Missing = tuple[str, str]

_METHODS = ("GET", "PUT", "HEAD", "POST", "DELETE")
_NO_CONFIGURATION = ("NoSuchConfiguration", "The specified configuration does not exist.")
_AES256 = {
    "ServerSideEncryptionConfiguration": {
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}]
    }
}


def configuration_get(kind: str, *, default: Output | None = None, missing: Missing = ("", "")) -> Operation:
    """An operation that answers a configuration, its default, or that there is none."""

    async def get(self: Configurations, call: Call, input: Input) -> Output:
        settings = self.find(call, input).settings
        if kind in settings:
            return dict(settings[kind])
        if default is not None:
            return dict(default)
        raise AwsError(missing[0], missing[1], status=404, BucketName=input["Bucket"])

    return get


def _delete(kind: str) -> Operation:
    """An operation that forgets a configuration; that there is none is no error."""

    async def delete(self: Configurations, call: Call, input: Input) -> Output:
        await self.set(call, input, kind, None)
        return {}

    return delete


def _named(kind: str, member: str) -> tuple[Operation, Operation, Operation, Operation]:
    """Put, get, delete and list of a kind of which a bucket may have many, each with an id."""

    async def put(self: Configurations, call: Call, input: Input) -> Output:
        if input[member].get("Id") != input["Id"]:
            raise malformed_xml()
        await self._set_named(call, input, kind, input[member])
        return {}

    async def get(self: Configurations, call: Call, input: Input) -> Output:
        found = self.find(call, input).settings.get(kind, {})
        if input["Id"] not in found:
            raise AwsError(*_NO_CONFIGURATION, status=404)
        return {member: found[input["Id"]]}

    async def delete(self: Configurations, call: Call, input: Input) -> Output:
        if input["Id"] not in self.find(call, input).settings.get(kind, {}):
            raise AwsError(*_NO_CONFIGURATION, status=404)
        await self._set_named(call, input, kind, None)
        return {}

    async def list_(self: Configurations, call: Call, input: Input) -> Output:
        found = self.find(call, input).settings.get(kind, {})
        listed = [found[id] for id in sorted(found)]
        return {"IsTruncated": False, **({f"{member}List": listed} if listed else {})}

    return put, get, delete, list_


class Configurations(Buckets):
    """The operations on a bucket's configurations."""

    async def _set_named(self, call: Call, input: Input, kind: str, members: dict[str, Any] | None) -> None:
        def change(bucket: Bucket) -> Bucket:
            found = {id: value for id, value in bucket.settings.get(kind, {}).items() if id != input["Id"]}
            if members is not None:
                found[input["Id"]] = members
            return replace(bucket, settings={**bucket.settings, kind: found})

        await self.change_bucket(call, input, change)

    # Records that have no meaning on one machine; metrics configurations are read by ``reporting.py``.
    GetBucketAccelerateConfiguration = configuration_get("accelerate", default={})
    GetBucketRequestPayment = configuration_get("request_payment", default={"Payer": "BucketOwner"})
    GetBucketLogging = configuration_get("logging", default={})
    GetBucketAbac = configuration_get("abac", default={"AbacStatus": {"Status": "Disabled"}})
    (
        PutBucketAnalyticsConfiguration,
        GetBucketAnalyticsConfiguration,
        DeleteBucketAnalyticsConfiguration,
        ListBucketAnalyticsConfigurations,
    ) = _named("analytics", "AnalyticsConfiguration")
    (
        _put_metrics,
        GetBucketMetricsConfiguration,
        DeleteBucketMetricsConfiguration,
        ListBucketMetricsConfigurations,
    ) = _named("metrics", "MetricsConfiguration")
    (
        PutBucketIntelligentTieringConfiguration,
        GetBucketIntelligentTieringConfiguration,
        DeleteBucketIntelligentTieringConfiguration,
        ListBucketIntelligentTieringConfigurations,
    ) = _named("intelligent_tiering", "IntelligentTieringConfiguration")

    # Nothing is replicated and no inventory is written, so that these cannot be put: they answer that there is none.
    GetBucketReplication = configuration_get(
        "replication",
        missing=("ReplicationConfigurationNotFoundError", "The replication configuration was not found"),
    )
    DeleteBucketReplication = _delete("replication")
    _, GetBucketInventoryConfiguration, DeleteBucketInventoryConfiguration, ListBucketInventoryConfigurations = _named(
        "inventory", "InventoryConfiguration"
    )

    async def PutBucketMetricsConfiguration(self, call: Call, input: Input) -> Output:
        if (input["MetricsConfiguration"].get("Filter") or {}).keys() - {"Prefix"}:
            raise not_implemented("PutBucketMetricsConfiguration with a filter of tags or access points")
        return await self._put_metrics(call, input)

    async def PutBucketAccelerateConfiguration(self, call: Call, input: Input) -> Output:
        asked = input["AccelerateConfiguration"]
        if asked.get("Status") not in ("Enabled", "Suspended"):
            raise malformed_xml()
        if "." in input["Bucket"]:
            raise AwsError(
                "InvalidRequest",
                "S3 Transfer Acceleration is not supported for buckets with periods (.) in their names",
            )
        if asked["Status"] == "Enabled" or "accelerate" in self.find(call, input).settings:
            await self.set(call, input, "accelerate", asked)
        return {}

    async def PutBucketRequestPayment(self, call: Call, input: Input) -> Output:
        asked = input["RequestPaymentConfiguration"]
        if asked.get("Payer") not in ("Requester", "BucketOwner"):
            raise malformed_xml()
        await self.set(call, input, "request_payment", asked)
        return {}

    async def PutBucketLogging(self, call: Call, input: Input) -> Output:
        """Switch access logs off; none are delivered, so they cannot be switched on."""
        asked = input["BucketLoggingStatus"]
        if (enabled := asked.get("LoggingEnabled")) is not None:
            target = self.buckets.get("", enabled.get("TargetBucket", ""))
            if target is None or target.value.account != self.find(call, input).account:
                raise AwsError(
                    "InvalidTargetBucketForLogging",
                    "The target bucket for logging does not exist",
                    TargetBucket=enabled.get("TargetBucket", ""),
                )
            if target.value.region != self.find(call, input).region:
                raise AwsError(
                    "CrossLocationLoggingProhibitted",
                    "Cross S3 location logging not allowed. ",
                    status=403,
                    TargetBucketLocation=target.value.region,
                )
            raise not_implemented("PutBucketLogging with LoggingEnabled")
        await self.set(call, input, "logging", None)
        return {}

    # Cross-origin rules.
    GetBucketCors = configuration_get(
        "cors", missing=("NoSuchCORSConfiguration", "The CORS configuration does not exist")
    )
    DeleteBucketCors = _delete("cors")

    async def PutBucketCors(self, call: Call, input: Input) -> Output:
        rules = input["CORSConfiguration"].get("CORSRules", [])
        if not rules or len(rules) > 100:
            raise malformed_xml()
        for rule in rules:
            for method in rule["AllowedMethods"]:
                if method not in _METHODS:
                    raise AwsError(
                        "InvalidRequest",
                        f"Found unsupported HTTP method in CORS config. Unsupported method is {method}",
                    )
            for field, what in (("AllowedOrigins", "AllowedOrigin"), ("AllowedHeaders", "AllowedHeader")):
                for pattern in rule.get(field, []):
                    if pattern.count("*") > 1:
                        raise AwsError("InvalidRequest", f'{what} "{pattern}" can not have more than one wildcard.')
        await self.set(call, input, "cors", {"CORSRules": rules})
        return {}

    # Encryption at rest: a record, which the answers about new objects repeat.
    GetBucketEncryption = configuration_get("encryption", default=_AES256)
    DeleteBucketEncryption = _delete("encryption")

    async def PutBucketEncryption(self, call: Call, input: Input) -> Output:
        for rule in input["ServerSideEncryptionConfiguration"]["Rules"]:
            default = rule.get("ApplyServerSideEncryptionByDefault", {})
            if default.get("SSEAlgorithm", "AES256") not in ("AES256", "aws:kms", "aws:kms:dsse"):
                raise malformed_xml()
            if "KMSMasterKeyID" in default and default.get("SSEAlgorithm") == "AES256":
                raise AwsError(
                    "InvalidArgument", "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms"
                )
            rule.setdefault("BucketKeyEnabled", False)
        configuration = input["ServerSideEncryptionConfiguration"]
        await self.set(call, input, "encryption", {"ServerSideEncryptionConfiguration": configuration})
        return {}

    # Tags of the bucket.
    async def GetBucketTagging(self, call: Call, input: Input) -> Output:
        bucket = self.find(call, input)
        if not bucket.tags:
            raise AwsError("NoSuchTagSet", "The TagSet does not exist", status=404, BucketName=input["Bucket"])
        return {"TagSet": bucket.tags}

    async def PutBucketTagging(self, call: Call, input: Input) -> Output:
        tags = input["Tagging"]["TagSet"]
        check_tags(tags, 50)
        if call.request is not None and any(tag["Key"].startswith("aws:") for tag in tags):
            kept = self.find(call, input).tags
            if any(tag["Key"].startswith("aws:") and tag not in kept for tag in tags):
                raise AwsError("InvalidTag", "System tags cannot be added/updated by requester")
        await self.change_bucket(call, input, lambda bucket: replace(bucket, tags=tags))
        return {}

    async def DeleteBucketTagging(self, call: Call, input: Input) -> Output:
        await self.change_bucket(call, input, lambda bucket: replace(bucket, tags=[]))
        return {}

    # Websites.
    GetBucketWebsite = configuration_get(
        "website",
        missing=("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"),
    )
    DeleteBucketWebsite = _delete("website")

    async def PutBucketWebsite(self, call: Call, input: Input) -> Output:
        asked = input["WebsiteConfiguration"]
        if ("RedirectAllRequestsTo" in asked) == ("IndexDocument" in asked):
            raise AwsError(
                "InvalidArgument", "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty"
            )
        if "IndexDocument" in asked and "/" in asked["IndexDocument"].get("Suffix", "/"):
            raise AwsError("InvalidArgument", "The IndexDocument Suffix is not well formed")
        await self.set(call, input, "website", asked)
        return {}

    # Who may use the bucket.
    GetBucketPolicy = configuration_get("policy", missing=("NoSuchBucketPolicy", "The bucket policy does not exist"))
    DeleteBucketPolicy = _delete("policy")
    GetPublicAccessBlock = configuration_get(
        "public_access_block",
        missing=("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"),
    )
    DeletePublicAccessBlock = _delete("public_access_block")
    GetBucketOwnershipControls = configuration_get(
        "ownership",
        missing=("OwnershipControlsNotFoundError", "The bucket ownership controls were not found"),
    )
    DeleteBucketOwnershipControls = _delete("ownership")

    async def PutBucketPolicy(self, call: Call, input: Input) -> Output:
        text = input.get("Policy", "")
        policy.check(text, input["Bucket"])
        if policy.blocks(self.find(call, input), "BlockPublicPolicy") and policy.is_public(text):
            raise access_denied(
                f"User: {call.principal} is not authorized to perform: s3:PutBucketPolicy on resource: "
                f'"arn:aws:s3:::{input["Bucket"]}" because public policies are prevented by the BlockPublicPolicy '
                "setting in S3 Block Public Access."
            )
        await self.set(call, input, "policy", {"Policy": text})
        return {}

    async def GetBucketPolicyStatus(self, call: Call, input: Input) -> Output:
        found = await self.GetBucketPolicy(call, input)
        return {"PolicyStatus": {"IsPublic": policy.is_public(found["Policy"])}}

    async def PutPublicAccessBlock(self, call: Call, input: Input) -> Output:
        asked = input["PublicAccessBlockConfiguration"]
        names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        block = {name: bool(asked.get(name)) for name in names}
        await self.set(call, input, "public_access_block", {"PublicAccessBlockConfiguration": block})
        return {}

    async def PutBucketOwnershipControls(self, call: Call, input: Input) -> Output:
        rules = input["OwnershipControls"]["Rules"]
        if len(rules) != 1 or rules[0].get("ObjectOwnership") not in (
            "BucketOwnerEnforced",
            "BucketOwnerPreferred",
            "ObjectWriter",
        ):
            raise malformed_xml()
        await self.set(call, input, "ownership", {"OwnershipControls": input["OwnershipControls"]})
        return {}
