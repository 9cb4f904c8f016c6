"""Change batches: every change judged on top of those before it, then all of them made, or none."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.route53 import errors, names, rdata
from cloudlet.services.route53.base import plain
from cloudlet.services.route53.names import BadName
from cloudlet.services.route53.rdata import BadValue
from cloudlet.services.route53.records import Alias, RecordSet, Zone
from cloudlet.store import Record, Resources, Tx

_RECORDS_AT_MOST = 1000
_CHARACTERS_AT_MOST = 32_000
_NOT_THERE = ("GeoProximityLocation", "AZAffinity", "TrafficPolicyInstanceId")
_POLICIES = ("Weight", "Region", "Failover", "GeoLocation", "CidrRoutingConfig", "MultiValueAnswer")
_ONE_VALUE = frozenset(("CNAME", "SOA"))
_NO_ALIAS = frozenset(("NS", "SOA"))


class Batch:
    """The changes of one request to one zone."""

    def __init__(
        self, zone: Zone, changes: list[dict[str, Any]], exists: Callable[[str], bool], collections: Container[str]
    ) -> None:
        """Read the changes. ``exists`` tells whether a health check is there, ``collections`` are those of CIDR blocks.

        Raises AwsError.
        """
        self._zone = zone
        self._messages: list[str] = []
        _check_size(changes)
        self.changes = [(change["Action"], self._read(change)) for change in changes]
        for action, one in self.changes:
            if action != "DELETE" and one.health_check and not exists(one.health_check):
                raise errors.no_such_check(one.health_check)
            if action != "DELETE" and one.cidr and one.cidr["CollectionId"] not in collections:
                self._say(f"Invalid request: no CIDR collection found with ID: {one.cidr['CollectionId']}")
        self._refuse()

    def apply(self, tx: Tx, stored: Resources[RecordSet], zones: Resources[Zone]) -> None:
        """Make the changes within a transaction. Raises InvalidChangeBatch, with everything that is wrong."""
        zone = self._zone
        for action, one in self.changes:
            scope = f"{zone.id}/{one.name}"
            current = stored.get(scope, one.key, tx)
            if action == "CREATE" and current is not None:
                self._say(f"Tried to create resource record set {_described(one)} but it already exists")
            elif action == "DELETE":
                self._delete(tx, stored, one, current)
            else:
                others = [record.value for record in stored.list(scope, tx=tx) if record.name != one.key]
                self._check_place(one, others)
                stored.put(tx, scope, one.key, one)
        for action, one in self.changes:
            if action != "DELETE" and one.alias is not None:
                self._check_alias(tx, stored, zones, one, one.alias)
        self._refuse()

    def _delete(self, tx: Tx, stored: Resources[RecordSet], one: RecordSet, current: Record[RecordSet] | None) -> None:
        if current is None:
            self._say(f"Tried to delete resource record set {_described(one)} but it was not found")
        elif not _same(one, current.value):
            self._say(
                f"Tried to delete resource record set {_described(one)} but the values provided do not match the "
                "current values"
            )
        elif one.name == self._zone.name and one.type in ("NS", "SOA"):
            much = "at least one NS record" if one.type == "NS" else "exactly one SOA record"
            self._say(f"A HostedZone must contain {much} for the zone itself.")
        else:
            stored.delete(tx, current.scope, current.name)

    def _check_place(self, one: RecordSet, others: list[RecordSet]) -> None:
        """Judge a record set beside the others of its name."""
        zone = self._zone.name
        if one.type == "CNAME" and one.name == zone:
            self._say(f"RRSet of type CNAME with DNS name {one.name} is not permitted at apex in zone {zone}")
        elif one.type == "CNAME" and any(other.type != "CNAME" for other in others):
            self._say(
                f"RRSet of type CNAME with DNS name {one.name} is not permitted as it conflicts with other records "
                f"with the same DNS name in zone {zone}"
            )
        elif one.type != "CNAME" and any(other.type == "CNAME" for other in others):
            self._say(
                f"RRSet of type {one.type} with DNS name {one.name} is not permitted because a conflicting RRSet of "
                f"type  CNAME with the same DNS name already exists in zone {zone}"
            )
        elif one.type == "SOA" and one.name != zone:
            self._say(f"RRSet of type SOA with DNS name {one.name} is only permitted at the apex of zone {zone}")
        beside = [other for other in others if other.type == one.type]
        identifier = f", SetIdentifier {one.identifier}" if one.identifier is not None else ""
        if other := next((other for other in beside if other.policy != one.policy), None):
            self._say(
                f"RRSet with DNS name {one.name}, type {one.type}{identifier} cannot be created because a "
                f"{other.policy} rrset exists with the same name and type."
            )
        for field, words in (
            ("failover", "failover"),
            ("region", "region"),
            ("geo", "geolocation"),
            ("cidr", "CIDR location"),
        ):
            value = getattr(one, field)
            if value and any(getattr(other, field) == value for other in beside):
                self._say(
                    f"RRSet with DNS name {one.name}, type {one.type}{identifier} cannot be created because an rrset "
                    f"exists with the same name, type and {words}."
                )

    def _check_alias(
        self, tx: Tx, stored: Resources[RecordSet], zones: Resources[Zone], one: RecordSet, alias: Alias
    ) -> None:
        """Judge where an alias leads, when that is a zone of ours; all other zones belong to AWS's services."""
        target = zones.get(self._zone.account, alias.zone, tx)
        if target is None:
            return
        words = f"Tried to create an alias that targets {alias.name}, type {one.type} in zone {alias.zone}, but "
        if not names.within(alias.name, target.value.name):
            self._say(words + "the alias target name does not lie within the target zone")
        if not any(record.value.type == one.type for record in stored.list(f"{alias.zone}/{alias.name}", tx=tx)):
            self._say(words + "that target was not found")

    def _read(self, change: dict[str, Any]) -> RecordSet:
        given = change["ResourceRecordSet"]
        for member in _NOT_THERE:
            if member in given:
                raise not_implemented(f"ChangeResourceRecordSets with {member}")
        kind, values = given["Type"], tuple(record["Value"] for record in given.get("ResourceRecords", ()))
        try:
            name = names.canonical(given["Name"])
            target = given.get("AliasTarget")
            alias = (
                Alias(plain(target["HostedZoneId"]), names.canonical(target["DNSName"]), target["EvaluateTargetHealth"])
                if target is not None
                else None
            )
        except BadName as error:
            raise AwsError("InvalidChangeBatch", str(error)) from None
        _check_form(change["Action"], given)
        one = RecordSet(
            name,
            kind,
            given.get("TTL"),
            values,
            alias,
            given.get("SetIdentifier"),
            given.get("Weight"),
            given.get("Region", ""),
            given.get("Failover", ""),
            given.get("GeoLocation", {}),
            given.get("CidrRoutingConfig", {}),
            given.get("MultiValueAnswer"),
            given.get("HealthCheckId", ""),
        )
        if not names.within(name, self._zone.name):
            self._say(f"RRSet with DNS name {name} is not permitted in zone {self._zone.name}")
        if change["Action"] != "DELETE":
            self._check_values(one)
        return one

    def _check_values(self, one: RecordSet) -> None:
        for value in one.values:
            try:
                rdata.check(one.type, value)
            except BadValue as error:
                self._say(f"Invalid Resource Record: '{error}'")
        if len(set(one.values)) < len(one.values):
            twice = next(value for value in one.values if one.values.count(value) > 1)
            self._say(f"Duplicate Resource Record: '{twice}'")
        if len(one.values) > 1 and one.type in _ONE_VALUE:
            self._say(f"RRSet of type {one.type} with DNS name {one.name} must have exactly one resource record")
        if one.multivalue and len(one.values) > 1:
            self._say(f"RRSet with DNS name {one.name}, type {one.type} has a multivalue answer of several records")
        if one.alias is not None and one.type in _NO_ALIAS:
            self._say(f"RRSet of type {one.type} with DNS name {one.name} cannot be an alias")

    def _say(self, message: str) -> None:
        self._messages.append(message)

    def _refuse(self) -> None:
        if self._messages:
            raise errors.invalid_batch(self._messages)


def _check_size(changes: list[dict[str, Any]]) -> None:
    records = characters = 0
    for change in changes:
        times = 2 if change["Action"] == "UPSERT" else 1
        values = [record["Value"] for record in change["ResourceRecordSet"].get("ResourceRecords", ())]
        records += times * max(len(values), 1)
        characters += times * sum(map(len, values))
    if records > _RECORDS_AT_MOST:
        raise AwsError("InvalidChangeBatch", f"Number of records limit of {_RECORDS_AT_MOST} exceeded.")
    if characters > _CHARACTERS_AT_MOST:
        raise AwsError("InvalidChangeBatch", f"Number of characters limit of {_CHARACTERS_AT_MOST} exceeded.")


def _check_form(action: str, given: dict[str, Any]) -> None:
    """What a record set has, and what it must not have beside it. Raises InvalidInput."""
    where = (
        f"in Change with [Action={action}, Name={given['Name']}, Type={given['Type']}, "
        f"SetIdentifier={given.get('SetIdentifier', 'null')}]"
    )
    own = "TTL" in given and "ResourceRecords" in given
    expected = "Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId]"
    if not own and "AliasTarget" not in given:
        raise errors.invalid(f"Invalid request: {expected}, but found none {where}")
    if "AliasTarget" in given and ("TTL" in given or "ResourceRecords" in given):
        raise errors.invalid(f"Invalid request: {expected}, but found more than one {where}")
    policies = [name for name in _POLICIES if name in given]
    choice = f"Expected exactly one of [{', '.join(_POLICIES[:-1])}, or {_POLICIES[-1]}]"
    if len(policies) > 1:
        raise errors.invalid(f"Invalid request: {choice}, but found more than one {where}")
    if policies and "SetIdentifier" not in given:
        raise errors.invalid(f"Invalid request: Missing field 'SetIdentifier' {where}")
    if "SetIdentifier" in given and not policies and action != "DELETE":
        raise errors.invalid(f"Invalid request: {choice}, but found none {where}")


def _described(one: RecordSet) -> str:
    identifier = f", set-identifier='{one.identifier}'" if one.identifier is not None else ""
    return f"[name='{one.name}', type='{one.type}'{identifier}]"


def _same(given: RecordSet, stored: RecordSet) -> bool:
    """Whether a deletion means the set as it is; what it leaves unsaid of the policy is not compared."""
    if given.ttl != stored.ttl or set(given.values) != set(stored.values) or given.alias != stored.alias:
        return False
    for field in ("weight", "region", "failover", "geo", "cidr", "multivalue", "health_check"):
        value = getattr(given, field)
        if value not in (None, "", {}) and value != getattr(stored, field):
            return False
    return True
