"""Reusable delegation sets, limits of an account, and tags."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.route53 import errors
from cloudlet.services.route53.base import limit, new_id, plain
from cloudlet.services.route53.records import DelegationSet
from cloudlet.services.route53.vpcs import Vpcs
from cloudlet.services.route53.zones import name_servers
from cloudlet.store import Tx

_LIMITS = {
    "MAX_HEALTH_CHECKS_BY_OWNER": 200,
    "MAX_HOSTED_ZONES_BY_OWNER": 500,
    "MAX_TRAFFIC_POLICY_INSTANCES_BY_OWNER": 5,
    "MAX_REUSABLE_DELEGATION_SETS_BY_OWNER": 100,
    "MAX_TRAFFIC_POLICIES_BY_OWNER": 50,
    "MAX_HEALTH_CHECK_SOURCES_BY_OWNER": 10,
}
_TAGS_AT_MOST = 50


class Delegation(Vpcs):
    """What lies around zones and health checks."""

    async def CreateReusableDelegationSet(self, call: Call, input: Input) -> Output:
        id = new_id("N")
        servers = self._zone(call, input["HostedZoneId"]).name_servers if "HostedZoneId" in input else name_servers(id)
        made = DelegationSet(id, input["CallerReference"], servers)

        def create(tx: Tx) -> None:
            for record in self._delegations.list(call.account, tx=tx):
                if record.value.caller_reference == made.caller_reference:
                    raise AwsError(
                        "DelegationSetAlreadyCreated",
                        "A delegation set with the same owner and caller reference combination has already been "
                        "created.",
                    )
            self._delegations.put(tx, call.account, id, made)
            if "HostedZoneId" in input:
                zone = self._zone(call, input["HostedZoneId"], tx)
                if zone.delegation_set:
                    raise AwsError(
                        "DelegationSetAlreadyReusable",
                        "The specified delegation set has already been marked as reusable.",
                    )
                self._zones.put(tx, call.account, zone.id, replace(zone, delegation_set=id))

        await self._db.write(create)
        if "HostedZoneId" in input:
            self.index.add(self._zone(call, input["HostedZoneId"]))
        location = f"https://route53.amazonaws.com/2013-04-01/delegationset/{id}"
        return {"DelegationSet": _shown(made), "Location": location}

    async def GetReusableDelegationSet(self, call: Call, input: Input) -> Output:
        return {"DelegationSet": _shown(self._delegation_set(call, input["Id"]))}

    async def DeleteReusableDelegationSet(self, call: Call, input: Input) -> Output:
        def delete(tx: Tx) -> None:
            found = self._delegation_set(call, input["Id"], tx)
            if any(record.value.delegation_set == found.id for record in self._zones.list(call.account, tx=tx)):
                raise AwsError(
                    "DelegationSetInUse", "The specified delegation set is associated with at least one hosted zone."
                )
            self._delegations.delete(tx, call.account, found.id)

        await self._db.write(delete)
        return {}

    async def ListReusableDelegationSets(self, call: Call, input: Input) -> Output:
        marker, size = plain(input.get("Marker", "")), limit(input)
        found = [record.value for record in self._delegations.list(call.account) if record.name >= marker]
        output: Output = {
            "DelegationSets": [_shown(one) for one in found[:size]],
            "Marker": marker,
            "IsTruncated": len(found) > size,
            "MaxItems": str(size),
        }
        return output | ({"NextMarker": found[size].id} if len(found) > size else {})

    async def GetReusableDelegationSetLimit(self, call: Call, input: Input) -> Output:
        found = self._delegation_set(call, input["DelegationSetId"])
        used = sum(record.value.delegation_set == found.id for record in self._zones.list(call.account))
        return {"Limit": {"Type": input["Type"], "Value": 100}, "Count": used}

    async def GetAccountLimit(self, call: Call, input: Input) -> Output:
        kinds: dict[str, Any] = {
            "MAX_HEALTH_CHECKS_BY_OWNER": self._checks,
            "MAX_HOSTED_ZONES_BY_OWNER": self._zones,
            "MAX_REUSABLE_DELEGATION_SETS_BY_OWNER": self._delegations,
        }
        used = len(kinds[input["Type"]].list(call.account)) if input["Type"] in kinds else 0
        return {"Limit": {"Type": input["Type"], "Value": _LIMITS[input["Type"]]}, "Count": used}

    async def ChangeTagsForResource(self, call: Call, input: Input) -> Output:
        if not input.get("AddTags") and not input.get("RemoveTagKeys"):
            raise errors.invalid("You must specify either AddTags or RemoveTagKeys.")
        added = {tag["Key"]: tag.get("Value", "") for tag in input.get("AddTags", ())}
        gone = set(input.get("RemoveTagKeys", ()))

        def change(tx: Tx) -> Any:
            kind, found = self._tagged(call, input["ResourceType"], input["ResourceId"], tx)
            tags = {key: value for key, value in found.tags.items() if key not in gone} | added
            if len(tags) > _TAGS_AT_MOST:
                raise errors.invalid(f"The number of tags exceeds the limit of {_TAGS_AT_MOST}.")
            changed = replace(found, tags=tags)
            kind.put(tx, call.account, found.id, changed)
            return changed

        changed = await self._db.write(change)
        if input["ResourceType"] == "hostedzone":
            self.index.add(changed)
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        return {"ResourceTagSet": self._tag_set(call, input["ResourceType"], input["ResourceId"])}

    async def ListTagsForResources(self, call: Call, input: Input) -> Output:
        sets = [self._tag_set(call, input["ResourceType"], id) for id in input["ResourceIds"]]
        return {"ResourceTagSets": sets}

    def _tag_set(self, call: Call, kind: str, id: str) -> Output:
        tags = self._tagged(call, kind, id)[1].tags
        return {
            "ResourceType": kind,
            "ResourceId": id,
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }

    def _tagged(self, call: Call, kind: str, id: str, tx: Tx | None = None) -> tuple[Any, Any]:
        if kind == "hostedzone":
            if "/" in id:
                raise errors.no_such_zone(id)
            return self._zones, self._zone(call, id, tx)
        record = self._checks.get(call.account, id, tx) if kind == "healthcheck" else None
        if record is None:
            raise errors.no_such_check(id)
        return self._checks, record.value


def _shown(found: DelegationSet) -> Output:
    return {
        "Id": f"/delegationset/{found.id}",
        "CallerReference": found.caller_reference,
        "NameServers": found.name_servers,
    }
