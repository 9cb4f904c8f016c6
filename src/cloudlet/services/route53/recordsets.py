"""Operations on record sets."""

from __future__ import annotations

import ipaddress
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.route53 import errors, names
from cloudlet.services.route53.answers import Entry, Outside, Question, answer
from cloudlet.services.route53.base import limit
from cloudlet.services.route53.changing import Batch
from cloudlet.services.route53.delegation import Delegation
from cloudlet.services.route53.names import BadName
from cloudlet.services.route53.records import RecordSet
from cloudlet.store import Tx

_PAGE = 300
_LONG = 20  # changes; a batch of more is written off the event loop


class RecordSets(Delegation):
    """Changing, listing and asking."""

    async def ChangeResourceRecordSets(self, call: Call, input: Input) -> Output:
        zone = self._own_zone(call, input["HostedZoneId"])
        changes, comment = input["ChangeBatch"]["Changes"], input["ChangeBatch"].get("Comment")
        batch = Batch(zone, changes, lambda id: self._checks.get(call.account, id) is not None, self.index.blocks)
        now = self.clock.now()

        def change(tx: Tx) -> Output:
            if self._zones.get(call.account, zone.id, tx) is None:
                raise errors.no_such_zone(zone.id)
            batch.apply(tx, self._sets, self._zones)
            return self._change(tx, now, comment)

        async with self._turn(zone.id):
            info = await self._db.write(change, long=len(changes) > _LONG)
            for name in {one.name for _, one in batch.changes}:
                self._refresh(zone.id, name)
        return {"ChangeInfo": info}

    def _refresh(self, zone: str, name: str) -> None:
        """Have the index say of a name what is stored."""
        if (index := self.index.zones.get(zone)) is not None:
            index.put(name, [record.value for record in self._sets.list(f"{zone}/{name}")])

    async def ListResourceRecordSets(self, call: Call, input: Input) -> Output:
        index = self.index.zones[self._zone(call, input["HostedZoneId"]).id]
        size = limit(input, most=_PAGE)
        if "StartRecordType" in input and "StartRecordName" not in input:
            raise errors.invalid("The input is not valid")
        if "StartRecordIdentifier" in input and "StartRecordType" not in input:
            raise errors.invalid("The input is not valid")
        start: tuple[Any, ...] = ()
        if "StartRecordName" in input:
            name = _name(input["StartRecordName"])
            start = (names.order(name), input.get("StartRecordType", ""), input.get("StartRecordIdentifier", ""))
        page: list[RecordSet] = []
        for name in index.ordered():
            order = names.order(name)
            if start and order < start[0]:
                continue
            for kind, sets in index.nodes[name].items():
                page += [one for one in sets if (order, kind, one.identifier or "") >= start]
            if len(page) > size:
                break
        output: Output = {
            "ResourceRecordSets": [shown(one) for one in page[:size]],
            "IsTruncated": len(page) > size,
            "MaxItems": str(size),
        }
        if len(page) > size:
            following = page[size]
            output |= {"NextRecordName": following.name, "NextRecordType": following.type}
            if following.identifier is not None:
                output["NextRecordIdentifier"] = following.identifier
        return output

    async def TestDNSAnswer(self, call: Call, input: Input) -> Output:
        client = _client(input)
        zone = self._zone(call, input["HostedZoneId"])
        name, kind = _name(input["RecordName"]), input["RecordType"]
        if not names.within(name, zone.name):
            raise errors.invalid(f"The record name {name} is not within the zone {zone.name}")
        outside: dict[Question, tuple[Entry, ...]] = {}
        question, view = Question(name, kind), self.view(outside, client, self.index.only(zone.id))
        while isinstance(found := answer(question, view), Outside):
            outside[found.question] = await self.server.outside(found) if found.alias else ()
        entries = [entry for entry in (found.entries if found is not None else ()) if entry.name == name]
        return {
            "Nameserver": zone.name_servers[0],
            "RecordName": name,
            "RecordType": kind,
            "RecordData": [value for entry in entries[:1] for value in entry.values],
            "ResponseCode": found.rcode if found is not None else "NOERROR",
            "Protocol": "UDP",
        }


def shown(one: RecordSet) -> Output:
    """A record set as the API shows it."""
    output: Output = {"Name": one.name, "Type": one.type}
    members = {
        "SetIdentifier": one.identifier,
        "Weight": one.weight,
        "Region": one.region or None,
        "GeoLocation": one.geo or None,
        "CidrRoutingConfig": one.cidr or None,
        "Failover": one.failover or None,
        "MultiValueAnswer": one.multivalue,
        "TTL": one.ttl,
        "ResourceRecords": [{"Value": value} for value in one.values] or None,
        "HealthCheckId": one.health_check or None,
    }
    output |= {name: value for name, value in members.items() if value is not None}
    if one.alias is not None:
        output["AliasTarget"] = {
            "HostedZoneId": one.alias.zone,
            "DNSName": one.alias.name,
            "EvaluateTargetHealth": one.alias.evaluate,
        }
    return output


def _client(input: Input) -> str:
    """The address that asks, as a test gives it. Raises InvalidInput."""
    address = str(input.get("EDNS0ClientSubnetIP") or input.get("ResolverIP") or "127.0.0.1")
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        raise errors.invalid(f"Invalid IP address: {address}") from None


def _name(text: str) -> str:
    try:
        return names.canonical(text)
    except BadName as error:
        raise AwsError("InvalidInput", str(error)) from None
