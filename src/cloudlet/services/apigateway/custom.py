"""Integrations with mappings: AWS, HTTP and MOCK. The request is mapped, the backend asked, its response mapped."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from cloudlet.errors import AwsError
from cloudlet.http import Response
from cloudlet.observe import traces
from cloudlet.services.api import Cloud
from cloudlet.services.apigateway import aws
from cloudlet.services.apigateway.events import Context
from cloudlet.services.apigateway.mapping import Mapper
from cloudlet.services.apigateway.refusals import Refused
from cloudlet.services.apigateway.velocity import TemplateError
from cloudlet.services.fronts import functions


@dataclass(slots=True)
class Mapped:
    """A request as its integration is asked."""

    uri: str
    body: bytes
    kind: str  # of the body
    headers: dict[str, str] = field(default_factory=dict)
    query: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Answer:
    """What the backend said. ``outcome`` is what selection patterns are held against."""

    outcome: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


async def integrate(cloud: Cloud, context: Context, integration: dict[str, Any]) -> Response:
    """Answer by an integration with mappings. Raises Refused."""
    mapper = Mapper(context)
    try:
        request = _request(context, integration, mapper)
        kind = integration["type"]
        if kind == "MOCK":
            answer = _mock(request)
        elif kind == "HTTP":
            answer = await _http(context, integration, request)
        elif function := functions.function_of(request.uri):
            answer = await _invoke(cloud, context, function, request)
        else:
            answer = await _service(cloud, context, integration, request)
        return _response(integration, mapper, answer)
    except TemplateError:
        raise Refused("INTEGRATION_FAILURE") from None


def _request(context: Context, integration: dict[str, Any], mapper: Mapper) -> Mapped:
    kind = context.request.headers.get("content-type", "application/json").split(";")[0].strip()
    body, template = context.body, _template(integration, kind)
    if integration.get("contentHandling") == "CONVERT_TO_TEXT" and body and not _is_text(body):
        body = base64.b64encode(body)
    elif integration.get("contentHandling") == "CONVERT_TO_BINARY" and body:
        body = base64.b64decode(body)
    if template is not None:
        body = mapper.template(template, body).encode("utf-8", "surrogatepass")
    mapped = Mapped(context.fill(integration.get("uri") or ""), body, kind)
    places = {"header": mapped.headers, "querystring": {}, "path": {}}
    for target, source in (integration.get("requestParameters") or {}).items():
        place, _, name = target.removeprefix("integration.request.").partition(".")
        value = mapper.value(source)
        if value is not None and place in places:
            places[place][name] = value
    for place, values in places.items():
        values |= mapper.override("requestOverride", place)
    for name, value in places["path"].items():
        mapped.uri = mapped.uri.replace("{" + name + "}", quote(value)).replace("{" + name + "+}", quote(value))
    mapped.query = list(places["querystring"].items())
    return mapped


def _template(integration: dict[str, Any], kind: str) -> str | None:
    """The template for a content type, or None where the body passes through. Raises Refused."""
    templates = integration.get("requestTemplates") or {}
    if kind in templates or "$default" in templates:
        return templates.get(kind) or templates.get("$default") or None
    behaviour = integration.get("passthroughBehavior", "WHEN_NO_MATCH")
    if behaviour == "NEVER" or (behaviour == "WHEN_NO_TEMPLATES" and templates):
        raise Refused("UNSUPPORTED_MEDIA_TYPE")
    return None


def _mock(request: Mapped) -> Answer:
    """The template's own statusCode selects the response."""
    try:
        document = json.loads(request.body or b"{}", strict=False)
        return Answer(str(document["statusCode"]), b"")
    except (ValueError, KeyError, TypeError):
        # API Gateway reads this JSON leniently: names without quotes do too.
        found = re.search(rb"statusCode[\"']?\s*:\s*[\"']?(\d{3})", request.body)
        if found is None:
            raise Refused("API_CONFIGURATION_ERROR") from None
        return Answer(found[1].decode(), b"")


async def _invoke(cloud: Cloud, context: Context, function: str, request: Mapped) -> Answer:
    headers = {name.lower(): value for name, value in request.headers.items()}
    kind = "Event" if headers.get("x-amz-invocation-type") == "Event" else ""
    where = context.account, context.region
    try:
        with traces.within(context.trace):
            payload, failed = await functions.invoke(cloud, *where, function, request.body or b"{}", kind)
    except AwsError as error:
        raise Refused("INTEGRATION_FAILURE") from error
    if not failed:
        return Answer("", payload, {"x-amzn-requestid": context.request_id})
    try:
        document = msgspec.json.decode(payload)
        outcome = str(document.get("errorMessage", "")) if isinstance(document, dict) else ""
    except msgspec.DecodeError:
        outcome = payload.decode(errors="replace")
    return Answer(outcome or "Unhandled", payload)


async def _http(context: Context, integration: dict[str, Any], request: Mapped) -> Answer:
    headers = {"content-type": request.kind, **{name.lower(): value for name, value in request.headers.items()}}
    url = _with_query(request.uri, request.query)
    return await _ask(integration["httpMethod"], url, headers, request.body, integration)


async def _service(cloud: Cloud, context: Context, integration: dict[str, Any], request: Mapped) -> Answer:
    """Another AWS service, by its own protocol, with the keys of the integration's role."""
    call = await aws.prepare(cloud, context, integration, request.uri, request.query, request.headers, request.body)
    return await _ask(call.method, call.url, call.headers, call.body, integration)


async def _ask(method: str, url: str, headers: dict[str, str], body: bytes, integration: dict[str, Any]) -> Answer:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=integration.get("timeoutInMillis", 29000) / 1000)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url, headers=headers, data=body or None, allow_redirects=False) as answer,
        ):
            said = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(str(answer.status), await answer.read(), said)
    except TimeoutError:
        raise Refused("INTEGRATION_TIMEOUT") from None
    except (aiohttp.ClientError, ValueError):
        raise Refused("INTEGRATION_FAILURE") from None


def _response(integration: dict[str, Any], mapper: Mapper, answer: Answer) -> Response:
    responses = list((integration.get("integrationResponses") or {}).values())
    chosen = next((one for one in responses if _selects(one, answer.outcome)), None) or next(
        (one for one in responses if not one.get("selectionPattern")), None
    )
    if chosen is None:
        raise Refused("API_CONFIGURATION_ERROR")
    headers = {}
    for target, source in (chosen.get("responseParameters") or {}).items():
        value = mapper.value(source, answer.headers, answer.body)
        if value is not None:
            headers[target.removeprefix("method.response.header.").lower()] = value
    templates = chosen.get("responseTemplates") or {}
    came_as = answer.headers.get("content-type", "application/json").split(";")[0]
    kind = came_as if came_as in templates else next(iter(templates), "")
    body = answer.body
    if template := templates.get(kind):
        body = mapper.template(template, body).encode("utf-8", "surrogatepass")
    if chosen.get("contentHandling") == "CONVERT_TO_BINARY":
        body = base64.b64decode(body)
    elif chosen.get("contentHandling") == "CONVERT_TO_TEXT" and not _is_text(body):
        body = base64.b64encode(body)
    headers.setdefault("content-type", kind or "application/json")
    headers |= {name.lower(): value for name, value in mapper.override("responseOverride", "header").items()}
    status = (mapper.context.get("responseOverride") or {}).get("status") or chosen["statusCode"]
    return Response(int(status), headers, body)


def _selects(response: dict[str, Any], outcome: str) -> bool:
    pattern: str = response.get("selectionPattern") or ""
    return pattern != "" and re.fullmatch(pattern, outcome) is not None


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _with_query(url: str, query: list[tuple[str, str]]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}" if query else url
