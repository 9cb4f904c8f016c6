"""Fleets: instances of several types, ordered at once. A ``maintain`` fleet is kept at its size."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import instance_types
from cloudlet.services.ec2.base import checked_tags, page
from cloudlet.services.ec2.filters import chosen
from cloudlet.services.ec2.hosting import Hosting
from cloudlet.services.ec2.kinds import FLEET, INSTANCE
from cloudlet.services.ec2.launch_templates import named, version_of
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, invalid, missing, shown_tags

log = logging.getLogger("cloudlet.ec2")

_TAG = "aws:ec2:fleet-id"
_REFUSED = ("Context", "ReservedCapacityOptions", "ValidFrom", "ValidUntil")
_OVERRIDES = (
    *("InstanceType", "MaxPrice", "SubnetId", "AvailabilityZone", "WeightedCapacity", "Priority", "ImageId", "KeyName"),
    *("IamInstanceProfile", "MetadataOptions", "BlockDeviceMappings"),
)
_ACTIVE = ("submitted", "active", "modifying")


class Fleets(Hosting):
    """Operations on fleets."""

    async def start(self) -> None:
        await super().start()
        self._filling: dict[str, asyncio.Lock] = {}
        self._hears = False
        for record in self.items.all():
            if FLEET.has(record.name) and record.value.shown["FleetState"] in _ACTIVE:
                self._maintain(record.scope, record.value)

    async def CreateFleet(self, call: Call, input: Input) -> Output:
        _check(input)
        target = _target(input["TargetCapacitySpecification"])
        tags = {
            tag["Key"]: tag.get("Value", "")
            for one in input.get("TagSpecifications", [])
            if one.get("ResourceType") == "fleet"
            for tag in one.get("Tags", [])
        }
        others = [one for one in input.get("TagSpecifications", []) if one.get("ResourceType") != "fleet"]
        token = input.get("ClientToken", "")

        def work(world: World) -> Item:
            if known := world.all(FLEET, ClientToken=token) if token else []:
                return known[0]
            names = (
                *("ExcessCapacityTerminationPolicy", "LaunchTemplateConfigs", "OnDemandOptions", "SpotOptions"),
                *("ReplaceUnhealthyInstances", "TerminateInstancesWithExpiration"),
            )
            shown = {
                "ActivityStatus": "pending_fulfillment",
                "ClientToken": token,
                "CreateTime": world.now,
                "ExcessCapacityTerminationPolicy": "termination",
                "FleetState": "active",
                "FulfilledCapacity": 0.0,
                "FulfilledOnDemandCapacity": 0.0,
                "TargetCapacitySpecification": target,
                "TerminateInstancesWithExpiration": False,
                "Type": input.get("Type", "maintain"),
                **{name: input[name] for name in names if name in input},
            }
            id, hidden = f"fleet-{uuid.uuid4()}", {"tags": others, "pools": _pools(world, input)}
            return world.make(FLEET, shown, checked_tags(call, tags), hidden, id)

        fleet = await self.write(call.scope, work)
        launched, errors = await self._fill(call.scope, fleet.id)
        if fleet.shown["Type"] != "instant":
            self._maintain(call.scope, fleet)
            return {"FleetId": fleet.id}
        return {"FleetId": fleet.id, "Instances": launched, "Errors": errors}

    async def DescribeFleets(self, call: Call, input: Input) -> Output:
        world, ids = self.world(call.scope), input.get("FleetIds")
        # One that was instant is shown to whoever asks for it alone.
        items = [one for one in world.all(FLEET) if one.shown["Type"] != "instant"]
        if ids:
            items = [world.get(FLEET, id) for id in ids]
        shown = [_shown(world, item) for item in items]
        return page("Fleets", chosen(shown, input.get("Filters", []), FLEET.paths), input)

    async def DescribeFleetInstances(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        fleet = world.get(FLEET, input["FleetId"])
        if fleet.shown["Type"] == "instant":
            raise AwsError("UnsupportedOperation", "DescribeFleetInstances does not support fleets of type instant.")
        names = ("InstanceId", "InstanceType", "SpotInstanceRequestId")
        shown = [
            {**{name: one.shown[name] for name in names if name in one.shown}, "InstanceHealth": "healthy"}
            for one in _members(world, fleet.id)
        ]
        found = chosen(shown, input.get("Filters", []), {"instance-type": ("InstanceType",)})
        return {**page("ActiveInstances", found, input), "FleetId": fleet.id}

    async def ModifyFleet(self, call: Call, input: Input) -> Output:
        for name in ("Context", "LaunchTemplateConfigs"):
            if input.get(name):
                raise not_implemented(f"ModifyFleet with {name}")
        names = ("ExcessCapacityTerminationPolicy",)

        def work(world: World) -> None:
            fleet = world.get(FLEET, input["FleetId"])
            if fleet.shown["Type"] != "maintain" or fleet.shown["FleetState"] not in _ACTIVE:
                raise AwsError("UnsupportedOperation", f"The fleet {fleet.id} is not one that can be modified.")
            changes: dict[str, Any] = {name: input[name] for name in names if name in input}
            if "TargetCapacitySpecification" in input:
                before = fleet.shown["TargetCapacitySpecification"]
                kind = {"DefaultTargetCapacityType": before["DefaultTargetCapacityType"]}
                changes["TargetCapacitySpecification"] = _target(kind | input["TargetCapacitySpecification"])
            world.change(fleet, changes)

        await self.write(call.scope, work)
        await self._fill(call.scope, input["FleetId"])
        return {"Return": True}

    async def DeleteFleets(self, call: Call, input: Input) -> Output:
        ends = input["TerminateInstances"]
        state = "deleted_terminating" if ends else "deleted_running"

        def work(world: World) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
            deleted, failed = [], []
            for id in input["FleetIds"]:
                code = words = ""
                fleet = world.find(id)
                if not FLEET.has(id):
                    code, words = "fleetIdMalformed", f"The fleet ID '{id}' is malformed"
                elif fleet is None:
                    code, words = "fleetIdDoesNotExist", f"The fleet ID '{id}' does not exist"
                elif fleet.shown["Type"] == "instant" and not ends:
                    code = "fleetNotInDeletableState"
                    words = "A fleet of type instant is deleted with its instances."
                if fleet is None or code:
                    failed.append({"FleetId": id, "Error": {"Code": code, "Message": words}})
                    continue
                before = fleet.shown["FleetState"]
                deleted.append({"FleetId": id, "CurrentFleetState": state, "PreviousFleetState": before})
                world.change(fleet, {"FleetState": state}, {"gone": world.now})
            return deleted, failed

        deleted, failed = await self.write(call.scope, work)
        for one in deleted if ends else ():
            await self._end(call.scope, [item.id for item in _members(self.world(call.scope), one["FleetId"])])
        return {"SuccessfulFleetDeletions": deleted, "UnsuccessfulFleetDeletions": failed}

    # Keeping

    def _maintain(self, scope: str, fleet: Item) -> None:
        """Replace what ends of a fleet from now on."""
        if fleet.shown["Type"] != "maintain":
            return
        if not self._hears:
            self._hears = True
            self.watch_instances(self._changed)
        self.cloud.spawn(self._fill(scope, fleet.id), f"fleet {fleet.id}")

    async def _changed(self, scope: str, id: str, state: str) -> None:
        item = self.world(scope).find(id)
        fleet = self.world(scope).find(item.tags.get(_TAG, "")) if item is not None and state == "terminated" else None
        if fleet is not None and fleet.shown["Type"] == "maintain":
            self.cloud.spawn(self._fill(scope, fleet.id), f"fleet {fleet.id}")

    async def _fill(self, scope: str, id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Launch what a fleet lacks and end what it has too much of: what was launched, and what failed."""
        launched: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        async with self._filling.setdefault(id, asyncio.Lock()):
            world = self.world(scope)
            fleet = world.get(FLEET, id)
            if fleet.shown["FleetState"] not in _ACTIVE:
                return launched, errors
            pools, members = fleet.hidden["pools"], _members(world, id)
            for lifecycle, wanted in _wanted(fleet):
                mine = [one for one in members if one.shown.get("InstanceLifecycle", "on-demand") == lifecycle]
                lacking = wanted - _capacity(pools, mine)
                order = Counter(_order(pools, _strategy(fleet, lifecycle), lacking))
                for number, count in order.items():
                    pool = pools[number]
                    entry = {"LaunchTemplateAndOverrides": _named_by(pool), "Lifecycle": lifecycle}
                    try:
                        made = await self._order(scope, fleet, pool, lifecycle, count)
                    except AwsError as error:
                        errors.append({**entry, "ErrorCode": error.code, "ErrorMessage": error.message})
                        continue
                    ids = [one["InstanceId"] for one in made]
                    launched.append({**entry, "InstanceIds": ids, "InstanceType": made[0]["InstanceType"]})
                if lacking < 0 and fleet.shown["ExcessCapacityTerminationPolicy"] == "termination":
                    await self._end(scope, [one.id for one in _excess(pools, mine, -lacking)])
        return launched, errors

    async def _order(
        self, scope: str, fleet: Item, pool: dict[str, Any], lifecycle: str, count: int
    ) -> list[dict[str, Any]]:
        """Launch instances of one pool. Raises what RunInstances does."""
        own = {"ResourceType": "instance", "Tags": [{"Key": _TAG, "Value": fleet.id}]}
        overrides = {key: value for key, value in pool["overrides"].items() if key not in ("Priority", "MaxPrice")}
        overrides.pop("WeightedCapacity", None)
        zone = overrides.pop("AvailabilityZone", "")
        asked: Input = {
            "LaunchTemplate": pool["template"],
            **overrides,
            "MinCount": count,
            "MaxCount": count,
            "TagSpecifications": [*fleet.hidden["tags"], own],
            **({"Placement": {"AvailabilityZone": zone}} if zone else {}),
        }
        if lifecycle == "spot":
            options = {"MaxPrice": pool["overrides"]["MaxPrice"]} if "MaxPrice" in pool["overrides"] else {}
            asked["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
        account, region = scope.split("/")
        made = await self.RunInstances(Call(account, region, "ec2fleet.amazonaws.com"), asked)
        return list(made["Instances"])

    async def _end(self, scope: str, ids: list[str]) -> None:
        account, region = scope.split("/")
        if ids:
            await self.TerminateInstances(Call(account, region, "ec2fleet.amazonaws.com"), {"InstanceIds": ids})


def _check(input: Input) -> None:
    for name in _REFUSED:
        if input.get(name):
            raise not_implemented(f"CreateFleet with {name}")
    if not input["LaunchTemplateConfigs"]:
        raise missing("LaunchTemplateConfigs")
    for config in input["LaunchTemplateConfigs"]:
        for override in config.get("Overrides", []):
            for name in override:
                if name not in _OVERRIDES:
                    raise not_implemented(f"CreateFleet with Overrides.{name}")


def _target(given: dict[str, Any]) -> dict[str, Any]:
    """How much of what a fleet shall have. Raises InvalidParameterValue."""
    if given.get("TargetCapacityUnitType", "units") != "units":
        raise not_implemented("a fleet's capacity in vCPUs or memory")
    total, kind = given["TotalTargetCapacity"], given.get("DefaultTargetCapacityType", "on-demand")
    demand, spot = given.get("OnDemandTargetCapacity", 0), given.get("SpotTargetCapacity", 0)
    left = total - demand - spot
    if kind == "spot":
        spot += max(0, left)
    else:
        demand += max(0, left)
    if left < 0:
        raise invalid("The sum of OnDemandTargetCapacity and SpotTargetCapacity must not exceed TotalTargetCapacity.")
    return {
        "TotalTargetCapacity": total,
        "OnDemandTargetCapacity": demand,
        "SpotTargetCapacity": spot,
        "DefaultTargetCapacityType": kind,
    }


def _pools(world: World, input: Input) -> list[dict[str, Any]]:
    """What instances may be launched from: each template with each of its overrides, versions as numbers."""
    pools = []
    for config in input["LaunchTemplateConfigs"]:
        given = config.get("LaunchTemplateSpecification") or {}
        item = named(world, given)
        version = version_of(item, given.get("Version", "$Default"))
        type = version["LaunchTemplateData"].get("InstanceType", "m1.small")
        template = {"LaunchTemplateId": item.id, "Version": str(version["VersionNumber"])}
        for override in config.get("Overrides") or [{}]:
            instance_types.get(override.get("InstanceType", type))
            pools.append(
                {"template": template, "overrides": override, "type": override.get("InstanceType", type)},
            )
    return pools


def _members(world: World, id: str) -> list[Item]:
    """The instances of a fleet that shall run."""
    return [one for one in world.all(INSTANCE) if one.tags.get(_TAG) == id and one.hidden["wanted"] != "terminated"]


def _capacity(pools: list[dict[str, Any]], members: Sequence[Item]) -> float:
    weights = {pool["type"]: pool["overrides"].get("WeightedCapacity", 1.0) for pool in pools}
    return float(sum(weights.get(one.shown["InstanceType"], 1.0) for one in members))


def _wanted(fleet: Item) -> tuple[tuple[str, int], ...]:
    target = fleet.shown["TargetCapacitySpecification"]
    return ("on-demand", target["OnDemandTargetCapacity"]), ("spot", target["SpotTargetCapacity"])


def _strategy(fleet: Item, lifecycle: str) -> str:
    options = fleet.shown.get("SpotOptions" if lifecycle == "spot" else "OnDemandOptions") or {}
    return str(options.get("AllocationStrategy", "lowest-price"))


def _order(pools: list[dict[str, Any]], strategy: str, lacking: float) -> list[int]:
    """The number of the pool of each new instance. There are no prices here: the smaller type is the cheaper one."""
    ranked = list(range(len(pools)))
    if strategy in ("prioritized", "capacity-optimized-prioritized"):
        ranked = sorted(ranked, key=lambda one: pools[one]["overrides"].get("Priority", float("inf")))[:1]
    elif strategy != "diversified":
        ranked = sorted(ranked, key=lambda one: _size(pools[one]))[:1]
    order: list[int] = []
    while lacking > 0:
        number = ranked[len(order) % len(ranked)]
        order.append(number)
        lacking -= pools[number]["overrides"].get("WeightedCapacity", 1.0)
    return order


def _size(pool: dict[str, Any]) -> tuple[float, float]:
    """A pool's size for each unit of its capacity."""
    type, weight = instance_types.get(pool["type"]), pool["overrides"].get("WeightedCapacity", 1.0)
    return type.cpus / weight, type.memory / weight


def _excess(pools: list[dict[str, Any]], members: list[Item], capacity: float) -> list[Item]:
    """The youngest, as many as are too many."""
    gone: list[Item] = []
    for one in reversed(members):
        if _capacity(pools, [*gone, one]) <= capacity:
            gone.append(one)
    return gone


def _named_by(pool: dict[str, Any]) -> dict[str, Any]:
    return {"LaunchTemplateSpecification": pool["template"], "Overrides": pool["overrides"]}


def _shown(world: World, fleet: Item) -> dict[str, Any]:
    """A fleet with the capacity that it has."""
    members, pools = _members(world, fleet.id), fleet.hidden["pools"]
    has = _capacity(pools, members)
    demand = _capacity(pools, [one for one in members if "InstanceLifecycle" not in one.shown])
    wanted = fleet.shown["TargetCapacitySpecification"]["TotalTargetCapacity"]
    return {
        **fleet.shown,
        "ActivityStatus": "fulfilled" if has >= wanted else "pending_fulfillment",
        "FulfilledCapacity": has,
        "FulfilledOnDemandCapacity": demand,
        "Tags": shown_tags(fleet.tags),
    }
