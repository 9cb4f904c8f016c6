"""Traffic mirroring: filters with their rules and targets, which are records. Nothing copies packets: no sessions."""

from __future__ import annotations

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.ec2 import cidr
from cloudlet.services.ec2.base import Base, Shown
from cloudlet.services.ec2.kinds import INTERFACE, MIRROR_FILTER, MIRROR_RULE, MIRROR_TARGET
from cloudlet.services.ec2.operations import creates, describes
from cloudlet.services.ec2.records import Item
from cloudlet.services.ec2.world import Members, World, invalid, shown_tags

_SIDES = {"ingress": "IngressFilterRules", "egress": "EgressFilterRules"}
_TARGETS = ("NetworkInterfaceId", "NetworkLoadBalancerArn", "GatewayLoadBalancerEndpointId")
_OF_RULES = (
    *("TrafficDirection", "RuleNumber", "RuleAction", "Protocol", "Description"),
    *("DestinationPortRange", "SourcePortRange", "DestinationCidrBlock", "SourceCidrBlock"),
)


def _described(input: Input) -> Members:
    return {"Description": input["Description"]} if "Description" in input else {}


def _filter(world: World, input: Input) -> Members:
    return {"EgressFilterRules": [], "IngressFilterRules": [], "NetworkServices": [], **_described(input)}


def _rule(world: World, input: Input) -> Members:
    owner = world.get(MIRROR_FILTER, input["TrafficMirrorFilterId"])
    shown = {"TrafficMirrorFilterId": owner.id, **{name: input[name] for name in _OF_RULES if name in input}}
    return _checked(world, shown)


def _target(world: World, input: Input) -> Members:
    if sum(name in input for name in _TARGETS) != 1:
        one_of = "NetworkInterfaceId, NetworkLoadBalancerArn or GatewayLoadBalancerEndpointId"
        raise AwsError("InvalidParameterCombination", f"Exactly one of {one_of} must be specified")
    if "GatewayLoadBalancerEndpointId" in input:
        raise not_implemented("CreateTrafficMirrorTarget with GatewayLoadBalancerEndpointId")
    where = {name: input[name] for name in _TARGETS if name in input}
    if "NetworkInterfaceId" in where:
        world.get(INTERFACE, where["NetworkInterfaceId"])
    type = "network-interface" if "NetworkInterfaceId" in where else "network-load-balancer"
    return {**where, "Type": type, "OwnerId": world.account, **_described(input)}


def _with_rules(world: World, item: Item) -> Shown:
    rules = [{**rule.shown, "Tags": shown_tags(rule.tags)} for rule in world.all(MIRROR_RULE)]
    mine = [rule for rule in rules if rule["TrafficMirrorFilterId"] == item.id]
    by_side = {side: [rule for rule in mine if rule["TrafficDirection"] == way] for way, side in _SIDES.items()}
    return {**item.shown, **by_side}


class Mirroring(Base):
    """Operations on what a session would use."""

    CreateTrafficMirrorFilter = creates(MIRROR_FILTER, _filter, ("Description",))
    DescribeTrafficMirrorFilters = describes(MIRROR_FILTER, _with_rules)
    CreateTrafficMirrorFilterRule = creates(MIRROR_RULE, _rule, ("TrafficMirrorFilterId", *_OF_RULES))
    CreateTrafficMirrorTarget = creates(MIRROR_TARGET, _target, ("Description", *_TARGETS))
    DescribeTrafficMirrorTargets = describes(MIRROR_TARGET)

    async def DescribeTrafficMirrorFilterRules(self, call: Call, input: Input) -> Output:
        filters = list(input.get("Filters", []))
        if "TrafficMirrorFilterId" in input:
            filters.append({"Name": "traffic-mirror-filter-id", "Values": [input["TrafficMirrorFilterId"]]})
        return self.described(call, {**input, "Filters": filters}, MIRROR_RULE)

    async def ModifyTrafficMirrorFilterRule(self, call: Call, input: Input) -> Output:
        names = {"destination-port-range", "source-port-range", "protocol", "description"}
        gone = {name: None for name in _OF_RULES if _hyphens(name) in names & set(input.get("RemoveFields", []))}

        def work(world: World) -> Output:
            item = world.get(MIRROR_RULE, input["TrafficMirrorFilterRuleId"])
            change = {**gone, **{name: input[name] for name in _OF_RULES if name in input}}
            _checked(world, item.shown | {name: value for name, value in change.items() if value is not None}, item.id)
            return {"TrafficMirrorFilterRule": world.change(item, change).shown}

        return await self.write(call.scope, work)

    async def ModifyTrafficMirrorFilterNetworkServices(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(MIRROR_FILTER, input["TrafficMirrorFilterId"])
            kept = set(item.shown["NetworkServices"]) - set(input.get("RemoveNetworkServices", []))
            services = sorted(kept | set(input.get("AddNetworkServices", [])))
            item = world.change(item, {"NetworkServices": services})
            return {"TrafficMirrorFilter": {**_with_rules(world, item), "Tags": shown_tags(item.tags)}}

        return await self.write(call.scope, work)

    async def DeleteTrafficMirrorFilter(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(MIRROR_FILTER, input["TrafficMirrorFilterId"])
            for rule in world.all(MIRROR_RULE, TrafficMirrorFilterId=item.id):
                world.delete(rule)
            world.delete(item)
            return {"TrafficMirrorFilterId": item.id}

        return await self.write(call.scope, work)

    async def DeleteTrafficMirrorFilterRule(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(MIRROR_RULE, input["TrafficMirrorFilterRuleId"])
            world.delete(item)
            return {"TrafficMirrorFilterRuleId": item.id}

        return await self.write(call.scope, work)

    async def DeleteTrafficMirrorTarget(self, call: Call, input: Input) -> Output:
        def work(world: World) -> Output:
            item = world.get(MIRROR_TARGET, input["TrafficMirrorTargetId"])
            world.delete(item)
            return {"TrafficMirrorTargetId": item.id}

        return await self.write(call.scope, work)

    # None can be made here: programs that look for them get the true answer.

    async def DescribeTrafficMirrorSessions(self, call: Call, input: Input) -> Output:
        return {"TrafficMirrorSessions": []}


def _checked(world: World, rule: Members, id: str = "") -> Members:
    """A rule that can be. Raises InvalidParameterValue."""
    for name in ("DestinationCidrBlock", "SourceCidrBlock"):
        cidr.either(rule[name])
    if not 1 <= rule["RuleNumber"] <= 32766:
        raise invalid(f"Value ({rule['RuleNumber']}) for parameter ruleNumber is invalid.")
    same = ("TrafficMirrorFilterId", "TrafficDirection", "RuleNumber")
    for other in world.all(MIRROR_RULE, **{name: rule[name] for name in same}):
        if other.id != id:
            raise invalid(f"Rule number {rule['RuleNumber']} is already used by {other.id}.")
    return rule


def _hyphens(capitals: str) -> str:
    return "".join(f"-{one.lower()}" if one.isupper() else one for one in capitals).removeprefix("-")
