"""DynamoDB's limits and refusals, as AWS has them: nested expressions, updates of nothing, indexes, tags, streams."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudlet.testing.local import LocalCloud


@pytest.fixture
def table(cloud: LocalCloud) -> Any:
    dynamodb = cloud.client("dynamodb")
    dynamodb.create_table(
        TableName="things",
        AttributeDefinitions=[{"AttributeName": "p", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return dynamodb


def refusal(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return f"{error['Code']}: {error['Message']}"


def update_if(table: Any, condition: str) -> str | None:
    """Update an item whose ``a`` is less than its ``b``; the refusal of the condition, if it is refused."""
    key = {"p": {"S": "x"}}
    table.put_item(TableName="things", Item={**key, "a": {"N": "1"}, "b": {"N": "2"}})
    values = {":v": {"N": "3"}}
    change = {"TableName": "things", "Key": key, "UpdateExpression": "SET z = :v", "ExpressionAttributeValues": values}
    try:
        table.update_item(**change, ConditionExpression=condition)
    except ClientError as error:
        return f"{error.response['Error']['Code']}: {error.response['Error']['Message']}"
    return None


def test_expressions_have_three_hundred_operators_however_they_are_nested(table: Any) -> None:
    assert update_if(table, "a < b " + "or (a < b " * 149 + ")" * 149) is None
    too_many = "Invalid ConditionExpression: The expression contains too many operators; operator count: 301"
    assert too_many in str(update_if(table, "a<b " + "or (a<b " * 454 + ")" * 454))
    assert too_many in str(update_if(table, "not " * 1000 + "a < b"))
    assert "redundant parentheses" in str(update_if(table, "(" * 2046 + "a<b" + ")" * 2046))
    assert 'Syntax error; token: "<EOF>"' in str(update_if(table, "(" * 4096))
    assert "Invalid function name; function: f" in str(update_if(table, "a < " + "f(" * 1355 + "b" + ")" * 1355))
    assert "function: size, operand type: N" in str(update_if(table, "a < " + "size(" * 680 + "b" + ")" * 680))
    assert "not allowed in a condition expression; function: if_not_exists" in str(
        update_if(table, "if_not_exists(a, b) = b")
    )


def test_paths_and_names_have_limits(table: Any) -> None:
    key: dict[str, Any] = {"TableName": "things", "Key": {"p": {"S": "x"}}}
    table.get_item(**key, ProjectionExpression="a" + ".b" * 31)
    assert "too many nesting levels; nesting levels: 33" in refusal(
        table.get_item, **key, ProjectionExpression="a" + ".b" * 32
    )
    assert "List index is not within the allowable range; index: [99999999999999]" in refusal(
        table.get_item, **key, ProjectionExpression="a[99999999999999]"
    )
    assert 'Syntax error; token: "_"' in refusal(table.get_item, **key, ProjectionExpression="_name")
    assert "Empty attribute name for key #n" in refusal(
        table.get_item, **key, ProjectionExpression="#n", ExpressionAttributeNames={"#n": ""}
    )
    assert "Empty attribute name" in refusal(table.put_item, TableName="things", Item={"p": {"S": "x"}, "": {"S": "y"}})


def test_an_update_that_only_takes_away_makes_no_item(table: Any) -> None:
    key: dict[str, Any] = {"TableName": "things", "Key": {"p": {"S": "nobody"}}}
    answer = table.update_item(**key, UpdateExpression="REMOVE a", ReturnValues="ALL_NEW")
    assert "Attributes" not in answer
    assert "Item" not in table.get_item(**key)
    table.update_item(**key, UpdateExpression="REMOVE a SET b = :b", ExpressionAttributeValues={":b": {"S": "b"}})
    assert table.get_item(**key)["Item"] == {"p": {"S": "nobody"}, "b": {"S": "b"}}


def test_the_older_conditions_on_keys_go_with_expressions(table: Any) -> None:
    table.put_item(TableName="things", Item={"p": {"S": "x"}, "a": {"S": "1"}, "b": {"S": "2"}})
    condition = {"AttributeValueList": [{"S": "x"}], "ComparisonOperator": "EQ"}
    query: dict[str, Any] = {"TableName": "things", "KeyConditions": {"p": condition}}
    assert table.query(**query, ProjectionExpression="a")["Items"] == [{"a": {"S": "1"}}]
    assert "Non-expression parameters: {KeyConditions}" in refusal(
        table.query, **query, KeyConditionExpression="p = :p", ExpressionAttributeValues={":p": {"S": "x"}}
    )


def test_updates_of_tables_say_what_they_change(table: Any) -> None:
    assert "At least one of ProvisionedThroughput" in refusal(table.update_table, TableName="things")
    index = {
        "IndexName": "index",
        "KeySchema": [{"AttributeName": "p", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }
    one: dict[str, Any] = {"TableName": "things", "GlobalSecondaryIndexUpdates": [{"Create": index}]}
    assert "Some index key attributes are not defined in AttributeDefinitions" in refusal(table.update_table, **one)
    defined = {"AttributeDefinitions": [{"AttributeName": "p", "AttributeType": "N"}]}
    assert "Attributes cannot be redefined" in refusal(table.update_table, **one, **defined)
    unused = [{"AttributeName": name, "AttributeType": "S"} for name in ("p", "nobody")]
    table.update_table(**one, AttributeDefinitions=unused)
    arn = table.describe_table(TableName="things")["Table"]["TableArn"]
    assert "Atleast one Tag needs" in refusal(table.tag_resource, ResourceArn=arn, Tags=[])
    assert "ARNs must start with 'arn:'" in refusal(
        table.tag_resource, ResourceArn="t", Tags=[{"Key": "k", "Value": ""}]
    )
    assert "only table or stream is accepted" in refusal(table.list_tags_of_resource, ResourceArn=f"{arn}/index/index")
    assert "ValidationException" in refusal(table.tag_resource, ResourceArn=arn, Tags=[{"Key": "a!", "Value": ""}])


def test_sums_of_too_many_digits_overflow(table: Any) -> None:
    change = {"TableName": "things", "Key": {"p": {"S": "x"}}, "UpdateExpression": "SET a = :l - :s"}
    values = {":l": {"N": "1" + "0" * 50}, ":s": {"N": "1"}}
    assert "Number overflow" in refusal(table.update_item, **change, ExpressionAttributeValues=values)
