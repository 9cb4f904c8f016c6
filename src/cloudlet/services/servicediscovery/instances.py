"""Operations on instances: registering, and discovering them."""

from __future__ import annotations

import asyncio
import ipaddress
import uuid
from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.route53.names import BadName
from cloudlet.services.servicediscovery import dns
from cloudlet.services.servicediscovery.base import PRINCIPAL, invalid, paged
from cloudlet.services.servicediscovery.records import Instance, Namespace, Revision, Service
from cloudlet.services.servicediscovery.services import Services
from cloudlet.store import Tx

_BESIDE_EC2 = ("AWS_EC2_INSTANCE_ID", "AWS_INIT_HEALTH_STATUS")
_CUSTOM_AT_MOST = 30
_SIZE_AT_MOST = 5000
_DISCOVERED = 100


class Instances(Services):
    """The life of instances. By the time that an operation answers, DNS answers too."""

    async def RegisterInstance(self, call: Call, input: Input) -> Output:
        service = self._service(call, input["ServiceId"])
        namespace = self._namespace(call, service.namespace)
        attributes, now = await self._addressed(call, namespace, input["Attributes"]), self.clock.now()
        _check_attributes(service, namespace, attributes)
        made = Instance(
            input["InstanceId"],
            attributes,
            input.get("CreatorRequestId", ""),
            attributes.get("AWS_INIT_HEALTH_STATUS", "HEALTHY"),
        )
        async with self._turn(service):
            made = replace(made, check=await self._create_check(service, made))
            known = self._instances.get(service.id, made.id)
            old = known.value if known is not None else None
            try:
                await self._move(namespace, service, old, made)
            except (AwsError, BadName) as error:
                await self._delete_check(service, made.check)
                raise invalid(error.message if isinstance(error, AwsError) else str(error)) from None

            def register(tx: Tx) -> str:
                self._service(call, service.id, tx)
                self._instances.put(tx, service.id, made.id, made)
                self._count(tx, service)
                return self._note(tx, call, "REGISTER_INSTANCE", now, namespace.id, service.id, made.id)

            operation = await self._db.write(register)
            if old is not None:
                await self._delete_check(service, old.check)
        return {"OperationId": operation}

    async def DeregisterInstance(self, call: Call, input: Input) -> Output:
        service = self._service(call, input["ServiceId"])
        namespace = self._namespace(call, service.namespace)
        now = self.clock.now()
        async with self._turn(service):
            instance = self._instance(service, input["InstanceId"])
            await self._move(namespace, service, instance, None)

            def deregister(tx: Tx) -> str:
                self._instances.delete(tx, service.id, instance.id)
                self._count(tx, service)
                return self._note(tx, call, "DEREGISTER_INSTANCE", now, namespace.id, service.id, instance.id)

            operation = await self._db.write(deregister)
            await self._delete_check(service, instance.check)
        return {"OperationId": operation}

    async def GetInstance(self, call: Call, input: Input) -> Output:
        instance = self._instance(self._service(call, input["ServiceId"]), input["InstanceId"])
        creator = {"CreatorRequestId": instance.creator} if instance.creator else {}
        return {"ResourceOwner": call.account, "Instance": {**_shown(call, instance), **creator}}

    async def ListInstances(self, call: Call, input: Input) -> Output:
        service = self._service(call, input["ServiceId"])
        found = [record.value for record in self._instances.list(service.id)]
        page, following = paged(found, input, lambda one: one.id)
        return {"ResourceOwner": call.account, "Instances": [_shown(call, one) for one in page], **following}

    async def DiscoverInstances(self, call: Call, input: Input) -> Output:
        namespace, service = self._discovered(call, input)
        wanted, wished = input.get("QueryParameters", {}), input.get("OptionalParameters", {})
        found = [
            record.value
            for record in self._instances.list(service.id)
            if wanted.items() <= record.value.attributes.items()
        ]
        health = {one.id: await self._health(service, one) for one in found}
        if service.check is not None or service.custom_check is not None:
            found = _by_health(found, health, input.get("HealthStatus", "HEALTHY_OR_ELSE_ALL"))
        if wished and (best := [one for one in found if wished.items() <= one.attributes.items()]):
            found = best
        return {
            "Instances": [
                {
                    "InstanceId": one.id,
                    "NamespaceName": namespace.name,
                    "ServiceName": service.name,
                    "HealthStatus": health[one.id],
                    "Attributes": one.attributes,
                }
                for one in found[: input.get("MaxResults", _DISCOVERED)]
            ],
            "InstancesRevision": self._revision(service),
        }

    async def DiscoverInstancesRevision(self, call: Call, input: Input) -> Output:
        return {"InstancesRevision": self._revision(self._discovered(call, input)[1])}

    async def GetInstancesHealthStatus(self, call: Call, input: Input) -> Output:
        service = self._service(call, input["ServiceId"])
        if "Instances" in input:
            found = [self._instance(service, id) for id in dict.fromkeys(input["Instances"])]
        else:
            found = [record.value for record in self._instances.list(service.id)]
        page, following = paged(sorted(found, key=lambda one: one.id), input, lambda one: one.id)
        return {"Status": {one.id: await self._health(service, one) for one in page}, **following}

    async def UpdateInstanceCustomHealthStatus(self, call: Call, input: Input) -> Output:
        service = self._service(call, input["ServiceId"])
        if service.custom_check is None:
            raise AwsError(
                "CustomHealthNotFound", f"The service {service.id} has no configuration of a custom health check."
            )
        namespace = self._namespace(call, service.namespace)

        async with self._turn(service):
            instance = self._instance(service, input["InstanceId"])
            changed = replace(instance, custom_health=input["Status"])
            if changed == instance:
                return {}
            await self._move(namespace, service, instance, changed)
            await self._put(service, changed)
        return {}

    async def _addressed(self, call: Call, namespace: Namespace, given: dict[str, str]) -> dict[str, str]:
        """Attributes, with the address of the instance of EC2 that they name. Raises InvalidInput."""
        id = given.get("AWS_EC2_INSTANCE_ID")
        if id is None:
            return given
        if namespace.type != "HTTP":
            raise invalid("The attribute AWS_EC2_INSTANCE_ID is only supported for HTTP namespaces.")
        if others := [name for name in given if name.startswith("AWS_") and name not in _BESIDE_EC2]:
            raise invalid(f"AWS_EC2_INSTANCE_ID cannot be specified together with {others[0]}.")
        where: dict[str, str] = {"account": call.account, "region": call.region, "principal": PRINCIPAL}
        try:
            found = await self.cloud.call("ec2", "DescribeInstances", {"InstanceIds": [id]}, **where)
        except AwsError as error:
            raise invalid(error.message) from None
        address = found["Reservations"][0]["Instances"][0].get("PrivateIpAddress")
        if address is None:
            raise invalid(f"The instance {id} has no private IPv4 address.")
        return {**given, "AWS_INSTANCE_IPV4": address}

    def _turn(self, service: Service) -> asyncio.Lock:
        """Who changes a service's instances: one after the other, so that DNS and what is stored say the same."""
        return self._turns.setdefault(service.id, asyncio.Lock())

    async def _move(self, namespace: Namespace, service: Service, old: Instance | None, new: Instance | None) -> None:
        """Have DNS say of an instance what it is to be. This comes first: what DNS refuses is not stored.

        After a crash between the two, the next start makes DNS say what is stored.
        """
        if namespace.zone:
            before = dns.record_sets(namespace, service, old) if old is not None else []
            after = dns.record_sets(namespace, service, new) if new is not None else []
            await self.change_dns(namespace, dns.changes(before, after))

    async def _follow(self, namespace: Namespace, old: Service, new: Service) -> None:
        async with self._turn(new):
            await self._follow_in_turn(namespace, old, new)

    async def _follow_in_turn(self, namespace: Namespace, old: Service, new: Service) -> None:
        changes: list[dict[str, Any]] = []
        ended: list[str] = []
        for record in self._instances.list(new.id):
            instance = record.value
            if old.check != new.check:
                changed = replace(instance, check=await self._create_check(new, instance))
                await self._put(new, changed)
                ended.append(instance.check)
            else:
                changed = instance
            changes += dns.changes(dns.record_sets(namespace, old, instance), dns.record_sets(namespace, new, changed))
        if namespace.zone:
            await self.change_dns(namespace, changes)
        for check in ended:
            await self._delete_check(new, check)

    async def _put(self, service: Service, instance: Instance) -> None:
        await self._db.write(lambda tx: self._instances.put(tx, service.id, instance.id, instance))

    async def _create_check(self, service: Service, instance: Instance) -> str:
        """The id of a new Route 53 health check of an instance; empty when its service has none."""
        if service.check is None:
            return ""
        address = instance.attributes.get("AWS_INSTANCE_IPV4") or instance.attributes.get("AWS_INSTANCE_IPV6")
        host = instance.attributes.get("AWS_ALIAS_DNS_NAME") or instance.attributes.get("AWS_INSTANCE_CNAME")
        port = instance.attributes.get("AWS_INSTANCE_PORT")
        config = {
            **service.check,
            **({"IPAddress": address} if address else {"FullyQualifiedDomainName": host}),
            **({"Port": int(port)} if port else {}),
        }
        given = {"CallerReference": str(uuid.uuid4()), "HealthCheckConfig": config}
        made = await self.route53("CreateHealthCheck", given, service.account)
        return str(made["HealthCheck"]["Id"])

    async def _delete_check(self, service: Service, check: str) -> None:
        if not check:
            return
        try:
            await self.route53("DeleteHealthCheck", {"HealthCheckId": check}, service.account)
        except AwsError as error:
            if error.code != "NoSuchHealthCheck":
                raise

    async def _health(self, service: Service, instance: Instance) -> str:
        if service.custom_check is not None:
            return instance.custom_health
        if not instance.check:
            return "UNKNOWN"
        route53: Any = await self.cloud.service("route53")
        return "HEALTHY" if route53.health_of(instance.check) else "UNHEALTHY"

    def _instance(self, service: Service, id: str, tx: Tx | None = None) -> Instance:
        record = self._instances.get(service.id, id, tx)
        if record is None:
            raise AwsError("InstanceNotFound", id)
        return record.value

    def _discovered(self, call: Call, input: Input) -> tuple[Namespace, Service]:
        """The namespace and the service of these names. Raises NamespaceNotFound and ServiceNotFound."""
        if input.get("OwnerAccount", call.account) != call.account:
            raise not_implemented(f"{call.operation or 'DiscoverInstances'} with OwnerAccount")
        name = input["NamespaceName"]
        namespace = next((one.value for one in self._namespaces.list(call.scope) if one.value.name == name), None)
        if namespace is None:
            raise AwsError("NamespaceNotFound", name)
        for record in self._services.list(call.scope):
            if record.value.namespace == namespace.id and record.value.name == input["ServiceName"]:
                return namespace, record.value
        raise AwsError("ServiceNotFound", input["ServiceName"])

    def _revision(self, service: Service) -> int:
        record = self._revisions.get(service.id, service.id)
        return record.value.number if record is not None else 0

    def _count(self, tx: Tx, service: Service) -> None:
        record = self._revisions.get(service.id, service.id, tx)
        number = record.value.number if record is not None else 0
        self._revisions.put(tx, service.id, service.id, Revision(number + 1))


def _shown(call: Call, instance: Instance) -> Output:
    return {"Id": instance.id, "Attributes": instance.attributes, "CreatedByAccount": call.account}


def _by_health(found: list[Instance], health: dict[str, str], wanted: str) -> list[Instance]:
    if wanted == "ALL":
        return found
    if wanted == "UNHEALTHY":
        return [one for one in found if health[one.id] == "UNHEALTHY"]
    healthy = [one for one in found if health[one.id] == "HEALTHY"]
    return healthy or (found if wanted == "HEALTHY_OR_ELSE_ALL" else [])


def _check_attributes(service: Service, namespace: Namespace, given: dict[str, str]) -> None:
    """Judge an instance's attributes against its service's records. Raises InvalidInput."""
    custom = [name for name in given if not name.startswith("AWS_")]
    if len(custom) > _CUSTOM_AT_MOST:
        raise invalid(f"An instance can have at most {_CUSTOM_AT_MOST} custom attributes.")
    if sum(len(key) + len(value) for key, value in given.items()) > _SIZE_AT_MOST:
        raise invalid(f"The total size of all attributes must not exceed {_SIZE_AT_MOST} characters.")
    for name, family in (("AWS_INSTANCE_IPV4", ipaddress.IPv4Address), ("AWS_INSTANCE_IPV6", ipaddress.IPv6Address)):
        try:
            if name in given:
                family(given[name])
        except ValueError:
            raise invalid(f"The attribute {name} is not a valid address: {given[name]}") from None
    port = given.get("AWS_INSTANCE_PORT", "1")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise invalid(f"The attribute AWS_INSTANCE_PORT is not a valid port: {port}")
    if given.get("AWS_INIT_HEALTH_STATUS", "HEALTHY") not in ("HEALTHY", "UNHEALTHY"):
        raise invalid("The attribute AWS_INIT_HEALTH_STATUS must be HEALTHY or UNHEALTHY.")
    kinds = {record["Type"] for record in service.dns["DnsRecords"]} if service.dns is not None else set()
    if "AWS_ALIAS_DNS_NAME" in given:
        if service.dns is None or service.dns["RoutingPolicy"] != "WEIGHTED" or not kinds & {"A", "AAAA"}:
            raise invalid("AWS_ALIAS_DNS_NAME needs a service with A or AAAA records and the routing policy WEIGHTED.")
        if any(name.startswith("AWS_INSTANCE_") for name in given):
            raise invalid("AWS_ALIAS_DNS_NAME cannot be specified together with AWS_INSTANCE attributes.")
        return
    needed = {"A": ("AWS_INSTANCE_IPV4",), "AAAA": ("AWS_INSTANCE_IPV6",), "CNAME": ("AWS_INSTANCE_CNAME",)}
    needed["SRV"] = ("AWS_INSTANCE_PORT",)
    missing = [name for kind in sorted(kinds) for name in needed[kind] if name not in given]
    if "SRV" in kinds and not given.keys() & {"AWS_INSTANCE_IPV4", "AWS_INSTANCE_IPV6"}:
        missing.append("AWS_INSTANCE_IPV4 or AWS_INSTANCE_IPV6")
    if service.check is not None and not given.keys() & {
        "AWS_INSTANCE_IPV4",
        "AWS_INSTANCE_IPV6",
        "AWS_INSTANCE_CNAME",
    }:
        missing.append("AWS_INSTANCE_IPV4")
    if missing:
        raise invalid(f"Missing required attributes for the instance: {', '.join(missing)}")
