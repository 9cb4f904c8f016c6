"""Whatever bytes come in, the wire either reads them or says an error of AWS's; nothing else gets out."""

from __future__ import annotations

import functools
import json
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.wire import Wire

KNOWN = ["sqs", "sns", "dynamodb", "cloudwatch", "s3", "s3control", "lambda", "ec2", "route53", "iam", "apigateway"]

# One operation of each protocol, with as much structure as there is.
TARGETS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "json-1.0": ("dynamodb", "POST", "/", {"x-amz-target": "DynamoDB_20120810.TransactWriteItems"}),
    "json-1.0-sqs": ("sqs", "POST", "/", {"x-amz-target": "AmazonSQS.SendMessageBatch"}),
    "cbor": (
        "cloudwatch",
        "POST",
        "/service/GraniteServiceVersion20100801/operation/PutMetricData",
        {"smithy-protocol": "rpc-v2-cbor"},
    ),
    "query": ("sns", "POST", "/", {"content-type": "application/x-www-form-urlencoded"}),
    "ec2": ("ec2", "POST", "/", {"content-type": "application/x-www-form-urlencoded"}),
    "rest-json": ("lambda", "POST", "/2015-03-31/functions", {"content-type": "application/json"}),
    "rest-xml": ("route53", "POST", "/2013-04-01/hostedzone/Z1/rrset", {"content-type": "application/xml"}),
    "s3": ("s3", "PUT", "/bucket", {}),
}
ACTIONS = {"query": "Publish", "ec2": "RunInstances"}
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@functools.cache
def wire() -> Wire:
    return Wire(KNOWN)


def try_it(request: Request) -> Any:
    """Take a request the whole way to its input; an error must be one that its protocol can carry."""
    operation = None
    service = None
    try:
        request = wire().to_path_style(request)
        service = wire().identify(request)
        if service is None:
            return None
        operation = wire().model(service).operation(request)
        input = operation.decode(request)
        assert sound(input)
        return input
    except AwsError as error:
        refusal = (
            operation.encode_error(error, "some-id")
            if operation is not None
            else wire().encode_error(request, service, error, "some-id")
        )
        assert isinstance(refusal, Response)
        assert 300 <= refusal.status < 600
        assert isinstance(refusal.body, bytes)
        return error


def sound(value: Any) -> bool:
    """Whether a value can be stored: texts are Unicode, numbers fit into 64 bits, nothing is None."""
    if isinstance(value, dict):
        return all(sound(key) and sound(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(sound, value))
    if isinstance(value, str):
        return bool(value.encode() or True)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float | bytes) or hasattr(value, "__aiter__")


def request_of(name: str, body: bytes, query: str = "") -> Request:
    service, method, path, headers = TARGETS[name]
    scope = {"cloudwatch": "monitoring"}.get(service, service)
    authorization = f"AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/{scope}/aws4_request, Signature=0"
    return Request(method, path, query, {**headers, "authorization": authorization}, body)


@pytest.mark.parametrize("name", TARGETS)
@FUZZ
@given(body=st.binary(max_size=300))
@example(b"")
@example(b"null")
@example(b"[]")
@example(b"{")
@example(b'{"a":' * 5000)
@example(b"[" * 100_000)
@example(b'{"TransactItems":[{"Put":{"Item":' + b'{"a":{"M":' * 2000 + b"}}" * 2000 + b"}}]}")
@example(b'{"TransactItems":' + b"9" * 10_000 + b"}")
@example(b'{"TransactItems":1e400,"Entries":1e400}')
@example(b'{"QueueUrl":"\\ud800"}')
@example(b"\xff\xfe\x00")
@example(b"\x9f" * 100_000)
@example(b"\xd8\x1c\x81\xd8\x1d\x00")
@example(b"\xa1\x6aMetricData\xd8\x1c\x81\xd8\x1d\x00")
@example(b"\xa1\x69Namespace\x63\xed\xa0\x80")
@example(b"\xc1\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00")
@example(b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff")
@example(b"<a>" * 100_000)
@example(b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;&b;">]><a>&d;</a>')
@example(b'<?xml version="1.0" encoding="utf-7"?><a/>')
@example("<a>\u00e4</a>".encode("utf-16"))
@example(b"Action=" + b"A." * 1000)
def test_any_bytes(name: str, body: bytes) -> None:
    if name in ACTIONS:
        body = f"Action={ACTIONS[name]}&".encode() + body
    query = "versioning" if name == "s3" else ""
    try_it(request_of(name, body, query))


@pytest.mark.parametrize("name", [name for name in TARGETS if not name.startswith(("query", "ec2", "rest-xml", "s3"))])
@FUZZ
@given(
    document=st.dictionaries(
        st.sampled_from(
            ["TransactItems", "QueueUrl", "Entries", "MetricData", "Namespace", "FunctionName", "Code", "Environment"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda below: (
                st.lists(below, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["Put", "Item", "Id", "MessageBody", "MetricName", "Value", "Timestamp", "ZipFile", "M"]
                    ),
                    below,
                    max_size=3,
                )
            ),
            max_leaves=10,
        ),
        max_size=4,
    )
)
def test_any_document(name: str, document: dict[str, Any]) -> None:
    body = cbor2.dumps(document) if name == "cbor" else msgspec.json.encode(document)
    found = try_it(request_of(name, body))
    assert isinstance(found, dict | AwsError)


@pytest.mark.parametrize("name", ["query", "ec2"])
@FUZZ
@given(
    pairs=st.lists(
        st.tuples(
            st.lists(
                st.sampled_from(
                    ["MessageAttributes", "entry", "1", "2", "01", "-1", "Name", "Value", "TopicArn", "member", "", "x"]
                ),
                min_size=1,
                max_size=5,
            ).map(".".join),
            st.text(max_size=5),
        ),
        max_size=6,
    )
)
def test_any_form(name: str, pairs: list[tuple[str, str]]) -> None:
    from urllib.parse import urlencode

    try_it(request_of(name, urlencode([("Action", ACTIONS[name]), *pairs]).encode("utf-8", "replace")))


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "BREW"])
@FUZZ
@given(
    path=st.text(st.characters(codec="latin-1"), max_size=30).map(lambda text: f"/{text}"),
    query=st.text(st.sampled_from("abkey=&%;+uploads?versionId1-"), max_size=30),
    headers=st.dictionaries(
        st.sampled_from(
            [
                *("host", "x-amz-target", "authorization", "content-type", "smithy-protocol", "content-length"),
                *("range", "x-amz-copy-source", "if-modified-since", "content-encoding", "x-amz-object-attributes"),
            ]
        ),
        st.text(st.characters(codec="latin-1"), max_size=20),
        max_size=4,
    ),
)
@example("/%ff%fe", "", {"host": "b.s3.localhost"})
@example("/a/b", "partNumber=x&uploadId=1", {"content-length": "many"})
@example("//", "X-Amz-Credential=///", {})
@example("/service//operation/", "", {"smithy-protocol": "rpc-v2-cbor"})
def test_any_request(method: str, path: str, query: str, headers: dict[str, str]) -> None:
    try_it(Request(method, path, query, headers, b""))


def test_nesting_is_refused_in_the_protocols_words() -> None:
    bomb = b'{"TransactItems":[{"Put":{"Item":' + b'{"a":{"M":' * 3000 + b"{}" + b"}}" * 3000 + b"}}]}"
    error = try_it(request_of("json-1.0", bomb))
    assert isinstance(error, AwsError)
    assert error.code == "SerializationException"
    document = json.loads(wire().model("dynamodb").operations["PutItem"].encode_error(error, "id").body)
    assert document["__type"].endswith("#SerializationException")
