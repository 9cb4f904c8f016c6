"""Operations on services and their attributes."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.servicediscovery.base import creator, filtered, invalid, new_id, paged, plain
from cloudlet.services.servicediscovery.namespaces import Namespaces, tags_of
from cloudlet.services.servicediscovery.records import Namespace, Service
from cloudlet.store import Tx

_ATTRIBUTES_AT_MOST = 30


class Services(Namespaces):
    """The life of services."""

    async def CreateService(self, call: Call, input: Input) -> Output:
        given = input.get("DnsConfig", {})
        id = input.get("NamespaceId") or given.get("NamespaceId")
        if not id:
            raise invalid("Service namespace id cannot be null")
        namespace = self._namespace(call, id)
        config = _dns_config(input, namespace)
        check, custom = input.get("HealthCheckConfig"), input.get("HealthCheckCustomConfig")
        if check is not None and custom is not None:
            raise invalid("Specify either HealthCheckConfig or HealthCheckCustomConfig, but not both.")
        made = Service(
            new_id("srv-"),
            call.account,
            call.region,
            namespace.id,
            input["Name"],
            self.clock.now(),
            http_only=input.get("Type") == "HTTP",
            description=input.get("Description"),
            creator=creator(input),
            dns=config,
            check=_check_config(check, namespace) if check is not None else None,
            custom_check={"FailureThreshold": 1} if custom is not None else None,
            tags=tags_of(input),
        )

        def create(tx: Tx) -> Service:
            for record in self._services.list(call.scope, tx=tx):
                other = record.value
                if other.namespace != namespace.id or other.name.lower() != made.name.lower():
                    continue
                if other.creator == made.creator:
                    return other
                raise AwsError(
                    "ServiceAlreadyExists",
                    "A service with the same name already exists.",
                    ServiceId=other.id,
                    ServiceArn=other.arn,
                    CreatorRequestId=other.creator,
                )
            self._namespace(call, namespace.id, tx)
            self._services.put(tx, call.scope, made.id, made)
            return made

        return {"Service": self._service_shown(await self._db.write(create), whole=True)}

    async def GetService(self, call: Call, input: Input) -> Output:
        return {"Service": self._service_shown(self._service(call, input["Id"]), whole=True)}

    async def ListServices(self, call: Call, input: Input) -> Output:
        filters = [{**one, "Values": [plain(value) for value in one["Values"]]} for one in input.get("Filters", ())]
        found = filtered(
            [record.value for record in self._services.list(call.scope)],
            filters,
            {"NAMESPACE_ID": lambda one: one.namespace, "RESOURCE_OWNER": lambda one: "SELF"},
        )
        page, following = paged(found, input, lambda one: one.id)
        return {"Services": [self._service_shown(one) for one in page], **following}

    async def UpdateService(self, call: Call, input: Input) -> Output:
        change, now = input["Service"], self.clock.now()
        service = self._service(call, input["Id"])
        namespace = self._namespace(call, service.namespace)
        fields: dict[str, Any] = {}
        if "Description" in change:
            fields["description"] = change["Description"]
        if "DnsConfig" in change:
            if service.dns is None:
                raise invalid(f"The service {service.id} has no DNS configuration.")
            ttls = {record["Type"]: record["TTL"] for record in change["DnsConfig"]["DnsRecords"]}
            if ttls.keys() != {record["Type"] for record in service.dns["DnsRecords"]}:
                raise invalid("The record type of a service can't be updated.")
            kept = [{"Type": record["Type"], "TTL": ttls[record["Type"]]} for record in service.dns["DnsRecords"]]
            fields["dns"] = {**service.dns, "DnsRecords": kept}
        if "HealthCheckConfig" in change:
            if service.custom_check is not None:
                raise invalid("The service has a custom health check.")
            fields["check"] = _check_config(change["HealthCheckConfig"], namespace)
        elif "DnsConfig" in change and service.check is not None:
            fields["check"] = None  # what an update of the configuration leaves out is removed

        def update(tx: Tx) -> tuple[Service, str]:
            changed = replace(self._service(call, service.id, tx), **fields)
            self._services.put(tx, call.scope, service.id, changed)
            return changed, self._note(tx, call, "UPDATE_SERVICE", now, service=service.id)

        changed, operation = await self._db.write(update)
        await self._follow(namespace, service, changed)
        return {"OperationId": operation}

    async def _follow(self, namespace: Namespace, old: Service, new: Service) -> None:
        """Have a service's new configuration hold for the instances that it has."""
        raise NotImplementedError

    async def DeleteService(self, call: Call, input: Input) -> Output:
        def delete(tx: Tx) -> None:
            service = self._service(call, input["Id"], tx)
            if self._instances.list(service.id, tx=tx):
                raise AwsError(
                    "ResourceInUse",
                    "Service contains registered instances; delete the instances before deleting the service",
                )
            self._services.delete(tx, call.scope, service.id)
            self._revisions.delete(tx, service.id, service.id)

        await self._db.write(delete)
        return {}

    async def GetServiceAttributes(self, call: Call, input: Input) -> Output:
        service = self._service(call, input["ServiceId"])
        shown = {"ServiceArn": service.arn, "ResourceOwner": service.account, "Attributes": service.attributes}
        return {"ServiceAttributes": shown}

    async def UpdateServiceAttributes(self, call: Call, input: Input) -> Output:
        await self._edit_attributes(call, input, lambda known: {**known, **input["Attributes"]})
        return {}

    async def DeleteServiceAttributes(self, call: Call, input: Input) -> Output:
        gone = set(input["Attributes"])
        await self._edit_attributes(
            call, input, lambda known: {key: value for key, value in known.items() if key not in gone}
        )
        return {}

    async def _edit_attributes(self, call: Call, input: Input, change: Any) -> None:
        def edit(tx: Tx) -> None:
            service = self._service(call, input["ServiceId"], tx)
            attributes = change(service.attributes)
            if len(attributes) > _ATTRIBUTES_AT_MOST:
                raise AwsError(
                    "ServiceAttributesLimitExceededException",
                    f"A service can have at most {_ATTRIBUTES_AT_MOST} attributes.",
                )
            self._services.put(tx, call.scope, service.id, replace(service, attributes=attributes))

        await self._db.write(edit)

    def _service_shown(self, service: Service, whole: bool = False) -> Output:
        shown: Output = {
            "Id": service.id,
            "Arn": service.arn,
            "ResourceOwner": service.account,
            "Name": service.name,
            "Type": "DNS_HTTP" if service.dns is not None and not service.http_only else "HTTP",
            "InstanceCount": len(self._instances.list(service.id)),
            "CreateDate": service.created,
            "CreatedByAccount": service.account,
        }
        if whole:
            shown |= {"NamespaceId": service.namespace, "CreatorRequestId": service.creator}
        members = {
            "Description": service.description,
            "DnsConfig": service.dns,
            "HealthCheckConfig": service.check,
            "HealthCheckCustomConfig": service.custom_check,
        }
        return shown | {name: value for name, value in members.items() if value is not None}


def _dns_config(input: Input, namespace: Namespace) -> dict[str, Any] | None:
    """A service's DNS configuration, with its defaults. Raises InvalidInput."""
    given = input.get("DnsConfig")
    if given is None:
        return None
    if namespace.type == "HTTP" or input.get("Type") == "HTTP":
        raise invalid("Services that are discoverable by the API only cannot have a DnsConfig.")
    kinds = [record["Type"] for record in given["DnsRecords"]]
    if not kinds or len(set(kinds)) < len(kinds):
        raise invalid("DnsRecords must have each record type once.")
    policy = given.get("RoutingPolicy", "MULTIVALUE")
    if "CNAME" in kinds and (len(kinds) > 1 or policy != "WEIGHTED"):
        raise invalid("A CNAME record stands alone, and its routing policy must be WEIGHTED.")
    return {"NamespaceId": namespace.id, "RoutingPolicy": policy, "DnsRecords": given["DnsRecords"]}


def _check_config(given: dict[str, Any], namespace: Namespace) -> dict[str, Any]:
    if namespace.type == "DNS_PRIVATE":
        raise invalid("HealthCheckConfig is not supported for services in private DNS namespaces.")
    if given["Type"] == "TCP" and given.get("ResourcePath"):
        raise invalid("ResourcePath is not for health checks of type TCP.")
    path = {} if given["Type"] == "TCP" else {"ResourcePath": given.get("ResourcePath", "/")}
    return {"Type": given["Type"], "FailureThreshold": given.get("FailureThreshold", 1), **path}
