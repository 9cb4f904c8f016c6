"""DHCP options."""

from __future__ import annotations

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2.base import Base
from cloudlet.services.ec2.kinds import DHCP_OPTIONS, VPC
from cloudlet.services.ec2.operations import creates, deletes, describes
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import Members, World, in_use, invalid

_KEYS = (
    *("domain-name", "domain-name-servers", "ntp-servers", "netbios-name-servers", "netbios-node-type"),
    "ipv6-address-preferred-lease-time",
)


def _options(world: World, input: Input) -> Members:
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
    return {"DhcpConfigurations": configurations, "OwnerId": world.account}


def _check_unused(world: World, options: Item) -> None:
    if world.all(VPC, DhcpOptionsId=options.id):
        raise in_use(f"The dhcpOptions '{options.id}' has dependencies and cannot be deleted.")
    if options.hidden.get("default"):
        raise AwsError("OperationNotPermitted", f"The default DHCP options {options.id} cannot be deleted.")


class Dhcp(Base):
    """Operations on DHCP options."""

    CreateDhcpOptions = creates(DHCP_OPTIONS, _options, ["DhcpConfigurations"])
    DescribeDhcpOptions = describes(DHCP_OPTIONS)
    DeleteDhcpOptions = deletes(DHCP_OPTIONS, _check_unused)

    async def AssociateDhcpOptions(self, call: Call, input: Input) -> Output:
        id = input["DhcpOptionsId"]

        def work(world: World) -> Output:
            vpc = world.get(VPC, input["VpcId"])
            if id != "default":
                world.get(DHCP_OPTIONS, id)
            world.change(vpc, {"DhcpOptionsId": id})
            return {}

        return await self.write(call.scope, work)
