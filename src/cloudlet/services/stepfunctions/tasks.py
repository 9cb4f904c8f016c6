"""Task states: what is called, and what waits for an answer, a time, or somebody else's word."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from cloudlet.control.clock import Timer
from cloudlet.services.jsonpath import is_number
from cloudlet.services.stepfunctions import calls, integrations
from cloudlet.services.stepfunctions.data import Step, Visit, check_size, text_of
from cloudlet.services.stepfunctions.errors import StateFailed
from cloudlet.services.stepfunctions.integrations import Target
from cloudlet.services.stepfunctions.journal import shown
from cloudlet.services.stepfunctions.records import Attempt, Frame
from cloudlet.services.stepfunctions.threads import Threads

log = logging.getLogger("cloudlet.stepfunctions")
_NAMES = {"lambda": "LambdaFunction", "activity": "Activity", "service": "Task"}
_FOREVER = 99_999_999


class Pending:
    """A task in flight, from its start, or from a restart, until it is settled."""

    def __init__(self, run: Threads, path: str, frame: Frame, attempt: Attempt, target: Target, account: str) -> None:
        self.run = run
        self.path = path
        self.frame = frame
        self.attempt = attempt
        self.target = target
        self.account = account  # in which it is called
        # When the work on it began; of an activity's that is only known where it was given to its worker.
        self.began = None if target.kind == "activity" else attempt.started
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: Timer | None = None

    @property
    def open(self) -> bool:
        """Whether nothing has settled it."""
        return self.attempt.output is msgspec.UNSET and self.attempt.error is None

    def note(self, happened: str, details: dict[str, Any] | None = None) -> None:
        """Note an event of the task: Scheduled, Started, Succeeded and so on."""
        kind, target = self.target.kind, self.target
        if happened == "Started":
            self.began = self.run.clock.now()
        if happened != "Submitted" and self.run.journal.body.revision:  # not of a state that is only tried
            self.run.engine.reporting.task(self, happened, (self.attempt.error or ("",))[0])
        if kind == "service":
            details = {"resourceType": target.resource_type, "resource": target.resource, **(details or {})}
        self.run.note(self.path, self.frame, f"{_NAMES[kind]}{happened}", "", details)

    def arm(self) -> None:
        """Set the timer to the next thing that can be too late."""
        if self._timer is not None:
            self._timer.cancel()
        times = [at for at in (self.attempt.deadline, self.attempt.beat_by) if at is not None]
        self._timer = self.run.clock.call_at(min(times), self._late) if times else None

    def close(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()

    def beat(self) -> None:
        """The worker lives."""
        if self.attempt.heartbeat is not None:
            self.attempt.beat_by = self.run.clock.now() + self.attempt.heartbeat
            self.run.journal.touch(self.path)
            self.arm()

    def submitted(self, output: Any) -> None:
        """The call was made, and its end is somebody else's word."""
        if self.open:
            self.attempt.called = True
            self.attempt.submitted = output
            self.note("Submitted", shown("output", output))

    def succeeded(self, output: Any) -> None:
        """The task has its output."""
        if not self.open:
            return
        try:
            text = check_size(self.target.resource_type if self.target.kind == "service" else self.target.arn, output)
        except StateFailed as failure:
            self.failed(failure.error, failure.cause)
            return
        self.attempt.output = output
        self.note("Succeeded", shown("output", text))
        self._settled()

    def failed(self, error: str, cause: str = "", happened: str = "Failed") -> None:
        """The task has come to an error."""
        if not self.open:
            return
        self.attempt.error = (error, cause)
        self.note(happened, {key: said for key, said in (("error", error), ("cause", cause)) if said})
        self._settled()

    def _settled(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _late(self) -> None:
        beat = self.attempt.beat_by
        late = beat is not None and beat <= self.run.clock.now()
        self.failed("States.HeartbeatTimeout" if late else "States.Timeout", "", "TimedOut")


class Tasks(Threads):
    """The part of a run that knows Task states."""

    async def task(self, path: str, frame: Frame, visit: Visit) -> Step:
        """Do a task, or go on with it where it stood."""
        target = integrations.resolve(visit.state.fields["Resource"])
        account = _account(visit, self.account)
        fresh = frame.attempt is None
        if fresh and target.kind == "activity" and not self.engine.has_activity(target.arn):
            raise visit.failed(f"The activity {target.arn} does not exist.")
        attempt = frame.attempt or self._attempt(path, frame, visit)
        pending = Pending(self, path, frame, attempt, target, account)
        if fresh:
            frame.attempt = attempt
            pending.note("Scheduled", _scheduled(pending, visit, self.region))
            if target.kind != "activity":
                pending.note("Started")
        if pending.open:
            self.engine.pending[attempt.token] = pending
            pending.arm()
            try:
                await self.journal.flush()
                if target.kind == "activity":
                    if not attempt.called:
                        self.engine.offer(pending)
                elif not attempt.called:
                    # It goes on when the execution ends before it: what has been asked for cannot be taken back.
                    self.engine.cloud.spawn(self._call(pending), f"task {frame.state}")
                elif target.pattern.startswith("sync"):
                    self.engine.cloud.spawn(self.engine.await_child(pending), f"child of {frame.state}")
                await pending.done
            finally:
                pending.close()
                self.engine.pending.pop(attempt.token, None)
        frame.attempt = None
        if attempt.error is not None:
            raise StateFailed(*attempt.error)
        return self.visit(frame, visit.state).finish(attempt.output)

    def _attempt(self, path: str, frame: Frame, visit: Visit) -> Attempt:
        """A new try of a task, with everything that it is given."""
        token, now = self.engine.new_token(self, path), self.clock.now()
        arguments = self.visit(frame, visit.state, token).arguments()
        timeout, heartbeat = _seconds(visit, "TimeoutSeconds"), _seconds(visit, "HeartbeatSeconds")
        return Attempt(
            token,
            arguments,
            now,
            deadline=now + timeout if timeout is not None and timeout < _FOREVER else None,
            heartbeat=heartbeat,
            beat_by=now + heartbeat if heartbeat is not None else None,
        )

    async def _call(self, pending: Pending) -> None:
        """Make the call and settle the task with its answer."""
        target, attempt = pending.target, pending.attempt
        try:
            output = await calls.make(self, pending)
        except StateFailed as failure:
            pending.failed(failure.error, failure.cause)
            return
        except Exception as error:
            log.exception("the task %s of %s", pending.frame.state, self.journal.body.arn)
            pending.failed("States.TaskFailed", f"{type(error).__name__}: {error}")
            return
        if not target.pattern:
            pending.succeeded(output)
            return
        pending.submitted(output)
        await self.journal.flush()
        if target.pattern.startswith("sync") and not pending.done.done():
            attempt.submitted = output
            await self.engine.await_child(pending)


def _seconds(visit: Visit, field: str) -> float | None:
    seconds = visit.value(field)
    if seconds is None:
        return None
    if not is_number(seconds) or seconds <= 0:
        raise visit.failed(f"The field '{field}' must be a positive number of seconds, got {text_of(seconds)}")
    return float(seconds)


def _account(visit: Visit, own: str) -> str:
    """The account of the role in Credentials, else the execution's."""
    credentials = visit.state.fields.get("Credentials")
    if not credentials:
        return own
    if visit.state.jsonata:
        credentials = visit.query("Credentials")
    else:
        credentials = visit.template(credentials, visit.effective())
    role = str(credentials.get("RoleArn", ""))
    if role.count(":") < 5:
        raise visit.failed("The field 'Credentials' must have the ARN of a role in 'RoleArn'")
    return role.split(":")[4]


def _scheduled(pending: Pending, visit: Visit, region: str) -> dict[str, Any]:
    target, attempt = pending.target, pending.attempt
    details: dict[str, Any] = {}
    if attempt.deadline is not None:
        details["timeoutInSeconds"] = int(attempt.deadline - attempt.started)
    if attempt.heartbeat is not None and target.kind != "lambda":
        details["heartbeatInSeconds"] = int(attempt.heartbeat)
    if target.kind == "service":
        return {"region": region, "parameters": text_of(attempt.arguments), **details}
    return {"resource": target.arn, **shown("input", attempt.arguments), **details}
