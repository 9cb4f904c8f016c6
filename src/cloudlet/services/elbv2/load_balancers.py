"""Load balancers and their attributes."""

from __future__ import annotations

import re
import secrets
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.elbv2 import attributes, networks
from cloudlet.services.elbv2.attributes import load_balancer_attributes
from cloudlet.services.elbv2.base import Base, new_id, page, refuse, tags_of
from cloudlet.services.elbv2.errors import invalid, misconfigured
from cloudlet.services.elbv2.records import LoadBalancer
from cloudlet.store import Tx

_HOSTED_ZONES = {"application": "Z35SXDOTRQ7X7K", "network": "Z26RNL4JYFTOTI"}
# The files with which AWS tries whether it may put logs into a bucket.
_TEST_FILES = {"access_logs": "ELBAccessLogTestFile", "connection_logs": "ELBConnectionLogTestFile"}


class LoadBalancers(Base):
    """Making, showing and deleting load balancers."""

    async def CreateLoadBalancer(self, call: Call, input: Input) -> Output:
        refuse("CreateLoadBalancer", input, "CustomerOwnedIpv4Pool", "EnablePrefixForIpv6SourceNat", "IpamPools")
        name, type = input["Name"], input.get("Type", "application")
        if type == "gateway":
            raise not_implemented("CreateLoadBalancer with Type gateway")
        _check_name(name)
        tags = tags_of(input)
        before = self.load_balancers.get(call.scope, name)
        found, vpc = await self._zones(call, input, type, before.value if before is not None else None)
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
        await networks.speak_for(self.cloud, stored)
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
            await networks.fall_silent(self.cloud, gone)
            self.changed()
            for listener in listeners:
                await self.release_certificates(arn, listener.certificates)
        return {}

    async def DescribeLoadBalancerAttributes(self, call: Call, input: Input) -> Output:
        return attributes.described(load_balancer_attributes(self.load_balancer(call, input["LoadBalancerArn"])))

    async def ModifyLoadBalancerAttributes(self, call: Call, input: Input) -> Output:
        one = self.load_balancer(call, input["LoadBalancerArn"])
        changes = {given["Key"]: given.get("Value", "") for given in input["Attributes"] if "Key" in given}
        attributes.check("Load balancer", attributes.of_load_balancer(one), changes)
        before = load_balancer_attributes(one)
        wanted = {**before, **changes}
        for kind, file in _TEST_FILES.items():
            if wanted.get(f"{kind}.s3.enabled") == "true" and before[f"{kind}.s3.enabled"] != "true":
                await self._try_logs(one, wanted, kind, file)
        after = await self._change_load_balancer(
            call, one.arn, lambda now: replace(now, attributes={**now.attributes, **changes})
        )
        return attributes.described(load_balancer_attributes(after))

    async def _try_logs(self, one: LoadBalancer, wanted: dict[str, str], kind: str, file: str) -> None:
        """Put the test file that AWS puts. Raises InvalidConfigurationRequest when it cannot be put."""
        bucket, prefix = wanted[f"{kind}.s3.bucket"], wanted[f"{kind}.s3.prefix"]
        if not bucket:
            raise misconfigured(f"The value of '{kind}.s3.bucket' must be specified")
        key = f"{prefix}/" if prefix else ""
        put: Input = {"Bucket": bucket, "Key": f"{key}AWSLogs/{one.account}/{file}", "Body": b""}
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
        found, _ = await self._zones(call, input, one.type, one)
        kind = input.get("IpAddressType", one.ip_address_type)
        after = await self._change_load_balancer(
            call, one.arn, lambda now: replace(now, zones=found, ip_address_type=kind)
        )
        await networks.let_go(self.cloud, one, networks.held_by(one).keys() - networks.held_by(after).keys())
        return {"AvailabilityZones": found, "IpAddressType": kind}

    async def _zones(
        self, call: Call, input: Input, type: str, before: LoadBalancer | None
    ) -> tuple[list[dict[str, Any]], str]:
        subnets, mappings = input.get("Subnets", []), input.get("SubnetMappings", [])
        if subnets and mappings:
            raise invalid("You cannot specify both subnets and subnet mappings")
        mappings = mappings or [{"SubnetId": id} for id in dict.fromkeys(subnets)]
        for mapping in mappings:
            refuse("SubnetMappings", mapping, "IPv6Address", "SourceNatIpv6Prefix")
            if "AllocationId" in mapping and (type != "network" or input.get("Scheme") == "internal"):
                raise misconfigured("Elastic IP addresses are for internet-facing Network Load Balancers only")
        if not mappings:
            raise invalid("You must specify either subnets or subnet mappings")
        if type == "application" and len(mappings) < 2:
            raise invalid("At least two subnets in two different Availability Zones must be specified")
        return await networks.zones(self.cloud, call, mappings, networks.held_by(before) if before is not None else ())

    async def _change_load_balancer(self, call: Call, arn: str, change: Any) -> LoadBalancer:
        def write(tx: Tx) -> LoadBalancer:
            one = change(self.load_balancer(call, arn, tx))
            return self.load_balancers.put(tx, call.scope, one.name, one).value

        stored = await self.db.write(write)
        await networks.speak_for(self.cloud, stored)
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
