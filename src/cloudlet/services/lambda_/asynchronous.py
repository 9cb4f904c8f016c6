"""Asynchronous invocations: accepted into the outbox, tried again, and told of at destinations."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from cloudlet.control.outbox import Delivery, Undeliverable
from cloudlet.engines.functions import Outcome
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.lambda_.base import not_found
from cloudlet.services.lambda_.code import invalid
from cloudlet.services.lambda_.records import LATEST, Settings, Version
from cloudlet.services.lambda_.reporting import Level
from cloudlet.services.lambda_.running import SELF, Running, gathered
from cloudlet.store import Record

log = logging.getLogger("cloudlet.lambda")

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


class Asynchronous(Running):
    """The events that wait to be handled, and the operations on how they are."""

    async def accept(self, accepted: Async) -> None:
        """Take an event; it is kept when this returns."""
        target = f"{accepted.scope}/{accepted.name}"
        payload = msgspec.msgpack.encode(accepted)
        await self.db.write(lambda tx: self.outbox.add(tx, target, payload))
        self._count(accepted, "AsyncEventsReceived")
        self.outbox.wake()

    async def deliver(self, delivery: Delivery) -> None:
        """One try of an accepted event. Raises Failed, or the AwsError of a throttle."""
        accepted = msgspec.msgpack.decode(delivery.payload, type=Async)
        try:
            record = self.version(accepted.scope, accepted.name, accepted.qualifier, choose=True)
        except AwsError:
            self._count(accepted, "AsyncEventsDropped")
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
            age = self.cloud.clock.now() - added
            try:
                outcome = await self.run(
                    accepted.scope,
                    record,
                    accepted.qualifier,
                    accepted.event,
                    accepted.request_id,
                    accepted.client_context,
                    accepted.trace,
                )
                self._count(accepted, "AsyncEventAge", round(age * 1e3))
                return await gathered(outcome)
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
        self._count(accepted, "AsyncEventsDropped")
        try:
            record = self.version(accepted.scope, accepted.name, accepted.qualifier)
        except AwsError:
            return
        if target := (record.value.members.get("DeadLetterConfig") or {}).get("TargetArn"):
            try:
                await self._dead_letter(accepted, target, failed)
            except AwsError as error:
                log.warning("an event of %s could not be sent to %s: %s", accepted.name, target, error)
                self._count(accepted, "DeadLetterErrors")
        await self._tell(accepted, "OnFailure", failed.version, failed.outcome, failed.condition, delivery.attempt)

    def _count(self, accepted: Async, metric: str, value: float = 1.0) -> None:
        level = self.reporting.level(accepted.scope, accepted.name, accepted.qualifier)
        self.reporting.count(level, metric, value)

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
            await self.cloud.call("sqs", "SendMessage", message, account=account, region=region, principal=SELF)
        else:
            message = {"TopicArn": target, "Message": body, "MessageAttributes": attributes}
            await self.cloud.call("sns", "Publish", message, account=account, region=region, principal=SELF)

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
            "requestPayload": json_of(accepted.event),
            "responseContext": context,
            "responsePayload": json_of(outcome.payload),
        }
        level = self.reporting.level(accepted.scope, accepted.name, accepted.qualifier)
        await self.send_record(level, destination, record, f"Lambda Function Invocation Result - {condition}")

    async def send_record(self, level: Level, destination: str, record: dict[str, Any], detail_type: str) -> bool:
        """Deliver a record to a queue, a topic, a function or an event bus, and tell whether it could be."""
        try:
            await self._send_record(level.scope, destination, record, detail_type)
        except AwsError as error:
            log.warning("a record could not be sent to %s: %s", destination, error)
            self.reporting.count(level, "DestinationDeliveryFailures")
            return False
        return True

    async def _send_record(self, scope: str, destination: str, record: dict[str, Any], detail_type: str) -> None:
        account, region = scope.split("/", 1)
        text = msgspec.json.encode(record).decode()
        where: dict[str, Any] = {"account": account, "region": region, "principal": SELF}
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


def check_destination(arn: str | None) -> None:
    """Refuse a destination that records are not sent to. Raises NotImplemented."""
    if arn and not any(kind in arn for kind in (":sqs:", ":sns:", ":lambda:", ":events:")):
        raise not_implemented(f"destinations such as {arn}")


def json_of(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return payload.decode(errors="replace") or None


def _message_of(outcome: Outcome) -> str:
    document = json_of(outcome.payload)
    return str(document.get("errorMessage", "")) if isinstance(document, dict) else ""
