"""What a function is told of a request, and what its answer means: payload formats 1.0 and 2.0.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from cloudlet.http import Request, Response

# A caller of whom only the address is known.
NOBODY: dict[str, Any] = dict.fromkeys(
    (
        *("accessKey", "accountId", "caller", "cognitoAuthenticationProvider", "cognitoAuthenticationType"),
        *("cognitoIdentityId", "cognitoIdentityPoolId", "principalOrgId", "user", "userArn"),
    )
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_TEXT = ("text/", "application/json", "application/xml", "application/javascript", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Match:
    """A route and what its path's variables are in a request."""

    route: dict[str, Any]
    parameters: dict[str, str]


@dataclass(slots=True)
class Context:
    """A request on its way through an API."""

    request: Request
    body: bytes
    api_id: str
    account: str
    region: str
    stage: dict[str, Any]
    match: Match
    path: str  # decoded, without the stage
    now: float
    authorizer: dict[str, Any] | None = None
    connecting: dict[str, Any] | None = None  # the event of a request that opens a WebSocket's connection
    iam: dict[str, Any] | None = None  # who has signed
    jwt: dict[str, Any] | None = None  # claims and scopes of a token
    integrated: float = 0.0  # seconds that the integration took
    request_id: str = field(default_factory=lambda: new_request_id())

    @property
    def stage_name(self) -> str:
        """The stage's name, ``$default`` for the one without a path."""
        name: str = self.stage["StageName"]
        return name

    @property
    def full_path(self) -> str:
        """The decoded path with the stage in front."""
        return self.path if self.stage_name == "$default" else f"/{self.stage_name}{self.path}"

    @property
    def domain(self) -> str:
        """The name that the client asked for."""
        return self.request.host or f"{self.api_id}.execute-api.{self.region}.amazonaws.com"


def version_2(context: Context) -> dict[str, Any]:
    """The event of payload format 2.0."""
    request = context.request
    headers = {name: value for name, value in request.headers.items() if name != "cookie"} | forwarded(request)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": context.match.route["RouteKey"],
        "rawPath": context.full_path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": context.account,
            "apiId": context.api_id,
            "domainName": context.domain,
            "domainPrefix": context.domain.split(".")[0],
            "http": {
                "method": request.method,
                "path": context.full_path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.client,
                "userAgent": request.headers.get("user-agent", ""),
            },
            "requestId": context.request_id,
            "routeKey": context.match.route["RouteKey"],
            "stage": context.stage_name,
            "time": clf_time(context.now),
            "timeEpoch": int(context.now * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookie := request.headers.get("cookie"):
        event["cookies"] = [part.strip() for part in cookie.split(";")]
    if request.query:
        joined: dict[str, str] = {}
        for name, value in parse_qsl(request.query, keep_blank_values=True):
            joined[name] = f"{joined[name]},{value}" if name in joined else value
        event["queryStringParameters"] = joined
    if context.match.parameters:
        event["pathParameters"] = context.match.parameters
    if variables := context.stage.get("StageVariables"):
        event["stageVariables"] = variables
    said = {"lambda": context.authorizer, "iam": context.iam, "jwt": context.jwt}
    if authorizer := {kind: what for kind, what in said.items() if what is not None}:
        event["requestContext"]["authorizer"] = authorizer
    if context.body:
        event["body"], event["isBase64Encoded"] = _body(request, context.body)
    return event


def forwarded(request: Request) -> dict[str, str]:
    """The headers that a gateway adds: from whom and how a request came, and its trace."""
    before = request.headers.get("x-forwarded-for")
    port = request.headers.get("host", "").rpartition(":")[2]
    return {
        "x-forwarded-for": f"{before}, {request.client}" if before else request.client,
        "x-forwarded-port": port if port.isdigit() else "80",
        "x-forwarded-proto": request.scheme,
        "x-amzn-trace-id": request.headers.get("x-amzn-trace-id") or f"Root=1-{_hex(8)}-{_hex(24)}",
    }


def _hex(length: int) -> str:
    return f"{random.getrandbits(4 * length):0{length}x}"


def version_1(context: Context) -> dict[str, Any]:
    """The event of payload format 1.0, which REST APIs use too."""
    request = context.request
    many_headers: dict[str, list[str]] = {}
    for raw_name, raw_value in request.raw_headers:
        many_headers.setdefault(raw_name.decode("latin-1"), []).append(raw_value.decode("latin-1"))
    many_headers |= {name: [value] for name, value in forwarded(request).items()}
    many_parameters: dict[str, list[str]] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        many_parameters.setdefault(name, []).append(value)
    body, is_base64 = _body(request, context.body) if context.body else (None, False)
    return {
        "version": "1.0",
        "resource": context.match.route["RouteKey"].partition(" ")[2] or "$default",
        "path": context.full_path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in many_headers.items()},
        "multiValueHeaders": many_headers,
        "queryStringParameters": {name: values[-1] for name, values in many_parameters.items()} or None,
        "multiValueQueryStringParameters": many_parameters or None,
        "requestContext": {
            "accountId": context.account,
            "apiId": context.api_id,
            "authorizer": context.authorizer if context.jwt is None else context.jwt,
            "domainName": context.domain,
            "domainPrefix": context.domain.split(".")[0],
            "extendedRequestId": context.request_id,
            "httpMethod": request.method,
            "identity": {
                **NOBODY,
                "sourceIp": request.client,
                "userAgent": request.headers.get("user-agent", ""),
                **({"userArn": context.iam["userArn"], "user": context.iam["userId"]} if context.iam else {}),
            },
            "path": context.full_path,
            "protocol": "HTTP/1.1",
            "requestId": context.request_id,
            "requestTime": clf_time(context.now),
            "requestTimeEpoch": int(context.now * 1000),
            "resourceId": context.match.route["RouteKey"],
            "resourcePath": context.match.route["RouteKey"].partition(" ")[2] or "$default",
            "stage": context.stage_name,
        },
        "pathParameters": context.match.parameters or None,
        "stageVariables": context.stage.get("StageVariables") or None,
        "body": body,
        "isBase64Encoded": is_base64,
    }


def read_answer(payload: bytes, newer: bool) -> Response:
    """A function's result as an HTTP answer; one that cannot be read is API Gateway's 500 (502 is for REST APIs)."""
    try:
        result = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return _broken()
    if newer and not (isinstance(result, dict) and "statusCode" in result):
        # Format 2.0 takes any other result as the body of a successful JSON answer.
        body = result.encode() if isinstance(result, str) else payload
        return Response(200, {"content-type": "application/json"}, body)
    if not isinstance(result, dict):
        return _broken()
    try:
        status = int(result["statusCode"])
        headers = {str(name).lower(): _header(value) for name, value in (result.get("headers") or {}).items()}
        for name, values in (result.get("multiValueHeaders") or {}).items():
            headers[str(name).lower()] = ",".join(_header(value) for value in values)
        text = result.get("body")
        if text is None:
            body = b""
        elif not isinstance(text, str):
            return _broken() if not newer else Response(status, headers, msgspec.json.encode(text))
        else:
            body = base64.b64decode(text) if result.get("isBase64Encoded") else text.encode("utf-8", "surrogatepass")
        if not 100 <= status <= 599:
            return _broken()
    except (KeyError, TypeError, ValueError, AttributeError):
        return _broken()
    headers.setdefault("content-type", "text/plain;charset=UTF-8" if newer else "application/json")
    headers.pop("content-length", None)
    response = Response(status, headers, body)
    if cookies := result.get("cookies"):
        response.cookies = [str(cookie) for cookie in cookies]
    return response


def new_request_id() -> str:
    """A request id as API Gateway makes them."""
    return "".join(random.choices(_LETTERS, k=15)) + "="


def unquoted(path: str) -> str:
    """A path as events carry it."""
    return unquote(path)


def _header(value: Any) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _body(request: Request, body: bytes) -> tuple[str, bool]:
    kind = request.headers.get("content-type", "")
    if not kind or kind.startswith(_TEXT) or "+json" in kind or "+xml" in kind:
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def clf_time(now: float) -> str:
    """A moment as web servers log it."""
    return datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")


def _broken() -> Response:
    return Response(500, {"content-type": "application/json"}, b'{"message":"Internal Server Error"}')
