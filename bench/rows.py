"""What is measured: each row sets up what it needs through boto3 and then speaks plain HTTP."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import boto3
from botocore.config import Config

from bench.load import Script
from bench.targets import Target

ACCOUNT = "000000000000"
KB4 = b"x" * 4096
TEXT = "x" * 256


@dataclass(frozen=True)
class Row:
    """One line of the table. ``prepare`` returns the script that a connection runs."""

    name: str
    prepare: Callable[[Target], Callable[[int], Script]]
    goal: float = 3.0  # times ministack
    peers: tuple[str, ...] = ("ministack",)
    answer_size: int = 64


def client(target: Target, service: str) -> Any:
    """A boto3 client that waits for no retries."""
    config = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=120)
    return boto3.client(
        service,
        endpoint_url=target.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=config,
    )


def http(
    target: Target, method: str, path: str, body: bytes = b"", service: str = "", headers: dict[str, str] | None = None
) -> bytes:
    """A request's bytes, with a signature's form; nobody here verifies it."""
    lines = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{target.port}", f"content-length: {len(body)}"]
    if service:
        lines.append(
            f"authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, "
            "SignedHeaders=content-type;host;x-amz-date;x-amz-target, "
            "Signature=fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"
        )
        lines.append("x-amz-date: 20260101T000000Z")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def call(target: Target, service: str, prefix: str, operation: str, document: Any, version: str = "1.0") -> bytes:
    """A request of a JSON protocol."""
    body = json.dumps(document).encode()
    headers = {"x-amz-target": f"{prefix}.{operation}", "content-type": f"application/x-amz-json-{version}"}
    return http(target, "POST", "/", body, service, headers)


def repeat(request: bytes) -> Callable[[int], Script]:
    """Every connection sends the same request again and again."""

    def script(number: int) -> Script:
        while True:
            yield request
            yield None

    return script


def numbered(make: Callable[[int], bytes], count: int = 2000) -> Callable[[int], Script]:
    """Every connection goes through requests of its own, made before the clock starts."""

    def script(number: int) -> Script:
        requests = [make(number * count + index) for index in range(count)]
        while True:
            for request in requests:
                yield request
                yield None

    return script


def queue_of(target: Target, name: str) -> str:
    """A queue's URL."""
    return str(client(target, "sqs").create_queue(QueueName=name)["QueueUrl"])


def sqs_send(target: Target) -> Callable[[int], Script]:
    """One message of 256 bytes."""
    document = {"QueueUrl": queue_of(target, "send"), "MessageBody": TEXT}
    return repeat(call(target, "sqs", "AmazonSQS", "SendMessage", document))


def sqs_cycle(target: Target) -> Callable[[int], Script]:
    """Send, receive, delete."""
    url = queue_of(target, "cycle")
    send = call(target, "sqs", "AmazonSQS", "SendMessage", {"QueueUrl": url, "MessageBody": TEXT})
    receive = call(target, "sqs", "AmazonSQS", "ReceiveMessage", {"QueueUrl": url})

    def script(number: int) -> Script:
        while True:
            yield send
            answer = yield receive
            for message in json.loads(answer).get("Messages", []):
                document = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
                yield call(target, "sqs", "AmazonSQS", "DeleteMessage", document)
            yield None

    return script


def table(target: Target) -> str:
    """A table with a hash and a range key."""
    dynamodb = client(target, "dynamodb")
    try:
        dynamodb.create_table(
            TableName="bench",
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "N"},
            ],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            BillingMode="PAY_PER_REQUEST",
        )
        dynamodb.get_waiter("table_exists").wait(TableName="bench", WaiterConfig={"Delay": 1})
    except dynamodb.exceptions.ResourceInUseException:
        pass
    return "bench"


def item(number: int) -> dict[str, Any]:
    """An item of about 200 bytes; ten share a hash key."""
    return {
        "pk": {"S": f"user-{number // 10}"},
        "sk": {"N": str(number % 10)},
        "name": {"S": "a name of some length"},
        "score": {"N": "12345.678"},
        "tags": {"L": [{"S": "red"}, {"S": "green"}]},
        "data": {"M": {"street": {"S": "Main Street 1"}, "active": {"BOOL": True}}},
    }


def fill(target: Target, count: int = 2000) -> str:
    """A table that holds some items."""
    name = table(target)
    dynamodb = client(target, "dynamodb")
    for first in range(0, count, 25):
        requests = [{"PutRequest": {"Item": item(number)}} for number in range(first, min(first + 25, count))]
        dynamodb.batch_write_item(RequestItems={name: requests})
    return name


def dynamodb_put(target: Target) -> Callable[[int], Script]:
    """An item of about 200 bytes."""
    name = table(target)

    def make(number: int) -> bytes:
        return call(target, "dynamodb", "DynamoDB_20120810", "PutItem", {"TableName": name, "Item": item(number)})

    return numbered(make)


def dynamodb_get(target: Target) -> Callable[[int], Script]:
    """That item by its key."""
    name = fill(target)

    def make(number: int) -> bytes:
        key = {"pk": {"S": f"user-{number % 200}"}, "sk": {"N": str(number % 10)}}
        return call(target, "dynamodb", "DynamoDB_20120810", "GetItem", {"TableName": name, "Key": key})

    return numbered(make, 500)


def dynamodb_query(target: Target) -> Callable[[int], Script]:
    """The ten items of a hash key."""
    name = fill(target)

    def make(number: int) -> bytes:
        document = {
            "TableName": name,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": f"user-{number % 200}"}},
        }
        return call(target, "dynamodb", "DynamoDB_20120810", "Query", document)

    return numbered(make, 500)


def bucket(target: Target) -> str:
    """A bucket."""
    client(target, "s3").create_bucket(Bucket="bench-bucket")
    return "bench-bucket"


def s3_put(target: Target) -> Callable[[int], Script]:
    """An object of 4 KB."""
    name = bucket(target)
    headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "content-type": "application/octet-stream"}
    return numbered(lambda number: http(target, "PUT", f"/{name}/object-{number}", KB4, "s3", headers), 500)


def s3_get(target: Target) -> Callable[[int], Script]:
    """An object of 4 KB."""
    name = bucket(target)
    s3 = client(target, "s3")
    for number in range(100):
        s3.put_object(Bucket=name, Key=f"object-{number}", Body=KB4)
    headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    return numbered(lambda number: http(target, "GET", f"/{name}/object-{number % 100}", b"", "s3", headers), 500)


def sns_publish(target: Target) -> Callable[[int], Script]:
    """A message of 256 bytes to a topic with one queue subscribed."""
    sns, url = client(target, "sns"), queue_of(target, "subscribed")
    arn = client(target, "sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    topic = sns.create_topic(Name="bench")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    body = urlencode({"Action": "Publish", "Version": "2010-03-31", "TopicArn": topic, "Message": TEXT}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    return repeat(http(target, "POST", "/", body, "sns", headers))


HANDLER = """
def handler(event, context):
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": "{}"}
"""


def function(target: Target) -> str:
    """A Python function that answers at once, already warm."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", HANDLER)
    functions = client(target, "lambda")
    arn = functions.create_function(
        FunctionName="bench",
        Runtime="python3.12",
        Handler="app.handler",
        Role=f"arn:aws:iam::{ACCOUNT}:role/bench",
        Code={"ZipFile": archive.getvalue()},
        MemorySize=256,
    )["FunctionArn"]
    functions.get_waiter("function_active_v2").wait(FunctionName="bench")
    functions.invoke(FunctionName="bench", Payload=b"{}")["Payload"].read()
    return str(arn)


def lambda_invoke(target: Target) -> Callable[[int], Script]:
    """A warm invocation."""
    function(target)
    path = "/2015-03-31/functions/bench/invocations"
    return repeat(http(target, "POST", path, b'{"key": "value"}', "lambda", {"content-type": "application/json"}))


def http_api(target: Target) -> Callable[[int], Script]:
    """A request to an HTTP API with a function behind it."""
    arn = function(target)
    made = client(target, "apigatewayv2").create_api(Name="bench", ProtocolType="HTTP", Target=arn)
    host = f"{made['ApiId']}.execute-api.localhost:{target.port}"
    request = http(target, "GET", "/hello").replace(f"127.0.0.1:{target.port}".encode(), host.encode())
    return repeat(request)


ROWS = [
    Row("SQS send", sqs_send, answer_size=170),
    Row("SQS send+receive+delete", sqs_cycle, answer_size=300),
    Row("DynamoDB put", dynamodb_put, peers=("ministack", "dynalite"), answer_size=2),
    Row("DynamoDB get", dynamodb_get, peers=("ministack", "dynalite"), answer_size=250),
    Row("DynamoDB query", dynamodb_query, peers=("ministack", "dynalite"), answer_size=2300),
    Row("S3 put 4 KB", s3_put, answer_size=0),
    Row("S3 get 4 KB", s3_get, answer_size=4096),
    Row("SNS publish to a queue", sns_publish, answer_size=290),
    Row("Lambda warm invoke", lambda_invoke, goal=10.0, answer_size=90),
    Row("HTTP API to Lambda", http_api, goal=10.0, answer_size=2),
]


def bare_of(row: Row, target: Target) -> Callable[[int], Script]:
    """The bare server's form of a row: the same answer, without the work."""
    return repeat(http(target, "POST", "/", b"x" * 256, "bare", {"x-answer-size": str(row.answer_size)}))
