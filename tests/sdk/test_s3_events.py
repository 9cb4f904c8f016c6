"""S3 through boto3: notifications and lifecycle."""

from __future__ import annotations

import datetime
import io
import json
import time
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import refused

from cloudlet.testing import LocalCloud, eventually

DAY = 86_400


@pytest.fixture
def s3(cloud: LocalCloud) -> Any:
    client = cloud.client("s3")
    client.create_bucket(Bucket="bucket")
    return client


def receive(sqs: Any, url: str, count: int) -> list[dict[str, Any]]:
    """So many documents from a queue, and no more."""
    found: list[dict[str, Any]] = []
    for _ in range(20):
        if len(found) >= count:
            break
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            found.append(json.loads(message["Body"]))
    time.sleep(0.1)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    assert len(found) == count, found
    return found


def test_notifications(cloud: LocalCloud, s3: Any) -> None:
    sqs, sns = cloud.client("sqs"), cloud.client("sns")
    url = sqs.create_queue(QueueName="queue")["QueueUrl"]
    fan = sqs.create_queue(QueueName="fan")["QueueUrl"]
    arn = "arn:aws:sqs:us-east-1:000000000000:queue"
    topic = sns.create_topic(Name="topic")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:000000000000:fan")
    rules = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/"}, {"Name": "Suffix", "Value": ".jpg"}]}}
    queue = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"], "Filter": rules, "Id": "mine"}
    removal = {"TopicArn": topic, "Events": ["s3:ObjectRemoved:*"], "Filter": {"Key": {"FilterRules": [
        {"Name": "prefix", "Value": "out/"}]}}}  # fmt: skip

    def put(**configuration: Any) -> None:
        s3.put_bucket_notification_configuration(Bucket="bucket", NotificationConfiguration=configuration)

    put(QueueConfigurations=[queue], TopicConfigurations=[removal])
    (test,) = receive(sqs, url, 1)
    assert (test["Event"], test["Service"], test["Bucket"]) == ("s3:TestEvent", "Amazon S3", "bucket")
    (wrapped,) = receive(sqs, fan, 1)
    assert wrapped["Subject"] == "Amazon S3 Notification"
    assert json.loads(wrapped["Message"])["Event"] == "s3:TestEvent"
    known = s3.get_bucket_notification_configuration(Bucket="bucket")
    assert known["QueueConfigurations"][0]["Id"] == "mine"
    assert known["QueueConfigurations"][0]["Filter"]["Key"]["FilterRules"][0] == {"Name": "Prefix", "Value": "in/"}

    etag = s3.put_object(Bucket="bucket", Key="in/a b.jpg", Body=b"1234")["ETag"]
    s3.put_object(Bucket="bucket", Key="in/a.png", Body=b"")
    s3.put_object(Bucket="bucket", Key="out/x", Body=b"")
    (document,) = receive(sqs, url, 1)
    (record,) = document["Records"]
    assert (record["eventVersion"], record["eventSource"], record["awsRegion"]) == ("2.1", "aws:s3", "us-east-1")
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["requestParameters"] == {"sourceIPAddress": "127.0.0.1"}
    assert record["s3"]["configurationId"] == "mine"
    assert record["s3"]["bucket"]["arn"] == "arn:aws:s3:::bucket"
    subject = record["s3"]["object"]
    assert len(subject.pop("sequencer")) == 18
    assert subject == {"key": "in/a+b.jpg", "size": 4, "eTag": etag.strip('"')}

    # What waits for its delivery survives a kill.
    s3.copy_object(Bucket="bucket", Key="in/c.jpg", CopySource="bucket/in/a b.jpg")
    s3.delete_object(Bucket="bucket", Key="in/c.jpg")
    cloud.kill()
    cloud.start()
    names = {one["Records"][0]["eventName"] for one in _at_least(sqs, url, 2)}
    assert names == {"ObjectCreated:Copy", "ObjectRemoved:Delete"}
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    version = s3.delete_object(Bucket="bucket", Key="out/x")["VersionId"]
    (wrapped,) = receive(sqs, fan, 1)
    (record,) = json.loads(wrapped["Message"])["Records"]
    assert record["eventName"] == "ObjectRemoved:DeleteMarkerCreated"
    assert record["s3"]["object"]["versionId"] == version
    assert "size" not in record["s3"]["object"]

    invalid = "Unable to validate the following destination configurations"
    gone = {"QueueArn": f"{arn}-gone", "Events": ["s3:ObjectCreated:*"]}
    assert refused(put, QueueConfigurations=[gone]) == ("InvalidArgument", invalid)
    missing = {
        "LambdaFunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:no",
        "Events": ["s3:ObjectCreated:*"],
    }
    assert refused(put, LambdaFunctionConfigurations=[missing]) == ("InvalidArgument", invalid)
    assert refused(put, QueueConfigurations=[{"QueueArn": arn, "Events": ["s3:Nonsense"]}])[0] == "InvalidArgument"
    twice = [queue, {**queue, "Id": "other", "Events": ["s3:ObjectCreated:Put"]}]
    assert "Configurations overlap" in refused(put, QueueConfigurations=twice)[1]
    assert s3.get_bucket_notification_configuration(Bucket="bucket")["QueueConfigurations"][0]["Id"] == "mine"
    put()
    s3.put_object(Bucket="bucket", Key="in/z.jpg", Body=b"")
    receive(sqs, url, 0)


def _at_least(sqs: Any, url: str, count: int) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for _ in range(20):
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            document = json.loads(message["Body"])
            found[document["Records"][0]["s3"]["object"]["sequencer"] + document["Records"][0]["eventName"]] = document
        if len(found) == count:
            return list(found.values())
    raise AssertionError(found)


def test_functions(cloud: LocalCloud, s3: Any) -> None:
    """A function is invoked with the event; it needs no test event."""
    functions, logs = cloud.client("lambda"), cloud.client("logs")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        written.writestr(
            "index.py", "def handler(event, context):\n    print('got', event['Records'][0]['s3']['object']['key'])\n"
        )
    made = functions.create_function(
        FunctionName="told",
        Runtime="python3.11",
        Role="arn:aws:iam::000000000000:role/anyone",
        Handler="index.handler",
        Code={"ZipFile": packed.getvalue()},
    )
    s3.put_bucket_notification_configuration(
        Bucket="bucket",
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {"LambdaFunctionArn": made["FunctionArn"], "Events": ["s3:ObjectCreated:*"]}
            ]
        },
    )
    s3.put_object(Bucket="bucket", Key="for you", Body=b"1")

    def lines() -> list[dict[str, Any]]:
        try:
            return list(logs.filter_log_events(logGroupName="/aws/lambda/told", filterPattern="got")["events"])
        except ClientError:
            return []

    assert [line["message"].strip() for line in eventually(lines)] == ["got for+you"]


def test_event_bridge(cloud: LocalCloud, s3: Any) -> None:
    events, sqs = cloud.client("events"), cloud.client("sqs")
    url = sqs.create_queue(QueueName="queue")["QueueUrl"]
    events.put_rule(Name="r", EventPattern=json.dumps({"source": ["aws.s3"]}))
    events.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": "arn:aws:sqs:us-east-1:000000000000:queue"}])
    s3.put_bucket_notification_configuration(
        Bucket="bucket", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    assert s3.get_bucket_notification_configuration(Bucket="bucket")["EventBridgeConfiguration"] == {}
    s3.put_object(Bucket="bucket", Key="a b", Body=b"12")
    (event,) = receive(sqs, url, 1)
    assert (event["detail-type"], event["source"], event["resources"]) == (
        "Object Created",
        "aws.s3",
        ["arn:aws:s3:::bucket"],
    )
    detail = event["detail"]
    assert (detail["bucket"], detail["object"]["key"], detail["object"]["size"]) == ({"name": "bucket"}, "a b", 2)
    assert (detail["reason"], detail["requester"]) == ("PutObject", "000000000000")
    s3.delete_object(Bucket="bucket", Key="a b")
    (event,) = receive(sqs, url, 1)
    assert (event["detail-type"], event["detail"]["deletion-type"]) == ("Object Deleted", "Permanently Deleted")


def test_lifecycle(cloud: LocalCloud, s3: Any) -> None:
    """Rules are carried out at midnight, also those that became due while nobody ran."""
    this = {"Bucket": "bucket"}

    def keys() -> list[str]:
        return [one["Key"] for one in s3.list_objects_v2(**this).get("Contents", [])]

    def until(wanted: list[str]) -> None:
        eventually(lambda: keys() == wanted)

    def put(*rules: dict[str, Any]) -> None:
        s3.put_bucket_lifecycle_configuration(**this, LifecycleConfiguration={"Rules": list(rules)})

    tagged = {"And": {"Prefix": "t/", "Tags": [{"Key": "a", "Value": "1"}]}}
    put(
        {"ID": "tmp", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 1}},
        {"ID": "tag", "Status": "Enabled", "Filter": tagged, "Expiration": {"Days": 3}},
        {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}},
        {"ID": "up", "Status": "Enabled", "Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload":
         {"DaysAfterInitiation": 1}},
    )  # fmt: skip
    s3.put_object(**this, Key="keep", Body=b"")
    answer = s3.put_object(**this, Key="tmp/1", Body=b"")
    assert 'rule-id="tmp"' in answer["Expiration"]
    assert answer["Expiration"] == s3.head_object(**this, Key="tmp/1")["Expiration"]
    s3.put_object(**this, Key="t/1", Body=b"", Tagging="a=1")
    s3.put_object(**this, Key="t/2", Body=b"", Tagging="a=2")
    s3.create_multipart_upload(**this, Key="never")
    cloud.advance(2 * DAY)
    until(["keep", "t/1", "t/2"])
    eventually(lambda: "Uploads" not in s3.list_multipart_uploads(**this))
    cloud.kill()
    cloud.start()
    cloud.advance(2 * DAY)
    until(["keep", "t/2"])

    s3.put_bucket_versioning(**this, VersioningConfiguration={"Status": "Enabled"})
    put(
        {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1},
         "NoncurrentVersionExpiration": {"NoncurrentDays": 1}},
        {"ID": "b", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
    )  # fmt: skip
    s3.put_object(**this, Key="v", Body=b"1")
    cloud.advance(2 * DAY)
    until([])
    assert len(s3.list_object_versions(**this)["DeleteMarkers"]) == 3
    cloud.advance(2 * DAY)
    cloud.advance(DAY)
    eventually(lambda: not s3.list_object_versions(**this).keys() & {"Versions", "DeleteMarkers"})

    put({"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, "Transitions": [
        {"Days": 1, "StorageClass": "STANDARD_IA"}, {"Days": 3, "StorageClass": "GLACIER"}]})  # fmt: skip
    s3.put_object(**this, Key="large", Body=b"x" * 200_000)
    s3.put_object(**this, Key="small", Body=b"x")

    def classes(wanted: list[str]) -> None:
        eventually(lambda: [one["StorageClass"] for one in s3.list_objects_v2(**this)["Contents"]] == wanted)

    cloud.advance(2 * DAY)
    classes(["STANDARD_IA", "STANDARD"])
    cloud.advance(2 * DAY)
    classes(["GLACIER", "STANDARD"])
    assert refused(s3.get_object, **this, Key="large")[0] == "InvalidObjectState"

    no_action = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}}
    with pytest.raises(ClientError, match="At least one action"):
        put(no_action)
    with pytest.raises(ClientError, match="positive integer"):
        put({**no_action, "Expiration": {"Days": 0}})
    with pytest.raises(ClientError, match="midnight"):
        put({**no_action, "Expiration": {"Date": datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)}})
    s3.delete_bucket_lifecycle(**this)
