"""CloudFormation's types of instances."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.ec2 import kinds
from cloudlet.services.ec2.stacking import Thing, Type, is_true, made, picked, retag, specification, unless
from cloudlet.stacks.api import Deployment, Physical, Properties, changed

_SAME = (
    *("BlockDeviceMappings", "EbsOptimized", "ImageId", "InstanceInitiatedShutdownBehavior", "InstanceType", "KeyName"),
    *("LaunchTemplate", "NetworkInterfaces", "PrivateIpAddress", "SecurityGroupIds", "SecurityGroups", "SubnetId"),
    *("UserData", "DisableApiTermination", "CpuOptions", "MetadataOptions", "PrivateDnsNameOptions"),
    *("HibernationOptions", "EnclaveOptions", "CreditSpecification"),
)
# What the options of an instance's metadata are without a word of them.
_METADATA: Properties = {
    "HttpEndpoint": "enabled",
    "HttpProtocolIpv6": "disabled",
    "HttpPutResponseHopLimit": 1,
    "HttpTokens": "optional",
    "InstanceMetadataTags": "disabled",
}
# What ModifyInstanceAttribute changes on a stopped instance.
_STOPPED = ("InstanceType", "UserData", "EbsOptimized")


class Instance(Type):
    """An instance. ``Ref`` is its id."""

    replaces = frozenset(
        (
            *("AvailabilityZone", "BlockDeviceMappings", "ImageId", "KeyName", "LaunchTemplate", "NetworkInterfaces"),
            *("PrivateIpAddress", "SecurityGroups", "SubnetId", "CpuOptions", "HibernationOptions", "EnclaveOptions"),
            *("PrivateDnsNameOptions", "CreditSpecification"),
        )
    )
    changes = frozenset(
        (
            "MetadataOptions",
            *("DisableApiTermination", "EbsOptimized", "IamInstanceProfile", "InstanceInitiatedShutdownBehavior"),
            *("InstanceType", "Monitoring", "SecurityGroupIds", "SourceDestCheck", "Tags", "UserData"),
        )
    )
    ignored = frozenset(("PropagateTagsToVolumeOnCreation", "Tenancy"))
    refuses = frozenset(
        (
            *("AdditionalInfo", "Affinity", "ElasticGpuSpecifications", "ElasticInferenceAccelerators", "HostId"),
            *("HostResourceGroupArn", "Ipv6AddressCount", "Ipv6Addresses", "KernelId", "LicenseSpecifications"),
            *("PlacementGroupName", "RamdiskId", "SsmAssociations", "Volumes"),
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        reservation = await made(do, "DescribeInstances")
        found = reservation["Instances"][0] if reservation is not None else None
        if found is None:
            input: Properties = {"MinCount": 1, "MaxCount": 1, **picked(properties, *_SAME)}
            if (profile := properties.get("IamInstanceProfile")) is not None:
                input["IamInstanceProfile"] = {"Name": profile}
            if "AvailabilityZone" in properties:
                input["Placement"] = {"AvailabilityZone": properties["AvailabilityZone"]}
            if "Monitoring" in properties:
                input["Monitoring"] = {"Enabled": properties["Monitoring"]}
            if "CreditSpecification" in input:
                input["CreditSpecification"] = {
                    "CpuCredits": input["CreditSpecification"].get("CPUCredits", "standard")
                }
            if "NetworkInterfaces" in input:
                input["NetworkInterfaces"] = [_interface(one) for one in input["NetworkInterfaces"]]
            input |= specification(do, properties, "instance")
            found = (await do.call("ec2", "RunInstances", input))["Instances"][0]
        id = found["InstanceId"]
        found = await _settled(do, id)
        if found["State"]["Name"] not in ("pending", "running"):
            raise AwsError("InternalError", f"{id} failed to start: {found.get('StateReason', {}).get('Message', '')}")
        if "SourceDestCheck" in properties:
            check = {"InstanceId": id, "SourceDestCheck": {"Value": properties["SourceDestCheck"]}}
            await do.call("ec2", "ModifyInstanceAttribute", check)
        return Physical(id, _attributes(found))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        id = physical.id
        which = {"InstanceId": id}
        for name in ("DisableApiTermination", "InstanceInitiatedShutdownBehavior", "SourceDestCheck"):
            if changed(old, new, name) and name in new:
                await do.call("ec2", "ModifyInstanceAttribute", {**which, name: {"Value": new[name]}})
        if changed(old, new, "SecurityGroupIds") and "SecurityGroupIds" in new:
            await do.call("ec2", "ModifyInstanceAttribute", {**which, "Groups": new["SecurityGroupIds"]})
        if changed(old, new, "MetadataOptions"):
            options = _METADATA | new.get("MetadataOptions", {})
            await do.call("ec2", "ModifyInstanceMetadataOptions", {**which, **options})
        if changed(old, new, "Monitoring"):
            operation = "MonitorInstances" if is_true(new.get("Monitoring", False)) else "UnmonitorInstances"
            await do.call("ec2", operation, {"InstanceIds": [id]})
        if changed(old, new, "IamInstanceProfile"):
            await _set_profile(do, id, new.get("IamInstanceProfile"))
        if changed(old, new, *_STOPPED):
            await do.call("ec2", "StopInstances", {"InstanceIds": [id]})
            await _settled(do, id)
            for name in _STOPPED:
                if changed(old, new, name) and name in new:
                    value = new[name].encode() if name == "UserData" else new[name]
                    await do.call("ec2", "ModifyInstanceAttribute", {**which, name: {"Value": value}})
            await do.call("ec2", "StartInstances", {"InstanceIds": [id]})
        await retag(do, id, new)
        return Physical(id, _attributes(await _settled(do, id)))

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        if await unless(do, "TerminateInstances", {"InstanceIds": [physical.id]}):
            await _settled(do, physical.id)


class LaunchTemplate(Thing):
    """A launch template; a change of its data is a new version. ``Ref`` is its id."""

    kind = kinds.LAUNCH_TEMPLATE
    required = frozenset(("LaunchTemplateData",))
    replaces = frozenset(("LaunchTemplateName",))
    changes = frozenset(("LaunchTemplateData", "TagSpecifications", "VersionDescription"))
    gives = ("DefaultVersionNumber", "LatestVersionNumber", "LaunchTemplateId")

    def input(self, do: Deployment, properties: Properties) -> Properties:
        name = properties.get("LaunchTemplateName") or do.name(128)
        return picked(properties, "LaunchTemplateData", "VersionDescription") | {"LaunchTemplateName": name}

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        physical = await super().create(do, _tagged(properties))
        return Physical(physical.id, _versions(physical.attributes))

    def check(self, properties: Properties) -> None:
        super().check({name: value for name, value in properties.items() if name != "Tags"})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        attributes = physical.attributes
        if changed(old, new, "LaunchTemplateData", "VersionDescription"):
            input = {"LaunchTemplateId": physical.id, **picked(new, "LaunchTemplateData", "VersionDescription")}
            version = (await do.call("ec2", "CreateLaunchTemplateVersion", input))["LaunchTemplateVersion"]
            attributes = {**attributes, "LatestVersionNumber": str(version["VersionNumber"])}
        await retag(do, physical.id, _tagged(new))
        return Physical(physical.id, attributes)


def _tagged(properties: Properties) -> Properties:
    """The tags of a launch template, which is the one thing that its TagSpecifications are about."""
    tags = [tag for one in properties.get("TagSpecifications") or () for tag in one.get("Tags") or ()]
    return {**properties, "Tags": tags}


def _versions(attributes: Properties) -> Properties:
    numbers = {name: str(attributes[name]) for name in ("DefaultVersionNumber", "LatestVersionNumber")}
    return {**attributes, **numbers}


def _interface(one: Properties) -> Properties:
    """An interface as RunInstances takes it."""
    made_ = {("Groups" if name == "GroupSet" else name): value for name, value in one.items()}
    if "DeviceIndex" in made_:
        made_["DeviceIndex"] = int(made_["DeviceIndex"])
    return made_


async def _settled(do: Deployment, id: str) -> Properties:
    """An instance, once it is what it shall be."""
    ec2: Any = await do.service("ec2")
    await ec2.machines.settled(id)
    found = (await do.call("ec2", "DescribeInstances", {"InstanceIds": [id]}))["Reservations"]
    return found[0]["Instances"][0]  # type: ignore[no-any-return]


def _attributes(found: Properties) -> Properties:
    return {
        "AvailabilityZone": found["Placement"]["AvailabilityZone"],
        "InstanceId": found["InstanceId"],
        "PrivateDnsName": found.get("PrivateDnsName", ""),
        "PrivateIp": found.get("PrivateIpAddress", ""),
        "PublicDnsName": found.get("PublicDnsName", ""),
        "PublicIp": found.get("PublicIpAddress", ""),
        "VpcId": found.get("VpcId", ""),
        "State.Code": str(found["State"]["Code"]),
        "State.Name": found["State"]["Name"],
    }


async def _set_profile(do: Deployment, id: str, name: str | None) -> None:
    filter = {"Filters": [{"Name": "instance-id", "Values": [id]}]}
    there = (await do.call("ec2", "DescribeIamInstanceProfileAssociations", filter))["IamInstanceProfileAssociations"]
    if there and name:
        input = {"AssociationId": there[0]["AssociationId"], "IamInstanceProfile": {"Name": name}}
        await do.call("ec2", "ReplaceIamInstanceProfileAssociation", input)
    elif there:
        await do.call("ec2", "DisassociateIamInstanceProfile", {"AssociationId": there[0]["AssociationId"]})
    elif name:
        await do.call("ec2", "AssociateIamInstanceProfile", {"InstanceId": id, "IamInstanceProfile": {"Name": name}})


class PlacementGroup(Type):
    """A placement group. ``Ref`` is its name."""

    replaces = frozenset(("PartitionCount", "SpreadLevel", "Strategy", "Tags"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        self.check(properties)
        found = await made(do, "DescribePlacementGroups")
        if found is None:
            input = picked(properties, *(self.replaces - {"Tags"})) | specification(do, properties, "placement-group")
            found = (await do.call("ec2", "CreatePlacementGroup", {**input, "GroupName": do.name(255)}))[
                "PlacementGroup"
            ]
        name = found["GroupName"]
        return Physical(name, {"GroupName": name, "GroupId": found["GroupId"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        self.check(new)
        await retag(do, physical.attributes["GroupId"], new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await unless(do, "DeletePlacementGroup", {"GroupName": physical.id}, "InvalidPlacementGroup.Unknown")


TYPES = [Instance, LaunchTemplate, PlacementGroup]
