"""CloudFormation's types of Route 53."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of

Locations = dict[str, set[str]]  # blocks of addresses by the location's name

_ZONE = frozenset(("HostedZoneConfig", "HostedZoneTags", "Name", "QueryLoggingConfig", "VPCs"))
_CHECK = frozenset(("HealthCheckConfig", "HealthCheckTags"))
_FIXED = ("Type", "RequestInterval", "MeasureLatency")  # of a health check
_OURS = frozenset(("Comment", "HostedZoneId", "HostedZoneName"))  # of a record, and not for its record set
_RECORD = _OURS | {
    *(
        "AliasTarget",
        "CidrRoutingConfig",
        "Failover",
        "GeoLocation",
        "HealthCheckId",
        "MultiValueAnswer",
        "Name",
        "Region",
    ),
    *("ResourceRecords", "SetIdentifier", "TTL", "Type", "Weight"),
}


class HostedZone(ResourceType):
    """A hosted zone. ``Ref`` is its id."""

    type = "AWS::Route53::HostedZone"
    required = frozenset(("Name",))
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _refuse_others(self.type, properties, _ZONE)
        vpcs = properties.get("VPCs") or []
        given = {"Name": properties["Name"], "CallerReference": do.name(128)}
        if comment := properties.get("HostedZoneConfig", {}).get("Comment"):
            given["HostedZoneConfig"] = {"Comment": comment}
        if vpcs:
            given["VPC"] = vpcs[0]
        try:
            id = (await _call(do, "CreateHostedZone", given))["HostedZone"]["Id"].rpartition("/")[2]
        except AwsError as error:
            if error.code != "HostedZoneAlreadyExists":
                raise
            id = await _zone_made(do, given["CallerReference"])
        await do.initiated(id)
        found = await _call(do, "GetHostedZone", {"Id": id})
        await self._associate(do, id, [vpc for vpc in vpcs if vpc not in found.get("VPCs", [])])
        await self._log(do, id, properties.get("QueryLoggingConfig"))
        await _retag(do, "hostedzone", id, _zone_tags(do, properties))
        servers = found.get("DelegationSet", {}).get("NameServers", [])
        return Physical(id, {"Id": id, "NameServers": servers})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        _refuse_others(self.type, new, _ZONE)
        before, after = old.get("VPCs") or [], new.get("VPCs") or []
        found = (await _call(do, "GetHostedZone", {"Id": physical.id}))["HostedZone"]
        if found["Config"]["PrivateZone"] != bool(after):
            raise AwsError("InvalidInput", "A public hosted zone cannot become a private one, nor the reverse.")
        if changed(old, new, "HostedZoneConfig"):
            comment = new.get("HostedZoneConfig", {}).get("Comment", "")
            await _call(do, "UpdateHostedZoneComment", {"Id": physical.id, "Comment": comment})
        await self._associate(do, physical.id, [vpc for vpc in after if vpc not in before])
        for vpc in before:
            if vpc not in after:
                await _unless(
                    do,
                    ("VPCAssociationNotFound",),
                    "DisassociateVPCFromHostedZone",
                    {"HostedZoneId": physical.id, "VPC": vpc},
                )
        if changed(old, new, "QueryLoggingConfig"):
            await self._log(do, physical.id, new.get("QueryLoggingConfig"))
        await _retag(do, "hostedzone", physical.id, _zone_tags(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless(do, ("NoSuchHostedZone",), "DeleteHostedZone", {"Id": physical.id})

    async def _log(self, do: Deployment, id: str, wanted: Properties | None) -> None:
        """Have questions about the zone logged as wanted, or not at all."""
        found = await _call(do, "ListQueryLoggingConfigs", {"HostedZoneId": id})
        group = (wanted or {}).get("CloudWatchLogsLogGroupArn")
        for one in found["QueryLoggingConfigs"]:
            if one["CloudWatchLogsLogGroupArn"] == group:
                return
            await _unless(do, ("NoSuchQueryLoggingConfig",), "DeleteQueryLoggingConfig", {"Id": one["Id"]})
        if group:
            place = {"HostedZoneId": id, "CloudWatchLogsLogGroupArn": group}
            await _call(do, "CreateQueryLoggingConfig", place)

    async def _associate(self, do: Deployment, id: str, vpcs: list[dict[str, str]]) -> None:
        for vpc in vpcs:
            await _call(do, "AssociateVPCWithHostedZone", {"HostedZoneId": id, "VPC": vpc})


class RecordSet(ResourceType):
    """One record set. ``Ref`` is its name."""

    type = "AWS::Route53::RecordSet"
    required = frozenset(("Name", "Type"))
    replaces = frozenset(("HostedZoneId", "HostedZoneName", "Name", "Type", "SetIdentifier"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        zone = await _zone_of(do, properties)
        await _create(do, zone, [properties], properties.get("Comment"))
        return Physical(properties["Name"], {"Zone": zone})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await _change(do, physical.attributes["Zone"], [("UPSERT", new)], new.get("Comment"))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _remove(do, physical.attributes.get("Zone") or await _zone_of(do, properties), [properties])


class RecordSetGroup(ResourceType):
    """Some record sets of one zone, changed at once. ``Ref`` is the group's name."""

    type = "AWS::Route53::RecordSetGroup"
    replaces = frozenset(("HostedZoneId", "HostedZoneName"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        zone = await _zone_of(do, properties)
        sets = properties.get("RecordSets") or []
        if sets:
            await _create(do, zone, sets, properties.get("Comment"))
        return Physical(do.name(128), {"Zone": zone})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        zone, sets = physical.attributes["Zone"], new.get("RecordSets") or []
        kept = {_key(one) for one in sets}
        await _remove(do, zone, [one for one in old.get("RecordSets") or [] if _key(one) not in kept])
        if sets:
            await _change(do, zone, [("UPSERT", one) for one in sets], new.get("Comment"))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        zone = physical.attributes.get("Zone") or await _zone_of(do, properties)
        await _remove(do, zone, properties.get("RecordSets") or [])


class HealthCheck(ResourceType):
    """A health check. ``Ref`` is its id."""

    type = "AWS::Route53::HealthCheck"
    required = frozenset(("HealthCheckConfig",))
    replaces = frozenset(f"HealthCheckConfig/{name}" for name in _FIXED)

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        _refuse_others(self.type, properties, _CHECK)
        config = properties["HealthCheckConfig"]
        made = await _call(do, "CreateHealthCheck", {"CallerReference": do.name(64), "HealthCheckConfig": config})
        id = made["HealthCheck"]["Id"]
        await _retag(do, "healthcheck", id, _check_tags(do, properties))
        return Physical(id, {"HealthCheckId": id})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        _refuse_others(self.type, new, _CHECK)
        before, after = old["HealthCheckConfig"], new["HealthCheckConfig"]
        if before != after:
            given = {name: value for name, value in after.items() if name not in _FIXED}
            await _call(do, "UpdateHealthCheck", {"HealthCheckId": physical.id, **given})
        await _retag(do, "healthcheck", physical.id, _check_tags(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless(do, ("NoSuchHealthCheck",), "DeleteHealthCheck", {"HealthCheckId": physical.id})


class CidrCollection(ResourceType):
    """A CIDR collection with its locations. ``Ref`` is its id."""

    type = "AWS::Route53::CidrCollection"
    required = frozenset(("Name",))
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        given = {"Name": properties["Name"], "CallerReference": do.name(64)}
        made = (await _call(do, "CreateCidrCollection", given))["Collection"]
        await self._change(do, made["Id"], {}, _locations(properties))
        return Physical(made["Id"], {"Id": made["Id"], "Arn": made["Arn"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await self._change(do, physical.id, _locations(old), _locations(new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        try:
            await self._change(do, physical.id, _locations(properties), {})
            await _call(do, "DeleteCidrCollection", {"Id": physical.id})
        except AwsError as error:
            if error.code != "NoSuchCidrCollectionException":
                raise

    async def _change(self, do: Deployment, id: str, old: Locations, new: Locations) -> None:
        gone = {name: blocks - new.get(name, set()) for name, blocks in old.items()}
        changes = [
            {"LocationName": name, "Action": action, "CidrList": sorted(blocks)}
            for action, locations in (("DELETE_IF_EXISTS", gone), ("PUT", new))
            for name, blocks in locations.items()
            if blocks
        ]
        if changes:
            await _call(do, "ChangeCidrCollection", {"Id": id, "Changes": changes})


def _locations(properties: Properties) -> Locations:
    return {one["LocationName"]: set(one["CidrList"]) for one in properties.get("Locations") or []}


def _refuse_others(type: str, properties: Properties, known: frozenset[str] | set[str]) -> None:
    if unknown := sorted(properties.keys() - known):
        raise not_implemented(f"{type} with {unknown[0]}")


async def _zone_made(do: Deployment, reference: str) -> str:
    """The zone that an earlier try of this step has made."""
    marker: Properties = {}
    while True:
        page = await _call(do, "ListHostedZones", marker)
        for zone in page["HostedZones"]:
            if zone["CallerReference"] == reference:
                return str(zone["Id"].rpartition("/")[2])
        marker = {"Marker": page["NextMarker"]}


async def _zone_of(do: Deployment, properties: Properties) -> str:
    """The zone that a record's properties name by its id or, where only one has it, by its name."""
    if id := properties.get("HostedZoneId"):
        return str(id).rpartition("/")[2]
    name = properties.get("HostedZoneName", "")
    if not name.endswith("."):
        raise AwsError("InvalidInput", "HostedZoneId, or HostedZoneName with a dot at its end, must be specified.")
    found = await _call(do, "ListHostedZonesByName", {"DNSName": name})
    zones = [zone for zone in found["HostedZones"] if zone["Name"] == name.lower()]
    if len(zones) != 1:
        raise AwsError("InvalidInput", f"{'No' if not zones else 'More than one'} hosted zone found with name: {name}")
    return str(zones[0]["Id"].rpartition("/")[2])


def _record(one: Properties) -> Properties:
    """A record set as the API takes it: a template's values are plain texts."""
    _refuse_others(RecordSet.type, one, _RECORD)
    given = {name: value for name, value in one.items() if name not in _OURS}
    if "ResourceRecords" in given:
        given["ResourceRecords"] = [{"Value": value} for value in given["ResourceRecords"]]
    if "AliasTarget" in given:
        given["AliasTarget"] = {"EvaluateTargetHealth": False, **given["AliasTarget"]}
    return given


def _key(one: Properties) -> tuple[str, str, str]:
    return one["Name"].lower().rstrip("."), one["Type"], one.get("SetIdentifier", "")


async def _change(do: Deployment, zone: str, changes: list[tuple[str, Properties]], comment: str | None = None) -> None:
    batch: Properties = {"Changes": [{"Action": action, "ResourceRecordSet": _record(one)} for action, one in changes]}
    if comment:
        batch["Comment"] = comment
    await _call(do, "ChangeResourceRecordSets", {"HostedZoneId": zone, "ChangeBatch": batch})


async def _create(do: Deployment, zone: str, sets: list[Properties], comment: str | None) -> None:
    """Create record sets; those that an earlier try of this step has made are no error."""
    try:
        await _change(do, zone, [("CREATE", one) for one in sets], comment)
    except AwsError as error:
        there = [await _there(do, zone, one) for one in sets]
        if not all(_says(one, _record(wanted)) for one, wanted in zip(there, sets, strict=True)):
            raise error from None


def _says(one: Properties | None, wanted: Properties) -> bool:
    """Whether a record set that is there has the wanted records."""
    if one is None or "AliasTarget" in one or "AliasTarget" in wanted:
        return one is not None and ("AliasTarget" in one) == ("AliasTarget" in wanted)
    values = {record["Value"] for record in wanted.get("ResourceRecords", ())}
    return {record["Value"] for record in one["ResourceRecords"]} == values


async def _there(do: Deployment, zone: str, one: Properties) -> Properties | None:
    """A record set as it is now, or None."""
    from cloudlet.services.route53.names import canonical

    name, kind, identifier = _key(one)
    start = {"HostedZoneId": zone, "StartRecordName": name, "StartRecordType": kind, "MaxItems": "1"}
    if identifier:
        start["StartRecordIdentifier"] = identifier
    for found in (await _call(do, "ListResourceRecordSets", start))["ResourceRecordSets"]:
        if (found["Name"], found["Type"], found.get("SetIdentifier", "")) == (canonical(name), kind, identifier):
            return dict(found)
    return None


async def _remove(do: Deployment, zone: str, sets: list[Properties]) -> None:
    """Delete record sets as they are now; those that are gone are no error."""
    try:
        there = [await _there(do, zone, one) for one in sets]
        changes = [{"Action": "DELETE", "ResourceRecordSet": one} for one in there if one is not None]
        if changes:
            batch = {"Changes": changes}
            await _call(do, "ChangeResourceRecordSets", {"HostedZoneId": zone, "ChangeBatch": batch})
    except AwsError as error:
        if error.code != "NoSuchHostedZone":
            raise


def _zone_tags(do: Deployment, properties: Properties) -> dict[str, str]:
    return {**tags_of(do, {}), **{tag["Key"]: tag["Value"] for tag in properties.get("HostedZoneTags") or []}}


def _check_tags(do: Deployment, properties: Properties) -> dict[str, str]:
    return {**tags_of(do, {}), **{tag["Key"]: tag["Value"] for tag in properties.get("HealthCheckTags") or []}}


async def _retag(do: Deployment, kind: str, id: str, tags: dict[str, str]) -> None:
    resource = {"ResourceType": kind, "ResourceId": id}
    known = (await _call(do, "ListTagsForResource", resource))["ResourceTagSet"]["Tags"]
    change: Properties = {}
    if gone := [tag["Key"] for tag in known if tag["Key"] not in tags]:
        change["RemoveTagKeys"] = gone
    if tags:
        change["AddTags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    if change:
        await _call(do, "ChangeTagsForResource", {**resource, **change})


async def _call(do: Deployment, operation: str, input: Properties) -> dict[str, Any]:
    return await do.call("route53", operation, input)


async def _unless(do: Deployment, codes: tuple[str, ...], operation: str, input: Properties) -> None:
    try:
        await _call(do, operation, input)
    except AwsError as error:
        if error.code not in codes:
            raise


TYPES = [HostedZone, RecordSet, RecordSetGroup, HealthCheck, CidrCollection]
