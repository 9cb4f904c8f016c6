"""What X-Ray is told of a request to a REST API whose stage has tracing on.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-enabling-xray.html
"""

from __future__ import annotations

from typing import Any

from cloudlet.http import Response
from cloudlet.observe import traces
from cloudlet.observe.traces import Place
from cloudlet.services.api import Cloud
from cloudlet.services.apigateway.events import Context

_KIND = "AWS::ApiGateway::Stage"


class Traced:
    """One request that is traced."""

    def __init__(self, xray: Any, context: Context, name: str, arn: str, place: Place) -> None:
        self._xray = xray
        self._context = context
        self._name = name
        self._arn = arn
        self._place = place
        self._own = traces.new_id()
        context.trace = place._replace(parent=self._own).header
        context.request.headers[traces.HEADER] = context.trace

    def ended(self, response: Response) -> None:
        """The request has its answer."""
        context, request = self._context, self._context.request
        status = response.status
        segment = {
            "trace_id": self._place.root,
            "id": self._own,
            "name": self._name,
            "origin": _KIND,
            "resource_arn": self._arn,
            "start_time": context.now,
            "end_time": self._xray.clock.now(),
            "http": {
                "request": {
                    "method": request.method,
                    "url": f"{request.scheme}://{request.headers.get('host', '')}{request.path}",
                    "user_agent": request.headers.get("user-agent", ""),
                    "client_ip": request.client,
                },
                "response": {"status": status},
            },
            "aws": {
                "account_id": context.account,
                "api_gateway": {
                    "account_id": context.account,
                    "rest_api_id": context.api_id,
                    "stage": context.stage["stageName"],
                    "request_id": context.request_id,
                },
            },
        }
        if self._place.parent:
            segment["parent_id"] = self._place.parent
        if status >= 400:
            segment["fault" if status >= 500 else "error"] = True
        if status == 429:
            segment["throttle"] = True
        self._xray.record(f"{context.account}/{context.region}", segment)


async def begin(cloud: Cloud, context: Context, api: str) -> Traced | None:
    """Whether a request is traced: as its sender has decided, else as the rules do. Else its header is passed on."""
    given = context.request.headers.get(traces.HEADER, "")
    if not context.stage.get("tracingEnabled"):
        context.trace = given
        return None
    place = traces.place_of(given)
    xray: Any = await cloud.service("xray")
    stage = context.stage["stageName"]
    name, arn = f"{api}/{stage}", f"arn:aws:apigateway:{context.region}::/restapis/{context.api_id}/stages/{stage}"
    if place is None or place.sampled is None:
        scope, request = f"{context.account}/{context.region}", context.request
        decided = xray.sample(scope, name, _KIND, request.host, request.method, request.path, arn)
        place = decided if place is None else place._replace(sampled=decided.sampled)
    if place.sampled:
        return Traced(xray, context, name, arn, place)
    context.trace = place.header
    return None
