"""What every part of a run stands on: its threads, their events, and what their states see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cloudlet.services.stepfunctions.data import Visit
from cloudlet.services.stepfunctions.definition import Machine, State
from cloudlet.services.stepfunctions.errors import EVALUATION, StateFailed
from cloudlet.services.stepfunctions.journal import Journal
from cloudlet.services.stepfunctions.records import Frame

if TYPE_CHECKING:
    from cloudlet.services.stepfunctions.engine import Engine
    from cloudlet.services.stepfunctions.tracing import Tracer


class Threads:
    """The threads of one execution."""

    def __init__(self, engine: Engine, journal: Journal, machine: Machine, facts: dict[str, Any]) -> None:
        """``facts`` are the members Execution and StateMachine of the context object."""
        self.engine = engine
        self.clock = engine.clock
        self.journal = journal
        self.machine = machine
        self.facts = facts
        self.tracer: Tracer | None = None  # where X-Ray is told of it
        self.seen: dict[str, Any] = {}  # the stages of the data, where a single state is tried

    @property
    def account(self) -> str:
        """The execution's account."""
        return self.journal.body.arn.split(":")[4]

    @property
    def region(self) -> str:
        """The execution's region."""
        return self.journal.body.arn.split(":")[3]

    @property
    def is_ended_from_outside(self) -> bool:
        """Whether it was stopped, or has run out of time."""
        raise NotImplementedError

    async def walk(self, path: str, machine: Machine) -> Any:
        """Lead one thread to its end; its output. Raises StateFailed."""
        raise NotImplementedError

    def visit(self, frame: Frame, state: State, token: str = "") -> Visit:
        """What the fields of the state see in which a thread stands."""
        context = self.context(frame, token, is_retried="Retry" in state.fields)
        return Visit(state, frame.input, frame.variables, context, frame.entered, self.clock.now(), self.seen)

    def context(self, frame: Frame, token: str = "", *, is_retried: bool = False) -> dict[str, Any]:
        """The context object of a thread; only a state that can be retried has a count of that."""
        state: dict[str, Any] = {"EnteredTime": iso(frame.entered_at), "Name": frame.state}
        if is_retried:
            state["RetryCount"] = frame.tries
        context = {**self.facts, "State": state}
        if frame.item is not None:
            context["Map"] = {"Item": {"Index": frame.item[0], "Value": frame.item[1]}}
        if token:
            context["Task"] = {"Token": token}
        return context

    def note(self, path: str, frame: Frame, type: str, key: str = "", details: dict[str, Any] | None = None) -> None:
        """Note an event of a thread."""
        frame.event = self.journal.emit(frame.event, type, key, details)
        self.journal.touch(path)

    def note_evaluation(self, path: str, frame: Frame, failure: StateFailed) -> None:
        """Note, once, that an expression is what has failed."""
        if failure.error == EVALUATION and not failure.noted:
            failure.noted = True
            details = {"error": failure.error, "cause": failure.cause, "state": frame.state}
            if failure.location:
                details["location"] = failure.location
            self.note(path, frame, "EvaluationFailed", "", details)

    def failed_at(self, path: str) -> int:
        """The last event of the thread below a path that has failed."""
        frames = self.journal.frames.items()
        below = [frame for place, frame in frames if place.rpartition("/")[0] == path and "/" in place]
        return max((frame.event for frame in below if frame.failure is not None), default=self.journal.last)


async def together(work: list[Callable[[], Coroutine[Any, Any, Any]]], limit: int) -> list[Any]:
    """Do some things side by side, at most ``limit`` at a time; the first failure ends the others."""
    results: list[Any] = [None] * len(work)
    left = iter(enumerate(work))

    async def lane() -> None:
        for index, make in left:
            results[index] = await make()

    lanes = [asyncio.ensure_future(lane()) for _ in range(min(limit, len(work)))]
    try:
        await asyncio.gather(*lanes)
    except BaseException:
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        raise
    return results


def iso(moment: float) -> str:
    """A time as the context object has it."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
