"""Rotation: a function makes a new version in four steps, when it is asked for and when its time comes."""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.schedules import ScheduleError, parse
from cloudlet.services.secretsmanager import records
from cloudlet.services.secretsmanager.base import DAY, Base, token_of
from cloudlet.services.secretsmanager.records import CURRENT, PENDING, Secret, Version
from cloudlet.store import Tx

log = logging.getLogger("cloudlet.secretsmanager")

_STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")


class Rotation(Base):
    """Operations on rotation, and the rotations themselves."""

    async def start(self) -> None:
        await super().start()
        for record in self.secrets.all():
            if record.value.rotating:
                self._run(record.scope, record.value, record.value.rotating)

    async def RotateSecret(self, call: Call, input: Input) -> Output:
        token = token_of(call, input)
        for parameter in ("ExternalSecretRotationMetadata", "ExternalSecretRotationRoleArn"):
            if parameter in input:
                raise not_implemented(f"Secrets Manager RotateSecret with {parameter}")
        scope, secret = self.named(call, input["SecretId"])
        function, rules = input.get("RotationLambdaARN") or secret.function, input.get("RotationRules") or secret.rules
        if not function:
            raise AwsError("InvalidRequestException", "No Lambda rotation function ARN is associated with this secret.")
        now = self.clock.now()
        rotates_at = _next(rules, now)
        await self._check_function(call, function)
        pending = secret.stages.get(PENDING)
        if pending is not None and pending != secret.stages.get(CURRENT):
            if secret.arn not in self._rotations:
                self._run(scope, secret, pending)
            raise AwsError(
                "InvalidRequestException", "A previous rotation isn't complete. That rotation will be reattempted."
            )
        immediately = input.get("RotateImmediately", True)
        fields = {"function": function, "rules": rules, "rotates": True, "rotates_at": rotates_at, "changed": now}
        secret = await self.db.write(
            lambda tx: self._begin(tx, scope, secret, token if immediately else "", now, fields)
        )
        self.plan(scope, secret)
        if immediately:
            self._run(scope, secret, token)
            return {"ARN": secret.arn, "Name": secret.name, "VersionId": token}
        self.cloud.spawn(self._try_out(scope, secret, token), f"tests the rotation of {secret.name}")
        return {"ARN": secret.arn, "Name": secret.name}

    async def CancelRotateSecret(self, call: Call, input: Input) -> Output:
        scope, secret = self.named(call, input["SecretId"])
        if (running := self._rotations.pop(secret.arn, None)) is not None:
            running.cancel()
        change: dict[str, Any] = {"rotates": False, "rotates_at": 0.0, "rotating": ""}
        secret = await self.edit(call, input["SecretId"], lambda _: change)
        self.plan(scope, secret)
        output = {"ARN": secret.arn, "Name": secret.name}
        return output | ({"VersionId": secret.stages[PENDING]} if PENDING in secret.stages else {})

    async def rotate_due(self, scope: str, secret: Secret) -> None:
        now = self.clock.now()
        record = self.secrets.get(scope, secret.name)
        if record is None or not 0 < record.value.rotates_at <= now:
            return
        pending = record.value.stages.get(PENDING)
        unfinished = pending is not None and pending != record.value.stages.get(CURRENT)
        token = str(pending) if unfinished else str(uuid.uuid4())
        fields = {"rotates_at": _next(record.value.rules, now)}
        current = await self.db.write(lambda tx: self._begin(tx, scope, record.value, token, now, fields))
        self.plan(scope, current)
        if current.arn not in self._rotations:
            self._run(scope, current, token)

    def _begin(self, tx: Tx, scope: str, secret: Secret, token: str, now: float, fields: dict[str, Any]) -> Secret:
        """Note what a rotation is to be; its version has no value yet."""
        record = self.secrets.get(scope, secret.name, tx)
        current = replace(record.value if record is not None else secret, **fields)
        if token:
            if records.get(tx, secret.arn, token) is None:
                records.put(tx, secret.arn, Version(token, now, "", b"", b""))
            current = replace(current, rotating=token, stages={**current.stages, PENDING: token})
        return self.keep(tx, scope, current)

    def _run(self, scope: str, secret: Secret, token: str) -> None:
        task = self.cloud.spawn(self._rotate(scope, secret, token), f"rotates {secret.name}")
        self._rotations[secret.arn] = task
        task.add_done_callback(lambda _: self._rotations.pop(secret.arn, None))

    async def _rotate(self, scope: str, secret: Secret, token: str) -> None:
        """The four steps; where one fails the version stays pending, until rotation is asked for again or is due."""
        done = True
        for step in _STEPS:
            if not await self._step(scope, secret, token, step):
                done = False
                break
        now = self.clock.now()

        def end(tx: Tx) -> None:
            record = self.secrets.get(scope, secret.name, tx)
            if record is None or record.value.arn != secret.arn:
                return
            current = replace(record.value, rotating="")
            if done and current.stages.get(CURRENT) == token:
                stages = {label: id for label, id in current.stages.items() if label != PENDING}
                current = replace(current, rotated=now, stages=stages)
            self.keep(tx, scope, current)

        await self.db.write(end)

    async def _try_out(self, scope: str, secret: Secret, token: str) -> None:
        """The test of a configuration that does not rotate yet: one step, on a version that goes again."""
        now = self.clock.now()
        await self.db.write(lambda tx: self._begin(tx, scope, secret, token, now, {}))
        await self._step(scope, secret, token, "testSecret")

        def end(tx: Tx) -> None:
            record = self.secrets.get(scope, secret.name, tx)
            if record is not None and record.value.stages.get(PENDING) == token:
                stages = {label: id for label, id in record.value.stages.items() if label != PENDING}
                self.keep(tx, scope, replace(record.value, stages=stages, rotating=""))
            records.drop(tx, secret.arn, token)

        await self.db.write(end)

    async def _step(self, scope: str, secret: Secret, token: str, step: str) -> bool:
        """Let the function do one step; whether it did."""
        account, region = scope.split("/")
        event = {"Step": step, "SecretId": secret.arn, "ClientRequestToken": token}
        try:
            answer = await self.cloud.call(
                "lambda",
                "Invoke",
                {"FunctionName": secret.function, "Payload": json.dumps(event).encode()},
                account=account,
                region=region,
                principal="secretsmanager.amazonaws.com",
            )
        except AwsError as error:
            log.warning("the rotation of %s failed at %s: %s", secret.name, step, error)
            return False
        if "FunctionError" in answer:
            log.warning("the rotation of %s failed at %s: %s", secret.name, step, answer.get("Payload"))
            return False
        return True

    async def _check_function(self, call: Call, function: str) -> None:
        """Whether there is such a function. Raises AccessDeniedException."""
        input = {"FunctionName": function}
        try:
            await self.cloud.call(
                "lambda", "GetFunction", input, account=call.account, region=call.region, principal=call.principal
            )
        except AwsError:
            raise AwsError(
                "AccessDeniedException",
                "Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants "
                "access to the principal secretsmanager.amazonaws.com.",
            ) from None


def _next(rules: dict[str, Any], now: float) -> float:
    """When a secret is rotated next; 0 where no rule says it. Raises InvalidParameterException."""
    if "AutomaticallyAfterDays" in rules and "ScheduleExpression" in rules:
        raise AwsError(
            "InvalidParameterException",
            "You can't specify both AutomaticallyAfterDays and ScheduleExpression in RotationRules.",
        )
    if days := rules.get("AutomaticallyAfterDays"):
        return now + float(days) * DAY
    if expression := rules.get("ScheduleExpression"):
        try:
            return parse(expression, anchor=now).after(now) or 0.0
        except ScheduleError:
            raise AwsError(
                "InvalidParameterException", "The ScheduleExpression in RotationRules is not valid."
            ) from None
    return 0.0
