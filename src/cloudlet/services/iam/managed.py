"""AWS's own managed policies: their names are known, of a few also what they say."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

PREFIX = "arn:aws:iam::aws:policy/"

# Name with its path -> the actions that it allows on every resource, as AWS documents them.
_ALLOWS: dict[str, tuple[str, ...]] = {
    "AdministratorAccess": ("*",),
    "AmazonS3FullAccess": ("s3:*", "s3-object-lambda:*"),
    "AmazonS3ReadOnlyAccess": (
        "s3:Get*",
        "s3:List*",
        "s3:Describe*",
        "s3-object-lambda:Get*",
        "s3-object-lambda:List*",
    ),
    "AmazonSNSFullAccess": ("sns:*",),
    "AmazonSQSFullAccess": ("sqs:*",),
    "AWSXRayDaemonWriteAccess": (
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
        "xray:GetSamplingRules",
        "xray:GetSamplingTargets",
        "xray:GetSamplingStatisticSummaries",
    ),
    "service-role/AWSLambdaBasicExecutionRole": (
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ),
    "service-role/AWSLambdaSQSQueueExecutionRole": (
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ),
    "service-role/AWSLambdaDynamoDBExecutionRole": (
        "dynamodb:DescribeStream",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
        "dynamodb:ListStreams",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ),
    "service-role/AWSLambdaKinesisExecutionRole": (
        "kinesis:DescribeStream",
        "kinesis:DescribeStreamSummary",
        "kinesis:GetRecords",
        "kinesis:GetShardIterator",
        "kinesis:ListShards",
        "kinesis:ListStreams",
        "kinesis:SubscribeToShard",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ),
    "service-role/AWSLambdaRole": ("lambda:InvokeFunction",),
    "service-role/AmazonECSTaskExecutionRolePolicy": (
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ),
    "service-role/AmazonAPIGatewayPushToCloudWatchLogs": (
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogGroups",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        "logs:GetLogEvents",
        "logs:FilterLogEvents",
    ),
}


def is_managed(arn: str) -> bool:
    """Whether AWS has a managed policy of that ARN."""
    return arn.startswith(PREFIX) and arn[len(PREFIX) :] in names()


def members(arn: str) -> dict[str, Any]:
    """A managed policy as the API shows it."""
    path, _, name = arn[len(PREFIX) :].rpartition("/")
    return {
        "PolicyName": name,
        "PolicyId": "ANPA" + _stable_id(arn),
        "Arn": arn,
        "Path": f"/{path}/" if path else "/",
        "DefaultVersionId": "v1",
        "IsAttachable": True,
        "CreateDate": 1423087920.0,
        "UpdateDate": 1423087920.0,
    }


def document(arn: str) -> str | None:
    """What a managed policy says, None when that is not known here."""
    actions = _ALLOWS.get(arn[len(PREFIX) :])
    if actions is None:
        return None
    action: Any = actions[0] if len(actions) == 1 else list(actions)
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}, indent=4
    )


@functools.cache
def names() -> frozenset[str]:
    """The names of all managed policies with their paths; the SAM translator brings the list."""
    spec = importlib.util.find_spec("samtranslator")
    listed: dict[str, str] = {}
    if spec is not None and spec.submodule_search_locations:
        file = Path(spec.submodule_search_locations[0]) / "internal" / "data" / "aws_managed_policies.json"
        listed = json.loads(file.read_text())["aws"]
    return frozenset((*(arn.removeprefix(PREFIX) for arn in listed.values()), *_ALLOWS))


def _stable_id(arn: str) -> str:
    import base64
    import hashlib

    return base64.b32encode(hashlib.sha256(arn.encode()).digest()).decode()[:17]
