"""What clients are told: constraints in AWS's words, and each protocol's own frame for an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloudlet.errors import AwsError, not_implemented
from cloudlet.http import Request
from cloudlet.wire import Wire


@pytest.fixture(scope="module")
def wire() -> Wire:
    return Wire(["sqs", "sns", "dynamodb", "s3", "lambda", "iam", "kinesis", "logs", "route53", "cloudwatch"])


def refused(wire: Wire, service: str, operation: str, body: Any, path: str = "/") -> AwsError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(AwsError) as raised:
        wire.model(service).operations[operation].decode(Request("POST", path, "", {}, content))
    return raised.value


def accepted(wire: Wire, service: str, operation: str, body: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.model(service).operations[operation].decode(Request("POST", "/", "", {}, content))


@pytest.mark.parametrize(
    ("service", "operation", "body", "code", "words"),
    [
        (
            "dynamodb",
            "GetItem",
            {"Key": {"a": {"S": "x"}}},
            "ValidationException",
            "1 validation error detected: Value null at 'tableName' failed to satisfy constraint: "
            "Member must not be null",
        ),
        (
            "kinesis",
            "CreateStream",
            {"StreamName": "a b", "ShardCount": 0},
            "ValidationException",
            "2 validation errors detected: Value 'a b' at 'streamName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; "
            "Value '0' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            "logs",
            "CreateLogGroup",
            {"logGroupName": ""},
            "InvalidParameterException",
            "Value '' at 'logGroupName' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1",
        ),
        (
            "dynamodb",
            "PutItem",
            {"TableName": "abc", "Item": {"n": {"N": 5}}},
            "SerializationException",
            "NUMBER_VALUE cannot be converted to String",
        ),
        (
            "dynamodb",
            "PutItem",
            {"TableName": "abc", "Item": {}, "ReturnValues": "SOME"},
            "ValidationException",
            "Value 'SOME' at 'returnValues' failed to satisfy constraint: Member must satisfy enum value set: "
            "[NONE, ALL_OLD, UPDATED_OLD, ALL_NEW, UPDATED_NEW]",
        ),
        (
            "kinesis",
            "PutRecord",
            {"StreamName": 1},
            "SerializationException",
            "NUMBER_VALUE can not be converted to a String",
        ),
        (
            "sqs",
            "SendMessage",
            {"QueueUrl": "q"},
            "MissingParameter",
            "The request must contain the parameter MessageBody.",
        ),
        (
            "rds",
            "CreateDBCluster",
            b"Action=CreateDBCluster",
            "MissingParameter",
            "The request must contain the parameter DBClusterIdentifier.",
        ),
        (
            "ec2",
            "CreateTags",
            b"Action=CreateTags&Tag.1.Key=a",
            "MissingParameter",
            "The request must contain the parameter resourceIdSet",
        ),
        ("apigateway", "CreateRestApi", {}, "ValidationException", "Value null at 'name' failed"),
        ("sqs", "SendMessage", b"{", "SerializationException", ""),
        ("sqs", "SendMessage", b"[]", "SerializationException", ""),
        ("sns", "Publish", b"Action=Publish", "InvalidParameter", "Message Reason: no value for required parameter"),
        (
            "iam",
            "GetRole",
            b"Action=GetRole&RoleName=a%20b",
            "ValidationError",
            "Value 'a b' at 'roleName' failed to satisfy constraint: Member must satisfy regular expression pattern: ",
        ),
        ("iam", "ListRoles", b"Action=ListRoles&MaxItems=many", "MalformedInput", "can not be converted to Integer"),
        (
            "iam",
            "TagRole",
            b"Action=TagRole&RoleName=a&Tags.member.1.Value=v",
            "ValidationError",
            "Value null at 'tags.1.member.key' failed to satisfy constraint: Member must not be null",
        ),
        (
            "iam",
            "UntagRole",
            b"Action=UntagRole&RoleName=a&TagKeys.member.1=",
            "ValidationError",
            "Value '[]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: "
            "[Member must have length less than or equal to 128, Member must have length greater than or equal to 1",
        ),
    ],
)
def test_refusals(wire: Wire, service: str, operation: str, body: Any, code: str, words: str) -> None:
    error = refused(wire, service, operation, body)
    assert error.code == code
    assert words in error.message


def test_what_aws_lets_pass(wire: Wire) -> None:
    """Nulls are absent members, unknown members are ignored, whole floats are integers, services judge some enums."""
    body = {"TableName": "abc", "Key": {"id": {"S": "x"}}, "ConsistentRead": None, "Unknown": {"deep": [1]}}
    assert accepted(wire, "dynamodb", "GetItem", body) == {"TableName": "abc", "Key": {"id": {"S": "x"}}}
    body = {"StreamName": "s", "ShardCount": 2.0}
    assert accepted(wire, "kinesis", "CreateStream", body) == {"StreamName": "s", "ShardCount": 2}
    attributes = {"QueueName": "q", "Attributes": {"NoSuchAttribute": "1"}}
    assert accepted(wire, "sqs", "CreateQueue", attributes) == attributes
    assert accepted(wire, "dynamodb", "ListTables", b"") == {}
    item = {"TableName": "abc", "Item": {"n": {"NULL": True}, "x": {"S": "", "N": None}}}
    assert accepted(wire, "dynamodb", "PutItem", item)["Item"] == {"n": {"NULL": True}, "x": {"S": ""}}


def test_s3_judges_names_by_itself(wire: Wire) -> None:
    request = Request("PUT", "/b", "acl", {"x-amz-acl": "no-such-acl"})
    decoded = wire.model("s3").operation(request).decode(request)
    assert decoded == {"Bucket": "b", "ACL": "no-such-acl"}
    missing = Request("PUT", "/b", "tagging", {}, b"")
    with pytest.raises(AwsError, match="Request Body is empty"):
        wire.model("s3").operation(missing).decode(missing)
    wrong = Request("PUT", "/b", "tagging", {}, b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>")
    with pytest.raises(AwsError) as raised:
        wire.model("s3").operation(wrong).decode(wrong)
    assert raised.value.code == "MalformedXML"


def test_json_errors(wire: Wire) -> None:
    sqs = wire.model("sqs").operations["SendMessage"]
    response = sqs.encode_error(AwsError("QueueDoesNotExist", "No queue."), "some-id")
    assert response.status == 400
    assert response.headers["x-amzn-query-error"] == "AWS.SimpleQueueService.NonExistentQueue;Sender"
    assert response.headers["x-amzn-requestid"] == "some-id"
    assert response.headers["content-type"] == "application/x-amz-json-1.0"
    assert json.loads(response.body) == {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "No queue."}
    by_code = sqs.encode_error(AwsError("AWS.SimpleQueueService.NonExistentQueue", "No queue."), "some-id")
    assert by_code.body == response.body
    dynamodb = wire.model("dynamodb").operations["TransactWriteItems"]
    reasons = [{"Code": "ConditionalCheckFailed", "Item": {"a": {"B": b"x"}}}]
    response = dynamodb.encode_error(AwsError("TransactionCanceledException", "No.", CancellationReasons=reasons), "id")
    assert json.loads(response.body) == {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "No.",
        "CancellationReasons": [{"Code": "ConditionalCheckFailed", "Item": {"a": {"B": "eA=="}}}],
    }
    response = dynamodb.encode_error(not_implemented("dynamodb Foo"), "id")
    assert response.status == 501
    assert json.loads(response.body)["__type"].endswith("#NotImplemented")


def test_query_errors(wire: Wire) -> None:
    response = wire.model("sns").operations["Publish"].encode_error(AwsError("NotFoundException", "No <topic>"), "id")
    assert response.status == 404
    assert b"<Type>Sender</Type><Code>NotFound</Code><Message>No &lt;topic&gt;</Message>" in response.body
    assert b"<RequestId>id</RequestId></ErrorResponse>" in response.body
    form = Request("POST", "/", "", {"content-type": "application/x-www-form-urlencoded"}, b"Action=GetQueueUrl")
    response = wire.model("sqs").operation(form).encode_error(AwsError("QueueDoesNotExist", "No queue."), "id")
    assert b"<Code>AWS.SimpleQueueService.NonExistentQueue</Code>" in response.body


def test_rest_errors(wire: Wire) -> None:
    response = (
        wire.model("lambda")
        .operations["GetFunction"]
        .encode_error(AwsError("ResourceNotFoundException", "Function not found", Type="User"), "id")
    )
    assert response.status == 404
    assert response.headers["x-amzn-errortype"] == "ResourceNotFoundException"
    assert json.loads(response.body) == {"Type": "User", "Message": "Function not found"}
    throttled = (
        wire.model("lambda")
        .operations["Invoke"]
        .encode_error(AwsError("TooManyRequestsException", "Rate Exceeded.", retryAfterSeconds="1", Reason="x"), "id")
    )
    assert throttled.status == 429
    assert throttled.headers["retry-after"] == "1"
    assert json.loads(throttled.body) == {"Reason": "x", "message": "Rate Exceeded."}
    s3 = wire.model("s3").operations
    response = s3["GetObject"].encode_error(AwsError("NoSuchKey", "The key.", Key="a<b"), "id")
    assert response.status == 404
    assert response.headers["x-amz-request-id"] == "id"
    assert b"<Error><Code>NoSuchKey</Code><Message>The key.</Message><Key>a&lt;b</Key><RequestId>id" in response.body
    assert s3["HeadObject"].encode_error(AwsError("NotFound", "Not Found"), "id").body == b""
    assert s3["GetObject"].encode_error(AwsError("NotModified", "Not Modified"), "id").status == 304
    response = wire.model("route53").operations["GetHostedZone"].encode_error(AwsError("NoSuchHostedZone", "No."), "id")
    assert b"<ErrorResponse xmlns=" in response.body
    assert response.status == 404


@pytest.mark.parametrize(
    ("headers", "query", "start"),
    [
        ({"x-amz-target": "Foo.Bar", "content-type": "application/x-amz-json-1.1"}, "", b'{"__type":"NotImplemented"'),
        ({"content-type": "application/x-www-form-urlencoded"}, "", b"<?xml"),
        ({}, "", b"<?xml"),
        ({"content-type": "application/json"}, "", b'{"message"'),
    ],
)
def test_errors_without_a_service(wire: Wire, headers: dict[str, str], query: str, start: bytes) -> None:
    response = wire.encode_error(Request("POST", "/", query, headers), None, not_implemented("this"), "id")
    assert response.status == 501
    assert isinstance(response.body, bytes)
    assert response.body.startswith(start)


def test_outputs_may_hold_encoded_json(wire: Wire) -> None:
    """Stored items go out as the bytes that they are stored as."""
    import msgspec

    get = wire.model("dynamodb").operations["GetItem"]
    response = get.encode({"Item": msgspec.Raw(b'{"id":{"S":"x"}}'), "ConsumedCapacity": {"CapacityUnits": 0.5}}, "id")
    assert response.body == b'{"Item":{"id":{"S":"x"}},"ConsumedCapacity":{"CapacityUnits":0.5}}'
    query = wire.model("dynamodb").operations["Query"]
    assert query.encode({"Items": [msgspec.Raw(b'{"a":{"N":"1"}}')]}, "id").body == b'{"Items":[{"a":{"N":"1"}}]}'


async def test_event_streams(wire: Wire) -> None:
    """Botocore reads the events, and an error on the way as the stream's end."""
    from botocore.eventstream import EventStreamBuffer

    async def events() -> Any:
        yield {"PayloadChunk": {"Payload": b"abc"}}
        yield {"InvokeComplete": {"ErrorCode": "Oops"}}
        raise AwsError("ServiceException", "gone")

    invoke = wire.model("lambda").operations["InvokeWithResponseStream"]
    response = invoke.encode({"StatusCode": 200, "EventStream": events()}, "id")
    assert response.headers["content-type"] == "application/vnd.amazon.eventstream"
    buffer = EventStreamBuffer()
    assert not isinstance(response.body, bytes)
    async for chunk in response.body:
        buffer.add_data(chunk)
    read = [(event.headers[":message-type"], event.payload) for event in buffer]
    assert read == [("event", b"abc"), ("event", b'{"ErrorCode":"Oops"}'), ("error", b"")]
