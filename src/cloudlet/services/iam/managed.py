"""AWS's own managed policies: their names are known, of a few also what they say."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

PREFIX = "arn:aws:iam::aws:policy/"

_LOGS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
# Services of which ReadOnlyAccess lets everything be read; AWS's own text is of several hundred services.
_READABLE = (
    *("acm", "apigateway", "appmesh", "cloudformation", "cloudfront", "cloudwatch", "cognito-idp", "dynamodb"),
    *(
        "ecr",
        "ecs",
        "eks",
        "elasticloadbalancing",
        "events",
        "firehose",
        "iam",
        "kinesis",
        "kms",
        "lambda",
        "logs",
        "mq",
    ),
    *("rds", "route53", "s3", "scheduler", "servicediscovery", "ses", "sns", "sqs", "ssm", "states", "xray"),
)


def _allow(*actions: str, resource: str = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions[0] if len(actions) == 1 else list(actions), "Resource": resource}


# Name with its path -> its statements, as AWS documents them.
_STATEMENTS: dict[str, tuple[dict[str, Any], ...]] = {
    "AdministratorAccess": (_allow("*"),),
    "PowerUserAccess": (
        {"Effect": "Allow", "NotAction": ["iam:*", "organizations:*", "account:*"], "Resource": "*"},
        _allow(
            "account:GetAccountInformation",
            "account:ListRegions",
            "iam:CreateServiceLinkedRole",
            "iam:DeleteServiceLinkedRole",
            "iam:ListRoles",
            "organizations:DescribeOrganization",
        ),
    ),
    "ReadOnlyAccess": (
        _allow(
            *(f"{service}:{verb}*" for service in _READABLE for verb in ("Describe", "Get", "List")),
            *("apigateway:GET", "dynamodb:BatchGet*", "dynamodb:Query", "dynamodb:Scan", "ecr:BatchGet*"),
            *("logs:FilterLogEvents", "logs:StartQuery", "logs:StopQuery", "logs:TestMetricFilter", "xray:BatchGet*"),
        ),
    ),
    "IAMFullAccess": (_allow("iam:*", "organizations:DescribeAccount", "organizations:DescribeOrganization"),),
    "IAMReadOnlyAccess": (
        _allow(
            "iam:GenerateCredentialReport",
            "iam:GenerateServiceLastAccessedDetails",
            "iam:Get*",
            "iam:List*",
            "iam:SimulateCustomPolicy",
            "iam:SimulatePrincipalPolicy",
        ),
    ),
    "AmazonS3FullAccess": (_allow("s3:*", "s3-object-lambda:*"),),
    "AmazonS3ReadOnlyAccess": (
        _allow("s3:Get*", "s3:List*", "s3:Describe*", "s3-object-lambda:Get*", "s3-object-lambda:List*"),
    ),
    "AmazonSNSFullAccess": (_allow("sns:*"),),
    "AmazonSNSReadOnlyAccess": (
        _allow(
            "sns:GetTopicAttributes",
            "sns:List*",
            "sns:CheckIfPhoneNumberIsOptedOut",
            "sns:GetEndpointAttributes",
            "sns:GetDataProtectionPolicy",
            "sns:GetPlatformApplicationAttributes",
            "sns:GetSMSAttributes",
            "sns:GetSMSSandboxAccountStatus",
            "sns:GetSubscriptionAttributes",
        ),
    ),
    "AmazonSQSFullAccess": (_allow("sqs:*"),),
    "AmazonSQSReadOnlyAccess": (
        _allow(
            "sqs:GetQueueAttributes",
            "sqs:GetQueueUrl",
            "sqs:ListDeadLetterSourceQueues",
            "sqs:ListQueues",
            "sqs:ListMessageMoveTasks",
            "sqs:ListQueueTags",
        ),
    ),
    "AmazonDynamoDBFullAccess": (
        _allow("dynamodb:*", "dax:*", "application-autoscaling:*", "cloudwatch:*", "kms:DescribeKey", "lambda:List*"),
    ),
    "AmazonDynamoDBReadOnlyAccess": (
        _allow(
            "dynamodb:BatchGetItem",
            "dynamodb:Describe*",
            "dynamodb:List*",
            "dynamodb:GetItem",
            "dynamodb:GetResourcePolicy",
            "dynamodb:Query",
            "dynamodb:Scan",
            "dynamodb:PartiQLSelect",
        ),
    ),
    "AmazonKinesisFullAccess": (_allow("kinesis:*"),),
    "AmazonKinesisReadOnlyAccess": (_allow("kinesis:Get*", "kinesis:List*", "kinesis:Describe*"),),
    "AmazonEventBridgeFullAccess": (_allow("events:*", "schemas:*", "scheduler:*", "pipes:*"),),
    "AmazonEventBridgeReadOnlyAccess": (
        _allow("events:Describe*", "events:List*", "events:TestEventPattern", "scheduler:Get*", "scheduler:List*"),
    ),
    "AWSStepFunctionsFullAccess": (_allow("states:*"),),
    "AWSStepFunctionsReadOnlyAccess": (_allow("states:List*", "states:Describe*", "states:GetExecutionHistory"),),
    "AWSLambda_FullAccess": (
        _allow(
            "cloudformation:DescribeStacks",
            "cloudformation:ListStackResources",
            "cloudwatch:ListMetrics",
            "cloudwatch:GetMetricData",
            "kms:ListAliases",
            "iam:GetPolicy",
            "iam:GetPolicyVersion",
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:ListAttachedRolePolicies",
            "iam:ListRolePolicies",
            "iam:ListRoles",
            "lambda:*",
            "logs:DescribeLogGroups",
            "states:DescribeStateMachine",
            "states:ListStateMachines",
            "tag:GetResources",
            "xray:GetTraceSummaries",
            "xray:BatchGetTraces",
        ),
        {
            **_allow("iam:PassRole"),
            "Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}},
        },
        _allow(
            "logs:DescribeLogStreams",
            "logs:GetLogEvents",
            "logs:FilterLogEvents",
            resource="arn:aws:logs:*:*:log-group:/aws/lambda/*",
        ),
    ),
    "CloudWatchFullAccess": (
        _allow(
            "autoscaling:Describe*",
            "cloudwatch:*",
            "logs:*",
            "sns:*",
            "iam:GetPolicy",
            "iam:GetPolicyVersion",
            "iam:GetRole",
            "oam:ListSinks",
        ),
    ),
    "CloudWatchReadOnlyAccess": (
        _allow(
            "autoscaling:Describe*",
            "cloudwatch:Describe*",
            "cloudwatch:Get*",
            "cloudwatch:List*",
            "logs:Get*",
            "logs:List*",
            "logs:Describe*",
            "logs:FilterLogEvents",
            "logs:StartQuery",
            "logs:StopQuery",
            "logs:TestMetricFilter",
            "sns:Get*",
            "sns:List*",
        ),
    ),
    "CloudWatchLogsFullAccess": (_allow("logs:*", "cloudwatch:GenerateQuery"),),
    "CloudWatchLogsReadOnlyAccess": (
        _allow(
            "logs:Describe*",
            "logs:Get*",
            "logs:List*",
            "logs:StartQuery",
            "logs:StopQuery",
            "logs:TestMetricFilter",
            "logs:FilterLogEvents",
            "logs:StartLiveTail",
            "logs:StopLiveTail",
        ),
    ),
    "SecretsManagerReadWrite": (
        _allow("secretsmanager:*", "kms:DescribeKey", "kms:ListAliases", "lambda:ListFunctions"),
    ),
    "AmazonSSMFullAccess": (_allow("cloudwatch:PutMetricData", "logs:*", "ssm:*"),),
    "AmazonSSMReadOnlyAccess": (_allow("ssm:Describe*", "ssm:Get*", "ssm:List*"),),
    "AmazonAPIGatewayAdministrator": (_allow("apigateway:*", resource="arn:aws:apigateway:*::/*"),),
    "AmazonAPIGatewayInvokeFullAccess": (
        _allow("execute-api:Invoke", "execute-api:ManageConnections", resource="arn:aws:execute-api:*:*:*"),
    ),
    "AmazonEC2ContainerRegistryReadOnly": (
        _allow(
            "ecr:GetAuthorizationToken",
            "ecr:BatchCheckLayerAvailability",
            "ecr:GetDownloadUrlForLayer",
            "ecr:GetRepositoryPolicy",
            "ecr:DescribeRepositories",
            "ecr:ListImages",
            "ecr:DescribeImages",
            "ecr:BatchGetImage",
            "ecr:GetLifecyclePolicy",
            "ecr:GetLifecyclePolicyPreview",
            "ecr:ListTagsForResource",
            "ecr:DescribeImageScanFindings",
        ),
    ),
    "AWSXRayDaemonWriteAccess": (
        _allow(
            "xray:PutTraceSegments",
            "xray:PutTelemetryRecords",
            "xray:GetSamplingRules",
            "xray:GetSamplingTargets",
            "xray:GetSamplingStatisticSummaries",
        ),
    ),
    "service-role/AWSLambdaBasicExecutionRole": (_allow(*_LOGS),),
    "service-role/AWSLambdaBasicDurableExecutionRolePolicy": (
        _allow(*_LOGS, "lambda:CheckpointDurableExecution", "lambda:GetDurableExecutionState"),
    ),
    "service-role/AWSLambdaVPCAccessExecutionRole": (
        _allow(
            *_LOGS,
            "ec2:CreateNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:DeleteNetworkInterface",
            "ec2:AssignPrivateIpAddresses",
            "ec2:UnassignPrivateIpAddresses",
        ),
    ),
    "service-role/AWSLambdaSQSQueueExecutionRole": (
        _allow("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", *_LOGS),
    ),
    "service-role/AWSLambdaDynamoDBExecutionRole": (
        _allow(
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
            *_LOGS,
        ),
    ),
    "service-role/AWSLambdaKinesisExecutionRole": (
        _allow(
            "kinesis:DescribeStream",
            "kinesis:DescribeStreamSummary",
            "kinesis:GetRecords",
            "kinesis:GetShardIterator",
            "kinesis:ListShards",
            "kinesis:ListStreams",
            "kinesis:SubscribeToShard",
            *_LOGS,
        ),
    ),
    "service-role/AWSLambdaRole": (_allow("lambda:InvokeFunction"),),
    "service-role/AmazonECSTaskExecutionRolePolicy": (
        _allow(
            "ecr:GetAuthorizationToken",
            "ecr:BatchCheckLayerAvailability",
            "ecr:GetDownloadUrlForLayer",
            "ecr:BatchGetImage",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        ),
    ),
    "service-role/AmazonAPIGatewayPushToCloudWatchLogs": (
        _allow(
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:DescribeLogGroups",
            "logs:DescribeLogStreams",
            "logs:PutLogEvents",
            "logs:GetLogEvents",
            "logs:FilterLogEvents",
        ),
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
    statements = _STATEMENTS.get(arn[len(PREFIX) :])
    if statements is None:
        return None
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=4)


@functools.cache
def names() -> frozenset[str]:
    """The names of all managed policies with their paths; the SAM translator brings the list."""
    spec = importlib.util.find_spec("samtranslator")
    listed: dict[str, str] = {}
    if spec is not None and spec.submodule_search_locations:
        file = Path(spec.submodule_search_locations[0]) / "internal" / "data" / "aws_managed_policies.json"
        listed = json.loads(file.read_text())["aws"]
    return frozenset((*(arn.removeprefix(PREFIX) for arn in listed.values()), *_STATEMENTS))


def _stable_id(arn: str) -> str:
    import base64
    import hashlib

    return base64.b32encode(hashlib.sha256(arn.encode()).digest()).decode()[:17]
