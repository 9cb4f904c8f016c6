"""The calls that tasks make: parameters as AWS takes them, answers as a state sees them, errors by AWS's names."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.stepfunctions import integrations
from cloudlet.services.stepfunctions.data import text_of
from cloudlet.services.stepfunctions.errors import StateFailed
from cloudlet.services.stepfunctions.integrations import Target

if TYPE_CHECKING:
    from cloudlet.services.stepfunctions.tasks import Pending
    from cloudlet.services.stepfunctions.threads import Threads

_SELF = "states.amazonaws.com"
# What the optimized integrations tell of the HTTP answer.
_METADATA = {"SdkHttpMetadata": {"HttpStatusCode": 200}}
# Members that AWS takes as text, and a state may write as JSON.
_DOCUMENTS = {"SendMessage": "MessageBody", "Publish": "Message", "StartExecution": "input"}


async def make(run: Threads, pending: Pending) -> Any:
    """Make a task's call; its answer. Raises StateFailed."""
    target, arguments = pending.target, pending.attempt.arguments
    if target.service == "lambda" and target.operation == "Invoke":
        return await _function(run, pending)
    if not isinstance(arguments, dict):
        raise StateFailed("States.Runtime", f"The parameters of {target.arn} are not an object")
    if target.operation == "StartExecution" and not target.sdk:
        return await _execution(run, pending)
    return await _operation(run, pending, arguments)


async def _operation(run: Threads, pending: Pending, arguments: dict[str, Any]) -> Any:
    target = pending.target
    try:
        output = await _ask(run, pending, target.service, target.operation, _written(target, arguments))
        if target.operation == "PutEvents" and output.get("FailedEntryCount"):
            raise StateFailed("EventBridge.FailedEntry", text_of(output))
        for name, value in output.items():
            if hasattr(value, "__aiter__"):
                output[name] = await _whole(value)
        return run.engine.cloud.present(target.service, target.operation, output) | ({} if target.sdk else _METADATA)
    except AwsError as error:
        raise _failure(run, target, error) from error


async def _ask(
    run: Threads, pending: Pending, service: str, operation: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    cloud, region = run.engine.cloud, run.region
    input = cloud.conform(service, operation, arguments)
    traced = nullcontext() if run.tracer is None else run.tracer.call(pending.path, service, operation)
    with traced:
        return await cloud.call(service, operation, input, account=pending.account, region=region, principal=_SELF)


def _written(target: Target, arguments: dict[str, Any]) -> dict[str, Any]:
    """Parameters in the model's form: a document is text, a list of entries may have documents."""
    written = dict(arguments)
    if not target.sdk and (name := _DOCUMENTS.get(target.operation)) in written:
        assert name is not None
        value = written[name]
        written[name] = value if isinstance(value, str) else text_of(value)
    if target.operation == "PutEvents" and not target.sdk:
        entries = [
            {**entry, "Detail": detail if isinstance(detail := entry.get("Detail"), str) else text_of(detail)}
            for entry in written.get("Entries", [])
        ]
        written["Entries"] = entries
    return written


def _failure(run: Threads, target: Target, error: AwsError) -> StateFailed:
    if error.code == "ValidationException" and error.message.startswith("#"):
        return StateFailed("States.Runtime", f"The parameters of {target.arn} are not valid: {error.message}")
    is_modelled = run.engine.cloud.knows_error(target.service, error.code)
    return StateFailed(integrations.error_name(target, error, is_modelled), integrations.cause(target, error))


# Lambda


async def _function(run: Threads, pending: Pending) -> Any:
    """Invoke a function, by its ARN or through ``lambda:invoke``."""
    target, arguments = pending.target, pending.attempt.arguments
    if target.kind == "lambda":
        given: dict[str, Any] = {"FunctionName": target.arn, "Payload": arguments}
    elif isinstance(arguments, dict):
        given = {name[0].upper() + name[1:]: value for name, value in arguments.items()}
    else:
        raise StateFailed("States.Runtime", f"The parameters of {target.arn} are not an object")
    payload = given.get("Payload", {})
    # aws-sdk's Payload is a blob: a text is sent as it is written.
    given["Payload"] = payload if isinstance(payload, str) and target.sdk else text_of(payload)
    try:
        answer = await _ask(run, pending, "lambda", "Invoke", given)
    except AwsError as error:
        raise _failure(run, target, error) from error
    text = await _whole(answer.get("Payload", b""))
    if answer.get("FunctionError"):
        raise _raised(text)
    returned = _json(text)
    if target.kind == "lambda":
        return returned
    answer = {name: value for name, value in answer.items() if name != "Payload"}
    answer["Payload"] = text.decode(errors="replace") if target.sdk else returned
    return answer if target.sdk else {**answer, **_METADATA}


async def _whole(payload: Any) -> bytes:
    if isinstance(payload, bytes):
        return payload
    return b"".join([chunk async for chunk in payload])


def _raised(text: bytes) -> StateFailed:
    """The error that a function has raised."""
    said = text.decode(errors="replace")
    document = _json(text)
    kind = document.get("errorType") if isinstance(document, dict) else None
    if not kind:
        words = "The cause could not be determined because Lambda did not return an error type."
        return StateFailed("Lambda.Unknown", f"{words} Returned payload: {said}")
    return StateFailed(str(kind), text_of(document))


def _json(text: bytes) -> Any:
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text.decode(errors="replace")


# Executions


async def _execution(run: Threads, pending: Pending) -> Any:
    """Start an execution; its end, where it is awaited, is told by the engine."""
    target = pending.target
    given = {name[0].lower() + name[1:]: value for name, value in pending.attempt.arguments.items()}
    if given.get("input") is None:
        given["input"] = {}
    # By the token's own part, so that a try that is made again after a crash starts nothing twice.
    given.setdefault("name", pending.attempt.token[-36:])
    try:
        output = await _ask(run, pending, "stepfunctions", "StartExecution", _written(target, given))
    except AwsError as error:
        raise _failure(run, target, error) from error
    return {"ExecutionArn": output["executionArn"], "StartDate": output["startDate"], **_METADATA}
