"""Snapshots of instances' root volumes, and images of one's own that are launched from them (ADR 9).

What is kept of a volume are the folders of its instance, copied while it runs.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloudlet.engines.containers.network import NetworkError, command
from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import images
from cloudlet.services.ec2.base import checked_tags, new_tags
from cloudlet.services.ec2.hosting import Hosting
from cloudlet.services.ec2.kinds import IMAGE, INSTANCE, SNAPSHOT, VOLUME
from cloudlet.services.ec2.operations import refuse_all_but
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, invalid, shown_tags

log = logging.getLogger("cloudlet.ec2")

_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}\Z")
# What is an instance's own and not of its image: user data runs anew, and Cloudlet's programs are of their own version.
_LEFT_OUT = ("var/lib/cloud/instance", "var/log/cloud-init-output.log", "opt/cloudlet", "image", "tmp")


class Snapshots(Hosting):
    """Operations on snapshots and on images that are made here."""

    async def start(self) -> None:
        await super().start()
        for record in self.items.all():
            if SNAPSHOT.has(record.name) and record.value.shown["State"] == "pending":
                self.cloud.spawn(self._copy(record.scope, record.value), f"snapshot {record.name}")

    async def CreateSnapshot(self, call: Call, input: Input) -> Output:
        refuse_all_but(call, input, "VolumeId", "Description", "TagSpecifications", "DryRun")
        tags = new_tags(call, input, SNAPSHOT)

        def work(world: World) -> Item:
            return _snapshot(world, world.get(VOLUME, input["VolumeId"]), input.get("Description", ""), tags)

        made = await self.write(call.scope, work)
        self.cloud.spawn(self._copy(call.scope, made), f"snapshot {made.id}")
        return {**made.shown, "Tags": shown_tags(made.tags)}

    async def DescribeSnapshots(self, call: Call, input: Input) -> Output:
        answer = self.described(call, input, SNAPSHOT)
        owners = set(input.get("OwnerIds") or ()) or {"self"}
        return answer if owners & {"self", call.account} else {**answer, "Snapshots": []}

    async def DeleteSnapshot(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            _delete(world, world.get(SNAPSHOT, input["SnapshotId"]))
            return {}

        await self.write(call.scope, work)
        await asyncio.to_thread(shutil.rmtree, self._kept(input["SnapshotId"]), ignore_errors=True)
        return {}

    async def CreateImage(self, call: Call, input: Input) -> Output:
        known = ("InstanceId", "Name", "Description", "NoReboot", "TagSpecifications", "DryRun")
        refuse_all_but(call, input, *known)
        name = input["Name"]
        if not _NAME.match(name):
            raise AwsError(
                "InvalidAMIName.Malformed",
                "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, "
                "'(', ')', '.', '-', '/' and '_'",
            )
        tags: dict[str, dict[str, str]] = {"image": {}, "snapshot": {}}
        for one in input.get("TagSpecifications", []):
            if (type := one.get("ResourceType")) not in tags:
                raise invalid(f"'{type}' is not a valid taggable resource type for this operation.")
            tags[type] = checked_tags(call, {tag["Key"]: tag.get("Value", "") for tag in one.get("Tags", [])})

        def work(world: World) -> tuple[Item, Item]:
            instance = world.get(INSTANCE, input["InstanceId"])
            if there := world.all(IMAGE, Name=name):
                raise AwsError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {there[0].id}")
            if instance.shown["State"]["Name"] not in ("pending", "running", "stopping", "stopped"):
                raise AwsError(
                    "IncorrectState", f"Instance is not in state 'running' or 'stopped'. {instance.id}", status=400
                )
            volume = world.get(VOLUME, instance.hidden["volumes"][0])
            snapshot = _snapshot(world, volume, f"Created by CreateImage({instance.id})", tags["snapshot"])
            return _image(world, instance, snapshot, input, tags["image"]), snapshot

        image, snapshot = await self.write(call.scope, work)
        self.cloud.spawn(self._copy(call.scope, snapshot), f"snapshot {snapshot.id}")
        return {"ImageId": image.id}

    async def DeregisterImage(self, call: Call, input: Input) -> Output:
        if images.find(call.region, input["ImageId"]) is not None:
            raise AwsError("AuthFailure", f"Not authorized for image:{input['ImageId']}", status=403)
        with_snapshots = input.get("DeleteAssociatedSnapshots", False)

        def work(world: World) -> str:
            image = world.get(IMAGE, input["ImageId"])
            world.delete(image)
            snapshot = world.find(image.hidden["snapshot"]) if with_snapshots else None
            if snapshot is not None:
                _delete(world, snapshot)
            return snapshot.id if snapshot is not None else ""

        gone = await self.write(call.scope, work)
        if not gone:
            return {"Return": True}
        await asyncio.to_thread(shutil.rmtree, self._kept(gone), ignore_errors=True)
        return {"Return": True, "DeleteSnapshotResults": [{"SnapshotId": gone, "ReturnCode": "success"}]}

    def _kept(self, snapshot: str) -> Path:
        return self.cloud.data_dir / "ec2" / "snapshots" / snapshot

    async def _copy(self, scope: str, snapshot: Item) -> None:
        """Copy an instance's folders; what has been copied before a kill is copied again."""
        instance = snapshot.hidden["instance"]
        source, target = self.machines.files(instance), self._kept(snapshot.id)
        await self.machines.settled(instance)
        state = "completed"
        try:
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
            await asyncio.to_thread(target.mkdir, parents=True)
            await command("cp", "-a", "--reflink=auto", f"{source}/.", str(target))
            await asyncio.to_thread(_leave_out, target)
        except (OSError, NetworkError) as error:
            log.warning("the snapshot %s has failed: %s", snapshot.id, error)
            state = "error"

        def done(world: World) -> None:
            if (found := world.find(snapshot.id)) is not None:
                world.change(found, {"State": state, "Progress": "100%" if state == "completed" else "0%"})
            for image in world.all(IMAGE):
                if image.hidden["snapshot"] == snapshot.id:
                    world.change(image, {"State": "available" if state == "completed" else "failed"})

        await self.write(scope, done)


def _snapshot(world: World, volume: Item, description: str, tags: dict[str, str]) -> Item:
    if not volume.shown["Attachments"]:
        raise not_implemented("a snapshot of a volume that no instance has")
    shown = {
        "Description": description,
        "Encrypted": volume.shown["Encrypted"],
        "OwnerId": world.account,
        "Progress": "",
        "StartTime": world.now,
        "State": "pending",
        "StorageTier": "standard",
        "VolumeId": volume.id,
        "VolumeSize": volume.shown["Size"],
    }
    return world.make(SNAPSHOT, shown, tags, {"instance": volume.shown["Attachments"][0]["InstanceId"]})


def _image(world: World, instance: Item, snapshot: Item, input: Input, tags: dict[str, str]) -> Item:
    """The record of an image of an instance, as it was launched."""
    source = images.launchable(world, instance.shown["ImageId"], instance.shown["Architecture"])
    volume = world.get(VOLUME, instance.hidden["volumes"][0])
    moment = datetime.fromtimestamp(world.now, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    ebs = {
        "DeleteOnTermination": True,
        "Encrypted": False,
        "SnapshotId": snapshot.id,
        "VolumeSize": volume.shown["Size"],
        "VolumeType": volume.shown["VolumeType"],
    }
    same = ("Architecture", "EnaSupport", "Hypervisor", "PlatformDetails", "UsageOperation", "VirtualizationType")
    shown: dict[str, Any] = {
        **{name: instance.shown[name] for name in (*same, "RootDeviceName", "RootDeviceType")},
        "BlockDeviceMappings": [{"DeviceName": instance.shown["RootDeviceName"], "Ebs": ebs}],
        "CreationDate": moment,
        "Description": input.get("Description", ""),
        "ImageLocation": f"{world.account}/{input['Name']}",
        "ImageType": "machine",
        "Name": input["Name"],
        "OwnerId": world.account,
        "Public": False,
        "SourceInstanceId": instance.id,
        "SriovNetSupport": "simple",
        "State": "pending",
    }
    return world.make(IMAGE, shown, tags, {"snapshot": snapshot.id, "system": source.system})


def _delete(world: World, snapshot: Item) -> None:
    for image in world.all(IMAGE):
        if image.hidden["snapshot"] == snapshot.id:
            raise AwsError("InvalidSnapshot.InUse", f"The snapshot {snapshot.id} is currently in use by {image.id}")
    world.delete(snapshot)


def _leave_out(folder: Path) -> None:
    for name in _LEFT_OUT:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
