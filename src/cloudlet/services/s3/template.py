"""The properties of AWS::S3::Bucket as calls of the API, whose words often differ from the template's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cloudlet.errors import AwsError, not_implemented

Properties = dict[str, Any]
Calls = list[tuple[str, Properties]]
# What was set before and what is to be (None: nothing) -> the calls that make it so.
Setting = Callable[[Any, Any], Calls]


def flag(value: Any) -> bool:
    """A template's boolean, which may be a text."""
    return value is True or str(value).lower() == "true"


def _renamed(value: Properties, **names: str) -> Properties:
    """The members under the API's names; those without a name of their own keep theirs."""
    return {names.get(name, name): item for name, item in value.items()}


def _put_or_delete(operation: str, member: str, delete: str, convert: Callable[[Any], Any] | None = None) -> Setting:
    def setting(before: Any, after: Any) -> Calls:
        if after is None:
            return [(delete, {})]
        return [(operation, {member: convert(after) if convert is not None else after})]

    return setting


def _put_or_default(operation: str, member: str, default: Any, convert: Callable[[Any], Any] | None = None) -> Setting:
    def setting(before: Any, after: Any) -> Calls:
        return [(operation, {member: default if after is None else convert(after) if convert is not None else after})]

    return setting


def _named(kind: str, convert: Callable[[Properties], Properties]) -> Setting:
    """A kind of which there may be many, each with an id."""

    def setting(before: Any, after: Any) -> Calls:
        wanted = {one["Id"]: one for one in after or []}
        gone = [one["Id"] for one in before or [] if one["Id"] not in wanted]
        return [
            *((f"DeleteBucket{kind}", {"Id": id}) for id in gone),
            *((f"PutBucket{kind}", {"Id": id, kind: convert(one)}) for id, one in wanted.items()),
        ]

    return setting


def _refused(property: str) -> Setting:
    def setting(before: Any, after: Any) -> Calls:
        if after is None:
            return []
        raise not_implemented(f"AWS::S3::Bucket with {property}")

    return setting


def _encryption(value: Properties) -> Properties:
    rules = [
        _renamed(rule, ServerSideEncryptionByDefault="ApplyServerSideEncryptionByDefault")
        for rule in value["ServerSideEncryptionConfiguration"]
    ]
    return {"Rules": rules}


def _cors(value: Properties) -> Properties:
    rules = [
        _renamed(rule, ExposedHeaders="ExposeHeaders", Id="ID", MaxAge="MaxAgeSeconds") for rule in value["CorsRules"]
    ]
    return {"CORSRules": rules}


def _transition(value: Properties, days: str) -> Properties:
    return _renamed(value, TransitionInDays=days, TransitionDate="Date")


def _lifecycle_rule(value: Properties) -> Properties:
    rule: Properties = {"Status": value["Status"]}
    if "Id" in value:
        rule["ID"] = value["Id"]
    filter: Properties = {}
    if tags := value.get("TagFilters"):
        filter["Tags"] = tags
    for name in ("Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan"):
        if name in value:
            filter[name] = value[name]
    if len(filter) + len(filter.get("Tags", [])[1:]) > 1:
        rule["Filter"] = {"And": filter}
    elif "Tags" in filter:
        rule["Filter"] = {"Tag": filter["Tags"][0]}
    else:
        rule["Filter"] = filter or {"Prefix": ""}
    for name, member in (
        ("ExpirationInDays", "Days"),
        ("ExpirationDate", "Date"),
        ("ExpiredObjectDeleteMarker", "ExpiredObjectDeleteMarker"),
    ):
        if name in value:
            rule["Expiration"] = {member: value[name]}
    transitions = [*value.get("Transitions", []), *([value["Transition"]] if "Transition" in value else [])]
    if transitions:
        rule["Transitions"] = [_transition(one, "Days") for one in transitions]
    older = [
        *value.get("NoncurrentVersionTransitions", []),
        *([value["NoncurrentVersionTransition"]] if "NoncurrentVersionTransition" in value else []),
    ]
    if older:
        rule["NoncurrentVersionTransitions"] = [_transition(one, "NoncurrentDays") for one in older]
    if "NoncurrentVersionExpiration" in value:
        rule["NoncurrentVersionExpiration"] = value["NoncurrentVersionExpiration"]
    elif "NoncurrentVersionExpirationInDays" in value:
        rule["NoncurrentVersionExpiration"] = {"NoncurrentDays": value["NoncurrentVersionExpirationInDays"]}
    if "AbortIncompleteMultipartUpload" in value:
        rule["AbortIncompleteMultipartUpload"] = value["AbortIncompleteMultipartUpload"]
    return rule


def _nothing(before: Any, after: Any) -> Calls:
    return []


def _lifecycle(before: Any, after: Any) -> Calls:
    if not after or not after.get("Rules"):
        return [("DeleteBucketLifecycle", {})]
    input: Properties = {"LifecycleConfiguration": {"Rules": [_lifecycle_rule(rule) for rule in after["Rules"]]}}
    if "TransitionDefaultMinimumObjectSize" in after:
        input["TransitionDefaultMinimumObjectSize"] = after["TransitionDefaultMinimumObjectSize"]
    return [("PutBucketLifecycleConfiguration", input)]


def _notification(value: Properties) -> Properties:
    configuration: Properties = {}
    for kind, member, own, arn in (
        ("LambdaConfigurations", "LambdaFunctionConfigurations", "Function", "LambdaFunctionArn"),
        ("QueueConfigurations", "QueueConfigurations", "Queue", "QueueArn"),
        ("TopicConfigurations", "TopicConfigurations", "Topic", "TopicArn"),
    ):
        listed = []
        for one in value.get(kind) or []:
            entry: Properties = {arn: one[own], "Events": [one["Event"]]}
            if "Filter" in one:
                rules = [{"Name": rule["Name"], "Value": rule["Value"]} for rule in one["Filter"]["S3Key"]["Rules"]]
                entry["Filter"] = {"Key": {"FilterRules": rules}}
            listed.append(entry)
        if listed:
            configuration[member] = listed
    bridge = value.get("EventBridgeConfiguration")
    if bridge is not None and flag(bridge.get("EventBridgeEnabled", True)):
        configuration["EventBridgeConfiguration"] = {}
    return configuration


def _website(value: Properties) -> Properties:
    website: Properties = {}
    if "IndexDocument" in value:
        website["IndexDocument"] = {"Suffix": value["IndexDocument"]}
    if "ErrorDocument" in value:
        website["ErrorDocument"] = {"Key": value["ErrorDocument"]}
    if "RedirectAllRequestsTo" in value:
        website["RedirectAllRequestsTo"] = value["RedirectAllRequestsTo"]
    if value.get("RoutingRules"):
        website["RoutingRules"] = [
            _renamed(rule, RedirectRule="Redirect", RoutingRuleCondition="Condition") for rule in value["RoutingRules"]
        ]
    return website


def _object_lock(before: Any, after: Any) -> Calls:
    configuration = after or {"ObjectLockEnabled": "Enabled"}
    return [("PutObjectLockConfiguration", {"ObjectLockConfiguration": configuration})]


def _access_control(before: Any, after: Any) -> Calls:
    # PublicReadWrite -> public-read-write
    canned = re.sub(r"(?<!\A)([A-Z])", r"-\1", after or "Private").lower()
    if before is None and canned == "private":
        return []
    return [("PutBucketAcl", {"ACL": canned})]


def _versioning(before: Any, after: Any) -> Calls:
    status = "Suspended" if after is None else after["Status"]
    if before is None and status == "Suspended":
        return []
    return [("PutBucketVersioning", {"VersioningConfiguration": {"Status": status}})]


def _filtered(value: Properties) -> Properties:
    """A configuration whose prefix and tags the API puts into a filter."""
    kept = {name: item for name, item in value.items() if name not in ("Prefix", "TagFilters", "AccessPointArn")}
    filter: Properties = {}
    for name in ("Prefix", "AccessPointArn"):
        if name in value:
            filter[name] = value[name]
    if tags := value.get("TagFilters"):
        filter["Tags"] = tags
    if len(filter) + len(filter.get("Tags", [])[1:]) > 1:
        kept["Filter"] = {"And": filter}
    elif "Tags" in filter:
        kept["Filter"] = {"Tag": filter["Tags"][0]}
    elif filter:
        kept["Filter"] = filter
    return kept


def _analytics(value: Properties) -> Properties:
    analysis = value.get("StorageClassAnalysis", {})
    if "DataExport" in analysis:
        destination = analysis["DataExport"]["Destination"]
        bucket = _renamed(destination, BucketArn="Bucket")
        analysis = {"DataExport": {**analysis["DataExport"], "Destination": {"S3BucketDestination": bucket}}}
    return {**_filtered(value), "StorageClassAnalysis": analysis}


def _acceleration(before: Any, after: Any) -> Calls:
    status = "Suspended" if after is None else after["AccelerationStatus"]
    return [("PutBucketAccelerateConfiguration", {"AccelerateConfiguration": {"Status": status}})]


def _ownership(value: Properties) -> Properties:
    if not value.get("Rules"):
        raise AwsError("ValidationError", "OwnershipControls needs Rules.")
    return value


# In the order in which they are put: who may write before what is public, and destinations last.
# Access logs are not delivered; every call is seen in ``/_cloudlet/calls``.
IGNORED = frozenset(("LoggingConfiguration",))

SETTINGS: dict[str, Setting] = {
    "OwnershipControls": _put_or_default(
        "PutBucketOwnershipControls",
        "OwnershipControls",
        {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        _ownership,
    ),
    "PublicAccessBlockConfiguration": _put_or_default(
        "PutPublicAccessBlock",
        "PublicAccessBlockConfiguration",
        dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True),
    ),
    "AccessControl": _access_control,
    "VersioningConfiguration": _versioning,
    "ObjectLockConfiguration": _object_lock,
    "BucketEncryption": _put_or_delete(
        "PutBucketEncryption", "ServerSideEncryptionConfiguration", "DeleteBucketEncryption", _encryption
    ),
    "CorsConfiguration": _put_or_delete("PutBucketCors", "CORSConfiguration", "DeleteBucketCors", _cors),
    "LifecycleConfiguration": _lifecycle,
    "WebsiteConfiguration": _put_or_delete("PutBucketWebsite", "WebsiteConfiguration", "DeleteBucketWebsite", _website),
    **dict.fromkeys(IGNORED, _nothing),
    "AccelerateConfiguration": _acceleration,
    "IntelligentTieringConfigurations": _named("IntelligentTieringConfiguration", _filtered),
    "MetricsConfigurations": _named("MetricsConfiguration", _filtered),
    "AnalyticsConfigurations": _named("AnalyticsConfiguration", _analytics),
    "NotificationConfiguration": _put_or_default(
        "PutBucketNotificationConfiguration", "NotificationConfiguration", {}, _notification
    ),
    **{
        property: _refused(property)
        for property in (
            "InventoryConfigurations",
            "MetadataConfiguration",
            "MetadataTableConfiguration",
            "ReplicationConfiguration",
        )
    },
}
