"""Operations on namespaces and tags."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.servicediscovery.base import Base, creator, filtered, invalid, new_id, paged
from cloudlet.services.servicediscovery.records import Namespace
from cloudlet.store import Tx

_TAGS_AT_MOST = 50
_SOA_TTL = 15  # seconds


class Namespaces(Base):
    """The life of namespaces."""

    async def CreateHttpNamespace(self, call: Call, input: Input) -> Output:
        return await self._create(call, input, "HTTP")

    async def CreatePrivateDnsNamespace(self, call: Call, input: Input) -> Output:
        return await self._create(call, input, "DNS_PRIVATE", vpc=input["Vpc"])

    async def CreatePublicDnsNamespace(self, call: Call, input: Input) -> Output:
        return await self._create(call, input, "DNS_PUBLIC")

    async def _create(self, call: Call, input: Input, kind: str, vpc: str = "") -> Output:
        now, tags = self.clock.now(), tags_of(input)
        soa = input.get("Properties", {}).get("DnsProperties", {}).get("SOA", {}).get("TTL")
        made = Namespace(
            new_id("ns-"),
            call.account,
            call.region,
            input["Name"],
            kind,
            now,
            operation="",
            description=input.get("Description"),
            creator=creator(input),
            vpc=vpc,
            ttl=None if kind == "HTTP" else soa if soa is not None else _SOA_TTL,
            tags=tags,
        )

        def create(tx: Tx) -> Namespace:
            for record in self._namespaces.list(call.scope, tx=tx):
                other = record.value
                if other.name != made.name:
                    continue
                if other.creator == made.creator and other.type == kind:
                    return other
                raise AwsError(
                    "NamespaceAlreadyExists",
                    f"A namespace with the name {other.name} already exists.",
                    NamespaceId=other.id,
                    CreatorRequestId=other.creator,
                )
            operation = self._note(tx, call, "CREATE_NAMESPACE", now, namespace=made.id)
            namespace = replace(made, operation=operation)
            self._namespaces.put(tx, call.scope, made.id, namespace)
            return namespace

        namespace = await self._db.write(create)
        if kind != "HTTP" and not namespace.zone:
            try:
                await self._set_soa(await self.ensure_zone(namespace))
            except AwsError as error:
                fault = f"{error.message} (Service: AmazonRoute53; Status Code: 400; Error Code: {error.code})"

                def fail(tx: Tx) -> None:
                    self._namespaces.delete(tx, call.scope, namespace.id)
                    tx.execute("UPDATE operation SET fault = ? WHERE id = ?", (fault, namespace.operation))

                await self._db.write(fail)
        return {"OperationId": namespace.operation}

    async def _set_soa(self, namespace: Namespace) -> None:
        """Give the zone's SOA record the namespace's time: how long a name that is not there is remembered."""
        listed = await self.route53(
            "ListResourceRecordSets", {"HostedZoneId": namespace.zone, "MaxItems": "2"}, namespace.account
        )
        soa = next(one for one in listed["ResourceRecordSets"] if one["Type"] == "SOA")
        await self.change_dns(namespace, [{"Action": "UPSERT", "ResourceRecordSet": {**soa, "TTL": namespace.ttl}}])

    async def GetNamespace(self, call: Call, input: Input) -> Output:
        namespace = self._namespace(call, input["Id"])
        return {"Namespace": {**self._shown(call, namespace), "CreatorRequestId": namespace.creator}}

    async def ListNamespaces(self, call: Call, input: Input) -> Output:
        found = filtered(
            [record.value for record in self._namespaces.list(call.scope)],
            input.get("Filters", []),
            {
                "TYPE": lambda one: one.type,
                "NAME": lambda one: one.name,
                "HTTP_NAME": lambda one: one.name,
                "RESOURCE_OWNER": lambda one: "SELF",
            },
        )
        page, following = paged(found, input, lambda one: one.id)
        return {"Namespaces": [self._shown(call, one) for one in page], **following}

    async def DeleteNamespace(self, call: Call, input: Input) -> Output:
        now = self.clock.now()
        namespace = self._namespace(call, input["Id"])

        def check(tx: Tx) -> None:
            for record in self._services.list(call.scope, tx=tx):
                if record.value.namespace == namespace.id:
                    raise AwsError(
                        "ResourceInUse",
                        "Namespace has associated services; delete the services before deleting the namespace",
                    )

        def delete(tx: Tx) -> str:
            check(tx)
            self._namespaces.delete(tx, call.scope, namespace.id)
            return self._note(tx, call, "DELETE_NAMESPACE", now, namespace=namespace.id)

        await self._db.read(check)
        if namespace.zone:
            # The zone goes first: a namespace without one is made whole again, a zone without one would stay.
            await self.route53("DeleteHostedZone", {"Id": namespace.zone}, namespace.account)
        return {"OperationId": await self._db.write(delete)}

    async def UpdateHttpNamespace(self, call: Call, input: Input) -> Output:
        return await self._update(call, input, "HTTP")

    async def UpdatePrivateDnsNamespace(self, call: Call, input: Input) -> Output:
        return await self._update(call, input, "DNS_PRIVATE")

    async def UpdatePublicDnsNamespace(self, call: Call, input: Input) -> Output:
        return await self._update(call, input, "DNS_PUBLIC")

    async def _update(self, call: Call, input: Input, kind: str) -> Output:
        change, now = input["Namespace"], self.clock.now()
        namespace = self._namespace(call, input["Id"])
        if namespace.type != kind:
            raise invalid(f"The namespace {namespace.id} is of type {namespace.type}.")
        fields: dict[str, Any] = {"description": change["Description"]} if "Description" in change else {}
        ttl = change.get("Properties", {}).get("DnsProperties", {}).get("SOA", {}).get("TTL")
        if ttl is not None:
            fields["ttl"] = ttl
        namespace = await self._edit_namespace(namespace, **fields)
        if ttl is not None:
            await self._set_soa(namespace)
        note = self._db.write(lambda tx: self._note(tx, call, "UPDATE_NAMESPACE", now, namespace=namespace.id))
        return {"OperationId": await note}

    async def TagResource(self, call: Call, input: Input) -> Output:
        added = {tag["Key"]: tag["Value"] for tag in input["Tags"]}
        await self._retag(call, input["ResourceARN"], lambda tags: {**tags, **added})
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        await self._retag(
            call, input["ResourceARN"], lambda tags: {key: value for key, value in tags.items() if key not in gone}
        )
        return {}

    async def ListTagsForResource(self, call: Call, input: Input) -> Output:
        _, found = self._tagged(call, input["ResourceARN"], None)
        return {"Tags": [{"Key": key, "Value": value} for key, value in found.tags.items()]}

    async def _retag(self, call: Call, arn: str, change: Any) -> None:
        def retag(tx: Tx) -> None:
            kind, found = self._tagged(call, arn, tx)
            tags = change(found.tags)
            if len(tags) > _TAGS_AT_MOST:
                raise AwsError("TooManyTagsException", "Too many tags.", ResourceName=arn)
            kind.put(tx, call.scope, found.id, replace(found, tags=tags))

        await self._db.write(retag)

    def _tagged(self, call: Call, arn: str, tx: Tx | None) -> tuple[Any, Any]:
        kind, _, id = arn.rpartition(":")[2].partition("/")
        resources: Any = {"namespace": self._namespaces, "service": self._services}.get(kind)
        record = resources.get(call.scope, id, tx) if resources is not None else None
        if record is None:
            raise AwsError("ResourceNotFoundException", f"The resource {arn} does not exist.")
        return resources, record.value

    def _shown(self, call: Call, namespace: Namespace) -> Output:
        properties: Output = {"DnsProperties": {"SOA": {}}, "HttpProperties": {"HttpName": namespace.name}}
        if namespace.type != "HTTP":
            properties["DnsProperties"] = {"HostedZoneId": namespace.zone, "SOA": {"TTL": namespace.ttl}}
        services = [record for record in self._services.list(call.scope) if record.value.namespace == namespace.id]
        shown: Output = {
            "Id": namespace.id,
            "Arn": namespace.arn,
            "ResourceOwner": namespace.account,
            "Name": namespace.name,
            "Type": namespace.type,
            "ServiceCount": len(services),
            "Properties": properties,
            "CreateDate": namespace.created,
        }
        return shown if namespace.description is None else {**shown, "Description": namespace.description}


def tags_of(input: Input) -> dict[str, str]:
    """The tags of a request. Raises TooManyTagsException."""
    tags = {tag["Key"]: tag["Value"] for tag in input.get("Tags", ())}
    if len(tags) > _TAGS_AT_MOST:
        raise AwsError("TooManyTagsException", "Too many tags.")
    return tags
