"""How tables, indexes and their settings look in answers."""

from __future__ import annotations

from typing import Any

from cloudlet.services.dynamodb.records import Index, Table
from cloudlet.services.dynamodb.schema import table_arn

Sizes = dict[int, tuple[int, int]]  # id of a table or an index -> its items and their bytes


def describe(scope: str, table: Table, sizes: Sizes, status: str = "") -> dict[str, Any]:
    """A TableDescription."""
    arn = table_arn(scope, table.name)
    count, size = sizes.get(table.id, (0, 0))
    building = any(index.building for index in table.indexes)
    described: dict[str, Any] = {
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind} for name, kind in table.definitions.items()
        ],
        "TableName": table.name,
        "KeySchema": table.keys,
        "TableStatus": status or ("UPDATING" if building else "ACTIVE"),
        "CreationDateTime": table.created,
        "ProvisionedThroughput": _throughput(table.throughput),
        "TableSizeBytes": size,
        "ItemCount": count,
        "TableArn": arn,
        "TableId": table.uuid,
        "DeletionProtectionEnabled": table.protected,
        "WarmThroughput": _warm(table.warm, table.throughput),
    }
    if table.billing == "PAY_PER_REQUEST" or table.billing_changed:
        described["BillingModeSummary"] = {"BillingMode": table.billing}
        if table.billing_changed:
            described["BillingModeSummary"]["LastUpdateToPayPerRequestDateTime"] = table.billing_changed
    if local := [_describe_index(arn, index, sizes) for index in table.indexes if not index.is_global]:
        described["LocalSecondaryIndexes"] = local
    if everywhere := [_describe_global(arn, index, sizes) for index in table.indexes if index.is_global]:
        described["GlobalSecondaryIndexes"] = everywhere
    if table.stream:
        described["LatestStreamArn"] = table.stream
        described["LatestStreamLabel"] = table.stream.rpartition("/")[2]
    if table.stream_view:
        described["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": table.stream_view}
    if table.sse:
        described["SSEDescription"] = table.sse
    if table.table_class:
        described["TableClassSummary"] = {"TableClass": table.table_class}
    if table.on_demand:
        described["OnDemandThroughput"] = table.on_demand
    return described


def _throughput(given: dict[str, int]) -> dict[str, int]:
    return {
        "NumberOfDecreasesToday": 0,
        "ReadCapacityUnits": given.get("ReadCapacityUnits", 0),
        "WriteCapacityUnits": given.get("WriteCapacityUnits", 0),
    }


def _warm(given: dict[str, int], throughput: dict[str, int]) -> dict[str, Any]:
    """What AWS keeps warm without being asked: what is provisioned, or what every on-demand table has."""
    return {
        "ReadUnitsPerSecond": given.get("ReadUnitsPerSecond") or throughput.get("ReadCapacityUnits") or 12000,
        "WriteUnitsPerSecond": given.get("WriteUnitsPerSecond") or throughput.get("WriteCapacityUnits") or 4000,
        "Status": "ACTIVE",
    }


def _describe_index(arn: str, index: Index, sizes: Sizes) -> dict[str, Any]:
    count, size = sizes.get(index.id, (0, 0))
    return {
        "IndexName": index.name,
        "KeySchema": index.keys,
        "Projection": index.projection,
        "IndexSizeBytes": size,
        "ItemCount": count,
        "IndexArn": f"{arn}/index/{index.name}",
    }


def _describe_global(arn: str, index: Index, sizes: Sizes) -> dict[str, Any]:
    described = _describe_index(arn, index, sizes)
    described["IndexStatus"] = "CREATING" if index.building else "ACTIVE"
    if index.building:
        described["Backfilling"] = True
    described["ProvisionedThroughput"] = _throughput(index.throughput)
    described["WarmThroughput"] = _warm(index.warm, index.throughput)
    if index.on_demand:
        described["OnDemandThroughput"] = index.on_demand
    return described
