"""Spot instances: they run as all others do. Capacity is always there, so that none is ever interrupted."""

from __future__ import annotations

from cloudlet.errors import not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2.base import page
from cloudlet.services.ec2.filters import chosen
from cloudlet.services.ec2.instances import Instances
from cloudlet.services.ec2.kinds import SPOT_REQUEST
from cloudlet.services.ec2.spot_requests import BEHAVIOUR, shown_request
from cloudlet.services.ec2.world import World

_SPECIFICATION = (
    *("BlockDeviceMappings", "EbsOptimized", "IamInstanceProfile", "ImageId", "InstanceType", "KeyName", "Monitoring"),
    *("NetworkInterfaces", "Placement", "SecurityGroupIds", "SecurityGroups", "SubnetId", "UserData"),
)
_REFUSED = ("AvailabilityZoneGroup", "BlockDurationMinutes", "LaunchGroup", "ValidFrom", "ValidUntil")


class Spot(Instances):
    """Operations on requests for spot instances."""

    async def RequestSpotInstances(self, call: Call, input: Input) -> Output:
        for name in _REFUSED:
            if input.get(name):
                raise not_implemented(f"RequestSpotInstances with {name}")
        given = input.get("LaunchSpecification") or {}
        for name in given:
            if name not in _SPECIFICATION:
                raise not_implemented(f"RequestSpotInstances with LaunchSpecification.{name}")
        names = {"SpotPrice": "MaxPrice", "Type": "SpotInstanceType"}
        options = {names.get(name, name): input[name] for name in (*names, BEHAVIOUR) if name in input}
        count = input.get("InstanceCount", 1)
        asked = {
            **given,
            "MinCount": count,
            "MaxCount": count,
            "InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": options},
            **{name: input[name] for name in ("ClientToken", "TagSpecifications") if name in input},
        }
        made = (await self.RunInstances(call, asked))["Instances"]
        world = self.world(call.scope)
        items = [world.get(SPOT_REQUEST, one["SpotInstanceRequestId"]) for one in made]
        return {"SpotInstanceRequests": [shown_request(world, item) for item in items]}

    async def DescribeSpotInstanceRequests(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        ids = input.get("SpotInstanceRequestIds")
        items = [world.get(SPOT_REQUEST, id) for id in ids] if ids else world.all(SPOT_REQUEST)
        shown = [shown_request(world, item) for item in items]
        return page("SpotInstanceRequests", chosen(shown, input.get("Filters", []), SPOT_REQUEST.paths), input)

    async def CancelSpotInstanceRequests(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            cancelled = []
            for id in input["SpotInstanceRequestIds"]:
                item = world.get(SPOT_REQUEST, id)
                if shown_request(world, item)["State"] == "active":
                    world.change(item, hidden={"cancelled": world.now})
                cancelled.append({"SpotInstanceRequestId": id, "State": "cancelled"})
            return {"CancelledSpotInstanceRequests": cancelled}

        return await self.write(call.scope, work)
