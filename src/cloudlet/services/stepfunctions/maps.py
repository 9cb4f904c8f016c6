"""Map states: one thread for each item."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cloudlet.services.stepfunctions import readers
from cloudlet.services.stepfunctions.data import Step, Visit
from cloudlet.services.stepfunctions.distributed import Distributed
from cloudlet.services.stepfunctions.errors import StateFailed
from cloudlet.services.stepfunctions.records import Frame
from cloudlet.services.stepfunctions.threads import together

_SIDE_BY_SIDE = 40  # iterations, where MaxConcurrency does not say


class Maps(Distributed):
    """The part of a run that knows Map states."""

    async def map(self, path: str, frame: Frame, visit: Visit) -> Step:
        """Lead a thread for each item to its end."""
        state = visit.state
        if is_distributed(state.fields):
            return await self.distribute(path, frame, visit, selected)
        limit = visit.number("MaxConcurrency") or _SIDE_BY_SIDE
        if not frame.begun:
            try:
                frame.items = visit.items()
            except StateFailed as failure:
                self.note_evaluation(path, frame, failure)
                self.note(path, frame, "MapStateFailed")
                raise
            frame.begun = True
            self.note(path, frame, "MapStateStarted", "", {"length": len(frame.items)})
        items = frame.items or []

        lanes: list[int] = []  # the last events of iterations that have made room for another

        def iterates(index: int) -> Callable[[], Coroutine[Any, Any, Any]]:
            return lambda: self.iteration(path, frame, visit, index, lanes)

        try:
            outputs = await together([iterates(index) for index in range(len(items))], int(limit))
        except StateFailed:
            frame.event = self.failed_at(path)
            self.note(path, frame, "MapStateFailed")
            raise
        if items:
            frame.event = self.journal.last
        # What comes next follows what this follows.
        self.journal.emit(frame.event, "MapStateSucceeded")
        return self.visit(frame, state).finish(outputs)

    async def iteration(self, path: str, frame: Frame, visit: Visit, index: int, lanes: list[int]) -> Any:
        """One item's thread; its first event follows one of ``lanes``, its last is added to them."""
        processor, items = visit.state.inner[0], frame.items or []
        place, details = f"{path}/{index}", {"name": visit.state.name, "index": index}
        thread = self.journal.frames.get(place)
        if thread is None:
            input = selected(visit, index, items[index])
            previous = lanes.pop() if lanes else frame.event
            started = self.journal.emit(previous, "MapIterationStarted", "", details)
            thread = Frame(processor.start, input, frame.variables, started, item=(index, items[index]))
            self.journal.put(place, thread)
        if thread.done:
            return thread.output
        if thread.failure is not None:
            raise StateFailed(*thread.failure)
        try:
            output = await self.walk(place, processor)
        except StateFailed:
            self.journal.emit(thread.event, "MapIterationFailed", "", details)
            raise
        except asyncio.CancelledError:
            # Another one has failed or the execution was ended; when the cloud stops, nothing of this is stored.
            self.note(place, thread, "MapIterationAborted", "", details)
            raise
        self.journal.emit(thread.event, "MapIterationSucceeded", "", details)
        lanes.append(thread.event)
        return output


def selected(visit: Visit, index: int, item: Any) -> Any:
    """An iteration's input: by ItemSelector, else the item."""
    fields = visit.state.fields
    field = "ItemSelector" if "ItemSelector" in fields else "Parameters"
    if field not in fields:
        return item
    context = {**visit.context, "Map": {"Item": {"Index": index, "Value": item}}}
    if visit.state.jsonata:
        return visit.evaluate(fields[field], field, context=context)
    return visit.template(fields[field], visit.effective(), context)


def check_mode(fields: dict[str, Any]) -> None:
    """Raises NotImplemented for what Map states of Cloudlet cannot do."""
    if is_distributed(fields):
        readers.check(fields)


def is_distributed(fields: dict[str, Any]) -> bool:
    """Whether a Map makes child executions."""
    return ((fields.get("ItemProcessor") or {}).get("ProcessorConfig") or {}).get("Mode") == "DISTRIBUTED"
