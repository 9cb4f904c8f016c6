"""What an account sees of AWS: regions, zones, its attributes."""

from __future__ import annotations

from typing import Any

from cloudlet.places import ENABLED, OPT_IN, zones
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import filters
from cloudlet.services.ec2.base import Base
from cloudlet.services.ec2.kinds import VPC
from cloudlet.services.ec2.world import invalid

_REGION_PATHS = {"endpoint": ("Endpoint",), "region-name": ("RegionName",), "opt-in-status": ("OptInStatus",)}
_ZONE_PATHS = {
    "group-long-name": ("GroupLongName",),
    "group-name": ("GroupName",),
    "message": ("Messages", "Message"),
    "opt-in-status": ("OptInStatus",),
    "parent-zone-id": ("ParentZoneId",),
    "parent-zone-name": ("ParentZoneName",),
    "region-name": ("RegionName",),
    "state": ("State",),
    "zone-id": ("ZoneId",),
    "zone-name": ("ZoneName",),
    "zone-type": ("ZoneType",),
}
_LIMITS = {
    "vpc-max-security-groups-per-interface": ["5"],
    "max-instances": ["20"],
    "supported-platforms": ["VPC"],
    "max-elastic-ips": ["5"],
    "vpc-max-elastic-ips": ["5"],
}


class Account(Base):
    """Operations on what is given."""

    async def DescribeRegions(self, call: Call, input: Input) -> Output:
        names = [*ENABLED, *OPT_IN] if input.get("AllRegions") or "RegionNames" in input else [*ENABLED]
        wanted = input.get("RegionNames")
        if wanted and (unknown := [name for name in wanted if name not in names]):
            raise invalid(f"Invalid region names provided: {', '.join(unknown)}")
        shown: list[dict[str, Any]] = [
            {
                "Endpoint": f"ec2.{name}.amazonaws.com",
                "RegionName": name,
                "OptInStatus": "not-opted-in" if name in OPT_IN else "opt-in-not-required",
            }
            for name in wanted or sorted(names)
        ]
        return {"Regions": filters.chosen(shown, input.get("Filters", []), _REGION_PATHS)}

    async def DescribeAvailabilityZones(self, call: Call, input: Input) -> Output:
        shown: list[dict[str, Any]] = [
            {
                "GroupName": f"{call.region}-zg-1",
                "GroupLongName": f"{call.region} 1",
                "Messages": [],
                "NetworkBorderGroup": call.region,
                "OptInStatus": "opt-in-not-required",
                "RegionName": call.region,
                "State": "available",
                "ZoneId": id,
                "ZoneName": name,
                "ZoneType": "availability-zone",
            }
            for name, id in zones(call.region).items()
        ]
        for member, wanted in (("ZoneName", input.get("ZoneNames")), ("ZoneId", input.get("ZoneIds"))):
            if wanted:
                known = {zone[member] for zone in shown}
                if unknown := [name for name in wanted if name not in known]:
                    raise invalid(f"Invalid availability zone: [{', '.join(unknown)}]")
                shown = [zone for zone in shown if zone[member] in wanted]
        return {"AvailabilityZones": filters.chosen(shown, input.get("Filters", []), _ZONE_PATHS)}

    async def DescribeAccountAttributes(self, call: Call, input: Input) -> Output:
        vpcs = self.world(call.scope).all(VPC, IsDefault=True)
        attributes = {**_LIMITS, "default-vpc": [vpcs[0].id if vpcs else "none"]}
        names = input.get("AttributeNames") or list(attributes)
        return {
            "AccountAttributes": [
                {"AttributeName": name, "AttributeValues": [{"AttributeValue": value} for value in attributes[name]]}
                for name in names
                if name in attributes
            ]
        }
