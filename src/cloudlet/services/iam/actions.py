"""What a call is called in policies: the action and the resource that it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

from cloudlet.services.api import Call, Input


class Need(NamedTuple):
    """One permission that a call needs. ``resources`` are forms of one resource; the first is the one that is shown."""

    action: str
    resources: tuple[str, ...]


# botocore's name of a service -> its name in policies, where that is another one.
_PREFIXES = {
    "apigatewayv2": "apigateway",
    "apigatewaymanagementapi": "execute-api",
    "cognito-idp": "cognito-idp",
    "dynamodbstreams": "dynamodb",
    "efs": "elasticfilesystem",
    "elbv2": "elasticloadbalancing",
    "opensearch": "es",
    "resourcegroupstaggingapi": "tag",
    "sesv2": "ses",
    "stepfunctions": "states",
}
# Operations whose permission has another name.
_ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sns:PublishBatch": "sns:Publish",
    "lambda:Invoke": "lambda:InvokeFunction",
    "lambda:InvokeAsync": "lambda:InvokeFunction",
    "lambda:InvokeWithResponseStream": "lambda:InvokeFunction",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:HeadObject": "s3:GetObject",
    "s3:SelectObjectContent": "s3:GetObject",
    "s3:CopyObject": "s3:PutObject",
    "s3:PostObject": "s3:PutObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:UploadPartCopy": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:ListParts": "s3:ListMultipartUploadParts",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:GetBucketCors": "s3:GetBucketCORS",
    "s3:PutBucketCors": "s3:PutBucketCORS",
    "s3:DeleteBucketCors": "s3:PutBucketCORS",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:DeleteBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "s3:PutBucketNotificationConfiguration": "s3:PutBucketNotification",
    "s3:GetBucketReplication": "s3:GetReplicationConfiguration",
    "s3:PutBucketReplication": "s3:PutReplicationConfiguration",
    "s3:DeleteBucketReplication": "s3:PutReplicationConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:DeletePublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:DeleteBucketTagging": "s3:PutBucketTagging",
}
# API Gateway's permissions are verbs. These operations come without a request too, from the tagging API.
_VERBS = {
    "apigateway:TagResource": "PUT",
    "apigateway:UntagResource": "DELETE",
    "apigatewayv2:TagResource": "POST",
    "apigatewayv2:UntagResource": "DELETE",
}
# What anybody may do who has credentials.
FREE = frozenset(("sts:GetCallerIdentity", "sts:GetSessionToken", "sts:GetAccessKeyInfo"))

_IAM_KINDS = (
    ("UserName", "user"),
    ("RoleName", "role"),
    ("GroupName", "group"),
    ("InstanceProfileName", "instance-profile"),
    ("PolicyName", "policy"),
)


def needs_of(call: Call, input: Input) -> list[Need]:
    """The permissions that a call needs; all of them."""
    prefix = _PREFIXES.get(call.service, call.service)
    if prefix == "apigateway" and call.request is not None:
        path = unquote(call.request.path.partition("?")[0])
        return [Need(f"apigateway:{call.request.method}", (f"arn:aws:apigateway:{call.region}::{path}",))]
    if verb := _VERBS.get(f"{call.service}:{call.operation}"):
        path = f"/tags/{_any_arn(call, input)[0]}"
        return [Need(f"apigateway:{verb}", (f"arn:aws:apigateway:{call.region}::{path}",))]
    if call.service == "dynamodb":
        return _dynamodb(call, input)
    if call.service == "s3":
        return _s3(call, input)
    named = f"{prefix}:{call.operation}"
    find = _RESOURCES.get(call.service, _any_arn)
    return [Need(_ACTIONS.get(named, named), find(call, input))]


def _arn(call: Call, service: str, resource: str) -> str:
    return f"arn:aws:{service}:{call.region}:{call.account}:{resource}"


def _any_arn(call: Call, input: Input) -> tuple[str, ...]:
    """The first ARN that an input names."""
    for name, value in input.items():
        if name.lower().endswith("arn") and isinstance(value, str) and value.startswith("arn:"):
            return (value,)
    return ("*",)


def _named(service: str, *members: tuple[str, str]) -> Callable[[Call, Input], tuple[str, ...]]:
    """Resources that are named by the first of some members; ``{}`` in a form is the member's value."""

    def find(call: Call, input: Input) -> tuple[str, ...]:
        for member, form in members:
            value = input.get(member)
            if isinstance(value, list):
                value = value[0] if value else None
            if isinstance(value, str) and value:
                return (value if value.startswith("arn:") else _arn(call, service, form.replace("{}", value)),)
        return _any_arn(call, input)

    return find


def _sqs(call: Call, input: Input) -> tuple[str, ...]:
    if "QueueUrl" in input:
        head, _, name = input["QueueUrl"].rpartition("/")
        account = head.rpartition("/")[2] or call.account
        return (f"arn:aws:sqs:{call.region}:{account}:{name}",)
    if "QueueName" in input:
        return (_arn(call, "sqs", input["QueueName"]),)
    return _any_arn(call, input) if "SourceArn" in input else (_arn(call, "sqs", "*"), "*")


def _lambda(call: Call, input: Input) -> tuple[str, ...]:
    if name := input.get("FunctionName"):
        # A name, a name with its account, or an ARN, each perhaps with a qualifier.
        parts = name.split(":function:")[-1].split(":")
        qualifier = parts[1] if len(parts) > 1 else input.get("Qualifier", "")
        arn = _arn(call, "lambda", f"function:{parts[0]}")
        return (f"{arn}:{qualifier}",) if qualifier else (arn,)
    if name := input.get("LayerName"):
        version = f":{input['VersionNumber']}" if "VersionNumber" in input else ""
        return (name if name.startswith("arn:") else _arn(call, "lambda", f"layer:{name}{version}"),)
    return _any_arn(call, input)


def _logs(call: Call, input: Input) -> tuple[str, ...]:
    name = input.get("logGroupName") or input.get("logGroupIdentifier") or ""
    if name.startswith("arn:"):
        name = name.split(":")[6]
    if not name and "resourceArn" in input:
        return _any_arn(call, input)
    group = _arn(call, "logs", f"log-group:{name}")
    if stream := input.get("logStreamName"):
        return (f"{group}:log-stream:{stream}",)
    return (f"{group}:log-stream:", group)


def _iam(call: Call, input: Input) -> tuple[str, ...]:
    for member, kind in _IAM_KINDS:
        if value := input.get(member):
            path = input.get("Path", "/") if call.operation.startswith("Create") else "/"
            return (f"arn:aws:iam::{call.account}:{kind}{path}{value}",)
    found = _any_arn(call, input)
    return found if found != ("*",) else (f"arn:aws:iam::{call.account}:*", "*")


def _secrets(call: Call, input: Input) -> tuple[str, ...]:
    name = input.get("SecretId") or input.get("Name") or "*"
    if name.startswith("arn:"):
        return (name,)
    return (_arn(call, "secretsmanager", f"secret:{name}"), _arn(call, "secretsmanager", f"secret:{name}-??????"))


def _ssm(call: Call, input: Input) -> tuple[str, ...]:
    name = input.get("Name") or input.get("Path") or next(iter(input.get("Names", ())), "")
    if not name:
        return _any_arn(call, input)
    return (name if name.startswith("arn:") else _arn(call, "ssm", f"parameter/{name.removeprefix('/')}"),)


def _events(call: Call, input: Input) -> tuple[str, ...]:
    bus = input.get("EventBusName") or next((one.get("EventBusName", "") for one in input.get("Entries", ())), "")
    bus = (bus or "default").rpartition("/")[2]
    if rule := input.get("Rule") or (input.get("Name") if "Rule" in call.operation else None):
        return (_arn(call, "events", f"rule/{rule}" if bus == "default" else f"rule/{bus}/{rule}"),)
    if call.operation == "PutEvents" or "Name" in input or "EventBusName" in input:
        return (_arn(call, "events", f"event-bus/{input.get('Name', bus)}"),)
    return _any_arn(call, input)


def _dynamodb(call: Call, input: Input) -> list[Need]:
    def table(name: str, index: str = "") -> tuple[str, ...]:
        arn = name if name.startswith("arn:") else _arn(call, "dynamodb", f"table/{name}")
        return (f"{arn}/index/{index}",) if index else (arn,)

    action = f"dynamodb:{call.operation}"
    if call.operation in ("BatchGetItem", "BatchWriteItem"):
        return [Need(action, table(name)) for name in input["RequestItems"]]
    if call.operation in ("TransactGetItems", "TransactWriteItems"):
        kinds = {"Get": "GetItem", "Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}
        return [
            Need(f"dynamodb:{kinds.get(kind, 'ConditionCheckItem')}", table(one["TableName"]))
            for item in input["TransactItems"]
            for kind, one in item.items()
        ]
    if name := input.get("TableName"):
        return [Need(action, table(name, input.get("IndexName", "")))]
    if call.operation in ("ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"):
        return [Need(action, (_arn(call, "dynamodb", "table/*"), "*"))]
    return [Need(action, _any_arn(call, input))]


def _s3(call: Call, input: Input) -> list[Need]:
    named = f"s3:{call.operation}"
    action = _ACTIONS.get(named, named)
    if "Bucket" not in input:
        return [Need(action, ("*",))]
    bucket = f"arn:aws:s3:::{input['Bucket']}"
    if call.operation == "DeleteObjects":
        return [Need(action, (f"{bucket}/{one['Key']}",)) for one in input["Delete"]["Objects"]]
    if "Key" not in input:
        return [Need(action, (bucket,))]
    if "VersionId" in input and action in ("s3:GetObject", "s3:DeleteObject", "s3:GetObjectTagging"):
        action = action.replace("Object", "ObjectVersion")
    needs = [Need(action, (f"{bucket}/{input['Key']}",))]
    if source := input.get("CopySource"):
        copied = unquote(source).removeprefix("/").partition("?")[0]
        needs.append(Need("s3:GetObject", (f"arn:aws:s3:::{copied}",)))
    return needs


_RESOURCES: dict[str, Callable[[Call, Input], tuple[str, ...]]] = {
    "sqs": _sqs,
    "lambda": _lambda,
    "logs": _logs,
    "iam": _iam,
    "secretsmanager": _secrets,
    "ssm": _ssm,
    "events": _events,
    "sns": _named("sns", ("TopicArn", "{}"), ("ResourceArn", "{}"), ("SubscriptionArn", "{}"), ("Name", "{}")),
    "acm-pca": _named("acm-pca", ("CertificateAuthorityArn", "{}"), ("ResourceArn", "{}")),
    "kinesis": _named("kinesis", ("StreamARN", "stream/{}"), ("StreamName", "stream/{}")),
    "firehose": _named("firehose", ("DeliveryStreamName", "deliverystream/{}")),
    "stepfunctions": _named("states", ("stateMachineArn", ""), ("executionArn", ""), ("name", "stateMachine:{}")),
    "ecr": _named("ecr", ("repositoryName", "repository/{}"), ("repositoryNames", "repository/{}")),
    "kms": _named("kms", ("KeyId", "key/{}")),
    "cloudformation": _named("cloudformation", ("StackName", "stack/{}/*")),
    "cloudwatch": _named("cloudwatch", ("AlarmName", "alarm:{}"), ("AlarmNames", "alarm:{}")),
    "resource-groups": _named(
        "resource-groups", ("Group", "group/{}"), ("GroupName", "group/{}"), ("Name", "group/{}")
    ),
    "scheduler": _named("scheduler", ("Name", "schedule/default/{}")),
    "rds": _named("rds", ("DBInstanceIdentifier", "db:{}"), ("DBClusterIdentifier", "cluster:{}")),
    "servicediscovery": _named("servicediscovery", ("ServiceId", "service/{}"), ("Id", "service/{}")),
}


def request_tags(input: Input) -> Iterable[tuple[str, str]]:
    """The tags that a call gives to what it makes."""
    given: Any = input.get("Tags") or input.get("tags") or ()
    if isinstance(given, dict):
        return [(key, str(value)) for key, value in given.items()]
    return [
        (str(tag.get("Key", tag.get("key"))), str(tag.get("Value", tag.get("value", ""))))
        for tag in given
        if isinstance(tag, dict)
    ]
