"""DHCP options."""

from __future__ import annotations

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2.base import Base, new_tags
from cloudlet.services.ec2.kinds import DHCP_OPTIONS, VPC
from cloudlet.services.ec2.world import World, in_use, invalid, shown_tags

_KEYS = (
    *("domain-name", "domain-name-servers", "ntp-servers", "netbios-name-servers", "netbios-node-type"),
    "ipv6-address-preferred-lease-time",
)


class Dhcp(Base):
    """Operations on DHCP options."""

    async def CreateDhcpOptions(self, call: Call, input: Input) -> Output:
        tags = new_tags(call, input, DHCP_OPTIONS)
        configurations = []
        for entry in input["DhcpConfigurations"]:
            key, values = entry.get("Key", ""), entry.get("Values", [])
            if key not in _KEYS:
                raise invalid(f"Value ({key}) for parameter dhcpConfiguration is invalid. Unknown DHCP option")
            if key == "netbios-node-type" and any(value not in ("1", "2", "4", "8") for value in values):
                raise invalid(f"Value ({', '.join(values)}) for parameter netbios-node-type is invalid.")
            if key in _KEYS[1:4] and len(values) > 4:
                raise invalid(f"Value ({', '.join(values)}) for parameter {key} is invalid. Too many servers.")
            configurations.append({"Key": key, "Values": [{"Value": value} for value in values]})
        shown = {"DhcpConfigurations": configurations, "OwnerId": call.account}
        made = await self.write(call.scope, lambda world: world.make(DHCP_OPTIONS, shown, tags))
        return {"DhcpOptions": {**made.shown, "Tags": shown_tags(tags)}}

    async def DescribeDhcpOptions(self, call: Call, input: Input) -> Output:
        return self.described(call, input, DHCP_OPTIONS, "DhcpOptionsIds", "DhcpOptions")

    async def AssociateDhcpOptions(self, call: Call, input: Input) -> Output:
        id = input["DhcpOptionsId"]

        def work(world: World) -> Output:
            vpc = world.get(VPC, input["VpcId"])
            if id != "default":
                world.get(DHCP_OPTIONS, id)
            world.change(vpc, {"DhcpOptionsId": id})
            return {}

        return await self.write(call.scope, work)

    async def DeleteDhcpOptions(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            options = world.get(DHCP_OPTIONS, input["DhcpOptionsId"])
            if world.all(VPC, DhcpOptionsId=options.id):
                raise in_use(f"The dhcpOptions '{options.id}' has dependencies and cannot be deleted.")
            if options.hidden.get("default"):
                raise AwsError("OperationNotPermitted", f"The default DHCP options {options.id} cannot be deleted.")
            world.delete(options)
            return {}

        return await self.write(call.scope, work)
