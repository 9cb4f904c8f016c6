"""CloudFormation's types of Cloud Map."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of


class _Namespace(ResourceType):
    """A namespace. ``Ref`` is its id."""

    kind = ""  # as its operations are called
    members: tuple[str, ...] = ("Name", "Description")
    required = frozenset(("Name",))
    replaces = frozenset(("Name",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        given = _given(self.type, properties, self.members)
        made = await _call(
            do,
            f"Create{self.kind}Namespace",
            {**given, "CreatorRequestId": _creator(do), "Tags": _tags(do, properties)},
        )
        asked = {"OperationId": made["OperationId"]}
        operation = (await do.call("servicediscovery", "GetOperation", asked))["Operation"]
        if operation["Status"] == "FAIL":
            raise AwsError(operation["ErrorCode"], operation["ErrorMessage"])
        return await self._described(do, operation["Targets"]["NAMESPACE"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        if changed(old, new, "Description", "Properties"):
            change: Properties = {"Description": new.get("Description", "")}
            if "Properties" in new:
                change["Properties"] = new["Properties"]
            await _call(do, f"Update{self.kind}Namespace", {"Id": physical.id, "Namespace": change})
        await _retag(do, physical.attributes["Arn"], _tags(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteNamespace", {"Id": physical.id})

    async def _described(self, do: Deployment, id: str) -> Physical:
        namespace = (await do.call("servicediscovery", "GetNamespace", {"Id": id}))["Namespace"]
        attributes = {"Arn": namespace["Arn"], "Id": id}
        if zone := namespace["Properties"].get("DnsProperties", {}).get("HostedZoneId"):
            attributes["HostedZoneId"] = zone
        return Physical(id, attributes)


class HttpNamespace(_Namespace):
    """A namespace that is asked by the API only."""

    type = "AWS::ServiceDiscovery::HttpNamespace"
    kind = "Http"


class PrivateDnsNamespace(_Namespace):
    """A namespace with a private hosted zone."""

    type = "AWS::ServiceDiscovery::PrivateDnsNamespace"
    kind = "PrivateDns"
    members = ("Name", "Description", "Vpc", "Properties")
    required = frozenset(("Name", "Vpc"))
    replaces = frozenset(("Name", "Vpc"))


class PublicDnsNamespace(_Namespace):
    """A namespace with a public hosted zone."""

    type = "AWS::ServiceDiscovery::PublicDnsNamespace"
    kind = "PublicDns"
    members = ("Name", "Description", "Properties")


class Service(ResourceType):
    """A service. ``Ref`` is its id."""

    type = "AWS::ServiceDiscovery::Service"
    replaces = frozenset(("Name", "NamespaceId", "HealthCheckCustomConfig", "Type"))
    _MEMBERS = (
        *("Description", "DnsConfig", "HealthCheckConfig", "HealthCheckCustomConfig"),
        *("Name", "NamespaceId", "Type"),
    )

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        given = _given(self.type, properties, self._MEMBERS)
        given["Name"] = given.get("Name") or do.name(63)
        made = await _call(
            do, "CreateService", {**given, "CreatorRequestId": _creator(do), "Tags": _tags(do, properties)}
        )
        service = made["Service"]
        if properties.get("ServiceAttributes"):
            await _call(
                do,
                "UpdateServiceAttributes",
                {"ServiceId": service["Id"], "Attributes": properties["ServiceAttributes"]},
            )
        return Physical(service["Id"], {name: service[name] for name in ("Arn", "Id", "Name")})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        if changed(old, new, "Description", "DnsConfig", "HealthCheckConfig"):
            change: Properties = {"Description": new.get("Description", "")}
            if "DnsConfig" in new:
                made = (await _call(do, "GetService", {"Id": physical.id}))["Service"]
                policy = made.get("DnsConfig", {}).get("RoutingPolicy")
                if new["DnsConfig"].get("RoutingPolicy", policy) != policy:
                    raise not_implemented(f"an update of {self.type} that changes RoutingPolicy")
                change["DnsConfig"] = {"DnsRecords": new["DnsConfig"]["DnsRecords"]}
            if "HealthCheckConfig" in new:
                change["HealthCheckConfig"] = new["HealthCheckConfig"]
            await _call(do, "UpdateService", {"Id": physical.id, "Service": change})
        before, after = old.get("ServiceAttributes") or {}, new.get("ServiceAttributes") or {}
        if gone := [name for name in before if name not in after]:
            await _call(do, "DeleteServiceAttributes", {"ServiceId": physical.id, "Attributes": gone})
        if after:
            await _call(do, "UpdateServiceAttributes", {"ServiceId": physical.id, "Attributes": after})
        await _retag(do, physical.attributes["Arn"], _tags(do, new))
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeleteService", {"Id": physical.id})


class Instance(ResourceType):
    """An instance that a template registers. ``Ref`` is its id."""

    type = "AWS::ServiceDiscovery::Instance"
    required = frozenset(("InstanceAttributes", "ServiceId"))
    replaces = frozenset(("InstanceId", "ServiceId"))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        id = properties.get("InstanceId") or do.name(64)
        await self._register(do, id, properties)
        return Physical(id)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        if changed(old, new, "InstanceAttributes"):
            await self._register(do, physical.id, new)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _unless_gone(do, "DeregisterInstance", {"ServiceId": properties["ServiceId"], "InstanceId": physical.id})

    async def _register(self, do: Deployment, id: str, properties: Properties) -> None:
        await _call(
            do,
            "RegisterInstance",
            {
                "ServiceId": properties["ServiceId"],
                "InstanceId": id,
                "Attributes": properties["InstanceAttributes"],
            },
        )


def _given(type: str, properties: Properties, members: tuple[str, ...]) -> Properties:
    if unknown := sorted(properties.keys() - {*members, "Tags", "ServiceAttributes"}):
        raise not_implemented(f"{type} with {unknown[0]}")
    return {name: properties[name] for name in members if name in properties}


def _creator(do: Deployment) -> str:
    """The same for every try of a step, so that one that is done again after a crash finds what it made."""
    return do.name(64)


def _tags(do: Deployment, properties: Properties) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags_of(do, properties).items()]


async def _call(do: Deployment, operation: str, input: Properties) -> dict[str, Any]:
    return await do.call("servicediscovery", operation, input)


async def _retag(do: Deployment, arn: str, tags: list[dict[str, str]]) -> None:
    known = (await _call(do, "ListTagsForResource", {"ResourceARN": arn}))["Tags"]
    wanted = {tag["Key"] for tag in tags}
    if gone := [tag["Key"] for tag in known if tag["Key"] not in wanted]:
        await _call(do, "UntagResource", {"ResourceARN": arn, "TagKeys": gone})
    if tags:
        await _call(do, "TagResource", {"ResourceARN": arn, "Tags": tags})


async def _unless_gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await _call(do, operation, input)
    except AwsError as error:
        if error.code not in ("NamespaceNotFound", "ServiceNotFound", "InstanceNotFound"):
            raise


TYPES = [HttpNamespace, PrivateDnsNamespace, PublicDnsNamespace, Service, Instance]
