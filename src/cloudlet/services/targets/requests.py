"""The operation behind a target's ARN, and what its failure means: whether to try again, and what to call it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from cloudlet.errors import AwsError

# An ARN's service word -> the service's name, where they differ.
_SERVICES = {"states": "stepfunctions"}

_GONE = frozenset(
    (
        "DeliveryStreamNotFoundException",
        "NotFoundException",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
        "StateMachineDoesNotExist",
        "ClusterNotFoundException",
    )
)
_FORBIDDEN = frozenset(("AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"))
_NEVER = frozenset(("NotImplemented", "ValidationException", "MissingParameter"))
_THROTTLED = ("Throttl", "TooManyRequests", "ProvisionedThroughputExceeded", "RequestLimitExceeded")


@dataclass(frozen=True, slots=True)
class Request:
    """A call that delivers a payload."""

    service: str
    operation: str
    input: dict[str, Any]
    account: str
    region: str


def service_of(arn: str) -> str:
    """The name of the service that an ARN is of; empty when it is no ARN."""
    parts = arn.split(":", 5)
    return _SERVICES.get(parts[2], parts[2]) if len(parts) == 6 and parts[0] == "arn" else ""


def known(arn: str) -> bool:
    """Whether ``request`` can make a call of an ARN."""
    return service_of(arn) in _CALLS


def request(arn: str, body: str, parameters: dict[str, Any], account: str, region: str) -> Request:
    """The call that gives ``body`` to a target.

    ``parameters`` are those of a rule's target or a schedule's (``SqsParameters`` and its like); account and region
    are the sender's, for an ARN that leaves them out.
    """
    parts = arn.split(":", 5)
    operation, input = _CALLS[service_of(arn)](arn, parts[5], body, parameters)
    return Request(service_of(arn), operation, input, parts[4] or account, parts[3] or region)


def is_final(error: AwsError) -> bool:
    """Whether another try cannot help: the target is gone, or may not be used, or will never take this payload."""
    return error.code in _GONE or error.code in _FORBIDDEN or error.code in _NEVER or "Invalid" in error.code


def failure(error: BaseException) -> tuple[str, str]:
    """A failed delivery's ERROR_CODE and ERROR_MESSAGE in a dead-letter queue."""
    if not isinstance(error, AwsError):
        return ("TIMEOUT" if isinstance(error, TimeoutError) else "CONNECTION_FAILURE"), str(error) or repr(error)
    if error.code in _GONE:
        return "NO_RESOURCE", error.message
    if error.code in _FORBIDDEN:
        return "NO_PERMISSIONS", error.message
    if error.code.startswith(_THROTTLED):
        return "THROTTLING", error.message
    return "ERROR_FROM_TARGET" if (error.status or 400) >= 500 else "SDK_CLIENT_ERROR", error.message


_Call = Callable[[str, str, str, dict[str, Any]], tuple[str, dict[str, Any]]]


def _lambda(arn: str, resource: str, body: str, parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "Invoke", {"FunctionName": arn, "InvocationType": "Event", "Payload": body.encode()}


def _sqs(arn: str, resource: str, body: str, parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    input = {"QueueUrl": arn, "MessageBody": body}
    if group := parameters.get("SqsParameters", {}).get("MessageGroupId"):
        input["MessageGroupId"] = group
    return "SendMessage", input


def _sns(arn: str, resource: str, body: str, parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "Publish", {"TopicArn": arn, "Message": body}


def _kinesis(arn: str, resource: str, body: str, parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    key = parameters["KinesisParameters"]["PartitionKey"]
    return "PutRecord", {"StreamName": resource.partition("/")[2], "Data": body.encode(), "PartitionKey": key}


def _firehose(arn: str, resource: str, body: str, parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "PutRecord", {"DeliveryStreamName": resource.partition("/")[2], "Record": {"Data": body.encode()}}


def _states(arn: str, resource: str, body: str, parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "StartExecution", {"stateMachineArn": arn, "input": body}


# How EventBridge and Scheduler name RunTask's members.
_TASK_MEMBERS = {
    "CapacityProviderStrategy": "capacityProviderStrategy",
    "EnableECSManagedTags": "enableECSManagedTags",
    "EnableExecuteCommand": "enableExecuteCommand",
    "Group": "group",
    "LaunchType": "launchType",
    "PlacementConstraints": "placementConstraints",
    "PlacementStrategy": "placementStrategy",
    "PlatformVersion": "platformVersion",
    "PropagateTags": "propagateTags",
    "ReferenceId": "referenceId",
    "TaskCount": "count",
    "TaskDefinitionArn": "taskDefinition",
}


def _ecs(arn: str, resource: str, body: str, parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    given = parameters["EcsParameters"]
    input: dict[str, Any] = {"cluster": arn}
    input.update({member: given[name] for name, member in _TASK_MEMBERS.items() if name in given})
    if network := given.get("NetworkConfiguration", {}).get("awsvpcConfiguration"):
        lower = {name[:1].lower() + name[1:]: value for name, value in network.items()}
        input["networkConfiguration"] = {"awsvpcConfiguration": lower}
    if tags := given.get("Tags"):
        input["tags"] = [{name.lower(): value for name, value in tag.items()} for tag in tags]
    try:
        overrides = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        overrides = None
    if isinstance(overrides, dict) and overrides.keys() & {"containerOverrides", "cpu", "memory", "taskRoleArn"}:
        input["overrides"] = overrides
    return "RunTask", input


_CALLS: dict[str, _Call] = {
    "ecs": _ecs,
    "firehose": _firehose,
    "kinesis": _kinesis,
    "lambda": _lambda,
    "sns": _sns,
    "sqs": _sqs,
    "stepfunctions": _states,
}
