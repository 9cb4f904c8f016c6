"""The engine: the executions that run, the tasks that are in flight, and who waits for them."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections import deque
from typing import Any

import msgspec

from cloudlet.control.clock import Timer
from cloudlet.errors import AwsError
from cloudlet.observe.traces import place_of
from cloudlet.services import api
from cloudlet.services.stepfunctions import records
from cloudlet.services.stepfunctions.announcing import Announcer
from cloudlet.services.stepfunctions.data import text_of
from cloudlet.services.stepfunctions.definition import diagnose, every_state
from cloudlet.services.stepfunctions.diary import Diary
from cloudlet.services.stepfunctions.journal import Journal, shown
from cloudlet.services.stepfunctions.records import (
    Activity,
    Alias,
    Execution,
    Frame,
    MapRun,
    Revision,
    Row,
    StateMachine,
    Version,
)
from cloudlet.services.stepfunctions.reporting import Reporting
from cloudlet.services.stepfunctions.runs import Run
from cloudlet.services.stepfunctions.tasks import Pending
from cloudlet.services.stepfunctions.threads import Threads, iso
from cloudlet.services.stepfunctions.tracing import Tracer
from cloudlet.store import Database, Resources, Tx

_KEPT = 90 * 86_400.0  # seconds that an execution is kept after its end
_LONGEST_EXPRESS = 300.0
_CHUNK = 100


class Engine(api.Service):
    """Everything that runs, and the state under it."""

    name = "stepfunctions"

    db: Database
    machines: Resources[StateMachine]
    revisions: Resources[Revision]
    versions: Resources[Version]
    aliases: Resources[Alias]
    activities: Resources[Activity]

    async def start(self) -> None:
        self.db = await self.cloud.store.database("stepfunctions", records.MIGRATIONS)
        self.machines = self.db.resources(StateMachine)
        self.revisions = self.db.resources(Revision)
        self.versions = self.db.resources(Version)
        self.aliases = self.db.resources(Alias)
        self.activities = self.db.resources(Activity)
        self.diary = Diary(self.cloud)
        self.running: dict[str, Run] = {}  # by the execution's ARN
        self.pending: dict[str, Pending] = {}  # by the task's token
        self.offered: dict[str, deque[Pending]] = {}  # by the activity's ARN
        self._expiry: Timer | None = None
        self.workers: dict[str, deque[asyncio.Future[None]]] = {}
        self.announcer = Announcer(self.cloud, self.db)
        self.reporting = Reporting(self.cloud.metrics, self.clock)
        await self.announcer.outbox.start()
        self.map_runs = {run.arn: run for run in await self.db.scan(records.running_map_runs)}
        for run in self.map_runs.values():
            run.succeeded = run.failed = 0
        known = {record.value.id for record in self.machines.all()}
        for row in await self.db.scan(records.running):
            # A parent that was taken up may have taken up its child.
            if row.machine.partition("/")[0] in known and row.body.arn not in self.running:
                await self.resume(row)
        for id, machine, started, body in await self.db.scan(records.express):
            if machine in known:
                self._express(id, machine, started, body)
        for scope, gone in {(one.scope, one.value.machine) for one in self.revisions.all()}:
            if gone not in known:
                self.cloud.spawn(self.sweep(scope, gone), f"stepfunctions sweeps {gone}")
        self._expire_later(await self.db.read(records.first_stop))

    async def stop(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        await self.announcer.outbox.stop()

    # Runs

    async def resume(self, row: Row) -> Run:
        """Take up an execution from its frames."""
        last = "SELECT COALESCE(MAX(id), 0) FROM event WHERE execution = ?"
        last_event = await self.db.read(lambda tx: tx.execute(last, (row.number,)).fetchone()[0])
        journal = Journal(self.clock, row.number, row.body, self.db, last_event)
        journal.frames = await self.db.read(lambda tx: records.frames(tx, row.number))
        return self.launch(journal, row.name, row.started, "STANDARD")

    def launch(self, journal: Journal, name: str, started: float, kind: str) -> Run:
        """Run an execution: a new one where the journal has no frame."""
        body = journal.body
        revision = self.revision(body)
        machine, problems = diagnose(revision.definition, "STANDARD" if body.state else kind)
        if machine is not None and body.state:
            machine = next(state.inner[0] for state in every_state(machine) if state.name == body.state)
        if machine is None:
            raise AwsError("InvalidDefinition", f"Invalid State Machine Definition: '{problems[0].message}'")
        execution = {
            "Id": body.arn,
            "Input": msgspec.json.decode(body.input),
            "Name": name,
            "RoleArn": revision.role,
            "StartTime": iso(started),
            "RedriveCount": body.redrives,
        }
        if body.redrives:
            execution["RedriveTime"] = iso(body.redriven)
        own = body.machine_arn
        facts = {"Execution": execution, "StateMachine": {"Id": own, "Name": own.rpartition(":")[2]}}
        run = Run(self, journal, machine, facts, started)
        if kind == "STANDARD" and not body.map_run:
            journal.announcer = self.announcer
        if not journal.frames:
            details = {**shown("input", body.input), "roleArn": revision.role}
            if body.alias_arn:
                details["stateMachineAliasArn"] = body.alias_arn
            if body.version_arn:
                details["stateMachineVersionArn"] = body.version_arn
            journal.emit(0, "ExecutionStarted", "", details)
            # The first state's event follows none: AWS does not chain it to the start of the execution.
            journal.put("", Frame(machine.start, execution["Input"], event=0))
            if not body.map_run:
                self.reporting.started(body)
        deadline = (body.redriven or started) + machine.timeout if machine.timeout is not None else None
        if kind == "EXPRESS":
            deadline = min(deadline or started + _LONGEST_EXPRESS, started + _LONGEST_EXPRESS)
        journal.told = self.diary.teller(body, revision)
        if revision.tracing and (place := place_of(body.trace)) is not None and place.sampled:
            run.tracer = Tracer(self.cloud, run, body, place, started)
        self.running[body.arn] = run
        run.begin(deadline)
        return run

    def _express(self, id: str, machine: str, started: float, body: Execution) -> Run:
        """Run an accepted Express execution, from its start: it is done at least once."""
        run = self.launch(Journal(self.clock, 0, body, None), body.arn.split(":")[-2], started, "EXPRESS")
        run.finished.add_done_callback(
            lambda _: asyncio.ensure_future(self.db.write(lambda tx: records.drop_express(tx, id)))
        )
        return run

    def revision(self, body: Execution) -> Revision:
        """What an execution runs by."""
        record = self.revisions.get(scope_of(body.arn), body.revision)
        if record is None:
            raise AwsError("StateMachineDoesNotExist", f"State Machine Does Not Exist: '{body.machine_arn}'")
        return record.value

    def ended(self, run: Run) -> None:
        """A run has stored its end."""
        assert run.stopped is not None
        self.reporting.ended(run.journal.body, run.status, run.stopped - run.started)
        self.running.pop(run.journal.body.arn, None)
        self._expire_later(run.stopped)

    # Distributed Maps

    async def begin_map_run(self, execution: int, run: MapRun) -> None:
        """A distributed Map begins."""
        await self.db.write(lambda tx: records.put_map_run(tx, execution, run))
        self.map_runs[run.arn] = run

    async def end_map_run(self, run: MapRun, status: str) -> None:
        """A distributed Map has ended."""
        run.status, run.stopped = status, self.clock.now()
        await self.db.write(lambda tx: records.save_map_run(tx, run))
        self.map_runs.pop(run.arn, None)

    def abort_children(self, run: MapRun) -> None:
        """End the children of a distributed Map that comes to an end without them."""
        for child in list(self.running.values()):
            if child.journal.body.map_run == run.arn:
                child.stop("ABORTED")

    async def begin_child(self, parent: Threads, body: Execution, name: str, now: float) -> tuple[Row, float]:
        """Store a child of a distributed Map, unless an earlier try has; its row, and when it was started."""
        label = body.machine_arn.rpartition("/")[2]

        def begin(tx: Tx) -> Row:
            own = tx.execute("SELECT machine FROM execution WHERE number = ?", (parent.journal.number,)).fetchone()[0]
            machine = f"{own.partition('/')[0]}/{label}"
            if records.find(tx, machine, name) is None:
                records.add(tx, machine, name, now, "", body.map_run, body)
            row = records.find(tx, machine, name)
            assert row is not None
            return row

        row = await self.db.write(begin)
        return row, row.started

    # Tasks

    def new_token(self, run: Threads, path: str) -> str:
        """A task's token; its last part is its own."""
        place = base64.urlsafe_b64encode(f"{run.journal.number}|{path}".encode()).decode().rstrip("=")
        return f"AQCEAAAAKgAAAAMAAAAA{place}-{uuid.uuid4()}"

    async def await_child(self, pending: Pending) -> None:
        """Settle a task when the execution that it has started ends."""
        arn = pending.attempt.submitted["ExecutionArn"]
        account, region = arn.split(":")[4], arn.split(":")[3]
        try:
            if (child := self.running.get(arn)) is not None:
                await asyncio.shield(child.finished)
            seen = await self.cloud.call(
                "stepfunctions", "DescribeExecution", {"executionArn": arn}, account=account, region=region
            )
        except AwsError as error:
            pending.failed("States.TaskFailed", error.message)
            return
        shown = described(seen, parsed=pending.target.pattern == "sync:2")
        if seen["status"] == "SUCCEEDED":
            pending.succeeded(shown)
        else:
            pending.failed("States.TaskFailed", text_of(shown))

    def has_activity(self, arn: str) -> bool:
        """Whether an activity of this ARN exists."""
        return self.activities.get(scope_of(arn), arn.rpartition(":")[2]) is not None

    def offer(self, pending: Pending) -> None:
        """Put an activity's task where its workers find it."""
        arn = pending.target.arn
        self.offered.setdefault(arn, deque()).append(pending)
        waiting = self.workers.get(arn)
        while waiting:
            worker = waiting.popleft()
            if not worker.done():
                worker.set_result(None)
                return

    # Time

    async def sweep(self, scope: str, id: str) -> None:
        """Forget the executions of a machine that is gone, then its revisions, by which a restart knows of it."""
        while numbers := await self.db.read(lambda tx: records.of_machine(tx, id, _CHUNK)):
            for run in [run for run in self.running.values() if run.journal.number in numbers]:
                await asyncio.shield(run.finished)
            await self.db.write(lambda tx, numbers=numbers: records.forget(tx, numbers), long=True)  # type: ignore[misc]

        def forget(tx: Tx) -> None:
            records.drop_express_of(tx, id)
            for revision in self.revisions.list(scope, tx=tx):
                if revision.value.machine == id:
                    self.revisions.delete(tx, scope, revision.name)

        await self.db.write(forget, long=True)

    def _expire_later(self, stopped: float | None) -> None:
        """Set the one timer by which executions are forgotten, unless it is set."""
        if stopped is not None and self._expiry is None:
            self._expiry = self.clock.call_at(
                stopped + _KEPT + 1, lambda: self.cloud.spawn(self._expire(), "stepfunctions forgets")
            )

    async def _expire(self) -> None:
        """Forget the executions whose time is over."""
        self._expiry = None
        while numbers := await self.db.read(lambda tx: records.stopped_before(tx, self.clock.now() - _KEPT, _CHUNK)):
            await self.db.write(lambda tx, numbers=numbers: records.forget(tx, numbers), long=True)  # type: ignore[misc]
        self._expire_later(await self.db.read(records.first_stop))


def scope_of(arn: str) -> str:
    """The store's scope of an ARN."""
    parts = arn.split(":")
    return f"{parts[4]}/{parts[3]}"


def described(seen: dict[str, Any], parsed: bool) -> dict[str, Any]:
    """A child's description as its parent sees it: names in capitals, with ``sync:2`` its input and output as JSON."""
    shown = {name[0].upper() + name[1:]: value for name, value in seen.items()}
    for name in ("Input", "Output"):
        if parsed and name in shown:
            shown[name] = msgspec.json.decode(shown[name])
    shown["StartDate"] = int(shown["StartDate"] * 1000)
    if "StopDate" in shown:
        shown["StopDate"] = int(shown["StopDate"] * 1000)
    for name in ("InputDetails", "OutputDetails"):
        if name in shown:
            shown[name] = {"Included": True}
    return shown
