"""A table against a plain dictionary: items, the order of Query, indexes and pages, over restarts."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from cloudlet.control.clock import Clock
from cloudlet.errors import AwsError
from cloudlet.observe.metrics import Metrics, Report
from cloudlet.services.api import Call
from cloudlet.services.dynamodb import numbers
from cloudlet.services.dynamodb.service import Service
from cloudlet.store.sqlite import SqliteStore

CALL = Call("000000000000", "us-east-1")
HASHES = ["a", "b", "ab", "\0", "é"]
GROUPS = ["x", "y"]

numerals = st.one_of(
    st.integers(-20, 20).map(str),
    st.decimals(-(10**6), 10**6, places=3).map(str),
    st.builds("{}E{}".format, st.integers(-99, 99), st.integers(-100, 100)),
)
RANGES: dict[str, st.SearchStrategy[Any]] = {
    "S": st.text(st.sampled_from("aAb\0é\U0001f600z"), min_size=1, max_size=3),
    "N": numerals,
    "B": st.binary(min_size=1, max_size=3),
}


class FakeCloud:
    """As much of a cloud as the service needs."""

    endpoint = "http://127.0.0.1:4566"

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store = SqliteStore(folder, "off")
        self.metrics = Metrics(self.clock, self._keep_no_metrics, lambda: None)

    async def _keep_no_metrics(self, reports: list[Report]) -> None:
        """They are not what is tested here."""

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work)


def order(kind: str, content: Any) -> Any:
    """What DynamoDB sorts by: bytes, or a number."""
    if kind == "S":
        return content.encode()
    return Decimal(content) if kind == "N" else content


class Table(RuleBasedStateMachine):
    """Random operations on the service, and the same on the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="cloudlet-law-"))
        self.items: dict[tuple[str, Any], dict[str, Any]] = {}
        self.indexed = False

    @initialize(kind=st.sampled_from("SNB"))
    def open(self, kind: str) -> None:
        self.kind = kind
        self._start()
        self._do(
            "CreateTable",
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": kind},
            ],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def teardown(self) -> None:
        if hasattr(self, "cloud"):
            self.runner.run(self.cloud.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def _start(self) -> None:
        async def start() -> None:
            self.cloud = FakeCloud(self.folder)
            self.service = Service(self.cloud)  # type: ignore[arg-type]
            await self.service.start()

        self.runner.run(start())

    def _do(self, operation: str, **input: Any) -> Any:
        return self.runner.run(getattr(self.service, operation)(CALL, {"TableName": "tab", **input}))

    def _key(self, pk: str, data: st.DataObject) -> tuple[tuple[str, Any], dict[str, Any]]:
        known = [sk for hash, sk in self.items if hash == pk]
        drawn = RANGES[self.kind]
        sk = data.draw(st.one_of(st.sampled_from(sorted(known)), drawn) if known else drawn)
        sk = numbers.canonical(sk) if self.kind == "N" else sk
        return (pk, sk), {"pk": {"S": pk}, "sk": {self.kind: sk}}

    @rule(pk=st.sampled_from(HASHES), group=st.sampled_from([*GROUPS, None]), data=st.data())
    def put(self, pk: str, group: str | None, data: st.DataObject) -> None:
        place, item = self._key(pk, data)
        if group is not None:
            item["group"] = {"S": group}
            item["rank"] = {"N": numbers.canonical(data.draw(numerals))}
        old = self._do("PutItem", Item=dict(item), ReturnValues="ALL_OLD").get("Attributes")
        assert old == self.items.get(place)
        self.items[place] = item

    @rule(pk=st.sampled_from(HASHES), data=st.data())
    def put_if_new(self, pk: str, data: st.DataObject) -> None:
        place, item = self._key(pk, data)
        request = {"Item": dict(item), "ConditionExpression": "attribute_not_exists(pk)"}
        if place in self.items:
            with pytest.raises(AwsError, match="ConditionalCheckFailed"):
                self._do("PutItem", **request)
        else:
            self._do("PutItem", **request)
            self.items[place] = item

    @rule(pk=st.sampled_from(HASHES), by=st.integers(-3, 3), data=st.data())
    def add(self, pk: str, by: int, data: st.DataObject) -> None:
        place, key = self._key(pk, data)
        values = {":by": {"N": str(by)}}
        self._do("UpdateItem", Key=dict(key), UpdateExpression="ADD n :by", ExpressionAttributeValues=values)
        item = self.items.setdefault(place, key)
        item["n"] = {"N": str(int(item.get("n", {"N": "0"})["N"]) + by)}

    @rule(pk=st.sampled_from(HASHES), data=st.data())
    def leave_group(self, pk: str, data: st.DataObject) -> None:
        place, key = self._key(pk, data)
        self._do(
            "UpdateItem",
            Key=dict(key),
            UpdateExpression="REMOVE #g",
            ExpressionAttributeNames={"#g": "group"},
        )
        # What only takes away makes no item.
        self.items.get(place, {}).pop("group", None)

    @rule(pk=st.sampled_from(HASHES), data=st.data())
    def delete(self, pk: str, data: st.DataObject) -> None:
        place, key = self._key(pk, data)
        self._do("DeleteItem", Key=key)
        self.items.pop(place, None)

    @rule(pk=st.sampled_from(HASHES), data=st.data())
    def get(self, pk: str, data: st.DataObject) -> None:
        place, key = self._key(pk, data)
        assert self._do("GetItem", Key=key).get("Item") == self.items.get(place)

    @rule()
    def add_index(self) -> None:
        if self.indexed:
            return
        self.indexed = True
        index = {
            "IndexName": "by-rank",
            "KeySchema": [
                {"AttributeName": "group", "KeyType": "HASH"},
                {"AttributeName": "rank", "KeyType": "RANGE"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        }
        self._do(
            "UpdateTable",
            AttributeDefinitions=[
                {"AttributeName": "group", "AttributeType": "S"},
                {"AttributeName": "rank", "AttributeType": "N"},
                {"AttributeName": "sk", "AttributeType": self.kind},
            ],
            GlobalSecondaryIndexUpdates=[{"Create": index}],
        )

    @rule()
    def restart(self) -> None:
        self.runner.run(self.cloud.store.close())
        self._start()

    @rule(pk=st.sampled_from(HASHES), forward=st.booleans(), limit=st.integers(1, 4), data=st.data())
    def query(self, pk: str, forward: bool, limit: int, data: st.DataObject) -> None:
        low, high = sorted((self._key(pk, data)[0][1], self._key(pk, data)[0][1]), key=lambda sk: order(self.kind, sk))
        found = self._pages(
            "Query",
            limit,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            ExpressionAttributeValues={":pk": {"S": pk}, ":low": {self.kind: low}, ":high": {self.kind: high}},
            ScanIndexForward=forward,
        )
        expected = sorted(
            (
                (order(self.kind, sk), item)
                for (hash, sk), item in self.items.items()
                if hash == pk and order(self.kind, low) <= order(self.kind, sk) <= order(self.kind, high)
            ),
            key=lambda pair: pair[0],
            reverse=not forward,
        )
        assert found == [item for _, item in expected]

    @rule(group=st.sampled_from(GROUPS), forward=st.booleans(), limit=st.integers(1, 4), least=st.none() | numerals)
    def query_index(self, group: str, forward: bool, limit: int, least: str | None) -> None:
        if not self.indexed:
            return
        values = {":g": {"S": group}} | ({} if least is None else {":r": {"N": least}})
        found = self._pages(
            "Query",
            limit,
            IndexName="by-rank",
            KeyConditionExpression="#g = :g" + ("" if least is None else " AND #r >= :r"),
            ExpressionAttributeNames={"#g": "group"} | ({} if least is None else {"#r": "rank"}),
            ExpressionAttributeValues=values,
            ScanIndexForward=forward,
        )
        expected = [
            item
            for item in self.items.values()
            if item.get("group") == {"S": group}
            and "rank" in item
            and (least is None or Decimal(item["rank"]["N"]) >= Decimal(least))
        ]
        keys = [self._index_key(item) for item in found]
        assert keys == sorted(map(self._index_key, expected), reverse=not forward)
        assert in_any_order(found) == in_any_order(expected)

    def _index_key(self, item: dict[str, Any]) -> Any:
        return Decimal(item["rank"]["N"]), order(self.kind, item["sk"][self.kind])

    @rule(limit=st.integers(1, 5), segments=st.integers(1, 3))
    def scan(self, limit: int, segments: int) -> None:
        found = []
        for segment in range(segments):
            found += self._pages("Scan", limit, Segment=segment, TotalSegments=segments)
        assert in_any_order(found) == in_any_order(self.items.values())

    def _pages(self, operation: str, limit: int, **request: Any) -> list[Any]:
        found: list[Any] = []
        while True:
            page = self._do(operation, Limit=limit, **request)
            assert page["Count"] == len(page["Items"]) <= limit
            found += page["Items"]
            if "LastEvaluatedKey" not in page:
                return found
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def in_any_order(items: Any) -> list[str]:
    return sorted(str(sorted(item.items())) for item in items)


Table.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestTable = Table.TestCase


@given(one=numerals, two=numerals)
def test_numbers_sort_as_their_bytes(one: str, two: str) -> None:
    one, two = numbers.canonical(one), numbers.canonical(two)
    keys = numbers.sort_key(one), numbers.sort_key(two)
    assert (keys[0] < keys[1]) == (Decimal(one) < Decimal(two))
    assert (keys[0] == keys[1]) == (Decimal(one) == Decimal(two))
    assert Decimal(numbers.add(one, one)) == Decimal(one) * 2
