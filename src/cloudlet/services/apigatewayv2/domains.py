"""Domain names of the user's own, and the APIs that they lead to."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.apigatewayv2.parts import Parts, no_such
from cloudlet.services.apigatewayv2.records import ApiMapping, DomainName, new_id
from cloudlet.store import Tx


class Domains(Parts):
    """The operations on domain names and their mappings."""

    async def CreateDomainName(self, call: Call, input: Input) -> Output:
        name = input["DomainName"]
        if self.domains.get(call.scope, name) is not None:
            raise AwsError("ConflictException", f"The domain name you provided already exists. {name}")
        configurations = [
            {
                "ApiGatewayDomainName": f"d-{new_id()}.execute-api.{call.region}.amazonaws.com",
                "DomainNameStatus": "AVAILABLE",
                "HostedZoneId": "Z1UJRXOUMOOFQ8",
                **configuration,
            }
            for configuration in input.get("DomainNameConfigurations", [])
        ]
        members = {
            "ApiMappingSelectionExpression": "$request.basepath",
            "DomainName": name,
            "DomainNameConfigurations": configurations,
            "Tags": input.get("Tags", {}),
        }
        await self.db.write(lambda tx: self.domains.put(tx, call.scope, name, DomainName(members)))
        return members

    async def GetDomainName(self, call: Call, input: Input) -> Output:
        return self._domain(call, input["DomainName"])

    async def GetDomainNames(self, call: Call, input: Input) -> Output:
        return self.page("domain names", [record.value.members for record in self.domains.list(call.scope)], input)

    async def DeleteDomainName(self, call: Call, input: Input) -> Output:
        name = input["DomainName"]
        self._domain(call, name)

        def work(tx: Tx) -> None:
            self.domains.delete(tx, call.scope, name)
            for record in self.mappings.list(call.scope, f"{name}/", tx):
                self.mappings.delete(tx, call.scope, record.name)

        await self.db.write(work)
        return {}

    async def CreateApiMapping(self, call: Call, input: Input) -> Output:
        domain = input["DomainName"]
        self._domain(call, domain)
        self._check(call, input)
        key = input.get("ApiMappingKey", "")
        if any(mapping.get("ApiMappingKey", "") == key for mapping in self._mappings(call, domain)):
            raise AwsError(
                "ConflictException", f"ApiMapping key already exists for this domain name: {key or '(none)'}"
            )
        members: dict[str, Any] = {
            "ApiMappingId": new_id(6),
            **{name: input[name] for name in ("ApiId", "ApiMappingKey", "Stage") if name in input},
        }
        name = f"{domain}/{members['ApiMappingId']}"
        await self.db.write(lambda tx: self.mappings.put(tx, call.scope, name, ApiMapping(members)))
        return members

    async def GetApiMapping(self, call: Call, input: Input) -> Output:
        return self._mapping(call, input)

    async def GetApiMappings(self, call: Call, input: Input) -> Output:
        self._domain(call, input["DomainName"])
        return self.page("mappings", self._mappings(call, input["DomainName"]), input)

    async def UpdateApiMapping(self, call: Call, input: Input) -> Output:
        members = {**self._mapping(call, input), **{k: v for k, v in input.items() if k != "DomainName"}}
        self._check(call, members)
        name = f"{input['DomainName']}/{input['ApiMappingId']}"
        await self.db.write(lambda tx: self.mappings.put(tx, call.scope, name, ApiMapping(members)))
        return members

    async def DeleteApiMapping(self, call: Call, input: Input) -> Output:
        self._mapping(call, input)
        name = f"{input['DomainName']}/{input['ApiMappingId']}"
        await self.db.write(lambda tx: self.mappings.delete(tx, call.scope, name))
        return {}

    def _domain(self, call: Call, name: str) -> dict[str, Any]:
        record = self.domains.get(call.scope, name)
        if record is None:
            raise AwsError("NotFoundException", f"Invalid domain name identifier specified {name}")
        return record.value.members

    def _mapping(self, call: Call, input: Input) -> dict[str, Any]:
        record = self.mappings.get(call.scope, f"{input['DomainName']}/{input['ApiMappingId']}")
        if record is None:
            raise no_such("ApiMapping", input["ApiMappingId"])
        return record.value.members

    def _mappings(self, call: Call, domain: str) -> list[dict[str, Any]]:
        return [record.value.members for record in self.mappings.list(call.scope, f"{domain}/")]

    def _check(self, call: Call, input: Input) -> None:
        self.api(call, input["ApiId"])
        self.part(call, "Stage", input["ApiId"], input["Stage"])
