"""Invocations: at once, or accepted into the outbox, tried again, and told of at destinations."""

from __future__ import annotations

import base64
import hashlib
import math
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from cloudlet.control.outbox import Delivery, Undeliverable
from cloudlet.engines.functions import Function, FunctionFailed, Outcome, Throttled
from cloudlet.errors import AwsError, not_implemented
from cloudlet.observe import traces
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.lambda_ import tracing
from cloudlet.services.lambda_.base import not_found
from cloudlet.services.lambda_.code import invalid
from cloudlet.services.lambda_.images import Images
from cloudlet.services.lambda_.records import ACCOUNT_CONCURRENCY, LATEST, Settings, Version
from cloudlet.store import Record

_LARGEST = 6 * 1024 * 1024  # bytes of an event or a result
_LARGEST_ASYNC = 1024 * 1024
_RETRY_PAUSES = (60.0, 120.0)  # seconds before the second and the third try
_THROTTLED_PAUSE = 1.0  # seconds before the first further try; it doubles
_LONGEST_THROTTLED_PAUSE = 300.0


class Async(msgspec.Struct):
    """An accepted event: what the outbox keeps of it."""

    scope: str
    name: str
    qualifier: str
    request_id: str
    event: bytes
    client_context: str = ""
    trace: str = ""


class Failed(Exception):
    """An asynchronous invocation that came to an error."""

    def __init__(self, version: str, outcome: Outcome, condition: str = "RetriesExhausted") -> None:
        super().__init__(outcome.error)
        self.version = version
        self.outcome = outcome
        self.condition = condition


class Invocations(Images):
    """The operations that run functions."""

    async def Invoke(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        event = input.get("Payload") or b"{}"
        if not isinstance(event, bytes):
            event = b"".join([chunk async for chunk in event]) or b"{}"
        kind = input.get("InvocationType", "RequestResponse")
        trace = traces.header_of(call)
        record = self.version(scope, name, qualifier, choose=True)
        if len(event) > (_LARGEST if kind != "Event" else _LARGEST_ASYNC):
            words = f"{len(event)} byte payload is too large for the {kind} invocation type (limit {_LARGEST} bytes)"
            raise AwsError("RequestTooLargeException", words, status=413, Type="User")
        _check_json(event)
        if kind == "DryRun":
            return {"StatusCode": 204}
        context, tail = input.get("ClientContext", ""), input.get("LogType") == "Tail"
        if kind == "Event":
            request_id = call.request_id or str(uuid.uuid4())
            await self._accept(Async(scope, name, qualifier, request_id, event, context, trace))
            return {"StatusCode": 202, "Payload": b""}
        outcome = await gathered(await self.run(scope, record, event, call.request_id, context, trace, tail=tail))
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
        outcome = await self.run(scope, record, event, call.request_id, input.get("ClientContext", ""), trace)
        return {
            "StatusCode": 200,
            "ExecutedVersion": record.value.members["Version"],
            "ResponseStreamContentType": outcome.content_type,
            "EventStream": _events(outcome, input.get("LogType") == "Tail"),
        }

    async def run(
        self,
        scope: str,
        record: Record[Version],
        event: bytes,
        request_id: str = "",
        client_context: str = "",
        trace: str = "",
        tail: bool = False,
        links: Sequence[str] = (),
    ) -> Outcome:
        """Run a version once. Raises TooManyRequestsException, and ServiceException when it cannot be run here.

        ``trace`` is the caller's X-Ray header, ``links`` those of what the event was made from.
        """
        if record.value.members["State"] != "Active":
            raise AwsError(
                "ResourceConflictException",
                "The operation cannot be performed at this time. The function is currently in the following state: "
                + record.value.members["State"],
                status=409,
                Type="User",
            )
        function = self.runnable_of(scope, record)
        if not (trace or function.traced):
            return await self._run(scope, function, event, request_id, client_context, trace, tail)
        traced, trace = await tracing.begin(self.cloud, scope, function, trace, links)
        request_id = request_id or str(uuid.uuid4())
        try:
            outcome = await self._run(scope, function, event, request_id, client_context, trace, tail)
        except AwsError as error:
            if traced is not None:
                traced.refused(error)
            raise
        if traced is not None:
            traced.ended(outcome, request_id)
        return outcome

    async def _run(
        self,
        scope: str,
        function: Function,
        event: bytes,
        request_id: str,
        client_context: str,
        trace: str,
        tail: bool,
    ) -> Outcome:
        decoded = _decoded_context(client_context)
        pool = self._take_slot(scope, function.name)
        try:
            outcome = await self.engine.invoke(
                function, event, request_id=request_id, client_context=decoded, trace=trace, tail=tail
            )
        except Throttled:
            raise _throttled("ConcurrentInvocationLimitExceeded") from None
        except FunctionFailed as error:
            body = {"errorType": "Runtime.InvalidEntrypoint", "errorMessage": str(error)}
            return Outcome(msgspec.json.encode(body), "Unhandled")
        finally:
            self.under_way[pool] -= 1
        if outcome.stream is None and len(outcome.payload) > _LARGEST:
            body = {
                "errorType": "Function.ResponseSizeTooLarge",
                "errorMessage": f"Response payload size exceeded maximum allowed payload size ({_LARGEST} bytes).",
            }
            return Outcome(msgspec.json.encode(body), "Unhandled", outcome.log, outcome.seconds)
        return outcome

    def _take_slot(self, scope: str, name: str) -> tuple[str, str]:
        """Count an invocation against the function's own concurrency, or what the account has left for all others."""
        reserved = self.reserved.get((scope, name))
        if reserved is None:
            record = self.settings.get(scope, name)
            reserved = -1 if record is None or record.value.reserved is None else record.value.reserved
            self.reserved[scope, name] = reserved
            # What is reserved by others is not for this one.
            taken = sum(record.value.reserved or 0 for record in self.settings.list(scope))
            self.reserved[scope, ""] = ACCOUNT_CONCURRENCY - taken
        pool = (scope, name) if reserved >= 0 else (scope, "")
        running = self.under_way.get(pool, 0)
        if running >= self.reserved[pool]:
            limit = "ReservedFunctionConcurrentInvocation" if reserved >= 0 else "ConcurrentInvocation"
            raise _throttled(f"{limit}LimitExceeded")
        self.under_way[pool] = running + 1
        return pool

    def runnable_of(self, scope: str, record: Record[Version]) -> Function:
        """A version as the engine takes it; made again only when it has changed."""
        known = self.runnable.get((scope, record.name))
        if known is not None and known[0] == record.revision:
            return known[1]
        members = record.value.members
        region = scope.partition("/")[2]
        name, number = record.name.rsplit(":", 1)
        given = (members.get("Environment") or {}).get("Variables") or {}
        environment = {
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
            **given,
            **traces.resource_environment(scope, name, "aws_lambda", given),
        }
        layers: tuple[Any, ...] = ()
        if members.get("Layers"):
            shas = []
            for layer in members["Layers"]:
                arn, _, version = layer["Arn"].rpartition(":")
                found = self.layers.get(scope, f"{arn.rsplit(':', 1)[-1]}:{int(version):08d}")
                if found is not None:
                    shas.append(found.value.sha)
            layers = (self.archive.merged(tuple(shas)),) if shas else ()
        digest = hashlib.sha256(
            msgspec.json.encode([members, record.value.sha, record.value.folder, record.value.image], order="sorted")
        )
        function = Function(
            key=f"{scope}/{record.name}/{digest.hexdigest()[:16]}",
            name=name,
            arn=self.arn(scope, name, "" if number == LATEST else number),
            version=number,
            runtime=members.get("Runtime", ""),
            handler=members.get("Handler", ""),
            image=self.engine_image(record.value),
            code=self.archive.path(record.value.sha) if record.value.sha else Path(record.value.folder),
            memory=members["MemorySize"],
            storage=members["EphemeralStorage"]["Size"],
            timeout=float(members["Timeout"]),
            environment=environment,
            layers=layers,
            log_group=members["LoggingConfig"]["LogGroup"],
            json_log=members["LoggingConfig"]["LogFormat"] == "JSON",
            log_level=members["LoggingConfig"].get("ApplicationLogLevel", "INFO"),
            system_level=members["LoggingConfig"].get("SystemLogLevel", "INFO"),
            role=members["Role"],
            traced=members["TracingConfig"]["Mode"] == tracing.ACTIVE,
        )
        self.runnable[scope, record.name] = (record.revision, function)
        return function

    async def credentials(self, function: Function) -> tuple[dict[str, str], float]:
        """The keys of a function's role, for the environment of one sandbox, and until when they are good.

        Where it is traced, also where its segments go.
        """
        scope = function.key.rsplit("/", 2)[0]
        account, region = scope.split("/", 1)
        traced = await tracing.environment(self.cloud, scope) if function.traced else {}
        session: Input = {"RoleArn": function.role, "RoleSessionName": function.name}
        try:
            made = await self.cloud.call("sts", "AssumeRole", session, account=account, region=region, principal=_SELF)
        except AwsError:
            # A role that nobody has made: the function signs as its account, as the user of this machine does.
            return {"AWS_ACCESS_KEY_ID": account, "AWS_SECRET_ACCESS_KEY": "local", **traced}, math.inf
        keys = made["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
            **traced,
        }, keys["Expiration"]

    # Asynchronous invocations

    async def _accept(self, accepted: Async) -> None:
        target = f"{accepted.scope}/{accepted.name}"
        payload = msgspec.msgpack.encode(accepted)
        await self.db.write(lambda tx: self.outbox.add(tx, target, payload))
        self.outbox.wake()

    async def deliver(self, delivery: Delivery) -> None:
        """One try of an accepted event. Raises Failed, or the AwsError of a throttle."""
        accepted = msgspec.msgpack.decode(delivery.payload, type=Async)
        try:
            record = self.version(accepted.scope, accepted.name, accepted.qualifier, choose=True)
        except AwsError:
            return
        outcome = await self._run_when_there_is_room(accepted, record, delivery.added)
        if outcome.error:
            raise Failed(record.value.members["Version"], outcome)
        await self._tell(
            accepted, "OnSuccess", record.value.members["Version"], outcome, "Success", delivery.attempt + 1
        )

    async def _run_when_there_is_room(self, accepted: Async, record: Record[Version], added: float) -> Outcome:
        """A throttle is no try: the event waits until it is too old, as in Lambda's own queue."""
        pause = _THROTTLED_PAUSE
        while True:
            try:
                return await gathered(
                    await self.run(
                        accepted.scope,
                        record,
                        accepted.event,
                        accepted.request_id,
                        accepted.client_context,
                        accepted.trace,
                    )
                )
            except AwsError as error:
                oldest = self._event_settings(accepted).get("MaximumEventAgeInSeconds", 21600)
                if error.code != "TooManyRequestsException":
                    raise
                if self.cloud.clock.now() + pause - added > oldest:
                    raise Undeliverable from Failed(
                        record.value.members["Version"], Outcome(b"", "Unhandled"), "EventAgeExceeded"
                    )
            await self.cloud.clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_THROTTLED_PAUSE)

    def retries(self, attempt: int, delivery: Delivery) -> float | None:
        """How long until the next try; None when the event has had its tries or is too old."""
        accepted = msgspec.msgpack.decode(delivery.payload, type=Async)
        settings = self._event_settings(accepted)
        if attempt > settings.get("MaximumRetryAttempts", 2):
            return None
        pause = _RETRY_PAUSES[min(attempt, len(_RETRY_PAUSES)) - 1]
        oldest = settings.get("MaximumEventAgeInSeconds", 21600)
        return None if self.cloud.clock.now() + pause - delivery.added > oldest else pause

    async def given_up(self, delivery: Delivery, error: Exception) -> None:
        """The last try has failed: the dead-letter queue and the failure destination hear of it."""
        accepted = msgspec.msgpack.decode(delivery.payload, type=Async)
        cause = error.__cause__ if isinstance(error, Undeliverable) else error
        failed = cause if isinstance(cause, Failed) else Failed(LATEST, Outcome(b"", "Unhandled"))
        try:
            record = self.version(accepted.scope, accepted.name, accepted.qualifier)
        except AwsError:
            return
        if target := (record.value.members.get("DeadLetterConfig") or {}).get("TargetArn"):
            await self._dead_letter(accepted, target, failed)
        await self._tell(accepted, "OnFailure", failed.version, failed.outcome, failed.condition, delivery.attempt)

    def _event_settings(self, accepted: Async) -> dict[str, Any]:
        record = self.settings.get(accepted.scope, accepted.name)
        if record is None:
            return {}
        found = record.value.event_invoke
        return found.get(accepted.qualifier) or found.get(LATEST if not accepted.qualifier else "") or {}

    async def _dead_letter(self, accepted: Async, target: str, failed: Failed) -> None:
        account, region = accepted.scope.split("/", 1)
        text = {"DataType": "String"}
        attributes = {
            "RequestID": {**text, "StringValue": accepted.request_id},
            "ErrorCode": {"DataType": "Number", "StringValue": "200"},
            "ErrorMessage": {**text, "StringValue": _message_of(failed.outcome)[:1024] or "Unknown"},
        }
        body = accepted.event.decode(errors="replace")
        if ":sqs:" in target:
            message: Input = {"QueueUrl": target, "MessageBody": body, "MessageAttributes": attributes}
            await self.cloud.call("sqs", "SendMessage", message, account=account, region=region, principal=_SELF)
        else:
            message = {"TopicArn": target, "Message": body, "MessageAttributes": attributes}
            await self.cloud.call("sns", "Publish", message, account=account, region=region, principal=_SELF)

    async def _tell(
        self, accepted: Async, which: str, version: str, outcome: Outcome, condition: str, attempts: int
    ) -> None:
        """Send an invocation's record to the destination for its outcome, if there is one."""
        settings = self._event_settings(accepted)
        destination = ((settings.get("DestinationConfig") or {}).get(which) or {}).get("Destination")
        if not destination:
            return
        now = datetime.fromtimestamp(self.cloud.clock.now(), UTC)
        context: dict[str, Any] = {"statusCode": 200, "executedVersion": version}
        if outcome.error:
            context["functionError"] = outcome.error
        record = {
            "version": "1.0",
            "timestamp": now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z",
            "requestContext": {
                "requestId": accepted.request_id,
                "functionArn": self.arn(accepted.scope, accepted.name, accepted.qualifier or LATEST),
                "condition": condition,
                "approximateInvokeCount": attempts,
            },
            "requestPayload": _json_of(accepted.event),
            "responseContext": context,
            "responsePayload": _json_of(outcome.payload),
        }
        await self.send_record(accepted.scope, destination, record, f"Lambda Function Invocation Result - {condition}")

    async def send_record(self, scope: str, destination: str, record: dict[str, Any], detail_type: str) -> None:
        """Deliver a record to a queue, a topic, a function or an event bus."""
        account, region = scope.split("/", 1)
        text = msgspec.json.encode(record).decode()
        where: dict[str, Any] = {"account": account, "region": region, "principal": _SELF}
        if ":sqs:" in destination:
            await self.cloud.call("sqs", "SendMessage", {"QueueUrl": destination, "MessageBody": text}, **where)
        elif ":sns:" in destination:
            await self.cloud.call("sns", "Publish", {"TopicArn": destination, "Message": text}, **where)
        elif ":lambda:" in destination:
            input: Input = {"FunctionName": destination, "InvocationType": "Event", "Payload": text.encode()}
            await self.cloud.call("lambda", "Invoke", input, **where)
        elif ":events:" in destination or ":event-bus/" in destination:
            entry = {
                "Source": "lambda",
                "DetailType": detail_type,
                "Detail": text,
                "EventBusName": destination,
                "Resources": [record.get("requestContext", {}).get("functionArn", "")],
            }
            await self.cloud.call("events", "PutEvents", {"Entries": [entry]}, **where)

    # How asynchronous invocations are tried

    async def PutFunctionEventInvokeConfig(self, call: Call, input: Input) -> Output:
        self._can_be_invoked(call, input)
        return await self._put_event_settings(call, input, {})

    async def UpdateFunctionEventInvokeConfig(self, call: Call, input: Input) -> Output:
        self._can_be_invoked(call, input)
        return await self._put_event_settings(call, input, await self.GetFunctionEventInvokeConfig(call, input))

    async def GetFunctionEventInvokeConfig(self, call: Call, input: Input) -> Output:
        scope, name, qualifier = self.named(call, input)
        qualifier = qualifier or LATEST
        record = self.settings.get(scope, name)
        found = record.value.event_invoke.get(qualifier) if record is not None else None
        if found is None:
            raise not_found(f"The function {self.arn(scope, name, qualifier)} doesn't have an EventInvokeConfig")
        return found

    async def ListFunctionEventInvokeConfigs(self, call: Call, input: Input) -> Output:
        scope, name, _ = self.named(call, input)
        record = self.settings.get(scope, name)
        if record is None:
            raise not_found("The function doesn't exist.")
        return self.page("FunctionEventInvokeConfigs", list(record.value.event_invoke.values()), input)

    async def DeleteFunctionEventInvokeConfig(self, call: Call, input: Input) -> Output:
        await self.GetFunctionEventInvokeConfig(call, input)
        scope, name, qualifier = self.named(call, input)
        qualifier = qualifier or LATEST

        def change(settings: Settings) -> Settings:
            kept = {key: value for key, value in settings.event_invoke.items() if key != qualifier}
            return replace(settings, event_invoke=kept)

        await self.alter(scope, name, change)
        return {}

    async def _put_event_settings(self, call: Call, input: Input, before: dict[str, Any]) -> Output:
        scope, name, qualifier = self.named(call, input)
        names = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        if not any(name in input for name in names):
            raise invalid("You must specify at least one of error handling or destination setting.")
        for which in ("OnSuccess", "OnFailure"):
            destination = ((input.get("DestinationConfig") or {}).get(which) or {}).get("Destination")
            check_destination(destination)
            if destination == self.arn(scope, name):
                raise invalid("You can't specify the function as a destination for itself.")
        members = {
            "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
            **before,
            **{key: input[key] for key in names if key in input},
            "FunctionArn": self.arn(scope, name, qualifier or LATEST),
            "LastModified": self.cloud.clock.now(),
        }
        key = qualifier or LATEST
        await self.alter(scope, name, lambda now: replace(now, event_invoke={**now.event_invoke, key: members}))
        return members

    def _can_be_invoked(self, call: Call, input: Input) -> None:
        """Raises ResourceNotFoundException where no invocation could be meant."""
        try:
            self.version(*self.named(call, input))
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise
            raise not_found("The function doesn't exist.") from None


_SELF = "lambda.amazonaws.com"


def check_destination(arn: str | None) -> None:
    """Refuse a destination that records are not sent to. Raises NotImplemented."""
    if arn and not any(kind in arn for kind in (":sqs:", ":sns:", ":lambda:", ":events:")):
        raise not_implemented(f"destinations such as {arn}")


async def gathered(outcome: Outcome) -> Outcome:
    """The outcome with its whole payload, also where the function streams it."""
    if outcome.stream is not None:
        outcome.payload = b"".join([piece async for piece in outcome.stream])
        outcome.stream = None
    return outcome


async def _events(outcome: Outcome, with_log: bool) -> AsyncIterator[dict[str, Any]]:
    """The outcome as InvokeWithResponseStream sends it."""
    complete: dict[str, Any] = {}
    if outcome.error:
        document = _json_of(outcome.payload)
        complete = {"ErrorCode": outcome.error, "ErrorDetails": msgspec.json.encode(document).decode()}
    elif outcome.stream is None:
        yield {"PayloadChunk": {"Payload": outcome.payload}}
    else:
        async for piece in outcome.stream:
            yield {"PayloadChunk": {"Payload": piece}}
    if with_log:
        complete["LogResult"] = base64.b64encode(outcome.log.encode()[-4096:]).decode()
    yield {"InvokeComplete": complete}


def _throttled(reason: str) -> AwsError:
    return AwsError("TooManyRequestsException", "Rate Exceeded.", status=429, Reason=reason, Type="User")


def _check_json(event: bytes) -> None:
    try:
        msgspec.json.decode(event, type=msgspec.Raw)
        event.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        words = f"Could not parse request body into json: {error}"
        raise AwsError("InvalidRequestContentException", words, status=400, Type="User") from None


def _decoded_context(given: str) -> str:
    if not given:
        return ""
    try:
        text = base64.b64decode(given, validate=True).decode()
        return msgspec.json.encode(msgspec.json.decode(text)).decode()
    except (ValueError, msgspec.DecodeError):
        words = "Client context must be a valid Base64-encoded JSON object."
        raise AwsError("InvalidRequestContentException", words, status=400, Type="User") from None


def _json_of(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return payload.decode(errors="replace") or None


def _message_of(outcome: Outcome) -> str:
    document = _json_of(outcome.payload)
    return str(document.get("errorMessage", "")) if isinstance(document, dict) else ""
