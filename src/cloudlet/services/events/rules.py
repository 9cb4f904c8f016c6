"""The operations on rules and their targets."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import targets
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.events import inputs, records
from cloudlet.services.events.base import Base, page, pattern_of, tags_of
from cloudlet.services.events.delivery import is_bus, is_destination
from cloudlet.services.events.errors import invalid
from cloudlet.services.events.records import DEFAULT, Rule
from cloudlet.services.schedules import ScheduleError, parse
from cloudlet.store import Tx

_TARGETS_AT_MOST = 5
_NEED_A_ROLE = frozenset(("ecs", "firehose", "kinesis", "stepfunctions"))
_FOREIGN_PARAMETERS = (
    "AppSyncParameters",
    "BatchParameters",
    "RedshiftDataParameters",
    "RunCommandParameters",
    "SageMakerPipelineParameters",
)


class Rules(Base):
    """Operations on rules."""

    async def PutRule(self, call: Call, input: Input) -> Output:
        bus, name = self._bus(call, input.get("EventBusName")), input["Name"]
        pattern, schedule = input.get("EventPattern", ""), input.get("ScheduleExpression", "")
        if not pattern and not schedule:
            raise invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
        if pattern:
            pattern_of(pattern)
        now = self.clock.now()
        if schedule:
            if bus.name != DEFAULT:
                raise invalid("ScheduleExpression is supported only on the default event bus.")
            _check_schedule(schedule, now)
        given = {
            "state": input.get("State", "ENABLED"),
            "pattern": pattern,
            "schedule": schedule,
            "description": input.get("Description", ""),
            "role": input.get("RoleArn", ""),
        }
        fresh = Rule(bus.account, bus.region, bus.name, name, anchor=now, tags=tags_of(input.get("Tags", [])), **given)

        def put(tx: Tx) -> Rule:
            self._bus(call, input.get("EventBusName"), tx)
            record = self._rules.get(bus.scope, fresh.place, tx)
            old = record.value if record is not None else None
            goes_on = old is not None and old.schedule == schedule and old.enabled == fresh.enabled
            rule = fresh
            if old is not None:
                rule = replace(fresh, anchor=old.anchor if goes_on else now, targets=old.targets, tags=old.tags)
            self._rules.put(tx, bus.scope, rule.place, rule)
            if not goes_on:
                records.forget_ticks(tx, rule.arn)
            return rule

        rule = await self._db.write(put)
        self._listen(rule)
        self._ticking.set(rule)
        return {"RuleArn": rule.arn}

    async def DeleteRule(self, call: Call, input: Input) -> Output:
        bus, name = self._bus(call, input.get("EventBusName")), input["Name"]

        def delete(tx: Tx) -> Rule | None:
            record = self._rules.get(bus.scope, f"{bus.name}:{name}", tx)
            if record is None:
                return None
            if record.value.targets:
                raise invalid("Rule can't be deleted since it has targets.")
            self._rules.delete(tx, bus.scope, record.name)
            records.forget_ticks(tx, record.value.arn)
            return record.value

        gone = await self._db.write(delete)
        if gone is not None:
            self._of_bus(bus.arn).remove(gone)
            self._ticking.drop(gone.arn)
        return {}

    async def DescribeRule(self, call: Call, input: Input) -> Output:
        rule = self._rule(call, input, input["Name"])
        return {**_shown(rule), "CreatedBy": rule.account}

    async def ListRules(self, call: Call, input: Input) -> Output:
        bus = self._bus(call, input.get("EventBusName"))
        found = [record.value for record in self._rules.list(bus.scope, f"{bus.name}:{input.get('NamePrefix', '')}")]
        start, end, token = page([rule.name for rule in found], input)
        return {"Rules": [_shown(rule) for rule in found[start:end]], **token}

    async def EnableRule(self, call: Call, input: Input) -> Output:
        await self._switch(call, input, "ENABLED")
        return {}

    async def DisableRule(self, call: Call, input: Input) -> Output:
        await self._switch(call, input, "DISABLED")
        return {}

    async def _switch(self, call: Call, input: Input, state: str) -> None:
        rule, now = self._rule(call, input, input["Name"]), self.clock.now()

        def change(current: Rule) -> dict[str, Any]:
            begins = state != "DISABLED" and not current.enabled
            return {"state": state, "anchor": now if begins else current.anchor}

        self._ticking.set(await self._change_rule(rule, change))

    async def PutTargets(self, call: Call, input: Input) -> Output:
        rule = self._rule(call, input, input["Rule"])
        given = {target["Id"]: target for target in input["Targets"]}
        for target in input["Targets"]:
            await self._check_target(target)

        def put(current: Rule) -> dict[str, Any]:
            merged = {**current.targets, **given}
            if len(merged) > _TARGETS_AT_MOST:
                raise AwsError("LimitExceededException", "The requested resource exceeds the maximum number allowed.")
            return {"targets": merged}

        await self._change_rule(rule, put)
        return {"FailedEntryCount": 0, "FailedEntries": []}

    async def _check_target(self, target: dict[str, Any]) -> None:
        """Check a target. Raises ValidationException, and NotImplemented for what Cloudlet cannot call."""
        id, arn = target["Id"], target["Arn"]
        service = targets.service_of(arn)
        if not service:
            raise invalid(f"Parameter {arn} is not valid. Reason: Provided Arn is not in correct format.")
        for name in _FOREIGN_PARAMETERS:
            if name in target:
                raise not_implemented(f"PutTargets with {name}")
        if not (targets.known(arn) or is_bus(arn) or is_destination(arn) or service == "logs"):
            raise not_implemented(f"a rule's target {arn}")
        if service != "events":
            await self.cloud.service(service)
        inputs.check(target)
        if service == "sqs" and arn.endswith(".fifo") and not target.get("SqsParameters", {}).get("MessageGroupId"):
            raise invalid(f"Parameter(s) SqsParameters must be specified for target: {id}.")
        if service == "ecs" and "EcsParameters" not in target:
            raise invalid(f"Parameter(s) EcsParameters must be specified for target: {id}.")
        if "HttpParameters" in target and not is_destination(arn):
            raise not_implemented("PutTargets with HttpParameters of what is no API destination")
        if (service in _NEED_A_ROLE or is_destination(arn)) and not target.get("RoleArn"):
            raise invalid(f"RoleArn is required for target {arn}.")
        queue = target.get("DeadLetterConfig", {}).get("Arn")
        if queue is not None and (targets.service_of(queue) != "sqs" or queue.endswith(".fifo")):
            raise invalid(f"Parameter {queue} is not valid. Reason: a dead-letter queue is a standard SQS queue.")

    async def RemoveTargets(self, call: Call, input: Input) -> Output:
        rule, ids = self._rule(call, input, input["Rule"]), input["Ids"]
        failed: list[dict[str, str]] = []

        def remove(current: Rule) -> dict[str, Any]:
            failed[:] = [
                {
                    "TargetId": id,
                    "ErrorCode": "ResourceNotFoundException",
                    "ErrorMessage": f"Rule {current.name} does not have target with id {id}.",
                }
                for id in ids
                if id not in current.targets
            ]
            return {"targets": {id: target for id, target in current.targets.items() if id not in ids}}

        await self._change_rule(rule, remove)
        return {"FailedEntryCount": len(failed), "FailedEntries": failed}

    async def ListTargetsByRule(self, call: Call, input: Input) -> Output:
        rule = self._rule(call, input, input["Rule"])
        names = sorted(rule.targets)
        start, end, token = page(names, input)
        return {"Targets": [rule.targets[id] for id in names[start:end]], **token}

    async def ListRuleNamesByTarget(self, call: Call, input: Input) -> Output:
        bus, arn = self._bus(call, input.get("EventBusName")), input["TargetArn"]
        names = [
            record.value.name
            for record in self._rules.list(bus.scope, f"{bus.name}:")
            if any(target["Arn"] == arn for target in record.value.targets.values())
        ]
        start, end, token = page(names, input)
        return {"RuleNames": names[start:end], **token}


def _check_schedule(expression: str, now: float) -> None:
    """Check a rule's schedule expression. Raises ValidationException."""
    try:
        if expression.startswith("at("):
            raise ScheduleError(expression)
        if expression.startswith("rate("):
            number, _, unit = expression[5:-1].strip().partition(" ")
            if number.isdecimal() and (int(number) == 1) == unit.strip().endswith("s"):
                raise ScheduleError(expression)
        parse(expression, anchor=now)
    except ScheduleError:
        raise invalid("Parameter ScheduleExpression is not valid.") from None


def _shown(rule: Rule) -> dict[str, Any]:
    shown = {
        "Name": rule.name,
        "Arn": rule.arn,
        "State": rule.state,
        "EventBusName": rule.bus,
        "EventPattern": rule.pattern,
        "ScheduleExpression": rule.schedule,
        "Description": rule.description,
        "RoleArn": rule.role,
    }
    return {key: value for key, value in shown.items() if value}
