"""DynamoDB through boto3: items, expressions, reads, batches and transactions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import refused

from cloudlet.testing.local import LocalCloud


@pytest.fixture
def dynamodb(cloud: LocalCloud) -> Any:
    return cloud.client("dynamodb")


def make(dynamodb: Any, name: str, keys: str = "pk:S sk:N", **more: Any) -> str:
    """A table from its keys' names and types; further definitions come after a bar."""
    own, _, others = keys.partition("|")
    parts = [part.split(":") for part in own.split()]
    defined = parts + [part.split(":") for part in others.split()]
    dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": part, "AttributeType": kind} for part, kind in defined],
        KeySchema=[
            {"AttributeName": part, "KeyType": kind} for (part, _), kind in zip(parts, ("HASH", "RANGE"), strict=False)
        ],
        BillingMode="PAY_PER_REQUEST",
        **more,
    )
    return name


def row(pk: str, sk: int | str, **more: Any) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"N": str(sk)}, **more}


def test_an_item_of_every_type_comes_back_after_a_kill(cloud: LocalCloud, dynamodb: Any) -> None:
    make(dynamodb, "things", "id:B")
    item = {
        "id": {"B": b"\x00\xff"},
        "text": {"S": "Grüße \U0001f600"},
        "empty": {"S": ""},
        "number": {"N": "-1.5"},
        "yes": {"BOOL": True},
        "nothing": {"NULL": True},
        "list": {"L": [{"S": "a"}, {"M": {"deep": {"B": b"bytes"}}}]},
        "texts": {"SS": ["a", "b"]},
        "numbers": {"NS": ["1", "2.5"]},
        "blobs": {"BS": [b"x", b"y"]},
    }
    dynamodb.put_item(TableName="things", Item=item)
    assert dynamodb.get_item(TableName="things", Key={"id": {"B": b"\x00\xff"}})["Item"] == item
    cloud.kill()
    cloud.start()
    found = dynamodb.get_item(TableName="things", Key={"id": {"B": b"\x00\xff"}}, ConsistentRead=True)
    assert found["Item"] == item
    assert "Item" not in dynamodb.get_item(TableName="things", Key={"id": {"B": b"other"}})


def test_numbers_are_exact_and_equal_whatever_their_form(dynamodb: Any) -> None:
    make(dynamodb, "numbers", "n:N")
    for given, kept in (
        ("007", "7"),
        ("1.50", "1.5"),
        ("1E3", "1000"),
        ("-0", "0"),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("1e-130", "0." + "0" * 129 + "1"),
    ):
        dynamodb.put_item(TableName="numbers", Item={"n": {"N": given}})
        assert dynamodb.get_item(TableName="numbers", Key={"n": {"N": kept}})["Item"] == {"n": {"N": kept}}
    for given, words in (
        ("x", "The parameter cannot be converted to a numeric value: x"),
        ("1e126", "Number overflow. Attempting to store a number with magnitude larger than supported range"),
        ("1" * 39, "Attempting to store more than 38 significant digits in a Number"),
    ):
        code, message = refused(dynamodb.put_item, TableName="numbers", Item={"n": {"N": given}})
        assert code == "ValidationException"
        assert message.endswith(words)


def test_what_is_refused_changes_nothing(dynamodb: Any) -> None:
    make(dynamodb, "strict", "pk:S sk:N|g:S", GlobalSecondaryIndexes=[index("by-g", "g")])
    put = {"TableName": "strict"}
    assert refused(dynamodb.put_item, TableName="nowhere", Item=row("a", 1)) == (
        "ResourceNotFoundException",
        "Requested resource not found",
    )
    words = "One or more parameter values were invalid: "
    assert refused(dynamodb.put_item, **put, Item={"pk": {"S": "a"}})[1] == words + "Missing the key sk in the item"
    assert refused(dynamodb.put_item, **put, Item={"pk": {"N": "1"}, "sk": {"N": "1"}})[1] == (
        words + "Type mismatch for key pk expected: S actual: N"
    )
    assert refused(dynamodb.put_item, **put, Item=row("", 1))[1] == (
        "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty "
        "string value. Key: pk"
    )
    assert refused(dynamodb.put_item, **put, Item=row("a", 1, g={"N": "1"}))[1] == (
        words + "Type mismatch for Index Key g Expected: S Actual: N IndexName: by-g"
    )
    assert refused(dynamodb.put_item, **put, Item=row("a" * 2049, 1))[1].startswith(words + "Size of hashkey")
    assert refused(dynamodb.put_item, **put, Item=row("a", 1, big={"S": "x" * 409_591}))[1] == (
        "Item size has exceeded the maximum allowed size"
    )
    assert refused(dynamodb.put_item, **put, Item=row("a", 1, set={"SS": []}))[1].endswith(
        "An string set  may not be empty"
    )
    assert refused(dynamodb.get_item, **put, Key={"pk": {"S": "a"}})[1] == (
        "The provided key element does not match the schema"
    )
    assert (
        refused(
            dynamodb.update_item,
            **put,
            Key=row("a", 1),
            UpdateExpression="SET sk = :n",
            ExpressionAttributeValues={":n": {"N": "2"}},
        )[1]
        == words + "Cannot update attribute sk. This attribute is part of the key"
    )
    assert refused(dynamodb.update_item, **put, Key=row("a", 1), UpdateExpression="SET size = size")[1].endswith(
        "Invalid UpdateExpression: Attribute name is a reserved keyword; reserved keyword: size"
    )
    assert dynamodb.scan(TableName="strict")["Count"] == 0


def index(name: str, hash: str, range: str = "", projection: Any = None) -> dict[str, Any]:
    keys = [{"AttributeName": hash, "KeyType": "HASH"}]
    if range:
        keys.append({"AttributeName": range, "KeyType": "RANGE"})
    return {"IndexName": name, "KeySchema": keys, "Projection": projection or {"ProjectionType": "ALL"}}


def test_conditions_and_return_values(dynamodb: Any) -> None:
    make(dynamodb, "orders")
    put = {"TableName": "orders", "ConditionExpression": "attribute_not_exists(pk)"}
    dynamodb.put_item(Item=row("a", 1, state={"S": "new"}), **put)
    with pytest.raises(ClientError) as caught:
        dynamodb.put_item(Item=row("a", 1), ReturnValuesOnConditionCheckFailure="ALL_OLD", **put)
    assert caught.value.response["Error"]["Code"] == "ConditionalCheckFailedException"
    assert caught.value.response["Item"] == row("a", 1, state={"S": "new"})

    def update(expression: str, returned: str, condition: str = "", names: Any = None, **values: Any) -> Any:
        request: dict[str, Any] = {"UpdateExpression": expression, "ReturnValues": returned}
        if values:
            request["ExpressionAttributeValues"] = {f":{name}": value for name, value in values.items()}
        if names:
            request["ExpressionAttributeNames"] = names
        if condition:
            request["ConditionExpression"] = condition
        answer = dynamodb.update_item(TableName="orders", Key=row("a", 1), **request)
        return answer.get("Attributes")

    assert update("SET #s = :s, n = :n", "UPDATED_OLD", names={"#s": "state"}, s={"S": "paid"}, n={"N": "1"}) == {
        "state": {"S": "new"}
    }
    assert update("ADD n :n, tags :t", "UPDATED_NEW", n={"N": "0.5"}, t={"SS": ["x"]}) == {
        "n": {"N": "1.5"},
        "tags": {"SS": ["x"]},
    }
    assert (
        update("SET m = if_not_exists(m, :m), l = list_append(:l, :l)", "NONE", m={"M": {}}, l={"L": [{"N": "1"}]})
        is None
    )
    assert update("SET m.a = n - :one REMOVE l[0] DELETE tags :t", "ALL_NEW", one={"N": "1"}, t={"SS": ["x"]}) == row(
        "a", 1, state={"S": "paid"}, n={"N": "1.5"}, m={"M": {"a": {"N": "0.5"}}}, l={"L": [{"N": "1"}]}
    )
    assert refused(update, expression="SET n = :n", returned="NONE", condition="n > :n", n={"N": "2"})[0] == (
        "ConditionalCheckFailedException"
    )
    assert refused(update, expression="SET x.y = :n", returned="NONE", n={"N": "2"})[1] == (
        "The document path provided in the update expression is invalid for update"
    )
    # An update makes the item that is not there.
    dynamodb.update_item(TableName="orders", Key=row("a", 2))
    deleted = dynamodb.delete_item(TableName="orders", Key=row("a", 2), ReturnValues="ALL_OLD")
    assert deleted["Attributes"] == row("a", 2)
    assert "Attributes" not in dynamodb.delete_item(TableName="orders", Key=row("a", 2), ReturnValues="ALL_OLD")


def test_the_parameters_before_expressions(dynamodb: Any) -> None:
    make(dynamodb, "old")
    dynamodb.put_item(TableName="old", Item=row("a", 1, n={"N": "1"}), Expected={"pk": {"Exists": False}})
    dynamodb.update_item(
        TableName="old",
        Key=row("a", 1),
        AttributeUpdates={"n": {"Action": "ADD", "Value": {"N": "2"}}, "s": {"Value": {"S": "x"}}},
        Expected={"n": {"ComparisonOperator": "LT", "AttributeValueList": [{"N": "5"}]}},
    )
    got = dynamodb.get_item(TableName="old", Key=row("a", 1), AttributesToGet=["n", "s"])["Item"]
    assert got == {"n": {"N": "3"}, "s": {"S": "x"}}
    found = dynamodb.query(
        TableName="old",
        KeyConditions={"pk": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]}},
        QueryFilter={"n": {"ComparisonOperator": "GT", "AttributeValueList": [{"N": "3"}]}},
    )
    assert (found["Count"], found["ScannedCount"]) == (0, 1)
    assert refused(dynamodb.query, TableName="old")[1] == (
        "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."
    )


def test_query_reads_a_range_in_order_page_by_page(dynamodb: Any) -> None:
    make(dynamodb, "range")
    for sk in ("10", "9", "-1", "2.5", "100"):
        dynamodb.put_item(TableName="range", Item=row("a", sk, odd={"BOOL": sk in ("9", "-1")}))
    dynamodb.put_item(TableName="range", Item=row("b", 1))

    def query(condition: str, values: dict[str, str], **more: Any) -> list[str]:
        found = dynamodb.query(
            TableName="range",
            KeyConditionExpression=condition,
            ExpressionAttributeValues={
                ":a": {"S": "a"},
                **{name: {"N": value} for name, value in values.items()},
                **more.pop("others", {}),
            },
            **more,
        )
        return [item["sk"]["N"] for item in found["Items"]]

    assert query("pk = :a", {}) == ["-1", "2.5", "9", "10", "100"]
    assert query("pk = :a", {}, ScanIndexForward=False, Limit=2) == ["100", "10"]
    assert query("pk = :a AND sk > :n", {":n": "9"}) == ["10", "100"]
    assert query("pk = :a AND sk BETWEEN :n AND :m", {":n": "2", ":m": "9.0"}) == ["2.5", "9"]
    assert query(":n >= sk AND (pk = :a)", {":n": "2.5"}) == ["-1", "2.5"]
    assert query("pk = :a", {}, FilterExpression="odd = :t", others={":t": {"BOOL": True}}) == ["-1", "9"]
    pages = dynamodb.get_paginator("query").paginate(
        TableName="range",
        KeyConditionExpression="pk = :a",
        ExpressionAttributeValues={":a": {"S": "a"}},
        PaginationConfig={"PageSize": 2},
    )
    assert [[item["sk"]["N"] for item in page["Items"]] for page in pages] == [["-1", "2.5"], ["9", "10"], ["100"]]
    assert refused(query, condition="sk = :n AND pk > :a", values={":n": "1"})[1] == "Query key condition not supported"
    assert refused(query, condition="sk = :n AND :a = :a", values={":n": "1"})[0] == "ValidationException"
    count = dynamodb.query(
        TableName="range",
        KeyConditionExpression="pk = :a",
        ExpressionAttributeValues={":a": {"S": "a"}},
        Select="COUNT",
        ReturnConsumedCapacity="TOTAL",
    )
    assert count["Count"] == 5
    assert count["ConsumedCapacity"]["CapacityUnits"] == 0.5
    assert "Items" not in count


def test_a_page_ends_at_a_megabyte(dynamodb: Any) -> None:
    make(dynamodb, "heavy")
    for number in range(30):
        dynamodb.put_item(TableName="heavy", Item=row("a", number, data={"S": "x" * 100_000}))
    page = dynamodb.query(
        TableName="heavy", KeyConditionExpression="pk = :a", ExpressionAttributeValues={":a": {"S": "a"}}
    )
    assert page["Count"] == 10
    assert page["LastEvaluatedKey"] == row("a", 9)
    pages = dynamodb.get_paginator("scan").paginate(TableName="heavy", ProjectionExpression="sk")
    assert [page["Count"] for page in pages] == [10, 10, 10]


def test_parallel_scan_gives_every_item_once(dynamodb: Any) -> None:
    make(dynamodb, "wide", "id:S")
    names = [f"item-{number}" for number in range(200)]
    for first in range(0, 200, 25):
        requests = [{"PutRequest": {"Item": {"id": {"S": name}}}} for name in names[first : first + 25]]
        assert dynamodb.batch_write_item(RequestItems={"wide": requests})["UnprocessedItems"] == {}
    found = []
    for segment in range(4):
        pages = dynamodb.get_paginator("scan").paginate(
            TableName="wide", Segment=segment, TotalSegments=4, PaginationConfig={"PageSize": 7}
        )
        part = [item["id"]["S"] for page in pages for item in page["Items"]]
        assert 20 < len(part) < 80
        found += part
    assert sorted(found) == sorted(names)
    assert dynamodb.describe_table(TableName="wide")["Table"]["ItemCount"] == 200


def test_indexes_have_what_they_project(dynamodb: Any) -> None:
    make(
        dynamodb,
        "users",
        "pk:S sk:N|mail:S age:N",
        GlobalSecondaryIndexes=[
            index("by-mail", "mail", projection={"ProjectionType": "INCLUDE", "NonKeyAttributes": ["name"]}),
        ],
        LocalSecondaryIndexes=[index("by-age", "pk", "age", {"ProjectionType": "KEYS_ONLY"})],
    )
    person = {"mail": {"S": "a@x"}, "age": {"N": "30"}, "name": {"S": "Ann"}, "note": {"S": "hi"}}
    dynamodb.put_item(TableName="users", Item=row("u", 1, **person))
    dynamodb.put_item(TableName="users", Item=row("u", 2, **{**person, "age": {"N": "4"}}))
    dynamodb.put_item(TableName="users", Item=row("u", 3))

    def query(name: str, attribute: str, value: str, **more: Any) -> list[dict[str, Any]]:
        found = dynamodb.query(
            TableName="users",
            IndexName=name,
            KeyConditionExpression=f"{attribute} = :v",
            ExpressionAttributeValues={":v": {"S": value}},
            **more,
        )
        return list(found["Items"])

    mails = query("by-mail", "mail", "a@x")
    assert [sorted(item) for item in mails] == [["mail", "name", "pk", "sk"]] * 2
    assert [item["sk"]["N"] for item in query("by-age", "pk", "u")] == ["2", "1"]
    assert sorted(query("by-age", "pk", "u", Select="ALL_ATTRIBUTES")[0]) == ["age", "mail", "name", "note", "pk", "sk"]
    assert query("by-age", "pk", "u", ProjectionExpression="note") == [{"note": {"S": "hi"}}] * 2
    assert refused(query, name="by-mail", attribute="mail", value="x", ConsistentRead=True)[1] == (
        "Consistent reads are not supported on global secondary indexes"
    )
    assert (
        "does not project [note]"
        in refused(query, name="by-mail", attribute="mail", value="x", ProjectionExpression="note")[1]
    )
    assert refused(query, name="none", attribute="mail", value="x")[1] == (
        "The table does not have the specified index: none"
    )
    dynamodb.update_item(
        TableName="users",
        Key=row("u", 1),
        UpdateExpression="SET mail = :m",
        ExpressionAttributeValues={":m": {"S": "b@x"}},
    )
    assert [item["sk"]["N"] for item in query("by-mail", "mail", "a@x")] == ["2"]
    dynamodb.delete_item(TableName="users", Key=row("u", 1))
    assert query("by-mail", "mail", "b@x") == []
    assert len(dynamodb.scan(TableName="users", IndexName="by-mail")["Items"]) == 1


def test_batches(dynamodb: Any) -> None:
    make(dynamodb, "one")
    make(dynamodb, "two", "id:S")
    dynamodb.batch_write_item(
        RequestItems={
            "one": [{"PutRequest": {"Item": row("a", 1)}}, {"PutRequest": {"Item": row("a", 2)}}],
            "two": [{"PutRequest": {"Item": {"id": {"S": "x"}}}}],
        }
    )
    keyless = {"two": [{"PutRequest": {"Item": {"other": {"S": "x"}}}}]}
    assert refused(dynamodb.batch_write_item, RequestItems=keyless) == (
        "ValidationException",
        "The provided key element does not match the schema",
    )
    dynamodb.batch_write_item(RequestItems={"one": [{"DeleteRequest": {"Key": row("a", 2)}}]})
    got = dynamodb.batch_get_item(
        RequestItems={"one": {"Keys": [row("a", 1), row("a", 2)]}, "two": {"Keys": [{"id": {"S": "x"}}]}}
    )
    assert got["Responses"] == {"one": [row("a", 1)], "two": [{"id": {"S": "x"}}]}
    assert got["UnprocessedKeys"] == {}
    assert refused(dynamodb.batch_get_item, RequestItems={"one": {"Keys": [row("a", 1), row("a", 1)]}})[1] == (
        "Provided list of item keys contains duplicates"
    )
    # An answer holds 16 MB; what it has no room for is asked for again.
    for number in range(45):
        dynamodb.put_item(TableName="one", Item=row("big", number, data={"S": "x" * 400_000}))
    got = dynamodb.batch_get_item(RequestItems={"one": {"Keys": [row("big", number) for number in range(45)]}})
    assert len(got["Responses"]["one"]) == 41
    assert got["UnprocessedKeys"]["one"]["Keys"] == [row("big", number) for number in range(41, 45)]


def test_transactions_are_all_or_nothing_and_once(dynamodb: Any) -> None:
    make(dynamodb, "accounts", "id:S")
    for name, money in (("a", 10), ("b", 0)):
        dynamodb.put_item(TableName="accounts", Item={"id": {"S": name}, "money": {"N": str(money)}})

    def move(amount: int, token: str) -> Any:
        def change(name: str, expression: str, condition: str | None = None) -> dict[str, Any]:
            update = {
                "TableName": "accounts",
                "Key": {"id": {"S": name}},
                "UpdateExpression": expression,
                "ExpressionAttributeValues": {":n": {"N": str(amount)}},
            }
            if condition:
                update["ConditionExpression"] = condition
                update["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
            return {"Update": update}

        return dynamodb.transact_write_items(
            TransactItems=[
                change("a", "SET money = money - :n", "money >= :n"),
                change("b", "SET money = money + :n"),
            ],
            ClientRequestToken=token,
        )

    def money() -> list[Decimal]:
        got = dynamodb.transact_get_items(
            TransactItems=[{"Get": {"TableName": "accounts", "Key": {"id": {"S": name}}}} for name in "ab"]
        )
        return [Decimal(answer["Item"]["money"]["N"]) for answer in got["Responses"]]

    move(4, "first")
    move(4, "first")
    assert money() == [6, 4]
    assert refused(move, amount=5, token="first")[0] == "IdempotentParameterMismatchException"
    with pytest.raises(ClientError) as caught:
        move(7, "second")
    error = caught.value.response
    assert error["Error"]["Message"] == (
        "Transaction cancelled, please refer cancellation reasons for specific reasons [ConditionalCheckFailed, None]"
    )
    assert error["CancellationReasons"] == [
        {
            "Code": "ConditionalCheckFailed",
            "Message": "The conditional request failed",
            "Item": {"id": {"S": "a"}, "money": {"N": "6"}},
        },
        {"Code": "None"},
    ]
    assert money() == [6, 4]
    twice = {"Delete": {"TableName": "accounts", "Key": {"id": {"S": "a"}}}}
    assert refused(dynamodb.transact_write_items, TransactItems=[twice, twice])[1] == (
        "Transaction request cannot include multiple operations on one item"
    )


def test_capacity_and_collections(dynamodb: Any) -> None:
    make(
        dynamodb,
        "counted",
        "pk:S sk:N|age:N",
        LocalSecondaryIndexes=[index("by-age", "pk", "age")],
    )
    answer = dynamodb.put_item(
        TableName="counted",
        Item=row("a", 1, age={"N": "1"}, data={"S": "x" * 1500}),
        ReturnConsumedCapacity="INDEXES",
        ReturnItemCollectionMetrics="SIZE",
    )
    assert answer["ConsumedCapacity"] == {
        "TableName": "counted",
        "CapacityUnits": 4.0,
        "Table": {"CapacityUnits": 2.0},
        "LocalSecondaryIndexes": {"by-age": {"CapacityUnits": 2.0}},
    }
    assert answer["ItemCollectionMetrics"] == {
        "ItemCollectionKey": {"pk": {"S": "a"}},
        "SizeEstimateRangeGB": [0.0, 1.0],
    }
    got = dynamodb.get_item(TableName="counted", Key=row("a", 1), ConsistentRead=True, ReturnConsumedCapacity="TOTAL")
    assert got["ConsumedCapacity"] == {"TableName": "counted", "CapacityUnits": 1.0}


def test_the_resource_interface(cloud: LocalCloud) -> None:
    import boto3
    from boto3.dynamodb.conditions import Attr, Key

    resource = boto3.resource(
        "dynamodb",
        endpoint_url=cloud.endpoint,
        region_name="us-east-1",
        aws_access_key_id="000000000000",
        aws_secret_access_key="test",
    )
    make(resource.meta.client, "films", "year:N title:S")
    table = resource.Table("films")
    with table.batch_writer() as batch:
        for year in range(1990, 2020):
            batch.put_item(Item={"year": year, "title": f"film {year}", "rating": Decimal(year % 7) / 2})
    found = table.query(KeyConditionExpression=Key("year").eq(1999) & Key("title").begins_with("film"))
    assert [film["rating"] for film in found["Items"]] == [Decimal("2")]
    assert table.scan(FilterExpression=Attr("rating").between(Decimal("2.5"), 3), Select="COUNT")["Count"] == 8
    assert table.item_count == 30


def test_what_cloudwatch_hears(cloud: LocalCloud, dynamodb: Any) -> None:
    dynamodb.create_table(
        TableName="seen",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        ProvisionedThroughput={"ReadCapacityUnits": 7, "WriteCapacityUnits": 5},
    )
    for number in range(3):
        dynamodb.put_item(TableName="seen", Item={"id": {"S": str(number)}, "text": {"S": "x" * 1500}})
    dynamodb.get_item(TableName="seen", Key={"id": {"S": "1"}}, ConsistentRead=True)
    assert dynamodb.scan(TableName="seen")["Count"] == 3
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        dynamodb.put_item(TableName="seen", Item={"id": {"S": "1"}}, ConditionExpression="attribute_not_exists(id)")
    with pytest.raises(ClientError, match="ValidationException"):
        dynamodb.get_item(TableName="seen", Key={"wrong": {"S": "1"}})
    cloud.advance(60)
    cloudwatch = cloud.client("cloudwatch")

    def total(metric: str, statistic: str = "Sum", **dimensions: str) -> float:
        now = float(cloud.control("clock")["now"])
        found = cloudwatch.get_metric_statistics(
            Namespace="AWS/DynamoDB",
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - 600,
            EndTime=now + 60,
            Period=3600,
            Statistics=[statistic],
        )["Datapoints"]
        return float(sum(one[statistic] for one in found))

    assert total("ConsumedWriteCapacityUnits", TableName="seen") == 6
    assert total("ConsumedReadCapacityUnits", TableName="seen") == 2  # 1 for the item, half of 2 for the scan
    assert total("ProvisionedReadCapacityUnits", "Maximum", TableName="seen") == 7
    assert total("SuccessfulRequestLatency", "SampleCount", TableName="seen", Operation="PutItem") == 3
    assert total("ReturnedItemCount", TableName="seen", Operation="Scan") == 3
    assert total("ConditionalCheckFailedRequests", TableName="seen") == 1
    assert total("UserErrors") == 1
