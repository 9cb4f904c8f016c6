"""What a Task can call: a resource's ARN read, and AWS's names for services, operations and errors."""

from __future__ import annotations

import base64
import functools
import re
import uuid
from dataclasses import dataclass
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.stepfunctions.choices import moment_of

_ARN = re.compile(r"arn:aws[\w-]*:([\w-]+):[\w-]*:\d*:(.+)")
_PATTERNS = ("sync:2", "sync", "waitForTaskToken")

# The optimized integrations: botocore's service, the prefix of its errors, its operations with the patterns of each.
_CALL: tuple[str, ...] = ("",)
_TOKEN: tuple[str, ...] = ("", "waitForTaskToken")
_OPTIMIZED: dict[str, tuple[str, str, dict[str, tuple[str, ...]]]] = {
    "dynamodb": (
        "dynamodb",
        "DynamoDB",
        {"getItem": _CALL, "putItem": _CALL, "updateItem": _CALL, "deleteItem": _CALL},
    ),
    "events": ("events", "EventBridge", {"putEvents": _TOKEN}),
    "lambda": ("lambda", "Lambda", {"invoke": _TOKEN}),
    "sns": ("sns", "SNS", {"publish": _TOKEN}),
    "sqs": ("sqs", "SQS", {"sendMessage": _TOKEN}),
    "states": ("stepfunctions", "StepFunctions", {"startExecution": ("", "sync", "sync:2", "waitForTaskToken")}),
}
# The optimized integrations speak of their services as AWS's older SDK for Java does.
_CLIENTS = {
    "dynamodb": "AmazonDynamoDBv2",
    "events": "AmazonCloudWatchEvents",
    "lambda": "AWSLambda",
    "sns": "AmazonSNS",
    "sqs": "AmazonSQS",
    "states": "AWSStepFunctions",
}
# Optimized integrations of AWS whose services or patterns Cloudlet does not drive from a state machine.
_OTHERS = frozenset(
    (
        *("aws-sdk", "apigateway", "athena", "batch", "bedrock", "codebuild", "databrew", "ecs", "eks"),
        *("elasticmapreduce", "http", "emr-containers", "emr-serverless", "glue", "mediaconvert", "sagemaker"),
    )
)
# Java's service names where they are not botocore's, with the prefixes of their errors.
_SDK = {
    "acm": ("acm", "Acm"),
    "acmpca": ("acm-pca", "AcmPca"),
    "apigateway": ("apigateway", "ApiGateway"),
    "apigatewaymanagementapi": ("apigatewaymanagementapi", "ApiGatewayManagementApi"),
    "apigatewayv2": ("apigatewayv2", "ApiGatewayV2"),
    "applicationautoscaling": ("application-autoscaling", "ApplicationAutoScaling"),
    "appmesh": ("appmesh", "AppMesh"),
    "cloudformation": ("cloudformation", "CloudFormation"),
    "cloudfront": ("cloudfront", "CloudFront"),
    "cloudwatch": ("cloudwatch", "CloudWatch"),
    "cloudwatchlogs": ("logs", "CloudWatchLogs"),
    "cognitoidentityprovider": ("cognito-idp", "CognitoIdentityProvider"),
    "dynamodb": ("dynamodb", "DynamoDb"),
    "dynamodbstreams": ("dynamodbstreams", "DynamoDbStreams"),
    "ec2": ("ec2", "Ec2"),
    "ecr": ("ecr", "Ecr"),
    "ecs": ("ecs", "Ecs"),
    "eks": ("eks", "Eks"),
    "elasticloadbalancingv2": ("elbv2", "ElasticLoadBalancingV2"),
    "eventbridge": ("events", "EventBridge"),
    "firehose": ("firehose", "Firehose"),
    "iam": ("iam", "Iam"),
    "kinesis": ("kinesis", "Kinesis"),
    "kms": ("kms", "Kms"),
    "lambda": ("lambda", "Lambda"),
    "mq": ("mq", "Mq"),
    "rds": ("rds", "Rds"),
    "rdsdata": ("rds-data", "RdsData"),
    "route53": ("route53", "Route53"),
    "s3": ("s3", "S3"),
    "scheduler": ("scheduler", "Scheduler"),
    "secretsmanager": ("secretsmanager", "SecretsManager"),
    "servicediscovery": ("servicediscovery", "ServiceDiscovery"),
    "sfn": ("stepfunctions", "Sfn"),
    "sns": ("sns", "Sns"),
    "sqs": ("sqs", "Sqs"),
    "ssm": ("ssm", "Ssm"),
    "sts": ("sts", "Sts"),
    "xray": ("xray", "XRay"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a Task's resource names. ``kind`` is lambda (a function's ARN), activity, or service."""

    kind: str
    arn: str
    service: str = ""
    operation: str = ""
    pattern: str = ""
    prefix: str = ""  # of its errors
    resource_type: str = ""  # as the history shows it, and
    resource: str = ""
    sdk: bool = False


@functools.lru_cache(1024)
def resolve(resource: str) -> Target:
    """What a resource names. Raises ValueError where AWS would refuse it, NotImplemented where only Cloudlet does."""
    match = _ARN.fullmatch(resource)
    if match is None:
        raise ValueError("Value is not a valid resource ARN")
    service, rest = match.groups()  # whose region and account AWS does not look at: most leave them out
    if service == "lambda" and rest.startswith("function:"):
        return Target("lambda", resource, "lambda", "Invoke", prefix="Lambda", resource_type="lambda")
    if service != "states":
        raise ValueError(f"The resource provided {resource} is not recognized. The value is not a valid resource ARN")
    if rest.startswith("activity:"):
        return Target("activity", resource)
    pattern = next((pattern for pattern in _PATTERNS if rest.endswith(f".{pattern}")), "")
    called = rest.removesuffix(f".{pattern}") if pattern else rest
    name, _, action = called.partition(":")
    if name == "aws-sdk":
        return _sdk(resource, action, pattern)
    if name in _OPTIMIZED:
        botocore, prefix, actions = _OPTIMIZED[name]
        if pattern in actions.get(action, ()):
            operation = action[0].upper() + action[1:]
            shown = f"{action}.{pattern}" if pattern else action
            return Target("service", resource, botocore, operation, pattern, prefix, name, shown)
    elif name in _OTHERS:
        raise not_implemented(f"the service integration {resource}")
    raise ValueError(f"The resource provided {resource} is not recognized. The value is not a valid resource ARN")


def _sdk(resource: str, called: str, pattern: str) -> Target:
    name, _, action = called.partition(":")
    if not name or not action or pattern.startswith("sync"):
        raise ValueError(f"The resource provided {resource} is not recognized. The value is not a valid resource ARN")
    if name not in _SDK:
        raise not_implemented(f"the service integration {resource}")
    botocore, prefix = _SDK[name]
    shown = f"{action}.{pattern}" if pattern else action
    operation = action[0].upper() + action[1:]
    return Target("service", resource, botocore, operation, pattern, prefix, f"aws-sdk:{name}", shown, sdk=True)


def refusal(resource: str, kind: str) -> str | None:
    """Why a state machine of this type cannot have this resource, or None. Raises NotImplemented."""
    try:
        target = resolve(resource)
    except ValueError as error:
        return str(error)
    if kind == "EXPRESS":
        if target.kind == "activity":
            return "Express state machine does not support Activity ARN"
        if target.pattern:
            return f"Express state machine does not support '.{target.pattern}' service integration"
    return None


def error_name(target: Target, error: AwsError, is_modelled: bool) -> str:
    """The name by which Retry and Catch know a service's error: what its model does not have has the client's name."""
    if error.code == "NotImplemented":
        return "States.TaskFailed"
    if not is_modelled:
        client = target.prefix if target.sdk else _CLIENTS.get(target.resource_type, target.prefix).removesuffix("v2")
        return f"{target.prefix}.{client}Exception"
    code = error.code.rpartition(".")[2]
    if not code.endswith("Exception"):
        code += "Exception"
    return f"{target.prefix}.{code}"


def cause(target: Target, error: AwsError) -> str:
    """An error's message as Step Functions gives it on."""
    status, request = error.status or 400, uuid.uuid4()
    if target.sdk or target.resource_type not in _CLIENTS:
        more = f", Extended Request ID: {base64.b64encode(uuid.uuid4().bytes * 4).decode()}" * (target.service == "s3")
        return f"{error.message} (Service: {target.prefix}, Status Code: {status}, Request ID: {request}{more})"
    said = f"Service: {_CLIENTS[target.resource_type]}; Status Code: {status}; Error Code: {error.code}"
    return f"{error.message} ({said}; Request ID: {request}; Proxy: null)"


def is_timestamp(value: Any) -> bool:
    """Whether it is a time as Wait takes it."""
    return moment_of(value) is not None


def epoch(value: Any) -> float | None:
    """Seconds since the epoch of an RFC 3339 text, or None."""
    moment = moment_of(value)
    return moment.timestamp() if moment is not None else None
