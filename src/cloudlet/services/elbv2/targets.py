"""Targets: registering, deregistering, and their health as the proxy sees it."""

from __future__ import annotations

import ipaddress

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.elbv2 import networks
from cloudlet.services.elbv2.attributes import group_attributes
from cloudlet.services.elbv2.draining import Draining
from cloudlet.services.elbv2.errors import invalid
from cloudlet.services.elbv2.records import Document, Target, TargetGroup
from cloudlet.services.elbv2.target_groups import TargetGroups
from cloudlet.store import Tx

Health = dict[tuple[str, int], tuple[str, str]]

_MOST = 1000  # targets of a group, AWS's default
_WORDS = {
    "Elb.RegistrationInProgress": "Target registration is in progress",
    "Elb.InitialHealthChecking": "Initial health checks in progress",
    "Target.FailedHealthChecks": "Health checks failed",
    "Target.Timeout": "Request timed out",
    "Target.NotRegistered": "Target is not registered to the target group",
    "Target.NotInUse": "Target group is not configured to receive traffic from the load balancer",
    "Target.DeregistrationInProgress": "Target deregistration is in progress",
    "Target.HealthCheckDisabled": "Health checks are not enabled for this target",
}


class Targets(Draining, TargetGroups):
    """Registering targets, and what becomes of them."""

    async def RegisterTargets(self, call: Call, input: Input) -> Output:
        group = self.group(call, input["TargetGroupArn"])
        made = await self._targets(call, group, input["Targets"])

        def register(tx: Tx) -> None:
            self.group(call, group.arn, tx)
            there = {record.name for record in self.targets.list(call.scope, f"{group.id}/", tx)}
            if len(there | made.keys()) > (1 if group.type in ("lambda", "alb") else _MOST):
                raise AwsError("TooManyTargetsException", "The quota of targets of the target group is reached")
            for key, target in made.items():
                before = self.targets.get(call.scope, key, tx)
                if before is not None and not before.value.draining_until:
                    target = replace(target, registered=before.value.registered)
                self.targets.put(tx, call.scope, key, target)

        await self.db.write(register, long=len(made) > 20)
        self.changed()
        return {}

    async def DeregisterTargets(self, call: Call, input: Input) -> Output:
        group = self.group(call, input["TargetGroupArn"])
        delay = int(group_attributes(group).get("deregistration_delay.timeout_seconds", "0"))
        until = self.clock.now() + delay
        is_used = group.arn in self.users(call)

        def deregister(tx: Tx) -> None:
            for given in input["Targets"]:
                found = [
                    record
                    for record in self.targets.list(call.scope, f"{group.id}/{given['Id']}:", tx)
                    if given.get("Port", record.value.port) == record.value.port
                ]
                for record in found:
                    if not is_used or not delay:
                        self.targets.delete(tx, call.scope, record.name)
                    elif not record.value.draining_until:
                        self.targets.put(tx, call.scope, record.name, replace(record.value, draining_until=until))

        await self.db.write(deregister, long=len(input["Targets"]) > 20)
        self.changed()
        self.drain()
        return {}

    async def DescribeTargetHealth(self, call: Call, input: Input) -> Output:
        group = self.group(call, input["TargetGroupArn"])
        there = self.targets_of(group)
        health, now = await self._health(call, group), self.clock.now()
        if given := input.get("Targets"):
            chosen = []
            for one in given:
                port = one.get("Port", group.port)
                found = [target for target in there if (target.target, target.port) == (one["Id"], port)]
                chosen += [_described(group, target, health, now) for target in found] or [_unknown(one, port)]
        else:
            chosen = [_described(group, target, health, now) for target in there]
        return {"TargetHealthDescriptions": chosen}

    async def _targets(self, call: Call, group: TargetGroup, given: list[Document]) -> dict[str, Target]:
        """The targets to be registered by their names in the store. Raises InvalidTarget and ValidationError."""
        ids = [one["Id"] for one in given]
        addresses: dict[str, str] = {}
        if group.type == "instance":
            addresses = {id: id for id in ids if _address(id)}
            asked = list(dict.fromkeys(id for id in ids if id not in addresses))
            addresses |= await networks.instances(self.cloud, call, asked)
        elif group.type == "ip":
            addresses = {id: id for id in ids}
            if wrong := [id for id in ids if _address(id) != group.ip_address_type]:
                raise invalid(
                    f"The IP address '{wrong[0]}' is not a valid {group.ip_address_type.replace('ip', 'IP')} address"
                )
        elif group.type == "lambda":
            addresses = {id: id for id in ids}
            for id in ids:
                await self._check_function(call, id)
        else:
            for id in ids:
                owner = self.load_balancer(call, id)
                if owner.type != "application":
                    raise AwsError("InvalidTargetException", f"Target '{id}' is not an application load balancer")
                if not any(one.port == group.port for one in self.listeners_of(owner)):
                    words = f"The load balancer '{id}' must have a listener on port '{group.port}'"
                    raise AwsError("InvalidTargetException", words)
                addresses[id] = owner.address
        made = {}
        for one in given:
            if group.type == "lambda" and "Port" in one:
                raise invalid("You cannot specify a port when registering a Lambda function")
            port = one.get("Port", group.port)
            zone, now = one.get("AvailabilityZone", ""), self.clock.now()
            target = Target(group.id, one["Id"], addresses[one["Id"]], port, zone, registered=now)
            made[f"{group.id}/{one['Id']}:{port}"] = target
        return made

    async def _check_function(self, call: Call, arn: str) -> None:
        if not arn.startswith("arn:aws:lambda:"):
            raise AwsError("InvalidTargetException", f"The target '{arn}' is not a valid Lambda function ARN")
        asked: Input = {"FunctionName": arn}
        try:
            await self.cloud.call("lambda", "GetFunctionConfiguration", asked, account=call.account, region=call.region)
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise
            raise AwsError("InvalidTargetException", f"The Lambda function '{arn}' does not exist") from None

    async def _health(self, call: Call, group: TargetGroup) -> Health | None:
        """State and reason by address and port; None for a group that is not in use."""
        if group.arn not in self.users(call):
            return None
        return {
            (one.address, one.port): _state(one.flags)
            for one in await self.controller.endpoints()
            if one.cluster == group.id
        }


def _state(flags: tuple[str, ...]) -> tuple[str, str]:
    if "pending_active_hc" in flags:
        return "initial", "Elb.InitialHealthChecking"
    if "active_hc_timeout" in flags:
        return "unhealthy", "Target.Timeout"
    if "failed_active_health_check" in flags:
        return "unhealthy", "Target.FailedHealthChecks"
    return "healthy", ""


def _address(id: str) -> str:
    """``ipv4`` or ``ipv6``, or nothing when it is no address."""
    try:
        return f"ipv{ipaddress.ip_address(id).version}"
    except ValueError:
        return ""


def _described(group: TargetGroup, target: Target, health: Health | None, now: float) -> Output:
    described: Document = {"Id": target.target}
    if group.type != "lambda":
        described["Port"] = target.port
    if target.zone:
        described["AvailabilityZone"] = target.zone
    made: Output = {"Target": described}
    if group.type != "lambda":
        made["HealthCheckPort"] = str(target.port) if group.check_port == "traffic-port" else group.check_port
    if target.draining_until:
        state, reason = "draining", "Target.DeregistrationInProgress"
    elif health is None:
        state, reason = "unused", "Target.NotInUse"
    elif group.type == "lambda":
        state, reason = "unavailable", "Target.HealthCheckDisabled"
    else:
        state, reason = health.get((target.address, target.port), ("initial", "Elb.RegistrationInProgress"))
        if state == "unhealthy" and now < target.registered + group.unhealthy * group.check_interval:
            # Envoy says so after a first failure; a target has its whole threshold to come up.
            state, reason = "initial", "Elb.InitialHealthChecking"
    made["TargetHealth"] = {"State": state, **({"Reason": reason, "Description": _WORDS[reason]} if reason else {})}
    return made


def _unknown(given: Document, port: int) -> Output:
    reason = "Target.NotRegistered"
    return {
        "Target": {"Id": given["Id"], **({"Port": port} if port else {})},
        "HealthCheckPort": str(port),
        "TargetHealth": {"State": "unused", "Reason": reason, "Description": _WORDS[reason]},
    }
