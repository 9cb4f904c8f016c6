"""SQS through boto3."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import refused

from cloudlet.testing import LocalCloud, eventually


@pytest.fixture
def sqs(cloud: LocalCloud) -> Any:
    return cloud.client("sqs")


def make(sqs: Any, name: str, **attributes: Any) -> str:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
    return str(sqs.create_queue(QueueName=name, Attributes=texts)["QueueUrl"])


def arn(name: str) -> str:
    return f"arn:aws:sqs:us-east-1:000000000000:{name}"


def receive(sqs: Any, url: str, count: int = 10, **parameters: Any) -> list[dict[str, Any]]:
    return list(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=count, **parameters).get("Messages", []))


def bodies(sqs: Any, url: str, **parameters: Any) -> list[str]:
    return [message["Body"] for message in receive(sqs, url, **parameters)]


def counted(sqs: Any, url: str) -> tuple[int, int, int]:
    """Visible, in flight, delayed."""
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return (
        int(found["ApproximateNumberOfMessages"]),
        int(found["ApproximateNumberOfMessagesNotVisible"]),
        int(found["ApproximateNumberOfMessagesDelayed"]),
    )


def test_queue_life(cloud: LocalCloud, sqs: Any) -> None:
    url = make(sqs, "orders", DelaySeconds="0", VisibilityTimeout="45")
    assert url == f"{cloud.endpoint}/000000000000/orders"
    assert make(sqs, "orders") == make(sqs, "orders", VisibilityTimeout="45") == url
    assert refused(make, sqs=sqs, name="orders", VisibilityTimeout="46") == (
        "QueueAlreadyExists",
        "A queue already exists with the same name and a different value for attribute VisibilityTimeout",
    )
    assert refused(make, sqs=sqs, name="or ders")[0] == "InvalidParameterValue"
    assert refused(make, sqs=sqs, name="a.fifo")[0] == "InvalidParameterValue"
    assert refused(make, sqs=sqs, name="a", FifoQueue="true")[0] == "InvalidParameterValue"
    assert refused(make, sqs=sqs, name="a", Nonsense="1") == ("InvalidAttributeName", "Unknown Attribute Nonsense.")
    assert refused(make, sqs=sqs, name="a", VisibilityTimeout="43201")[0] == "InvalidAttributeValue"
    assert refused(make, sqs=sqs, name="a", DeduplicationScope="queue") == (
        "InvalidAttributeName",
        "You can specify the DeduplicationScope only when FifoQueue is set to true.",
    )
    assert sqs.get_queue_url(QueueName="orders")["QueueUrl"] == url
    assert refused(sqs.get_queue_url, QueueName="nobody") == (
        "AWS.SimpleQueueService.NonExistentQueue",
        "The specified queue does not exist.",
    )
    assert cloud.client("sqs", account="111111111111").list_queues().get("QueueUrls") is None
    assert cloud.client("sqs", region="eu-west-1").list_queues().get("QueueUrls") is None

    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "5", "Policy": '{"Statement":[]}'})
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["QueueArn"] == arn("orders")
    assert attributes["MaximumMessageSize"] == "1048576"
    assert (attributes["DelaySeconds"], attributes["VisibilityTimeout"]) == ("5", "45")
    assert attributes["Policy"] == '{"Statement":[]}'
    assert "FifoQueue" not in attributes
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=url)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "alias/aws/sqs"})
    names = ["KmsMasterKeyId", "SqsManagedSseEnabled", "KmsDataKeyReusePeriodSeconds"]
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"] == {
        "KmsMasterKeyId": "alias/aws/sqs",
        "SqsManagedSseEnabled": "false",
        "KmsDataKeyReusePeriodSeconds": "300",
    }

    for number in range(5):
        make(sqs, f"page-{number}")
    pages = sqs.get_paginator("list_queues").paginate(
        QueueNamePrefix="page-", PaginationConfig={"PageSize": 2, "MaxItems": 5}
    )
    assert [len(page["QueueUrls"]) for page in pages] == [2, 2, 1]

    sqs.tag_queue(QueueUrl=url, Tags={"team": "a", "cost": ""})
    sqs.untag_queue(QueueUrl=url, TagKeys=["cost"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "a"}

    sqs.send_message(QueueUrl=url, MessageBody="gone")
    sqs.delete_queue(QueueUrl=url)
    assert refused(sqs.send_message, QueueUrl=url, MessageBody="x")[0] == "AWS.SimpleQueueService.NonExistentQueue"
    assert counted(sqs, make(sqs, "orders")) == (0, 0, 0)


def test_permissions(sqs: Any) -> None:
    url = make(sqs, "shared")

    def policy() -> Any:
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes")
        return json.loads(found["Policy"]) if found else None

    sqs.add_permission(QueueUrl=url, Label="one", AWSAccountIds=["111111111111"], Actions=["SendMessage"])
    sqs.add_permission(QueueUrl=url, Label="two", AWSAccountIds=["1" * 12, "2" * 12], Actions=["*", "DeleteMessage"])
    assert policy() == {
        "Version": "2008-10-17",
        "Id": f"{arn('shared')}/SQSDefaultPolicy",
        "Statement": [
            {
                "Sid": "one",
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
                "Action": "SQS:SendMessage",
                "Resource": arn("shared"),
            },
            {
                "Sid": "two",
                "Effect": "Allow",
                "Principal": {"AWS": ["arn:aws:iam::111111111111:root", "arn:aws:iam::222222222222:root"]},
                "Action": ["SQS:*", "SQS:DeleteMessage"],
                "Resource": arn("shared"),
            },
        ],
    }
    again = {"QueueUrl": url, "Label": "one", "AWSAccountIds": ["1" * 12], "Actions": ["*"]}
    assert "Already exists" in refused(sqs.add_permission, **again)[1]
    sqs.remove_permission(QueueUrl=url, Label="one")
    sqs.remove_permission(QueueUrl=url, Label="two")
    assert policy() is None
    assert "can't find label" in refused(sqs.remove_permission, QueueUrl=url, Label="one")[1]


def test_messages(cloud: LocalCloud, sqs: Any) -> None:
    url = make(sqs, "all")
    attributes = {
        "b": {"DataType": "Binary.png", "BinaryValue": b"\x00\x01"},
        "a.n": {"DataType": "Number", "StringValue": "1.5e3"},
        "a.s": {"DataType": "String", "StringValue": "ä"},
    }
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
    # boto3 itself compares the hashes of body and attributes with its own.
    sent = sqs.send_message(
        QueueUrl=url,
        MessageBody="body ☂",
        MessageAttributes=attributes,
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": trace}},
        MessageGroupId="tenant",
    )
    # Any address will do, as long as its end is right.
    other = "https://sqs.us-east-1.amazonaws.com/000000000000/all"
    raw = receive(cloud.client("sqs"), other, VisibilityTimeout=0, MessageAttributeNames=["a.*"])[0]
    assert raw["MessageAttributes"].keys() == {"a.n", "a.s"}
    (message,) = receive(sqs, url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"])
    assert message["Body"] == "body ☂"
    assert message["MD5OfBody"] == hashlib.md5("body ☂".encode()).hexdigest() == sent["MD5OfMessageBody"]
    assert message["MessageAttributes"] == attributes
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    system = message["Attributes"]
    assert system["AWSTraceHeader"] == trace
    assert system["ApproximateReceiveCount"] == "2"
    assert system["SenderId"] == "000000000000"
    assert system["MessageGroupId"] == "tenant"
    assert 0 <= int(system["ApproximateFirstReceiveTimestamp"]) - int(system["SentTimestamp"]) < 20_000
    assert "SequenceNumber" not in system

    def wrong(**parameters: Any) -> tuple[str, str]:
        return refused(sqs.send_message, **{"QueueUrl": url, "MessageBody": "x", **parameters})

    assert wrong(MessageBody="")[0] == "MissingParameter"
    assert wrong(MessageBody="a\x00b")[0] == "InvalidMessageContents"
    assert wrong(MessageBody="a\ufffe")[0] == "InvalidMessageContents"
    assert wrong(DelaySeconds=901)[0] == "InvalidParameterValue"
    assert wrong(MessageDeduplicationId="x")[0] == "InvalidParameterValue"
    assert wrong(MessageGroupId="white space")[0] == "InvalidParameterValue"
    assert wrong(MessageBody="x" * 1_048_577) == (
        "InvalidParameterValue",
        "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.",
    )
    for name, value in {
        "AWS.x": {"DataType": "String", "StringValue": "1"},
        "a..b": {"DataType": "String", "StringValue": "1"},
        "empty": {"DataType": "String", "StringValue": ""},
        "type": {"DataType": "Text", "StringValue": "1"},
        "number": {"DataType": "Number", "StringValue": "one"},
    }.items():
        assert wrong(MessageAttributes={name: value})[0] == "InvalidParameterValue"
    many = {str(number): {"DataType": "String", "StringValue": "1"} for number in range(11)}
    assert "[11] exceeds" in wrong(MessageAttributes=many)[1]
    for parameters in ({"MaxNumberOfMessages": 11}, {"WaitTimeSeconds": 21}, {"VisibilityTimeout": 43201}):
        assert refused(sqs.receive_message, QueueUrl=url, **parameters)[0] == "InvalidParameterValue"
    names = {"MessageSystemAttributeNames": ["Nonsense"]}
    assert refused(sqs.receive_message, QueueUrl=url, **names) == (
        "InvalidAttributeName",
        "Unknown Attribute Nonsense.",
    )
    assert counted(sqs, url) == (0, 1, 0)


def test_batches(sqs: Any) -> None:
    url = make(sqs, "batch", MaximumMessageSize="1024")
    answer = sqs.send_message_batch(
        QueueUrl=url,
        Entries=[
            {"Id": "good", "MessageBody": "1"},
            {"Id": "large", "MessageBody": "x" * 1025},
            {"Id": "late", "MessageBody": "2", "DelaySeconds": 60},
        ],
    )
    assert [entry["Id"] for entry in answer["Successful"]] == ["good", "late"]
    assert answer["Failed"] == [
        {
            "Id": "large",
            "SenderFault": True,
            "Code": "InvalidParameterValue",
            "Message": "One or more parameters cannot be validated. Reason: Message must be shorter than 1024 bytes.",
        }
    ]
    assert counted(sqs, url) == (1, 0, 1)

    def wrong(*ids: str) -> str:
        return refused(
            sqs.send_message_batch, QueueUrl=url, Entries=[{"Id": entry, "MessageBody": "x"} for entry in ids]
        )[0]

    prefix = "AWS.SimpleQueueService."
    assert wrong() == f"{prefix}EmptyBatchRequest"
    assert wrong("a", "a") == f"{prefix}BatchEntryIdsNotDistinct"
    assert wrong("a b") == f"{prefix}InvalidBatchEntryId"
    assert wrong(*map(str, range(11))) == f"{prefix}TooManyEntriesInBatchRequest"
    large = make(sqs, "large")
    entries = [{"Id": str(number), "MessageBody": "x" * 600_000} for number in range(2)]
    assert refused(sqs.send_message_batch, QueueUrl=large, Entries=entries)[0] == f"{prefix}BatchRequestTooLong"

    (message,) = receive(sqs, url)
    changed = sqs.change_message_visibility_batch(
        QueueUrl=url,
        Entries=[
            {"Id": "a", "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 100},
            {"Id": "b", "ReceiptHandle": "nonsense", "VisibilityTimeout": 100},
        ],
    )
    assert ([entry["Id"] for entry in changed["Successful"]], changed["Failed"][0]["Code"]) == (
        ["a"],
        "ReceiptHandleIsInvalid",
    )
    deleted = sqs.delete_message_batch(
        QueueUrl=url, Entries=[{"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}, {"Id": "b", "ReceiptHandle": ""}]
    )
    assert [entry["Id"] for entry in deleted["Failed"]] == ["b"]
    assert counted(sqs, url) == (0, 0, 1)


def test_time(cloud: LocalCloud, sqs: Any) -> None:
    """Delays, visibility timeouts and retention go by the cloud's clock; what is in flight survives kill -9."""
    url = make(sqs, "time", MessageRetentionPeriod="3600")
    sqs.send_message(QueueUrl=url, MessageBody="now")
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=100)
    assert counted(sqs, url) == (1, 0, 1)
    (first,) = receive(sqs, url, VisibilityTimeout=50)
    assert counted(sqs, url) == (0, 1, 1)
    cloud.kill()
    cloud.start()
    assert counted(sqs, url) == (0, 1, 1)
    assert receive(sqs, url) == []
    cloud.advance(51)
    assert counted(sqs, url) == (1, 0, 1)
    (again,) = receive(sqs, url, VisibilityTimeout=500)
    assert again["MessageId"] == first["MessageId"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])  # a stale handle deletes nothing
    assert counted(sqs, url) == (0, 1, 1)
    cloud.advance(51)
    assert bodies(sqs, url, VisibilityTimeout=0) == ["later"]

    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"], VisibilityTimeout=0)
    handle = again["ReceiptHandle"]
    change = {"QueueUrl": url, "ReceiptHandle": handle}
    assert refused(sqs.change_message_visibility, **change, VisibilityTimeout=5)[0].endswith("MessageNotInflight")
    assert sorted(bodies(sqs, url)) == ["later", "now"]
    # An earlier receipt handle is as good, as long as the message is there.
    sqs.change_message_visibility(**change, VisibilityTimeout=5)
    cloud.advance(31)
    (message, _) = receive(sqs, url)
    cloud.advance(31)
    # Its time is over, but nobody else has received it.
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert counted(sqs, url) == (1, 0, 0)
    (last,) = receive(sqs, url, VisibilityTimeout=1)
    cloud.advance(1000)
    refusal = refused(
        sqs.change_message_visibility, QueueUrl=url, ReceiptHandle=last["ReceiptHandle"], VisibilityTimeout=43_200
    )
    assert "Total VisibilityTimeout for the message is beyond the limit" in refusal[1]

    cloud.advance(3600)
    assert counted(sqs, url) == (0, 0, 0)
    for number in range(30):
        sqs.send_message_batch(
            QueueUrl=url, Entries=[{"Id": str(entry), "MessageBody": f"{number}"} for entry in range(10)]
        )
    cloud.advance(3601)
    sqs.send_message(QueueUrl=url, MessageBody="young")
    assert bodies(sqs, url) == ["young"]

    for handle in ("nonsense", "AAAA", "ä"):
        assert refused(sqs.delete_message, QueueUrl=url, ReceiptHandle=handle) == (
            "ReceiptHandleIsInvalid",
            f'The input receipt handle "{handle}" is not a valid receipt handle.',
        )


def test_purge(cloud: LocalCloud, sqs: Any) -> None:
    url = make(sqs, "purge")
    for _ in range(60):
        sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "x"} for n in range(10)])
    (held,) = receive(sqs, url, 1)
    sqs.purge_queue(QueueUrl=url)
    assert counted(sqs, url) == (0, 0, 0)
    sqs.send_message(QueueUrl=url, MessageBody="after")
    sqs.delete_message(QueueUrl=url, ReceiptHandle=held["ReceiptHandle"])
    assert bodies(sqs, url) == ["after"]
    assert refused(sqs.purge_queue, QueueUrl=url)[0] == "AWS.SimpleQueueService.PurgeQueueInProgress"
    cloud.advance(61)
    sqs.purge_queue(QueueUrl=url)


def test_long_polling(cloud: LocalCloud, sqs: Any) -> None:
    url = make(sqs, "poll", ReceiveMessageWaitTimeSeconds="20")
    found: list[list[str]] = []

    def poll() -> threading.Thread:
        client = cloud.client("sqs")
        thread = threading.Thread(target=lambda: found.append(bodies(client, url)), daemon=True)
        thread.start()
        time.sleep(0.2)
        return thread

    def answered(count: int) -> list[list[str]]:
        eventually(lambda: len(found) == count)
        return found

    # Woken by a send, and only one by one message.
    poll()
    poll()
    sqs.send_message(QueueUrl=url, MessageBody="a")
    assert answered(1) == [["a"]]
    time.sleep(0.1)
    assert found == [["a"]]
    # By a delay that ends.
    sqs.send_message(QueueUrl=url, MessageBody="b", DelaySeconds=10)
    cloud.advance(11)
    assert answered(2) == [["a"], ["b"]]
    # By a visibility timeout that ends.
    cloud.advance(10)
    poll()
    cloud.advance(10)
    assert answered(3)[2:] == [["a"]]
    sqs.purge_queue(QueueUrl=url)
    # By its own end.
    poll()
    cloud.advance(21)
    assert answered(4)[3:] == [[]]


def test_client_that_is_gone(cloud: LocalCloud, sqs: Any) -> None:
    """It takes nothing with it."""
    url = make(sqs, "poll", ReceiveMessageWaitTimeSeconds="20")
    host, port = cloud.endpoint.removeprefix("http://").rsplit(":", 1)
    body = json.dumps({"QueueUrl": url}).encode()
    head = (
        f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\n"
        f"Content-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(0.3)
    time.sleep(0.1)
    sqs.send_message(QueueUrl=url, MessageBody="for somebody else")
    assert bodies(sqs, url) == ["for somebody else"]


def test_dead_letters(cloud: LocalCloud, sqs: Any) -> None:
    dead = make(sqs, "dead")
    redrive = {"deadLetterTargetArn": arn("dead"), "maxReceiveCount": 2}
    url = make(sqs, "source", RedrivePolicy=redrive, VisibilityTimeout="0")
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]
    sent = sqs.send_message(QueueUrl=url, MessageBody="poison")
    sqs.send_message(QueueUrl=url, MessageBody="poison too", DelaySeconds=900)
    assert bodies(sqs, url) == bodies(sqs, url) == ["poison"]
    assert bodies(sqs, url) == []
    (message,) = receive(sqs, dead, MessageSystemAttributeNames=["All"])
    assert message["MessageId"] == sent["MessageId"]
    assert message["Attributes"]["DeadLetterQueueSourceArn"] == arn("source")
    assert message["Attributes"]["ApproximateReceiveCount"] == "3"

    for policy, reason in {
        "[1]": "is not a valid JSON map",
        '{"maxReceiveCount":1}': "mandatory attribute: deadLetterTargetArn",
        json.dumps({"deadLetterTargetArn": arn("dead")}): "mandatory attribute: maxReceiveCount",
        json.dumps({"deadLetterTargetArn": arn("dead"), "maxReceiveCount": 1001}): "Invalid value for maxReceiveCount",
        json.dumps({"deadLetterTargetArn": arn("nobody"), "maxReceiveCount": 1}): "Dead letter target does not exist",
    }.items():
        code, words = refused(make, sqs=sqs, name="wrong", RedrivePolicy=policy)
        assert (code, reason in words) == ("InvalidParameterValue", True)
    fifo = {"FifoQueue": "true", "RedrivePolicy": redrive}
    assert "same type" in refused(make, sqs=sqs, name="wrong.fifo", **fifo)[1]
    sqs.set_queue_attributes(QueueUrl=dead, Attributes={"RedriveAllowPolicy": '{"redrivePermission":"denyAll"}'})
    assert refused(make, sqs=sqs, name="wrong", RedrivePolicy=redrive)[0] == "InvalidParameterValue"

    # Back to where it came from, as a new message.
    cloud.advance(31)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "30"})
    handle = sqs.start_message_move_task(SourceArn=arn("dead"))["TaskHandle"]
    (back,) = receive(sqs, url, WaitTimeSeconds=5, MessageSystemAttributeNames=["All"])
    assert (back["Body"], back["Attributes"]["ApproximateReceiveCount"]) == ("poison", "1")
    assert back["MessageId"] != sent["MessageId"]
    assert "DeadLetterQueueSourceArn" not in back["Attributes"]
    (task,) = _tasks(sqs, "COMPLETED")
    assert (task["ApproximateNumberOfMessagesMoved"], task["ApproximateNumberOfMessagesToMove"]) == (1, 1)
    assert "TaskHandle" not in task
    assert refused(sqs.cancel_message_move_task, TaskHandle=handle)[0] == "InvalidParameterValue"


def _tasks(sqs: Any, status: str) -> list[dict[str, Any]]:
    """The dead-letter queue's last task, once it has this status."""

    def look() -> list[dict[str, Any]]:
        found = sqs.list_message_move_tasks(SourceArn=arn("dead"))["Results"]
        return list(found) if found[0]["Status"] == status else []

    return eventually(look)


def test_move_tasks(cloud: LocalCloud, sqs: Any) -> None:
    dead, target = make(sqs, "dead"), make(sqs, "target")
    start = sqs.start_message_move_task
    assert "configured as a Dead Letter Queue" in refused(start, SourceArn=arn("dead"))[1]
    make(sqs, "source", RedrivePolicy={"deadLetterTargetArn": arn("dead"), "maxReceiveCount": 1})
    sqs.send_message_batch(QueueUrl=dead, Entries=[{"Id": str(n), "MessageBody": str(n)} for n in range(10)])
    assert refused(start, SourceArn=arn("dead"), DestinationArn=arn("nobody"))[0] == "ResourceNotFoundException"
    task = {"SourceArn": arn("dead"), "DestinationArn": arn("target"), "MaxNumberOfMessagesPerSecond": 1}
    handle = start(**task)["TaskHandle"]
    assert "already a task running" in refused(start, **task)[1]
    time.sleep(0.2)
    cloud.kill()
    cloud.start()
    # It goes on where it was.
    cloud.advance(1)
    assert receive(sqs, target, 1, WaitTimeSeconds=5)
    (running,) = _tasks(sqs, "RUNNING")
    assert running["TaskHandle"] == handle
    cancelled = sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
    assert 1 <= cancelled < 10
    assert _tasks(sqs, "CANCELLED")[0]["ApproximateNumberOfMessagesMoved"] == cancelled
    assert counted(sqs, dead)[0] == 10 - cancelled
    assert sum(counted(sqs, target)) == cancelled
    # Nobody knows where these came from.
    start(SourceArn=arn("dead"))
    assert _tasks(sqs, "FAILED")[0]["FailureReason"] == "CouldNotDetermineMessageSource"
    assert refused(sqs.cancel_message_move_task, TaskHandle="nonsense")[0] == "InvalidParameterValue"


def test_fifo(cloud: LocalCloud, sqs: Any) -> None:
    dead = make(sqs, "dead.fifo", FifoQueue="true")
    redrive = {"deadLetterTargetArn": arn("dead.fifo"), "maxReceiveCount": 3}
    url = make(sqs, "q.fifo", FifoQueue="true", ContentBasedDeduplication="true", RedrivePolicy=redrive)
    assert make(sqs, "q.fifo", FifoQueue="true") == url

    def send(body: str, group: str, **parameters: Any) -> dict[str, Any]:
        return dict(sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group, **parameters))

    first = send("a1", "a")
    assert send("a1", "a")["MessageId"] == first["MessageId"]
    assert send("a1", "a")["SequenceNumber"] == first["SequenceNumber"]
    assert len(first["SequenceNumber"]) == 20
    assert int(send("a2", "a")["SequenceNumber"]) > int(first["SequenceNumber"])
    send("b1", "b", MessageDeduplicationId="own")
    cloud.kill()
    cloud.start()
    assert send("a1", "a")["MessageId"] == first["MessageId"]
    assert counted(sqs, url) == (3, 0, 0)
    assert refused(sqs.send_message, QueueUrl=url, MessageBody="x")[0] == "MissingParameter"
    assert refused(send, body="x", group="a", DelaySeconds=3)[0] == "InvalidParameterValue"
    key = {"QueueUrl": dead, "MessageBody": "x", "MessageGroupId": "g"}
    assert "ContentBasedDeduplication enabled" in refused(sqs.send_message, **key)[1]

    # A group waits while one of its messages is in flight; another group does not.
    (one,) = receive(sqs, url, 1, MessageSystemAttributeNames=["All"])
    assert one["Body"] == "a1"
    assert one["Attributes"]["SequenceNumber"] == first["SequenceNumber"]
    assert one["Attributes"]["MessageDeduplicationId"] == hashlib.sha256(b"a1").hexdigest()
    assert bodies(sqs, url) == ["b1"]
    assert bodies(sqs, url) == []
    sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    (two,) = receive(sqs, url)
    assert two["Body"] == "a2"
    send("a3", "a")
    cloud.advance(31)
    assert refused(sqs.delete_message, QueueUrl=url, ReceiptHandle=two["ReceiptHandle"]) == (
        "InvalidParameterValue",
        f"Value {two['ReceiptHandle']} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
    )
    again = receive(sqs, url, VisibilityTimeout=0)
    # Group by group: the one that has waited longest first, and of each all that may be received.
    assert [message["Body"] for message in again] == ["b1", "a2", "a3"]
    assert sorted(bodies(sqs, url, VisibilityTimeout=0)) == ["a2", "a3", "b1"]
    # a2 and b1 have had their three receives, and the rest follows in order.
    assert bodies(sqs, url) == ["a3"]
    moved = receive(sqs, dead, MessageSystemAttributeNames=["All"])
    assert sorted(message["Body"] for message in moved) == ["a2", "b1"]
    assert {message["Attributes"]["DeadLetterQueueSourceArn"] for message in moved} == {arn("q.fifo")}
    # The window is over, so the same content is another message.
    cloud.advance(301)
    assert send("a1", "a")["MessageId"] != first["MessageId"]


def test_fifo_attempts_and_scope(cloud: LocalCloud, sqs: Any) -> None:
    url = make(
        sqs,
        "q.fifo",
        FifoQueue="true",
        DeduplicationScope="messageGroup",
        FifoThroughputLimit="perMessageGroupId",
        DelaySeconds="5",
    )
    entries = [
        {"Id": str(n), "MessageBody": f"{n}", "MessageGroupId": f"g{n % 2}", "MessageDeduplicationId": f"{n // 2}"}
        for n in range(6)
    ]
    assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 6
    assert counted(sqs, url) == (0, 0, 6)
    cloud.advance(6)
    batch = receive(sqs, url, 4, ReceiveRequestAttemptId="try")
    assert len(batch) == 4
    assert [message["Body"] for message in batch] == ["0", "2", "4", "1"]
    repeated = receive(sqs, url, 4, ReceiveRequestAttemptId="try")
    assert [(m["MessageId"], m["ReceiptHandle"]) for m in repeated] == [
        (m["MessageId"], m["ReceiptHandle"]) for m in batch
    ]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=batch[0]["ReceiptHandle"])
    assert receive(sqs, url, 4, ReceiveRequestAttemptId="try") == []
    assert counted(sqs, url) == (2, 3, 0)
    limits = {"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "queue"}
    assert refused(sqs.set_queue_attributes, QueueUrl=url, Attributes=limits)[0] == "InvalidAttributeValue"


def test_names_and_permissions(sqs: Any) -> None:
    """A queue may be given by its name alone; what only its owner may do cannot be permitted."""
    url = make(sqs, "q")
    sqs.send_message(QueueUrl="q", MessageBody="hi")
    assert bodies(sqs, "q") == ["hi"]
    assert refused(sqs.send_message, QueueUrl="nobody", MessageBody="hi")[0].endswith("NonExistentQueue")
    permit = {"QueueUrl": url, "Label": "l", "AWSAccountIds": ["111111111111"]}
    sqs.add_permission(**permit, Actions=["SendMessage"])
    policy = json.loads(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"])
    (statement,) = policy["Statement"]
    assert (statement["Action"], statement["Principal"]) == (
        "SQS:SendMessage",
        {"AWS": "arn:aws:iam::111111111111:root"},
    )
    assert "Already exists" in refused(sqs.add_permission, **permit, Actions=["SendMessage"])[1]
    assert "Only the queue owner" in refused(sqs.add_permission, **{**permit, "Label": "m"}, Actions=["DeleteQueue"])[1]
    sqs.remove_permission(QueueUrl=url, Label="l")
    assert "can't find label." in refused(sqs.remove_permission, QueueUrl=url, Label="l")[1]
    assert refused(sqs.untag_queue, QueueUrl=url, TagKeys=[])[0] == "InvalidParameterValue"
    large = [{"Id": "a", "MessageBody": "x" * 1_048_577}]
    assert refused(sqs.send_message_batch, QueueUrl=url, Entries=large)[0].endswith("BatchRequestTooLong")


def test_query_protocol(cloud: LocalCloud, sqs: Any) -> None:
    """Old SDKs post forms, also to the queue's own path."""
    import urllib.error
    import urllib.request

    url = make(sqs, "old")
    form = f"Action=SendMessage&MessageBody=hi&Version=2012-11-05&QueueUrl={url}".encode()
    scope = "test/20260101/us-east-1/sqs/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=x"}
    request = urllib.request.Request(url, data=form, headers=headers)
    with urllib.request.urlopen(request) as answer:
        assert b"<MD5OfMessageBody>49f68a5c8493ec2c0bf489821c21fc3b</MD5OfMessageBody>" in answer.read()
    # The path stands for the queue, and AttributeName may name what a message has.
    query = "Action=ReceiveMessage&Version=2012-11-05&AttributeName.1=SenderId"
    with urllib.request.urlopen(urllib.request.Request(f"{url}?{query}", headers=headers)) as answer:
        body = answer.read()
    assert b"<Body>hi</Body>" in body
    assert b"<Name>SenderId</Name>" in body
    gone = urllib.request.Request(f"{url}-gone?{query}", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(gone)
    assert b"The specified queue does not exist for this wsdl version." in caught.value.read()


def test_codes_of_both_protocols(sqs: Any) -> None:
    """Clients read the query protocol's code, and beside it the name that only JSON has."""
    url = make(sqs, "q")
    for body, old, new in (("", "MissingParameter", "MissingRequired"), ("a", "InvalidParameterValue", "Invalid")):
        with pytest.raises(ClientError) as caught:
            sqs.send_message(QueueUrl=url, MessageBody=body, DelaySeconds=901)
        error = caught.value.response["Error"]
        assert error["Code"] == old
        assert error["QueryErrorCode"].startswith(new)
        assert error["QueryErrorCode"].endswith("Exception")


def test_a_group_is_back_with_its_first_message(cloud: LocalCloud, sqs: Any) -> None:
    """What follows in the group stays in flight; a purge forgets what was sent."""
    url = make(sqs, "q.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    for body in ("a1", "a2", "b1"):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=body[0])
    first, second = receive(sqs, url, 2)
    assert [first["Body"], second["Body"]] == ["a1", "a2"]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"], VisibilityTimeout=0)
    assert bodies(sqs, url, VisibilityTimeout=0) == ["b1"]
    cloud.advance(31)
    first, second, _ = sorted(receive(sqs, url, 3), key=lambda message: str(message["Body"]))
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    assert bodies(sqs, url) == ["a1"]
    sqs.purge_queue(QueueUrl=url)
    sqs.send_message(QueueUrl=url, MessageBody="a1", MessageGroupId="a")
    assert bodies(sqs, url) == ["a1"]
