"""Instances: launched, described, changed. What makes one run is in ``machines.py``."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import images, instance_types, interfaces, launching
from cloudlet.services.ec2.base import page
from cloudlet.services.ec2.filters import chosen
from cloudlet.services.ec2.instance_records import (
    described_instance,
    in_state,
    not_running,
    transition,
    wanted,
)
from cloudlet.services.ec2.kinds import INSTANCE, INTERFACE
from cloudlet.services.ec2.launch_templates import LaunchTemplates
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import STEP, World, invalid

_VALUES = ("DisableApiTermination", "DisableApiStop", "EbsOptimized", "SourceDestCheck")
_ATTRIBUTES = {
    "disableApiTermination": "DisableApiTermination",
    "disableApiStop": "DisableApiStop",
    "ebsOptimized": "EbsOptimized",
    "sourceDestCheck": "SourceDestCheck",
    "instanceType": "InstanceType",
    "instanceInitiatedShutdownBehavior": "InstanceInitiatedShutdownBehavior",
    "userData": "UserData",
    "groupSet": "Groups",
    "blockDeviceMapping": "BlockDeviceMappings",
    "rootDeviceName": "RootDeviceName",
    "productCodes": "ProductCodes",
    "enaSupport": "EnaSupport",
    "sriovNetSupport": "SriovNetSupport",
    "kernel": "KernelId",
    "ramdisk": "RamdiskId",
    "enclaveOptions": "EnclaveOptions",
}
_STATUS = {
    "availability-zone": ("AvailabilityZone",),
    "instance-state-code": ("InstanceState", "Code"),
    "instance-state-name": ("InstanceState", "Name"),
    "instance-status.status": ("InstanceStatus", "Status"),
    "system-status.status": ("SystemStatus", "Status"),
    "instance-status.reachability": ("InstanceStatus", "Details", "Status"),
    "system-status.reachability": ("SystemStatus", "Details", "Status"),
}


class Instances(LaunchTemplates):
    """Operations on instances."""

    def look_after(self, scope: str, id: str) -> None:
        """Have an instance made what its record says. Nothing is started before the first instance is."""
        raise NotImplementedError

    async def RunInstances(self, call: Call, input: Input) -> Output:
        asked = self.with_template(self.world(call.scope), input)
        launching.check(asked)
        profile = await self.profile_of(call, asked.get("IamInstanceProfile"))

        def work(world: World) -> tuple[str, list[Item]]:
            known = launching.by_token(world, asked.get("ClientToken", ""))
            return known or launching.launch(world, call, asked, profile)

        reservation, made = await self.write(call.scope, work)
        for item in made:
            self.look_after(call.scope, item.id)
        world = self.world(call.scope)
        return {
            "ReservationId": reservation,
            "OwnerId": call.account,
            "Groups": [],
            "Instances": [described_instance(world, item) for item in made],
        }

    async def DescribeInstances(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        ids = input.get("InstanceIds")
        if ids and "MaxResults" in input:
            raise AwsError(
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            )
        items = self._named(world, ids) if ids else world.all(INSTANCE)
        shown = [
            {**described_instance(world, item), "OwnerId": call.account, "ReservationId": item.hidden["reservation"]}
            for item in items
        ]
        asked = input.get("Filters", [])
        for one in asked:
            if one.get("Name") == f"tag:{STEP}":
                mine = {item.id for item in items if item.tags.get(STEP) in one["Values"]}
                shown = [each for each in shown if each["InstanceId"] in mine]
        asked = [one for one in asked if one.get("Name") != f"tag:{STEP}"]
        paged = page("Instances", chosen(shown, asked, INSTANCE.paths), input)
        reservations: dict[str, list[dict[str, Any]]] = {}
        for one in paged.pop("Instances"):
            del one["OwnerId"]
            reservations.setdefault(one.pop("ReservationId"), []).append(one)
        answer = [
            {"ReservationId": id, "OwnerId": call.account, "Groups": [], "Instances": instances}
            for id, instances in reservations.items()
        ]
        return {"Reservations": answer, **paged}

    async def DescribeInstanceStatus(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        ids = input.get("InstanceIds")
        items = self._named(world, ids) if ids else world.all(INSTANCE)
        if not input.get("IncludeAllInstances"):
            items = [item for item in items if item.shown["State"]["Name"] == "running"]
        shown = [_status(item) for item in items]
        return page("InstanceStatuses", chosen(shown, input.get("Filters", []), _STATUS), input)

    async def StartInstances(self, call: Call, input: Input) -> Output:
        def start(world: World, item: Item) -> Item:
            if item.shown["State"]["Name"] in ("pending", "running"):
                return item
            if item.shown["State"]["Name"] != "stopped":
                raise not_running(item, "started")
            return transition(world, wanted(world, item, "running"), "pending", "")

        return await self._change_states(call, input, "StartingInstances", start)

    async def StopInstances(self, call: Call, input: Input) -> Output:
        if input.get("Hibernate"):
            raise not_implemented("StopInstances with Hibernate")

        def stop(world: World, item: Item) -> Item:
            if item.shown["State"]["Name"] in ("stopping", "stopped"):
                return item
            if item.shown["State"]["Name"] not in ("pending", "running"):
                raise not_running(item, "stopped")
            if item.shown.get("InstanceLifecycle") == "spot":
                raise AwsError(
                    "UnsupportedOperation",
                    f"You can't stop the Spot Instance '{item.id}' because it is associated with a one-time Spot "
                    "Instance request. You can only stop Spot Instances associated with persistent Spot Instance "
                    "requests.",
                )
            if item.hidden["attributes"].get("DisableApiStop") and not input.get("Force"):
                raise AwsError(
                    "OperationNotPermitted",
                    f"The instance '{item.id}' may not be stopped. Modify its 'disableApiStop' instance attribute and "
                    "try again.",
                )
            return transition(world, wanted(world, item, "stopped"), "stopping", "Client.UserInitiatedShutdown")

        return await self._change_states(call, input, "StoppingInstances", stop)

    async def RebootInstances(self, call: Call, input: Input) -> Output:
        def reboot(world: World) -> Output:
            for item in self._named(world, input["InstanceIds"]):
                if item.shown["State"]["Name"] not in ("pending", "running"):
                    raise not_running(item, "rebooted")
                world.change(item, hidden={"boots": item.hidden["boots"] + 1})
            return {}

        answer = await self.write(call.scope, reboot)
        for id in input["InstanceIds"]:
            self.look_after(call.scope, id)
        return answer

    async def TerminateInstances(self, call: Call, input: Input) -> Output:
        def terminate(world: World, item: Item) -> Item:
            if item.shown["State"]["Name"] in ("shutting-down", "terminated"):
                return item
            if item.hidden["attributes"].get("DisableApiTermination"):
                raise AwsError(
                    "OperationNotPermitted",
                    f"The instance '{item.id}' may not be terminated. Modify its 'disableApiTermination' instance "
                    "attribute and try again.",
                )
            return transition(world, wanted(world, item, "terminated"), "shutting-down", "Client.UserInitiatedShutdown")

        return await self._change_states(call, input, "TerminatingInstances", terminate)

    async def MonitorInstances(self, call: Call, input: Input) -> Output:
        return await self._monitor(call, input, "enabled")

    async def UnmonitorInstances(self, call: Call, input: Input) -> Output:
        return await self._monitor(call, input, "disabled")

    async def DescribeInstanceAttribute(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        item = world.get(INSTANCE, input["InstanceId"])
        shown, attributes = described_instance(world, item), item.hidden["attributes"]
        name = input["Attribute"]
        if name not in _ATTRIBUTES:
            raise invalid(f"Value ({name}) for parameter attribute is invalid. Unknown attribute.")
        member = _ATTRIBUTES[name]
        answer: Output = {"InstanceId": item.id}
        if name == "groupSet":
            answer["Groups"] = shown["SecurityGroups"]
        elif name == "productCodes":
            answer["ProductCodes"] = []
        elif name == "blockDeviceMapping":
            answer["BlockDeviceMappings"] = shown["BlockDeviceMappings"]
        elif name == "userData":
            answer["UserData"] = {"Value": data} if (data := item.hidden["user_data"]) else {}
        elif name == "enclaveOptions":
            answer["EnclaveOptions"] = {"Enabled": False}
        elif name in ("kernel", "ramdisk", "sriovNetSupport"):
            answer[member] = {}
        elif member in attributes:
            answer[member] = {"Value": attributes[member]}
        else:
            answer[member] = {"Value": shown[member]} if member in shown else {}
        return answer

    async def ModifyInstanceAttribute(self, call: Call, input: Input) -> Output:
        given = {key: value for key, value in input.items() if key not in ("InstanceId", "DryRun")}
        if "Attribute" in given:
            name, value = given.pop("Attribute"), given.pop("Value", "")
            if name not in _ATTRIBUTES:
                raise invalid(f"Value ({name}) for parameter attribute is invalid. Unknown attribute.")
            member = _ATTRIBUTES[name]
            given[member] = {"Value": value.lower() == "true" if member in _VALUES else value}
        if len(given) != 1:
            raise AwsError("InvalidParameterCombination", "Fields for multiple attribute types specified")
        ((member, value),) = given.items()

        def work(world: World) -> Output:
            _modify(world, world.get(INSTANCE, input["InstanceId"]), member, value)
            return {}

        return await self.write(call.scope, work)

    async def ModifyInstanceMetadataOptions(self, call: Call, input: Input) -> Output:
        names = ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "InstanceMetadataTags", "HttpProtocolIpv6")

        def work(world: World) -> Output:
            item = world.get(INSTANCE, input["InstanceId"])
            options = {**item.shown["MetadataOptions"], **{name: input[name] for name in names if name in input}}
            world.change(item, {"MetadataOptions": options})
            return {"InstanceId": item.id, "InstanceMetadataOptions": {**options, "State": "pending"}}

        return await self.write(call.scope, work)

    async def GetConsoleOutput(self, call: Call, input: Input) -> Output:
        item = self.world(call.scope).get(INSTANCE, input["InstanceId"])
        text = await self.console(item.id)
        answer: Output = {"InstanceId": item.id, "Timestamp": self.clock.now()}
        return {**answer, "Output": base64.b64encode(text).decode()} if text else answer

    async def console(self, id: str) -> bytes:
        """The end of an instance's log."""
        raise NotImplementedError

    async def DescribeInstanceCreditSpecifications(self, call: Call, input: Input) -> Output:
        world = self.world(call.scope)
        ids = input.get("InstanceIds")
        items = self._named(world, ids) if ids else world.all(INSTANCE)
        shown = [
            {"InstanceId": item.id, "CpuCredits": item.hidden["attributes"].get("CpuCredits", "standard")}
            for item in items
            if instance_types.get(item.shown["InstanceType"]).bursts
        ]
        return page("InstanceCreditSpecifications", shown, input)

    # Instance profiles

    async def AssociateIamInstanceProfile(self, call: Call, input: Input) -> Output:
        profile = await self.profile_of(call, input["IamInstanceProfile"])

        def work(world: World) -> Output:
            item = world.get(INSTANCE, input["InstanceId"])
            if item.shown.get("IamInstanceProfile"):
                raise AwsError("IncorrectState", f"There is an existing association for instance {item.id}", status=400)
            association = f"iip-assoc-0{secrets.token_hex(8)}"
            item = world.change(item, {"IamInstanceProfile": profile}, {"association": association})
            return {"IamInstanceProfileAssociation": {**_association(item), "State": "associating"}}

        return await self.write(call.scope, work)

    async def ReplaceIamInstanceProfileAssociation(self, call: Call, input: Input) -> Output:
        profile = await self.profile_of(call, input["IamInstanceProfile"])

        def work(world: World) -> Output:
            item = _by_association(world, input["AssociationId"])
            association = f"iip-assoc-0{secrets.token_hex(8)}"
            item = world.change(item, {"IamInstanceProfile": profile}, {"association": association})
            return {"IamInstanceProfileAssociation": {**_association(item), "State": "associating"}}

        return await self.write(call.scope, work)

    async def DisassociateIamInstanceProfile(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = _by_association(world, input["AssociationId"])
            shown = {**_association(item), "State": "disassociating"}
            world.change(item, {"IamInstanceProfile": None}, {"association": ""})
            return {"IamInstanceProfileAssociation": shown}

        return await self.write(call.scope, work)

    async def DescribeIamInstanceProfileAssociations(self, call: Call, input: Input) -> Output:
        items = [item for item in self.world(call.scope).all(INSTANCE) if item.hidden.get("association")]
        shown = [_association(item) for item in items]
        if ids := input.get("AssociationIds"):
            shown = [one for one in shown if one["AssociationId"] in ids]
        paths = {"instance-id": ("InstanceId",), "state": ("State",)}
        return page("IamInstanceProfileAssociations", chosen(shown, input.get("Filters", []), paths), input)

    async def profile_of(self, call: Call, given: dict[str, str] | None) -> dict[str, str] | None:
        """An instance profile by name or ARN, as instances show it. Raises InvalidParameterValue."""
        if not given:
            return None
        name = given.get("Name") or given.get("Arn", "").rpartition("/")[2]
        try:
            found = await self.cloud.call(
                "iam", "GetInstanceProfile", {"InstanceProfileName": name}, account=call.account, region=call.region
            )
        except AwsError as error:
            if error.code != "NoSuchEntity":
                raise
            key, value = ("name", name) if "Name" in given else ("arn", given.get("Arn", ""))
            raise invalid(
                f"Value ({value}) for parameter iamInstanceProfile.{key} is invalid. Invalid IAM Instance Profile "
                + ("name" if key == "name" else "ARN")
            ) from None
        profile = found["InstanceProfile"]
        return {"Arn": profile["Arn"], "Id": profile["InstanceProfileId"]}

    # What other services ask

    def instance_address(self, account: str, region: str, id: str) -> str:
        """The address that an instance answers at on this machine; empty while it has none."""
        item = self.world(f"{account}/{region}").find(id)
        return str(item.hidden.get("address", "")) if item is not None else ""

    # Parts

    def _named(self, world: World, ids: list[str]) -> list[Item]:
        """The instances of these ids. Raises InvalidInstanceID.NotFound with all that are not there."""
        ids = list(dict.fromkeys(ids))
        if not ids:
            raise AwsError("InvalidParameterCombination", "No instances specified")
        for id in ids:
            if not id.startswith("i-"):
                raise INSTANCE.malformed(id)
        if gone := [id for id in ids if world.find(id) is None]:
            if len(gone) == 1:
                raise INSTANCE.not_found(gone[0])
            raise AwsError("InvalidInstanceID.NotFound", f"The instance IDs '{', '.join(gone)}' do not exist")
        return [world.get(INSTANCE, id) for id in ids]

    async def _monitor(self, call: Call, input: Input, state: str) -> Output:
        """Detailed monitoring on or off. All instances are measured each minute here, as with detailed monitoring."""

        def work(world: World) -> Output:
            items = self._named(world, input["InstanceIds"])
            for item in items:
                world.change(item, {"Monitoring": {"State": state}})
            # What has been asked for is on its way.
            word = {"enabled": "pending", "disabled": "disabling"}[state]
            return {"InstanceMonitorings": [{"InstanceId": one.id, "Monitoring": {"State": word}} for one in items]}

        return await self.write(call.scope, work)

    async def _change_states(self, call: Call, input: Input, output: str, change: Any) -> Output:
        def work(world: World) -> Output:
            changes = []
            for item in self._named(world, input["InstanceIds"]):
                after = change(world, item)
                changes.append(
                    {
                        "InstanceId": item.id,
                        "CurrentState": after.shown["State"],
                        "PreviousState": item.shown["State"],
                    }
                )
            return {output: changes}

        answer = await self.write(call.scope, work)
        for id in input["InstanceIds"]:
            self.look_after(call.scope, id)
        return answer


def _modify(world: World, item: Item, member: str, value: Any) -> None:
    """Carry out one change of an attribute."""
    if member == "Groups":
        interface = world.get(INTERFACE, item.hidden["interfaces"][0])
        world.change(interface, {"Groups": interfaces.groups_of(world, interface.shown["VpcId"], value)})
    elif member == "BlockDeviceMappings":
        launching.keep_volumes(world, item, value)
    elif member == "UserData":
        in_state(item, "stopped")
        data = value.get("Value", "")
        text = base64.b64encode(data).decode() if isinstance(data, bytes) else data
        world.change(item, hidden={"user_data": text})
    elif member == "InstanceType":
        in_state(item, "stopped")
        type = instance_types.get(value["Value"])
        image = images.launchable(world, item.shown["ImageId"], item.shown["Architecture"])
        launching.check_architecture(type, image)
        world.change(item, {"InstanceType": type.name, "CpuOptions": launching.cpu_options(type)})
    elif member == "SourceDestCheck":
        world.change(item, {"SourceDestCheck": value["Value"]})
        world.change(world.get(INTERFACE, item.hidden["interfaces"][0]), {"SourceDestCheck": value["Value"]})
    elif member == "EbsOptimized":
        in_state(item, "stopped")
        world.change(item, {"EbsOptimized": value["Value"]})
    elif member in ("DisableApiTermination", "DisableApiStop", "InstanceInitiatedShutdownBehavior"):
        world.change(item, hidden={"attributes": {**item.hidden["attributes"], member: value["Value"]}})
    else:
        raise not_implemented(f"ModifyInstanceAttribute with {member}")


def _status(item: Item) -> dict[str, Any]:
    runs = item.shown["State"]["Name"] == "running"
    summary: dict[str, Any] = {"Status": "ok" if runs else "not-applicable"}
    if runs:
        summary["Details"] = [{"Name": "reachability", "Status": "passed"}]
    return {
        "AvailabilityZone": item.shown["Placement"]["AvailabilityZone"],
        "InstanceId": item.id,
        "InstanceState": item.shown["State"],
        "InstanceStatus": summary,
        "SystemStatus": summary,
    }


def _association(item: Item) -> dict[str, Any]:
    return {
        "AssociationId": item.hidden["association"],
        "IamInstanceProfile": item.shown["IamInstanceProfile"],
        "InstanceId": item.id,
        "State": "associated",
        "Timestamp": item.shown["LaunchTime"],
    }


def _by_association(world: World, id: str) -> Item:
    for item in world.all(INSTANCE):
        if item.hidden.get("association") == id:
            return item
    raise AwsError("InvalidAssociationID.NotFound", f"An invalid association-id of '{id}' was given")
