"""OpenTelemetry's spans as X-Ray's segments: pure functions.

A span that serves, consumes or begins a trace is a segment, any other a subsegment that comes by itself. Attributes
become annotations where ``aws.xray.annotations`` names them, and metadata else, as in AWS's own exporter.
https://opentelemetry.io/docs/specs/semconv/
"""

from __future__ import annotations

import re
from typing import Any

from cloudlet.observe.traces import from_w3c
from cloudlet.services.xray.records import Document
from cloudlet.services.xray.segments import possible_name

Attributes = dict[str, Any]

_KINDS = {
    "SPAN_KIND_INTERNAL": 1,
    "SPAN_KIND_SERVER": 2,
    "SPAN_KIND_CLIENT": 3,
    "SPAN_KIND_PRODUCER": 4,
    "SPAN_KIND_CONSUMER": 5,
}
_SERVER, _CLIENT, _PRODUCER, _CONSUMER = 2, 3, 4, 5
_ERROR = (2, "STATUS_CODE_ERROR")
_NO_KEY = re.compile(r"\W", re.ASCII)
_ORIGINS = {
    "aws_ecs": "AWS::ECS::Container",
    "aws_ec2": "AWS::EC2::Instance",
    "aws_eks": "AWS::EKS::Container",
    "aws_lambda": "AWS::Lambda::Function",
    "aws_elastic_beanstalk": "AWS::ElasticBeanstalk::Environment",
}


def attributes_of(holder: Any) -> Attributes:
    """The attributes of a span, a resource or an event as a dictionary."""
    return {one["key"]: _value(one.get("value", {})) for one in (holder or {}).get("attributes", ())}


def _value(value: dict[str, Any]) -> Any:
    for kind, found in value.items():
        if kind == "intValue":
            return int(found)
        if kind == "arrayValue":
            return [_value(one) for one in found.get("values", ())]
        if kind == "kvlistValue":
            return {one["key"]: _value(one.get("value", {})) for one in found.get("values", ())}
        return found
    return None


def document_of(span: dict[str, Any], resource: Attributes, scope: str) -> Document:
    """A span as a segment document; ``scope`` is the library that made it. Raises KeyError and ValueError."""
    kind = _KINDS.get(span.get("kind", 0), span.get("kind", 0))
    attributes = attributes_of(span)
    parent = span.get("parentSpanId", "")
    is_segment = kind in (_SERVER, _CONSUMER) or not parent
    made: Document = {
        "id": span["spanId"].lower(),
        "trace_id": from_w3c(span["traceId"].lower()),
        "name": _name(span, attributes, resource, kind, is_segment),
        "start_time": int(span["startTimeUnixNano"]) / 1e9,
        "end_time": int(span.get("endTimeUnixNano") or span["startTimeUnixNano"]) / 1e9,
    }
    if parent:
        made["parent_id"] = parent.lower()
    if not is_segment:
        made["type"] = "subsegment"
        if kind in (_CLIENT, _PRODUCER):
            made["namespace"] = "aws" if attributes.get("rpc.system") == "aws-api" else "remote"
    elif (origin := _ORIGINS.get(resource.get("cloud.platform", ""))) is not None:
        made["origin"] = origin
    if user := attributes.pop("enduser.id", None):
        made["user"] = str(user)
    _tell_outcome(made, span, attributes)
    _tell_http(made, attributes, is_client=kind in (_CLIENT, _PRODUCER))
    _tell_aws(made, span, attributes, resource, scope)
    _tell_rest(made, attributes, resource)
    return made


def _name(span: dict[str, Any], attributes: Attributes, resource: Attributes, kind: int, is_segment: bool) -> str:
    name = span.get("name", "")
    if is_segment:
        name = resource.get("service.name") or name
    elif kind in (_CLIENT, _PRODUCER):
        told = ("peer.service", "rpc.service", "db.namespace", "db.name", "server.address", "net.peer.name")
        name = next((str(attributes[one]) for one in told if attributes.get(one)), name)
    return possible_name(str(name))


def _tell_outcome(made: Document, span: dict[str, Any], attributes: Attributes) -> None:
    """Fault, error or throttle, and the exceptions that were noted."""
    status = attributes.get("http.response.status_code", attributes.get("http.status_code", 0))
    failed = span.get("status", {}).get("code") in _ERROR
    if isinstance(status, int) and 400 <= status < 500:
        made["error"] = True
        if status == 429:
            made["throttle"] = True
    elif failed or (isinstance(status, int) and status >= 500):
        made["fault"] = True
    exceptions = []
    for number, event in enumerate(span.get("events", ())):
        if event.get("name") == "exception":
            told = attributes_of(event)
            one = {
                "id": f"{int(made['id'], 16) ^ number + 1:016x}",
                "type": str(told.get("exception.type", "")),
                "message": str(told.get("exception.message", "")),
            }
            exceptions.append(one)
    if not exceptions and failed and (message := span.get("status", {}).get("message")):
        exceptions.append({"id": f"{int(made['id'], 16) ^ 1:016x}", "type": "", "message": message})
    if exceptions:
        made["cause"] = {"exceptions": exceptions}


def _tell_http(made: Document, attributes: Attributes, is_client: bool) -> None:
    """The request and the answer, in the older and the newer names of OpenTelemetry."""

    def take(*names: str) -> Any:
        found = [attributes.pop(name, None) for name in names]
        return next((one for one in found if one is not None), None)

    url = take("url.full", "http.url")
    scheme, host = take("url.scheme", "http.scheme"), take("server.address", "http.host", "net.host.name")
    port = take("server.port", "net.host.port")
    path, query = take("url.path", "http.target"), take("url.query")
    if url is None and host is not None and path is not None:
        place = f"{host}:{port}" if port and ":" not in str(host) else host
        url = f"{scheme or 'http'}://{place}{path}{f'?{query}' if query else ''}"
    request = {
        "method": take("http.request.method", "http.method"),
        "url": url,
        "user_agent": take("user_agent.original", "http.user_agent"),
        "client_ip": None if is_client else take("client.address", "http.client_ip", "net.peer.ip"),
    }
    response = {
        "status": take("http.response.status_code", "http.status_code"),
        "content_length": take("http.response.body.size", "http.response_content_length"),
    }
    http = {"request": request, "response": response}
    shown = {side: {key: value for key, value in of.items() if value is not None} for side, of in http.items()}
    if shown := {side: of for side, of in shown.items() if of}:
        made["http"] = shown


def _tell_aws(made: Document, span: dict[str, Any], attributes: Attributes, resource: Attributes, scope: str) -> None:
    aws: Document = {}
    told = (
        ("operation", ("aws.operation", "rpc.method")),
        ("region", ("aws.region",)),
        ("request_id", ("aws.request_id", "aws.requestId")),
        ("queue_url", ("aws.queue.url", "aws.queue_url")),
        ("table_name", ("aws.table.name", "aws.table_name")),
    )
    for member, names in told:
        if made.get("namespace") == "aws" or names[0].startswith("aws."):
            for name in names:
                if name in attributes:
                    aws.setdefault(member, attributes.pop(name))
    language = resource.get("telemetry.sdk.language", "")
    aws["xray"] = {
        "sdk": f"opentelemetry for {language}" if language else "opentelemetry",
        "sdk_version": str(resource.get("telemetry.sdk.version", "")),
        "auto_instrumentation": bool(resource.get("telemetry.auto.version")),
    }
    if scope:
        aws["xray"]["package"] = scope
    if "aws.ecs.container.arn" in resource:
        aws["ecs"] = {"container_arn": resource["aws.ecs.container.arn"]}
    made["aws"] = aws
    if links := span.get("links"):
        made["links"] = [{"trace_id": from_w3c(one["traceId"].lower()), "id": one["spanId"].lower()} for one in links]


def _tell_rest(made: Document, attributes: Attributes, resource: Attributes) -> None:
    """All other attributes: annotations that can be searched, or metadata."""
    named = attributes.pop("aws.xray.annotations", None)
    wanted = set(named if isinstance(named, list) else [named])
    annotations: Document = {}
    metadata: Document = {}
    for key, value in attributes.items():
        is_annotation = key in wanted or key.startswith("annotation.")
        if is_annotation and isinstance(value, str | int | float | bool):
            annotations[_NO_KEY.sub("_", key.removeprefix("annotation."))] = value
        else:
            metadata[key] = value
    metadata |= {f"otel.resource.{key}": value for key, value in resource.items()}
    if annotations:
        made["annotations"] = annotations
    if metadata:
        made["metadata"] = {"default": metadata}
