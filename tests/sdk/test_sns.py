"""SNS through boto3."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from callers import root_of
from queues import queue, receive
from refusals import refused

from cloudlet.testing import LocalCloud, eventually


class Endpoint:
    """A web server that keeps what is posted to it and answers ``status``."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[tuple[dict[str, str], str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                outer.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(outer.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/in"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_topic_life(cloud: LocalCloud) -> None:
    sns = cloud.client("sns")
    arn = sns.create_topic(Name="news", Attributes={"DisplayName": "News"}, Tags=[{"Key": "team", "Value": "a"}])[
        "TopicArn"
    ]
    assert arn == "arn:aws:sns:us-east-1:000000000000:news"
    assert sns.create_topic(Name="news")["TopicArn"] == arn
    assert refused(sns.create_topic, Name="news", Attributes={"DisplayName": "Other"})[0] == "InvalidParameter"
    assert refused(sns.create_topic, Name="a b") == ("InvalidParameter", "Invalid parameter: Topic Name")
    assert refused(sns.create_topic, Name="a", Attributes={"FifoTopic": "true"})[0] == "InvalidParameter"
    assert refused(sns.create_topic, Name="a", DataProtectionPolicy="{}")[0] == "NotImplemented"
    sns.set_topic_attributes(TopicArn=arn, AttributeName="KmsMasterKeyId", AttributeValue="alias/aws/sns")
    attributes = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    assert (attributes["DisplayName"], attributes["KmsMasterKeyId"]) == ("News", "alias/aws/sns")
    assert (attributes["SubscriptionsConfirmed"], attributes["Owner"]) == ("0", "000000000000")
    assert json.loads(attributes["EffectiveDeliveryPolicy"])["http"]["defaultHealthyRetryPolicy"]["numRetries"] == 3
    assert json.loads(attributes["Policy"])["Statement"][0]["Resource"] == arn

    sns.add_permission(TopicArn=arn, Label="one", AWSAccountId=["111111111111"], ActionName=["Publish"])
    policy = json.loads(sns.get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"])
    assert policy["Statement"][1]["Action"] == "SNS:Publish"
    sns.remove_permission(TopicArn=arn, Label="one")
    sns.tag_resource(ResourceArn=arn, Tags=[{"Key": "cost", "Value": "1"}])
    sns.untag_resource(ResourceArn=arn, TagKeys=["team"])
    assert sns.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "cost", "Value": "1"}]

    assert cloud.client("sns", region="eu-west-1").list_topics()["Topics"] == []
    cloud.kill()
    cloud.start()
    assert [topic["TopicArn"] for topic in sns.list_topics()["Topics"]] == [arn]
    sns.delete_topic(TopicArn=arn)
    sns.delete_topic(TopicArn=arn)
    assert refused(sns.publish, TopicArn=arn, Message="m") == ("NotFound", "Topic does not exist")
    assert (
        refused(sns.create_platform_application, Name="a", Platform="GCM", Attributes={"a": "b"})[0] == "NotImplemented"
    )


def test_queues_get_envelopes_raw_messages_and_what_passes_their_filters(cloud: LocalCloud) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name="orders")["TopicArn"]
    urls = {}

    def subscribe(name: str, **attributes: Any) -> str:
        urls[name], arn = queue(cloud, name)
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
        made = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=texts)
        return str(made["SubscriptionArn"])

    plain = subscribe("plain")
    subscribe("raw", RawMessageDelivery="true")
    subscribe("big", FilterPolicy={"total": [{"numeric": [">", 100]}], "kind": ["order", {"prefix": "re"}]})
    subscribe("body", FilterPolicy={"user": {"name": ["ann"]}}, FilterPolicyScope="MessageBody")
    attributes = {
        "kind": {"DataType": "String", "StringValue": "order"},
        "total": {"DataType": "Number", "StringValue": "120.5"},
        "picture": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    body = json.dumps({"user": {"name": "ann"}})
    sent = sns.publish(TopicArn=topic, Message=body, Subject="An order", MessageAttributes=attributes)
    sns.publish(TopicArn=topic, Message="small")

    # A standard topic's messages are in their queues when Publish answers.
    first, second = [json.loads(message["Body"]) for message in receive(cloud, urls["plain"], 0)]
    assert (first["MessageId"], first["Message"], first["Subject"]) == (sent["MessageId"], body, "An order")
    assert first["MessageAttributes"]["picture"] == {"Type": "Binary", "Value": "AP8="}
    assert second["Type"] == "Notification"
    assert "Subject" not in second
    raw = receive(cloud, urls["raw"], 0)
    assert [message["Body"] for message in raw] == [body, "small"]
    assert raw[0]["MessageAttributes"]["total"]["StringValue"] == "120.5"
    assert [json.loads(message["Body"])["Message"] for message in receive(cloud, urls["big"], 0)] == [body]
    assert [json.loads(message["Body"])["Message"] for message in receive(cloud, urls["body"], 0)] == [body]

    sns.publish(TopicArn=topic, Message=json.dumps({"default": "d", "sqs": "for queues"}), MessageStructure="json")
    assert json.loads(receive(cloud, urls["plain"], 0)[0]["Body"])["Message"] == "for queues"
    receive(cloud, urls["raw"], 0)
    entries = [{"Id": str(number), "Message": f"m{number}"} for number in range(3)]
    answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[*entries, {"Id": "bad", "Message": ""}])
    assert [entry["Id"] for entry in answer["Successful"]] == ["0", "1", "2"]
    assert [entry["Id"] for entry in answer["Failed"]] == ["bad"]
    assert [message["Body"] for message in receive(cloud, urls["raw"], 0)] == ["m0", "m1", "m2"]

    cloud.advance(61)
    metrics = cloud.client("cloudwatch")
    eventually(
        lambda: metrics.list_metrics(Namespace="AWS/SNS", MetricName="NumberOfNotificationsDelivered")["Metrics"]
    )

    # A subscription is known after a restart; unsubscribed, it gets nothing.
    cloud.kill()
    cloud.start()
    receive(cloud, urls["plain"], 0)
    sns.publish(TopicArn=topic, Message="after")
    assert len(receive(cloud, urls["plain"], 0)) == 1
    sns.unsubscribe(SubscriptionArn=plain)
    sns.publish(TopicArn=topic, Message="after")
    assert receive(cloud, urls["plain"], 0) == []
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsDeleted"] == "1"

    assert refused(sns.publish, TopicArn=topic, Message="")[1] == "Invalid parameter: Empty message"
    assert refused(sns.publish, TopicArn=topic, Message="x" * 262_145)[1] == "Invalid parameter: Message too long"
    assert refused(subscribe, name="q", FilterPolicy={"a": "b"})[0] == "InvalidParameter"
    assert refused(subscribe, name="q", FilterPolicy={"a": [{"nothing": 1}]})[0] == "InvalidParameter"
    assert refused(subscribe, name="q.fifo")[0] == "InvalidParameter"
    assert refused(sns.subscribe, TopicArn=topic, Protocol="firehose", Endpoint="arn")[0] == "NotImplemented"


def test_fifo_topics_keep_order_and_drop_duplicates(cloud: LocalCloud) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name="t.fifo", Attributes={"FifoTopic": "true", "ContentBasedDeduplication": "true"})[
        "TopicArn"
    ]
    url, arn = queue(cloud, "q.fifo")
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    sent = [sns.publish(TopicArn=topic, Message=f"{number}", MessageGroupId="g") for number in range(6)]
    numbers = [int(answer["SequenceNumber"]) for answer in sent]
    assert numbers == sorted(set(numbers))
    again = sns.publish(TopicArn=topic, Message="0", MessageGroupId="g")
    assert (again["MessageId"], again["SequenceNumber"]) == (sent[0]["MessageId"], sent[0]["SequenceNumber"])
    cloud.kill()
    cloud.start()
    got: list[dict[str, Any]] = []
    eventually(lambda: got.extend(receive(cloud, url)) or len(got) == 6)
    assert [message["Body"] for message in got] == ["0", "1", "2", "3", "4", "5"]
    assert got[0]["Attributes"]["MessageGroupId"] == "g"
    cloud.advance(301)
    assert sns.publish(TopicArn=topic, Message="0", MessageGroupId="g")["MessageId"] != sent[0]["MessageId"]
    assert [message["Body"] for message in receive(cloud, url)] == ["0"]
    assert "MessageGroupId" in refused(sns.publish, TopicArn=topic, Message="0")[1]


def verified(cloud: LocalCloud, message: dict[str, Any], fields: list[str], folder: Path) -> bool:
    """Whether the signature on a message is that of the certificate that it names."""
    text = "".join(f"{field}\n{message[field]}\n" for field in fields if field in message)
    with urllib.request.urlopen(message["SigningCertURL"]) as answer:
        (folder / "crt").write_bytes(answer.read())
    subprocess.run(["openssl", "x509", "-in", folder / "crt", "-pubkey", "-noout", "-out", folder / "key"], check=True)
    (folder / "text").write_text(text)
    (folder / "signature").write_bytes(base64.b64decode(message["Signature"]))
    digest = "-sha256" if message["SignatureVersion"] == "2" else "-sha1"
    check = ["openssl", "dgst", digest, "-verify", folder / "key", "-signature", folder / "signature", folder / "text"]
    return subprocess.run(check, capture_output=True).returncode == 0


def test_http_endpoints_confirm_get_signed_messages_and_are_tried_again(
    cloud: LocalCloud, endpoint: Endpoint, tmp_path: Path
) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name="web", Attributes={"SignatureVersion": "2"})["TopicArn"]
    dead, dead_arn = queue(cloud, "dead")
    retry = {"healthyRetryPolicy": {"numRetries": 2, "minDelayTarget": 30, "maxDelayTarget": 30}}
    made = sns.subscribe(
        TopicArn=topic,
        Protocol="http",
        Endpoint=endpoint.url,
        Attributes={
            "DeliveryPolicy": json.dumps(retry),
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": dead_arn}),
        },
    )
    assert made["SubscriptionArn"] == "pending confirmation"
    sns.publish(TopicArn=topic, Message="before anybody listens")
    headers, body = eventually(lambda: endpoint.requests)[0]
    asked = json.loads(body)
    assert headers["x-amz-sns-message-type"] == asked["Type"] == "SubscriptionConfirmation"
    fields = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    assert verified(cloud, asked, fields, tmp_path)
    assert refused(sns.confirm_subscription, TopicArn=topic, Token="0" * 40)[1] == "Invalid parameter: Token"
    with urllib.request.urlopen(asked["SubscribeURL"]) as answer:
        assert b"ConfirmSubscriptionResult" in answer.read()
    (subscription,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]

    sns.publish(TopicArn=topic, Message="hello", Subject="s")
    headers, body = eventually(lambda: endpoint.requests[1:])[0]
    message = json.loads(body)
    assert (message["Message"], message["SignatureVersion"]) == ("hello", "2")
    assert headers["x-amz-sns-subscription-arn"] == subscription["SubscriptionArn"]
    fields = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    assert verified(cloud, message, fields, tmp_path)
    assert not verified(cloud, {**message, "Message": "forged"}, fields, tmp_path)

    # Tried again in the policy's time, also by a cloud that was killed; then it is dead-lettered.
    endpoint.status = 503
    sns.publish(TopicArn=topic, Message="hard")
    eventually(lambda: len(endpoint.requests) == 3)
    time.sleep(0.1)
    cloud.kill()
    cloud.start()
    for count in (4, 5):
        cloud.advance(31)
        eventually(lambda count=count: len(endpoint.requests) >= count)
    (letter,) = receive(cloud, dead)
    assert json.loads(letter["Body"])["Message"] == "hard"
    # What the endpoint refuses is not tried again.
    endpoint.status = 400
    sns.publish(TopicArn=topic, Message="bad")
    assert json.loads(receive(cloud, dead)[0]["Body"])["Message"] == "bad"
    assert len(endpoint.requests) == 6


def test_functions_and_letters(cloud: LocalCloud) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name="all")["TopicArn"]
    url, _ = queue(cloud, "out")
    source = (
        "import boto3, json, os\n"
        "def handler(event, context):\n"
        f"    boto3.client('sqs').send_message(QueueUrl={url!r}, MessageBody=json.dumps(event))\n"
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        written.writestr("index.py", source)
    function = cloud.client("lambda").create_function(
        FunctionName="f",
        Runtime="python3.11",
        Handler="index.handler",
        Role="arn:aws:iam::000000000000:role/r",
        Timeout=30,
        Code={"ZipFile": packed.getvalue()},
    )["FunctionArn"]
    subscription = sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function)["SubscriptionArn"]
    sns.subscribe(TopicArn=topic, Protocol="sms", Endpoint="+4912345678")
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ann@example.com")
    sns.publish(TopicArn=topic, Message="hi", Subject="greeting")
    (record,) = json.loads(receive(cloud, url, 20)[0]["Body"])["Records"]
    assert (record["EventSource"], record["EventSubscriptionArn"]) == ("aws:sns", subscription)
    assert (record["Sns"]["Message"], record["Sns"]["Subject"], record["Sns"]["TopicArn"]) == ("hi", "greeting", topic)

    sns.publish(PhoneNumber="+4912345679", Message="direct")
    letters = eventually(lambda: len(found := cloud.control("sns/letters/000000000000/us-east-1")) == 3 and found)
    texts = {letter["address"]: letter["body"] for letter in letters if letter["kind"] == "sms"}
    assert texts == {"+4912345678": "hi", "+4912345679": "direct"}
    (asked,) = [letter for letter in letters if letter["kind"] == "email"]
    assert asked["address"] == "ann@example.com"
    assert "SubscribeURL" in asked["body"]


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Queue": {"Type": "AWS::SQS::Queue"},
        "Other": {"Type": "AWS::SQS::Queue"},
        "Topic": {
            "Type": "AWS::SNS::Topic",
            "Properties": {
                "DisplayName": "first",
                "Tags": [{"Key": "team", "Value": "a"}],
                "Subscription": [{"Protocol": "sqs", "Endpoint": {"Fn::GetAtt": ["Queue", "Arn"]}}],
            },
        },
        "Subscription": {
            "Type": "AWS::SNS::Subscription",
            "Properties": {
                "TopicArn": {"Ref": "Topic"},
                "Protocol": "sqs",
                "Endpoint": {"Fn::GetAtt": ["Other", "Arn"]},
                "RawMessageDelivery": True,
                "FilterPolicy": {"kind": ["a"]},
            },
        },
        "Policy": {
            "Type": "AWS::SNS::TopicPolicy",
            "Properties": {
                "Topics": [{"Ref": "Topic"}],
                "PolicyDocument": {"Statement": [{"Sid": "s", "Effect": "Allow", "Action": "sns:*", "Principal": "*"}]},
            },
        },
    },
    "Outputs": {
        "Topic": {"Value": {"Ref": "Topic"}},
        "Name": {"Value": {"Fn::GetAtt": ["Topic", "TopicName"]}},
        "Subscription": {"Value": {"Ref": "Subscription"}},
        "Other": {"Value": {"Ref": "Other"}},
    },
}


def test_a_stack_of_topics(cloud: LocalCloud) -> None:
    sns, stacks = cloud.client("sns"), cloud.client("cloudformation")
    stacks.create_stack(StackName="s", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    stack = stacks.describe_stacks(StackName="s")["Stacks"][0]
    out = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    topic = out["Topic"]
    assert topic.endswith(f":{out['Name']}")
    assert out["Name"].startswith("s-Topic-")
    assert len(sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]) == 2
    attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert json.loads(attributes["Policy"])["Statement"][0]["Sid"] == "s"
    sns.publish(TopicArn=topic, Message="m", MessageAttributes={"kind": {"DataType": "String", "StringValue": "a"}})
    assert [message["Body"] for message in receive(cloud, out["Other"], 0)] == ["m"]

    changed = json.loads(json.dumps(TEMPLATE))
    properties = changed["Resources"]["Topic"]["Properties"]
    properties["DisplayName"], properties["Subscription"] = "second", []
    changed["Resources"]["Subscription"]["Properties"]["FilterPolicy"] = {"kind": ["b"]}
    del changed["Resources"]["Policy"], changed["Resources"]["Subscription"]["Properties"]["RawMessageDelivery"]
    stacks.update_stack(StackName="s", TemplateBody=json.dumps(changed))
    stacks.get_waiter("stack_update_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert attributes["DisplayName"] == "second"
    assert json.loads(attributes["Policy"])["Id"] == "__default_policy_ID"
    (left,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert left["SubscriptionArn"] == out["Subscription"]
    found = sns.get_subscription_attributes(SubscriptionArn=out["Subscription"])["Attributes"]
    assert (json.loads(found["FilterPolicy"]), found["RawMessageDelivery"]) == ({"kind": ["b"]}, "false")

    stacks.delete_stack(StackName="s")
    stacks.get_waiter("stack_delete_complete").wait(StackName="s", WaiterConfig={"Delay": 1})
    assert sns.list_topics()["Topics"] == []
    assert sns.list_subscriptions()["Subscriptions"] == []


def test_a_topics_policy_lets_callers_in() -> None:
    with LocalCloud("--auth", "enforce") as cloud:
        root = root_of(cloud)
        iam, sns = cloud.client("iam", **root), cloud.client("sns", **root)
        user = iam.create_user(UserName="ann")["User"]["Arn"]
        key = iam.create_access_key(UserName="ann")["AccessKey"]
        ann = {"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]}
        topic = sns.create_topic(Name="t")["TopicArn"]
        publish = cloud.client("sns", **ann).publish
        assert refused(publish, TopicArn=topic, Message="m")[0].startswith("A")
        statement = {"Effect": "Allow", "Principal": {"AWS": user}, "Action": "sns:Publish", "Resource": topic}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
        assert publish(TopicArn=topic, Message="m")["MessageId"]


def test_batches_and_repeated_requests(cloud: LocalCloud) -> None:
    """What repeats a request in fewer words is the same request; a batch that cannot be understood sends nothing."""
    sns = cloud.client("sns")
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    topic = sns.create_topic(Name="t", Tags=tags)["TopicArn"]
    assert sns.create_topic(Name="t", Tags=tags[:1])["TopicArn"] == topic
    with pytest.raises(ClientError, match="Topic already exists with different tags"):
        sns.create_topic(Name="t", Tags=[{"Key": "a", "Value": "2"}])
    queue = cloud.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    endpoint = {"TopicArn": topic, "Protocol": "sqs", "Endpoint": "arn:aws:sqs:us-east-1:000000000000:q"}
    raw = {"RawMessageDelivery": "true"}
    made = sns.subscribe(**endpoint, Attributes=raw)
    again = sns.subscribe(**endpoint, Attributes={**raw, "FilterPolicyScope": "MessageAttributes"})
    assert again["SubscriptionArn"] == made["SubscriptionArn"]
    arn = made["SubscriptionArn"]
    with pytest.raises(ClientError, match=r"RawMessageDelivery: Invalid value \[\]"):
        sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName="RawMessageDelivery", AttributeValue="")

    typeless = {"kind": {"DataType": "String.", "StringValue": "x"}}
    entries = [{"Id": "good", "Message": "x"}, {"Id": "bad", "Message": "x", "MessageAttributes": typeless}]
    with pytest.raises(ClientError, match="has an invalid message attribute type"):
        sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    with pytest.raises(ClientError, match="contains an impermissible character"):
        sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": "a.b", "Message": "x"}])
    with pytest.raises(ClientError, match="Invalid parameter: TopicArn"):
        cloud.client("sns", "eu-west-1").publish(TopicArn=topic, Message="x")
    assert receive(cloud, queue, 0) == []
    with pytest.raises(ClientError, match="Colour is not a valid attribute"):
        sns.set_sms_attributes(attributes={"Colour": "red"})
