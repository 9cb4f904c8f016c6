"""What any HTTP client sees of the APIs, whatever service it speaks to."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime

from cloudlet.testing.local import LocalCloud


def ask(cloud: LocalCloud, method: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(cloud.endpoint, body or None, given, method=method)
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()


def dynamodb(cloud: LocalCloud, operation: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    kind = {"Content_Type": "application/x-amz-json-1.0", "X_Amz_Target": f"DynamoDB_20120810.{operation}"}
    return ask(cloud, "POST", body, **kind, **headers)


def test_answers_say_when_they_were_made_and_are_empty_where_nothing_comes_out(cloud: LocalCloud) -> None:
    client = cloud.client("dynamodb")
    client.create_table(
        TableName="things",
        AttributeDefinitions=[{"AttributeName": "p", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    arn = client.describe_table(TableName="things")["Table"]["TableArn"]
    tags = json.dumps({"ResourceArn": arn, "Tags": [{"Key": "k", "Value": "v"}]}).encode()
    status, headers, body = dynamodb(cloud, "TagResource", tags)
    assert (status, body) == (200, b"")
    assert abs(parsedate_to_datetime(headers["date"]).timestamp() - time.time()) < 5
    status, _, body = dynamodb(cloud, "ListTables", b"null")
    assert (status, json.loads(body)["__type"]) == (400, "com.amazon.coral.service#SerializationException")
    status, _, body = dynamodb(cloud, "NoSuchThing", b"{}")
    assert (status, json.loads(body)["__type"]) == (400, "com.amazon.coral.service#UnknownOperationException")


def test_pages_of_this_machine_may_call_and_no_others(cloud: LocalCloud) -> None:
    question = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "x-amz-target"}
    status, headers, _ = ask(cloud, "OPTIONS", Origin="http://localhost:3000", **question)
    assert (status, headers["access-control-allow-origin"]) == (200, "*")
    assert headers["access-control-allow-headers"] == "x-amz-target"
    _, headers, _ = dynamodb(cloud, "ListTables", b"{}", Origin="http://localhost:3000")
    assert headers["access-control-allow-origin"] == "*"
    status, headers, _ = ask(cloud, "OPTIONS", Origin="https://evil.example", **question)
    assert (status, headers.get("access-control-allow-origin")) == (403, None)
    status, headers, _ = dynamodb(cloud, "ListTables", b"{}", Origin="https://evil.example")
    assert (status, headers.get("access-control-allow-origin")) == (403, None)
