"""Global secondary indexes of tables that have items: added with a backfill, changed, dropped."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Input
from cloudlet.services.dynamodb import definitions, records
from cloudlet.services.dynamodb.base import Base
from cloudlet.services.dynamodb.errors import bad_parameter, invalid
from cloudlet.services.dynamodb.records import Index, Table
from cloudlet.services.dynamodb.schema import Plan
from cloudlet.services.dynamodb.values import decode
from cloudlet.store import Tx

_CHUNK = 200  # items that are put into an index in one go, so that other writers need not wait long
_SOME = "SELECT hash, range, size, item FROM items WHERE id = ? AND (hash, range) > (?, ?) ORDER BY hash, range LIMIT ?"


class Indexes(Base):
    """The building of indexes. From its first moment an index gets every write; the backfill adds what was there."""

    async def start(self) -> None:
        await super().start()
        self._builds: dict[int, asyncio.Task[None]] = {}
        for record in self._tables.all():
            self._build(record.scope, record.value)

    def _change_indexes(self, tx: Tx, table: Table, input: Input, given: dict[str, str]) -> dict[str, Any]:
        """The fields of a table that an update of its indexes sets. Raises ValidationException."""
        updates = input.get("GlobalSecondaryIndexUpdates") or ()
        indexes = {index.name: index for index in table.indexes}
        defined = {**table.definitions, **given}
        for update in updates:
            if not update:
                raise bad_parameter(
                    "At least one of Create, Update or Delete is required in GlobalSecondaryIndexUpdate"
                )
            if len(update) != 1:
                raise bad_parameter("Only one global secondary index update per index is allowed simultaneously")
        if sum("Update" not in update for update in updates) > 1:
            raise AwsError(
                "LimitExceededException",
                "Subscriber limit exceeded: Only 1 online index can be created or deleted simultaneously per table",
            )
        if not updates:
            return {}
        for update in updates:
            ((kind, change),) = update.items()
            name = change["IndexName"]
            if kind == "Create":
                if name in indexes:
                    raise invalid(f"Attempting to create an index which already exists: {name}")
                definitions.check_throughput(change.get("ProvisionedThroughput"), table.billing, name)
                _check_types(change["KeySchema"], table.definitions, given)
                indexes[name] = definitions.index_of(tx, change, given, is_global=True, building=True)
            elif name not in indexes or not indexes[name].is_global:
                raise AwsError("ResourceNotFoundException", f"Requested resource not found: Index {name} not found")
            elif kind == "Delete":
                records.discard(tx, indexes.pop(name).id)
            else:
                indexes[name] = _updated(indexes[name], change, table.billing)
        # Unlike a new table, an update may define what no key uses: it is passed over.
        used = {key["AttributeName"] for keys in (table.keys, *(i.keys for i in indexes.values())) for key in keys}
        return {
            "indexes": list(indexes.values()),
            "definitions": {name: kind for name, kind in defined.items() if name in used},
        }

    def _build(self, scope: str, table: Table) -> None:
        """Fill, in the background, the index that is not complete yet."""
        for index in table.indexes:
            if index.building:
                self._builds[table.id] = self.cloud.spawn(self._fill(scope, table, index.id), f"index {index.name}")

    async def _built(self, id: int) -> None:
        """Wait until no index of a table is being built."""
        if (build := self._builds.get(id)) is not None:
            await asyncio.wait([build])

    async def _fill(self, scope: str, table: Table, index_id: int) -> None:
        try:
            after: tuple[bytes, bytes] | None = (b"", b"")
            while after is not None:
                start: tuple[bytes, bytes] = after

                def fill(tx: Tx, start: tuple[bytes, bytes] = start) -> tuple[bytes, bytes] | None:
                    record = self._tables.get(scope, table.name, tx)
                    if record is None or record.value.id != table.id:
                        return None
                    plan = Plan(record)
                    index = next((index for index in plan.indexes if index.id == index_id), None)
                    if index is None:
                        return None
                    rows = tx.execute(_SOME, (table.id, *start, _CHUNK)).fetchall()
                    for hash, range, size, body in rows:
                        item = decode(body)
                        if (place := index.standing(item)) is not None:
                            tx.execute(
                                records.PUT_ENTRY, (index_id, *place, hash, range, *index.entry(item, size, body))
                            )
                    if len(rows) == _CHUNK:
                        return rows[-1][0], rows[-1][1]
                    indexes = [replace(i, building=i.building and i.id != index_id) for i in record.value.indexes]
                    self._tables.put(tx, scope, table.name, replace(record.value, indexes=indexes))
                    return None

                after = await self._db.write(fill, long=True)
        finally:
            self._builds.pop(table.id, None)


def _updated(index: Index, change: dict[str, Any], billing: str) -> Index:
    given = change.get("ProvisionedThroughput")
    if given is not None:
        definitions.check_throughput(given, billing, index.name)
        if given == index.throughput:
            raise invalid(
                f"The provisioned throughput for the index {index.name} will not change. The requested value equals "
                "the current value. "
                f"Current ReadCapacityUnits provisioned for the index: {given['ReadCapacityUnits']}. "
                f"Requested ReadCapacityUnits: {given['ReadCapacityUnits']}. Current WriteCapacityUnits provisioned "
                f"for the index: {given['WriteCapacityUnits']}. Requested WriteCapacityUnits: "
                f"{given['WriteCapacityUnits']}. Refer to the Amazon DynamoDB Developer Guide for current limits and "
                "how to request higher limits."
            )
    return replace(
        index,
        throughput=given if given is not None else index.throughput,
        on_demand=change.get("OnDemandThroughput", index.on_demand),
        warm=change.get("WarmThroughput", index.warm),
    )


def _check_types(keys: list[dict[str, str]], known: dict[str, str], given: dict[str, str]) -> None:
    """The keys of a new index have the types that they have elsewhere. Raises ValidationException."""
    for key in keys:
        name = key["AttributeName"]
        if name in given and given[name] != known.get(name, given[name]):
            before, after = (
                f"Schema:[SchemaElement: key{{{name}:{kind}:{key['KeyType']}}}]" for kind in (known[name], given[name])
            )
            raise bad_parameter(
                "Attributes cannot be redefined. Please check that your attribute has the same type as previously "
                f"defined. Existing schema: {before} New schema: {after}"
            )
