"""What all operations of Route 53 stand on: the database, the index of what is answered, the DNS server."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import string
from typing import Any
from weakref import WeakValueDictionary

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Output
from cloudlet.services.route53 import errors, records
from cloudlet.services.route53.answers import Entry, Question, View
from cloudlet.services.route53.checking import Checker
from cloudlet.services.route53.index import Index
from cloudlet.services.route53.records import (
    CidrCollection,
    DelegationSet,
    Health,
    HealthCheck,
    Listening,
    QueryLog,
    RecordSet,
    Zone,
)
from cloudlet.services.route53.serving import DnsServer
from cloudlet.store import Database, Resources, Tx

log = logging.getLogger("cloudlet.dns")

_ID = string.digits + string.ascii_uppercase
# Services that keep zones and health checks of their own, by their principals.
MANAGERS = {"servicediscovery.amazonaws.com": "AWS Cloud Map"}
_CHANGES_KEPT = 30 * 86400.0  # seconds


class Base(api.Service):
    """The state of the service. Route 53 knows no regions: a scope is an account."""

    name = "route53"

    _db: Database
    _zones: Resources[Zone]
    _sets: Resources[RecordSet]
    _checks: Resources[HealthCheck]
    _healths: Resources[Health]
    _delegations: Resources[DelegationSet]
    _listening: Resources[Listening]
    _query_logs: Resources[QueryLog]
    _cidrs: Resources[CidrCollection]
    logged: dict[str, str]  # the log group's ARN by the zone whose questions go there
    index: Index
    checker: Checker
    server: DnsServer
    _turns: WeakValueDictionary[str, asyncio.Lock]

    async def _open(self) -> None:
        self._db = await self.cloud.store.database("route53", records.MIGRATIONS)
        self._zones = self._db.resources(Zone)
        self._sets = self._db.resources(RecordSet)
        self._checks = self._db.resources(HealthCheck)
        self._healths = self._db.resources(Health)
        self._delegations = self._db.resources(DelegationSet)
        self._listening = self._db.resources(Listening)
        self._query_logs = self._db.resources(QueryLog)
        self._cidrs = self._db.resources(CidrCollection)
        self.logged = {record.value.zone: record.value.group for record in self._query_logs.all()}
        self.index = Index()
        self._turns = WeakValueDictionary()
        for record in self._zones.all():
            self.index.add(record.value)
        for collection in self._cidrs.all():
            self.index.blocks.put(collection.value)
        by_name: dict[str, list[RecordSet]] = {}
        for one in self._sets.all():
            by_name.setdefault(one.scope, []).append(one.value)
        for scope, sets in by_name.items():
            zone, _, name = scope.partition("/")
            self.index.zones[zone].put(name, sets)
        oldest = self.clock.now() - _CHANGES_KEPT
        await self._db.write(lambda tx: tx.execute("DELETE FROM change WHERE submitted < ?", (oldest,)))

    def view(
        self, outside: dict[Question, tuple[Entry, ...]], client: str = "127.0.0.1", index: Index | None = None
    ) -> View:
        """All that answers depend on, now; ``outside`` is what is known of names that are not in our zones."""
        config, healthy = self.cloud.config, self.checker.healthy
        at = tuple(config.location.split("/"))
        return View(index or self.index, healthy, random.randrange, config.region, outside, at, client)

    def _turn(self, zone: str) -> asyncio.Lock:
        """Who changes a zone's records: one after the other, so that the index says what is stored."""
        return self._turns.setdefault(zone, asyncio.Lock())

    async def _serve(self, wanted: tuple[str, int] | None = None) -> None:
        """Have the DNS server listen; zones are kept also where it finds no address."""
        try:
            await self.server.ensure(wanted)
        except OSError as error:
            log.warning("the DNS server cannot listen: %s", error)

    def _zone(self, call: Call, id: str, tx: Tx | None = None) -> Zone:
        """A zone by its id, with or without its path. Raises NoSuchHostedZone."""
        id = plain(id)
        record = self._zones.get(call.account, id, tx)
        if record is None:
            raise errors.no_such_zone(id)
        return record.value

    def _own_zone(self, call: Call, id: str, tx: Tx | None = None) -> Zone:
        """A zone that the caller may change. Raises NoSuchHostedZone and AccessDenied."""
        zone = self._zone(call, id, tx)
        if zone.owner and call.principal != zone.owner:
            raise errors.managed(f"hostedzone/{zone.id}", MANAGERS[zone.owner])
        return zone

    def _change(self, tx: Tx, now: float, comment: str | None = None) -> Output:
        """Note a change; every change is in sync at once."""
        id = new_id("C")
        tx.execute("INSERT INTO change VALUES (?, ?, ?)", (id, now, comment))
        return change_info(id, now, comment)

    async def GetChange(self, call: Call, input: dict[str, Any]) -> Output:
        id = plain(input["Id"])
        row = await self._db.read(lambda tx: tx.execute("SELECT * FROM change WHERE id = ?", (id,)).fetchone())
        if row is None:
            raise AwsError("NoSuchChange", f"Could not find resource with ID: {id}")
        return {"ChangeInfo": change_info(*row)}


def change_info(id: str, submitted: float, comment: str | None) -> Output:
    """A change as the API shows it."""
    info: Output = {"Id": f"/change/{id}", "Status": "INSYNC", "SubmittedAt": submitted}
    return info if comment is None else {**info, "Comment": comment}


def new_id(first: str) -> str:
    """An id as Route 53 makes them."""
    return first + "".join(secrets.choice(_ID) for _ in range(20))


def plain(id: str) -> str:
    """An id without its path: ``/hostedzone/Z1`` is ``Z1``."""
    return id.rpartition("/")[2]


def limit(input: dict[str, Any], member: str = "MaxItems", most: int = 100) -> int:
    """How many items a page has. Raises InvalidInput."""
    text = str(input.get(member, most))
    if not text.isdigit() or int(text) < 1:
        raise errors.invalid(f"Invalid value for {member}: {text}")
    return min(int(text), most)
