"""The calls that schedules make: of templated targets, and of any operation (``aws-sdk:<service>:<operation>``)."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.control.outbox import Delivery, Outbox, Undeliverable
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import targets
from cloudlet.services.api import Cloud
from cloudlet.services.scheduler import records
from cloudlet.services.scheduler.errors import invalid
from cloudlet.services.scheduler.records import Job
from cloudlet.services.schedules.expressions import text
from cloudlet.services.targets import Request
from cloudlet.store import Database

SERVICE = "scheduler.amazonaws.com"
_UNIVERSAL = "arn:aws:scheduler:::aws-sdk:"
_NEEDS = {"kinesis": "KinesisParameters", "ecs": "EcsParameters", "events": "EventBridgeParameters"}
_FOREIGN_PARAMETERS = (
    "EventBridgePutEventsV2Parameters",
    "EventBridgePutRawEventsParameters",
    "SageMakerPipelineParameters",
)
# Where the SDK's name of a service is not Cloudlet's.
_SERVICES = {
    "acmpca": "acm-pca",
    "applicationautoscaling": "application-autoscaling",
    "cloudwatchlogs": "logs",
    "elasticloadbalancingv2": "elbv2",
    "eventbridge": "events",
    "rdsdata": "rds-data",
    "sfn": "stepfunctions",
}
_READING = (
    "get",
    "describe",
    "list",
    "poll",
    "receive",
    "search",
    "scan",
    "query",
    "select",
    "read",
    "lookup",
    "batchGet",
)


class Caller:
    """Makes the calls that wait in the outbox."""

    def __init__(self, cloud: Cloud, db: Database) -> None:
        self._cloud = cloud
        self.outbox = Outbox(db, cloud.clock, self._deliver, retries=self._pause, given_up=self._bury)

    async def check(self, target: dict[str, Any]) -> None:
        """Check a target. Raises ValidationException, and NotImplemented for what Cloudlet cannot call."""
        arn = target["Arn"]
        for name in _FOREIGN_PARAMETERS:
            if name in target:
                raise not_implemented(f"a schedule's target with {name}")
        if arn.startswith(_UNIVERSAL):
            service, operation = _universal(arn)
            if not operation:
                raise invalid(f"Provided Arn is not in correct format: {arn}")
            if operation.startswith(tuple(f"{word[:1].upper()}{word[1:]}" for word in _READING)):
                raise invalid(f"Provided target action {operation} is not supported: it only reads.")
            if getattr(await self._cloud.service(service), operation, None) is None:
                raise not_implemented(f"{service} {operation}")
            _document(target.get("Input", "{}"))
            return
        service = targets.service_of(arn)
        if not service:
            raise invalid(f"Provided Arn is not in correct format: {arn}")
        if not targets.known(arn) and service != "events":
            raise not_implemented(f"a schedule's target {arn}")
        await self._cloud.service(service)
        if (needed := _NEEDS.get(service)) and needed not in target:
            raise invalid(f"{needed} must be specified for target {arn}.")
        if arn.endswith(".fifo") and not target.get("SqsParameters", {}).get("MessageGroupId"):
            raise invalid(f"SqsParameters must be specified for target {arn}.")

    async def _deliver(self, delivery: Delivery) -> None:
        job = records.unpack(delivery.payload)
        self._count(job, "InvocationAttemptCount")
        try:
            request = self._request(job, delivery.attempt + 1)
            await self._cloud.call(
                request.service,
                request.operation,
                request.input,
                account=request.account,
                region=request.region,
                principal=job.target["RoleArn"],  # schedules call as their role
            )
        except AwsError as error:
            self._count(job, "TargetErrorCount")
            if targets.is_final(error):
                raise Undeliverable(str(error)) from error
            raise

    def _count(self, job: Job, name: str) -> None:
        """Tell CloudWatch."""
        _, _, _, region, account, resource = job.schedule.split(":", 5)
        group = (("ScheduleGroup", resource.split("/")[1]),)
        self._cloud.metrics.add(f"{account}/{region}", "AWS/Scheduler", name, group, 1, "Count")

    def _request(self, job: Job, attempt: int) -> Request:
        target, arn = job.target, job.target["Arn"]
        _, _, _, region, account, _ = job.schedule.split(":", 5)
        body = self._body(job, attempt)
        if arn.startswith(_UNIVERSAL):
            service, operation = _universal(arn)
            return Request(service, operation, self._conform(service, operation, _document(body)), account, region)
        if targets.service_of(arn) == "events":
            _, _, _, region, account, _ = arn.split(":", 5)
            given = target["EventBridgeParameters"]
            entry = {"Source": given["Source"], "DetailType": given["DetailType"], "Detail": body, "EventBusName": arn}
            return Request("events", "PutEvents", {"Entries": [entry]}, account, region)
        return targets.request(arn, body, target, account, region)

    def _conform(self, service: str, operation: str, input: dict[str, Any]) -> dict[str, Any]:
        """An operation's input; the SDK's spelling has a capital letter where some models have a small one."""
        try:
            return self._cloud.conform(service, operation, input)
        except AwsError as error:
            if "extraneous key" not in error.message:
                raise
            return self._cloud.conform(service, operation, _small(input))

    def _body(self, job: Job, attempt: int) -> str:
        body: str | None = job.target.get("Input")
        when = text(job.due)
        if body is None:
            _, _, _, region, account, _ = job.schedule.split(":", 5)
            event = {
                "version": "0",
                "id": job.id,
                "detail-type": "Scheduled Event",
                "source": "aws.scheduler",
                "account": account,
                "time": when,
                "region": region,
                "resources": [job.schedule],
                "detail": "{}",
            }
            return "{}" if job.target["Arn"].startswith(_UNIVERSAL) else msgspec.json.encode(event).decode()
        for keyword, value in (
            ("schedule-arn", job.schedule),
            ("scheduled-time", when),
            ("execution-id", job.id),
            ("attempt-number", str(attempt)),
        ):
            body = body.replace(f"<aws.scheduler.{keyword}>", value)
        return body

    def _pause(self, failed: int, delivery: Delivery) -> float | None:
        tries, age = _limits(records.unpack(delivery.payload))
        left = delivery.added + age - self._cloud.clock.now()
        return None if failed > tries or left <= 0 else min(targets.pause_after(failed), left)

    async def _bury(self, delivery: Delivery, error: Exception) -> None:
        """Send what cannot be called to the schedule's dead-letter queue."""
        job = records.unpack(delivery.payload)
        queue = job.target.get("DeadLetterConfig", {}).get("Arn")
        if not queue:
            self._count(job, "InvocationDroppedCount")
            return
        self._count(job, "InvocationsSentToDeadLetterCount")
        final = isinstance(error, Undeliverable)
        code, message = targets.failure(error.__cause__ if final and error.__cause__ else error)
        attributes = {
            "ERROR_CODE": code,
            "ERROR_MESSAGE": message[:1024] or code,
            "EXECUTION_ID": job.id,
            "IS_PAYLOAD_TRUNCATED": "false",
            "RETRY_ATTEMPTS": str(delivery.attempt - 1),
            "SCHEDULED_TIME": text(job.due),
            "SCHEDULE_ARN": job.schedule,
            "TARGET_ARN": job.target["Arn"],
        }
        if not final:
            exhausted = "MaximumRetryAttempts" if delivery.attempt > _limits(job)[0] else "MaximumEventAgeInSeconds"
            attributes["EXHAUSTED_RETRY_CONDITION"] = exhausted
        await targets.bury(self._cloud, queue, self._body(job, delivery.attempt), attributes, SERVICE)


def _limits(job: Job) -> tuple[int, float]:
    """How often a target is tried again, and for how long."""
    policy = job.target.get("RetryPolicy", {})
    return policy.get("MaximumRetryAttempts", targets.TRIES), policy.get("MaximumEventAgeInSeconds", targets.AGE)


def _universal(arn: str) -> tuple[str, str]:
    """The service and the operation of a universal target."""
    service, _, action = arn.removeprefix(_UNIVERSAL).partition(":")
    return _SERVICES.get(service, service), action[:1].upper() + action[1:]


def _document(body: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        found = None
    if not isinstance(found, dict):
        raise invalid("The Input of a universal target has to be a JSON object.")
    return found


def _small(value: Any) -> Any:
    """A document whose keys begin with small letters."""
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: _small(item) for key, item in value.items()}
    return [_small(item) for item in value] if isinstance(value, list) else value
