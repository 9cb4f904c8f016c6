"""CloudFormation's types of Elastic Load Balancing v2."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of

_GONE = (
    "LoadBalancerNotFoundException",
    "ListenerNotFoundException",
    "RuleNotFoundException",
    "TrustStoreNotFoundException",
    "RevocationIdNotFoundException",
)


class LoadBalancer(ResourceType):
    """A load balancer. ``Ref`` is its ARN."""

    type = "AWS::ElasticLoadBalancingV2::LoadBalancer"
    replaces = frozenset(("Name", "Scheme", "Type"))
    refuses = frozenset(
        (
            "EnablePrefixForIpv6SourceNat",
            "EnableCapacityReservationProvisionStabilize",
            "Ipv4IpamPoolId",
            "MinimumLoadBalancerCapacity",
        )
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("Name") or do.name(32).strip("-")
        given = {key: properties[key] for key in _LOAD_BALANCER if key in properties}
        try:
            made = await do.call("elbv2", "CreateLoadBalancer", {**given, "Name": name, "Tags": _tags(do, properties)})
            one = made["LoadBalancers"][0]
        except AwsError as error:
            if error.code != "DuplicateLoadBalancerNameException" or "Name" in properties:
                raise
            one = (await do.call("elbv2", "DescribeLoadBalancers", {"Names": [name]}))["LoadBalancers"][0]
        await do.initiated(one["LoadBalancerArn"])
        await _set_attributes(do, "LoadBalancer", one["LoadBalancerArn"], properties)
        return _load_balancer(one)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        where = {"LoadBalancerArn": physical.id}
        if changed(old, new, "Subnets", "SubnetMappings"):
            given: Properties = {key: new[key] for key in ("Subnets", "SubnetMappings") if key in new}
            await do.call("elbv2", "SetSubnets", {**where, **given})
        if changed(old, new, "SecurityGroups", _INBOUND):
            groups = {"SecurityGroups": new.get("SecurityGroups", [])}
            if _INBOUND in new or _INBOUND in old:
                groups[_INBOUND] = new.get(_INBOUND, "on")
            await do.call("elbv2", "SetSecurityGroups", {**where, **groups})
        if changed(old, new, "IpAddressType"):
            kind = new.get("IpAddressType", "ipv4")
            await do.call("elbv2", "SetIpAddressType", {**where, "IpAddressType": kind})
        await _set_attributes(do, "LoadBalancer", physical.id, new, old)
        await _retag(do, physical.id, new)
        found = await do.call("elbv2", "DescribeLoadBalancers", {"LoadBalancerArns": [physical.id]})
        return _load_balancer(found["LoadBalancers"][0])

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteLoadBalancer", {"LoadBalancerArn": physical.id})


_INBOUND = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"
_LOAD_BALANCER = (
    _INBOUND,
    "IpAddressType",
    "Scheme",
    "SecurityGroups",
    "SubnetMappings",
    "Subnets",
    "Type",
)


def _load_balancer(one: dict[str, Any]) -> Physical:
    arn = one["LoadBalancerArn"]
    return Physical(
        arn,
        {
            "CanonicalHostedZoneID": one["CanonicalHostedZoneId"],
            "DNSName": one["DNSName"],
            "LoadBalancerArn": arn,
            "LoadBalancerFullName": arn.partition(":loadbalancer/")[2],
            "LoadBalancerName": one["LoadBalancerName"],
            "SecurityGroups": one["SecurityGroups"],
        },
    )


class TargetGroup(ResourceType):
    """A target group with its targets. ``Ref`` is its ARN."""

    type = "AWS::ElasticLoadBalancingV2::TargetGroup"
    replaces = frozenset(("IpAddressType", "Name", "Port", "Protocol", "ProtocolVersion", "TargetType", "VpcId"))
    refuses = frozenset(("TargetControlPort",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("Name") or do.name(32).strip("-")
        given = {key: value for key, value in properties.items() if key not in _APART}
        try:
            made = await do.call("elbv2", "CreateTargetGroup", {**given, "Name": name, "Tags": _tags(do, properties)})
        except AwsError as error:
            if error.code != "DuplicateTargetGroupNameException" or "Name" in properties:
                raise
            made = await do.call("elbv2", "DescribeTargetGroups", {"Names": [name]})
        arn = made["TargetGroups"][0]["TargetGroupArn"]
        await do.initiated(arn)
        await _set_attributes(do, "TargetGroup", arn, properties)
        if targets := properties.get("Targets"):
            await do.call("elbv2", "RegisterTargets", {"TargetGroupArn": arn, "Targets": targets})
        return await _group(do, arn)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        where = {"TargetGroupArn": physical.id}
        checks = {key: new.get(key, default) for key, default in _CHECKS.items() if old.get(key) != new.get(key)}
        if changes := {key: value for key, value in checks.items() if value is not None}:
            await do.call("elbv2", "ModifyTargetGroup", {**where, **changes})
        await _set_attributes(do, "TargetGroup", physical.id, new, old)
        before, after = old.get("Targets", []), new.get("Targets", [])
        if gone := [target for target in before if target not in after]:
            await do.call("elbv2", "DeregisterTargets", {**where, "Targets": [_named(target) for target in gone]})
        if fresh := [target for target in after if target not in before]:
            await do.call("elbv2", "RegisterTargets", {**where, "Targets": fresh})
        await _retag(do, physical.id, new)
        return await _group(do, physical.id)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await do.call("elbv2", "DeleteTargetGroup", {"TargetGroupArn": physical.id})


_APART = ("Name", "Tags", "Targets", "TargetGroupAttributes")
# What a removed property goes back to; where that depends on the protocol it stays as it is.
_CHECKS: Properties = {
    "HealthCheckEnabled": None,
    "HealthCheckIntervalSeconds": 30,
    "HealthCheckPath": None,
    "HealthCheckPort": "traffic-port",
    "HealthCheckProtocol": None,
    "HealthCheckTimeoutSeconds": None,
    "HealthyThresholdCount": 5,
    "Matcher": None,
    "UnhealthyThresholdCount": 2,
}


def _named(target: Properties) -> Properties:
    return {key: target[key] for key in ("Id", "Port") if key in target}


async def _group(do: Deployment, arn: str) -> Physical:
    found = await do.call("elbv2", "DescribeTargetGroups", {"TargetGroupArns": [arn]})
    one = found["TargetGroups"][0]
    return Physical(
        arn,
        {
            "LoadBalancerArns": one["LoadBalancerArns"],
            "TargetGroupArn": arn,
            "TargetGroupFullName": arn.rpartition(":")[2],
            "TargetGroupName": one["TargetGroupName"],
        },
    )


class Listener(ResourceType):
    """A listener. ``Ref`` is its ARN."""

    type = "AWS::ElasticLoadBalancingV2::Listener"
    required = frozenset(("DefaultActions", "LoadBalancerArn"))
    replaces = frozenset(("LoadBalancerArn",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        given = {key: value for key, value in properties.items() if key != "ListenerAttributes"}
        try:
            made = await do.call("elbv2", "CreateListener", {**given, "Tags": _tags(do, properties)})
            arn = made["Listeners"][0]["ListenerArn"]
        except AwsError as error:
            found = await self._made_before(do, properties) if error.code == "DuplicateListenerException" else None
            if found is None:
                raise
            arn = found
        await do.initiated(arn)
        await _set_attributes(do, "Listener", arn, properties)
        return Physical(arn, {"ListenerArn": arn})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        apart = ("ListenerAttributes", "LoadBalancerArn", "Tags")
        if changed(old, new, *((old.keys() | new.keys()) - set(apart))):
            given = {key: value for key, value in new.items() if key not in apart}
            await do.call("elbv2", "ModifyListener", {**given, "ListenerArn": physical.id})
        await _set_attributes(do, "Listener", physical.id, new, old)
        await _retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteListener", {"ListenerArn": physical.id})

    async def _made_before(self, do: Deployment, properties: Properties) -> str | None:
        """The listener that an earlier, interrupted run of this step has made: it has this step's tags."""
        where = {"LoadBalancerArn": properties["LoadBalancerArn"]}
        for one in (await do.call("elbv2", "DescribeListeners", where))["Listeners"]:
            if str(one["Port"]) == str(properties.get("Port")):
                tags = await do.call("elbv2", "DescribeTags", {"ResourceArns": [one["ListenerArn"]]})
                if tags["TagDescriptions"][0]["Tags"] == _tags(do, properties):
                    return str(one["ListenerArn"])
        return None


class ListenerRule(ResourceType):
    """A rule of a listener. ``Ref`` is its ARN."""

    type = "AWS::ElasticLoadBalancingV2::ListenerRule"
    required = frozenset(("Actions", "Conditions", "ListenerArn", "Priority"))
    replaces = frozenset(("ListenerArn",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        try:
            made = await do.call("elbv2", "CreateRule", {**properties, "Tags": _tags(do, properties)})
            return _rule(made["Rules"][0]["RuleArn"])
        except AwsError as error:
            if error.code != "PriorityInUseException":
                raise
            rules = await do.call("elbv2", "DescribeRules", {"ListenerArn": properties["ListenerArn"]})
            for one in rules["Rules"]:
                if one["Priority"] == str(properties["Priority"]):
                    tags = await do.call("elbv2", "DescribeTags", {"ResourceArns": [one["RuleArn"]]})
                    if tags["TagDescriptions"][0]["Tags"] == _tags(do, properties):
                        return _rule(one["RuleArn"])
            raise

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        if changed(old, new, "Actions", "Conditions", "Transforms"):
            given = {"RuleArn": physical.id, "Actions": new["Actions"], "Conditions": new["Conditions"]}
            more = {"Transforms": new["Transforms"]} if new.get("Transforms") else {"ResetTransforms": True}
            await do.call("elbv2", "ModifyRule", {**given, **more})
        if changed(old, new, "Priority"):
            pair = {"RuleArn": physical.id, "Priority": new["Priority"]}
            await do.call("elbv2", "SetRulePriorities", {"RulePriorities": [pair]})
        await _retag(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteRule", {"RuleArn": physical.id})


def _rule(arn: str) -> Physical:
    return Physical(arn, {"IsDefault": False, "RuleArn": arn})


class ListenerCertificate(ResourceType):
    """Certificates of a listener beside its default one."""

    type = "AWS::ElasticLoadBalancingV2::ListenerCertificate"
    required = frozenset(("Certificates", "ListenerArn"))
    replaces = frozenset(("ListenerArn",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        await do.call("elbv2", "AddListenerCertificates", properties)
        return Physical(do.name(), {"Id": do.name()})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        where = {"ListenerArn": new["ListenerArn"]}
        if fresh := [one for one in new["Certificates"] if one not in old["Certificates"]]:
            await do.call("elbv2", "AddListenerCertificates", {**where, "Certificates": fresh})
        if gone := [one for one in old["Certificates"] if one not in new["Certificates"]]:
            await do.call("elbv2", "RemoveListenerCertificates", {**where, "Certificates": gone})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "RemoveListenerCertificates", properties)


class TrustStore(ResourceType):
    """A trust store. ``Ref`` is its ARN."""

    type = "AWS::ElasticLoadBalancingV2::TrustStore"
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        name = properties.get("Name") or do.name(32).strip("-")
        given = {key: value for key, value in properties.items() if key.startswith("CaCertificatesBundle")}
        try:
            made = await do.call("elbv2", "CreateTrustStore", {**given, "Name": name, "Tags": _tags(do, properties)})
        except AwsError as error:
            if error.code != "DuplicateTrustStoreNameException" or "Name" in properties:
                raise
            made = await do.call("elbv2", "DescribeTrustStores", {"Names": [name]})
        return _trust_store(made["TrustStores"][0])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        given = {key: value for key, value in new.items() if key.startswith("CaCertificatesBundle")}
        if changed(old, new, *given):
            await do.call("elbv2", "ModifyTrustStore", {**given, "TrustStoreArn": physical.id})
        await _retag(do, physical.id, new)
        found = await do.call("elbv2", "DescribeTrustStores", {"TrustStoreArns": [physical.id]})
        return _trust_store(found["TrustStores"][0])

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteTrustStore", {"TrustStoreArn": physical.id})


def _trust_store(one: dict[str, Any]) -> Physical:
    names = ("NumberOfCaCertificates", "Status", "TrustStoreArn")
    return Physical(one["TrustStoreArn"], {name: one[name] for name in names})


class TrustStoreRevocation(ResourceType):
    """A revocation list of a trust store, or several. ``Ref`` is the trust store's ARN with the list's number."""

    type = "AWS::ElasticLoadBalancingV2::TrustStoreRevocation"
    required = frozenset(("RevocationContents", "TrustStoreArn"))
    replaces = frozenset(("RevocationContents", "TrustStoreArn"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        made = await do.call("elbv2", "AddTrustStoreRevocations", properties)
        ids = [one["RevocationId"] for one in made["TrustStoreRevocations"]]
        shown = {"RevocationId": ids[0], "TrustStoreRevocations": made["TrustStoreRevocations"]}
        return Physical(f"{properties['TrustStoreArn']}/{','.join(map(str, ids))}", shown)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        arn, _, ids = physical.id.rpartition("/")
        given = {"TrustStoreArn": arn, "RevocationIds": [int(id) for id in ids.split(",")]}
        await _unless_gone(do, "RemoveTrustStoreRevocations", given)


def _tags(do: Deployment, properties: Properties) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags_of(do, properties).items()]


async def _retag(do: Deployment, arn: str, properties: Properties) -> None:
    wanted = tags_of(do, properties)
    found = await do.call("elbv2", "DescribeTags", {"ResourceArns": [arn]})
    there = {tag["Key"]: tag["Value"] for tag in found["TagDescriptions"][0]["Tags"]}
    if gone := [key for key in there if key not in wanted]:
        await do.call("elbv2", "RemoveTags", {"ResourceArns": [arn], "TagKeys": gone})
    if wanted and wanted != there:
        await do.call("elbv2", "AddTags", {"ResourceArns": [arn], "Tags": _tags(do, properties)})


async def _set_attributes(
    do: Deployment, kind: str, arn: str, properties: Properties, before: Properties | None = None
) -> None:
    """Set the attributes that the template gives; one that it no longer gives stays as it is, as with AWS."""
    given = properties.get(f"{kind}Attributes") or []
    if given and given != (before or {}).get(f"{kind}Attributes"):
        await do.call("elbv2", f"Modify{kind}Attributes", {f"{kind}Arn": arn, "Attributes": given})


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call("elbv2", operation, input)
    except AwsError as error:
        if error.code not in _GONE:
            raise


TYPES = [
    LoadBalancer,
    TargetGroup,
    Listener,
    ListenerRule,
    ListenerCertificate,
    TrustStore,
    TrustStoreRevocation,
]
