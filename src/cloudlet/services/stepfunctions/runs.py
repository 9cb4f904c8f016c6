"""A run: one execution from its start, or from where it stood, to its end."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from cloudlet.services.jsonpath import NotFound, Scope, is_number
from cloudlet.services.stepfunctions import choices, integrations
from cloudlet.services.stepfunctions.data import Step, Visit, check_size, text_of
from cloudlet.services.stepfunctions.definition import Machine, State
from cloudlet.services.stepfunctions.errors import EVALUATION, RUNTIME, StateFailed, matches
from cloudlet.services.stepfunctions.journal import MOST_EVENTS, Journal, shown
from cloudlet.services.stepfunctions.maps import Maps
from cloudlet.services.stepfunctions.records import Frame
from cloudlet.services.stepfunctions.tasks import Tasks
from cloudlet.services.stepfunctions.threads import together

if TYPE_CHECKING:
    from cloudlet.services.stepfunctions.engine import Engine

log = logging.getLogger("cloudlet.stepfunctions")
_LONGEST_WAIT = 99_999_999  # seconds
_UNFLUSHED = 50  # states that are passed through before what happened is stored


class Run(Tasks, Maps):
    """One execution. Its threads are coroutines; where each stands is in the journal's frames."""

    def __init__(
        self, engine: Engine, journal: Journal, machine: Machine, facts: dict[str, Any], started: float = 0.0
    ) -> None:
        """``facts`` are the members Execution and StateMachine of the context object."""
        super().__init__(engine, journal, machine, facts)
        self.started = started
        self.status = "RUNNING"
        self.stopped: float | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._verdict: tuple[str, str | None, str | None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._ending = False  # what it has come to is being stored
        self._passed = 0

    def begin(self, deadline: float | None) -> None:
        """Run in the background until the end, at the latest until ``deadline``."""
        self._task = self.engine.cloud.spawn(self.execute(deadline), f"execution {self.journal.body.arn}")

    def stop(self, status: str, error: str | None = None, cause: str | None = None) -> None:
        """End it from outside: ABORTED or TIMED_OUT. Nothing happens when it has ended."""
        if self._verdict is None and not self._ending and self._task is not None:
            self._verdict = (status, error, cause)
            # Not at once: a task that is cancelled before its first step never takes it.
            asyncio.get_running_loop().call_soon(self._task.cancel)

    async def execute(self, deadline: float | None) -> None:
        """Go through the states to the end, and store it."""
        journal, body = self.journal, self.journal.body
        timer = self.clock.call_at(deadline, self._late) if deadline is not None else None
        status, details = "SUCCEEDED", {}
        try:
            body.output = text_of(await self.walk("", self.machine))
            details = shown("output", body.output)
        except StateFailed as failure:
            status, body.error, body.cause = "FAILED", failure.error or None, failure.cause or None
        except asyncio.CancelledError:
            if self._verdict is None:
                raise
            status, body.error, body.cause = self._verdict
            await self._abort_threads()
        except Exception as error:
            log.exception("execution %s", body.arn)
            status, body.error, body.cause = "FAILED", RUNTIME, f"{type(error).__name__}: {error}"
        finally:
            self._ending = True
            if timer is not None:
                timer.cancel()
        if status != "SUCCEEDED":
            details = {key: value for key, value in (("error", body.error), ("cause", body.cause)) if value is not None}
        kind = {"SUCCEEDED": "Succeeded", "FAILED": "Failed", "ABORTED": "Aborted", "TIMED_OUT": "TimedOut"}[status]
        journal.emit(0 if status == "ABORTED" else journal.last, f"Execution{kind}", "", details)
        self.stopped = self.clock.now()
        if journal.announcer is not None:
            facts = self.facts["Execution"]
            journal.announced = journal.announcer.change(body, facts["Name"], status, self.started, self.stopped)
        await journal.flush(status, self.stopped)
        if journal.announcer is not None and journal.announced is not None:
            journal.announcer.outbox.wake()
        self.status = status
        if self.tracer is not None:
            self.tracer.ended(status, body.error, body.cause)
        self.engine.ended(self)
        self.finished.set_result(None)

    def _late(self) -> None:
        self.stop("TIMED_OUT", "States.Timeout")

    async def _abort_threads(self) -> None:
        """The states in which threads were when the execution was ended."""
        frame = self.journal.frames.get("")
        if frame is not None and frame.entered and not frame.done:
            kind = self.machine.states[frame.state].type
            if kind in ("Task", "Parallel", "Map"):
                self.journal.emit(frame.event, f"{kind}StateAborted")

    @property
    def is_ended_from_outside(self) -> bool:
        """Whether it was stopped, or has run out of time."""
        return self._verdict is not None

    # Threads

    async def walk(self, path: str, machine: Machine) -> Any:
        """Lead one thread to its end; its output. Raises StateFailed."""
        frame = self.journal.frames[path]
        if frame.failure is not None:
            raise StateFailed(*frame.failure)
        while not frame.done:
            state = machine.states[frame.state]
            if not frame.entered:
                self._enter(path, frame, state)
            if frame.wake is not None and state.type != "Wait":
                await self._pause(path, frame)
            visit = self.visit(frame, state)
            try:
                step = await self.act(path, frame, visit)
                self._leave(path, frame, state, step)
            except StateFailed as failure:
                self.note_evaluation(path, frame, failure)
                if not self._recover(path, frame, visit, failure):
                    if self.tracer is not None:
                        self.tracer.state(path, frame, state.name, failure)
                    frame.failure = (failure.error, failure.cause)
                    self.journal.touch(path)
                    raise
            self._passed += 1
            if self._passed % _UNFLUSHED == 0:
                await self.journal.flush()
        return frame.output

    def _enter(self, path: str, frame: Frame, state: State) -> None:
        if self.journal.last >= MOST_EVENTS - 1:
            raise StateFailed(RUNTIME, f"The execution reached the maximum number of history events ({MOST_EVENTS}).")
        frame.entered_at = self.clock.now()
        self.note(
            path,
            frame,
            f"{state.type}StateEntered",
            "stateEntered",
            {"name": state.name, **shown("input", text_of(frame.input))},
        )
        frame.entered = frame.event

    def _leave(self, path: str, frame: Frame, state: State, step: Step, failure: StateFailed | None = None) -> None:
        """Go on from a state, with what it has come to, or with what has been made of its ``failure``."""
        details = {"name": state.name, **shown("output", check_size(state.name, step.output))}
        if step.assigned:
            frame.variables = {**frame.variables, **step.assigned}
            details["assignedVariables"] = {name: text_of(value) for name, value in step.assigned.items()}
            details["assignedVariablesDetails"] = {"truncated": False}
        self.note(path, frame, f"{state.type}StateExited", "stateExited", details)
        if self.tracer is not None:
            self.tracer.state(path, frame, state.name, failure)
        self._clear(path, frame)
        frame.entered, frame.retries, frame.tries = 0, [], 0
        if step.next is None:
            frame.done, frame.output, frame.input = True, step.output, None
        else:
            frame.state, frame.input = step.next, step.output

    def _clear(self, path: str, frame: Frame) -> None:
        """Put away what a state has kept of its work."""
        frame.attempt, frame.items, frame.wake, frame.map_run = None, None, None, ""
        if frame.begun:
            frame.begun = False
            self.journal.drop(path)

    def _recover(self, path: str, frame: Frame, visit: Visit, failure: StateFailed) -> bool:
        """Retry or Catch; False when neither takes the error. Raises StateFailed when Catch itself fails."""
        fields = visit.state.fields
        retriers: list[dict[str, Any]] = fields.get("Retry", [])
        for index, retrier in enumerate(retriers):
            if not matches(failure.error, retrier["ErrorEquals"]):
                continue
            used = frame.retries or [0] * len(retriers)
            if used[index] >= retrier.get("MaxAttempts", 3):
                break
            self._clear(path, frame)
            frame.wake = self.clock.now() + _delay(retrier, used[index])
            frame.retries = [count + (at == index) for at, count in enumerate(used)]
            frame.tries += 1
            self.journal.touch(path)
            return True
        for catcher in fields.get("Catch", []):
            if matches(failure.error, catcher["ErrorEquals"]):
                self._leave(path, frame, visit.state, visit.caught(catcher, failure), failure)
                return True
        return False

    async def _pause(self, path: str, frame: Frame) -> None:
        """Wait until a thread's time has come."""
        assert frame.wake is not None
        if (left := frame.wake - self.clock.now()) > 0:
            await self.journal.flush()
            await self.clock.sleep(left)
        frame.wake = None
        self.journal.touch(path)

    # States

    async def act(self, path: str, frame: Frame, visit: Visit) -> Step:
        """Do what the state is for. Raises StateFailed."""
        match visit.state.type:
            case "Pass":
                return _pass(visit)
            case "Task":
                return await self.task(path, frame, visit)
            case "Choice":
                return _choice(visit)
            case "Wait":
                return await self._wait(path, frame, visit)
            case "Succeed":
                return visit.passed(None)
            case "Fail":
                raise StateFailed(str(visit.value("Error") or ""), str(visit.value("Cause") or ""))
            case "Parallel":
                return await self._parallel(path, frame, visit)
        return await self.map(path, frame, visit)

    async def _wait(self, path: str, frame: Frame, visit: Visit) -> Step:
        if frame.wake is None:
            frame.wake = _until(visit, frame.entered_at)
            self.journal.touch(path)
        await self._pause(path, frame)
        return visit.passed(visit.state.next)

    async def _parallel(self, path: str, frame: Frame, visit: Visit) -> Step:
        branches = visit.state.inner
        if not frame.begun:
            input = visit.arguments()
            self.note(path, frame, "ParallelStateStarted")
            frame.begun = True
            for index, branch in enumerate(branches):
                thread = Frame(branch.start, input, frame.variables, frame.event, item=frame.item)
                self.journal.put(f"{path}/{index}", thread)

        def walks(index: int, branch: Machine) -> Callable[[], Coroutine[Any, Any, Any]]:
            return lambda: self.walk(f"{path}/{index}", branch)

        try:
            outputs = await together([walks(index, branch) for index, branch in enumerate(branches)], len(branches))
        except StateFailed:
            frame.event = self.failed_at(path)
            self.note(path, frame, "ParallelStateFailed")
            raise
        frame.event = self.journal.last
        # What comes next follows what this follows.
        self.journal.emit(frame.event, "ParallelStateSucceeded")
        return visit.finish(outputs)


def _pass(visit: Visit) -> Step:
    fields = visit.state.fields
    if visit.state.jsonata:
        return visit.finish(visit.input)
    return visit.finish(fields["Result"] if "Result" in fields else visit.arguments())


def _choice(visit: Visit) -> Step:
    data = visit.effective()
    scope = Scope(data, visit.context, visit.variables)
    for index, rule in enumerate(visit.state.fields["Choices"]):
        if visit.state.jsonata:
            holds = visit.evaluate(rule["Condition"], f"Choices[{index}]/Condition")
            if not isinstance(holds, bool):
                words = f"The JSONata expression for the field 'Choices[{index}]/Condition' returned a non-boolean."
                raise visit.failed(words, EVALUATION)
        else:
            try:
                holds = choices.holds(rule, scope)
            except NotFound:
                path = rule.get("Variable", "")
                words = f"Invalid path '{path}': The choice state's condition path references an invalid value."
                raise visit.failed(words) from None
        if holds:
            return visit.passed(rule["Next"], rule)
    if "Default" in visit.state.fields:
        return visit.passed(visit.state.fields["Default"])
    words = "Failed to transition out of the state. The state does not point to a next state."
    raise visit.failed(words, "States.NoChoiceMatched")


def _until(visit: Visit, entered: float) -> float:
    seconds, moment = visit.value("Seconds"), visit.value("Timestamp")
    fields = visit.state.fields
    if moment is not None:
        if (until := integrations.epoch(moment)) is not None:
            return until
        form = "ISO-8601 extended offset date-time format string"
        if path := fields.get("TimestampPath"):
            raise visit.failed(f"The TimestampPath parameter does not reference a valid {form}: {path} == {moment}")
        raise visit.failed(f"The Timestamp field cannot be parsed as an {form}: {moment}", EVALUATION, "Timestamp")
    if is_number(seconds) and 0 <= seconds <= _LONGEST_WAIT and int(seconds) == seconds:
        return entered + float(seconds)
    path = fields.get("SecondsPath")
    name, shown = ("SecondsPath parameter", f"{path} == ") if path else ("Seconds field", "")
    if not is_number(seconds) or int(seconds) != seconds:
        raise visit.failed(f"The {name} cannot be parsed as a long value: {shown}{text_of(seconds)}")
    if seconds < 0:
        raise visit.failed(f"The {name} references a negative value: {shown}{text_of(seconds)}")
    raise visit.failed("Wait state delay is too long.")


def _delay(retrier: dict[str, Any], before: int) -> float:
    """Seconds before the next try, after so many retries."""
    delay = float(retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** before)
    delay = min(delay, float(retrier.get("MaxDelaySeconds", delay)))
    return random.uniform(0, delay) if retrier.get("JitterStrategy") == "FULL" else delay
