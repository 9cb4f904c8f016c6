"""The operations by which workers answer: task tokens and activities."""

from __future__ import annotations

import asyncio
import re
from collections import deque

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output, arn
from cloudlet.services.stepfunctions.data import text_of
from cloudlet.services.stepfunctions.engine import scope_of
from cloudlet.services.stepfunctions.errors import invalid_arn, invalid_token, task_gone
from cloudlet.services.stepfunctions.executions import Executions
from cloudlet.services.stepfunctions.machines import check_name, encryption_of
from cloudlet.services.stepfunctions.pages import paged
from cloudlet.services.stepfunctions.records import Activity
from cloudlet.services.stepfunctions.tasks import Pending
from cloudlet.store import Record, Tx

_TOKEN = re.compile(r"AQCEAAAAKgAAAAMAAAAA[\w-]+-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ACTIVITY_ARN = re.compile(r"arn:aws[\w-]*:states:[\w-]+:\d{12}:activity:([^:]+)")
_PATIENCE = 60.0  # seconds of GetActivityTask's long poll


class Callbacks(Executions):
    """Operations of workers."""

    async def SendTaskSuccess(self, call: Call, input: Input) -> Output:
        pending = self._pending(input["taskToken"])
        try:
            output = msgspec.json.decode(input["output"])
        except msgspec.DecodeError as error:
            raise AwsError("InvalidOutput", f"Invalid Output: '{error}'") from None
        pending.succeeded(output)
        await pending.run.journal.flush()
        return {}

    async def SendTaskFailure(self, call: Call, input: Input) -> Output:
        pending = self._pending(input["taskToken"])
        pending.failed(input.get("error", ""), input.get("cause", ""))
        await pending.run.journal.flush()
        return {}

    async def SendTaskHeartbeat(self, call: Call, input: Input) -> Output:
        pending = self._pending(input["taskToken"])
        pending.beat()
        await pending.run.journal.flush()
        return {}

    def _pending(self, token: str) -> Pending:
        """The task of a token. Raises InvalidToken and TaskTimedOut."""
        pending = self.pending.get(token)
        if pending is None or not pending.open:
            raise task_gone() if _TOKEN.fullmatch(token) else invalid_token()
        return pending

    # Activities

    async def CreateActivity(self, call: Call, input: Input) -> Output:
        name = input["name"]
        check_name(name)
        tags = {tag["key"]: tag.get("value", "") for tag in input.get("tags", [])}
        made = Activity(self.clock.now(), encryption_of(input), tags)

        def create(tx: Tx) -> Activity:
            if (existing := self.activities.get(call.scope, name, tx)) is not None:
                return existing.value
            return self.activities.put(tx, call.scope, name, made).value

        activity = await self.db.write(create)
        return {"activityArn": arn("states", call, f"activity:{name}"), "creationDate": activity.created}

    async def DeleteActivity(self, call: Call, input: Input) -> Output:
        name = _activity_name(input["activityArn"])
        scope = scope_of(input["activityArn"])
        await self.db.write(lambda tx: self.activities.delete(tx, scope, name))
        return {}

    async def DescribeActivity(self, call: Call, input: Input) -> Output:
        record = self._activity(input["activityArn"])
        return {
            "activityArn": input["activityArn"],
            "name": record.name,
            "creationDate": record.value.created,
            "encryptionConfiguration": record.value.encryption or {"type": "AWS_OWNED_KEY"},
        }

    async def ListActivities(self, call: Call, input: Input) -> Output:
        found, token = paged(self.activities.list(call.scope), input)
        shown = [
            {
                "activityArn": arn("states", call, f"activity:{record.name}"),
                "name": record.name,
                "creationDate": record.value.created,
            }
            for record in found
        ]
        return {"activities": shown, **token}

    async def GetActivityTask(self, call: Call, input: Input) -> Output:
        """Wait for a task, for a minute at most; an empty answer says that there is none."""
        its_arn = input["activityArn"]
        self._activity(its_arn)
        until = self.clock.now() + _PATIENCE
        gone = asyncio.ensure_future(call.request.gone()) if call.request is not None else None
        try:
            while (pending := self._next_task(its_arn)) is None:
                if not await self._wait_for_task(its_arn, until, gone):
                    return {}
        finally:
            if gone is not None:
                gone.cancel()
        details = {"workerName": input["workerName"]} if "workerName" in input else {}
        pending.attempt.called = True
        pending.note("Started", details)
        pending.beat()
        await pending.run.journal.flush()
        return {"taskToken": pending.attempt.token, "input": text_of(pending.attempt.arguments)}

    def _next_task(self, its_arn: str) -> Pending | None:
        offered = self.offered.get(its_arn)
        while offered:
            pending = offered.popleft()
            if not offered:
                del self.offered[its_arn]
            if pending.open and self.pending.get(pending.attempt.token) is pending:
                return pending
        return None

    async def _wait_for_task(self, its_arn: str, until: float, gone: asyncio.Future[None] | None) -> bool:
        """Whether a task was offered before the time was over."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        late = asyncio.ensure_future(self.clock.sleep(until - self.clock.now()))
        waiting = self.workers.setdefault(its_arn, deque())
        waiting.append(woken)
        try:
            await asyncio.wait(
                [woken, late, *([gone] if gone is not None else [])], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            late.cancel()
            if woken in waiting:
                waiting.remove(woken)
            if not waiting:
                self.workers.pop(its_arn, None)
        if woken.done() and gone is not None and gone.done():
            self._pass_on(its_arn)
            return False
        return woken.done()

    def _pass_on(self, its_arn: str) -> None:
        """Wake another worker in the place of one that is gone."""
        for worker in self.workers.get(its_arn, ()):
            if not worker.done():
                worker.set_result(None)
                return

    def _activity(self, its_arn: str) -> Record[Activity]:
        record = self.activities.get(scope_of(its_arn), _activity_name(its_arn))
        if record is None:
            raise AwsError("ActivityDoesNotExist", f"Activity Does Not Exist: '{its_arn}'")
        return record


def _activity_name(its_arn: str) -> str:
    match = _ACTIVITY_ARN.fullmatch(its_arn)
    if match is None:
        raise invalid_arn(its_arn, "Invalid ARN prefix")
    return match[1]
