"""Instances and their volumes as they are kept and shown."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.ec2.interfaces import public_name
from cloudlet.services.ec2.kinds import INTERFACE
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, shown_tags

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
_REASONS = {
    "Client.UserInitiatedShutdown": "User initiated shutdown",
    "Client.InstanceInitiatedShutdown": "Instance initiated shutdown",
}


def state(name: str) -> dict[str, Any]:
    """A state as it is answered."""
    return {"Code": CODES[name], "Name": name}


def wanted(world: World, item: Item, state: str) -> Item:
    """The instance as one that shall be ``running``, ``stopped`` or ``terminated``."""
    return world.change(item, hidden={"wanted": state})


def transition(world: World, item: Item, name: str, reason: str, words: str = "") -> Item:
    """The instance in another state; ``reason`` is a code of AWS's, or nothing."""
    text = words or _REASONS.get(reason, "")
    moment = world.now
    changes: dict[str, Any] = {"State": state(name), "StateReason": None, "StateTransitionReason": ""}
    if reason:
        changes["StateReason"] = {"Code": reason, "Message": f"{reason}: {text}"}
        changes["StateTransitionReason"] = f"{text} ({_moment(moment)})"
    if name == "pending":
        changes["LaunchTime"] = moment
    return world.change(item, changes, {"changed": moment})


def in_state(item: Item, name: str) -> None:
    """Raises IncorrectInstanceState for an instance that is in another."""
    if item.shown["State"]["Name"] != name:
        raise AwsError("IncorrectInstanceState", f"The instance '{item.id}' is not in the '{name}' state.")


def not_running(item: Item, verb: str) -> AwsError:
    """The error for an instance that is in no state for that."""
    name = item.shown["State"]["Name"]
    return AwsError(
        "IncorrectInstanceState", f"The instance '{item.id}' is not in a state from which it can be {verb}: {name}"
    )


def described_instance(world: World, item: Item) -> dict[str, Any]:
    """An instance with its interfaces, addresses and tags."""
    shown: dict[str, Any] = {**item.shown, **({"Tags": shown_tags(item.tags)} if item.tags else {})}
    address = str(item.hidden.get("address", "")) if item.hidden["public"] else ""
    is_up = item.shown["State"]["Name"] in ("pending", "running")
    found = [one for id in item.hidden["interfaces"] if (one := world.find(id)) is not None]
    groups = found[0].shown["Groups"] if found else []
    shown["SecurityGroups"] = groups
    shown["NetworkInterfaces"] = [_interface(world, one, address if is_up else "") for one in found]
    public = ""
    if found:
        association = shown["NetworkInterfaces"][0].get("Association", {})
        public = association.get("PublicIp", "")
    if public:
        shown["PublicIpAddress"] = public
    vpc = world.find(shown.get("VpcId", ""))
    has_names = vpc is not None and vpc.hidden.get("enableDnsHostnames")
    shown["PublicDnsName"] = public_name(world.region, public) if public and has_names else ""
    return shown


def _interface(world: World, item: Item, public: str) -> dict[str, Any]:
    """An interface as its instance shows it."""
    elastic = next((one for id in item.hidden.get("elastic", []) if (one := world.find(id)) is not None), None)
    association: dict[str, Any] = {}
    if elastic is not None:
        public = elastic.shown["PublicIp"]
    if public:
        owner = world.account if elastic is not None else "amazon"
        name = public_name(world.region, public)
        association = {"Association": {"IpOwnerId": owner, "PublicDnsName": name, "PublicIp": public}}
    names = (
        *("Description", "Groups", "InterfaceType", "Ipv6Addresses", "MacAddress", "NetworkInterfaceId", "OwnerId"),
        *("PrivateDnsName", "PrivateIpAddress", "SourceDestCheck", "Status", "SubnetId", "VpcId"),
    )
    attachment = item.shown.get("Attachment", {})
    kept = ("AttachmentId", "AttachTime", "DeleteOnTermination", "DeviceIndex", "NetworkCardIndex", "Status")
    return {
        **{name: item.shown[name] for name in names if name in item.shown},
        "Attachment": {name: attachment[name] for name in kept if name in attachment},
        "PrivateIpAddresses": [{**one, **association} for one in item.shown["PrivateIpAddresses"]],
        **association,
    }


def interface_of(world: World, item: Item) -> Item | None:
    """An instance's first interface."""
    ids = item.hidden["interfaces"]
    return world.get(INTERFACE, ids[0]) if ids else None


def _moment(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S GMT")
