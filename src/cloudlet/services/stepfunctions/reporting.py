"""What Step Functions tells CloudWatch of executions and of their tasks. Nothing is ever throttled here.

https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudlet.control.clock import Clock
from cloudlet.observe.metrics import Dimensions, Metrics
from cloudlet.services.stepfunctions.records import Execution

if TYPE_CHECKING:
    from cloudlet.services.stepfunctions.tasks import Pending

_NAMESPACE = "AWS/States"
_ENDS = {
    "SUCCEEDED": "ExecutionsSucceeded",
    "FAILED": "ExecutionsFailed",
    "ABORTED": "ExecutionsAborted",
    "TIMED_OUT": "ExecutionsTimedOut",
}
# How the names of counts and of times begin, for each kind of task.
_TASKS = {
    "activity": ("Activities", "Activity"),
    "lambda": ("LambdaFunctions", "LambdaFunction"),
    "service": ("ServiceIntegrations", "ServiceIntegration"),
}


class Reporting:
    """Counts of all executions but the children of distributed Maps, and of all tasks."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock

    def started(self, body: Execution) -> None:
        """An execution begins."""
        self._of_execution(body, "ExecutionsStarted", 1.0)

    def redriven(self, body: Execution) -> None:
        """An execution goes on where it has failed."""
        self._of_execution(body, "ExecutionsRedriven", 1.0)

    def ended(self, body: Execution, status: str, seconds: float) -> None:
        """An execution has ended. What it has not done is said too: of its start there are two samples, 1 and 0."""
        if body.map_run:
            return
        self._of_execution(body, "ExecutionsStarted", 0.0)
        for known, metric in _ENDS.items():
            self._of_execution(body, metric, float(known == status))
        if body.redrives:
            self._of_execution(body, f"Redriven{_ENDS[status]}", 1.0)
        self._of_execution(body, "ExecutionTime", round(seconds * 1e3), "Milliseconds")

    def task(self, pending: Pending, happened: str, error: str) -> None:
        """A task was Scheduled, Started, or has come to an end: Succeeded, Failed, TimedOut."""
        attempt, now = pending.attempt, self._clock.now()
        counts, times = _TASKS[pending.target.kind]
        if pending.target.kind == "activity" and error == "States.HeartbeatTimeout":
            happened = "HeartbeatTimedOut"
        self._of_task(pending, f"{counts}{happened}", 1.0)
        if happened == "Started":
            self._of_task(pending, f"{times}ScheduleTime", round((now - attempt.started) * 1e3), "Milliseconds")
        elif happened != "Scheduled":
            self._of_task(pending, f"{times}Time", round((now - attempt.started) * 1e3), "Milliseconds")
            if pending.began is not None:
                self._of_task(pending, f"{times}RunTime", round((now - pending.began) * 1e3), "Milliseconds")

    def _of_execution(self, body: Execution, metric: str, value: float, unit: str = "Count") -> None:
        machine = ("StateMachineArn", body.machine_arn)
        whose: list[Dimensions] = [(), (machine,)]
        if body.alias_arn:
            whose.append((("Alias", body.alias_arn.rpartition(":")[2]), machine))
        elif body.version_arn:
            whose.append((machine, ("Version", body.version_arn.rpartition(":")[2])))
        self._add(body, metric, whose, value, unit)

    def _of_task(self, pending: Pending, metric: str, value: float, unit: str = "Count") -> None:
        target, run = pending.target, pending.run
        if target.kind == "service":
            # With the account's own region and number, which the definition leaves out.
            called = f"arn:aws:states:{run.region}:{run.account}:{target.resource_type}:{target.resource}"
            whose = ("ServiceIntegrationResourceArn", called)
        else:
            whose = ("ActivityArn" if target.kind == "activity" else "LambdaFunctionArn", target.arn)
        self._add(run.journal.body, metric, [(), (whose,)], value, unit)

    def _add(self, body: Execution, metric: str, whose: list[Dimensions], value: float, unit: str) -> None:
        _, _, _, region, account, _ = body.arn.split(":", 5)
        for dimensions in whose:
            self._metrics.add(f"{account}/{region}", _NAMESPACE, metric, dimensions, value, unit)
