"""Domain names of the user's own, and the APIs that they lead to."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.apigatewayv2.parts import Parts, no_such
from cloudlet.services.apigatewayv2.records import ApiMapping, DomainName, new_id
from cloudlet.store import Tx


class Domains(Parts):
    """The operations on domain names and their mappings."""

    _names: dict[str, list[dict[str, Any]]]  # by domain name, as of the revision
    _names_of = -1

    async def CreateDomainName(self, call: Call, input: Input) -> Output:
        name = input["DomainName"]
        for member in ("MutualTlsAuthentication", "RoutingMode"):
            if input.get(member, "API_MAPPING_ONLY") != "API_MAPPING_ONLY":
                raise not_implemented(f"CreateDomainName with {member}")
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

    async def UpdateDomainName(self, call: Call, input: Input) -> Output:
        members = dict(self._domain(call, input["DomainName"]))
        if input.get("MutualTlsAuthentication"):
            raise not_implemented("UpdateDomainName with MutualTlsAuthentication")
        if "DomainNameConfigurations" in input:
            before = members["DomainNameConfigurations"]
            members["DomainNameConfigurations"] = [
                {**(before[place] if place < len(before) else {}), **configuration}
                for place, configuration in enumerate(input["DomainNameConfigurations"])
            ]
        await self.db.write(lambda tx: self.domains.put(tx, call.scope, input["DomainName"], DomainName(members)))
        return members

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

    def has_domain(self, host: str) -> bool:
        """Whether somebody has this name."""
        return self._mapped(host) is not None

    def behind(self, host: str, path: str) -> tuple[str, str] | None:
        """The API that a mapping of a name leads to, and the path there, which begins with the stage."""
        mappings = self._mapped(host) or []
        for mapping in mappings:
            key = mapping.get("ApiMappingKey", "")
            if not key or path == f"/{key}" or path.startswith(f"/{key}/"):
                rest = path[len(key) + 1 :] if key else path
                stage = "" if mapping["Stage"] == "$default" else f"/{mapping['Stage']}"
                return mapping["ApiId"], stage + (rest or "/")
        return None

    def _mapped(self, host: str) -> list[dict[str, Any]] | None:
        """A name's mappings, the longest keys first; None where nobody has the name."""
        if self._names_of != self.db.revision:
            self._names, self._names_of = {}, self.db.revision
            for record in self.domains.all():
                mappings = [found.value.members for found in self.mappings.list(record.scope, f"{record.name}/")]
                mappings.sort(key=lambda mapping: -len(mapping.get("ApiMappingKey", "")))
                self._names[record.name.lower()] = mappings
        return self._names.get(host)

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
        if self.apis.get(call.scope, input["ApiId"]) is None:
            raise no_such("API", f"{call.account}:{input['ApiId']}")
        self.part(call, "Stage", input["ApiId"], input["Stage"])
