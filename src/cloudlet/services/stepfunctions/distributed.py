"""Map states in distributed mode: a child execution for each item, or each batch of them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from cloudlet.services.stepfunctions import readers
from cloudlet.services.stepfunctions.data import Step, Visit, text_of
from cloudlet.services.stepfunctions.errors import StateFailed
from cloudlet.services.stepfunctions.journal import Journal
from cloudlet.services.stepfunctions.records import Execution, Frame, MapRun
from cloudlet.services.stepfunctions.threads import Threads, iso, together

_SIDE_BY_SIDE = 1000  # children, where MaxConcurrency does not say
_SELF = "states.amazonaws.com"


class Distributed(Threads):
    """The part of a run that knows distributed Map states."""

    async def distribute(self, path: str, frame: Frame, visit: Visit, select: Callable[..., Any]) -> Step:
        """Lead a child execution for each item to its end; ``select`` makes an item's input."""
        if not frame.begun:
            await self._plan(path, frame, visit, select)
        inputs, map_run = frame.items or [], self.engine.map_runs[frame.map_run]
        limit = int(visit.value("MaxConcurrency") or _SIDE_BY_SIDE)

        def leads(index: int) -> Callable[[], Coroutine[Any, Any, Any]]:
            return lambda: self._child(path, frame, visit, map_run, index)

        try:
            await self.journal.flush()
            ended = await together([leads(index) for index in range(len(inputs))], limit)
            outputs = [msgspec.json.decode(one["Output"]) for one in ended if one["Status"] == "SUCCEEDED"]
            result = await readers.write(visit, self._s3, frame.map_run, ended, outputs)
        except StateFailed as failure:
            self.engine.abort_children(map_run)
            await self.engine.end_map_run(map_run, "FAILED")
            self.note(path, frame, "MapRunFailed", "", {"error": failure.error, "cause": failure.cause})
            self.note(path, frame, "MapStateFailed")
            raise
        except asyncio.CancelledError:
            if self.is_ended_from_outside:
                self.engine.abort_children(map_run)
                await self.engine.end_map_run(map_run, "ABORTED")
            raise
        await self.engine.end_map_run(map_run, "SUCCEEDED")
        self.note(path, frame, "MapRunSucceeded")
        self.journal.emit(frame.event, "MapStateSucceeded")
        return self.visit(frame, visit.state).finish(result)

    async def _plan(self, path: str, frame: Frame, visit: Visit, select: Callable[..., Any]) -> None:
        """Read the items and note what is to be done."""
        state, fields = visit.state, visit.state.fields
        count = visit.number("ToleratedFailureCount") or 0
        percentage = visit.number("ToleratedFailurePercentage", float) or 0.0
        if count < 0:
            raise visit.failed("ToleratedFailureCount cannot be negative.")
        if not 0 <= percentage <= 100:
            raise visit.failed("ToleratedFailurePercentage must be between 0 and 100.")
        items = await readers.read(visit, self._s3) if "ItemReader" in fields else visit.items()
        selected = [select(visit, index, item) for index, item in enumerate(items)]
        label = fields.get("Label") or str(uuid.uuid5(uuid.NAMESPACE_OID, state.name))
        machine = self.journal.body.machine_arn
        arn = f"{machine.replace(':stateMachine:', ':mapRun:')}/{label}:{uuid.uuid4()}"
        frame.items, frame.map_run, frame.begun = readers.batched(visit, selected), arn, True
        map_run = MapRun(
            arn,
            self.journal.body.arn,
            self.clock.now(),
            label,
            items=len(items),
            children=len(frame.items),
            max_concurrency=int(visit.number("MaxConcurrency") or 0),
            tolerated_count=int(count),
            tolerated_percentage=float(percentage),
        )
        await self.engine.begin_map_run(self.journal.number, map_run)
        # What an ItemReader will have read, AWS does not know at the start.
        self.note(path, frame, "MapStateStarted", "", {"length": 0 if "ItemReader" in fields else len(items)})
        self.note(path, frame, "MapRunStarted", "", {"mapRunArn": arn})

    async def _child(self, path: str, frame: Frame, visit: Visit, map_run: MapRun, index: int) -> dict[str, Any]:
        """Lead one child to its end; its description. Raises StateFailed when too many have failed."""
        place = f"{path}/{index}"
        known = self.journal.frames.get(place)
        if known is None:
            assert frame.items is not None
            ended = await self._led(visit, map_run, index, frame.items[index])
            known = self.journal.put(place, Frame("", None, done=True, output=ended))
        if known.output["Status"] == "SUCCEEDED":
            map_run.succeeded += 1
        else:
            map_run.failed += 1
            share = 100 * map_run.failed / max(1, map_run.children)
            if map_run.failed > map_run.tolerated_count and share > map_run.tolerated_percentage:
                words = "The specified tolerated failure threshold was exceeded"
                raise StateFailed("States.ExceedToleratedFailureThreshold", words)
        await self.journal.flush()
        return dict(known.output)

    async def _led(self, visit: Visit, map_run: MapRun, index: int, input: Any) -> dict[str, Any]:
        own, engine, now = self.journal.body, self.engine, self.clock.now()
        name = str(uuid.uuid5(uuid.UUID(map_run.arn[-36:]), str(index)))
        config = visit.state.fields["ItemProcessor"]["ProcessorConfig"]
        kind = config["ExecutionType"]
        body = Execution(
            arn=f"{own.machine_arn.replace(':stateMachine:', ':execution:')}/{map_run.label}:{name}",
            machine_arn=f"{own.machine_arn}/{map_run.label}",
            revision=own.revision,
            input=text_of(input),
            state=visit.state.name,
            map_run=map_run.arn,
        )
        row = None
        if kind == "STANDARD":
            row, now = await engine.begin_child(self, body, name, now)
        if row is not None and row.status != "RUNNING":
            return _ended(row.body, row.status, row.name, row.started, row.stopped or now)
        child = engine.running.get(body.arn)
        if child is None:
            if row is not None:
                child = await engine.resume(row)
            else:
                child = engine.launch(Journal(self.clock, 0, body, None), name, now, "EXPRESS")
        await asyncio.shield(child.finished)
        return _ended(child.journal.body, child.status, name, now, child.stopped or now)

    async def _s3(self, operation: str, input: dict[str, Any]) -> dict[str, Any]:
        cloud = self.engine.cloud
        given = cloud.conform("s3", operation, input)
        return await cloud.call("s3", operation, given, account=self.account, region=self.region, principal=_SELF)


def _ended(body: Execution, status: str, name: str, started: float, stopped: float) -> dict[str, Any]:
    """A child as results have it."""
    shown: dict[str, Any] = {
        "ExecutionArn": body.arn,
        "Input": body.input,
        "InputDetails": {"Included": True},
        "Name": name,
        "StartDate": iso(started),
        "StateMachineArn": body.machine_arn,
        "Status": status,
        "StopDate": iso(stopped),
    }
    if body.output is not None:
        shown |= {"Output": body.output, "OutputDetails": {"Included": True}}
    if body.error is not None:
        shown["Error"] = body.error
    if body.cause is not None:
        shown["Cause"] = body.cause
    return shown
