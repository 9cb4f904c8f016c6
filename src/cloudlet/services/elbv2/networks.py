"""What is known of subnets, networks and instances: EC2's, where this cloud has EC2."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Cloud
from cloudlet.services.elbv2.errors import invalid
from cloudlet.services.elbv2.records import Document, LoadBalancer


async def _ask(cloud: Cloud, call: Call, operation: str, **input: Any) -> dict[str, Any] | None:
    """EC2's answer, or None where there is no EC2. Raises AwsError."""
    try:
        return await cloud.call("ec2", operation, input, account=call.account, region=call.region)
    except AwsError as error:
        if error.code == "NotImplemented":
            return None
        raise


async def zones(
    cloud: Cloud, call: Call, mappings: list[Document], held: Iterable[str] = ()
) -> tuple[list[Document], str]:
    """The availability zones of some subnets, and their VPC; ``held`` are the elastic addresses that are its own.

    Raises SubnetNotFound, InvalidSubnet, AllocationIdNotFound and ResourceInUse.
    """
    ids = [mapping["SubnetId"] for mapping in mappings]
    try:
        answer = await _ask(cloud, call, "DescribeSubnets", SubnetIds=ids)
    except AwsError as error:
        if error.code.startswith("InvalidSubnetID"):
            raise AwsError("SubnetNotFoundException", error.message) from None
        raise
    if answer is None:
        return [{"ZoneName": f"{call.region}{'abcdef'[place % 6]}", "SubnetId": id} for place, id in enumerate(ids)], ""
    known = {subnet["SubnetId"]: subnet for subnet in answer["Subnets"]}
    elastic = await _elastic(cloud, call, [one["AllocationId"] for one in mappings if "AllocationId" in one], held)
    found = [
        {
            "ZoneName": known[one["SubnetId"]]["AvailabilityZone"],
            "SubnetId": one["SubnetId"],
            **({"LoadBalancerAddresses": [elastic[one["AllocationId"]]]} if "AllocationId" in one else {}),
        }
        for one in mappings
    ]
    if len({subnet["VpcId"] for subnet in known.values()}) > 1:
        raise AwsError("InvalidConfigurationRequestException", "All subnets must belong to the same VPC")
    if len({zone["ZoneName"] for zone in found}) < len(found):
        raise AwsError(
            "InvalidConfigurationRequestException",
            "A load balancer cannot be attached to multiple subnets in the same Availability Zone",
        )
    return sorted(found, key=lambda zone: zone["ZoneName"]), next(iter(known.values()))["VpcId"]


async def _elastic(cloud: Cloud, call: Call, ids: list[str], held: Iterable[str]) -> dict[str, Document]:
    """Elastic addresses that a load balancer may have, by their allocation ids."""
    if not ids:
        return {}
    try:
        answer = await _ask(cloud, call, "DescribeAddresses", AllocationIds=ids)
    except AwsError as error:
        if error.code == "InvalidAllocationID.NotFound":
            raise AwsError("AllocationIdNotFoundException", error.message) from None
        raise
    addresses = (answer or {}).get("Addresses", [])
    if any("AssociationId" in one and one["AllocationId"] not in held for one in addresses):
        raise AwsError("ResourceInUseException", "The allocation IDs are not available for use")
    return {
        one["AllocationId"]: {"IpAddress": one["PublicIp"], "AllocationId": one["AllocationId"]} for one in addresses
    }


def held_by(one: LoadBalancer) -> dict[str, str]:
    """The elastic addresses of a load balancer: allocation id -> subnet."""
    return {
        address["AllocationId"]: zone["SubnetId"]
        for zone in one.zones
        for address in zone.get("LoadBalancerAddresses", ())
    }


async def check_security_groups(cloud: Cloud, call: Call, ids: list[str]) -> None:
    """Raises InvalidSecurityGroup."""
    if not ids:
        return
    try:
        await _ask(cloud, call, "DescribeSecurityGroups", GroupIds=ids)
    except AwsError as error:
        if error.code.startswith("InvalidGroup"):
            wrong = next((id for id in ids if id in error.message), ids[0])
            words = f"Security group '{wrong}' does not exist"
            raise AwsError("InvalidSecurityGroupException", words) from None
        raise


async def default_security_group(cloud: Cloud, call: Call, vpc: str) -> list[str]:
    """The default security group of a VPC, which an application load balancer has without another."""
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": ["default"]}]
    answer = await _ask(cloud, call, "DescribeSecurityGroups", Filters=filters) if vpc else None
    return [group["GroupId"] for group in (answer or {}).get("SecurityGroups", [])]


async def speak_for(cloud: Cloud, one: LoadBalancer) -> None:
    """Have EC2 take what Envoy sends to tasks for what this load balancer's security groups send."""
    ec2: Any = await cloud.service("ec2")
    subnets = [zone["SubnetId"] for zone in one.zones if "SubnetId" in zone]
    await ec2.guard.represent(one.account, one.region, f"elb/{one.id}", subnets=subnets, groups=one.security_groups)
    for allocation, subnet in held_by(one).items():
        await ec2.stand_for(
            one.account,
            one.region,
            _interface(one, allocation),
            subnet=subnet,
            groups=one.security_groups,
            address=one.address,
            description=f"ELB {one.path}",
            elastic=allocation,
            requester="amazon-elb",
        )


async def let_go(cloud: Cloud, one: LoadBalancer, allocations: Iterable[str]) -> None:
    """The load balancer has these elastic addresses no more."""
    ec2: Any = await cloud.service("ec2")
    for allocation in allocations:
        await ec2.let_go(one.account, one.region, _interface(one, allocation))


async def fall_silent(cloud: Cloud, one: LoadBalancer) -> None:
    """The load balancer is gone."""
    ec2: Any = await cloud.service("ec2")
    await ec2.guard.release(one.account, one.region, f"elb/{one.id}")
    await let_go(cloud, one, held_by(one))


def _interface(one: LoadBalancer, allocation: str) -> str:
    return f"eni-0{hashlib.sha256(f'{one.arn} {allocation}'.encode()).hexdigest()[:16]}"


async def check_vpc(cloud: Cloud, call: Call, id: str) -> None:
    """Raises ValidationError."""
    try:
        await _ask(cloud, call, "DescribeVpcs", VpcIds=[id])
    except AwsError as error:
        if error.code.startswith("InvalidVpcID"):
            raise invalid(f"The VPC ID '{id}' is not found") from None
        raise


async def instances(cloud: Cloud, call: Call, ids: list[str]) -> dict[str, str]:
    """The addresses of instances. Raises InvalidTarget for those that are not there or do not run."""
    if not ids:
        return {}
    try:
        answer = await _ask(cloud, call, "DescribeInstances", InstanceIds=ids)
    except AwsError as error:
        if error.code.startswith("InvalidInstanceID"):
            raise AwsError(
                "InvalidTargetException", f"The following targets are not valid instances: '{ids[0]}'"
            ) from None
        raise
    if answer is None:
        raise AwsError("InvalidTargetException", f"The following targets are not valid instances: '{ids[0]}'")
    found = [one for group in answer["Reservations"] for one in group["Instances"]]
    if stopped := [one["InstanceId"] for one in found if one["State"]["Name"] != "running"]:
        words = f"The following targets are not in a running state and cannot be registered: '{', '.join(stopped)}'"
        raise AwsError("InvalidTargetException", words)
    ec2: Any = await cloud.service("ec2")
    return {id: ec2.instance_address(call.account, call.region, id) for id in (one["InstanceId"] for one in found)}
