"""DynamoDB's PartiQL through boto3."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import refused

from cloudlet.testing.local import LocalCloud


@pytest.fixture
def dynamodb(cloud: LocalCloud) -> Any:
    client = cloud.client("dynamodb")
    client.create_table(
        TableName="Music",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("Artist", "Song", "Genre")],
        KeySchema=[{"AttributeName": "Artist", "KeyType": "HASH"}, {"AttributeName": "Song", "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "ByGenre",
                "KeySchema": [{"AttributeName": "Genre", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return client


def test_statements(dynamodb: Any) -> None:
    def run(statement: str, *parameters: Any, **more: Any) -> Any:
        if parameters:
            more["Parameters"] = list(parameters)
        return dynamodb.execute_statement(Statement=statement, **more)["Items"]

    for song, year in (("One", 1999), ("Two", 2004), ("Three", 2010)):
        run(f"""INSERT INTO "Music" VALUE {{'Artist': 'Ann', 'Song': '{song}', 'Genre': 'Rock', 'Year': {year}}}""")
    run(
        "INSERT INTO Music VALUE {'Artist': ?, 'Song': 'It''s', 'Tags': <<'a', 'b'>>, 'L': [1, {'x': TRUE}, NULL]}",
        {"S": "Bob"},
    )
    assert refused(run, statement="INSERT INTO Music VALUE {'Artist': 'Ann', 'Song': 'One'}") == (
        "DuplicateItemException",
        "Duplicate primary key exists in table",
    )
    assert run("SELECT Tags, L[1].x FROM Music WHERE Artist = 'Bob' AND Song = 'It''s'") == [
        {"Tags": {"SS": ["a", "b"]}, "L": {"L": [{"M": {"x": {"BOOL": True}}}]}}
    ]

    def songs(where: str, *parameters: Any) -> list[str]:
        return [item["Song"]["S"] for item in run(f"SELECT * FROM {where}", *parameters)]

    assert songs("Music WHERE Artist = 'Ann' ORDER BY Song DESC") == ["Two", "Three", "One"]
    assert songs("Music WHERE Artist = 'Ann' AND Song BETWEEN 'P' AND 'Tk'") == ["Three"]
    assert songs("Music WHERE Artist IN ['Ann', 'Bob'] AND \"Year\" IS MISSING") == ["It's"]
    assert songs("Music WHERE Artist = 'Ann' AND ('Year' = 'x' OR \"Year\" >= ?)", {"N": "2004"}) == ["Three", "Two"]
    assert sorted(songs("\"Music\".\"ByGenre\" WHERE Genre = 'Rock' AND contains(Song, 'T')")) == ["Three", "Two"]
    assert songs("Music WHERE size(Tags) = 2 AND NOT begins_with(Artist, 'A')") == ["It's"]

    assert run(
        'UPDATE Music SET "Year" = "Year" + 1 SET Tags = set_add(Tags, <<\'new\'>>) REMOVE Genre '
        "WHERE Artist = 'Ann' AND Song = 'One' AND \"Year\" = ? RETURNING ALL NEW *",
        {"N": "1999"},
    ) == [{"Artist": {"S": "Ann"}, "Song": {"S": "One"}, "Year": {"N": "2000"}, "Tags": {"SS": ["new"]}}]
    assert refused(run, statement="UPDATE Music SET a = 1 WHERE Artist = 'Ann' AND Song = 'None'")[0] == (
        "ConditionalCheckFailedException"
    )
    assert refused(run, statement="UPDATE Music SET a = 1 WHERE Artist = 'Ann'")[1] == (
        "Where clause does not contain a mandatory equality on all key attributes"
    )
    assert run("DELETE FROM Music WHERE Artist = 'Ann' AND Song = 'None'") == []
    assert refused(run, statement="DELETE FROM Music WHERE Artist = 'Ann' AND Song = 'One' AND Tags = 'x'")[0] == (
        "ConditionalCheckFailedException"
    )
    deleted = run("DELETE FROM Music WHERE Artist = 'Ann' AND Song = 'One' RETURNING ALL OLD *")
    assert deleted[0]["Song"] == {"S": "One"}
    assert refused(run, statement="SELECT * FROM Music WHERE")[1].startswith("Statement wasn't well formed")
    assert refused(run, statement="SELECT * FROM Music WHERE Artist = ?")[1] == (
        "Number of parameters in request and statement don't match."
    )
    first = dynamodb.execute_statement(Statement="SELECT * FROM Music WHERE Artist IN ('Ann', 'Bob')", Limit=2)
    rest = dynamodb.execute_statement(
        Statement="SELECT * FROM Music WHERE Artist IN ('Ann', 'Bob')", NextToken=first["NextToken"]
    )
    assert [item["Song"]["S"] for item in first["Items"] + rest["Items"]] == ["Three", "Two", "It's"]


def test_batches_and_transactions(dynamodb: Any) -> None:
    insert = "INSERT INTO Music VALUE {'Artist': 'Ann', 'Song': ?}"
    answer = dynamodb.batch_execute_statement(
        Statements=[
            {"Statement": insert, "Parameters": [{"S": "One"}]},
            {"Statement": insert, "Parameters": [{"S": "One"}]},
            {"Statement": "SELECT * FROM Music WHERE Artist = 'Ann'"},
            {"Statement": "SELECT Song FROM Music WHERE Artist = 'Ann' AND Song = 'One'"},
        ]
    )["Responses"]
    assert answer[0] == {"TableName": "Music"}
    assert answer[1]["Error"] == {"Code": "DuplicateItem", "Message": "Duplicate primary key exists in table"}
    assert answer[2]["Error"]["Code"] == "ValidationError"
    assert answer[3]["Item"] == {"Song": {"S": "One"}}

    one = "WHERE Artist = 'Ann' AND Song = 'One'"
    written = dynamodb.execute_transaction(
        TransactStatements=[
            {"Statement": f"UPDATE Music SET Plays = 1 {one}"},
            {"Statement": insert, "Parameters": [{"S": "Two"}]},
        ]
    )
    assert written["Responses"] == []
    with pytest.raises(ClientError) as caught:
        dynamodb.execute_transaction(
            TransactStatements=[
                {"Statement": insert, "Parameters": [{"S": "Three"}]},
                {"Statement": f"EXISTS(SELECT * FROM Music {one} AND Plays = 2)"},
            ]
        )
    reasons = caught.value.response["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed"]
    got = dynamodb.execute_transaction(
        TransactStatements=[
            {"Statement": f"SELECT Plays FROM Music {one}"},
            {"Statement": "SELECT * FROM Music WHERE Artist = 'Ann' AND Song = 'Three'"},
        ]
    )["Responses"]
    assert got == [{"Item": {"Plays": {"N": "1"}}}, {}]
