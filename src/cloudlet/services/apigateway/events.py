"""What a function is told of a request to a REST API, and what its answer means.

https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
"""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from cloudlet.http import Request, Response
from cloudlet.services.api import Call
from cloudlet.services.apigateway.refusals import Refused
from cloudlet.services.fronts import events as http_events
from cloudlet.services.fronts.events import Match

_STAGE_VARIABLE = re.compile(r"\$\{stageVariables\.([A-Za-z0-9_]+)\}")


@dataclass(slots=True)
class Context:
    """A request on its way through an API."""

    request: Request
    body: bytes
    api_id: str
    account: str
    region: str
    stage: dict[str, Any]
    path: str  # still encoded, without the stage
    now: float
    resource: dict[str, Any] | None = None
    method: dict[str, Any] | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    authorizer: dict[str, Any] | None = None
    usage_key: str | None = None  # the API key that an authorizer has named
    api_key: str | None = None
    api_key_id: str | None = None
    canary: bool = False
    caller: Call | None = None  # who has signed
    trace: str = ""  # X-Ray's header for what is called
    cache_hit: bool | None = None  # None where the method has no cache
    integrated: float = 0.0  # seconds that the integration took
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    extended_id: str = field(default_factory=lambda: base64.b64encode(uuid.uuid4().bytes[:10]).decode())

    @property
    def method_arn(self) -> str:
        """What is called, as policies name it."""
        where = f"{self.region}:{self.account}:{self.api_id}/{self.stage['stageName']}"
        return f"arn:aws:execute-api:{where}/{self.request.method}{self.path}"

    @property
    def own_settings(self) -> str | None:
        """The name of the settings that the stage has for this very method."""
        path = (self.resource or {}).get("path", "/")
        known = self.stage.get("methodSettings") or {}
        for verb in (self.request.method, (self.method or {}).get("httpMethod", "")):
            if (name := method_name(path, verb)) in known:
                return name
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """The stage's settings for this method: its own, else those of all methods."""
        known: dict[str, Any] = self.stage.get("methodSettings") or {}
        return known.get(self.own_settings or "*/*") or {}

    def fill(self, text: str) -> str:
        """A URI with its stage variables filled in."""
        variables = self.stage.get("variables") or {}
        return _STAGE_VARIABLE.sub(lambda found: str(variables.get(found[1], "")), text)

    def value(self, source: str) -> str | None:
        """What ``method.request.header.X``, ``context.X``, ``stageVariables.X`` or a quoted text means here."""
        if source.startswith("'"):
            return source[1:-1]
        place, _, name = source.removeprefix("method.request.").partition(".")
        if place == "header":
            return self.request.headers.get(name.lower())
        if place in ("querystring", "multivaluequerystring"):
            return dict(self.request.params()).get(name)
        if place == "path":
            return self.parameters.get(name)
        if place == "stageVariables":
            return (self.stage.get("variables") or {}).get(name)
        if source.startswith("context."):
            if name.startswith("authorizer."):
                found = (self.authorizer or {}).get(name.removeprefix("authorizer."))
                return None if found is None else str(found)
            return {
                "requestId": self.request_id,
                "httpMethod": self.request.method,
                "stage": self.stage["stageName"],
                "identity.sourceIp": self.request.client,
                "apiId": self.api_id,
                "accountId": self.account,
                "resourcePath": (self.resource or {}).get("path"),
            }.get(name)
        return None


def method_name(path: str, verb: str) -> str:
    """The name of a method's settings among its stage's: ``orders/{id}/GET``, and ``GET`` of the root."""
    return f"{path}/{verb}".lstrip("/")


def proxy(context: Context, binary_types: list[str]) -> dict[str, Any]:
    """The event of a Lambda proxy integration."""
    request, stage = context.request, context.stage["stageName"]
    headers: dict[str, list[str]] = {}
    for raw_name, raw_value in request.raw_headers:
        headers.setdefault(raw_name.decode("latin-1").title(), []).append(raw_value.decode("latin-1"))
    headers |= {name.title(): [value] for name, value in http_events.forwarded(request).items()}
    parameters: dict[str, list[str]] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        parameters.setdefault(name, []).append(value)
    is_base64 = bool(context.body) and _is_binary(request.headers.get("content-type", ""), binary_types)
    resource = context.resource or {}
    domain = request.host
    body: str | None = None
    if context.body:
        body = base64.b64encode(context.body).decode() if is_base64 else context.body.decode("utf-8", "replace")
    return {
        "resource": resource["path"],
        "path": unquote(context.path),
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()} or None,
        "multiValueHeaders": headers or None,
        "queryStringParameters": {name: values[-1] for name, values in parameters.items()} or None,
        "multiValueQueryStringParameters": parameters or None,
        "pathParameters": context.parameters or None,
        "stageVariables": context.stage.get("variables") or None,
        "requestContext": {
            "resourceId": resource["id"],
            "resourcePath": resource["path"],
            "operationName": (context.method or {}).get("operationName"),
            "httpMethod": request.method,
            "extendedRequestId": context.extended_id,
            "requestTime": datetime.fromtimestamp(context.now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "path": f"/{stage}{unquote(context.path)}",
            "accountId": context.account,
            "protocol": "HTTP/1.1",
            "stage": stage,
            "deploymentId": context.stage.get("deploymentId"),
            "domainPrefix": domain.split(".")[0],
            "requestTimeEpoch": int(context.now * 1000),
            "requestId": context.request_id,
            "identity": _identity(context),
            "domainName": domain,
            "apiId": context.api_id,
            **({"authorizer": context.authorizer} if context.authorizer is not None else {}),
        },
        "body": body,
        "isBase64Encoded": is_base64,
    }


def _identity(context: Context) -> dict[str, Any]:
    """What a function is told of who calls."""
    agent = context.request.headers.get("user-agent", "")
    identity: dict[str, Any] = {**http_events.NOBODY, "sourceIp": context.request.client, "userAgent": agent}
    if context.api_key_id is not None:
        identity.update(apiKey=context.api_key, apiKeyId=context.api_key_id)
    if context.caller is not None:
        call = context.caller
        identity.update(
            accessKey=call.access_key,
            accountId=call.account,
            caller=call.access_key,
            user=call.access_key,
            userArn=call.principal,
        )
    return identity


def read_answer(payload: bytes) -> Response:
    """A function's result as an HTTP answer. Raises Refused with 502 for one that is not in the proxy's form."""
    try:
        result = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        raise Refused("INTEGRATION_FAILURE", status=502) from None
    allowed = {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"}
    if (
        not isinstance(result, dict)
        or not allowed.issuperset(result)
        or not isinstance(result.get("body", ""), str | None)
    ):
        raise Refused("INTEGRATION_FAILURE", status=502)
    cookies = []
    for name, values in list((result.get("multiValueHeaders") or {}).items()):
        if str(name).lower() == "set-cookie":
            cookies = [str(value) for value in values]
            result["multiValueHeaders"] = {n: v for n, v in result["multiValueHeaders"].items() if n != name}
    response = http_events.read_answer(msgspec.json.encode({"statusCode": 200, **result}), newer=False)
    if response.status == 500 and result.get("statusCode") != 500:
        raise Refused("INTEGRATION_FAILURE", status=502)
    response.cookies = cookies
    return response


def as_http(context: Context) -> http_events.Context:
    """The same request as the HTTP proxy knows it."""
    match = Match({"RouteKey": (context.resource or {}).get("path", "")}, context.parameters)
    return http_events.Context(
        context.request,
        context.body,
        context.api_id,
        context.account,
        context.region,
        {"StageName": context.stage["stageName"], "StageVariables": context.stage.get("variables") or {}},
        match,
        unquote(context.path),
        context.now,
    )


def _is_binary(kind: str, binary_types: list[str]) -> bool:
    kind = kind.split(";")[0].strip().lower()
    main = kind.partition("/")[0]
    return any(binary in ("*/*", kind, f"{main}/*") for binary in binary_types)
