"""Every operation of every service: what botocore sends is identified and read, what we answer is read by it."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import botocore
import pytest
from botocore.awsrequest import HeadersDict
from botocore.model import ServiceModel as BotocoreModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from cloudlet.http import Request
from cloudlet.wire import ServiceModel, Wire

SERVICES = [
    *("acm", "acm-pca", "apigateway", "apigatewaymanagementapi", "apigatewayv2", "application-autoscaling", "appmesh"),
    "cloudformation",
    *("cloudfront", "cloudwatch", "dynamodb", "dynamodbstreams", "ec2", "ecr", "ecs", "eks", "elbv2", "events"),
    *("firehose", "iam", "kinesis", "kms", "lambda", "logs", "mq", "rds", "rds-data", "route53", "s3", "scheduler"),
    *("secretsmanager", "servicediscovery", "sns", "sqs", "ssm", "stepfunctions", "sts", "xray"),
]
# No two operations can be told apart that botocore sends in the same way.
TWINS = {"GetBucketLifecycle", "GetBucketNotification", "PutBucketLifecycle", "PutBucketNotification"}
TWINS |= {"ListDirectoryBuckets"}
MOMENT = 1_700_000_000


def document(service: str) -> dict[str, Any]:
    """The model without its constraints, so that any value will do."""
    folder = Path(botocore.__file__).parent / "data" / service
    newest = max(entry for entry in folder.iterdir() if entry.is_dir())
    model: dict[str, Any] = json.loads(gzip.decompress((newest / "service-2.json.gz").read_bytes()))
    for shape in model["shapes"].values():
        if "required" in shape:
            # What is bound to a path, the query or headers tells operations apart.
            shape["required"] = [name for name in shape["required"] if "location" in shape["members"][name]]
        for constraint in ("min", "max", "pattern", "enum"):
            shape.pop(constraint, None)
    return model


def sample(shape: Any, depth: int) -> Any:
    """A value with every member of a shape, down to a depth."""
    kind = shape.type_name
    if kind == "structure":
        if shape.is_document_type:
            return {"any": ["thing", 1]}
        found: dict[str, Any] = {}
        for name in shape.members:
            member = shape.members[name]
            deep = member.type_name in ("structure", "list", "map")
            if (depth > 0 or not deep) and not member.serialization.get("eventstream"):
                value = sample(member, depth - 1)
                if value not in ({}, []) and not (found and shape.is_tagged_union):
                    found[name] = value
        return found
    if kind == "list":
        item = sample(shape.member, depth - 1)
        return [item] if item not in ({}, []) else []
    if kind == "map":
        item = sample(shape.value, depth - 1)
        return {"a-key": item} if item not in ({}, []) else {}
    return {
        "string": "text with <&> ü/",
        "integer": 7,
        "long": 2**40,
        "float": 1.5,
        "double": 2.5,
        "boolean": True,
        "blob": b"some bytes",
        "timestamp": MOMENT,
    }[kind]


def stamped(value: Any) -> Any:
    """Botocore's values in ours."""
    if isinstance(value, dict):
        return {key: stamped(item) for key, item in value.items() if key != "ResponseMetadata"}
    if isinstance(value, list):
        return [stamped(item) for item in value]
    if isinstance(value, datetime.datetime):
        return int(value.timestamp())
    return value


def ascii_headers(shape: Any, value: dict[str, Any]) -> None:
    """Headers carry only ASCII, and labels no text that is empty."""
    for name, member in shape.members.items():
        if member.serialization.get("location") in ("header", "headers", "statusCode") and name in value:
            if member.type_name == "string":
                value[name] = "plain"
            elif member.type_name == "list" and member.member.type_name == "string":
                value[name] = ["plain"]
            elif member.type_name == "map":
                value[name] = {"a-key": "plain"}
            elif member.serialization["location"] == "statusCode":
                value[name] = 200


def sent(protocol: str, operation: Any, params: dict[str, Any], scope: str) -> Request:
    made = create_serializer(protocol, include_validation=False).serialize_to_request(params, operation)
    address = urlsplit(made["url_path"])
    headers = {name.lower(): str(value) for name, value in made["headers"].items()}
    body = made["body"]
    if isinstance(body, dict):
        body = urlencode(body, doseq=True).encode()
    query = made["query_string"]
    pairs = urlencode(query, doseq=True, quote_via=quote) if isinstance(query, dict) else query
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/{scope}/aws4_request, SignedHeaders=host, Signature=0"
    )
    whole = "&".join(part for part in (address.query, pairs) if part)
    content = body.encode() if isinstance(body, str) else bytes(body or b"")
    return Request(made["method"], address.path, whole, headers, content)


async def settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: await settled(item) for key, item in value.items()}
    return b"".join([chunk async for chunk in value]) if hasattr(value, "__aiter__") else value


@pytest.mark.parametrize("service", SERVICES)
async def test_every_operation(service: str) -> None:
    wire = Wire(SERVICES)
    plain = document(service)
    theirs = BotocoreModel(plain, service)
    ours = ServiceModel(service, plain)
    for shape in ours.model.shapes.values():
        shape.enum = []  # those that our amendments bring
    metadata = plain["metadata"]
    scope = metadata.get("signingName") or metadata["endpointPrefix"]
    wrong = []
    for protocol in ours.protocols if service != "sqs" else ("json",):
        for name in theirs.operation_names:
            operation = theirs.operation_model(name)
            given = sample(operation.input_shape, 5) if operation.input_shape else {}
            if operation.input_shape:
                ascii_headers(operation.input_shape, given)
                if operation.has_event_stream_input:
                    continue
            request = sent(protocol, operation, given, scope)
            found = wire.identify(request)
            if found != service:
                wrong.append(f"{protocol} {name}: identified as {found}")
                continue
            meant = ours.operation(request)
            if meant.name != name:
                if name not in TWINS:
                    wrong.append(f"{protocol} {name}: understood as {meant.name} {request.path}?{request.query}")
                continue
            read = await settled(meant.decode(request))
            if read != given:
                wrong.append(f"{protocol} {name}: {given} was read as {read}")
            if operation.output_shape and not operation.has_event_stream_output:
                output = sample(operation.output_shape, 5)
                ascii_headers(operation.output_shape, output)
                response = meant.encode(output, "some-id")
                body = HeadersDict(response.headers)
                answer = {"status_code": response.status, "headers": body, "body": response.body, "context": {}}
                parsed = stamped(create_parser(protocol).parse(answer, operation.output_shape))
                if operation.has_streaming_output:
                    parsed.pop(operation.output_shape.serialization["payload"], None)
                    output.pop(operation.output_shape.serialization["payload"], None)
                if name != "GetBucketLocation" and parsed != output:
                    wrong.append(f"{protocol} {name}: {output} was answered as {parsed} by {response.body!r}")
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(text[:1500] for text in wrong[:6])
