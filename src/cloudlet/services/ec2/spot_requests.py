"""Requests for spot instances as they are kept and shown."""

from __future__ import annotations

import secrets
from typing import Any

from cloudlet.errors import not_implemented
from cloudlet.services.api import Input
from cloudlet.services.ec2.kinds import SPOT_REQUEST
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import World, shown_tags

BEHAVIOUR = "InstanceInterruptionBehavior"


def check_market(operation: str, options: dict[str, Any]) -> None:
    """Name what of a market is not here. Raises NotImplemented."""
    if (type := options.get("MarketType", "spot")) != "spot":
        raise not_implemented(f"{operation} with the market type {type}")
    given = options.get("SpotOptions") or {}
    for name in ("BlockDurationMinutes", "ValidUntil"):
        if given.get(name):
            raise not_implemented(f"{operation} with SpotOptions.{name}")
    if given.get("SpotInstanceType", "one-time") != "one-time":
        raise not_implemented(f"{operation} with persistent requests for spot instances")


def request(world: World, instance: str, shown: dict[str, Any], asked: Input, tags: dict[str, str]) -> Item:
    """The record of the request that an instance fulfils."""
    options = asked["InstanceMarketOptions"].get("SpotOptions") or {}
    specification = {name: shown[name] for name in ("ImageId", "InstanceType", "SubnetId")}
    zone = shown["Placement"]["AvailabilityZone"]
    members = {
        "CreateTime": world.now,
        "InstanceId": instance,
        BEHAVIOUR: options.get(BEHAVIOUR, "terminate"),
        "LaunchSpecification": {**specification, "Placement": {"AvailabilityZone": zone}},
        "LaunchedAvailabilityZone": zone,
        "ProductDescription": "Linux/UNIX",
        "Type": "one-time",
        **({"SpotPrice": f"{float(options['MaxPrice']):.6f}"} if "MaxPrice" in options else {}),
    }
    return world.make(SPOT_REQUEST, members, tags, id=f"sir-{secrets.token_hex(4)}")


def shown_request(world: World, item: Item) -> dict[str, Any]:
    """A request as its instance has it.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html
    """
    instance = world.find(item.shown["InstanceId"])
    runs = instance is not None and instance.hidden["wanted"] != "terminated"
    if runs and "cancelled" in item.hidden:
        code, state = "request-canceled-and-instance-running", "cancelled"
        words = "Your Spot request is canceled, but your instance is still running."
    elif runs:
        code, state, words = "fulfilled", "active", "Your spot request is fulfilled."
    else:
        code, state = "instance-terminated-by-user", "cancelled" if "cancelled" in item.hidden else "closed"
        words = "Spot Instance terminated due to user-initiated termination."
    status = {"Code": code, "Message": words, "UpdateTime": item.hidden.get("cancelled", item.created)}
    return {**item.shown, "State": state, "Status": status, "Tags": shown_tags(item.tags)}
