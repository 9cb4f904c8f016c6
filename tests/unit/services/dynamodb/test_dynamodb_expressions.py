"""DynamoDB's expressions without a table: what they mean, and AWS's words for what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from cloudlet.errors import AwsError
from cloudlet.services.dynamodb.expressions import Expressions
from cloudlet.services.dynamodb.values import check, check_item, item_size

ITEM: dict[str, Any] = {
    "id": {"S": "a"},
    "n": {"N": "5"},
    "list": {"L": [{"S": "x"}, {"M": {"deep": {"BOOL": True}}}]},
    "set": {"SS": ["one", "two"]},
    "map": {"M": {"a.b": {"N": "1"}}},
}
NAMES = {"#list": "list", "#set": "set", "#map": "map", "#dot": "a.b"}
VALUES: dict[str, Any] = {":a": {"S": "a"}, ":five": {"N": "5.0"}, ":one": {"S": "one"}, ":true": {"BOOL": True}}


def expressions(text: str, values: dict[str, Any]) -> Expressions:
    """Expressions with the names and values that a text uses."""
    names = {name: meant for name, meant in NAMES.items() if name in text}
    used = {name: dict(value) for name, value in values.items() if name in text}
    input: dict[str, Any] = {}
    if names:
        input["ExpressionAttributeNames"] = names
    if used:
        input["ExpressionAttributeValues"] = used
    return Expressions(input)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("id = :a AND n = :five", True),
        ("id <> :a OR attribute_exists(#list[1].deep)", True),
        ("NOT #list[1].deep = :true", False),
        ("contains(#set, :one) and begins_with(id, :a)", True),
        ("n BETWEEN :five AND :five AND n IN (:a, :five)", True),
        ("size(#set) < :five", True),
        ("attribute_not_exists(#map.#dot)", False),
        ("attribute_exists(#map.nothing) OR nowhere = :a", False),
        ("nowhere <> :a", True),
        ("(id = :a OR n > :five) AND n > :five", False),
    ],
)
def test_a_condition_holds(text: str, holds: bool) -> None:
    predicate = expressions(text, VALUES).predicate("ConditionExpression", text)
    assert predicate(ITEM) is holds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "The expression can not be empty;"),
        ("id = :a AND", 'Syntax error; token: "<EOF>", near: "AND"'),
        ("id == :a", 'Syntax error; token: "=", near: "== :a"'),
        ("size = :a", "Attribute name is a reserved keyword; reserved keyword: size"),
        ("#x = :a", "An expression attribute name used in the document path is not defined; attribute name: #x"),
        ("id = :x", "An expression attribute value used in expression is not defined; attribute value: :x"),
        ("nosuch(id)", "Invalid function name; function: nosuch"),
        (
            "contains(id)",
            "Incorrect number of operands for operator or function; "
            "operator or function: contains, number of operands: 1",
        ),
        ("((id = :a))", "The expression has redundant parentheses;"),
        (
            "n < :true",
            "Incorrect operand type for operator or function; operator or function: <, operand type: BOOL",
        ),
    ],
)
def test_a_condition_that_is_wrong(text: str, words: str) -> None:
    with pytest.raises(AwsError) as caught:
        expressions(text, VALUES).predicate("ConditionExpression", text)
    assert caught.value.message == f"Invalid ConditionExpression: {words}"


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("SET n = n + :five, fresh = if_not_exists(nothing, :a)", {"n": {"N": "10"}, "fresh": {"S": "a"}}),
        ("REMOVE #list[0], #map.#dot", {"list": {"L": [{"M": {"deep": {"BOOL": True}}}]}, "map": {"M": {}}}),
        ("SET #list[9] = :a", {"list": {"L": [*ITEM["list"]["L"], {"S": "a"}]}}),
        ("SET moved = n REMOVE n", {"moved": {"N": "5"}, "n": None}),
        ("DELETE #set :ones", {"set": {"SS": ["two"]}}),
    ],
)
def test_an_update_changes(text: str, changed: dict[str, Any]) -> None:
    import copy

    new = copy.deepcopy(ITEM)
    request = expressions(text, {**VALUES, ":ones": {"SS": ["one"]}})
    request.update(text).apply(ITEM, new, request.values)
    expected = {name: value for name, value in {**ITEM, **changed}.items() if value is not None}
    assert new == expected


def test_paths_that_overlap_are_refused() -> None:
    with pytest.raises(AwsError) as caught:
        expressions("", {}).update("SET a.b = c REMOVE a")
    assert caught.value.message == (
        "Invalid UpdateExpression: Two document paths overlap with each other; "
        "must remove or rewrite one of these paths; path one: [a, b], path two: [a]"
    )


def test_sizes_are_counted_as_aws_counts() -> None:
    # 3 for a map or a list and 1 for each member, two digits in a byte, texts in UTF-8.
    item: dict[str, Any] = {"é": {"S": "€"}, "n": {"N": "12345"}, "m": {"M": {"k": {"NULL": True}}}}
    assert check_item(item) == item_size(item) == (2 + 3) + (1 + 4) + (1 + 3 + 1 + 1 + 1)


def test_a_value_has_one_type_and_an_end() -> None:
    deep: dict[str, Any] = {"S": "x"}
    for _ in range(33):
        deep = {"L": [deep]}
    for wrong in ({}, {"S": "a", "N": "1"}, {"NULL": False}, {"NS": ["1", "1.0"]}, deep):
        with pytest.raises(AwsError):
            check(wrong)
