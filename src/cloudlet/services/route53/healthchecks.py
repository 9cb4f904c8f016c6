"""Operations on health checks. How they are carried out is in ``checking.py`` and ``probes.py``."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.route53 import errors
from cloudlet.services.route53.base import MANAGERS, limit
from cloudlet.services.route53.probes import Sight, probe
from cloudlet.services.route53.querylogs import QueryLogging
from cloudlet.services.route53.records import Health, HealthCheck
from cloudlet.store import Tx

_REGION = "us-east-1"  # where Route 53's metrics are; its one checker here says that it is there too
_NOT_THERE = ("RoutingControlArn", "HealthCheckSourceId")
_CHANGEABLE = (
    *("IPAddress", "Port", "ResourcePath", "FullyQualifiedDomainName", "SearchString", "FailureThreshold", "Inverted"),
    *("Disabled", "HealthThreshold", "ChildHealthChecks", "EnableSNI", "Regions", "AlarmIdentifier"),
    "InsufficientDataHealthStatus",
)
_EMPTY = {"FullyQualifiedDomainName": "", "Regions": [], "ResourcePath": "", "ChildHealthChecks": []}


class HealthChecks(QueryLogging):
    """The life of health checks, and how they come out."""

    _follows_alarms = False

    async def CreateHealthCheck(self, call: Call, input: Input) -> Output:
        config = _completed(input["HealthCheckConfig"], "CreateHealthCheck")
        owner = call.principal if call.request is None and call.principal in MANAGERS else ""
        made = HealthCheck(str(uuid.uuid4()), call.account, input["CallerReference"], 1, config, owner=owner)

        def create(tx: Tx) -> HealthCheck:
            for record in self._checks.list(call.account, tx=tx):
                if record.value.caller_reference == made.caller_reference:
                    if record.value.config == config:
                        return record.value
                    raise AwsError(
                        "HealthCheckAlreadyExists",
                        f"A health check with the caller reference {made.caller_reference} already exists with other "
                        "settings.",
                    )
            self._check_children(call, config, tx)
            self._checks.put(tx, call.account, made.id, made)
            return made

        check = await self._db.write(create)
        await self.follow_alarms([check])
        if check is made:
            self.checker.put(check)
        location = f"https://route53.amazonaws.com/2013-04-01/healthcheck/{check.id}"
        return {"HealthCheck": _shown(check), "Location": location}

    async def GetHealthCheck(self, call: Call, input: Input) -> Output:
        return {"HealthCheck": _shown(self._check(call, input["HealthCheckId"]))}

    async def UpdateHealthCheck(self, call: Call, input: Input) -> Output:
        for member in _NOT_THERE:
            if member in input:
                raise not_implemented(f"UpdateHealthCheck with {member}")

        def update(tx: Tx) -> HealthCheck:
            check = self._own_check(call, input["HealthCheckId"], tx)
            if input.get("HealthCheckVersion", check.version) != check.version:
                raise AwsError(
                    "HealthCheckVersionMismatch",
                    f"The current version of the health check is {check.version}, not {input['HealthCheckVersion']}.",
                )
            config = check.config | {name: input[name] for name in _CHANGEABLE if name in input}
            for name in input.get("ResetElements", ()):
                config[name] = _EMPTY[name]
            config = _completed({name: value for name, value in config.items() if value not in ("", [])}, "")
            self._check_children(call, config, tx)
            changed = replace(check, config=config, version=check.version + 1)
            self._checks.put(tx, call.account, check.id, changed)
            return changed

        check = await self._db.write(update)
        self.checker.put(check)
        return {"HealthCheck": _shown(check)}

    async def DeleteHealthCheck(self, call: Call, input: Input) -> Output:
        def delete(tx: Tx) -> None:
            check = self._own_check(call, input["HealthCheckId"], tx)
            self._checks.delete(tx, call.account, check.id)
            self._healths.delete(tx, call.account, check.id)

        await self._db.write(delete)
        self.checker.remove(input["HealthCheckId"])
        return {}

    async def ListHealthChecks(self, call: Call, input: Input) -> Output:
        marker, size = input.get("Marker", ""), limit(input)
        found = [record.value for record in self._checks.list(call.account) if record.name >= marker]
        output: Output = {
            "HealthChecks": [_shown(check) for check in found[:size]],
            "Marker": marker,
            "IsTruncated": len(found) > size,
            "MaxItems": str(size),
        }
        return output | ({"NextMarker": found[size].id} if len(found) > size else {})

    async def GetHealthCheckCount(self, call: Call, input: Input) -> Output:
        return {"HealthCheckCount": len(self._checks.list(call.account))}

    async def GetHealthCheckStatus(self, call: Call, input: Input) -> Output:
        check = self._check(call, input["HealthCheckId"])
        if check.config["Type"] == "CLOUDWATCH_METRIC":
            raise errors.invalid("The status of health checks of CloudWatch alarms cannot be asked for.")
        return {"HealthCheckObservations": [_observation(*self.checker.observation(check.id))]}

    async def GetHealthCheckLastFailureReason(self, call: Call, input: Input) -> Output:
        check = self._check(call, input["HealthCheckId"])
        failure = self.checker.last_failure(check.id)
        return {"HealthCheckObservations": [_observation(*failure)] if failure is not None else []}

    async def GetCheckerIpRanges(self, call: Call, input: Input) -> Output:
        return {"CheckerIpRanges": ["127.0.0.1/32", "::1/128"]}

    async def follow_alarms(self, checks: Iterable[HealthCheck]) -> None:
        """Hear of alarms, once one of the checks is about one."""
        if self._follows_alarms or not any(check.config["Type"] == "CLOUDWATCH_METRIC" for check in checks):
            return
        self._follows_alarms = True
        cloudwatch: Any = await self.cloud.service("cloudwatch")
        cloudwatch.watch_states(self._alarm_changed)

    def _alarm_changed(self, scope: str, name: str, state: str) -> None:
        account, _, region = scope.partition("/")
        self.checker.alarm_changed(account, region, name)

    async def look(self, check: HealthCheck) -> Sight:
        """Look once at what a check is about."""
        if check.config["Type"] != "CLOUDWATCH_METRIC":
            return await probe(check.config, self.server.address_of)
        alarm = check.config["AlarmIdentifier"]
        try:
            found = await self.cloud.call(
                "cloudwatch",
                "DescribeAlarms",
                {"AlarmNames": [alarm["Name"]], "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]},
                account=check.account,
                region=alarm["Region"],
                principal="route53.amazonaws.com",
            )
        except AwsError as error:
            return Sight(None, f"Failure: {error.message}")
        alarms = found.get("MetricAlarms", []) + found.get("CompositeAlarms", [])
        state = alarms[0]["StateValue"] if alarms else "INSUFFICIENT_DATA"
        if state == "INSUFFICIENT_DATA":
            otherwise = check.config.get("InsufficientDataHealthStatus", "LastKnownStatus")
            return Sight({"Healthy": True, "Unhealthy": False}.get(otherwise), f"The alarm's state is {state}")
        return Sight(state == "OK", f"{'Success' if state == 'OK' else 'Failure'}: The alarm's state is {state}")

    async def health_changed(self, check: HealthCheck, health: Health) -> None:
        """Store a check's new health, if it is still there."""

        def store(tx: Tx) -> None:
            if self._checks.get(check.account, check.id, tx) is not None:
                self._healths.put(tx, check.account, check.id, health)

        await self._db.write(store)

    def looked(self, check: HealthCheck, healthy: bool, latencies: dict[str, float]) -> None:
        """Count a look as CloudWatch shows it."""
        scope, dimensions = f"{check.account}/{_REGION}", (("HealthCheckId", check.id),)
        self.cloud.metrics.add(scope, "AWS/Route53", "HealthCheckStatus", dimensions, float(healthy), "None")
        if check.config.get("MeasureLatency"):
            for name, milliseconds in latencies.items():
                self.cloud.metrics.add(scope, "AWS/Route53", name, dimensions, milliseconds, "Milliseconds")

    def _check(self, call: Call, id: str, tx: Tx | None = None) -> HealthCheck:
        record = self._checks.get(call.account, id, tx)
        if record is None:
            raise errors.no_such_check(id)
        return record.value

    def _own_check(self, call: Call, id: str, tx: Tx) -> HealthCheck:
        check = self._check(call, id, tx)
        if check.owner and call.principal != check.owner:
            raise errors.managed(f"healthcheck/{check.id}", MANAGERS[check.owner])
        return check

    def _check_children(self, call: Call, config: dict[str, Any], tx: Tx) -> None:
        for child in config.get("ChildHealthChecks", ()):
            if self._checks.get(call.account, child, tx) is None:
                raise errors.invalid(f"The health check {child} does not exist.")


def _completed(given: dict[str, Any], operation: str) -> dict[str, Any]:
    """A configuration with AWS's defaults. Raises InvalidInput where it contradicts itself."""
    for member in _NOT_THERE:
        if member in given:
            raise not_implemented(f"{operation} with {member}")
    kind = given["Type"]
    if given.get("EndpointType", "PUBLIC") != "PUBLIC":
        raise not_implemented(f"{operation} with EndpointType {given['EndpointType']}")
    if kind == "RECOVERY_CONTROL":
        raise not_implemented(f"{operation} of type RECOVERY_CONTROL")
    config: dict[str, Any] = {"Inverted": False, "Disabled": False}
    if kind == "CALCULATED":
        if "HealthThreshold" not in given:
            raise errors.invalid("HealthThreshold is required for health checks of type CALCULATED.")
        return config | {"ChildHealthChecks": []} | given
    if kind == "CLOUDWATCH_METRIC":
        if "AlarmIdentifier" not in given:
            raise errors.invalid("AlarmIdentifier is required for health checks of type CLOUDWATCH_METRIC.")
        return config | {"InsufficientDataHealthStatus": "LastKnownStatus"} | given
    if not given.get("IPAddress") and not given.get("FullyQualifiedDomainName"):
        raise errors.invalid("Invalid parameter : An IP address or a fully qualified domain name is required.")
    if kind == "TCP":
        for member in ("ResourcePath", "SearchString"):
            if given.get(member):
                raise errors.invalid(f"Invalid parameter : {member} is not for health checks of type TCP.")
        if "Port" not in given:
            raise errors.invalid("Invalid parameter : Port is required for health checks of type TCP.")
    if kind.endswith("STR_MATCH") != bool(given.get("SearchString")):
        raise errors.invalid("Invalid parameter : SearchString goes with the types that end with STR_MATCH, and only.")
    if given.get("RequestInterval", 30) not in (10, 30):
        raise errors.invalid("Invalid parameter : RequestInterval must be 10 or 30.")
    config |= {"RequestInterval": 30, "FailureThreshold": 3, "MeasureLatency": False}
    config["EnableSNI"] = kind.startswith("HTTPS")
    if kind != "TCP":
        config["Port"] = 443 if kind.startswith("HTTPS") else 80
    return config | given


def _shown(check: HealthCheck) -> Output:
    shown: Output = {
        "Id": check.id,
        "CallerReference": check.caller_reference,
        "HealthCheckConfig": check.config,
        "HealthCheckVersion": check.version,
    }
    if check.owner:
        shown["LinkedService"] = {"ServicePrincipal": check.owner, "Description": check.owner_description}
    return shown


def _observation(words: str, at: float) -> Output:
    report = {"Status": words, "CheckedTime": at}
    return {"Region": _REGION, "IPAddress": "127.0.0.1", "StatusReport": report}
