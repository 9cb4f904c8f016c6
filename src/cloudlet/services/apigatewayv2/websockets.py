"""WebSocket APIs: connections, the routes of their messages, and what backends send to them.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api.html
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.services.apigatewayv2 import access
from cloudlet.services.apigatewayv2.records import Api
from cloudlet.services.fronts import events, functions, integrations, signed
from cloudlet.services.fronts.events import Match
from cloudlet.store import Record

if TYPE_CHECKING:
    from cloudlet.services.apigatewayv2.data_plane import DataPlane, Published

_SELECTION = re.compile(r"\$\{?request\.body\.([A-Za-z0-9_.\-\[\]]+)\}?")
_IDLE = 600.0  # seconds without a message after which a connection ends
_LONGEST = 7200.0  # seconds that a connection may last
_LARGEST = 128 * 1024  # bytes of a message


@dataclass(slots=True)
class Connection:
    """An open connection of a client."""

    id: str
    record: Record[Api]
    stage: str
    context: events.Context  # of the request that has opened it
    domain: str
    connected: float
    active: float
    socket: Any = None
    authorizer: dict[str, Any] | None = None
    extended_id: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(10)).decode())


class WebSockets:
    """The open connections of all WebSocket APIs."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._cloud = plane.cloud
        self._open: dict[str, Connection] = {}

    async def answer(self, request: Request, record: Record[Api]) -> Response:
        """A request to a WebSocket API: a new connection, or what a backend asks of one."""
        parts = request.path.split("/", 3)
        if parts[2:3] == ["@connections"]:
            return await self._manage(request, record, parts[1], parts[3] if len(parts) > 3 else "")
        published = self._plane.published(record, parts[1])
        if published is None or record.value.members.get("DisableExecuteApiEndpoint"):
            return _message(403, "Forbidden")
        if request.headers.get("upgrade", "").lower() != "websocket":
            return Response(426, {"upgrade": "websocket"})
        return await self._connect(request, record, published)

    async def _connect(self, request: Request, record: Record[Api], published: Published) -> Response:
        account, region = record.scope.split("/", 1)
        now, stage = self._cloud.clock.now(), published.stage["StageName"]
        route = published.by_key.get("$connect") or {"RouteKey": "$connect"}
        context = events.Context(
            request, b"", record.name, account, region, published.stage, Match(route, {}), request.path, now
        )
        if self._plane.is_too_fast(record.name, published.stage, route["RouteKey"]):
            return _message(429, "Too Many Requests")
        id = base64.urlsafe_b64encode(secrets.token_bytes(11)).decode()
        connection = Connection(id, record, stage, context, self._domain(request, record.name), now, now)
        context.connecting = self._event(connection, "$connect", None, None)
        said, refusal = await self._plane.authorize(context, published)
        if refusal is not None:
            return refusal
        connection.authorizer = said
        if "Target" in route:
            answer = await self._run(connection, published, route, None)
            if answer.status >= 300:
                return answer if answer.status >= 400 else _message(500, "Internal server error")
        response = Response(101, _chosen_protocol(request))
        response.upgrade = lambda socket: self._serve(connection, socket)
        return response

    async def _serve(self, connection: Connection, socket: Any) -> None:
        """Take a connection's messages, one after the other, until it is over."""
        clock = self._cloud.clock
        connection.socket = socket
        self._open[connection.id] = connection

        def look() -> None:
            now = clock.now()
            if now - connection.active >= _IDLE or now - connection.connected >= _LONGEST:
                socket.close(1001, "Going away")
            else:
                timers[0] = clock.call_at(min(connection.active + _IDLE, connection.connected + _LONGEST), look)

        timers = [clock.call_later(_IDLE, look)]
        try:
            while (message := await socket.receive()) is not None:
                connection.active = clock.now()
                await self._message(connection, message)
        finally:
            timers[0].cancel()
            self._open.pop(connection.id, None)
            self._cloud.spawn(self._disconnected(connection, socket), "a connection's end")

    async def _message(self, connection: Connection, message: str | bytes) -> None:
        published = self._plane.published(connection.record, connection.stage)
        text = message if isinstance(message, str) else message.decode("utf-8", "replace")
        route = self._route_of(connection, published, text) if published is not None else None
        if published is None or route is None:
            self._sorry(connection, "Forbidden")
            return
        if self._plane.is_too_fast(connection.record.name, published.stage, route["RouteKey"]):
            self._sorry(connection, "Too Many Requests")
            return
        answer = await self._run(connection, published, route, message)
        if answer.status >= 500:
            self._sorry(connection, "Internal server error")
        elif route.get("RouteResponseSelectionExpression") or published.answers(route):
            body = answer.body
            connection.socket.send(body.decode("utf-8", "replace") if isinstance(body, bytes) else "")

    async def _disconnected(self, connection: Connection, socket: Any) -> None:
        published = self._plane.published(connection.record, connection.stage)
        route = published.by_key.get("$disconnect") if published is not None else None
        if published is not None and route is not None:
            end = {"disconnectStatusCode": socket.close_code, "disconnectReason": socket.close_reason}
            await self._run(connection, published, route, None, end)

    def _route_of(self, connection: Connection, published: Published, text: str) -> dict[str, Any] | None:
        expression = connection.record.value.members.get("RouteSelectionExpression", "")
        try:
            document = msgspec.json.decode(text)
        except msgspec.DecodeError:
            document = None

        def look(found: re.Match[str]) -> str:
            value: Any = document
            for part in found[1].split("."):
                value = value.get(part) if isinstance(value, dict) else None
            return value if isinstance(value, str) else ""

        key = _SELECTION.sub(look, expression)
        named = None if key in ("$connect", "$disconnect") else published.by_key.get(key)
        return named or published.by_key.get("$default")

    # Backends

    async def _run(
        self,
        connection: Connection,
        published: Published,
        route: dict[str, Any],
        message: str | bytes | None,
        end: dict[str, Any] | None = None,
    ) -> Response:
        """Ask a route's integration; every failure is an answer with a status of 500."""
        integration = published.integrations.get(route.get("Target", "").removeprefix("integrations/"))
        if integration is None:
            return _message(500, "Internal server error")
        kind = integration["IntegrationType"]
        if kind == "MOCK":
            return Response(200)
        event = self._event(connection, route["RouteKey"], message, end)
        body = message.encode() if isinstance(message, str) else message or b""
        try:
            if kind == "HTTP_PROXY":
                context = connection.context
                asked = events.Context(
                    Request("POST", "/", headers={"content-type": "application/json"}, body=body),
                    *(body, context.api_id, context.account, context.region, context.stage),
                    Match(route, {}),
                    *("/", self._cloud.clock.now()),
                )
                return await integrations.forward(asked, {"IntegrationMethod": "POST", **integration})
            function = functions.function_of(integration["IntegrationUri"])
            where = connection.context.account, connection.context.region
            payload, failed = await functions.invoke(self._cloud, *where, function, event)
        except AwsError:
            return _message(500, "Internal server error")
        if failed:
            return _message(500, "Internal server error")
        try:
            said = msgspec.json.decode(payload)
        except msgspec.DecodeError:
            return _message(500, "Internal server error")
        if not (isinstance(said, dict) and "statusCode" in said):
            # A connection is only let in by a status; the answer to a message may be anything.
            return _message(500, "Internal server error") if message is None and end is None else Response(200)
        return events.read_answer(payload, newer=False)

    def _event(
        self, connection: Connection, key: str, message: str | bytes | None, end: dict[str, Any] | None
    ) -> dict[str, Any]:
        """What a function is told. Only the connection's own request has headers and a query."""
        context, now = connection.context, self._cloud.clock.now()
        request = context.request
        kind = "DISCONNECT" if end is not None else "CONNECT" if message is None else "MESSAGE"
        told: dict[str, Any] = {
            "routeKey": key,
            "eventType": kind,
            "extendedRequestId": connection.extended_id,
            "requestTime": events.clf_time(now),
            "messageDirection": "IN",
            "stage": connection.stage,
            "connectedAt": int(connection.connected * 1000),
            "requestTimeEpoch": int(now * 1000),
            "identity": {"userAgent": request.headers.get("user-agent"), "sourceIp": request.client},
            "requestId": events.new_request_id(),
            "domainName": connection.domain,
            "connectionId": connection.id,
            "apiId": context.api_id,
            **(end or {}),
        }
        if connection.authorizer is not None:
            told["authorizer"] = connection.authorizer
        event: dict[str, Any] = {"requestContext": told, "isBase64Encoded": False}
        if kind == "MESSAGE":
            told["messageId"] = events.new_request_id()
            event["isBase64Encoded"] = isinstance(message, bytes)
            event["body"] = message if isinstance(message, str) else base64.b64encode(message or b"").decode()
            return event
        many: dict[str, list[str]] = {}
        for raw_name, raw_value in request.raw_headers:
            many.setdefault(raw_name.decode("latin-1").title(), []).append(raw_value.decode("latin-1"))
        event |= {"headers": {name: values[-1] for name, values in many.items()}, "multiValueHeaders": many}
        parameters: dict[str, list[str]] = {}
        for name, value in parse_qsl(request.query, keep_blank_values=True) if kind == "CONNECT" else ():
            parameters.setdefault(name, []).append(value)
        if parameters:
            event["queryStringParameters"] = {name: values[-1] for name, values in parameters.items()}
            event["multiValueQueryStringParameters"] = parameters
        if variables := context.stage.get("StageVariables"):
            event["stageVariables"] = variables
        return event

    def _sorry(self, connection: Connection, words: str) -> None:
        told = {"message": words, "connectionId": connection.id, "requestId": events.new_request_id()}
        connection.socket.send(msgspec.json.encode(told).decode())

    def _domain(self, request: Request, api_id: str) -> str:
        """The name under which the management API answers: ``http://<domainName>/<stage>`` is its endpoint."""
        host = request.headers.get("host", "")
        return host if request.host.startswith(f"{api_id}.") else f"{host}/_cloudlet/execute-api/{api_id}"

    # The management API

    def connection(self, id: str) -> Connection:
        """An open connection. Raises GoneException."""
        found = self._open.get(id)
        if found is None:
            raise AwsError("GoneException", "", status=410)
        return found

    def post(self, id: str, data: bytes) -> None:
        """Send data to a client. Raises GoneException and PayloadTooLargeException."""
        connection = self.connection(id)
        if len(data) > _LARGEST:
            raise AwsError("PayloadTooLargeException", "Message too long", status=413)
        try:
            message: str | bytes = data.decode()
        except UnicodeDecodeError:
            message = data
        if not connection.socket.send(message):
            raise AwsError("GoneException", "", status=410)
        connection.active = self._cloud.clock.now()

    def describe(self, id: str) -> dict[str, Any]:
        """When a connection was made and used, and who has made it. Raises GoneException."""
        found = self.connection(id)
        request = found.context.request
        identity = {"SourceIp": request.client, "UserAgent": request.headers.get("user-agent", "")}
        return {"ConnectedAt": found.connected, "LastActiveAt": found.active, "Identity": identity}

    def end(self, id: str) -> None:
        """Close a connection. Raises GoneException."""
        self.connection(id).socket.close(1000, "Connection closed by backend")

    async def _manage(self, request: Request, record: Record[Api], stage: str, id: str) -> Response:
        from urllib.parse import unquote

        id = unquote(id)
        where = record.scope.split("/")
        resource = f"arn:aws:execute-api:{where[1]}:{where[0]}:{record.name}/{stage}/{request.method}/@connections/{id}"
        try:
            await signed.caller(self._cloud, request, "execute-api", "ManageConnections", {"ResourceArn": resource})
            if self.connection(id).record.name != record.name:
                raise AwsError("GoneException", "", status=410)
            if request.method == "POST":
                self.post(id, await request.read(2 * _LARGEST))
                return Response(200)
            if request.method == "GET":
                found = self.describe(id)
                shown = {
                    "connectedAt": access.iso_time(found["ConnectedAt"]),
                    "lastActiveAt": access.iso_time(found["LastActiveAt"]),
                    "identity": {
                        "sourceIp": found["Identity"]["SourceIp"],
                        "userAgent": found["Identity"]["UserAgent"],
                    },
                }
                return Response(200, {"content-type": "application/json"}, msgspec.json.encode(shown))
            if request.method == "DELETE":
                self.end(id)
                return Response(204)
        except AwsError as error:
            response = _message(error.status or 400, error.message or error.code)
            response.headers["x-amzn-errortype"] = error.code
            return response
        return _message(403, "Missing Authentication Token")


def _chosen_protocol(request: Request) -> dict[str, str]:
    """The first subprotocol that a client offers is taken, as API Gateway's clients expect where they offer one."""
    offered = request.headers.get("sec-websocket-protocol", "").split(",")[0].strip()
    return {"sec-websocket-protocol": offered} if offered else {}


def _message(status: int, text: str) -> Response:
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode({"message": text}))
