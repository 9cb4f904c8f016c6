"""What all operations of Cloud Map stand on: the database, Route 53, and how operations are noted."""

from __future__ import annotations

import asyncio
import base64
import secrets
import string
import uuid
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from cloudlet.errors import AwsError
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.servicediscovery import dns, records
from cloudlet.services.servicediscovery.records import Instance, Namespace, Operation, Revision, Service
from cloudlet.store import Database, Resources, Tx

PRINCIPAL = "servicediscovery.amazonaws.com"
_LETTERS = string.ascii_lowercase + string.digits
_OPERATIONS_KEPT = 30 * 86400.0  # seconds
_BATCH = 100  # changes that Route 53 is asked for at once


class Base(api.Service):
    """The state of the service. What it wants in DNS it has Route 53 keep."""

    name = "servicediscovery"

    _db: Database
    _namespaces: Resources[Namespace]
    _services: Resources[Service]
    _instances: Resources[Instance]
    _revisions: Resources[Revision]
    _turns: WeakValueDictionary[str, asyncio.Lock]

    async def start(self) -> None:
        self._db = await self.cloud.store.database("servicediscovery", records.MIGRATIONS)
        self._namespaces = self._db.resources(Namespace)
        self._services = self._db.resources(Service)
        self._instances = self._db.resources(Instance)
        self._revisions = self._db.resources(Revision)
        self._turns = WeakValueDictionary()
        oldest = self.clock.now() - _OPERATIONS_KEPT
        await self._db.write(lambda tx: tx.execute("DELETE FROM operation WHERE at < ?", (oldest,)))
        for record in self._namespaces.all():
            if record.value.type != "HTTP":
                await self._reconcile(record.value)

    async def route53(self, operation: str, input: Input, account: str) -> Output:
        """Call Route 53 as the keeper of Cloud Map's zones and health checks."""
        return await self.cloud.call(
            "route53", operation, input, account=account, region="us-east-1", principal=PRINCIPAL
        )

    async def change_dns(self, namespace: Namespace, changes: list[dict[str, Any]]) -> None:
        """Make changes in a namespace's hosted zone."""
        for start in range(0, len(changes), _BATCH):
            batch = {"Changes": changes[start : start + _BATCH]}
            await self.route53(
                "ChangeResourceRecordSets", {"HostedZoneId": namespace.zone, "ChangeBatch": batch}, namespace.account
            )

    async def ensure_zone(self, namespace: Namespace) -> Namespace:
        """Have the namespace's hosted zone made, or found when a crash came between. Raises AwsError."""
        vpc = {"VPC": {"VPCId": namespace.vpc, "VPCRegion": namespace.region}} if namespace.vpc else {}
        comment = f"Created by AWS Cloud Map namespace with ARN {namespace.arn}"
        given = {"Name": namespace.name, "CallerReference": namespace.id, "HostedZoneConfig": {"Comment": comment}}
        try:
            made = await self.route53("CreateHostedZone", given | vpc, namespace.account)
            zone = made["HostedZone"]["Id"].rpartition("/")[2]
        except AwsError as error:
            if error.code != "HostedZoneAlreadyExists":
                raise
            zone = await self._zone_of(namespace)
        return await self._edit_namespace(namespace, zone=zone)

    async def _zone_of(self, namespace: Namespace) -> str:
        marker: Input = {}
        while True:
            page = await self.route53("ListHostedZones", marker, namespace.account)
            for zone in page["HostedZones"]:
                if zone["CallerReference"] == namespace.id:
                    return str(zone["Id"].rpartition("/")[2])
            marker = {"Marker": page["NextMarker"]}

    async def _edit_namespace(self, namespace: Namespace, **fields: Any) -> Namespace:
        from msgspec.structs import replace

        scope = f"{namespace.account}/{namespace.region}"

        def edit(tx: Tx) -> Namespace:
            current = self._namespaces.get(scope, namespace.id, tx)
            if current is None:
                raise no_such_namespace(namespace.id)
            changed = replace(current.value, **fields)
            self._namespaces.put(tx, scope, namespace.id, changed)
            return changed

        return await self._db.write(edit)

    async def _reconcile(self, namespace: Namespace) -> None:
        """Make Route 53 have what a crash may have kept it from getting; nothing where all is there."""
        if not namespace.zone:
            namespace = await self.ensure_zone(namespace)
        try:
            there = await self._records_of(namespace)
        except AwsError as error:
            if error.code != "NoSuchHostedZone":
                raise
            # A deletion of the namespace was cut short: nobody has been told that it is gone.
            namespace, there = await self.ensure_zone(namespace), []
        scope = f"{namespace.account}/{namespace.region}"
        wanted = [
            one
            for service in self._services.list(scope)
            if service.value.namespace == namespace.id
            for instance in self._instances.list(service.name)
            for one in dns.record_sets(namespace, service.value, instance.value)
        ]
        await self.change_dns(namespace, dns.changes(there, wanted))

    async def _records_of(self, namespace: Namespace) -> list[dict[str, Any]]:
        """All record sets of the namespace's zone that are not the zone's own."""
        there: list[dict[str, Any]] = []
        start: Input = {}
        names = {
            "NextRecordName": "StartRecordName",
            "NextRecordType": "StartRecordType",
            "NextRecordIdentifier": "StartRecordIdentifier",
        }
        while True:
            page = await self.route53(
                "ListResourceRecordSets", {"HostedZoneId": namespace.zone, **start}, namespace.account
            )
            there += [one for one in page["ResourceRecordSets"] if one["Type"] not in ("NS", "SOA")]
            if not page["IsTruncated"]:
                return there
            start = {theirs: page[ours] for ours, theirs in names.items() if ours in page}

    def _namespace(self, call: Call, id: str, tx: Tx | None = None) -> Namespace:
        """A namespace by its id or ARN. Raises NamespaceNotFound."""
        record = self._namespaces.get(call.scope, plain(id), tx)
        if record is None:
            raise no_such_namespace(id)
        return record.value

    def _service(self, call: Call, id: str, tx: Tx | None = None) -> Service:
        """A service by its id or ARN. Raises ServiceNotFound."""
        record = self._services.get(call.scope, plain(id), tx)
        if record is None:
            raise AwsError("ServiceNotFound", id)
        return record.value

    def _note(
        self, tx: Tx, call: Call, type: str, now: float, namespace: str = "", service: str = "", instance: str = ""
    ) -> str:
        """Note an operation, which is over by the time that anybody hears of it, and return its id."""
        id = f"{''.join(secrets.choice(_LETTERS) for _ in range(32))}-{secrets.token_hex(4)}"
        tx.execute(
            "INSERT INTO operation (id, scope, type, namespace, service, instance, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (id, call.scope, type, namespace, service, instance, now),
        )
        return id

    async def GetOperation(self, call: Call, input: Input) -> Output:
        columns = "id, type, namespace, service, instance, at, fault"
        row = await self._db.read(
            lambda tx: tx.execute(
                f"SELECT {columns} FROM operation WHERE id = ? AND scope = ?", (input["OperationId"], call.scope)
            ).fetchone()
        )
        if row is None:
            raise AwsError("OperationNotFound", input["OperationId"])
        found = Operation(*row)
        targets = {"NAMESPACE": found.namespace, "SERVICE": found.service, "INSTANCE": found.instance}
        shown: Output = {
            "Id": found.id,
            "OwnerAccount": call.account,
            "Type": found.type,
            "Status": "FAIL" if found.fault else "SUCCESS",
            "CreateDate": found.at,
            "UpdateDate": found.at,
            "Targets": {kind: target for kind, target in targets.items() if target},
        }
        if found.fault:  # nothing else can go wrong here
            shown |= {"ErrorCode": "CANNOT_CREATE_HOSTED_ZONE", "ErrorMessage": found.fault}
        return {"Operation": shown}

    async def ListOperations(self, call: Call, input: Input) -> Output:
        columns = {"NAMESPACE_ID": "namespace", "SERVICE_ID": "service", "TYPE": "type"}
        # What was done to a namespace is listed as long as that is there.
        namespaces = [record.name for record in self._namespaces.list(call.scope)]
        services = [record.name for record in self._services.list(call.scope)]
        there = f"(namespace IN ({_marks(namespaces)}) OR namespace = '' AND service IN ({_marks(services)}))"
        where = ["scope = ?", "number < ?", there]
        values: list[Any] = [call.scope, int(token_of(input) or 2**62), *namespaces, *services]
        for one in input.get("Filters", ()):
            if one["Name"] == "STATUS":
                where.append(f"CASE fault WHEN '' THEN 'SUCCESS' ELSE 'FAIL' END IN ({_marks(one['Values'])})")
                values += one["Values"]
            elif one["Name"] == "UPDATE_DATE":
                if one.get("Condition") != "BETWEEN" or len(one["Values"]) != 2:
                    raise invalid("UPDATE_DATE takes the condition BETWEEN and two values.")
                where.append("at BETWEEN ? AND ?")
                values += [float(value) for value in one["Values"]]
            else:
                _check_condition(one, ("EQ", "IN") if one["Name"] == "TYPE" else ("EQ",))
                where.append(f"{columns[one['Name']]} IN ({_marks(one['Values'])})")
                values += one["Values"]
        size = input.get("MaxResults", 100)
        rows = await self._db.scan(
            lambda tx: tx.execute(
                f"SELECT number, id, fault FROM operation WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?",
                (*values, size + 1),
            ).fetchall()
        )
        output: Output = {
            "Operations": [{"Id": id, "Status": "FAIL" if fault else "SUCCESS"} for _, id, fault in rows[:size]]
        }
        return output | ({"NextToken": token(str(rows[size - 1][0]))} if len(rows) > size else {})


def _marks(values: list[Any]) -> str:
    return ", ".join("?" * len(values))


def filtered(items: list[Any], filters: list[dict[str, Any]], readers: dict[str, Callable[[Any], str]]) -> list[Any]:
    """The items that pass every filter. Raises InvalidInput."""
    for one in filters:
        read, wanted = readers[one["Name"]], one["Values"]
        prefixes = one["Name"] in ("TYPE", "NAME", "HTTP_NAME")
        _check_condition(one, ("EQ", "BEGINS_WITH", "IN") if prefixes else ("EQ", "IN"))
        if one.get("Condition") == "BEGINS_WITH":
            items = [item for item in items if read(item).startswith(wanted[0])]
        else:
            items = [item for item in items if read(item) in wanted]
    return items


def paged(items: list[Any], input: Input, read: Callable[[Any], str]) -> tuple[list[Any], Output]:
    """A page of items, which are in the order of what ``read`` gives, and the next page's token."""
    if (after := token_of(input)) is not None:
        items = [item for item in items if read(item) > after]
    size = input.get("MaxResults", 100)
    return items[:size], {"NextToken": token(read(items[size - 1]))} if len(items) > size else {}


def token(text: str) -> str:
    """A page's token."""
    return base64.urlsafe_b64encode(text.encode()).decode()


def token_of(input: Input) -> str | None:
    """What a token says. Raises InvalidInput."""
    if "NextToken" not in input:
        return None
    try:
        return base64.urlsafe_b64decode(input["NextToken"].encode()).decode()
    except ValueError:
        raise invalid("The token is not valid.") from None


def _check_condition(one: dict[str, Any], allowed: tuple[str, ...]) -> None:
    condition = one.get("Condition", "EQ")
    if condition not in allowed or (condition in ("EQ", "BEGINS_WITH") and len(one["Values"]) != 1):
        raise invalid(f"The filter {one['Name']} does not take the condition {condition} with these values.")


def invalid(words: str) -> AwsError:
    """The request contradicts itself."""
    return AwsError("InvalidInput", words)


def no_such_namespace(id: str) -> AwsError:
    """The namespace is not there."""
    return AwsError("NamespaceNotFound", id)


def plain(id: str) -> str:
    """The id in an ARN, or the id."""
    return id.rpartition("/")[2]


def new_id(kind: str) -> str:
    """An id as Cloud Map makes them: ``ns-`` or ``srv-`` and 16 letters."""
    return kind + "".join(secrets.choice(_LETTERS) for _ in range(16))


def creator(input: Input) -> str:
    """The request's id, made up where the caller has none."""
    return str(input.get("CreatorRequestId") or uuid.uuid4())
