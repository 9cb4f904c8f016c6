"""The killing test: what was acknowledged is there, however often the cloud is killed, and no child process is left."""

from __future__ import annotations

import http.client
import io
import json
import random
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest

from cloudlet.testing import LocalCloud

WRITES = 10_000  # of each kind
KILLS = 6
SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"

# A number -> method, path, body, headers of the request that writes it.
Write = Callable[[int], tuple[str, str, bytes, dict[str, str]]]


class Writer(threading.Thread):
    """Sends one kind of write, each until it is acknowledged, and remembers what was."""

    def __init__(self, cloud: LocalCloud, write: Write, count: int) -> None:
        super().__init__(daemon=True)
        self._cloud = cloud
        self._write = write
        self._count = count
        self.acknowledged: list[int] = []
        self.failure = ""

    def run(self) -> None:
        host = self._cloud.endpoint.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=30)
        for number in range(self._count):
            method, path, body, headers = self._write(number)
            while True:
                try:
                    connection.request(method, path, body, headers)
                    answer = connection.getresponse()
                    text = answer.read()
                except (OSError, http.client.HTTPException):
                    # Killed before the answer: not acknowledged, so it is sent again once the cloud is back.
                    connection.close()
                    time.sleep(0.02)
                    continue
                if answer.status != 200:
                    self.failure = f"{answer.status} {text!r}"
                    return
                self.acknowledged.append(number)
                break


def json_call(service: str, target: str, document: object) -> tuple[str, str, bytes, dict[str, str]]:
    """A request of a JSON protocol."""
    headers = {
        "x-amz-target": target,
        "content-type": "application/x-amz-json-1.0",
        "authorization": SIGNED.format(service),
    }
    return "POST", "/", json.dumps(document).encode(), headers


def drain(cloud: LocalCloud, url: str) -> set[int]:
    """The numbers in all messages of a queue."""
    sqs = cloud.client("sqs")
    found: set[int] = set()
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages"):
        found |= {int(message["Body"]) for message in messages}
        entries = [{"Id": str(index), "ReceiptHandle": one["ReceiptHandle"]} for index, one in enumerate(messages)]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    return found


@pytest.mark.timeout(400)
def test_nothing_acknowledged_is_lost(cloud: LocalCloud) -> None:
    sqs, sns, dynamodb, s3 = (cloud.client(name) for name in ("sqs", "sns", "dynamodb", "s3"))
    direct = sqs.create_queue(QueueName="direct")["QueueUrl"]
    subscribed = sqs.create_queue(QueueName="subscribed")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=subscribed, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="topic")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    dynamodb.create_table(
        TableName="table",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    s3.create_bucket(Bucket="bucket")
    form = {"content-type": "application/x-www-form-urlencoded", "authorization": SIGNED.format("sns")}

    def publish(number: int) -> tuple[str, str, bytes, dict[str, str]]:
        fields = {"Action": "Publish", "Version": "2010-03-31", "TopicArn": topic, "Message": str(number)}
        return "POST", "/", urlencode(fields).encode(), form

    def put_item(number: int) -> tuple[str, str, bytes, dict[str, str]]:
        item = {"id": {"N": str(number)}, "text": {"S": "x" * 100}}
        return json_call("dynamodb", "DynamoDB_20120810.PutItem", {"TableName": "table", "Item": item})

    def send(number: int) -> tuple[str, str, bytes, dict[str, str]]:
        return json_call("sqs", "AmazonSQS.SendMessage", {"QueueUrl": direct, "MessageBody": str(number)})

    def put_object(number: int) -> tuple[str, str, bytes, dict[str, str]]:
        # Every hundredth is too large for the database and becomes a file.
        body = str(number).encode() * (20_000 if number % 100 == 0 else 10)
        return "PUT", f"/bucket/{number}", body, {"authorization": SIGNED.format("s3")}

    writers = {
        name: Writer(cloud, write, WRITES)
        for name, write in (("sqs", send), ("dynamodb", put_item), ("s3", put_object), ("sns", publish))
    }
    for writer in writers.values():
        writer.start()
    for _ in range(KILLS):
        time.sleep(random.uniform(0.2, 2.0))
        cloud.kill()
        cloud.start()
    for name, writer in writers.items():
        writer.join(timeout=240)
        assert not writer.failure, f"{name}: {writer.failure}"
        assert len(writer.acknowledged) == WRITES, f"{name} is not done"
    # One more kill, after the last answer.
    cloud.kill()
    cloud.start()

    everything = set(range(WRITES))
    assert everything <= drain(cloud, direct)
    assert everything <= drain(cloud, subscribed)
    pages = dynamodb.get_paginator("scan").paginate(TableName="table", ProjectionExpression="id")
    assert {int(item["id"]["N"]) for page in pages for item in page["Items"]} == everything
    listed = s3.get_paginator("list_objects_v2").paginate(Bucket="bucket")
    assert {int(entry["Key"]) for page in listed for entry in page["Contents"]} == everything
    for number in random.sample(range(0, WRITES, 100), 10):
        assert s3.get_object(Bucket="bucket", Key=str(number))["Body"].read() == str(number).encode() * 20_000


def family(cloud: LocalCloud) -> list[psutil.Process]:
    """The cloud's processes besides its own."""
    return psutil.Process(cloud.pid).children(recursive=True)


def test_no_child_is_orphaned_or_doubled(cloud: LocalCloud, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("app.py", "import os\ndef handler(event, context):\n    return os.getpid()\n")
    functions = cloud.client("lambda")
    functions.create_function(
        FunctionName="f",
        Runtime="python3.12",
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": packed.getvalue()},
    )
    counts = set()
    for _ in range(4):
        functions.get_waiter("function_active_v2").wait(FunctionName="f")
        assert functions.invoke(FunctionName="f")["StatusCode"] == 200
        children = family(cloud)
        counts.add(len(children))
        cloud.kill()
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive, f"still there after the kill: {alive}"
        cloud.start()
    assert len(counts) == 1, f"a restart made more processes: {counts}"
    functions.invoke(FunctionName="f")
    children = family(cloud)
    cloud.stop()
    assert not psutil.wait_procs(children, timeout=5)[1], "still there after stop"
