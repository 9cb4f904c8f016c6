"""Load balancers and their attributes."""

from __future__ import annotations

import re
import secrets
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.elbv2 import networks
from cloudlet.services.elbv2.base import Base, new_id, page, refuse, tags_of
from cloudlet.services.elbv2.errors import invalid, misconfigured
from cloudlet.services.elbv2.records import LOAD_BALANCER_ATTRIBUTES, LoadBalancer, load_balancer_attributes
from cloudlet.store import Tx

_HOSTED_ZONES = {"application": "Z35SXDOTRQ7X7K", "network": "Z26RNL4JYFTOTI"}
# Attributes that are only kept at their defaults: what they would do is not done.
_NOT_DONE = {
    "connection_logs.s3.enabled": "true",
    "health_check_logs.s3.enabled": "true",
    "routing.http.xff_client_port.enabled": "true",
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": "true",
}
_NUMBERS = {
    "idle_timeout.timeout_seconds": (1, 4000),
    "client_keep_alive.seconds": (60, 604_800),
    "secondary_ips.auto_assigned.per_subnet": (0, 7),
}
_CHOICES = {
    "routing.http.desync_mitigation_mode": ("monitor", "defensive", "strictest"),
    "routing.http.xff_header_processing.mode": ("append", "preserve", "remove"),
    "dns_record.client_routing_policy": (
        "availability_zone_affinity",
        "partial_availability_zone_affinity",
        "any_availability_zone",
    ),
}


class LoadBalancers(Base):
    """Making, showing and deleting load balancers."""

    async def CreateLoadBalancer(self, call: Call, input: Input) -> Output:
        refuse("CreateLoadBalancer", input, "CustomerOwnedIpv4Pool", "EnablePrefixForIpv6SourceNat", "IpamPools")
        name, type = input["Name"], input.get("Type", "application")
        if type == "gateway":
            raise not_implemented("CreateLoadBalancer with Type gateway")
        _check_name(name)
        tags = tags_of(input)
        found, vpc = await self._zones(call, input, type)
        groups = input.get("SecurityGroups", [])
        await networks.check_security_groups(self.cloud, call, groups)
        if not groups and type == "application":
            groups = await networks.default_security_group(self.cloud, call, vpc)
        scheme = input.get("Scheme", "internet-facing")
        prefix = "internal-" if scheme == "internal" else ""
        made = LoadBalancer(
            account=call.account,
            region=call.region,
            name=name,
            id=new_id(),
            type=type,
            scheme=scheme,
            created=self.clock.now(),
            address=self.own_address(),
            dns_name=f"{prefix}{name}-{secrets.randbelow(10**10):010}.{call.region}.elb.localhost".lower(),
            vpc=vpc,
            zones=found,
            security_groups=groups,
            ip_address_type=input.get("IpAddressType", "ipv4"),
            tags=tags,
        )

        def create(tx: Tx) -> LoadBalancer:
            record = self.load_balancers.get(call.scope, name, tx)
            if record is not None:
                if _settings(record.value) != _settings(made):
                    words = f"A load balancer with the same name '{name}' exists, but with different settings"
                    raise AwsError("DuplicateLoadBalancerNameException", words)
                return record.value
            return self.load_balancers.put(tx, call.scope, name, made).value

        stored = await self.db.write(create)
        self._names[stored.dns_name] = stored
        state = "provisioning" if stored is made or stored.id == made.id else "active"
        return {"LoadBalancers": [_described(stored, state)]}

    async def DescribeLoadBalancers(self, call: Call, input: Input) -> Output:
        if arns := input.get("LoadBalancerArns"):
            found = [self.load_balancer(call, arn) for arn in arns]
        elif names := input.get("Names"):
            records = [self.load_balancers.get(call.scope, name) for name in names]
            found = [record.value for record in records if record is not None]
            if len(found) < len(names):
                missing = [name for name, record in zip(names, records, strict=True) if record is None]
                raise AwsError("LoadBalancerNotFoundException", f"Load balancers '[{', '.join(missing)}]' not found")
        else:
            found = [record.value for record in self.load_balancers.list(call.scope)]
        here, marker = page([_described(one) for one in found], input, "LoadBalancerArn")
        return {"LoadBalancers": here, **marker}

    async def DeleteLoadBalancer(self, call: Call, input: Input) -> Output:
        arn = input["LoadBalancerArn"]

        def delete(tx: Tx) -> LoadBalancer | None:
            try:
                one = self.load_balancer(call, arn, tx)
            except AwsError:
                return None
            if load_balancer_attributes(one)["deletion_protection.enabled"] == "true":
                words = f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled"
                raise AwsError("OperationNotPermittedException", words)
            if any(record.value.target == arn for record in self.targets.list(call.scope, "", tx)):
                raise AwsError("ResourceInUseException", f"Load balancer '{arn}' is currently in use by a target group")
            for listener in self.listeners_of(one, tx):
                for rule in self.rules_of(call, listener, tx):
                    self.rules.delete(tx, call.scope, f"{listener.id}/{rule.id}")
                self.listeners.delete(tx, call.scope, f"{one.id}/{listener.id}")
            self.load_balancers.delete(tx, call.scope, one.name)
            return one

        try:
            listeners = self.listeners_of(self.load_balancer(call, arn))
        except AwsError:
            return {}
        if (gone := await self.db.write(delete)) is not None:
            self._names.pop(gone.dns_name, None)
            self.changed()
            for listener in listeners:
                await self.release_certificates(arn, listener.certificates)
        return {}

    async def DescribeLoadBalancerAttributes(self, call: Call, input: Input) -> Output:
        return _attributes(self.load_balancer(call, input["LoadBalancerArn"]))

    async def ModifyLoadBalancerAttributes(self, call: Call, input: Input) -> Output:
        one = self.load_balancer(call, input["LoadBalancerArn"])
        changes = {given["Key"]: given.get("Value", "") for given in input["Attributes"] if "Key" in given}
        for key, value in changes.items():
            _check_attribute(one, key, value)
        wanted = {**load_balancer_attributes(one), **changes}
        if wanted["access_logs.s3.enabled"] == "true":
            if one.type == "network":
                raise not_implemented("access logs of network load balancers")
            if not wanted["access_logs.s3.bucket"]:
                raise misconfigured("The value of 'access_logs.s3.bucket' must be specified")
            if one.attributes.get("access_logs.s3.enabled") != "true":
                await self._try_logs(one, wanted)
        return _attributes(
            await self._change_load_balancer(
                call, one.arn, lambda now: replace(now, attributes={**now.attributes, **changes})
            )
        )

    async def _try_logs(self, one: LoadBalancer, wanted: dict[str, str]) -> None:
        """Put the test file that AWS puts. Raises InvalidConfigurationRequest when it cannot be put."""
        bucket, prefix = wanted["access_logs.s3.bucket"], wanted["access_logs.s3.prefix"]
        key = f"{prefix}/" if prefix else ""
        put: Input = {"Bucket": bucket, "Key": f"{key}AWSLogs/{one.account}/ELBAccessLogTestFile", "Body": b""}
        try:
            await self.cloud.call("s3", "PutObject", put, account=one.account, region=one.region)
        except AwsError:
            words = f"Access Denied for bucket: {bucket}. Please check S3bucket permission"
            raise misconfigured(words) from None

    async def DescribeCapacityReservation(self, call: Call, input: Input) -> Output:
        self.load_balancer(call, input["LoadBalancerArn"])
        return {"CapacityReservationState": []}  # none is ever made: ModifyCapacityReservation is not implemented

    async def SetIpAddressType(self, call: Call, input: Input) -> Output:
        one = self.load_balancer(call, input["LoadBalancerArn"])
        wanted = input["IpAddressType"]
        await self._change_load_balancer(call, one.arn, lambda now: replace(now, ip_address_type=wanted))
        return {"IpAddressType": wanted}

    async def SetSecurityGroups(self, call: Call, input: Input) -> Output:
        one = self.load_balancer(call, input["LoadBalancerArn"])
        groups = input["SecurityGroups"]
        if one.type == "network" and not one.security_groups:
            raise misconfigured("You cannot set security groups on a load balancer of type network that has none")
        await networks.check_security_groups(self.cloud, call, groups)
        rules = input.get("EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic", one.inbound_rules)
        await self._change_load_balancer(
            call, one.arn, lambda now: replace(now, security_groups=groups, inbound_rules=rules)
        )
        return {
            "SecurityGroupIds": groups,
            **({"EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic": rules} if rules else {}),
        }

    async def SetSubnets(self, call: Call, input: Input) -> Output:
        refuse("SetSubnets", input, "EnablePrefixForIpv6SourceNat")
        one = self.load_balancer(call, input["LoadBalancerArn"])
        found, _ = await self._zones(call, input, one.type)
        kind = input.get("IpAddressType", one.ip_address_type)
        await self._change_load_balancer(call, one.arn, lambda now: replace(now, zones=found, ip_address_type=kind))
        return {"AvailabilityZones": found, "IpAddressType": kind}

    async def _zones(self, call: Call, input: Input, type: str) -> tuple[list[dict[str, Any]], str]:
        subnets, mappings = input.get("Subnets", []), input.get("SubnetMappings", [])
        if subnets and mappings:
            raise invalid("You cannot specify both subnets and subnet mappings")
        mappings = mappings or [{"SubnetId": id} for id in dict.fromkeys(subnets)]
        for mapping in mappings:
            refuse("SubnetMappings", mapping, "AllocationId", "IPv6Address", "SourceNatIpv6Prefix")
        if not mappings:
            raise invalid("You must specify either subnets or subnet mappings")
        if type == "application" and len(mappings) < 2:
            raise invalid("At least two subnets in two different Availability Zones must be specified")
        return await networks.zones(self.cloud, call, mappings)

    async def _change_load_balancer(self, call: Call, arn: str, change: Any) -> LoadBalancer:
        def write(tx: Tx) -> LoadBalancer:
            one = change(self.load_balancer(call, arn, tx))
            return self.load_balancers.put(tx, call.scope, one.name, one).value

        stored = await self.db.write(write)
        self._names[stored.dns_name] = stored
        self.changed()
        return stored

    async def release_certificates(self, load_balancer_arn: str, arns: list[str]) -> None:
        """Tell ACM that a load balancer does not use certificates any more, unless another of its listeners does."""
        raise NotImplementedError


def _settings(one: LoadBalancer) -> tuple[object, ...]:
    return one.type, one.scheme, one.ip_address_type, one.zones, sorted(one.security_groups), one.tags


def _described(one: LoadBalancer, state: str = "active") -> Output:
    return {
        "LoadBalancerArn": one.arn,
        "DNSName": one.dns_name,
        "CanonicalHostedZoneId": _HOSTED_ZONES[one.type],
        "CreatedTime": one.created,
        "LoadBalancerName": one.name,
        "Scheme": one.scheme,
        "VpcId": one.vpc,
        "State": {"Code": state},
        "Type": one.type,
        "AvailabilityZones": one.zones,
        "SecurityGroups": one.security_groups,
        "IpAddressType": one.ip_address_type,
        **({"EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic": one.inbound_rules} if one.inbound_rules else {}),
    }


def _attributes(one: LoadBalancer) -> Output:
    attributes = load_balancer_attributes(one)
    return {"Attributes": [{"Key": key, "Value": value} for key, value in sorted(attributes.items())]}


def _check_name(name: str) -> None:
    if len(name) > 32:
        raise invalid(f"Load balancer name '{name}' cannot be longer than '32' characters")
    if not re.fullmatch("[A-Za-z0-9-]+", name):
        words = "can only contain characters that are alphanumeric characters or hyphens(-)"
        raise invalid(f"Load balancer name '{name}' {words}")
    if name.startswith("-") or name.endswith("-"):
        raise invalid(f"Load balancer name '{name}' cannot begin or end with a hyphen(-)")
    if name.startswith("internal-"):
        raise invalid(f"Load balancer name '{name}' cannot begin with 'internal-'")


def _check_attribute(one: LoadBalancer, key: str, value: str) -> None:
    known = LOAD_BALANCER_ATTRIBUTES[one.type]
    if key not in known:
        raise misconfigured(f"Load balancer attribute key '{key}' is not recognized")
    if _NOT_DONE.get(key) == value:
        raise not_implemented(f"the load balancer attribute {key}={value}")
    wrong = False
    if known[key] in ("true", "false"):
        wrong = value not in ("true", "false")
    elif key in _NUMBERS:
        low, high = _NUMBERS[key]
        wrong = not value.isdecimal() or not low <= int(value) <= high
    elif key in _CHOICES:
        wrong = value not in _CHOICES[key]
    if wrong:
        raise misconfigured(f"The value '{value}' of the load balancer attribute '{key}' is not valid")
