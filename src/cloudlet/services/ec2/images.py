"""Machine images: Amazon's public ones, each of them this machine's own programs (ADR 9), and where they are named.

What templates name besides these is taken for somebody's public image, for which ours stands in.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import filters
from cloudlet.services.ec2.base import Base, page
from cloudlet.services.ec2.kinds import IMAGE
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, shown_tags

AMAZON = "137112412989"  # the account that Amazon Linux's images belong to
ECS = "591542846629"  # and those of ECS
_OWNERS = {"amazon": (AMAZON, ECS)}
_ID = re.compile(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})")
_AGENT, _DOCKER = "1.87.0", "20.10.25"
_PATHS = {
    "architecture": ("Architecture",),
    "creation-date": ("CreationDate",),
    "description": ("Description",),
    "hypervisor": ("Hypervisor",),
    "image-id": ("ImageId",),
    "image-type": ("ImageType",),
    "source-instance-id": ("SourceInstanceId",),
    "is-public": ("Public",),
    "name": ("Name",),
    "owner-alias": ("ImageOwnerAlias",),
    "owner-id": ("OwnerId",),
    "root-device-name": ("RootDeviceName",),
    "root-device-type": ("RootDeviceType",),
    "state": ("State",),
    "virtualization-type": ("VirtualizationType",),
    "block-device-mapping.volume-type": ("BlockDeviceMappings", "Ebs", "VolumeType"),
    "block-device-mapping.device-name": ("BlockDeviceMappings", "DeviceName"),
    "block-device-mapping.delete-on-termination": ("BlockDeviceMappings", "Ebs", "DeleteOnTermination"),
    "block-device-mapping.volume-size": ("BlockDeviceMappings", "Ebs", "VolumeSize"),
    "ena-support": ("EnaSupport",),
    "boot-mode": ("BootMode",),
    "platform": ("Platform",),
}


@dataclass(frozen=True, slots=True)
class Image:
    """A machine image. ``parameters`` are the names that Systems Manager has for it."""

    name: str
    description: str
    parameters: tuple[str, ...]
    architecture: str = "x86_64"
    owner: str = AMAZON
    system: str = "Amazon Linux 2"
    size: int = 8  # GiB
    volume: str = "gp2"
    stands_for: str = ""  # the id of somebody's image that it stands in for
    snapshot: str = ""  # of an own image: where its files are

    @property
    def is_ecs(self) -> bool:
        """Whether the ECS agent is in it."""
        return self.owner == ECS

    def id(self, region: str) -> str:
        """Its id in a region, always the same."""
        if self.stands_for:
            return self.stands_for
        return f"ami-0{hashlib.sha256(f'{region} {self.name}'.encode()).hexdigest()[:16]}"


def _ecs(title: str, folder: str, architecture: str, system: str, size: int) -> Image:
    volume = "gp3" if "2023" in system else "gp2"
    words = f"{system} AMI 2.0.20240911 {architecture} ECS HVM EBS"
    return Image(title, words, (f"/aws/service/ecs/optimized-ami/{folder}",), architecture, ECS, system, size, volume)


_LATEST = "/aws/service/ami-amazon-linux-latest"
IMAGES = (
    _ecs("amzn-ami-2018.03.20240911-amazon-ecs-optimized", "amazon-linux", "x86_64", "Amazon Linux", 30),
    _ecs("amzn2-ami-ecs-hvm-2.0.20240911-x86_64-ebs", "amazon-linux-2", "x86_64", "Amazon Linux 2", 30),
    _ecs("amzn2-ami-ecs-hvm-2.0.20240911-arm64-ebs", "amazon-linux-2/arm64", "arm64", "Amazon Linux 2", 30),
    _ecs(
        "al2023-ami-ecs-hvm-2023.0.20240911-kernel-6.1-x86_64", "amazon-linux-2023", "x86_64", "Amazon Linux 2023", 30
    ),
    _ecs(
        "al2023-ami-ecs-hvm-2023.0.20240911-kernel-6.1-arm64",
        "amazon-linux-2023/arm64",
        "arm64",
        "Amazon Linux 2023",
        30,
    ),
    Image(
        "amzn-ami-hvm-2018.03.0.20240916.0-x86_64-gp2",
        "Amazon Linux AMI 2018.03.0.20240916.0 x86_64 HVM gp2",
        (f"{_LATEST}/amzn-ami-hvm-x86_64-gp2", f"{_LATEST}/amzn-ami-hvm-x86_64-ebs"),
        system="Amazon Linux",
    ),
    *(
        Image(
            f"amzn2-ami-hvm-2.0.20240916.0-{architecture}-gp2",
            f"Amazon Linux 2 AMI 2.0.20240916.0 {architecture} HVM gp2",
            (f"{_LATEST}/amzn2-ami-hvm-{architecture}-gp2", f"{_LATEST}/amzn2-ami-hvm-{architecture}-ebs"),
            architecture,
        )
        for architecture in ("x86_64", "arm64")
    ),
    *(
        Image(
            f"al2023-ami-{kind}2023.5.20240916.0-kernel-{kernel}-{architecture}",
            f"Amazon Linux 2023 AMI 2023.5.20240916.0 {architecture} HVM kernel-{kernel}",
            (
                f"{_LATEST}/al2023-ami-{kind}kernel-{kernel}-{architecture}",
                *((f"{_LATEST}/al2023-ami-{kind}kernel-default-{architecture}",) if kernel == "6.1" else ()),
            ),
            architecture,
            system="Amazon Linux 2023",
            volume="gp3",
        )
        for kind in ("", "minimal-")
        for kernel in ("6.1", "6.12")
        for architecture in ("x86_64", "arm64")
    ),
)


def find(region: str, id: str) -> Image | None:
    """An image by its id."""
    return next((one for one in IMAGES if one.id(region) == id), None)


def listed(world: World, ids: list[str]) -> list[Image | Item]:
    """Amazon's and own images. Raises InvalidAMIID.Malformed, InvalidAMIID.NotFound with all that are not known."""
    for id in ids:
        _check_id(id)
    found = {id: find(world.region, id) or world.find(id) for id in ids}
    if gone := [id for id, image in found.items() if image is None]:
        words = "ids" if len(gone) > 1 else "id"
        verb = "do" if len(gone) > 1 else "does"
        raise AwsError("InvalidAMIID.NotFound", f"The image {words} '[{', '.join(gone)}]' {verb} not exist")
    return [image for image in found.values() if image is not None]


def launchable(world: World, id: str, architecture: str) -> Image:
    """What an instance is launched from: Amazon's image or an own one, else what stands in for somebody's public one.

    Raises InvalidAMIID.Malformed, InvalidAMIID.Unavailable.
    """
    _check_id(id)
    if (own := world.find(id)) is not None:
        if own.shown["State"] != "available":
            raise AwsError("InvalidAMIID.Unavailable", f"The image ID '{id}' is not available")
        ebs, system = own.shown["BlockDeviceMappings"][0]["Ebs"], own.hidden["system"]
        facts = (own.shown["Architecture"], own.shown["OwnerId"], system, ebs["VolumeSize"], ebs["VolumeType"])
        return Image(own.shown["Name"], own.shown["Description"], (), *facts, snapshot=own.hidden["snapshot"])
    words = "a public image that is not here"
    return find(world.region, id) or Image(id, words, (), architecture, "", "Linux", stands_for=id)


def _check_id(id: str) -> None:
    if not _ID.fullmatch(id):
        raise AwsError("InvalidAMIID.Malformed", f'Invalid id: "{id}" (expecting "ami-...")')


def parameters(region: str) -> dict[str, str]:
    """What Systems Manager's public parameters say of images: name -> value."""
    made: dict[str, str] = {}
    for image in IMAGES:
        for name in image.parameters:
            if not image.is_ecs:
                made[name] = image.id(region)
                continue
            facts = {
                "ecs_agent_version": _AGENT,
                "ecs_runtime_version": f"Docker version {_DOCKER}",
                "image_id": image.id(region),
                "image_name": image.name,
                "image_version": "2.0.20240911",
                "os": image.system,
                "schema_version": "1",
                "source_image_name": image.name.replace("-ecs", ""),
            }
            made[f"{name}/recommended"] = json.dumps(facts, separators=(",", ":"))
            made |= {f"{name}/recommended/{key}": value for key, value in facts.items() if key != "schema_version"}
    return made


class Images(Base):
    """Operations on images. Those of one's own are made in ``snapshots.py``."""

    async def DescribeImages(self, call: Call, input: Input) -> Output:
        wanted = input.get("ImageIds")
        world = self.world(call.scope)
        found: list[Image | Item] = listed(world, wanted) if wanted else [*IMAGES, *world.all(IMAGE)]
        if owners := input.get("Owners"):
            ids = {id for owner in owners for id in _OWNERS.get(owner, (owner,))}
            ids |= {call.account} if "self" in owners else set()
            found = [one for one in found if (one.owner if isinstance(one, Image) else one.shown["OwnerId"]) in ids]
        if (users := input.get("ExecutableUsers")) and "all" not in users:
            found = []
        described = [
            _shown(call.region, one) if isinstance(one, Image) else {**one.shown, "Tags": shown_tags(one.tags)}
            for one in found
        ]
        shown = filters.chosen(described, input.get("Filters", []), _PATHS)
        return page("Images", shown, input)

    async def DescribeImageAttribute(self, call: Call, input: Input) -> Output:
        (found,) = listed(self.world(call.scope), [input["ImageId"]])
        if not isinstance(found, Image):
            raise not_implemented("DescribeImageAttribute of an image of one's own")
        raise AwsError("AuthFailure", f"Not authorized for image:{input['ImageId']}", status=403)

    def public_parameters(self, region: str) -> dict[str, str]:
        """The public parameters that Systems Manager answers with: name -> value."""
        return parameters(region)


def root_device(image: Image, asked: Iterable[str] = ()) -> str:
    """The name of its root volume's device; of somebody's image what the request gives as one."""
    return "/dev/sda1" if image.stands_for and "/dev/sda1" in asked else "/dev/xvda"


def _shown(region: str, image: Image) -> dict[str, Any]:
    snapshot = f"snap-0{hashlib.sha256(f'{region} {image.name} snapshot'.encode()).hexdigest()[:16]}"
    return {
        "Architecture": image.architecture,
        "BlockDeviceMappings": [
            {
                "DeviceName": root_device(image),
                "Ebs": {
                    "DeleteOnTermination": True,
                    "Encrypted": False,
                    "SnapshotId": snapshot,
                    "VolumeSize": image.size,
                    "VolumeType": image.volume,
                },
            }
        ],
        "CreationDate": "2024-09-16T21:10:12.000Z",
        "DeprecationTime": "2034-09-16T21:10:12.000Z",
        "Description": image.description,
        "EnaSupport": True,
        "Hypervisor": "xen",
        "ImageId": image.id(region),
        "ImageLocation": f"amazon/{image.name}",
        "ImageOwnerAlias": "amazon",
        "ImageType": "machine",
        "Name": image.name,
        "OwnerId": image.owner,
        "PlatformDetails": "Linux/UNIX",
        "Public": True,
        "RootDeviceName": root_device(image),
        "RootDeviceType": "ebs",
        "SriovNetSupport": "simple",
        "State": "available",
        "UsageOperation": "RunInstances",
        "VirtualizationType": "hvm",
        **({"BootMode": "uefi-preferred"} if "2023" in image.system else {}),
    }
