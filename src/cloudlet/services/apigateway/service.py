"""API Gateway: REST APIs. Operations keep what should be; ``data_plane.py`` answers requests by its deployments."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.http import Request, Response
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output, Tagged
from cloudlet.services.apigateway import patch, refusals
from cloudlet.services.apigateway.data_plane import LARGEST_BODY, DataPlane
from cloudlet.services.apigateway.definition import Definition, read_definition
from cloudlet.services.apigateway.domains import Domains
from cloudlet.services.apigateway.gateway_responses import GatewayResponses
from cloudlet.services.apigateway.keys import Keys
from cloudlet.services.apigateway.limits import MIGRATIONS
from cloudlet.services.apigateway.methods import Methods
from cloudlet.services.apigateway.parts import Parts, new_id
from cloudlet.services.apigateway.records import (
    Authorizer,
    GatewayResponse,
    Model,
    RequestValidator,
    Resource,
    RestApi,
)
from cloudlet.services.apigateway.stages import Stages
from cloudlet.services.policies import is_resource_policy
from cloudlet.store import Resources, Tx

_EMPTY_MODEL = (
    '{\n  "$schema": "http://json-schema.org/draft-04/schema#",\n  "title" : "Empty Schema",\n  "type" : "object"\n}'
)
_ERROR_MODEL = (
    '{\n  "$schema" : "http://json-schema.org/draft-04/schema#",\n  "title" : "Error Schema",\n  "type" : "object",\n'
    '  "properties" : {\n    "message" : { "type" : "string" }\n  }\n}'
)


class Service(Methods, Stages, Parts, GatewayResponses, Keys, Domains, api.Service):
    """REST APIs, their parts, deployments and stages, API keys and usage plans, and domain names."""

    name = "apigateway"
    refused = {
        "CreateAuthorizer": "jwtConfiguration",
        "CreateBasePathMapping": "domainNameId",
        "CreateDomainName": "endpointAccessMode!=BASIC routingMode!=BASE_PATH_MAPPING_ONLY",
        "CreateRestApi": "endpointAccessMode!=BASIC",
        "CreateStage": "documentationVersion",
        "CreateUsagePlanKey": "keyType!=API_KEY",
        "DeleteBasePathMapping": "domainNameId",
        "DeleteDomainName": "domainNameId",
        "GetApiKeys": "customerId",
        "GetBasePathMapping": "domainNameId",
        "GetBasePathMappings": "domainNameId",
        "GetDomainName": "domainNameId",
        "GetDomainNames": "resourceOwner!=SELF",
        "GetModel": "flatten",
        "PutIntegration": "integrationTarget tlsConfig.insecureSkipVerification",
        "UpdateBasePathMapping": "domainNameId",
        "UpdateDomainName": "domainNameId",
    }

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name, MIGRATIONS)
        self.load()
        self.data_plane = DataPlane(self)

    async def serve(self, request: Request, label: str) -> Response:
        """Answer a request to ``<api id>.execute-api``."""
        if "." in label:
            behind = self.behind(label, request.path)
            if behind is None:
                return refusals.plain(403, "Forbidden")
            label, request.path = behind
        return await self.data_plane.answer(request, label)

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        found = []
        for record in self.apis.list(f"{account}/{region}"):
            stages = self.stages.list(record.scope, f"{record.name}/")
            url = self.cloud.door("execute-api", record.name)
            for stage in [stage.value.members["stageName"] for stage in stages] or [""]:
                found.append(
                    {
                        "type": "AWS::ApiGateway::RestApi",
                        "name": record.value.members["name"],
                        "arn": f"arn:aws:apigateway:{region}::/restapis/{record.name}",
                        "endpoint": f"{url}/{stage}",
                    }
                )
        return found

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        kinds: dict[str, Resources[Any]] = {
            "restapis": self.apis,
            "apikeys": self.keys,
            "usageplans": self.plans,
            "domainnames": self.domains,
        }
        scope, prefix = f"{account}/{region}", f"arn:aws:apigateway:{region}::"
        found = [
            (f"{prefix}/{path}/{record.name}", record.value.members.get("tags", {}))
            for path, kind in kinds.items()
            for record in kind.list(scope)
        ]
        for record in self.stages.list(scope):
            api, _, stage = record.name.partition("/")
            found.append((f"{prefix}/restapis/{api}/stages/{stage}", record.value.members.get("tags", {})))
        return found

    async def CreateRestApi(self, call: Call, input: Input) -> Output:
        if input.get("description") == "":
            raise AwsError("BadRequestException", "Description cannot be an empty string")
        if "cloneFrom" in input:
            raise not_implemented("CreateRestApi with cloneFrom")
        members = self._new_api(input)
        await self.db.write(lambda tx: self._put_new_api(tx, call, members))
        return _shown(members)

    async def GetRestApi(self, call: Call, input: Input) -> Output:
        return _shown(self.api(call, input["restApiId"]))

    async def GetRestApis(self, call: Call, input: Input) -> Output:
        return self.page([_shown(record.value.members) for record in self.apis.list(call.scope)], input, 500)

    async def UpdateRestApi(self, call: Call, input: Input) -> Output:
        members = patch.apply(self.api(call, input["restApiId"]), input.get("patchOperations"))
        if not members.get("name"):
            raise AwsError("BadRequestException", "API name cannot be blank.")
        _check(members)
        await self.db.write(lambda tx: self.apis.put(tx, call.scope, input["restApiId"], RestApi(members)))
        return {"tags": {}, **_shown(members)}  # an update answers tags also where there are none

    async def DeleteRestApi(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])

        def work(tx: Tx) -> None:
            self.apis.delete(tx, call.scope, input["restApiId"])
            self.delete_parts(tx, call, input["restApiId"])

        await self.db.write(work)
        return {}

    async def ImportRestApi(self, call: Call, input: Input) -> Output:
        definition = read_definition(await _whole(input["body"]), call.account, call.region)
        configuration = (input.get("parameters") or {}).get("endpointConfigurationTypes")
        extra = {"endpointConfiguration": {"types": configuration.split(",")}} if configuration else {}
        members = self._new_api({**definition.api, **extra})

        def work(tx: Tx) -> None:
            self._put_new_api(tx, call, members)
            self._define(tx, call, members, definition)

        await self.db.write(work)
        return _shown(members)

    async def PutRestApi(self, call: Call, input: Input) -> Output:
        api_id = input["restApiId"]
        current = self.api(call, api_id)
        definition = read_definition(await _whole(input["body"]), call.account, call.region)
        members = {**current, **definition.api}
        members["endpointConfiguration"] = _endpoints(members.get("endpointConfiguration"))
        _check(members)
        overwrite = input.get("mode", "merge") == "overwrite"

        def work(tx: Tx) -> None:
            if overwrite:
                for kind in (Resource, Authorizer, Model, RequestValidator, GatewayResponse):
                    self.delete_parts(tx, call, api_id, only=kind)
                self._put_root(tx, call, members)
            self.apis.put(tx, call.scope, api_id, RestApi(members))
            self._define(tx, call, members, definition)

        await self.db.write(work)
        return _shown(members)

    async def TagResource(self, call: Call, input: Input) -> Output:
        await self._change_tags(call, input["resourceArn"], lambda tags: {**tags, **input["tags"]})
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["tagKeys"])
        await self._change_tags(
            call, input["resourceArn"], lambda tags: {k: v for k, v in tags.items() if k not in gone}
        )
        return {}

    async def GetTags(self, call: Call, input: Input) -> Output:
        return {"tags": self._tagged(call, input["resourceArn"])[2].members.get("tags", {})}

    async def _change_tags(self, call: Call, arn: str, change: Any) -> None:
        import msgspec

        resources, name, value = self._tagged(call, arn)
        members = {**value.members, "tags": change(value.members.get("tags", {}))}
        changed = msgspec.structs.replace(value, members=members)
        await self.db.write(lambda tx: resources.put(tx, call.scope, name, changed))

    def _tagged(self, call: Call, arn: str) -> tuple[Any, str, Any]:
        path = arn.split(":")[-1].strip("/").split("/")
        resources: Any = {
            "restapis": self.apis,
            "apikeys": self.keys,
            "usageplans": self.plans,
            "domainnames": self.domains,
        }
        found = resources.get(path[0])
        name = path[1] if len(path) > 1 else ""
        if len(path) == 4 and path[2] == "stages":
            found, name = self.stages, f"{path[1]}/{path[3]}"
        record = found.get(call.scope, name) if found is not None else None
        if record is None:
            raise AwsError("NotFoundException", f"Invalid resource identifier specified {arn}")
        return found, name, record.value

    def _new_api(self, input: Input) -> dict[str, Any]:
        members = {
            "apiKeySource": "HEADER",
            "disableExecuteApiEndpoint": False,
            **input,
            "endpointConfiguration": _endpoints(input.get("endpointConfiguration")),
            "id": new_id(),
            "rootResourceId": new_id(),
            "createdDate": self.clock.now(),
        }
        _check(members)
        return members

    def _put_new_api(self, tx: Tx, call: Call, members: dict[str, Any]) -> None:
        self.apis.put(tx, call.scope, members["id"], RestApi(members))
        self._put_root(tx, call, members)
        for name, schema in (("Empty", _EMPTY_MODEL), ("Error", _ERROR_MODEL)):
            described = f"This is a default {name.lower()} schema model"
            model = {"id": new_id(6), "name": name, "description": described, "schema": schema}
            model["contentType"] = "application/json"
            self.models.put(tx, call.scope, f"{members['id']}/{name}", Model(model))

    def _put_root(self, tx: Tx, call: Call, members: dict[str, Any]) -> None:
        root = {"id": members["rootResourceId"], "path": "/"}
        self.tree.put(tx, call.scope, f"{members['id']}/{members['rootResourceId']}", Resource(root))

    def _define(self, tx: Tx, call: Call, members: dict[str, Any], definition: Definition) -> None:
        """Put a definition's parts into an API; a method of the same path is replaced."""
        api_id = members["id"]
        authorizers = {
            name: self.put_named(tx, call, self.authorizers, Authorizer, api_id, authorizer)
            for name, authorizer in definition.authorizers.items()
        }
        validators = {
            name: self.put_named(tx, call, self.validators, RequestValidator, api_id, validator)
            for name, validator in definition.validators.items()
        }
        for name, model in definition.models.items():
            self.models.put(tx, call.scope, f"{api_id}/{name}", Model({"id": new_id(6), **model}))
        for name, response in definition.gateway_responses.items():
            self.responses.put(tx, call.scope, f"{api_id}/{name}", GatewayResponse(response))
        for path, methods in definition.paths.items():
            resource = self.resource_at(tx, call, members, path)
            defined = {}
            for verb, method in methods.items():
                if "authorizerId" in method:
                    method["authorizerId"] = authorizers[method["authorizerId"]]
                if "requestValidatorId" in method:
                    if method["requestValidatorId"] not in validators:
                        raise AwsError(
                            "BadRequestException", f"Unknown request validator {method['requestValidatorId']}"
                        )
                    method["requestValidatorId"] = validators[method["requestValidatorId"]]
                if integration := method.get("methodIntegration"):
                    method["methodIntegration"] = self.check_integration(integration, resource["id"])
                defined[verb] = method
            whole = {**resource, "resourceMethods": {**(resource.get("resourceMethods") or {}), **defined}}
            self.tree.put(tx, call.scope, f"{api_id}/{resource['id']}", Resource(whole))


def _check(members: dict[str, Any]) -> None:
    """Refuse an API whose settings cannot be. Raises BadRequestException."""
    size = members.get("minimumCompressionSize")
    if size is not None and not 0 <= size <= LARGEST_BODY:
        raise AwsError(
            "BadRequestException",
            f"Invalid minimum compression size, must be between 0 and {LARGEST_BODY}",
        )
    _check_endpoints(members["endpointConfiguration"])
    if (text := members.get("policy")) and not is_resource_policy(text):
        raise AwsError(
            "BadRequestException",
            "Invalid policy document. Please check the policy syntax and ensure that Principals are valid.",
        )


def _check_endpoints(configuration: dict[str, Any]) -> None:
    """Raises BadRequestException."""
    types, addresses = configuration.get("types"), configuration.get("ipAddressType")
    if not types:
        raise AwsError("BadRequestException", "REGIONAL Configuration and EDGE Configuration cannot be both DISABLED.")
    if not set(types) <= {"REGIONAL", "EDGE", "PRIVATE"}:
        raise AwsError(
            "BadRequestException", "Invalid EndpointTypes specified. Valid options are REGIONAL,EDGE,PRIVATE"
        )
    if len(types) > 1:
        raise AwsError("BadRequestException", "Cannot create an api with multiple Endpoint Types.")
    if addresses not in (None, "ipv4", "dualstack"):
        raise AwsError("BadRequestException", "ipAddressType must be either ipv4 or dualstack.")
    if types == ["PRIVATE"] and addresses == "ipv4":
        raise AwsError("BadRequestException", "Only dualstack ipAddressType is supported for Private APIs.")


def _shown(members: dict[str, Any]) -> dict[str, Any]:
    """An API as it is answered: its policy is JSON within JSON, with its quotes and slashes escaped."""
    shown = {key: value for key, value in members.items() if value or key not in ("policy", "binaryMediaTypes")}
    if "policy" in shown:
        shown["policy"] = json.dumps(shown["policy"])[1:-1].replace("/", "\\/")
    return shown


def _endpoints(given: dict[str, Any] | None) -> dict[str, Any]:
    """An endpoint configuration with its defaults."""
    types = (given or {}).get("types", ["EDGE"])
    return {"types": types, "ipAddressType": "dualstack" if types == ["PRIVATE"] else "ipv4", **(given or {})}


async def _whole(body: Any) -> bytes:
    return body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
