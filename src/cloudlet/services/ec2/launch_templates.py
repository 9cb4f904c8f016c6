"""Launch templates and their versions."""

from __future__ import annotations

import re
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import images
from cloudlet.services.ec2.base import Base, new_tags, page
from cloudlet.services.ec2.filters import chosen
from cloudlet.services.ec2.kinds import INSTANCE, LAUNCH_TEMPLATE
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, invalid, shown_tags

_NAME = re.compile(r"[a-zA-Z0-9().\-/_]{3,128}\Z")
_VERSION_PATHS = {
    "create-time": ("CreateTime",),
    "image-id": ("LaunchTemplateData", "ImageId"),
    "instance-type": ("LaunchTemplateData", "InstanceType"),
    "iam-instance-profile": ("LaunchTemplateData", "IamInstanceProfile", "Arn"),
    "is-default-version": ("DefaultVersion",),
    "ebs-optimized": ("LaunchTemplateData", "EbsOptimized"),
}
_WHICH = (
    "To describe the launch template data for all your launch templates, for ‘--versions’ specify ‘$Latest’, "
    "‘$Default’, or both, and omit ‘--launch-template-id’, ‘--launch-template-name’, and version numbers. To describe "
    "the launch template data for a specific launch template, specify ‘--launch-template-id’ or "
    "‘--launch-template-name’, and for ‘--versions’ specify one or more of the following values: ‘$Latest’, "
    "‘$Default’, or one or more version numbers."
)


class LaunchTemplates(Base):
    """Operations on launch templates."""

    async def CreateLaunchTemplate(self, call: Call, input: Input) -> Output:
        name = input["LaunchTemplateName"]
        if not _NAME.match(name):
            raise AwsError(
                "InvalidLaunchTemplateName.MalformedException",
                "Launch template name must be between 3 and 128 characters and may contain only the following "
                "characters: a-z, A-Z, 0-9, and special characters ().-/_",
            )
        if not input["LaunchTemplateData"]:
            raise AwsError("MissingParameter", "The request must contain the parameter LaunchTemplateData")
        tags = new_tags(call, input, LAUNCH_TEMPLATE)

        def work(world: World) -> Output:
            if world.all(LAUNCH_TEMPLATE, LaunchTemplateName=name):
                raise AwsError(
                    "InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use."
                )
            version = _version(world, call, 1, input, input["LaunchTemplateData"])
            shown = {
                "CreateTime": world.now,
                "CreatedBy": _creator(call),
                "DefaultVersionNumber": 1,
                "LatestVersionNumber": 1,
                "LaunchTemplateName": name,
            }
            item = world.make(LAUNCH_TEMPLATE, shown, tags, {"versions": [version]})
            return {"LaunchTemplate": {**item.shown, "Tags": shown_tags(tags)}}

        return await self.write(call.scope, work)

    async def CreateLaunchTemplateVersion(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = named(world, input)
            data = input["LaunchTemplateData"]
            if "SourceVersion" in input:
                data = {**version_of(item, input["SourceVersion"])["LaunchTemplateData"], **data}
            version = _version(world, call, item.shown["LatestVersionNumber"] + 1, input, data)
            item = world.change(
                item,
                {"LatestVersionNumber": version["VersionNumber"]},
                {"versions": [*item.hidden["versions"], version]},
            )
            return {"LaunchTemplateVersion": _shown(item, version)}

        return await self.write(call.scope, work)

    async def ModifyLaunchTemplate(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            if input.get("LaunchTemplateId") and input.get("LaunchTemplateName"):
                raise AwsError(
                    "InvalidParameterCombination",
                    "Either provide launch template ID or launch template name to modify the template.",
                )
            item = named(world, input)
            wanted = input.get("SetDefaultVersion") or input.get("DefaultVersion", "$Default")
            words = f"The launch template version {wanted} is not found for the specified launch template."
            number = version_of(item, wanted, words)
            item = world.change(item, {"DefaultVersionNumber": number["VersionNumber"]})
            return {"LaunchTemplate": {**item.shown, "Tags": shown_tags(item.tags)}}

        return await self.write(call.scope, work)

    async def DeleteLaunchTemplate(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = named(world, input)
            world.delete(item)
            return {"LaunchTemplate": {**item.shown, "Tags": shown_tags(item.tags)}}

        return await self.write(call.scope, work)

    async def DeleteLaunchTemplateVersions(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = named(world, input)
            there = {version["VersionNumber"] for version in item.hidden["versions"]}
            gone, failed = [], []
            for text in input["Versions"]:
                number = int(text) if text.isdigit() else -1
                entry: dict[str, Any] = {
                    "LaunchTemplateId": item.id,
                    "LaunchTemplateName": item.shown["LaunchTemplateName"],
                    "VersionNumber": number,
                }
                if number == item.shown["DefaultVersionNumber"]:
                    code, words = "unexpectedError", "The default version of a launch template cannot be deleted."
                elif number not in there:
                    code, words = "launchTemplateVersionDoesNotExist", "Could not find launch template version"
                else:
                    gone.append(entry)
                    continue
                failed.append({**entry, "ResponseError": {"Code": code, "Message": words}})
            numbers = {entry["VersionNumber"] for entry in gone}
            kept = [version for version in item.hidden["versions"] if version["VersionNumber"] not in numbers]
            latest = max(version["VersionNumber"] for version in kept)
            world.change(item, {"LatestVersionNumber": latest}, {"versions": kept})
            return {
                "SuccessfullyDeletedLaunchTemplateVersions": gone,
                "UnsuccessfullyDeletedLaunchTemplateVersions": failed,
            }

        return await self.write(call.scope, work)

    async def DescribeLaunchTemplates(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        names = input.get("LaunchTemplateNames") or []
        known = {item.shown["LaunchTemplateName"]: item.id for item in world.all(LAUNCH_TEMPLATE)}
        if any(name not in known for name in names):
            raise AwsError(
                "InvalidLaunchTemplateName.NotFoundException",
                "At least one of the launch templates specified in the request does not exist.",
            )
        ids = [*(input.get("LaunchTemplateIds") or []), *(known[name] for name in names)]
        return self.described(call, {**input, "LaunchTemplateIds": ids}, LAUNCH_TEMPLATE)

    async def DescribeLaunchTemplateVersions(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        wanted = input.get("Versions") or []
        if "LaunchTemplateId" in input or "LaunchTemplateName" in input:
            item = named(world, input)
            versions = item.hidden["versions"]
            if wanted:
                versions = [version_of(item, text) for text in wanted]
            versions = [
                version
                for version in versions
                if int(input.get("MinVersion", 0)) <= version["VersionNumber"] <= int(input.get("MaxVersion", 1 << 62))
            ]
            shown = [_shown(item, version) for version in versions]
        else:
            if not wanted:
                raise AwsError("MissingParameter", _WHICH)
            if not set(wanted) <= {"$Latest", "$Default"}:
                raise invalid(_WHICH)
            shown = [_shown(item, version_of(item, text)) for item in world.all(LAUNCH_TEMPLATE) for text in wanted]
        if input.get("ResolveAlias"):
            for one in shown:
                if "ImageId" in one["LaunchTemplateData"]:
                    image = resolved(call.region, one["LaunchTemplateData"]["ImageId"], None)
                    one["LaunchTemplateData"] = {**one["LaunchTemplateData"], "ImageId": image}
        return page("LaunchTemplateVersions", chosen(shown, input.get("Filters", []), _VERSION_PATHS), input)

    async def GetLaunchTemplateData(self, call: Call, input: Input) -> Output:
        item = self.world(call.scope).get(INSTANCE, input["InstanceId"])
        names = ("EbsOptimized", "ImageId", "InstanceType", "KeyName", "Monitoring", "MetadataOptions", "CpuOptions")
        data = {name: item.shown[name] for name in names if name in item.shown}
        data["MetadataOptions"] = {k: v for k, v in data["MetadataOptions"].items() if k != "State"}
        data["TagSpecifications"] = [{"ResourceType": "instance", "Tags": shown_tags(item.tags)}] if item.tags else []
        data["Monitoring"] = {"Enabled": item.shown["Monitoring"]["State"] == "enabled"}
        if data_ := item.hidden["user_data"]:
            data["UserData"] = data_
        return {"LaunchTemplateData": data}

    def with_template(self, world: World, input: Input) -> Input:
        """What RunInstances is asked, over what its launch template says; images by parameters are resolved."""
        asked = dict(input)
        template = asked.pop("LaunchTemplate", None)
        if template:
            item = named(world, template)
            version = version_of(item, template.get("Version") or "$Default")
            data = dict(version["LaunchTemplateData"])
            if "RamDiskId" in data:
                data["RamdiskId"] = data.pop("RamDiskId")
            if asked.get("NetworkInterfaces"):
                for name in ("SecurityGroupIds", "SecurityGroups"):
                    data.pop(name, None)
            tags = [*data.pop("TagSpecifications", []), *asked.get("TagSpecifications", [])]
            interfaces = data.get("NetworkInterfaces")
            if interfaces and asked.get("SubnetId"):
                # An Auto Scaling group names the subnet of an interface that the template describes.
                asked["NetworkInterfaces"] = [{**interfaces[0], "SubnetId": asked.pop("SubnetId")}]
            asked = {**data, **asked, "TagSpecifications": tags}
            asked["template"] = {
                "LaunchTemplateId": item.id,
                "LaunchTemplateName": item.shown["LaunchTemplateName"],
                "Version": str(version["VersionNumber"]),
            }
            asked["ImageId"] = resolved(world.region, asked.get("ImageId", ""), None)
        return asked


def resolved(region: str, image: str, parameters: dict[str, str] | None) -> str:
    """An image's id, where it is given as ``resolve:ssm:<a public parameter's name>``. Raises NotImplemented."""
    if not image.startswith("resolve:ssm:"):
        return image
    name = image.removeprefix("resolve:ssm:").partition(":")[0]
    found = (parameters or images.parameters(region)).get(name)
    if found is None:
        raise not_implemented(f"an image by the parameter {name}: only Amazon's public ones are")
    return found


def named(world: World, input: Input) -> Item:
    """The launch template that a request names. Raises InvalidLaunchTemplateId.NotFound and the like."""
    if input.get("LaunchTemplateId") and input.get("LaunchTemplateName"):
        raise AwsError(
            "InvalidParameterCombination", "Only one of launch template ID and launch template name may be specified."
        )
    if id := input.get("LaunchTemplateId"):
        return world.get(LAUNCH_TEMPLATE, id)
    name = input.get("LaunchTemplateName")
    if not name:
        raise AwsError("MissingParameter", "Either the launch template ID or name must be specified.")
    found = world.all(LAUNCH_TEMPLATE, LaunchTemplateName=name)
    if not found:
        raise AwsError(
            "InvalidLaunchTemplateName.NotFoundException",
            f"The specified launch template, with template name {name}, does not exist.",
        )
    return found[0]


def version_of(item: Item, text: str, words: str = "") -> dict[str, Any]:
    """A version by its number, ``$Latest`` or ``$Default``. Raises InvalidLaunchTemplateId.VersionNotFound."""
    members = {"$Latest": "LatestVersionNumber", "$Default": "DefaultVersionNumber"}
    if text not in members and not str(text).isdigit():
        raise invalid(
            "Invalid launch template version: either '$Default', '$Latest', or a numeric version are allowed."
        )
    number = item.shown[members[text]] if text in members else int(text)
    for version in item.hidden["versions"]:
        if version["VersionNumber"] == number:
            found: dict[str, Any] = version
            return found
    raise AwsError(
        "InvalidLaunchTemplateId.VersionNotFound",
        words or f"Could not find the specified version {number} for the launch template with ID {item.id}.",
    )


def _version(world: World, call: Call, number: int, input: Input, data: dict[str, Any]) -> dict[str, Any]:
    version: dict[str, Any] = {
        "VersionNumber": number,
        "CreateTime": world.now,
        "CreatedBy": _creator(call),
        "LaunchTemplateData": data,
    }
    if "VersionDescription" in input:
        version["VersionDescription"] = input["VersionDescription"]
    return version


def _shown(item: Item, version: dict[str, Any]) -> dict[str, Any]:
    return {
        **version,
        "LaunchTemplateId": item.id,
        "LaunchTemplateName": item.shown["LaunchTemplateName"],
        "DefaultVersion": version["VersionNumber"] == item.shown["DefaultVersionNumber"],
    }


def _creator(call: Call) -> str:
    return call.principal or f"arn:aws:iam::{call.account}:root"
