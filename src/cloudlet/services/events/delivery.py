"""Delivery of events: what a target is called with, how often, and where an event goes that cannot be delivered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from cloudlet.control.outbox import Delivery, Outbox, Undeliverable
from cloudlet.errors import AwsError
from cloudlet.observe import traces
from cloudlet.services import targets
from cloudlet.services.api import Cloud
from cloudlet.services.events import inputs, records
from cloudlet.services.events.destinations import Caller
from cloudlet.services.events.errors import not_found
from cloudlet.services.events.records import ApiDestination, Connection, Job, Rule
from cloudlet.services.events.reporting import Reporting
from cloudlet.services.schedules.expressions import text
from cloudlet.store import Database

SERVICE = "events.amazonaws.com"


class Courier:
    """Delivers what waits in the outbox."""

    def __init__(
        self,
        cloud: Cloud,
        db: Database,
        find: Callable[[str], Rule | None],
        pass_on: Callable[[str, dict[str, Any]], Awaitable[None]],
        find_destination: Callable[[str], tuple[ApiDestination, Connection] | None],
        reports: Reporting,
    ) -> None:
        """``find`` gives a rule by its ARN; ``pass_on`` gives an event to a bus."""
        self._cloud = cloud
        self._find = find
        self._pass_on = pass_on
        self._find_destination = find_destination
        self._reports = reports
        self._caller = Caller(cloud)
        self.outbox = Outbox(db, cloud.clock, self._deliver, retries=self._pause, given_up=self._bury)

    async def stop(self) -> None:
        """Finish what is under way."""
        await self.outbox.stop()
        await self._caller.stop()

    async def _deliver(self, delivery: Delivery) -> None:
        job = records.unpack(delivery.payload)
        rule = self._find(job.rule)
        target = rule.targets.get(job.target) if rule is not None else None
        if rule is None or target is None:
            return  # removed meanwhile
        try:
            await self._to(rule, target, job)
        except AwsError as error:
            if targets.is_final(error):
                raise Undeliverable(str(error)) from error
            raise
        self._reports.invoked(rule)

    async def _to(self, rule: Rule, target: dict[str, Any], job: Job) -> None:
        arn = target["Arn"]
        event = bytes(job.event)
        if is_bus(arn):
            await self._pass_on(arn, msgspec.json.decode(event))
            return
        body = inputs.payload(target, event, rule.arn, text(job.ingested))
        if is_destination(arn):
            found = self._find_destination(arn)
            if found is None:
                raise not_found(f"The API destination {arn} or its connection does not exist.")
            await self._caller.call(*found, target, event, body)
            return
        if targets.service_of(arn) == "logs":
            await self._log(rule, arn, body, job)
            return
        parameters = target
        if targets.service_of(arn) == "kinesis":
            parsed = msgspec.json.decode(event)
            path = target.get("KinesisParameters", {}).get("PartitionKeyPath")
            key = inputs.text_at(parsed, path) if path else None
            parameters = {"KinesisParameters": {"PartitionKey": key or parsed["id"]}}
        request = targets.request(arn, body, parameters, rule.account, rule.region)
        with traces.within(job.trace):
            await self._cloud.call(
                request.service,
                request.operation,
                request.input,
                account=request.account,
                region=request.region,
                principal=SERVICE,
            )

    async def _log(self, rule: Rule, arn: str, body: str, job: Job) -> None:
        """Put an event into a log group, in a stream of its own."""
        _, _, _, region, account, resource = arn.split(":", 5)
        group = resource.removeprefix("log-group:").removesuffix(":*")
        event = msgspec.json.decode(job.event)
        at = int(job.ingested * 1000)
        stream = {"logGroupName": group, "logStreamName": event["id"]}
        where = {"account": account, "region": region, "principal": SERVICE}
        try:
            await self._cloud.call("logs", "CreateLogStream", dict(stream), **where)
        except AwsError as error:
            if error.code != "ResourceAlreadyExistsException":
                raise
        entry = {"timestamp": at, "message": body}
        await self._cloud.call("logs", "PutLogEvents", {**stream, "logEvents": [entry]}, **where)

    def _pause(self, failed: int, delivery: Delivery) -> float | None:
        tries, age = self._limits(delivery)
        left = delivery.added + age - self._cloud.clock.now()
        if failed > tries or left <= 0:
            return None
        return min(targets.pause_after(failed), left)

    def _limits(self, delivery: Delivery) -> tuple[int, float]:
        """How often a target is tried again, and for how long."""
        arn, _, id = delivery.target.rpartition(" ")
        rule = self._find(arn)
        policy = rule.targets.get(id, {}).get("RetryPolicy", {}) if rule is not None else {}
        return policy.get("MaximumRetryAttempts", targets.TRIES), policy.get("MaximumEventAgeInSeconds", targets.AGE)

    async def _bury(self, delivery: Delivery, error: Exception) -> None:
        """Send what cannot be delivered to the target's dead-letter queue."""
        job = records.unpack(delivery.payload)
        rule = self._find(job.rule)
        target = rule.targets.get(job.target) if rule is not None else None
        if rule is None or target is None:
            return
        queue = target.get("DeadLetterConfig", {}).get("Arn")
        self._reports.failed(rule, dead_lettered=bool(queue))
        if not queue:
            return
        code, message = targets.failure(
            error.__cause__ if isinstance(error, Undeliverable) and error.__cause__ else error
        )
        attributes = {
            "RULE_ARN": rule.arn,
            "TARGET_ARN": target["Arn"],
            "ERROR_CODE": code,
            "ERROR_MESSAGE": message[:1024] or code,
            "RETRY_ATTEMPTS": str(delivery.attempt - 1),
        }
        if not isinstance(error, Undeliverable):
            tries, _ = self._limits(delivery)
            exhausted = "MaximumRetryAttempts" if delivery.attempt > tries else "MaximumEventAgeInSeconds"
            attributes["EXHAUSTED_RETRY_CONDITION"] = exhausted
        await targets.bury(self._cloud, queue, bytes(job.event).decode(), attributes, SERVICE)


def is_bus(arn: str) -> bool:
    """Whether an ARN is an event bus's."""
    return ":event-bus/" in arn and arn.split(":", 3)[2] == "events"


def is_destination(arn: str) -> bool:
    """Whether an ARN is an API destination's."""
    return ":api-destination/" in arn and arn.split(":", 3)[2] == "events"
