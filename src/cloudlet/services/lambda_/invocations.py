"""Invocations: at once, as a stream, or for later."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from cloudlet.engines.functions import Outcome
from cloudlet.errors import AwsError
from cloudlet.observe import traces
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.lambda_.asynchronous import Async, Asynchronous, json_of
from cloudlet.services.lambda_.running import LARGEST, gathered

_LARGEST_ASYNC = 1024 * 1024  # bytes of an event


class Invocations(Asynchronous):
    """The operations that run functions."""

    async def Invoke(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        event = input.get("Payload") or b"{}"
        if not isinstance(event, bytes):
            event = b"".join([chunk async for chunk in event]) or b"{}"
        kind = input.get("InvocationType", "RequestResponse")
        trace = traces.header_of(call)
        record = self.version(scope, name, qualifier, choose=True)
        if len(event) > (LARGEST if kind != "Event" else _LARGEST_ASYNC):
            words = f"{len(event)} byte payload is too large for the {kind} invocation type (limit {LARGEST} bytes)"
            raise AwsError("RequestTooLargeException", words, status=413, Type="User")
        _check_json(event)
        if kind == "DryRun":
            return {"StatusCode": 204}
        context, tail = input.get("ClientContext", ""), input.get("LogType") == "Tail"
        if kind == "Event":
            request_id = call.request_id or str(uuid.uuid4())
            await self.accept(Async(scope, name, qualifier, request_id, event, context, trace))
            return {"StatusCode": 202, "Payload": b""}
        outcome = await gathered(
            await self.run(scope, record, qualifier, event, call.request_id, context, trace, tail=tail)
        )
        call.headers["content-type"] = "application/json"
        answer: Output = {
            "StatusCode": 200,
            "Payload": outcome.payload,
            "ExecutedVersion": record.value.members["Version"],
        }
        if outcome.error:
            answer["FunctionError"] = outcome.error
        if tail:
            answer["LogResult"] = base64.b64encode(outcome.log.encode()[-4096:]).decode()
        return answer

    async def InvokeAsync(self, call: Call, input: Input) -> Output:
        event = {"FunctionName": input["FunctionName"], "Payload": input["InvokeArgs"], "InvocationType": "Event"}
        return {"Status": (await self.Invoke(call, event))["StatusCode"]}

    async def InvokeWithResponseStream(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        event = input.get("Payload") or b"{}"
        record = self.version(scope, name, qualifier, choose=True)
        _check_json(event)
        if input.get("InvocationType") == "DryRun":
            return {"StatusCode": 204, "EventStream": _events(Outcome(b""), False)}
        trace = traces.header_of(call)
        outcome = await self.run(
            scope, record, qualifier, event, call.request_id, input.get("ClientContext", ""), trace
        )
        return {
            "StatusCode": 200,
            "ExecutedVersion": record.value.members["Version"],
            "ResponseStreamContentType": outcome.content_type,
            "EventStream": _events(outcome, input.get("LogType") == "Tail"),
        }


async def _events(outcome: Outcome, with_log: bool) -> AsyncIterator[dict[str, Any]]:
    """The outcome as InvokeWithResponseStream sends it."""
    complete: dict[str, Any] = {}
    if outcome.error:
        document = json_of(outcome.payload)
        complete = {"ErrorCode": outcome.error, "ErrorDetails": msgspec.json.encode(document).decode()}
    elif outcome.stream is None:
        yield {"PayloadChunk": {"Payload": outcome.payload}}
    else:
        async for piece in outcome.stream:
            yield {"PayloadChunk": {"Payload": piece}}
    if with_log:
        complete["LogResult"] = base64.b64encode(outcome.log.encode()[-4096:]).decode()
    yield {"InvokeComplete": complete}


def _check_json(event: bytes) -> None:
    try:
        msgspec.json.decode(event, type=msgspec.Raw)
        event.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        words = f"Could not parse request body into json: {error}"
        raise AwsError("InvalidRequestContentException", words, status=400, Type="User") from None
