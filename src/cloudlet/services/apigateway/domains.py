"""Domain names of the user's own and their base path mappings."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.apigateway import patch
from cloudlet.services.apigateway.parts import Shared, new_id
from cloudlet.services.apigateway.records import DomainName


class Domains(Shared):
    """The operations on domain names."""

    _names: dict[str, DomainName]  # as of the revision
    _names_of = -1

    async def CreateDomainName(self, call: Call, input: Input) -> Output:
        name = input["domainName"]
        if not name:
            raise AwsError("BadRequestException", "No Domain Name specified")
        for member in ("mutualTlsAuthentication", "policy"):
            if input.get(member):
                raise not_implemented(f"CreateDomainName with {member}")
        if self.domains.get(call.scope, name) is not None:
            raise AwsError("ConflictException", "The domain name you provided already exists.")
        regional = f"d-{new_id()}.execute-api.{call.region}.amazonaws.com"
        members = {
            "endpointConfiguration": {"types": ["EDGE"]},
            "domainNameStatus": "AVAILABLE",
            "securityPolicy": "TLS_1_2",
            "tags": {},
            "regionalDomainName": regional,
            "regionalHostedZoneId": "Z1UJRXOUMOOFQ8",
            **{key: value for key, value in input.items() if key not in ("certificateBody", "certificatePrivateKey")},
        }
        await self.db.write(lambda tx: self.domains.put(tx, call.scope, name, DomainName(members)))
        return members

    async def GetDomainName(self, call: Call, input: Input) -> Output:
        return self._domain(call, input["domainName"]).members

    async def GetDomainNames(self, call: Call, input: Input) -> Output:
        return self.page([record.value.members for record in self.domains.list(call.scope)], input)

    async def UpdateDomainName(self, call: Call, input: Input) -> Output:
        domain = self._domain(call, input["domainName"])
        members = patch.apply(domain.members, input.get("patchOperations"))
        await self._put_domain(call, input["domainName"], DomainName(members, domain.mappings))
        return members

    async def DeleteDomainName(self, call: Call, input: Input) -> Output:
        self._domain(call, input["domainName"])
        await self.db.write(lambda tx: self.domains.delete(tx, call.scope, input["domainName"]))
        return {}

    async def CreateBasePathMapping(self, call: Call, input: Input) -> Output:
        domain = self._domain(call, input["domainName"])
        self.api(call, input["restApiId"])
        path = input.get("basePath") or "(none)"
        _check_path(path)
        if path in domain.mappings:
            raise AwsError("ConflictException", "Base path already exists for this domain name")
        if "stage" in input:
            self.found(self.stages, call, input["restApiId"], input["stage"], "Stage")
        mapping: dict[str, Any] = {
            "basePath": path,
            **{key: input[key] for key in ("restApiId", "stage") if key in input},
        }
        await self._put_domain(
            call, input["domainName"], DomainName(domain.members, {**domain.mappings, path: mapping})
        )
        return mapping

    async def GetBasePathMapping(self, call: Call, input: Input) -> Output:
        return self._mapping(self._domain(call, input["domainName"]), input["basePath"])

    async def GetBasePathMappings(self, call: Call, input: Input) -> Output:
        return self.page(list(self._domain(call, input["domainName"]).mappings.values()), input)

    async def UpdateBasePathMapping(self, call: Call, input: Input) -> Output:
        domain = self._domain(call, input["domainName"])
        mapping = patch.apply(
            self._mapping(domain, input["basePath"]),
            input.get("patchOperations"),
            lambda path: ["restApiId"] if path == ["restapiId"] else path,
        )
        _check_path(mapping["basePath"])
        self.api(call, mapping["restApiId"])
        if mapping.get("stage"):
            self.found(self.stages, call, mapping["restApiId"], mapping["stage"], "Stage")
        kept = {path: value for path, value in domain.mappings.items() if path != input["basePath"]}
        await self._put_domain(
            call, input["domainName"], DomainName(domain.members, {**kept, mapping["basePath"]: mapping})
        )
        return mapping

    async def DeleteBasePathMapping(self, call: Call, input: Input) -> Output:
        domain = self._domain(call, input["domainName"])
        self._mapping(domain, input["basePath"])
        kept = {path: value for path, value in domain.mappings.items() if path != input["basePath"]}
        await self._put_domain(call, input["domainName"], DomainName(domain.members, kept))
        return {}

    def has_domain(self, host: str) -> bool:
        """Whether somebody has this name."""
        return self._of(host) is not None

    def behind(self, host: str, path: str) -> tuple[str, str] | None:
        """The API that a base path of a name leads to, and the path there, which begins with the stage."""
        domain = self._of(host)
        if domain is None:
            return None
        for base, mapping in sorted(domain.mappings.items(), key=lambda entry: entry[0] == "(none)"):
            if base == "(none)" or path == f"/{base}" or path.startswith(f"/{base}/"):
                rest = path if base == "(none)" else path[len(base) + 1 :]
                stage = f"/{mapping['stage']}" if mapping.get("stage") else ""
                return mapping["restApiId"], stage + (rest or "/")
        return None

    def _of(self, host: str) -> DomainName | None:
        if self._names_of != self.db.revision:
            self._names = {record.name.lower(): record.value for record in self.domains.all()}
            self._names_of = self.db.revision
        return self._names.get(host)

    async def _put_domain(self, call: Call, name: str, domain: DomainName) -> None:
        await self.db.write(lambda tx: self.domains.put(tx, call.scope, name, domain))

    def _domain(self, call: Call, name: str) -> DomainName:
        record = self.domains.get(call.scope, name)
        if record is None:
            raise AwsError("NotFoundException", "Invalid domain name identifier specified")
        return record.value

    def _mapping(self, domain: DomainName, path: str) -> dict[str, Any]:
        if path not in domain.mappings:
            raise AwsError("NotFoundException", "Invalid base path mapping identifier specified")
        return domain.mappings[path]


def _check_path(path: str) -> None:
    if "/" in path:
        raise AwsError(
            "BadRequestException",
            "API Gateway V1 doesn't support the slash character (/) in base path mappings. "
            "To create a multi-level base path mapping, use API Gateway V2.",
        )
