"""Operations on hosted zones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace as replace_call
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.route53 import errors, names
from cloudlet.services.route53.base import MANAGERS, Base, limit, new_id, plain
from cloudlet.services.route53.names import BadName
from cloudlet.services.route53.records import DelegationSet, RecordSet, Zone
from cloudlet.store import Tx

_PRIVATE_SERVERS = ["ns-1536.awsdns-00.co.uk", "ns-0.awsdns-00.com", "ns-1024.awsdns-00.org", "ns-512.awsdns-00.net"]
_TOPS = ("co.uk", "com", "org", "net")
_NOT_THERE = ("EnablePublicDNSFallback", "ChangeGuardrails")


class Zones(Base):
    """The life of zones, and the VPCs that private ones belong to."""

    async def CreateHostedZone(self, call: Call, input: Input) -> Output:
        for member in _NOT_THERE:
            if input.get(member):
                raise not_implemented(f"CreateHostedZone with {member}")
        config, vpc = input.get("HostedZoneConfig", {}), input.get("VPC")
        if config.get("HostedZoneTier", "STANDARD") != "STANDARD":
            raise not_implemented("CreateHostedZone with HostedZoneTier")
        name = _zone_name(input["Name"])
        if config.get("PrivateZone") and vpc is None:
            raise errors.invalid(
                "When you're creating a private hosted zone (when you specify true for PrivateZone), you must also "
                "specify values for VPCId and VPCRegion."
            )
        if vpc is not None:
            await self._check_vpc(call, vpc)
        now, id = self.clock.now(), new_id("Z")
        owner = call.principal if call.request is None and call.principal in MANAGERS else ""

        def create(tx: Tx) -> tuple[Zone, Output]:
            others = [record.value for record in self._zones.list(call.account, tx=tx)]
            if any(zone.caller_reference == input["CallerReference"] for zone in others):
                raise AwsError(
                    "HostedZoneAlreadyExists",
                    f"A hosted zone has already been created with the specified caller reference: "
                    f"{input['CallerReference']}",
                )
            zone = Zone(
                id,
                call.account,
                name,
                input["CallerReference"],
                now,
                self._servers(tx, call, input, id, vpc is not None),
                private=vpc is not None,
                comment=config.get("Comment"),
                vpcs=[vpc] if vpc is not None else [],
                delegation_set=plain(input.get("DelegationSetId", "")),
                owner=owner,
                owner_description=config.get("Comment", "") if owner else "",
            )
            if vpc is not None:
                self._check_domain(zone, vpc, others)
            _check_servers(zone, others)
            self._zones.put(tx, call.account, id, zone)
            for one in _own_records(zone):
                self._sets.put(tx, f"{id}/{name}", one.key, one)
            return zone, self._change(tx, now)

        zone, change = await self._db.write(create)
        self.index.add(zone).put(name, _own_records(zone))
        await self._serve()
        output = {
            "Location": f"https://route53.amazonaws.com/2013-04-01/hostedzone/{id}",
            "HostedZone": self._shown(zone),
            "ChangeInfo": change,
        }
        return output | ({"VPC": vpc} if vpc is not None else {"DelegationSet": _delegation(zone)})

    async def GetHostedZone(self, call: Call, input: Input) -> Output:
        zone = self._zone(call, input["Id"])
        place: Output = {"VPCs": zone.vpcs} if zone.private else {"DelegationSet": _delegation(zone)}
        return {"HostedZone": self._shown(zone)} | place

    async def DeleteHostedZone(self, call: Call, input: Input) -> Output:
        now = self.clock.now()
        zone = self._own_zone(call, input["Id"])

        def delete(tx: Tx) -> Output:
            self._own_zone(call, zone.id, tx)
            for record in self._sets.list(f"{zone.id}/{zone.name}", tx=tx):
                self._sets.delete(tx, record.scope, record.name)
            for logging in self._query_logs.list(call.account, tx=tx):
                if logging.value.zone == zone.id:
                    self._query_logs.delete(tx, call.account, logging.name)
            self._zones.delete(tx, call.account, zone.id)
            return self._change(tx, now)

        async with self._turn(zone.id):
            index = self.index.zones.get(zone.id)
            if index is not None and (len(index.nodes) > 1 or index.nodes[zone.name].keys() - {"NS", "SOA"}):
                raise AwsError(
                    "HostedZoneNotEmpty",
                    "The specified hosted zone contains non-required resource record sets  and so cannot be deleted.",
                )
            change = await self._db.write(delete)
            self.index.remove(zone.id)
            self.logged.pop(zone.id, None)
        return {"ChangeInfo": change}

    async def UpdateHostedZoneComment(self, call: Call, input: Input) -> Output:
        zone = await self._edit(call, input["Id"], lambda zone: {"comment": input.get("Comment")})
        return {"HostedZone": self._shown(zone)}

    async def ListHostedZones(self, call: Call, input: Input) -> Output:
        zones = sorted((record.value for record in self._zones.list(call.account)), key=lambda zone: zone.created)
        if "DelegationSetId" in input:
            wanted = plain(input["DelegationSetId"])
            self._delegation_set(call, wanted)
            zones = [zone for zone in zones if zone.delegation_set == wanted]
        if input.get("HostedZoneType"):
            zones = [zone for zone in zones if zone.private]
        marker, size = plain(input.get("Marker", "")), limit(input)
        if marker:
            start = next((number for number, zone in enumerate(zones) if zone.id == marker), None)
            if start is None:
                raise errors.no_such_zone(marker)
            zones = zones[start:]
        output: Output = {
            "HostedZones": [self._shown(zone) for zone in zones[:size]],
            "IsTruncated": len(zones) > size,
            "MaxItems": str(size),
        }
        output |= {"Marker": marker} if marker else {}
        return output | ({"NextMarker": zones[size].id} if len(zones) > size else {})

    async def ListHostedZonesByName(self, call: Call, input: Input) -> Output:
        zones = [record.value for record in self._zones.list(call.account)]
        zones.sort(key=lambda zone: (names.order(zone.name), zone.created))
        size, id = limit(input), plain(input.get("HostedZoneId", ""))
        output: Output = {"MaxItems": str(size)}
        if "DNSName" in input:
            output["DNSName"] = input["DNSName"]
            start = names.order(_zone_name(input["DNSName"]))
            zones = [zone for zone in zones if names.order(zone.name) >= start]
            if id:
                output["HostedZoneId"] = id
                skip = next((number for number, zone in enumerate(zones) if zone.id == id), 0)
                zones = zones[skip:]
        elif id:
            raise errors.invalid("DNSName must be specified when HostedZoneId is specified.")
        output |= {"HostedZones": [self._shown(zone) for zone in zones[:size]], "IsTruncated": len(zones) > size}
        if len(zones) > size:
            output |= {"NextDNSName": zones[size].name, "NextHostedZoneId": zones[size].id}
        return output

    async def ListHostedZonesByVPC(self, call: Call, input: Input) -> Output:
        vpc = {"VPCId": input["VPCId"], "VPCRegion": input["VPCRegion"]}
        zones = [record.value for record in self._zones.list(call.account) if vpc in record.value.vpcs]
        zones = [zone for zone in zones if zone.id >= input.get("NextToken", "")]
        size = limit(input)
        output: Output = {
            "HostedZoneSummaries": [
                {
                    "HostedZoneId": zone.id,
                    "Name": zone.name,
                    "Owner": {"OwningService": zone.owner} if zone.owner else {"OwningAccount": zone.account},
                }
                for zone in zones[:size]
            ],
            "MaxItems": str(size),
        }
        return output | ({"NextToken": zones[size].id} if len(zones) > size else {})

    async def GetHostedZoneCount(self, call: Call, input: Input) -> Output:
        return {"HostedZoneCount": len(self._zones.list(call.account))}

    async def GetHostedZoneLimit(self, call: Call, input: Input) -> Output:
        zone, kind = self._zone(call, input["HostedZoneId"]), input["Type"]
        if kind == "MAX_VPCS_ASSOCIATED_BY_ZONE":
            if not zone.private:
                raise AwsError("HostedZoneNotPrivate", "The specified hosted zone is a public hosted zone.")
            return {"Limit": {"Type": kind, "Value": 300}, "Count": len(zone.vpcs)}
        return {"Limit": {"Type": kind, "Value": 10_000}, "Count": self.index.zones[zone.id].count}

    async def GetDNSSEC(self, call: Call, input: Input) -> Output:
        zone = self._zone(call, input["HostedZoneId"])
        if zone.private:
            raise AwsError("InvalidArgument", "DNSSEC is not supported for private hosted zones.")
        return {"Status": {"ServeSignature": "NOT_SIGNING"}, "KeySigningKeys": []}

    async def _edit(self, call: Call, id: str, change: Callable[[Zone], dict[str, Any]], account: str = "") -> Zone:
        """Set the fields that ``change`` makes of the zone as it is then; ``account`` is its owner, else the caller."""
        owner = replace_call(call, account=account) if account else call

        def edit(tx: Tx) -> Zone:
            zone = self._own_zone(owner, id, tx)
            changed = replace(zone, **change(zone))
            self._zones.put(tx, owner.account, zone.id, changed)
            return changed

        zone = await self._db.write(edit)
        self.index.add(zone)
        return zone

    def _servers(self, tx: Tx, call: Call, input: Input, id: str, private: bool) -> list[str]:
        if delegation := plain(input.get("DelegationSetId", "")):
            return list(self._delegation_set(call, delegation, tx).name_servers)
        return _PRIVATE_SERVERS if private else name_servers(id)

    def _delegation_set(self, call: Call, id: str, tx: Tx | None = None) -> DelegationSet:
        record = self._delegations.get(call.account, plain(id), tx)
        if record is None:
            raise AwsError("NoSuchDelegationSet", f"Could not find delegation set with ID {plain(id)}")
        return record.value

    def _check_domain(self, zone: Zone, vpc: dict[str, str], others: list[Zone]) -> None:
        for other in others:
            if other.id != zone.id and other.name == zone.name and vpc in other.vpcs:
                raise AwsError(
                    "ConflictingDomainExists",
                    f"The VPC {vpc['VPCId']} in region {vpc['VPCRegion']} has already been associated with the hosted "
                    f"zone {other.id} with the same domain name.",
                )

    async def _check_vpc(self, call: Call, vpc: dict[str, str]) -> None:
        """Refuse a VPC that the caller's account has not. Raises InvalidInput and InvalidVPCId."""
        check_vpc(vpc)
        wanted = {"VpcIds": [vpc["VPCId"]]}
        try:
            await self.cloud.call("ec2", "DescribeVpcs", wanted, account=call.account, region=vpc["VPCRegion"])
        except AwsError as error:
            if not error.code.startswith("InvalidVpcID"):
                raise
            raise AwsError("InvalidVPCId", "The VPC ID is invalid.") from None

    def _shown(self, zone: Zone) -> Output:
        index = self.index.zones.get(zone.id)
        config: Output = {"PrivateZone": zone.private}
        if zone.comment is not None:
            config["Comment"] = zone.comment
        shown: Output = {
            "Id": f"/hostedzone/{zone.id}",
            "Name": zone.name,
            "CallerReference": zone.caller_reference,
            "Config": config,
            "ResourceRecordSetCount": index.count if index is not None else 2,
        }
        if zone.owner:
            shown["LinkedService"] = {"ServicePrincipal": zone.owner, "Description": zone.owner_description}
        return shown


def name_servers(seed: str) -> list[str]:
    """Four servers' names, as Route 53 gives them; the same for the same seed."""
    digest = hashlib.sha256(seed.encode()).digest()
    return [
        f"ns-{512 * number + digest[number] * 2}.awsdns-{digest[number + 4] % 64:02d}.{top}"
        for number, top in zip((3, 0, 2, 1), _TOPS, strict=True)
    ]


def _check_servers(zone: Zone, others: list[Zone]) -> None:
    """Zones of which one contains the other cannot have the same servers: no server could tell which one is meant."""
    for other in others:
        related = names.within(zone.name, other.name) or names.within(other.name, zone.name)
        if zone.delegation_set and zone.delegation_set == other.delegation_set and related:
            raise AwsError(
                "ConflictingDomainExists",
                f"Cannot create hosted zone with DelegationSetId {zone.delegation_set} as the DNS name {zone.name} "
                "conflicts with existing ones sharing the delegation set",
            )


def _own_records(zone: Zone) -> list[RecordSet]:
    servers = tuple(f"{server}." for server in zone.name_servers)
    soa = f"{servers[0]} awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"
    return [
        RecordSet(zone.name, "NS", ttl=172800, values=servers),
        RecordSet(zone.name, "SOA", ttl=900, values=(soa,)),
    ]


def _delegation(zone: Zone) -> Output:
    shown: Output = {"NameServers": zone.name_servers}
    return {"Id": f"/delegationset/{zone.delegation_set}", **shown} if zone.delegation_set else shown


def _zone_name(text: str) -> str:
    try:
        name = names.canonical(text)
    except BadName as error:
        if "UnsupportedCharacter" in str(error):
            raise errors.invalid(str(error)) from None
        raise AwsError("InvalidDomainName", str(error)) from None
    if name == ".":
        raise AwsError("InvalidDomainName", f"{text} is not a valid domain name.")
    return name


def check_vpc(vpc: dict[str, str]) -> None:
    """Judge the members of a VPC. Raises InvalidInput."""
    if not (vpc.get("VPCId") and vpc.get("VPCRegion")):
        raise errors.invalid("Both a VPC ID and a VPC region are required.")
