"""Where a route leads besides functions: other HTTP servers, and AWS services directly."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Response
from cloudlet.services.api import Cloud
from cloudlet.services.fronts.events import Context
from cloudlet.services.fronts.functions import SELF

# Headers of one connection, which a proxy does not pass on (RFC 9110, 7.6.1).
_OF_THE_CONNECTION = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
    )
)
_RESPONSE_HEADER = re.compile(r"\$response\.header\.(.+)")
_VARIABLE = re.compile(r"\$\{?(request|context|stageVariables)\.([A-Za-z0-9_.$\[\]\-]+)\}?")


async def forward(context: Context, integration: dict[str, Any]) -> Response:
    """Pass the request on to another HTTP server and its answer back."""
    import aiohttp

    request = context.request
    uri: str = integration["IntegrationUri"]
    for name, value in context.match.parameters.items():
        uri = uri.replace("{" + name + "}", value).replace("{" + name + "+}", value)
    headers = {name: value for name, value in request.headers.items() if name not in _OF_THE_CONNECTION}
    headers["via"] = "HTTP/1.1 AmazonAPIGateway"
    query = request.query
    for key, value in (integration.get("RequestParameters") or {}).items():
        action, _, target = key.partition(":")
        text = _fill(context, value)
        if target.startswith("header."):
            name = target.removeprefix("header.").lower()
            headers[name] = f"{headers[name]},{text}" if action == "append" and name in headers else text
            if action == "remove":
                headers.pop(name, None)
        elif target == "path" and action == "overwrite":
            uri = re.sub(r"^(https?://[^/?]+).*", lambda found, text=text: found[1] + text, uri)  # type: ignore[misc]
        elif target.startswith("querystring."):
            query = f"{query}&{target.removeprefix('querystring.')}={text}".lstrip("&")
    method = integration.get("IntegrationMethod", "ANY")
    timeout = aiohttp.ClientTimeout(total=integration.get("TimeoutInMillis", 30000) / 1000)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.request(
                request.method if method == "ANY" else method,
                f"{uri}{'&' if '?' in uri else '?'}{query}" if query else uri,
                headers=headers,
                data=context.body or None,
                allow_redirects=False,
                server_hostname=(integration.get("TlsConfig") or {}).get("ServerNameToVerify"),
            ) as answer,
        ):
            kept = {name.lower(): value for name, value in answer.headers.items()}
            passed = {name: value for name, value in kept.items() if name not in _OF_THE_CONNECTION}
            return Response(answer.status, passed, await answer.read())
    except TimeoutError:
        return Response(504, {"content-type": "application/json"}, b'{"message":"Gateway Timeout"}')
    except (aiohttp.ClientError, OSError, ValueError):
        return Response(503, {"content-type": "application/json"}, b'{"message":"Service Unavailable"}')


# Subtype -> service, operation, and those parameters that hold JSON or a list of it.
_SERVICES = {
    "SQS-SendMessage": ("sqs", "SendMessage", {"MessageAttributes"}),
    "EventBridge-PutEvents": ("events", "PutEvents", set()),
    "StepFunctions-StartExecution": ("stepfunctions", "StartExecution", set()),
    "Kinesis-PutRecord": ("kinesis", "PutRecord", set()),
}


def mapped(context: Context, integration: dict[str, Any], response: Response) -> Response:
    """The integration's answer with its headers and status as the API's response parameters say for that status."""
    parameters = (integration.get("ResponseParameters") or {}).get(str(response.status)) or {}
    if isinstance(parameters.get("ResponseParameters"), list):
        # As templates have them: a list of destinations and sources.
        parameters = {one["Destination"]: one["Source"] for one in parameters["ResponseParameters"]}
    for key, value in parameters.items():
        action, _, target = key.partition(":")
        if action == "overwrite" and target == "statuscode":
            response.status = int(_fill(context, value))
            continue
        name = target.removeprefix("header.").lower()
        found = _RESPONSE_HEADER.fullmatch(value)
        text = response.headers.get(found[1].lower(), "") if found else _fill(context, value)
        if action == "remove":
            response.headers.pop(name, None)
        elif action == "append" and name in response.headers:
            response.headers[name] += f",{text}"
        else:
            response.headers[name] = text
    return response


async def call_service(cloud: Cloud, context: Context, integration: dict[str, Any]) -> Response:
    """Call an AWS service's operation with what the integration takes from the request."""
    service, operation, documents = _SERVICES[integration["IntegrationSubtype"]]
    given = {name: _fill(context, value) for name, value in (integration.get("RequestParameters") or {}).items()}
    input: dict[str, Any] = {
        name: msgspec.json.decode(value) if name in documents else value
        for name, value in given.items()
        if name != "Region"
    }
    if operation == "PutEvents":
        entry: dict[str, Any] = {name: value for name, value in input.items() if name not in ("Resources", "Time")}
        if "Resources" in input:
            entry["Resources"] = msgspec.json.decode(input["Resources"])
        input = {"Entries": [entry]}
    elif "DelaySeconds" in input:
        input["DelaySeconds"] = int(input["DelaySeconds"])
    try:
        output = await cloud.call(
            service,
            operation,
            input,
            account=context.account,
            region=given.get("Region", context.region),
            principal=SELF,
        )
    except AwsError as error:
        text = {"message": error.message or error.code}
        return Response(error.status or 400, {"content-type": "application/json"}, msgspec.json.encode(text))
    return Response(200, {"content-type": "application/json"}, msgspec.json.encode(output))


def _fill(context: Context, template: str) -> str:
    """A parameter's value: ``$request.body.x``, ``${request.path.id}``, ``$context.…`` and text around them."""
    whole_body = template.strip()
    if whole_body == "$request.body":
        return context.body.decode(errors="replace")
    return _VARIABLE.sub(lambda found: _value(context, found[1], found[2]), template)


def _value(context: Context, source: str, name: str) -> str:
    if source == "stageVariables":
        return str((context.stage.get("StageVariables") or {}).get(name, ""))
    if source == "context":
        known = {
            "requestId": context.request_id,
            "httpMethod": context.request.method,
            "path": context.full_path,
            "stage": context.stage_name,
            "identity.sourceIp": context.request.client,
            "apiId": context.api_id,
            "accountId": context.account,
        }
        if name.startswith("authorizer."):
            return str((context.authorizer or {}).get(name.removeprefix("authorizer."), ""))
        return known.get(name, "")
    place, _, key = name.partition(".")
    if place == "header":
        return context.request.headers.get(key.lower(), "")
    if place == "querystring":
        return dict(context.request.params()).get(key, "")
    if place == "path":
        return context.match.parameters.get(key, context.path if not key else "")
    if place == "body":
        try:
            found: Any = msgspec.json.decode(context.body)
            for part in key.split(".") if key else []:
                found = found[part]
        except (msgspec.DecodeError, KeyError, TypeError):
            return ""
        return found if isinstance(found, str) else msgspec.json.encode(found).decode()
    return ""
