"""What RunInstances makes: instances with their interface and their root volume, as records in one transaction."""

from __future__ import annotations

import platform
import secrets
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.places import zones
from cloudlet.services.api import Call, Input
from cloudlet.services.ec2 import encryption, images, instance_types, interfaces, user_data
from cloudlet.services.ec2.base import checked_tags
from cloudlet.services.ec2.images import Image
from cloudlet.services.ec2.instance_records import state
from cloudlet.services.ec2.instance_types import InstanceType
from cloudlet.services.ec2.kinds import INSTANCE, INTERFACE, KEY_PAIR, SECURITY_GROUP, SUBNET, VOLUME, VPC
from cloudlet.services.ec2.placement_groups import group_of
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.spot_requests import check_market, request
from cloudlet.services.ec2.world import World, invalid, missing, new_id

_MOST = 100  # instances of one request
_REFUSED = (
    *("KernelId", "RamdiskId", "ElasticGpuSpecification", "ElasticInferenceAccelerators"),
    *("LicenseSpecifications", "Ipv6AddressCount", "Ipv6Addresses", "EnablePrimaryIpv6", "SecondaryInterfaces"),
    *("InstanceRequirements", "Operator", "NetworkPerformanceOptions", "AdditionalInfo"),
)
_PLACEMENT = ("AvailabilityZone", "Tenancy", "GroupId", "GroupName")
_INTERFACE = (
    *("DeviceIndex", "SubnetId", "Groups", "AssociatePublicIpAddress", "DeleteOnTermination", "Description"),
    *("PrivateIpAddress", "NetworkInterfaceId", "NetworkCardIndex", "InterfaceType", "PrivateIpAddresses"),
)
_OPTIONS = {
    "HttpTokens": "optional",
    "HttpPutResponseHopLimit": 1,
    "HttpEndpoint": "enabled",
    "HttpProtocolIpv6": "disabled",
    "InstanceMetadataTags": "disabled",
}


def check(asked: Input) -> None:
    """Name what is not here. Raises MissingParameter, NotImplemented and InvalidParameterValue."""
    for name in _REFUSED:
        if asked.get(name):
            raise not_implemented(f"RunInstances with {name}")
    for name, flag in (("HibernationOptions", "Configured"), ("EnclaveOptions", "Enabled")):
        if (asked.get(name) or {}).get(flag):
            raise not_implemented(f"RunInstances with {name}")
    if market := asked.get("InstanceMarketOptions"):
        check_market("RunInstances", market)
    if (asked.get("CapacityReservationSpecification") or {}).get("CapacityReservationTarget"):
        raise not_implemented("RunInstances with CapacityReservationTarget")
    for name in asked.get("Placement") or {}:
        if name not in _PLACEMENT:
            raise not_implemented(f"RunInstances with Placement.{name}")
    if (asked.get("Placement") or {}).get("Tenancy", "default") != "default":
        raise not_implemented("RunInstances with a Tenancy other than default")
    given = asked.get("NetworkInterfaces") or []
    if len(given) > 1:
        raise not_implemented("RunInstances with more than one network interface")
    for name in given[0] if given else ():
        if name not in _INTERFACE:
            raise not_implemented(f"RunInstances with NetworkInterfaces.{name}")
    if len(given[0].get("PrivateIpAddresses") or () if given else ()) > 1:
        raise not_implemented("RunInstances with secondary private addresses")
    if given and (asked.get("SubnetId") or asked.get("SecurityGroupIds") or asked.get("SecurityGroups")):
        raise AwsError(
            "InvalidParameterCombination",
            "Network interfaces and an instance-level subnet ID may not be specified on the same request"
            if asked.get("SubnetId")
            else "Network interfaces and an instance-level security groups may not be specified on the same request",
        )
    if not asked.get("ImageId"):
        raise missing("ImageId")
    least, most = asked["MinCount"], asked["MaxCount"]
    if least < 1 or most < least:
        raise invalid(f"Invalid value '{most}' for maxCount. Must be greater than or equal to minCount.")
    if most > _MOST:
        raise AwsError(
            "InstanceLimitExceeded", f"You have requested more instances ({most}) than your current limit of {_MOST}."
        )
    if user_data.is_too_large(asked.get("UserData", "")):
        raise invalid("User data is limited to 16384 bytes")


def by_token(world: World, token: str) -> tuple[str, list[Item]] | None:
    """What the same request has made before."""
    found = world.all(INSTANCE, ClientToken=token) if token else []
    return (found[0].hidden["reservation"], found) if found else None


def launch(world: World, call: Call, asked: Input, profile: dict[str, str] | None) -> tuple[str, list[Item]]:
    """The records of new instances. Raises what EC2 does for parameters that do not fit."""
    type = instance_types.get(asked.get("InstanceType") or "m1.small")
    image = images.launchable(world, asked["ImageId"], type.architecture)
    check_architecture(type, image)
    if (key := asked.get("KeyName")) and not world.all(KEY_PAIR, KeyName=key):
        raise KEY_PAIR.not_found(key)
    given = (asked.get("NetworkInterfaces") or [{}])[0]
    existing = world.get(INTERFACE, given["NetworkInterfaceId"]) if "NetworkInterfaceId" in given else None
    if existing is not None and existing.shown["Status"] != "available":
        raise AwsError("InvalidNetworkInterface.InUse", f"Interface: [{existing.id}] in use.")
    subnet = world.get(SUBNET, existing.shown["SubnetId"]) if existing is not None else _subnet(world, asked, given)
    groups = _groups(world, asked, given, subnet)
    group = group_of(world, asked.get("Placement") or {})
    tags = _tags(call, asked)
    if template := asked.get("template"):
        tags["instance"]["aws:ec2launchtemplate:id"] = template["LaunchTemplateId"]
        tags["instance"]["aws:ec2launchtemplate:version"] = template["Version"]
    reservation = f"r-0{secrets.token_hex(8)}"
    made = []
    for index in range(asked["MaxCount"]):
        id = new_id("i")
        interface = _attach(world, id, subnet, groups, given, asked, existing, tags)
        volume, mapping = _root(world, id, subnet, image, asked, tags)
        shown = _shown(world, asked, type, image, subnet, interface)
        shown |= {"AmiLaunchIndex": index, "BlockDeviceMappings": [mapping], "RootDeviceName": mapping["DeviceName"]}
        shown["Placement"] = {
            "AvailabilityZone": subnet.shown["AvailabilityZone"],
            "GroupName": group,
            "Tenancy": "default",
        }
        if profile:
            shown["IamInstanceProfile"] = profile
        hidden = _hidden(asked, type, given.get("AssociatePublicIpAddress", subnet.shown["MapPublicIpOnLaunch"]))
        hidden |= {
            "changed": world.now,
            "reservation": reservation,
            "interfaces": [interface.id],
            "volumes": [volume.id],
            "association": f"iip-assoc-0{secrets.token_hex(8)}" if profile else "",
        }
        if asked.get("InstanceMarketOptions"):
            order = request(world, id, shown, asked, tags["spot-instances-request"])
            shown |= {"InstanceLifecycle": "spot", "SpotInstanceRequestId": order.id}
        made.append(world.make(INSTANCE, shown, tags["instance"], hidden, id))
    return reservation, made


def _shown(
    world: World, asked: Input, type: InstanceType, image: Image, subnet: Item, interface: Item
) -> dict[str, Any]:
    """What EC2 shows of an instance of this request, whichever of them it is."""
    return {
        "Architecture": image.architecture,
        "CapacityReservationSpecification": {"CapacityReservationPreference": "open"},
        "ClientToken": asked.get("ClientToken", ""),
        "CpuOptions": cpu_options(type),
        "CurrentInstanceBootMode": "legacy-bios",
        "EbsOptimized": asked.get("EbsOptimized", False),
        "EnaSupport": True,
        "EnclaveOptions": {"Enabled": False},
        "HibernationOptions": {"Configured": False},
        "Hypervisor": "xen",
        "ImageId": asked["ImageId"],
        "InstanceType": type.name,
        "LaunchTime": world.now,
        "MaintenanceOptions": {"AutoRecovery": "default", **(asked.get("MaintenanceOptions") or {})},
        "MetadataOptions": {"State": "applied", **_OPTIONS, **(asked.get("MetadataOptions") or {})},
        "Monitoring": {"State": "enabled" if (asked.get("Monitoring") or {}).get("Enabled") else "disabled"},
        "PlatformDetails": "Linux/UNIX",
        "PrivateDnsName": interface.shown["PrivateDnsName"],
        "PrivateDnsNameOptions": {
            **subnet.shown["PrivateDnsNameOptionsOnLaunch"],
            **(asked.get("PrivateDnsNameOptions") or {}),
        },
        "PrivateIpAddress": interface.shown["PrivateIpAddress"],
        "ProductCodes": [],
        "RootDeviceType": "ebs",
        "SourceDestCheck": True,
        "State": state("pending"),
        "StateTransitionReason": "",
        "SubnetId": subnet.id,
        "UsageOperation": "RunInstances",
        "UsageOperationUpdateTime": world.now,
        "VirtualizationType": "hvm",
        "VpcId": subnet.shown["VpcId"],
        **({"KeyName": asked["KeyName"]} if asked.get("KeyName") else {}),
        **({"BootMode": "uefi-preferred"} if "2023" in image.system else {}),
    }


def _hidden(asked: Input, type: InstanceType, public: bool) -> dict[str, Any]:
    """What is remembered of an instance besides."""
    return {
        "wanted": "running",
        "boots": 0,
        "user_data": asked.get("UserData", ""),
        "public": public,
        "door": secrets.token_urlsafe(16),
        "template": asked.get("template"),
        "attributes": {
            "DisableApiTermination": asked.get("DisableApiTermination", False),
            "DisableApiStop": asked.get("DisableApiStop", False),
            "InstanceInitiatedShutdownBehavior": asked.get("InstanceInitiatedShutdownBehavior", "stop"),
            "CpuCredits": (asked.get("CreditSpecification") or {}).get(
                "CpuCredits", "standard" if type.name.startswith("t2.") else "unlimited"
            ),
        },
    }


def check_architecture(type: InstanceType, image: Image) -> None:
    """Raises InvalidParameterValue for a type that cannot run an image."""
    if type.architecture != image.architecture:
        raise invalid(
            f"The architecture '{type.architecture}' of the specified instance type does not match the architecture "
            f"'{image.architecture}' of the specified AMI. Specify an instance type and an AMI that have matching "
            "architectures, and try again."
        )


def cpu_options(type: InstanceType) -> dict[str, int]:
    """The cores of a type."""
    return {"CoreCount": type.cpus // type.threads, "ThreadsPerCore": type.threads}


def about(item: Item, image: Image) -> str:
    """An instance in a few words, for its log; what this machine does not have of it is said."""
    type = instance_types.get(item.shown["InstanceType"])
    here = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    words = f"{type.name} ({type.cpus} vCPU, {type.memory} MiB accounted)"
    words += f" of {image.name}"
    if image.stands_for:
        words += ", which is somebody's image and not here: Cloudlet's own machine image stands in for it"
    if image.architecture != here:
        words += f"; its programs are this machine's, for {here} and not {image.architecture}"
    return words


def keep_volumes(world: World, item: Item, mappings: list[dict[str, Any]]) -> None:
    """Whether volumes go with their instance: DeleteOnTermination."""
    there = {one["DeviceName"]: one for one in item.shown["BlockDeviceMappings"]}
    for one in mappings:
        if one.get("DeviceName") not in there:
            raise AwsError("InvalidInstanceAttributeValue", f"No device is currently mapped at {one.get('DeviceName')}")
        ebs = there[one["DeviceName"]]["Ebs"]
        kept = (one.get("Ebs") or {}).get("DeleteOnTermination", ebs["DeleteOnTermination"])
        there[one["DeviceName"]] = {**there[one["DeviceName"]], "Ebs": {**ebs, "DeleteOnTermination": kept}}
    world.change(item, {"BlockDeviceMappings": list(there.values())})


def _subnet(world: World, asked: Input, given: dict[str, Any]) -> Item:
    """Where an instance is put: the subnet that is named, else a default one."""
    if id := given.get("SubnetId") or asked.get("SubnetId"):
        return world.get(SUBNET, id)
    zone = (asked.get("Placement") or {}).get("AvailabilityZone", "")
    if zone and zone not in zones(world.region):
        raise invalid(f"Invalid availability zone: [{zone}]")
    vpcs = world.all(VPC, IsDefault=True)
    if not vpcs:
        raise AwsError("VPCIdNotSpecified", "No default VPC for this user")
    found = [
        subnet
        for subnet in world.all(SUBNET, VpcId=vpcs[0].id, DefaultForAz=True)
        if zone in ("", subnet.shown["AvailabilityZone"])
    ]
    if not found:
        raise AwsError("MissingInput", f"No subnets found for the default VPC '{vpcs[0].id}'. Please specify a subnet.")
    return found[0]


def _groups(world: World, asked: Input, given: dict[str, Any], subnet: Item) -> list[str]:
    ids = list(given.get("Groups") or asked.get("SecurityGroupIds") or [])
    for name in asked.get("SecurityGroups") or []:
        found = world.all(SECURITY_GROUP, VpcId=subnet.shown["VpcId"], GroupName=name)
        if not found:
            raise AwsError(
                "InvalidGroup.NotFound",
                f"The security group '{name}' does not exist in VPC '{subnet.shown['VpcId']}'",
            )
        ids.append(found[0].id)
    return ids


def _tags(call: Call, asked: Input) -> dict[str, dict[str, str]]:
    """The tags of instances and of what is made with them."""
    kinds = ("instance", "volume", "network-interface", "spot-instances-request")
    tags: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    for one in asked.get("TagSpecifications") or []:
        kind = one.get("ResourceType")
        if kind not in tags:
            raise AwsError("InvalidParameter", f"'{kind}' is not a valid taggable resource type for this operation.")
        if not one.get("Tags"):
            raise AwsError("InvalidParameter", "Tag specification must have at least one tag")
        tags[kind] |= {tag["Key"]: tag.get("Value", "") for tag in one["Tags"]}
    return {kind: checked_tags(call, found) for kind, found in tags.items()}


def _attach(
    world: World,
    id: str,
    subnet: Item,
    groups: list[str],
    given: dict[str, Any],
    asked: Input,
    existing: Item | None,
    tags: dict[str, dict[str, str]],
) -> Item:
    """The first interface of an instance."""
    item = existing or interfaces.make(
        world,
        subnet,
        groups,
        given.get("Description", ""),
        tags["network-interface"],
        wanted=given.get("PrivateIpAddress")
        or next((one["PrivateIpAddress"] for one in given.get("PrivateIpAddresses") or ()), None)
        or asked.get("PrivateIpAddress"),
    )
    attachment = {
        "AttachmentId": new_id("eni-attach"),
        "AttachTime": world.now,
        "DeleteOnTermination": given.get("DeleteOnTermination", existing is None),
        "DeviceIndex": 0,
        "InstanceId": id,
        "InstanceOwnerId": world.account,
        "NetworkCardIndex": 0,
        "Status": "attached",
    }
    return world.change(item, {"Attachment": attachment, "Status": "in-use"})


def _root(
    world: World, id: str, subnet: Item, image: Image, asked: Input, tags: dict[str, dict[str, str]]
) -> tuple[Item, dict[str, Any]]:
    """The record of the root volume, and how the instance shows it."""
    mappings = asked.get("BlockDeviceMappings") or []
    device = images.root_device(image, (one.get("DeviceName", "") for one in mappings))
    ebs: dict[str, Any] = {}
    for mapping in mappings:
        if mapping.get("DeviceName") != device or "Ebs" not in mapping:
            raise not_implemented(f"RunInstances with a block device other than the root volume {device}")
        ebs = mapping["Ebs"]
    size = ebs.get("VolumeSize", image.size)
    if size < image.size:
        raise AwsError(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than snapshot, expect size >= {image.size}GB",
        )
    is_encrypted = ebs.get("Encrypted", encryption.is_default(world))
    key = ebs.get("KmsKeyId", encryption.default_key(world))
    kind = ebs.get("VolumeType", image.volume)
    volume_id, ends = new_id("vol"), ebs.get("DeleteOnTermination", True)
    attachment = {
        "AttachTime": world.now,
        "DeleteOnTermination": ends,
        "Device": device,
        "InstanceId": id,
        "State": "attached",
        "VolumeId": volume_id,
    }
    shown = {
        "Attachments": [attachment],
        "AvailabilityZone": subnet.shown["AvailabilityZone"],
        "CreateTime": world.now,
        "Encrypted": is_encrypted,
        "Iops": ebs.get("Iops", 3000 if kind == "gp3" else max(100, size * 3)),
        "MultiAttachEnabled": False,
        "Size": size,
        "SnapshotId": "",
        "State": "in-use",
        "VolumeType": kind,
        **({"Throughput": ebs.get("Throughput", 125)} if kind == "gp3" else {}),
        **({"KmsKeyId": key} if is_encrypted and key else {}),
    }
    volume = world.make(VOLUME, shown, tags["volume"], id=volume_id)
    mapping = {
        "DeviceName": device,
        "Ebs": {"AttachTime": world.now, "DeleteOnTermination": ends, "Status": "attached", "VolumeId": volume_id},
    }
    return volume, mapping
