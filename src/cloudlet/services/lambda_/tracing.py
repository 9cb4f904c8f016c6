"""What X-Ray is told of an invocation: a segment of the service Lambda, and in it one of the function.

https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from cloudlet.engines.functions import Function, Outcome
from cloudlet.errors import AwsError
from cloudlet.observe.traces import Place, new_id, place_of
from cloudlet.services.api import Cloud

ACTIVE = "Active"


class Traced:
    """One invocation that is traced."""

    def __init__(self, xray: Any, scope: str, function: Function, place: Place, links: Sequence[Place]) -> None:
        self._xray = xray
        self._scope = scope
        self._function = function
        self._place = place
        self._links = links
        self._service, self._own = new_id(), new_id()
        self._began = xray.clock.now()

    @property
    def header(self) -> str:
        """What the function finds in ``_X_AMZN_TRACE_ID``: its own segment is the parent of all that it reports."""
        return Place(self._place.root, self._own, True).header

    def ended(self, outcome: Outcome, request_id: str) -> None:
        """The function has answered, or will have when its stream ends."""
        if outcome.stream is not None:
            outcome.stream = self._until_the_end(outcome.stream, outcome, request_id)
        else:
            self._tell(outcome, request_id)

    def refused(self, error: AwsError) -> None:
        """It was not run at all."""
        failed = {"error": True, "throttle": True} if error.status == 429 else {"fault": True}
        status = {"http": {"response": {"status": error.status or 500}}}
        self._xray.record(self._scope, {**self._segment(""), **failed, **status})

    async def _until_the_end(
        self, stream: AsyncIterator[bytes], outcome: Outcome, request_id: str
    ) -> AsyncIterator[bytes]:
        try:
            async for piece in stream:
                yield piece
        finally:
            self._tell(outcome, request_id)

    def _tell(self, outcome: Outcome, request_id: str) -> None:
        fault = {"fault": True} if outcome.error else {}
        service = {**self._segment(request_id), "http": {"response": {"status": 200}}, **fault}
        self._xray.record(self._scope, service, {**self._function_segment(outcome, service["end_time"]), **fault})

    def _segment(self, request_id: str) -> dict[str, Any]:
        """What the service Lambda itself says."""
        made: dict[str, Any] = {
            "trace_id": self._place.root,
            "id": self._service,
            "name": self._function.name,
            "origin": "AWS::Lambda",
            "resource_arn": self._function.arn,
            "start_time": self._began,
            "end_time": self._xray.clock.now(),
            "aws": {"request_id": request_id} if request_id else {},
        }
        if self._place.parent:
            made["parent_id"] = self._place.parent
        return made

    def _function_segment(self, outcome: Outcome, end: float) -> dict[str, Any]:
        """What happened in the sandbox."""
        start = max(self._began, end - outcome.seconds)
        subsegments = [{"id": new_id(), "name": "Invocation", "start_time": start, "end_time": end}]
        if outcome.init:
            begun = max(self._began, start - outcome.init)
            subsegments.insert(0, {"id": new_id(), "name": "Initialization", "start_time": begun, "end_time": start})
        made: dict[str, Any] = {
            "trace_id": self._place.root,
            "id": self._own,
            "parent_id": self._service,
            "name": self._function.name,
            "origin": "AWS::Lambda::Function",
            "resource_arn": self._function.arn,
            "start_time": start,
            "end_time": end,
            "aws": {"account_id": self._scope.partition("/")[0], "function_arn": self._function.arn},
            "subsegments": subsegments,
        }
        if self._links:
            reference = {"attributes": {"aws.xray.reserved.reference_type": "parent"}}
            made["links"] = [{"trace_id": one.root, "id": one.parent, **reference} for one in self._links]
        if outcome.error:
            made["cause"] = {"exceptions": [_exception(outcome)]}
        return made


async def begin(
    cloud: Cloud, scope: str, function: Function, header: str, links: Sequence[str] = ()
) -> tuple[Traced | None, str]:
    """Whether an invocation is traced, and the header that its function is given.

    A caller that has decided is followed; for the others an active function asks the sampling rules.
    """
    place = place_of(header)
    xray: Any = None
    if place is None or place.sampled is None:
        if not function.traced:
            return None, header
        xray = await cloud.service("xray")
        decided = xray.sample(scope, function.name, "AWS::Lambda::Function", arn=function.arn)
        place = decided if place is None else place._replace(sampled=decided.sampled)
    if not place.sampled:
        return None, place._replace(parent=place.parent or new_id()).header
    xray = xray or await cloud.service("xray")
    linked = [found for one in links if (found := place_of(one)) is not None and found.parent]
    traced = Traced(xray, scope, function, place, linked)
    return traced, traced.header


async def environment(cloud: Cloud, scope: str) -> dict[str, str]:
    """Where X-Ray's SDKs in a function with active tracing send their segments. Raises OSError."""
    xray: Any = await cloud.service("xray")
    address = await xray.daemon(scope)
    host, _, port = address.rpartition(":")
    return {
        "AWS_XRAY_DAEMON_ADDRESS": address,
        "_AWS_XRAY_DAEMON_ADDRESS": host,
        "_AWS_XRAY_DAEMON_PORT": port,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    }


def _exception(outcome: Outcome) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(outcome.payload)
    except msgspec.DecodeError:
        told = None
    told = told if isinstance(told, dict) else {}
    return {
        "id": new_id(),
        "type": str(told.get("errorType", outcome.error)),
        "message": str(told.get("errorMessage", "")),
    }
