"""What all operations of DynamoDB stand on: the database, the tables in it, and what goes on in the background."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input
from cloudlet.services.dynamodb import policy, records
from cloudlet.services.dynamodb.errors import bad_name, no_table
from cloudlet.services.dynamodb.records import Stream, Table
from cloudlet.services.dynamodb.reporting import Reporting
from cloudlet.services.dynamodb.schema import Plan
from cloudlet.services.dynamodb.values import decode
from cloudlet.store import Database, Resources, Tx

_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}\Z")
_CHUNK = 250  # rows that are deleted in one go, so that other writers need not wait long


class Base(api.Service):
    """The state of the service."""

    name = "dynamodb"

    _db: Database
    _tables: Resources[Table]
    _streams: Resources[Stream]

    async def start(self) -> None:
        self._db = await self.cloud.store.database("dynamodb", records.MIGRATIONS)
        self._tables = self._db.resources(Table)
        self._streams = self._db.resources(Stream)
        self.reporting = Reporting(self.cloud.metrics, self._tables)
        self._plans: dict[tuple[str, str], Plan] = {}
        self._sweeping: asyncio.Task[None] | None = None
        if await self._db.read(records.garbage) is not None:
            self._sweep()

    async def resource_policy(self, call: Call, input: Input) -> str | None:
        found = [held[0] for name in policy.tables_of(input) for held in self._policies(call, name)]
        return policy.joined(found)

    def _policies(self, call: Call, name: str) -> list[list[str]]:
        """The policies of a table, or of the stream that is named."""
        try:
            table = self._plan(call, name.split("/stream/")[0].split("/index/")[0]).table
        except AwsError:
            return []
        wanted = "/stream/" in name
        return [held for arn, held in table.policies.items() if ("/stream/" in arn) == wanted]

    def _plan(self, call: Call, name: str) -> Plan:
        """The table that a request names, by its name or ARN. Raises ResourceNotFoundException."""
        scope = call.scope
        record = self._tables.get(scope, name)
        if record is None:
            if name.startswith("arn:"):
                scope, name = place_of(name)
                record = self._tables.get(scope, name)
            elif not _NAME.match(name):
                raise bad_name()
            if record is None:
                raise no_table()
        plan = self._plans.get((scope, name))
        if plan is None or plan.record is not record:
            plan = self._plans[scope, name] = Plan(record)
        return plan

    def _shown(self, call: Call, body: bytes) -> Any:
        """A stored item for an answer: as it is for the wire, decoded for another service."""
        return msgspec.Raw(body) if call.request is not None else decode(body)

    def _sweep(self) -> None:
        """Delete in the background what deleted tables and indexes have left behind."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = self.cloud.spawn(self._sweep_all(), "dynamodb sweeps")

    async def _sweep_all(self) -> None:
        while (id := await self._db.read(records.garbage)) is not None:
            number: int = id

            def drop(tx: Tx, number: int = number) -> None:
                records.sweep(tx, number, _CHUNK)

            await self._db.write(drop, long=True)


def place_of(arn: str) -> tuple[str, str]:
    """The scope and the table's name in the ARN of a table, an index or a stream. Raises ValidationException."""
    parts = arn.split(":", 5)
    if len(parts) < 6 or parts[2] != "dynamodb" or not parts[5].startswith("table/"):
        raise bad_name()
    return f"{parts[4]}/{parts[3]}", parts[5].split("/")[1]
