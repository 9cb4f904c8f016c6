"""Functions in a VPC: what they send to tasks counts as coming from their security groups."""

from __future__ import annotations

from typing import Any

from cloudlet.services.api import Cloud


async def speak_for(cloud: Cloud, scope: str, name: str, now: dict[str, Any], before: dict[str, Any]) -> None:
    """Tell EC2 of a function's groups and subnets, by its members of now and before; nothing where it had and has none.

    A function that is gone has no members.
    """
    config, old = now.get("VpcConfig") or {}, before.get("VpcConfig") or {}
    if not config.get("SubnetIds") and not old.get("SubnetIds"):
        return
    ec2: Any = await cloud.service("ec2")
    account, region = scope.split("/")
    if config.get("SubnetIds"):
        subnets, groups = config["SubnetIds"], config["SecurityGroupIds"]
        await ec2.guard.represent(account, region, f"function/{name}", subnets=subnets, groups=groups)
    else:
        await ec2.guard.release(account, region, f"function/{name}")
