"""The life of tables: create, change, describe, delete."""

from __future__ import annotations

import uuid
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.dynamodb import definitions, records
from cloudlet.services.dynamodb.descriptions import Sizes, describe
from cloudlet.services.dynamodb.errors import bad_parameter, in_use, invalid, no_table
from cloudlet.services.dynamodb.indexes import Indexes
from cloudlet.services.dynamodb.policy import check_policy, new_revision
from cloudlet.services.dynamodb.records import Table
from cloudlet.services.dynamodb.schema import Plan, table_arn
from cloudlet.services.dynamodb.streams import Streams
from cloudlet.store import Tx

_COUNTED_AT_ONCE = 1000  # more items are counted off the event loop, and not at every call
_COUNT_KEPT = 60.0  # seconds


class Tables(Indexes, Streams):
    """Operations on tables."""

    async def start(self) -> None:
        await super().start()
        self._counts: dict[int, tuple[float, tuple[int, int]]] = {}

    async def CreateTable(self, call: Call, input: Input) -> Output:
        name, now = input["TableName"], self.clock.now()
        scope = call.scope
        definitions.refuse_unsupported("CreateTable", input)
        definitions.check_name(name)
        billing = input.get("BillingMode", "PROVISIONED")
        definitions.check_throughput(input.get("ProvisionedThroughput"), billing)
        if "KeySchema" not in input or "AttributeDefinitions" not in input:
            missing = "KeySchema" if "KeySchema" not in input else "AttributeDefinitions"
            raise invalid(
                f"1 validation error detected: Value null at '{missing[0].lower()}{missing[1:]}' failed to satisfy "
                "constraint: Member must not be null"
            )
        defined, keys = definitions.definitions_of(input["AttributeDefinitions"]), input["KeySchema"]
        definitions.check_keys(keys, defined)
        view, tags = (
            definitions.stream_view(input.get("StreamSpecification")),
            definitions.tags_of(input.get("Tags", [])),
        )
        settings = definitions.settings_of(call, input)
        if "ResourcePolicy" in input:
            check_policy(input["ResourcePolicy"])
            settings["policies"] = {table_arn(scope, name): [input["ResourcePolicy"], new_revision(now)]}

        def create(tx: Tx) -> Table:
            indexes = definitions.indexes_of(tx, input, defined, billing)
            definitions.check_used(keys, indexes, defined)
            if self._tables.get(scope, name, tx) is not None:
                raise in_use(f"Table already exists: {name}")
            table = Table(
                id=records.new_id(tx),
                name=name,
                uuid=str(uuid.uuid4()),
                created=now,
                definitions=defined,
                keys=keys,
                indexes=indexes,
                billing=billing,
                billing_changed=now if billing == "PAY_PER_REQUEST" else 0.0,
                throughput=input.get("ProvisionedThroughput", {}),
                tags=tags,
                **settings,
            )
            if view:
                table = self._open_stream(tx, scope, table, view, now)
            self._tables.put(tx, scope, name, table)
            return table

        return {"TableDescription": describe(scope, await self._db.write(create), {})}

    async def DeleteTable(self, call: Call, input: Input) -> Output:
        plan = self._plan_named(call, input["TableName"])
        now = self.clock.now()

        def delete(tx: Tx) -> Table:
            table = self._current(tx, plan)
            definitions.check_deletable(table)
            for id in (table.id, *(index.id for index in table.indexes)):
                records.discard(tx, id)
            if table.stream_view:
                self._close_stream(tx, plan.scope, table, now)
            self._tables.delete(tx, plan.scope, table.name)
            return table

        table = await self._db.write(delete)
        self._plans.pop((plan.scope, table.name), None)
        self._counts.pop(table.id, None)
        self._stream_changed(table)
        self._sweep()
        return {"TableDescription": _deleted(plan.scope, table)}

    async def DescribeTable(self, call: Call, input: Input) -> Output:
        plan = self._plan_named(call, input["TableName"])
        return {"Table": describe(plan.scope, plan.table, await self._sizes(plan.table))}

    async def ListTables(self, call: Call, input: Input) -> Output:
        limit, after = input.get("Limit", 100), input.get("ExclusiveStartTableName", "")
        names = [record.name for record in self._tables.list(call.scope) if record.name > after]
        output: Output = {"TableNames": names[:limit]}
        if len(names) > limit:
            output["LastEvaluatedTableName"] = names[limit - 1]
        return output

    async def UpdateTable(self, call: Call, input: Input) -> Output:
        definitions.refuse_unsupported("UpdateTable", input)
        plan = self._plan_named(call, input["TableName"])
        scope, now = plan.scope, self.clock.now()
        given = definitions.definitions_of(input.get("AttributeDefinitions", []))
        settings = definitions.settings_of(call, input)
        if not any(input[name] != [] for name in input.keys() - {"TableName", "AttributeDefinitions"}):
            raise invalid(
                "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates, "
                "SSESpecification, ReplicaUpdates, MultiAccountReplicaReady, ReplicaTransitRoleArn, "
                "MultiRegionConsistency, DeletionProtectionEnabled, OnDemandThroughput, WarmThroughput or TableClass "
                "is required"
            )
        if call.request is None:
            # A stack does one change after the other, and each is done when it is over.
            await self._built(plan.id)

        def update(tx: Tx) -> tuple[Table, Table]:
            before = self._current(tx, plan)
            if any(index.building for index in before.indexes):
                raise in_use(
                    f"Attempt to change a resource which is still in use: Table is being updated: {before.name}"
                )
            table = replace(before, **settings, **_billing(before, input, now))
            table = replace(table, **self._change_indexes(tx, table, input, given))
            if "StreamSpecification" in input:
                table = self._switch_stream(tx, scope, table, input["StreamSpecification"], now)
            self._tables.put(tx, scope, table.name, table)
            return before, table

        before, table = await self._db.write(update)
        if before.stream_view != table.stream_view:
            self._stream_changed(table)
        if len(before.indexes) > len(table.indexes):
            self._sweep()
        self._build(scope, table)
        described = describe(scope, table, await self._sizes(table))
        if call.request is None:
            await self._built(plan.id)
        return {"TableDescription": described}

    def _plan_named(self, call: Call, name: str) -> Plan:
        """As ``_plan``, with the table's name in the error."""
        try:
            return self._plan(call, name)
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise
            raise no_table(name.rpartition("/")[2]) from None

    def _current(self, tx: Tx, plan: Plan) -> Table:
        record = self._tables.get(plan.scope, plan.table.name, tx)
        if record is None or record.value.id != plan.id:
            raise no_table(plan.table.name)
        return record.value

    async def _sizes(self, table: Table) -> Sizes:
        """How many items a table and its indexes have, of large ones as it was up to a minute ago."""
        sizes = {table.id: await self._size("items", table.id)}
        for index in table.indexes:
            sizes[index.id] = await self._size("entries", index.id)
        return sizes

    async def _size(self, rows: str, id: int) -> tuple[int, int]:
        now = self.clock.now()
        known = self._counts.get(id)
        if known is not None and now < known[0] + _COUNT_KEPT:
            return known[1]
        size = await self._db.read(lambda tx: records.count(tx, rows, id, _COUNTED_AT_ONCE))
        if size[0] == _COUNTED_AT_ONCE:
            size = await self._db.scan(lambda tx: records.count(tx, rows, id, -1))
            self._counts[id] = now, size
        return size


def _deleted(scope: str, table: Table) -> dict[str, Any]:
    kept = ("TableName", "TableStatus", "ProvisionedThroughput", "TableSizeBytes", "ItemCount", "TableArn", "TableId")
    described = describe(scope, table, {}, "DELETING")
    return {
        name: described[name]
        for name in (*kept, "BillingModeSummary", "DeletionProtectionEnabled")
        if name in described
    }


def _billing(table: Table, input: Input, now: float) -> dict[str, Any]:
    """The fields of billing that an update sets. Raises ValidationException."""
    billing, given = input.get("BillingMode", table.billing), input.get("ProvisionedThroughput")
    if "BillingMode" in input or given is not None:
        definitions.check_throughput(given, billing)
    if billing == "PAY_PER_REQUEST":
        if table.billing == billing:
            return {}
        indexes = [replace(index, throughput={}) for index in table.indexes]
        return {"billing": billing, "billing_changed": now, "throughput": {}, "indexes": indexes}
    if given is None:
        return {}
    if billing == table.billing and given == table.throughput:
        raise invalid(
            "The provisioned throughput for the table will not change. The requested value equals the current value. "
            f"Current ReadCapacityUnits provisioned for the table: {given['ReadCapacityUnits']}. Requested "
            f"ReadCapacityUnits: {given['ReadCapacityUnits']}. Current WriteCapacityUnits provisioned for the table: "
            f"{given['WriteCapacityUnits']}. Requested WriteCapacityUnits: {given['WriteCapacityUnits']}. "
            "Refer to the Amazon DynamoDB Developer Guide for current limits and how to request higher limits."
        )
    fields: dict[str, Any] = {"billing": billing, "throughput": given}
    if table.billing != billing:
        updates = {
            update["Update"]["IndexName"]: update["Update"].get("ProvisionedThroughput")
            for update in input.get("GlobalSecondaryIndexUpdates", [])
            if "Update" in update
        }
        for index in table.indexes:
            if index.is_global and not updates.get(index.name):
                raise bad_parameter(f"ProvisionedThroughput must be specified for index: {index.name}")
    return fields
