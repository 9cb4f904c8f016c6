"""The operations on executions."""

from __future__ import annotations

import asyncio
import random
import re
import uuid
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.observe import traces
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.stepfunctions import records, tracing
from cloudlet.services.stepfunctions.data import text_of
from cloudlet.services.stepfunctions.definition import diagnose, every_state
from cloudlet.services.stepfunctions.engine import scope_of
from cloudlet.services.stepfunctions.errors import invalid_arn, no_execution, no_machine
from cloudlet.services.stepfunctions.journal import Journal
from cloudlet.services.stepfunctions.machines import Machines, check_name, named
from cloudlet.services.stepfunctions.pages import paged, place_of, size_of, token_of
from cloudlet.services.stepfunctions.records import Execution, MapRun, Row, StateMachine
from cloudlet.services.stepfunctions.redrive import redriven
from cloudlet.store import Tx

_EXECUTION_ARN = re.compile(r"arn:aws[\w-]*:states:([\w-]+):(\d{12}):execution:([^:]+):([^:]+)")
_EXPRESS_ARN = re.compile(r"arn:aws[\w-]*:states:[\w-]+:\d{12}:express:[^:]+:[^:]+:[^:]+")
_LARGEST = 256 * 1024
_REDRIVABLE = 14 * 86_400.0  # seconds after its end
_HIDDEN = ("input", "output", "parameters", "cause")


class Executions(Machines):
    """Operations on executions."""

    async def StartExecution(self, call: Call, input: Input) -> Output:
        body, machine, name, text = self._begun(call, input)
        if self.revision(body).tracing:
            body.trace = await tracing.header_of(self.cloud, body.machine_arn, body.trace)
        now = self.clock.now()
        if machine.kind == "EXPRESS":
            id = str(uuid.uuid4())
            body.arn = f"{body.arn}:{id}"
            stored = records.encode(body)
            await self.db.write(lambda tx: records.add_express(tx, id, machine.id, now, stored))
            self._express(id, machine.id, now, body)
            return {"executionArn": body.arn, "startDate": now}

        change = self.announcer.change(body, name, "RUNNING", now, None)

        def start(tx: Tx) -> tuple[int, float, bool]:
            current = self.machines.get(scope_of(body.machine_arn), body.machine_arn.rpartition(":")[2], tx)
            if current is None or current.value.id != machine.id:
                raise no_machine(body.machine_arn)
            if (existing := records.find(tx, machine.id, name)) is not None:
                if existing.status != "RUNNING" or existing.body.input != text:
                    raise AwsError("ExecutionAlreadyExists", f"Execution Already Exists: '{body.arn}'")
                return existing.number, existing.started, False
            if change is not None:
                self.announcer.add(tx, change)
            return records.add(tx, machine.id, name, now, body.alias_arn or body.version_arn, "", body), now, True

        number, started, fresh = await self.db.write(start)
        if fresh:
            if change is not None:
                self.announcer.outbox.wake()
            self.launch(Journal(self.clock, number, body, self.db), name, started, "STANDARD")
        return {"executionArn": body.arn, "startDate": started}

    async def StartSyncExecution(self, call: Call, input: Input) -> Output:
        body, machine, name, text = self._begun(call, input)
        if self.revision(body).tracing:
            body.trace = await tracing.header_of(self.cloud, body.machine_arn, body.trace)
        if machine.kind != "EXPRESS":
            words = f"This operation is not supported by this type of state machine: '{body.machine_arn}'"
            raise AwsError("StateMachineTypeNotSupported", words)
        now = self.clock.now()
        body.arn = f"{body.arn}:{uuid.uuid4()}"
        run = self.launch(Journal(self.clock, 0, body, None), name, now, "EXPRESS")
        try:
            await asyncio.shield(run.finished)
        except asyncio.CancelledError:
            run.stop("ABORTED")
            raise
        assert run.stopped is not None
        took = max(1, int((run.stopped - now) * 1000))
        output: Output = {
            "executionArn": body.arn,
            "stateMachineArn": body.machine_arn,
            "name": name,
            "startDate": now,
            "stopDate": run.stopped,
            "status": "FAILED" if run.status == "ABORTED" else run.status,
            "billingDetails": {"billedMemoryUsedInMB": 64, "billedDurationInMilliseconds": -(-took // 100) * 100},
        }
        if body.trace:
            output["traceHeader"] = body.trace
        if input.get("includedData") != "METADATA_ONLY":
            output |= {"input": text, "inputDetails": {"included": True}, **_came_to(body)}
        return output

    def _begun(self, call: Call, input: Input) -> tuple[Execution, StateMachine, str, str]:
        """A new execution that nothing has stored yet, its machine, its name and its input."""
        its_arn = input["stateMachineArn"]
        scope, machine_name, qualifier = named(its_arn)
        machine = self.machine(its_arn).value
        name = input.get("name") or str(uuid.uuid4())
        check_name(name)
        text = input.get("input", "{}")
        if len(text.encode()) > _LARGEST:
            raise AwsError(
                "InvalidExecutionInput", "Invalid State Machine Execution Input: 'The input is larger than 256 KiB'"
            )
        try:
            msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise AwsError("InvalidExecutionInput", f"Invalid State Machine Execution Input: '{error}'") from None
        own = its_arn.removesuffix(f":{qualifier}") if qualifier else its_arn
        body = Execution(
            arn=own.replace(":stateMachine:", ":execution:" if machine.kind == "STANDARD" else ":express:")
            + f":{name}",
            machine_arn=own,
            revision=machine.revision,
            input=text,
            trace=input.get("traceHeader") or traces.header_of(call),
        )
        if qualifier:
            number = qualifier
            if (alias := self.aliases.get(scope, f"{machine_name}:{qualifier}")) is not None:
                body.alias_arn = its_arn
                versions, weights = zip(*alias.value.routes, strict=True)
                number = str(random.choices(versions, weights)[0])
            body.version_arn = f"{own}:{number}"
            body.revision = self.version_of(scope, machine_name, number, its_arn).revision
        return body, machine, name, text

    async def StopExecution(self, call: Call, input: Input) -> Output:
        row = await self.execution(input["executionArn"])
        if (run := self.running.get(row.body.arn)) is None:
            return {"stopDate": row.stopped if row.stopped is not None else self.clock.now()}
        run.stop("ABORTED", input.get("error"), input.get("cause"))
        await asyncio.shield(run.finished)
        return {"stopDate": run.stopped}

    async def DescribeExecution(self, call: Call, input: Input) -> Output:
        row = await self.execution(input["executionArn"])
        body = row.body
        output: Output = {
            "executionArn": body.arn,
            "stateMachineArn": body.machine_arn,
            "name": row.name,
            "status": row.status,
            "startDate": row.started,
            "redriveCount": body.redrives,
            **_redrive_status(row, self.clock.now()),
        }
        if row.stopped is not None:
            output["stopDate"] = row.stopped
        if body.redrives:
            output["redriveDate"] = body.redriven
        if body.version_arn:
            output["stateMachineVersionArn"] = body.version_arn
        if body.alias_arn:
            output["stateMachineAliasArn"] = body.alias_arn
        if body.trace:
            output["traceHeader"] = body.trace
        if body.map_run:
            output["mapRunArn"] = body.map_run
        if input.get("includedData") != "METADATA_ONLY":
            output |= {"input": body.input, "inputDetails": {"included": True}}
            if row.status != "RUNNING":
                output |= _came_to(body)
        return output

    async def ListExecutions(self, call: Call, input: Input) -> Output:
        if "mapRunArn" in input:
            return await self._children(input)
        if "stateMachineArn" not in input:
            raise AwsError("ValidationException", "Must provide a StateMachine ARN or MapRun ARN")
        its_arn = input["stateMachineArn"]
        _, _, qualifier = named(its_arn)
        machine = self.machine(its_arn).value
        if machine.kind == "EXPRESS":
            raise AwsError(
                "StateMachineTypeNotSupported",
                f"This operation is not supported by this type of state machine: '{its_arn}'",
            )
        asked = f"{its_arn} {input.get('statusFilter', '')} {input.get('redriveFilter', '')}"
        size, before = size_of(input), place_of(input, 2**62, asked)
        status, filtered = input.get("statusFilter", ""), qualifier or input.get("redriveFilter")
        found: list[Row] = []
        while len(found) <= size:
            rows = await self._page(machine.id, status, before, size + 1)
            found += [row for row in rows if not filtered or _is_listed(row, its_arn if qualifier else "", input)]
            if len(rows) <= size:
                break
            before = rows[-1].number
        more = {"nextToken": token_of(found[size - 1].number, asked)} if len(found) > size else {}
        return {"executions": [_listed(row) for row in found[:size]], **more}

    async def _children(self, input: Input) -> Output:
        """The child executions of a map run."""
        its_arn, status = input["mapRunArn"], input.get("statusFilter", "")
        await self.map_run(its_arn)
        size, before = size_of(input), place_of(input, 2**62, its_arn + status)
        rows = await self._page(its_arn, status, before, size + 1, "map_run")
        more = {"nextToken": token_of(rows[size - 1].number, its_arn + status)} if len(rows) > size else {}
        return {"executions": [_listed(row) for row in rows[:size]], **more}

    async def map_run(self, its_arn: str) -> MapRun:
        """The map run of an ARN. Raises ResourceNotFound."""
        run = self.map_runs.get(its_arn) or await self.db.read(lambda tx: records.map_run(tx, its_arn))
        if run is None:
            raise AwsError("ResourceNotFound", f"Resource not found: '{its_arn}'")
        return run

    async def DescribeMapRun(self, call: Call, input: Input) -> Output:
        run = await self.map_run(input["mapRunArn"])
        ended = run.status != "RUNNING"
        rest = run.children - run.succeeded - run.failed
        counts = {
            "pending": 0,
            "running": 0 if ended else rest,
            "succeeded": run.succeeded,
            "failed": run.failed,
            "timedOut": 0,
            "aborted": rest if ended else 0,
            "total": run.children,
            "resultsWritten": run.succeeded if ended else 0,
        }
        output: Output = {
            "mapRunArn": run.arn,
            "executionArn": run.execution,
            "status": run.status,
            "startDate": run.started,
            "maxConcurrency": run.max_concurrency,
            "toleratedFailureCount": run.tolerated_count,
            "toleratedFailurePercentage": run.tolerated_percentage,
            "itemCounts": counts,
            "executionCounts": counts,
            "redriveCount": 0,
        }
        if run.stopped is not None:
            output["stopDate"] = run.stopped
        return output

    async def ListMapRuns(self, call: Call, input: Input) -> Output:
        row = await self.execution(input["executionArn"])
        runs, token = paged(await self.db.scan(lambda tx: records.map_runs(tx, row.number)), input)
        shown = []
        for run in runs:
            one = {
                "executionArn": run.execution,
                "mapRunArn": run.arn,
                "stateMachineArn": f"{row.body.machine_arn}/{run.label}",
                "startDate": run.started,
            }
            shown.append(one | ({"stopDate": run.stopped} if run.stopped is not None else {}))
        return {"mapRuns": shown, **token}

    async def _page(self, value: str, status: str, before: int, limit: int, column: str = "machine") -> list[Row]:
        return await self.db.scan(lambda tx: records.page(tx, column, value, status, before, limit))

    async def GetExecutionHistory(self, call: Call, input: Input) -> Output:
        row = await self.execution(input["executionArn"])
        backwards, size = input.get("reverseOrder", False), size_of(input)
        after = place_of(input, 2**62 if backwards else 0, row.body.arn)
        events = await self.db.scan(lambda tx: records.events(tx, row.number, after, size + 1, backwards))
        shown = events[:size]
        if input.get("includeExecutionData") is False:
            shown = [_without_data(event) for event in shown]
        more = {"nextToken": token_of(shown[-1]["id"], row.body.arn)} if len(events) > size else {}
        return {"events": shown, **more}

    async def DescribeStateMachineForExecution(self, call: Call, input: Input) -> Output:
        row = await self.execution(input["executionArn"])
        own = self.revision(row.body)
        output: Output = {
            "stateMachineArn": row.body.machine_arn,
            "name": row.body.machine_arn.rpartition(":")[2],
            "definition": own.definition,
            "roleArn": own.role,
            "updateDate": own.updated,
            "loggingConfiguration": own.logging or {"level": "OFF", "includeExecutionData": False},
            "tracingConfiguration": {"enabled": own.tracing},
            "revisionId": row.body.revision,
            "encryptionConfiguration": {"type": "AWS_OWNED_KEY"},
        }
        if row.body.state:
            machine, _ = diagnose(own.definition, "STANDARD")
            assert machine is not None
            map_state = next(state for state in every_state(machine) if state.name == row.body.state)
            output["definition"] = text_of(map_state.inner[0].fields)
            output |= {"mapRunArn": row.body.map_run, "label": row.body.machine_arn.rpartition("/")[2]}
        if input.get("includedData") == "METADATA_ONLY":
            output["definition"] = ""
        return output

    async def RedriveExecution(self, call: Call, input: Input) -> Output:
        """Go on with what has failed, where it has failed."""
        found = await self.execution(input["executionArn"])
        now = self.clock.now()

        def redrive(tx: Tx) -> tuple[Row, list[MapRun]]:
            row = records.find(tx, found.machine, found.name)
            if row is None:
                raise no_execution(input["executionArn"])
            refused = _redrive_status(row, now)
            if refused["redriveStatus"] != "REDRIVABLE":
                words = f"Execution is not redrivable: '{refused['redriveStatusReason']}'"
                raise AwsError("ExecutionNotRedrivable", words)
            return row, redriven(tx, row, now)

        row, map_runs = await self.db.write(redrive, long=True)
        self.map_runs |= {run.arn: run for run in map_runs}
        self.reporting.redriven(row.body)
        await self.resume(row._replace(status="RUNNING", stopped=None))
        return {"redriveDate": now}

    async def execution(self, its_arn: str) -> Row:
        """The execution of an ARN. Raises InvalidArn and ExecutionDoesNotExist."""
        match = _EXECUTION_ARN.fullmatch(its_arn)
        if match is None:
            if _EXPRESS_ARN.fullmatch(its_arn):
                raise invalid_arn("express", "Resource type not valid in this context")
            raise invalid_arn(its_arn, "Invalid ARN prefix")
        name, _, label = match[3].partition("/")
        machine = self.machines.get(scope_of(its_arn), name)
        if machine is None:
            raise no_execution(its_arn)
        key = f"{machine.value.id}/{label}" if label else machine.value.id
        row = await self.db.read(lambda tx: records.find(tx, key, match[4]))
        if row is None:
            raise no_execution(its_arn)
        return row


def _came_to(body: Execution) -> Output:
    output: Output = {}
    if body.output is not None:
        output |= {"output": body.output, "outputDetails": {"included": True}}
    if body.error is not None:
        output["error"] = body.error
    if body.cause is not None:
        output["cause"] = body.cause
    return output


def _listed(row: Row) -> Output:
    output: Output = {
        "executionArn": row.body.arn,
        "stateMachineArn": row.body.machine_arn,
        "name": row.name,
        "status": row.status,
        "startDate": row.started,
        "redriveCount": row.body.redrives,
    }
    if row.stopped is not None:
        output["stopDate"] = row.stopped
    if row.body.redrives:
        output["redriveDate"] = row.body.redriven
    if row.body.version_arn:
        output["stateMachineVersionArn"] = row.body.version_arn
    if row.body.alias_arn:
        output["stateMachineAliasArn"] = row.body.alias_arn
    return output


def _is_listed(row: Row, its_arn: str, input: Input) -> bool:
    if its_arn and its_arn not in (row.body.version_arn, row.body.alias_arn):
        return False
    wanted = input.get("redriveFilter")
    return not wanted or (wanted == "REDRIVEN") == bool(row.body.redrives)


def _redrive_status(row: Row, now: float) -> dict[str, str]:
    if row.status in ("RUNNING", "SUCCEEDED"):
        reason = f"Execution is {row.status} and cannot be redriven"
        return {"redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": reason}
    if row.stopped is not None and row.stopped + _REDRIVABLE < now:
        reason = "Execution has exceeded the redrivable period of 14 days"
        return {"redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": reason}
    return {"redriveStatus": "REDRIVABLE"}


def _without_data(event: dict[str, Any]) -> dict[str, Any]:
    return {
        key: {name: item for name, item in value.items() if name not in _HIDDEN} if isinstance(value, dict) else value
        for key, value in event.items()
    }
