"""Target groups and their attributes."""

from __future__ import annotations

import re
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.elbv2 import attributes, networks
from cloudlet.services.elbv2.attributes import group_attributes
from cloudlet.services.elbv2.base import new_id, page, refuse, tags_of
from cloudlet.services.elbv2.errors import invalid, misconfigured
from cloudlet.services.elbv2.listeners import Listeners
from cloudlet.services.elbv2.records import TargetGroup
from cloudlet.store import Tx

_HTTP = ("HTTP", "HTTPS")
_NAME = re.compile(r"(?!.*--)(?!^-)(?!.*-$)^[A-Za-z0-9-]+$")
# The settings of a health check as the API names them, and as they are kept.
_CHECKS = {
    "HealthCheckProtocol": "check_protocol",
    "HealthCheckPort": "check_port",
    "HealthCheckPath": "check_path",
    "HealthCheckEnabled": "check_enabled",
    "HealthCheckIntervalSeconds": "check_interval",
    "HealthCheckTimeoutSeconds": "check_timeout",
    "HealthyThresholdCount": "healthy",
    "UnhealthyThresholdCount": "unhealthy",
}


class TargetGroups(Listeners):
    """Making, changing and showing target groups."""

    async def CreateTargetGroup(self, call: Call, input: Input) -> Output:
        refuse("CreateTargetGroup", input, "TargetControlPort")
        name, type = input["Name"], input.get("TargetType", "instance")
        _check_name(name)
        for member, words in (("Port", "Port"), ("VpcId", "VPC ID"), ("Protocol", "Protocol")):
            if type == "lambda" and member in input:
                raise invalid(f"{words} cannot be specified for target groups with target type 'lambda'")
        if type == "lambda":
            group = _of_lambda(input)
        else:
            group = _of_servers(input, type)
            if not group.vpc:
                raise invalid("A VPC ID must be specified")
            await networks.check_vpc(self.cloud, call, group.vpc)
        made = replace(
            group, account=call.account, region=call.region, id=new_id(), created=self.clock.now(), tags=tags_of(input)
        )
        _check(made, "CreateTargetGroup")

        def create(tx: Tx) -> TargetGroup:
            record = self.groups.get(call.scope, name, tx)
            if record is None:
                return self.groups.put(tx, call.scope, name, made).value
            same = {"id": made.id, "created": made.created, "attributes": made.attributes}
            if replace(record.value, **same) != made:
                words = f"A target group with the same name '{name}' exists, but with different settings"
                raise AwsError("DuplicateTargetGroupNameException", words)
            return record.value

        stored = await self.db.write(create)
        described = _described(stored, [])
        del described["LoadBalancerArns"]
        return {"TargetGroups": [described]}

    async def DescribeTargetGroups(self, call: Call, input: Input) -> Output:
        users = self.users(call)
        found = [record.value for record in self.groups.list(call.scope)]
        if arns := input.get("TargetGroupArns"):
            found = [self.group(call, arn) for arn in arns]
        elif names := input.get("Names"):
            there = {group.name: group for group in found}
            if any(name not in there for name in names):
                raise AwsError("TargetGroupNotFoundException", "One or more target groups not found")
            found = [there[name] for name in names]
        elif arn := input.get("LoadBalancerArn"):
            self.load_balancer(call, arn)
            found = [group for group in found if users.get(group.arn) == arn]
        described = [_described(group, [users[group.arn]] if group.arn in users else []) for group in found]
        here, marker = page(described, input, "TargetGroupArn")
        return {"TargetGroups": here, **marker}

    async def ModifyTargetGroup(self, call: Call, input: Input) -> Output:
        before = self.group(call, input["TargetGroupArn"])
        changes: dict[str, Any] = {kept: input[given] for given, kept in _CHECKS.items() if given in input}
        if "Matcher" in input:
            changes["matcher"] = _matcher(input["Matcher"], before)
        after = await self._change_group(call, before.arn, changes, "ModifyTargetGroup")
        users = self.users(call)
        return {"TargetGroups": [_described(after, [users[after.arn]] if after.arn in users else [])]}

    async def DeleteTargetGroup(self, call: Call, input: Input) -> Output:
        try:
            group = self.group(call, input["TargetGroupArn"])
        except AwsError:
            return {}

        def delete(tx: Tx) -> None:
            if group.arn in self.users(call, tx):
                words = f"Target group '{group.arn}' is currently in use by a listener or a rule"
                raise AwsError("ResourceInUseException", words)
            for record in self.targets.list(call.scope, f"{group.id}/", tx):
                self.targets.delete(tx, call.scope, record.name)
            self.groups.delete(tx, call.scope, group.name)

        await self.db.write(delete, long=True)
        return {}

    async def DescribeTargetGroupAttributes(self, call: Call, input: Input) -> Output:
        return attributes.described(group_attributes(self.group(call, input["TargetGroupArn"])))

    async def ModifyTargetGroupAttributes(self, call: Call, input: Input) -> Output:
        group = self.group(call, input["TargetGroupArn"])
        changes = {given["Key"]: given.get("Value", "") for given in input["Attributes"] if "Key" in given}
        _check_stickiness(group, {**group_attributes(group), **changes}, changes)
        attributes.check("Target group", attributes.of_group(group), changes)
        after = await self._change_group(call, group.arn, {}, "ModifyTargetGroupAttributes", changes)
        return attributes.described(group_attributes(after))

    async def _change_group(
        self, call: Call, arn: str, changes: dict[str, Any], operation: str, more: dict[str, str] | None = None
    ) -> TargetGroup:
        def write(tx: Tx) -> TargetGroup:
            now = self.group(call, arn, tx)
            after = replace(now, **changes, attributes={**now.attributes, **(more or {})})
            _check(after, operation)
            return self.groups.put(tx, call.scope, after.name, after).value

        stored = await self.db.write(write)
        self.changed()
        return stored


def _check_name(name: str) -> None:
    if len(name) > 32:
        raise invalid(f"Target group name '{name}' cannot be longer than '32' characters")
    if not re.fullmatch("[A-Za-z0-9-]+", name):
        words = "can only contain characters that are alphanumeric characters or hyphens(-)"
        raise invalid(f"Target group name '{name}' {words}")
    if not _NAME.match(name):
        raise invalid(
            f"1 validation error detected: Value '{name}' at 'targetGroup.targetGroupArn.targetGroupName' failed to "
            f"satisfy constraint: Member must satisfy regular expression pattern: {_NAME.pattern}"
        )


def _of_lambda(input: Input) -> TargetGroup:
    if input.get("HealthCheckEnabled"):
        raise not_implemented("CreateTargetGroup with HealthCheckEnabled for target type lambda")
    return TargetGroup(
        account="",
        region="",
        name=input["Name"],
        id="",
        type="lambda",
        created=0.0,
        ip_address_type="ipv4",
        check_enabled=False,
        check_path=input.get("HealthCheckPath", "/"),
        check_interval=input.get("HealthCheckIntervalSeconds", 35),
        check_timeout=input.get("HealthCheckTimeoutSeconds", 30),
        healthy=input.get("HealthyThresholdCount", 5),
        unhealthy=input.get("UnhealthyThresholdCount", 2),
        matcher=input.get("Matcher", {}).get("HttpCode", "200"),
    )


def _of_servers(input: Input, type: str) -> TargetGroup:
    if not input.get("Protocol"):
        raise invalid("A protocol must be specified")
    if not input.get("Port"):
        raise invalid("A port must be specified")
    protocol = input["Protocol"]
    if protocol in ("QUIC", "TCP_QUIC"):
        raise not_implemented(f"CreateTargetGroup with Protocol {protocol}")
    if type == "alb" and protocol != "TCP":
        raise invalid("Target groups with target type 'alb' must have protocol 'TCP'")
    is_http = protocol in _HTTP
    version = input.get("ProtocolVersion") or ("HTTP1" if is_http else "")
    if is_http and version not in ("HTTP1", "HTTP2", "GRPC"):
        raise invalid(f"Protocol version '{version}' must be one of 'HTTP1, HTTP2, GRPC'")
    if not is_http and version:
        raise invalid(f"A protocol version cannot be specified for target groups with the {protocol} protocol")
    check = input.get("HealthCheckProtocol", "HTTP" if is_http or type == "alb" else "TCP")
    made = TargetGroup(
        account="",
        region="",
        name=input["Name"],
        id="",
        type=type,
        created=0.0,
        protocol=protocol,
        version=version,
        port=input["Port"],
        vpc=input.get("VpcId", ""),
        ip_address_type=input.get("IpAddressType", "ipv4"),
        check_enabled=input.get("HealthCheckEnabled", True),
        check_protocol=check,
        check_port=input.get("HealthCheckPort", "traffic-port"),
        check_path=input.get("HealthCheckPath", _path(check, version)),
        check_interval=input.get("HealthCheckIntervalSeconds", 30),
        check_timeout=input.get("HealthCheckTimeoutSeconds", 5 if is_http else 6 if check == "HTTP" else 10),
        healthy=input.get("HealthyThresholdCount", 5),
        unhealthy=input.get("UnhealthyThresholdCount", 2),
    )
    if not is_http and "HealthCheckTimeoutSeconds" not in input:
        made = replace(made, check_timeout=min(made.check_timeout, made.check_interval))
    if not is_http and "HealthCheckIntervalSeconds" not in input:
        made = replace(made, check_interval=max(made.check_timeout, made.check_interval))
    if check in _HTTP:
        default = "12" if version == "GRPC" else "200" if is_http else "200-399"
        made = replace(made, matcher=_matcher(input["Matcher"], made) if input.get("Matcher") else default)
    return made


def _path(check: str, version: str) -> str:
    if check not in _HTTP:
        return ""
    return "/AWS.ALB/healthcheck" if version == "GRPC" else "/"


def _matcher(given: dict[str, str], group: TargetGroup) -> str:
    name = "GrpcCode" if group.version == "GRPC" else "HttpCode"
    value = given.get(name, "")
    low, high = (0, 99) if name == "GrpcCode" else (200, 599)
    for part in value.split(","):
        ends = [int(end) if end.isdecimal() else -1 for end in part.split("-")]
        if len(ends) > 2 or not low <= ends[0] <= ends[-1] <= high:
            raise invalid(f"Health check matcher {name} '{value}' must be within '{low}-{high}' inclusive")
    return value


def _check(group: TargetGroup, operation: str) -> None:
    """What of a health check does not go together."""
    is_http = group.protocol in _HTTP
    if group.type == "lambda":
        if group.check_enabled:
            raise not_implemented(f"{operation} with HealthCheckEnabled for target type lambda")
        return
    if not group.check_enabled:
        raise invalid(f"Health check enabled must be true for target groups with target type '{group.type}'")
    if group.protocol == "GENEVE" and group.port != 6081:
        raise invalid("Port must be 6081 for target groups with the GENEVE protocol")
    allowed = _HTTP if is_http or group.type == "alb" else (*_HTTP, "TCP")
    if group.check_protocol not in allowed:
        words = f"must be one of '{', '.join(allowed)}'"
        raise invalid(f"Health check protocol '{group.check_protocol}' {words}")
    timeout, interval = group.check_timeout, group.check_interval
    if is_http and timeout >= interval:
        raise invalid(f"Health check timeout '{timeout}' must be smaller than the interval '{interval}'")
    if timeout > interval:
        raise invalid(f"Health check timeout '{timeout}' must be smaller than or equal to the interval '{interval}'")
    port = group.check_port
    if port != "traffic-port" and not (port.isdecimal() and 1 <= int(port) <= 65535):
        raise invalid(f"Health check port '{port}' must be 'traffic-port' or an integer between 1 and 65535")
    if group.check_path and not group.check_path.startswith("/"):
        raise invalid(f"Health check path '{group.check_path}' must start with a '/'")
    if group.version == "GRPC":
        is_standard = group.check_path == "/grpc.health.v1.Health/Check"
        if group.matcher not in (("0", "0-99") if is_standard else ("12", "0-99")):
            raise not_implemented(f"{operation} with GrpcCode {group.matcher} and HealthCheckPath {group.check_path}")


def _check_stickiness(group: TargetGroup, wanted: dict[str, str], changes: dict[str, str]) -> None:
    """Raises InvalidConfigurationRequest for a kind of stickiness that does not go with the protocol."""
    if not any(key.startswith("stickiness.") for key in changes) or "stickiness.type" not in wanted:
        return
    kind, is_http = wanted["stickiness.type"], group.protocol in _HTTP
    if group.protocol == "GENEVE":
        kinds = ("source_ip_dest_ip_proto", "source_ip_dest_ip")
        if kind not in kinds and changes.keys() <= attributes.of_group(group).keys():
            raise misconfigured(f"'{kind}' must be one of [{', '.join(kinds)}]")
        return
    if kind not in ("app_cookie", "lb_cookie", "source_ip"):
        raise misconfigured("'Stickiness type' must be one of [app_cookie, lb_cookie, source_ip]")
    if kind not in (("lb_cookie", "app_cookie") if is_http else ("source_ip",)):
        words = f"is not supported for target groups with the {group.protocol} protocol"
        raise misconfigured(f"Stickiness type '{kind}' {words}")
    if wanted["stickiness.enabled"] == "true":
        if group.protocol == "TLS":
            raise misconfigured("You cannot enable stickiness on target groups with the TLS protocol")
        if kind == "app_cookie" and not wanted["stickiness.app_cookie.cookie_name"]:
            raise misconfigured("You must specify an application cookie name for stickiness of type 'app_cookie'")


def _described(group: TargetGroup, users: list[str]) -> Output:
    made: Output = {
        "TargetGroupArn": group.arn,
        "TargetGroupName": group.name,
        "HealthCheckEnabled": group.check_enabled,
        "HealthCheckIntervalSeconds": group.check_interval,
        "HealthCheckTimeoutSeconds": group.check_timeout,
        "HealthyThresholdCount": group.healthy,
        "UnhealthyThresholdCount": group.unhealthy,
        "LoadBalancerArns": users,
        "TargetType": group.type,
        "IpAddressType": group.ip_address_type,
    }
    if group.type != "lambda":
        made |= {
            "Protocol": group.protocol,
            "Port": group.port,
            "VpcId": group.vpc,
            "HealthCheckProtocol": group.check_protocol,
            "HealthCheckPort": group.check_port,
        }
    if group.version:
        made["ProtocolVersion"] = group.version
    if group.check_path:
        made["HealthCheckPath"] = group.check_path
    if group.matcher:
        made["Matcher"] = {"GrpcCode" if group.version == "GRPC" else "HttpCode": group.matcher}
    return made
