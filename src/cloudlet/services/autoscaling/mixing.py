"""Mixed instances policies: which template, which type, and whether an instance is a spot one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cloudlet.errors import not_implemented
from cloudlet.services.autoscaling.records import Member

_DEFAULTS = {
    "OnDemandAllocationStrategy": "prioritized",
    "OnDemandBaseCapacity": 0,
    "OnDemandPercentageAboveBaseCapacity": 100,
    "SpotAllocationStrategy": "lowest-price",
}
_POOLS = 2  # of the lowest-price strategy


def template_of(members: dict[str, Any]) -> dict[str, Any]:
    """The launch template of a group, that of its mixed instances policy among them."""
    policy = members.get("MixedInstancesPolicy") or {}
    own = (policy.get("LaunchTemplate") or {}).get("LaunchTemplateSpecification")
    found: dict[str, Any] = members.get("LaunchTemplate") or own or {}
    return found


def completed_policy(policy: dict[str, Any]) -> dict[str, Any]:
    """A policy with AWS's defaults. Raises NotImplemented for overrides by something else than a type."""
    template = {"Overrides": [], **(policy.get("LaunchTemplate") or {})}
    for override in template["Overrides"]:
        for name in override:
            if name not in ("InstanceType", "WeightedCapacity"):
                raise not_implemented(f"a MixedInstancesPolicy with Overrides.{name}")
    distribution = {**_DEFAULTS, **(policy.get("InstancesDistribution") or {})}
    if distribution["SpotAllocationStrategy"] == "lowest-price":
        distribution.setdefault("SpotInstancePools", _POOLS)
    return {**policy, "LaunchTemplate": template, "InstancesDistribution": distribution}


def is_next_spot(members: dict[str, Any], counted: Sequence[Member]) -> bool:
    """Whether a group's next instance is a spot one: the base and its share of the rest, rounded up, are not."""
    distribution = (members.get("MixedInstancesPolicy") or {}).get("InstancesDistribution")
    if not distribution:
        return False
    base, total = distribution["OnDemandBaseCapacity"], len(counted) + 1
    share = math.ceil(max(0, total - base) * distribution["OnDemandPercentageAboveBaseCapacity"] / 100)
    return bool(sum(not one.is_spot for one in counted) >= min(base, total) + share)


def override_of(members: dict[str, Any]) -> dict[str, Any]:
    """The override that a group's next instance has. Every type has capacity here, so that it is the first one."""
    policy = members.get("MixedInstancesPolicy") or {}
    overrides: Sequence[dict[str, Any]] = (policy.get("LaunchTemplate") or {}).get("Overrides") or ({},)
    return overrides[0]


def weight_of(override: dict[str, Any]) -> int:
    """How much of its group's capacity an instance is."""
    return int(override.get("WeightedCapacity", 1))


def overridden(members: dict[str, Any], is_spot: bool) -> dict[str, Any]:
    """What RunInstances is asked beside the template."""
    override = override_of(members)
    asked: dict[str, Any] = {"InstanceType": override["InstanceType"]} if "InstanceType" in override else {}
    if is_spot:
        price = members["MixedInstancesPolicy"]["InstancesDistribution"].get("SpotMaxPrice")
        asked["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": {"MaxPrice": price} if price else {}}
    return asked
