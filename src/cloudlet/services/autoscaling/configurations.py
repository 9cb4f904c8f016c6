"""Launch configurations: what groups without a launch template are launched from."""

from __future__ import annotations

import uuid
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.autoscaling.base import Base, invalid, page
from cloudlet.services.autoscaling.records import Configuration
from cloudlet.store import Tx

_REFUSED = ("ClassicLinkVPCId", "ClassicLinkVPCSecurityGroups", "InstanceId", "KernelId", "RamdiskId")


class Configurations(Base):
    """Operations on launch configurations."""

    async def CreateLaunchConfiguration(self, call: Call, input: Input) -> Output:
        for name in _REFUSED:
            if input.get(name):
                raise not_implemented(f"CreateLaunchConfiguration with {name}")
        if input.get("PlacementTenancy", "default") != "default":
            raise not_implemented("CreateLaunchConfiguration with a PlacementTenancy other than default")
        name = input["LaunchConfigurationName"]
        if not input.get("ImageId") or not input.get("InstanceType"):
            raise invalid(
                "Valid requests must contain either the InstanceID parameter or both the ImageId and InstanceType "
                "parameters."
            )
        members: dict[str, Any] = {
            "KeyName": "",
            "KernelId": "",
            "RamdiskId": "",
            "UserData": "",
            "SecurityGroups": [],
            "BlockDeviceMappings": [],
            "EbsOptimized": False,
            **input,
            "InstanceMonitoring": {"Enabled": True, **(input.get("InstanceMonitoring") or {})},
            "ClassicLinkVPCSecurityGroups": [],
            "LaunchConfigurationARN": f"arn:aws:autoscaling:{call.region}:{call.account}:launchConfiguration:"
            f"{uuid.uuid4()}:launchConfigurationName/{name}",
            "CreatedTime": self.clock.now(),
        }

        def work(tx: Tx) -> None:
            if self.configurations.get(call.scope, name, tx) is not None:
                raise AwsError(
                    "AlreadyExists",
                    f"Launch Configuration by this name already exists - A launch configuration already exists with "
                    f"the name {name}",
                )
            self.configurations.put(tx, call.scope, name, Configuration(members))

        await self.db.write(work)
        return {}

    async def DescribeLaunchConfigurations(self, call: Call, input: Input) -> Output:
        names = input.get("LaunchConfigurationNames")
        found = [
            record.value.members for record in self.configurations.list(call.scope) if not names or record.name in names
        ]
        return page("LaunchConfigurations", found, input)

    async def DeleteLaunchConfiguration(self, call: Call, input: Input) -> Output:
        name = input["LaunchConfigurationName"]

        def work(tx: Tx) -> None:
            for record in self.groups.list(call.scope, "", tx):
                if record.value.members.get("LaunchConfigurationName") == name and not record.value.status:
                    raise AwsError(
                        "ResourceInUse",
                        f"Cannot delete launch configuration {name} because it is attached to AutoScalingGroup "
                        f"{record.name}",
                    )
            if not self.configurations.delete(tx, call.scope, name):
                raise invalid(f"Launch configuration name not found - Launch configuration {name} not found")

        await self.db.write(work)
        return {}


def to_run(configuration: dict[str, Any]) -> dict[str, Any]:
    """What RunInstances is asked for a launch configuration."""
    asked: dict[str, Any] = {
        "ImageId": configuration["ImageId"],
        "InstanceType": configuration["InstanceType"],
        "Monitoring": {"Enabled": configuration["InstanceMonitoring"]["Enabled"]},
    }
    for name in ("KeyName", "UserData", "EbsOptimized", "MetadataOptions", "BlockDeviceMappings"):
        if configuration.get(name):
            asked[name] = configuration[name]
    if price := configuration.get("SpotPrice"):
        asked["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": {"MaxPrice": price}}
    if profile := configuration.get("IamInstanceProfile"):
        asked["IamInstanceProfile"] = {"Arn" if profile.startswith("arn:") else "Name": profile}
    groups = configuration.get("SecurityGroups") or []
    if "AssociatePublicIpAddress" in configuration:
        public = configuration["AssociatePublicIpAddress"]
        asked["NetworkInterfaces"] = [{"DeviceIndex": 0, "AssociatePublicIpAddress": public, "Groups": groups}]
    else:
        by_id = all(one.startswith("sg-") for one in groups)
        asked["SecurityGroupIds" if by_id else "SecurityGroups"] = groups
    return asked
