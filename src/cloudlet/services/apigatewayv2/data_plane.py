"""A request to an HTTP API: stage, CORS, route, authorizer, integration, answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.observe import traces
from cloudlet.observe.calls import stopwatch
from cloudlet.services.apigatewayv2 import access, reporting, tokens
from cloudlet.services.apigatewayv2.records import Api, Deployment
from cloudlet.services.apigatewayv2.routes import Router
from cloudlet.services.apigatewayv2.websockets import WebSockets
from cloudlet.services.fronts import cors, events, functions, integrations
from cloudlet.services.fronts.access_log import AccessLog
from cloudlet.services.fronts.authorizers import Decisions
from cloudlet.services.fronts.throttling import Throttle
from cloudlet.store import Record

if TYPE_CHECKING:
    from cloudlet.services.apigatewayv2.service import Service

LARGEST_BODY = 10 * 1024 * 1024


@dataclass(slots=True)
class Published:
    """A stage's state, compiled once for each change in the store."""

    stage: dict[str, Any]
    router: Router
    integrations: dict[str, dict[str, Any]]
    authorizers: dict[str, dict[str, Any]]
    by_key: dict[str, dict[str, Any]]  # routes
    answering: frozenset[str]  # routes that have a response

    def answers(self, route: dict[str, Any]) -> bool:
        """Whether what a WebSocket's route leads to is sent back to the client."""
        return route.get("RouteId") in self.answering


class DataPlane:
    """Answers the requests to all HTTP APIs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.cloud = self._cloud = service.cloud
        self.sockets = WebSockets(self)
        self._published: dict[tuple[str, str, str], Published] = {}
        self._throttle = Throttle(service.clock)
        self._revision = -1
        self._decisions = Decisions()
        self._issuers = tokens.Issuers()
        self._log = AccessLog(service.cloud)

    async def answer(self, request: Request, record: Record[Api]) -> Response:
        """Answer one request; every error is an answer in API Gateway's own words."""
        api = record.value.members
        if api["ProtocolType"] == "WEBSOCKET":
            return await self.sockets.answer(request, record)
        published, path = self._stage(record, unquote(request.path))
        if published is None:
            return message(404, "Not Found")
        configuration = api.get("CorsConfiguration")
        if configuration is not None and cors.is_preflight(request):
            return cors.preflight(request, configuration)
        response = await self._route(request, record, published, path)
        if configuration is not None:
            cors.add_headers(request, response, configuration)
        return response

    async def _route(self, request: Request, record: Record[Api], published: Published, path: str) -> Response:
        match = published.router.match(request.method, path)
        if match is None:
            return message(404, "Not Found")
        started, body = stopwatch(), await request.read(LARGEST_BODY)
        account, region = record.scope.split("/", 1)
        context = events.Context(
            request, body, record.name, account, region, published.stage, match, path, self._cloud.clock.now()
        )
        response = await self._answer(context, published)
        if settings := published.stage.get("AccessLogSettings"):
            self._log.write(record.scope, record.name, settings, lambda name: _variable(context, response, name))
        reporting.report(self._cloud.metrics, record.scope, context, response, stopwatch() - started)
        return response

    async def _answer(self, context: events.Context, published: Published) -> Response:
        """Answer a request to a route that there is."""
        route = context.match.route
        integration = published.integrations.get(route.get("Target", "").removeprefix("integrations/"))
        if integration is None:
            return message(500, "Internal Server Error")
        if self.is_too_fast(context.api_id, context.stage, route["RouteKey"]):
            return message(429, "Too Many Requests")
        authorized, refusal = await self.authorize(context, published)
        if refusal is not None:
            return refusal
        context.authorizer = authorized
        started = stopwatch()
        response = await self._integrate(context, integration)
        context.integrated = stopwatch() - started
        return integrations.mapped(context, integration, response)

    def is_too_fast(self, api_id: str, stage: dict[str, Any], route_key: str) -> bool:
        """Whether a route's rate is used up; else one more request is counted."""
        limits = reporting.settings_of(stage, route_key)
        rate, burst = limits.get("ThrottlingRateLimit"), limits.get("ThrottlingBurstLimit")
        return not self._throttle.takes((api_id, stage["StageName"], route_key), rate, burst)

    async def authorize(
        self, context: events.Context, published: Published
    ) -> tuple[dict[str, Any] | None, Response | None]:
        """What the route's authorizer says of the caller, and a refusal or None."""
        return await access.authorize(self._cloud, context, published.authorizers, self._decisions, self._issuers)

    async def _integrate(self, context: events.Context, integration: dict[str, Any]) -> Response:
        try:
            if integration["IntegrationType"] == "HTTP_PROXY":
                return await integrations.forward(context, integration)
            with traces.within(context.request.headers.get(traces.HEADER, "")):
                if "IntegrationSubtype" in integration:
                    return await integrations.call_service(self._cloud, context, integration)
                return await self._invoke(context, integration)
        except AwsError:
            return message(500, "Internal Server Error")

    async def _invoke(self, context: events.Context, integration: dict[str, Any]) -> Response:
        """Invoke a function and read its answer as the payload format says."""
        function = functions.function_of(integration["IntegrationUri"])
        if not function:
            return message(500, "Internal Server Error")
        newer = integration.get("PayloadFormatVersion") == "2.0"
        event = events.version_2(context) if newer else events.version_1(context)
        said = await functions.invoke(self._cloud, context.account, context.region, function, event)
        return message(500, "Internal Server Error") if said.failed else events.read_answer(said.payload, newer)

    def published(self, record: Record[Api], name: str) -> Published | None:
        """A stage as it is now."""
        if self._revision != self._service.db.revision:
            self._revision = self._service.db.revision
            self._published.clear()
            self._decisions.clear()
        return self._publish(record, name)

    def _stage(self, record: Record[Api], path: str) -> tuple[Published | None, str]:
        """The stage that a path asks for, and the path as its routes know it."""
        name, _, _ = path[1:].partition("/")
        if name and (published := self.published(record, name)) is not None:
            return published, path[len(name) + 1 :] or "/"
        return self.published(record, "$default"), path

    def _publish(self, record: Record[Api], name: str) -> Published | None:
        key = (record.scope, record.name, name)
        found = self._published.get(key)
        if found is None and (found := self._compile(record, name)) is not None:
            self._published[key] = found  # not what is missing: a request may name anything
        return found

    def _compile(self, record: Record[Api], name: str) -> Published | None:
        kinds = self._service.kinds
        stage = kinds["Stage"].get(record.scope, f"{record.name}/{name}")
        if stage is None:
            return None
        members = stage.value.members
        if members.get("AutoDeploy"):
            snapshot = self._service.snapshot(record.scope, record.name)
        else:
            deployment: Record[Deployment] | None = kinds["Deployment"].get(
                record.scope, f"{record.name}/{members.get('DeploymentId', '')}"
            )
            snapshot = deployment.value.snapshot if deployment is not None else {}
        return Published(
            members,
            Router([] if record.value.members["ProtocolType"] == "WEBSOCKET" else snapshot.get("Route", [])),
            {integration["IntegrationId"]: integration for integration in snapshot.get("Integration", [])},
            {authorizer["AuthorizerId"]: authorizer for authorizer in snapshot.get("Authorizer", [])},
            {route["RouteKey"]: route for route in snapshot.get("Route", [])},
            frozenset(response["RouteId"] for response in snapshot.get("RouteResponse", [])),
        )


def _variable(context: events.Context, response: Response, name: str) -> Any:
    """A $context variable of an access log's format."""
    request, body = context.request, response.body
    if name.startswith("authorizer."):
        rest = name.removeprefix("authorizer.")
        if rest.startswith("claims."):
            return ((context.jwt or {}).get("claims") or {}).get(rest.removeprefix("claims."))
        return (context.authorizer or {}).get(rest)
    return {
        "accountId": context.account,
        "apiId": context.api_id,
        "domainName": context.domain,
        "domainPrefix": context.domain.split(".")[0],
        "extendedRequestId": context.request_id,
        "httpMethod": request.method,
        "identity.sourceIp": request.client,
        "identity.userAgent": request.headers.get("user-agent"),
        "integrationStatus": response.status,
        "integration.status": response.status,
        "path": context.full_path,
        "protocol": "HTTP/1.1",
        "requestId": context.request_id,
        "requestTime": events.clf_time(context.now),
        "requestTimeEpoch": int(context.now * 1000),
        "responseLength": len(body) if isinstance(body, bytes) else None,
        "routeKey": context.match.route["RouteKey"],
        "stage": context.stage_name,
        "status": response.status,
    }.get(name)


def message(status: int, text: str) -> Response:
    """API Gateway's own answer."""
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode({"message": text}))
