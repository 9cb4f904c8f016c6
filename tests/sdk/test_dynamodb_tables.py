"""DynamoDB through boto3: tables and what is set on them, expiry and streams."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from refusals import refused

from cloudlet.testing import LocalCloud, eventually

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/"


@pytest.fixture
def dynamodb(cloud: LocalCloud) -> Any:
    return cloud.client("dynamodb")


def make(dynamodb: Any, name: str, **more: Any) -> dict[str, Any]:
    request = {
        "TableName": name,
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
        **more,
    }
    return dict(dynamodb.create_table(**request)["TableDescription"])


def put(dynamodb: Any, table: str, id: str, **more: Any) -> None:
    dynamodb.put_item(TableName=table, Item={"id": {"S": id}, **more})


def ids(dynamodb: Any, table: str) -> list[str]:
    return sorted(item["id"]["S"] for item in dynamodb.scan(TableName=table)["Items"])


def test_the_life_of_a_table(cloud: LocalCloud, dynamodb: Any) -> None:
    table = make(
        dynamodb,
        "orders",
        BillingMode="PROVISIONED",
        ProvisionedThroughput={"ReadCapacityUnits": 3, "WriteCapacityUnits": 4},
        Tags=[{"Key": "team", "Value": "a"}],
        SSESpecification={"Enabled": True},
        TableClass="STANDARD_INFREQUENT_ACCESS",
        DeletionProtectionEnabled=True,
    )
    assert table["TableArn"] == ARN + "orders"
    dynamodb.get_waiter("table_exists").wait(TableName="orders")
    cloud.kill()
    cloud.start()
    table = dynamodb.describe_table(TableName=ARN + "orders")["Table"]
    assert table["TableStatus"] == "ACTIVE"
    assert table["ProvisionedThroughput"]["WriteCapacityUnits"] == 4
    assert table["SSEDescription"]["SSEType"] == "KMS"
    assert table["TableClassSummary"] == {"TableClass": "STANDARD_INFREQUENT_ACCESS"}
    assert "BillingModeSummary" not in table
    assert refused(make, dynamodb=dynamodb, name="orders") == (
        "ResourceInUseException",
        "Table already exists: orders",
    )
    assert refused(dynamodb.delete_table, TableName="orders")[1].startswith("Resource cannot be deleted as it is")
    updated = dynamodb.update_table(TableName="orders", BillingMode="PAY_PER_REQUEST", DeletionProtectionEnabled=False)[
        "TableDescription"
    ]
    assert updated["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert updated["ProvisionedThroughput"]["ReadCapacityUnits"] == 0
    for name in ("a-1", "a-2", "a-3"):
        make(dynamodb, name)
    pages = dynamodb.get_paginator("list_tables").paginate(PaginationConfig={"PageSize": 3})
    assert [page["TableNames"] for page in pages] == [["a-1", "a-2", "a-3"], ["orders"]]
    assert cloud.client("dynamodb", region="eu-west-1").list_tables()["TableNames"] == []

    put(dynamodb, "orders", "x")
    dynamodb.delete_table(TableName="orders")
    dynamodb.get_waiter("table_not_exists").wait(TableName="orders")
    assert refused(dynamodb.describe_table, TableName="orders") == (
        "ResourceNotFoundException",
        "Requested resource not found: Table: orders not found",
    )
    make(dynamodb, "orders")
    assert ids(dynamodb, "orders") == []


def test_definitions_that_are_wrong(dynamodb: Any) -> None:
    words = "One or more parameter values were invalid: "
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"name": "ab"}, "TableName must be at least 3 characters long and at most 255 characters long"),
        ({"BillingMode": "PROVISIONED"}, words + "ReadCapacityUnits and WriteCapacityUnits must both be specified"),
        (
            {"ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}},
            words + "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified",
        ),
        (
            {"KeySchema": [{"AttributeName": "id", "KeyType": "RANGE"}]},
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
        ),
        (
            {"KeySchema": [{"AttributeName": "other", "KeyType": "HASH"}]},
            words + "Some index key attributes are not defined in AttributeDefinitions. Keys: [other]",
        ),
        (
            {"AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("id", "more")]},
            words + "Number of attributes in KeySchema does not exactly match number of attributes defined",
        ),
        ({"StreamSpecification": {"StreamEnabled": True}}, words + "StreamViewType must be specified"),
    ]
    for parameters, message in wrong:
        code, found = refused(make, dynamodb=dynamodb, **{"name": "wrong", **parameters})
        assert code == "ValidationException"
        assert found.startswith(message)
    assert dynamodb.list_tables()["TableNames"] == []


def test_an_index_is_built_from_what_is_there(cloud: LocalCloud, dynamodb: Any) -> None:
    make(dynamodb, "items")
    for first in range(0, 500, 25):
        requests = [
            {"PutRequest": {"Item": {"id": {"S": str(number)}, "kind": {"S": "even" if number % 2 == 0 else "odd"}}}}
            for number in range(first, first + 25)
        ]
        dynamodb.batch_write_item(RequestItems={"items": requests})
    put(dynamodb, "items", "misfit", kind={"N": "1"})
    create = {
        "IndexName": "by-kind",
        "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }
    change = {
        "TableName": "items",
        "AttributeDefinitions": [{"AttributeName": "kind", "AttributeType": "S"}],
        "GlobalSecondaryIndexUpdates": [{"Create": create}],
    }
    described = dynamodb.update_table(**change)["TableDescription"]
    assert described["TableStatus"] == "UPDATING"
    assert described["GlobalSecondaryIndexes"][0]["IndexStatus"] == "CREATING"
    # The building goes on after a kill.
    cloud.kill()
    cloud.start()

    def index() -> dict[str, Any]:
        return dict(dynamodb.describe_table(TableName="items")["Table"]["GlobalSecondaryIndexes"][0])

    eventually(lambda: index()["IndexStatus"] == "ACTIVE")
    assert index()["ItemCount"] == 500
    found = dynamodb.query(
        TableName="items",
        IndexName="by-kind",
        KeyConditionExpression="kind = :k",
        ExpressionAttributeValues={":k": {"S": "odd"}},
    )
    assert found["Count"] == 250
    assert refused(dynamodb.update_table, **change)[1].startswith("Attempting to create an index which already exists")
    assert refused(dynamodb.put_item, TableName="items", Item={"id": {"S": "x"}, "kind": {"N": "1"}})[0] == (
        "ValidationException"
    )
    dynamodb.delete_item(TableName="items", Key={"id": {"S": "misfit"}})
    dynamodb.update_table(TableName="items", GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "by-kind"}}])
    table = dynamodb.describe_table(TableName="items")["Table"]
    assert "GlobalSecondaryIndexes" not in table
    assert table["AttributeDefinitions"] == [{"AttributeName": "id", "AttributeType": "S"}]


def test_tags_backups_policies_and_the_rest(dynamodb: Any) -> None:
    make(dynamodb, "kept")
    arn = ARN + "kept"
    dynamodb.tag_resource(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    dynamodb.untag_resource(ResourceArn=arn, TagKeys=["a"])
    assert dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]

    def recovery() -> dict[str, Any]:
        described = dynamodb.describe_continuous_backups(TableName="kept")["ContinuousBackupsDescription"]
        return dict(described["PointInTimeRecoveryDescription"])

    assert recovery() == {"PointInTimeRecoveryStatus": "DISABLED"}
    dynamodb.update_continuous_backups(
        TableName="kept",
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True, "RecoveryPeriodInDays": 7},
    )
    assert recovery()["RecoveryPeriodInDays"] == 7
    assert refused(dynamodb.describe_continuous_backups, TableName="none")[0] == "TableNotFoundException"

    assert refused(dynamodb.get_resource_policy, ResourceArn=arn)[0] == "PolicyNotFoundException"
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    revision = dynamodb.put_resource_policy(ResourceArn=arn, Policy=policy)["RevisionId"]
    assert dynamodb.get_resource_policy(ResourceArn=arn)["Policy"] == policy
    assert refused(dynamodb.delete_resource_policy, ResourceArn=arn, ExpectedRevisionId="1")[0] == (
        "PolicyNotFoundException"
    )
    dynamodb.delete_resource_policy(ResourceArn=arn, ExpectedRevisionId=revision)
    assert dynamodb.describe_limits()["TableMaxReadCapacityUnits"] == 40000
    assert dynamodb.describe_endpoints()["Endpoints"][0]["CachePeriodInMinutes"] == 1440
    assert dynamodb.describe_time_to_live(TableName="kept")["TimeToLiveDescription"] == {"TimeToLiveStatus": "DISABLED"}
    assert refused(dynamodb.create_backup, TableName="kept", BackupName="now")[0] == "NotImplemented"


def test_items_expire_by_the_clock(cloud: LocalCloud, dynamodb: Any) -> None:
    make(
        dynamodb,
        "sessions",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "OLD_IMAGE"},
    )
    now = int(time.time())
    put(dynamodb, "sessions", "before", ends={"N": str(now + 100)})
    specification = {"AttributeName": "ends", "Enabled": True}
    dynamodb.update_time_to_live(TableName="sessions", TimeToLiveSpecification=specification)
    assert refused(dynamodb.update_time_to_live, TableName="sessions", TimeToLiveSpecification=specification)[
        1
    ].endswith("TimeToLive is already enabled")
    put(dynamodb, "sessions", "later", ends={"N": str(now + 1000)})
    put(dynamodb, "sessions", "text", ends={"S": "now"})
    put(dynamodb, "sessions", "long ago", ends={"N": "1"})
    put(dynamodb, "sessions", "never", ends={"N": "1" + "0" * 17})
    dynamodb.delete_item(TableName="sessions", Key={"id": {"S": "never"}})
    put(dynamodb, "sessions", "prolonged", ends={"N": str(now + 100)})
    put(dynamodb, "sessions", "prolonged", ends={"N": str(now + 5000)})
    cloud.advance(200)
    eventually(lambda: ids(dynamodb, "sessions") == ["later", "long ago", "prolonged", "text"])
    removed = records(cloud, "sessions")[-1]
    assert removed["eventName"] == "REMOVE"
    assert removed["userIdentity"] == {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
    cloud.kill()
    cloud.start()
    cloud.advance(1000)
    eventually(lambda: ids(dynamodb, "sessions") == ["long ago", "prolonged", "text"])
    dynamodb.update_time_to_live(
        TableName="sessions", TimeToLiveSpecification={"AttributeName": "ends", "Enabled": False}
    )
    cloud.advance(5000)
    time.sleep(0.1)
    assert ids(dynamodb, "sessions") == ["long ago", "prolonged", "text"]


def records(cloud: LocalCloud, table: str) -> list[dict[str, Any]]:
    """All records of a table's latest stream."""
    arn = cloud.client("dynamodb").describe_table(TableName=table)["Table"]["LatestStreamArn"]
    return read(cloud.client("dynamodbstreams"), arn)


def read(streams: Any, arn: str, kind: str = "TRIM_HORIZON", **place: Any) -> list[dict[str, Any]]:
    found = []
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType=kind, **place)[
            "ShardIterator"
        ]
        while iterator:
            answer = streams.get_records(ShardIterator=iterator, Limit=2)
            if not answer["Records"]:
                break
            found += answer["Records"]
            iterator = answer.get("NextShardIterator")
    return found


def test_a_stream_has_every_change_in_order(cloud: LocalCloud, dynamodb: Any) -> None:
    streams = cloud.client("dynamodbstreams")
    view = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    arn = make(dynamodb, "watched", StreamSpecification=view)["LatestStreamArn"]
    put(dynamodb, "watched", "a", n={"N": "1"}, b={"B": b"\x00"})
    put(dynamodb, "watched", "a", n={"N": "1"}, b={"B": b"\x00"})  # changes nothing
    dynamodb.transact_write_items(
        TransactItems=[
            {
                "Update": {
                    "TableName": "watched",
                    "Key": {"id": {"S": "a"}},
                    "UpdateExpression": "SET n = :two",
                    "ExpressionAttributeValues": {":two": {"N": "2"}},
                }
            },
            {"Put": {"TableName": "watched", "Item": {"id": {"S": "b"}}}},
        ]
    )
    dynamodb.delete_item(TableName="watched", Key={"id": {"S": "a"}})
    assert (
        refused(
            dynamodb.put_item,
            TableName="watched",
            Item={"id": {"S": "b"}, "x": {"S": "y"}},
            ConditionExpression="attribute_not_exists(id)",
        )[0]
        == "ConditionalCheckFailedException"
    )
    cloud.kill()
    cloud.start()
    found = read(streams, arn)
    old, new = (
        {"id": {"S": "a"}, "n": {"N": "1"}, "b": {"B": b"\x00"}},
        {"id": {"S": "a"}, "n": {"N": "2"}, "b": {"B": b"\x00"}},
    )
    assert [
        (
            one["eventName"],
            one["dynamodb"]["Keys"]["id"]["S"],
            one["dynamodb"].get("OldImage"),
            one["dynamodb"].get("NewImage"),
        )
        for one in found
    ] == [
        ("INSERT", "a", None, old),
        ("MODIFY", "a", old, new),
        ("INSERT", "b", None, {"id": {"S": "b"}}),
        ("REMOVE", "a", new, None),
    ]
    numbers = [one["dynamodb"]["SequenceNumber"] for one in found]
    assert numbers == sorted(set(numbers))
    after = read(streams, arn, "AFTER_SEQUENCE_NUMBER", SequenceNumber=numbers[1])
    assert [one["eventID"] for one in after] == [one["eventID"] for one in found[2:]]
    assert len(read(streams, arn, "AT_SEQUENCE_NUMBER", SequenceNumber=numbers[1])) == 3
    assert read(streams, arn, "LATEST") == []

    dynamodb.update_table(TableName="watched", StreamSpecification={"StreamEnabled": False})
    put(dynamodb, "watched", "unseen")
    closed = streams.describe_stream(StreamArn=arn)["StreamDescription"]
    assert closed["StreamStatus"] == "DISABLED"
    assert "EndingSequenceNumber" in closed["Shards"][0]["SequenceNumberRange"]
    assert len(read(streams, arn)) == 4
    dynamodb.update_table(
        TableName="watched", StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    )
    put(dynamodb, "watched", "c")
    assert [sorted(one["dynamodb"]) for one in records(cloud, "watched")] == [
        ["ApproximateCreationDateTime", "Keys", "SequenceNumber", "SizeBytes", "StreamViewType"]
    ]
    assert len(streams.list_streams(TableName="watched")["Streams"]) == 2

    # A record lives for a day, and a stream that is off as long.
    cloud.advance(23 * 3600)
    assert len(read(streams, arn)) == 4
    cloud.advance(2 * 3600)
    assert records(cloud, "watched") == []
    assert refused(streams.describe_stream, StreamArn=arn)[0] == "ResourceNotFoundException"
    assert len(streams.list_streams(TableName="watched")["Streams"]) == 1


HANDLER = """
import boto3, os
def handler(event, context):
    table = boto3.client("dynamodb")
    for record in event["Records"]:
        table.put_item(TableName="seen", Item={"id": record["dynamodb"]["Keys"]["id"], "n": {"S": record["eventName"]}})
"""


def test_a_function_is_run_for_a_change(cloud: LocalCloud, dynamodb: Any) -> None:
    import io
    import zipfile

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", HANDLER)
    make(dynamodb, "seen")
    arn = make(dynamodb, "source", StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"})[
        "LatestStreamArn"
    ]
    functions = cloud.client("lambda")
    functions.create_function(
        FunctionName="watcher",
        Runtime="python3.12",
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": archive.getvalue()},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="watcher")
    functions.create_event_source_mapping(
        FunctionName="watcher", EventSourceArn=arn, StartingPosition="TRIM_HORIZON", BatchSize=10
    )
    put(dynamodb, "source", "one")
    eventually(lambda: ids(dynamodb, "seen") == ["one"], 20)
    put(dynamodb, "source", "two")
    eventually(lambda: ids(dynamodb, "seen") == ["one", "two"], 10)
