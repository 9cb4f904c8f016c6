"""What X-Ray is told of an execution: a segment of its own, a subsegment for each state and for each call.

https://docs.aws.amazon.com/step-functions/latest/dg/concepts-xray-tracing.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.observe import traces
from cloudlet.observe.traces import Place
from cloudlet.services.api import Cloud
from cloudlet.services.stepfunctions.errors import StateFailed
from cloudlet.services.stepfunctions.records import Execution, Frame

if TYPE_CHECKING:
    from cloudlet.services.stepfunctions.threads import Threads

KIND = "AWS::StepFunctions::StateMachine"


async def header_of(cloud: Cloud, machine_arn: str, given: str) -> str:
    """The trace of a new execution of a machine whose tracing is on: its caller's, else as the rules decide."""
    place = traces.place_of(given)
    if place is None or place.sampled is None:
        xray: Any = await cloud.service("xray")
        parts = machine_arn.split(":")
        decided = xray.sample(f"{parts[4]}/{parts[3]}", parts[6], KIND, arn=machine_arn)
        place = decided if place is None else place._replace(sampled=decided.sampled)
    return str(place.header)


class Tracer:
    """Tells of one execution that is traced. Ids come from where its threads stand, the same after a restart."""

    def __init__(self, cloud: Cloud, run: Threads, body: Execution, place: Place, started: float) -> None:
        self._cloud = cloud
        self._run = run
        self._arn = body.arn
        self._machine = body.machine_arn
        self._place = place
        self._started = started
        self._own = _id(self._arn)
        self._tell_whole(in_progress=True)

    def ended(self, status: str, error: str | None, cause: str | None) -> None:
        """The execution is over."""
        failed: dict[str, Any] = {}
        if status != "SUCCEEDED":
            failed = {"fault": True, "cause": _cause(self._own, error or status, cause or "")}
        self._tell_whole(end_time=self._cloud.clock.now(), **failed)

    def state(self, path: str, frame: Frame, name: str, failure: StateFailed | None) -> None:
        """A thread leaves a state, or fails in it."""
        id = self._state(path)
        parent = self._state(path.rpartition("/")[0]) if path else self._own
        failed = {"fault": True, "cause": _cause(id, failure.error, failure.cause)} if failure else {}
        self._tell(id=id, parent_id=parent, name=name, start_time=frame.entered_at, **failed)

    @contextmanager
    def call(self, path: str, service: str, operation: str) -> Iterator[None]:
        """A call that a state makes: what is called is within it."""
        id, started = traces.new_id(), self._cloud.clock.now()
        failed: dict[str, Any] = {}
        try:
            with traces.within(self._place._replace(parent=id).header):
                yield
        except AwsError as error:
            failed = {"fault" if (error.status or 400) >= 500 else "error": True}
            failed |= {"throttle": True} if error.status == 429 else {}
            failed["cause"] = _cause(id, error.code, error.message)
            raise
        finally:
            aws = {"operation": operation, "region": self._run.region, "account_id": self._run.account}
            name, state = _NAMES.get(service, service), self._state(path)
            self._tell(id=id, parent_id=state, name=name, namespace="aws", start_time=started, aws=aws, **failed)

    def _state(self, path: str) -> str:
        """The subsegment of the state in which a thread stands."""
        frame = self._run.journal.frames.get(path)
        return self._own if frame is None else _id(f"{self._arn}|{path}|{frame.entered}")

    def _tell_whole(self, **more: Any) -> None:
        segment = {
            "trace_id": self._place.root,
            "id": self._own,
            "name": self._machine.rpartition(":")[2],
            "origin": KIND,
            "resource_arn": self._machine,
            "start_time": self._started,
            "aws": {"execution_arn": self._arn, "account_id": self._run.account},
            **({"parent_id": self._place.parent} if self._place.parent else {}),
            **more,
        }
        self._cloud.spawn(self._send(segment), "an execution is traced")

    def _tell(self, **members: Any) -> None:
        end = self._cloud.clock.now()
        segment = {"trace_id": self._place.root, "type": "subsegment", "end_time": end, **members}
        self._cloud.spawn(self._send(segment), "a state is traced")

    async def _send(self, segment: dict[str, Any]) -> None:
        xray: Any = await self._cloud.service("xray")
        xray.record(f"{self._run.account}/{self._run.region}", segment)


# As X-Ray's own SDKs call them.
_NAMES = {
    "lambda": "Lambda",
    "sqs": "SQS",
    "sns": "SNS",
    "dynamodb": "DynamoDB",
    "s3": "S3",
    "stepfunctions": "StepFunctions",
    "events": "EventBridge",
    "ecs": "ECS",
}


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cause(id: str, error: str, cause: str) -> dict[str, Any]:
    return {"exceptions": [{"id": _id(f"{id}|cause"), "type": error, "message": cause}]}
