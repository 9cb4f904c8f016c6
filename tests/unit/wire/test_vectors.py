"""AWS's protocol vectors, read backwards: what their clients send is decoded, what their clients read is encoded."""

from __future__ import annotations

import base64
import datetime
import gzip
import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.wire import ServiceModel

VECTORS = Path(__file__).parents[4] / "shared" / "vectors" / "aws-protocols"

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"the vectors are not at {VECTORS}")

# Cases that are left out, each with its reason.
_BOTOCORE = "botocore's parser can't read this, whoever writes it (its own tests ignore the case)"
LEFT_OUT: dict[str, str] = {
    "MediaTypeHeaderOutputBase64": _BOTOCORE,
    "RestJsonHttpWithEmptyStructurePayload": "the client sends {} for a payload that is not set",
    "RestJsonHttpWithHeadersButNoPayload": "the client sends {} for a payload that is not set",
    "RestJsonInputAndOutputWithQuotedStringHeaders/output": _BOTOCORE,
    "RestJsonInputAndOutputWithTimestampHeaders/output": _BOTOCORE,
    "InputAndOutputWithTimestampHeaders/output": _BOTOCORE,
    "RestJsonHttpPayloadWithUnsetUnion/output": _BOTOCORE,
    "RestXmlHttpPayloadWithUnsetUnion/output": _BOTOCORE,
    "BodyWithXmlName/output": _BOTOCORE,
    "XmlLists/output": _BOTOCORE,
    "Ec2XmlLists/output": _BOTOCORE,
    "QueryXmlLists/output": _BOTOCORE,
}


def cases(direction: str) -> list[Any]:
    """Every case of every suite, once for each protocol file."""
    found = []
    for file in sorted((VECTORS / direction).glob("*.json")) if VECTORS.is_dir() else ():
        for number, suite in enumerate(json.loads(file.read_text())):
            for case in suite["cases"]:
                found.append(pytest.param(suite, case, id=f"{file.stem}-{number}-{case['id']}"))
    return found


def left_out(case: dict[str, Any], direction: str) -> None:
    for name in (case["id"], f"{case['id']}/{direction}"):
        if name in LEFT_OUT:
            pytest.skip(LEFT_OUT[name])


def service_of(suite: dict[str, Any], case: dict[str, Any]) -> ServiceModel:
    """A service whose model is the suite's and whose only operation is the case's."""
    name = case["given"]["name"]
    return ServiceModel(
        "vectors",
        {"metadata": suite["metadata"], "operations": {name: case["given"]}, "shapes": suite.get("shapes", {})},
    )


def request_of(suite: dict[str, Any], case: dict[str, Any], protocol: str) -> Request:
    sent = case["serialized"]
    body = sent.get("body", "")
    content = base64.b64decode(body) if protocol == "smithy-rpc-v2-cbor" and body else body.encode()
    address = urlsplit(sent.get("uri", "/"))
    headers = {name.lower(): value for name, value in sent.get("headers", {}).items()}
    headers.setdefault("host", sent.get("host", "example.com"))
    if protocol == "json":
        headers.setdefault("x-amz-target", f"Prefix.{case['given']['name']}")
    if "body" not in sent and case["params"] and "gzip" in headers.get("content-encoding", ""):
        content = gzip.compress(serialized(suite, case, protocol))
    path = (address.path or "/").removeprefix("/" + headers["host"].partition("/")[2])
    return Request(
        sent.get("method", "POST"), path if path.startswith("/") else f"/{path}", address.query, headers, content
    )


def serialized(suite: dict[str, Any], case: dict[str, Any], protocol: str) -> bytes:
    """The body that botocore sends, where the vector keeps it for itself."""
    from botocore.serialize import create_serializer

    operation = botocore_operation(suite, case)
    body = create_serializer(protocol).serialize_to_request(case["params"], operation)["body"]
    return urlencode(body).encode() if isinstance(body, dict) else body


def plain(model: ServiceModel, shape_name: str, value: Any, ref: Any = None) -> Any:
    """A vector's value as services see it: blobs are bytes, special floats are floats, absent members are not there."""
    shape = model.model.shapes[shape_name]
    if value is None or shape.document or (ref is not None and ref.jsonvalue):
        return value
    match shape.type:
        case "structure":
            return {
                name: plain(model, shape.members[name].shape, item, shape.members[name])
                for name, item in value.items()
                if item is not None
            }
        case "list":
            return [plain(model, shape.member.shape, item) for item in value]
        case "map":
            return {key: plain(model, shape.value.shape, item) for key, item in value.items()}
        case "blob":
            return value.encode() if isinstance(value, str) else value
        case "float" | "double":
            return float(value)
    return value


async def settled(value: Any) -> Any:
    """A decoded input with its stream read to the end."""
    if isinstance(value, dict):
        return {name: await settled(item) for name, item in value.items()}
    if hasattr(value, "__aiter__"):
        return b"".join([chunk async for chunk in value])
    return value


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, int | float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, str) and isinstance(other, float):
        return same(float(one), other)
    if isinstance(one, str) and isinstance(other, bytes):
        return one.encode() == other
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    return bool(one == other)


@pytest.mark.parametrize(("suite", "case"), cases("input"))
async def test_decode(suite: dict[str, Any], case: dict[str, Any]) -> None:
    """What AWS's clients send for some parameters is read as those parameters."""
    left_out(case, "input")
    model = service_of(suite, case)
    request = request_of(suite, case, model.protocol)
    operation = model.operation(request)
    assert operation.name == case["given"]["name"]
    decoded = await settled(operation.decode(request))
    shape = case["given"].get("input", {}).get("shape")
    expected = plain(model, shape, case["params"]) if shape else {}
    members = model.model.shapes[shape].members if shape else {}
    for name, ref in members.items():
        if ref.idempotency_token and name not in expected:
            assert decoded.pop(name) == "00000000-0000-4000-8000-000000000000"
        if ref.location == "querystring" and isinstance(expected.get(name), dict):
            # What has a member of its own is not repeated in the map of all the others.
            bound = {other.location_name for other in members.values()}
            expected[name] = {key: value for key, value in expected[name].items() if key not in bound}
        if expected.get(name) in ([], {}) and name not in decoded:
            del expected[name]  # not sent at all
    assert same(decoded, expected), f"{decoded} is not {expected}"


def botocore_operation(suite: dict[str, Any], case: dict[str, Any]) -> Any:
    from botocore.model import OperationModel
    from botocore.model import ServiceModel as BotocoreModel

    name, given = case["given"]["name"], dict(case["given"])
    if suite["metadata"]["protocol"] == "query" and "output" in given:
        given["output"] = {"resultWrapper": f"{name}Result", **given["output"]}
    document = {"metadata": suite["metadata"], "operations": {name: given}, "shapes": suite.get("shapes", {})}
    return OperationModel(given, BotocoreModel(document), name)


def parsed(suite: dict[str, Any], case: dict[str, Any], protocol: str, response: Response) -> dict[str, Any]:
    """What botocore makes of a response."""
    from botocore.awsrequest import HeadersDict
    from botocore.parsers import create_parser

    operation = botocore_operation(suite, case)
    model = operation.service_model
    headers = HeadersDict(response.headers)
    sent = {"status_code": response.status, "headers": headers, "body": response.body, "context": {}}
    result: dict[str, Any] = create_parser(protocol).parse(sent, operation.output_shape)
    if response.status >= 300:
        code = result.get("Error", {}).get("Code")
        if shape := model.shape_for_error_code(code):
            result.update(create_parser(protocol).parse(sent, shape))
    return result


def read_back(value: Any) -> Any:
    """Botocore's values in the vectors' words."""
    if isinstance(value, dict):
        return {
            key: read_back(item) for key, item in value.items() if key not in ("ResponseMetadata", "x-amzn-requestid")
        }
    if isinstance(value, list):
        return [read_back(item) for item in value]
    if isinstance(value, datetime.datetime):
        stamp = value.timestamp()
        return int(stamp) if stamp == int(stamp) else stamp
    return value


@pytest.mark.parametrize(("suite", "case"), cases("output"))
def test_encode(suite: dict[str, Any], case: dict[str, Any]) -> None:
    """What services answer is read by botocore's own parser as the same result or the same error."""
    left_out(case, "output")
    model = service_of(suite, case)
    operation = model.operations[case["given"]["name"]]
    protocol = model.protocol
    if "result" in case:
        shape = case["given"].get("output", {}).get("shape")
        output = plain(model, shape, case["result"]) if shape else {}
        response = operation.encode(output, "some-request")
        assert response.status == case["response"]["status_code"]
        result = read_back(parsed(suite, case, protocol, response))
        if response.body == b"":
            result = {name: value for name, value in result.items() if value != "" or name in output}
        assert same(result, read_back(output)), f"{response.body!r} was read as {result}"
        return
    members = dict(case.get("error", {}))
    error_shape = case["given"]["errors"][0]["shape"]
    members = plain(model, error_shape, members)
    message = case.get("errorMessage", "")
    for name in ("message", "Message"):
        members.pop(name, None)
    response = operation.encode_error(AwsError(error_shape, message, **members), "some-request")
    if not case["id"].startswith("QueryCompatible"):
        assert response.status == case["response"]["status_code"]
    result = parsed(suite, case, protocol, response)
    assert result["Error"]["Code"] == case["errorCode"]
    assert (result["Error"].get("Message") or "") == message
    for name, value in members.items():
        assert same(read_back(result[name]), value), f"{name} was read as {result[name]}"
