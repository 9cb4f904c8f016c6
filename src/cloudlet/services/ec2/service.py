"""EC2's networks. What an account has from its beginning is made in ``defaults.py`` when it is first looked at.

VPCs are in ``vpcs.py``, subnets in ``subnets.py``, and so on: one concept a file. All is kept as items (``records.py``)
that a transaction sees as a ``World``.
"""

from __future__ import annotations

from cloudlet.services.api import Tagged
from cloudlet.services.ec2.account import Account
from cloudlet.services.ec2.acls import Acls
from cloudlet.services.ec2.addresses import Addresses
from cloudlet.services.ec2.dhcp import Dhcp
from cloudlet.services.ec2.encryption import Encryption
from cloudlet.services.ec2.endpoint_services import EndpointServices
from cloudlet.services.ec2.endpoints import Endpoints
from cloudlet.services.ec2.fleets import Fleets
from cloudlet.services.ec2.flow_logs import FlowLogs
from cloudlet.services.ec2.gateways import Gateways
from cloudlet.services.ec2.groups import Groups
from cloudlet.services.ec2.images import Images
from cloudlet.services.ec2.instance_types import InstanceTypes
from cloudlet.services.ec2.interfaces import Interfaces
from cloudlet.services.ec2.key_pairs import KeyPairs
from cloudlet.services.ec2.kinds import kind_of
from cloudlet.services.ec2.mirroring import Mirroring
from cloudlet.services.ec2.peering import Peering
from cloudlet.services.ec2.placement_groups import PlacementGroups
from cloudlet.services.ec2.prefix_lists import PrefixLists
from cloudlet.services.ec2.refused import REFUSED
from cloudlet.services.ec2.routes import Routes
from cloudlet.services.ec2.snapshots import Snapshots
from cloudlet.services.ec2.spot import Spot
from cloudlet.services.ec2.subnets import Subnets
from cloudlet.services.ec2.tagging import Tagging
from cloudlet.services.ec2.transit import Transit
from cloudlet.services.ec2.transit_tables import TransitTables
from cloudlet.services.ec2.volumes import Volumes
from cloudlet.services.ec2.vpcs import Vpcs
from cloudlet.services.ec2.vpn import Vpns
from cloudlet.services.ec2.world import STEP


class Service(
    Fleets,
    Spot,
    Snapshots,
    Images,
    InstanceTypes,
    Volumes,
    Vpcs,
    Subnets,
    Routes,
    Gateways,
    Addresses,
    Interfaces,
    Groups,
    Acls,
    Endpoints,
    Peering,
    Dhcp,
    PrefixLists,
    PlacementGroups,
    Transit,
    TransitTables,
    Vpns,
    EndpointServices,
    Tagging,
    KeyPairs,
    Account,
    Encryption,
    Mirroring,
    FlowLogs,
):
    """The networks that templates describe, tasks take their addresses from, and load balancers are put into."""

    refused = REFUSED

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        world = self.world(f"{account}/{region}")
        shown = {"vpc": "AWS::EC2::VPC", "subnet": "AWS::EC2::Subnet", "sg": "AWS::EC2::SecurityGroup"}
        networks = [
            {"type": shown[prefix], "name": item.tags.get("Name", item.id), "arn": world.arn(kind, item.id)}
            for prefix, kind in (("vpc", "vpc"), ("subnet", "subnet"), ("sg", "security-group"))
            for item in world.every()
            if item.id.startswith(f"{prefix}-")
        ]
        return [*networks, *self.instances_here(account, region)]

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        world = self.world(f"{account}/{region}")
        return [
            (world.arn(kind.resource_type, item.id), {key: item.tags[key] for key in item.tags if key != STEP})
            for item in world.every()
            if item.tags and "gone" not in item.hidden and (kind := kind_of(item.id)) is not None
        ]
