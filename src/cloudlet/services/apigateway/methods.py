"""The tree of an API: resources, their methods, integrations and responses."""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.apigateway import aws, patch
from cloudlet.services.apigateway.parts import Shared, new_id
from cloudlet.services.apigateway.records import Resource
from cloudlet.services.apigateway.tree import PATH_PART
from cloudlet.services.apigateway.velocity import TemplateError, compiled
from cloudlet.store import Conflict, Tx

_TYPES = ("AWS", "AWS_PROXY", "HTTP", "HTTP_PROXY", "MOCK")
_Operation = Callable[["Methods", Call, Input], Awaitable[Output]]
_VERBS = ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "ANY")
_OWN = ("restApiId", "resourceId", "httpMethod", "statusCode")


class _Draft(dict[str, Any]):
    """A resource that is being changed, and the revision that it was taken from."""

    revision: int


def _until_it_holds(operation: _Operation) -> _Operation:
    """Methods of one resource are kept together: an operation begins anew when another was quicker."""

    @functools.wraps(operation)
    async def run(self: Methods, call: Call, input: Input) -> Output:
        while True:
            try:
                return await operation(self, call, input)
            except Conflict:
                continue

    return run


class Methods(Shared):
    """The operations on resources, methods, integrations and their responses."""

    async def CreateResource(self, call: Call, input: Input) -> Output:
        api_id, part = input["restApiId"], input["pathPart"]
        parent = self._resource(call, api_id, input["parentId"])
        if not PATH_PART.fullmatch(part):
            raise AwsError(
                "BadRequestException",
                "Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and curly braces at the "
                "beginning and the end.",
            )
        if parent["path"].endswith("+}"):
            raise AwsError(
                "BadRequestException",
                f"Cannot create a child of a resource with a greedy path variable: {parent['pathPart']}",
            )
        path = f"{parent['path'].rstrip('/')}/{part}"
        self._check_siblings(call, api_id, parent["id"], part)
        members = {"id": new_id(6), "parentId": parent["id"], "pathPart": part, "path": path}
        await self.db.write(lambda tx: self.tree.put(tx, call.scope, f"{api_id}/{members['id']}", Resource(members)))
        return members

    async def GetResource(self, call: Call, input: Input) -> Output:
        return _shown(self._resource(call, input["restApiId"], input["resourceId"]), input)

    async def GetResources(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        listed = self.tree.list(call.scope, f"{input['restApiId']}/")
        return self.page([_shown(record.value.members, input) for record in listed], input)

    async def UpdateResource(self, call: Call, input: Input) -> Output:
        current = self._resource(call, input["restApiId"], input["resourceId"])
        operations = input.get("patchOperations") or []
        patch.check_replaced(operations, "/parentId", "/pathPart")
        if current["path"] == "/" and operations:
            raise AwsError("BadRequestException", f"Root resource cannot update its {operations[0]['path'][1:]}.")
        members = patch.apply(current, operations)
        listed = [record.value.members for record in self.tree.list(call.scope, f"{input['restApiId']}/")]
        parent = next((resource for resource in listed if resource["id"] == members.get("parentId")), None)
        if parent is None:
            raise AwsError("NotFoundException", "Invalid Resource identifier specified")
        if f"{parent['path']}/".startswith(f"{current['path']}/"):
            raise AwsError("BadRequestException", "Resources cannot be cyclical.")
        self._check_siblings(call, input["restApiId"], parent["id"], members["pathPart"], members["id"])
        members["path"] = f"{parent['path'].rstrip('/')}/{members['pathPart']}"
        old, new = current["path"] + "/", members["path"] + "/"

        def work(tx: Tx) -> None:
            self._put(tx, call, input["restApiId"], members)
            for resource in listed:
                if resource["path"].startswith(old):
                    self._put(tx, call, input["restApiId"], {**resource, "path": new + resource["path"][len(old) :]})

        await self.db.write(work)
        return members

    async def DeleteResource(self, call: Call, input: Input) -> Output:
        api_id = input["restApiId"]
        resource = self._resource(call, api_id, input["resourceId"])
        if resource["path"] == "/":
            raise AwsError("BadRequestException", "Cannot delete root resource")
        below = resource["path"] + "/"

        def work(tx: Tx) -> None:
            for record in self.tree.list(call.scope, f"{api_id}/", tx):
                if record.value.members["id"] == resource["id"] or record.value.members["path"].startswith(below):
                    self.tree.delete(tx, call.scope, record.name)

        await self.db.write(work)
        return {}

    # Methods

    @_until_it_holds
    async def PutMethod(self, call: Call, input: Input) -> Output:
        resource = self._draft(call, input)
        verb = input["httpMethod"].upper()
        if verb not in _VERBS:
            options = ",".join(_VERBS)
            raise AwsError("BadRequestException", f"Invalid HttpMethod specified. Valid options are {options}")
        if verb in (resource.get("resourceMethods") or {}):
            raise AwsError("ConflictException", "Method already exists for this resource")
        self._check_method(call, input["restApiId"], input)
        method = {"apiKeyRequired": False, **{k: v for k, v in input.items() if k not in _OWN}, "httpMethod": verb}
        resource.setdefault("resourceMethods", {})[verb] = method
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return method

    async def GetMethod(self, call: Call, input: Input) -> Output:
        return self._method(call, input)[1]

    @_until_it_holds
    async def UpdateMethod(self, call: Call, input: Input) -> Output:
        resource, method = self._method(call, input)
        changed = patch.apply(method, input.get("patchOperations"))
        self._check_method(call, input["restApiId"], changed)
        resource["resourceMethods"][method["httpMethod"]] = changed
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return changed

    @_until_it_holds
    async def DeleteMethod(self, call: Call, input: Input) -> Output:
        resource, method = self._method(call, input)
        del resource["resourceMethods"][method["httpMethod"]]
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return {}

    @_until_it_holds
    async def PutMethodResponse(self, call: Call, input: Input) -> Output:
        resource, method = self._method(call, input)
        response = {**{k: v for k, v in input.items() if k not in _OWN}, "statusCode": input["statusCode"]}
        if input["statusCode"] in method.get("methodResponses", {}):
            raise AwsError("ConflictException", "Response already exists for this resource")
        method.setdefault("methodResponses", {})[input["statusCode"]] = response
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return response

    async def GetMethodResponse(self, call: Call, input: Input) -> Output:
        return _response(self._method(call, input)[1].get("methodResponses"), input)

    @_until_it_holds
    async def UpdateMethodResponse(self, call: Call, input: Input) -> Output:
        resource, method = self._method(call, input)
        changed = patch.apply(_response(method.get("methodResponses"), input), input.get("patchOperations"))
        method["methodResponses"][input["statusCode"]] = changed
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return changed

    @_until_it_holds
    async def DeleteMethodResponse(self, call: Call, input: Input) -> Output:
        resource, method = self._method(call, input)
        _response(method.get("methodResponses"), input)
        del method["methodResponses"][input["statusCode"]]
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return {}

    # Integrations

    @_until_it_holds
    async def PutIntegration(self, call: Call, input: Input) -> Output:
        resource, method = self._method(call, input)
        kept = {key: value for key, value in input.items() if key not in (*_OWN, "integrationHttpMethod")}
        if "integrationHttpMethod" in input:
            kept["httpMethod"] = input["integrationHttpMethod"]
        integration = self.check_integration(kept, resource["id"])
        if responses := (method.get("methodIntegration") or {}).get("integrationResponses"):
            integration["integrationResponses"] = responses
        method["methodIntegration"] = integration
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return integration

    async def GetIntegration(self, call: Call, input: Input) -> Output:
        return self._integration(call, input)[1]

    @_until_it_holds
    async def UpdateIntegration(self, call: Call, input: Input) -> Output:
        resource, integration = self._integration(call, input)
        changed = self.check_integration(patch.apply(integration, input.get("patchOperations")), resource["id"])
        resource["resourceMethods"][input["httpMethod"].upper()]["methodIntegration"] = changed
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return changed

    @_until_it_holds
    async def DeleteIntegration(self, call: Call, input: Input) -> Output:
        resource, _ = self._integration(call, input)
        del resource["resourceMethods"][input["httpMethod"].upper()]["methodIntegration"]
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return {}

    @_until_it_holds
    async def PutIntegrationResponse(self, call: Call, input: Input) -> Output:
        resource, integration = self._integration(call, input)
        response = {**{k: v for k, v in input.items() if k not in _OWN}, "statusCode": input["statusCode"]}
        integration.setdefault("integrationResponses", {})[input["statusCode"]] = response
        self.check_integration(integration, resource["id"])
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return response

    async def GetIntegrationResponse(self, call: Call, input: Input) -> Output:
        return _response(self._integration(call, input)[1].get("integrationResponses"), input)

    @_until_it_holds
    async def UpdateIntegrationResponse(self, call: Call, input: Input) -> Output:
        resource, integration = self._integration(call, input)
        changed = patch.apply(_response(integration.get("integrationResponses"), input), input.get("patchOperations"))
        integration["integrationResponses"][input["statusCode"]] = changed
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return changed

    @_until_it_holds
    async def DeleteIntegrationResponse(self, call: Call, input: Input) -> Output:
        resource, integration = self._integration(call, input)
        _response(integration.get("integrationResponses"), input)
        del integration["integrationResponses"][input["statusCode"]]
        await self.db.write(lambda tx: self._put(tx, call, input["restApiId"], resource))
        return {}

    def _check_method(self, call: Call, api_id: str, method: dict[str, Any]) -> None:
        """Raises BadRequestException and NotImplemented."""
        names = [name.split(".", 3)[-1] for name in method.get("requestParameters") or {}]
        if len(names) != len(set(names)):
            raise AwsError("BadRequestException", "Parameter names must be unique across querystring, header and path")
        validator = method.get("requestValidatorId")
        if validator and self.validators.get(call.scope, f"{api_id}/{validator}") is None:
            raise AwsError("BadRequestException", "Invalid Request Validator identifier specified")
        for model in (method.get("requestModels") or {}).values():
            if self.models.get(call.scope, f"{api_id}/{model}") is None:
                raise AwsError("BadRequestException", f"Invalid model identifier specified: {model}")
        if method["authorizationType"] == "CUSTOM":
            if self.authorizers.get(call.scope, f"{api_id}/{method.get('authorizerId', '')}") is None:
                raise AwsError(
                    "BadRequestException",
                    "Invalid authorizer ID specified. Setting the authorization type to CUSTOM or COGNITO_USER_POOLS "
                    "requires a valid authorizer.",
                )
        elif method["authorizationType"] == "COGNITO_USER_POOLS":
            raise not_implemented("REST API methods with authorizationType COGNITO_USER_POOLS")

    def check_integration(self, integration: dict[str, Any], resource_id: str) -> dict[str, Any]:
        """An integration with its defaults. Raises BadRequestException and NotImplemented."""
        kind = integration.get("type")
        if kind not in _TYPES:
            raise AwsError("BadRequestException", "Enumeration value for Type must be one of: " + ", ".join(_TYPES))
        if integration.get("connectionType", "INTERNET") != "INTERNET":
            raise not_implemented("REST API integrations with connectionType VPC_LINK")
        if kind != "MOCK" and not integration.get("uri"):
            raise AwsError("BadRequestException", "Invalid HTTP endpoint specified for URI")
        if kind == "AWS_PROXY" and ":lambda:" not in integration["uri"]:
            raise not_implemented("REST API integrations of type AWS_PROXY with another service than Lambda")
        if kind != "MOCK" and not integration.get("httpMethod"):
            raise AwsError("BadRequestException", "Enumeration value for HttpMethod must be non-empty")
        if kind == "AWS" and not (":lambda:" in integration["uri"] or aws.URI.fullmatch(integration["uri"])):
            raise AwsError("BadRequestException", "Invalid ARN specified in the request")
        if integration.get("responseTransferMode", "BUFFERED") != "BUFFERED":
            raise not_implemented("REST API integrations with responseTransferMode STREAM")
        templates = list((integration.get("requestTemplates") or {}).values())
        for response in (integration.get("integrationResponses") or {}).values():
            templates += (response.get("responseTemplates") or {}).values()
        for template in templates:
            try:
                compiled(template or "")
            except TemplateError as error:
                raise AwsError("BadRequestException", f"Invalid mapping template: {error}") from None
        return {
            "passthroughBehavior": "WHEN_NO_MATCH",
            "timeoutInMillis": 29000,
            "cacheNamespace": resource_id,
            "cacheKeyParameters": [],
            **integration,
        }

    def resource_at(self, tx: Tx, call: Call, api: dict[str, Any], path: str) -> dict[str, Any]:
        """The resource of a path, made with its parents where they are missing."""
        listed = self.tree.list(call.scope, f"{api['id']}/", tx)
        known = {record.value.members["path"]: record.value.members for record in listed}
        current = known["/"]
        for part in [part for part in path.split("/") if part]:
            below = f"{current['path'].rstrip('/')}/{part}"
            if below not in known:
                known[below] = {"id": new_id(6), "parentId": current["id"], "pathPart": part, "path": below}
                self._put(tx, call, api["id"], known[below])
            current = known[below]
        return current

    def _put(self, tx: Tx, call: Call, api_id: str, resource: dict[str, Any]) -> None:
        """Store a resource; a draft only if nobody else has changed it since it was taken. Raises Conflict."""
        revision = resource.revision if isinstance(resource, _Draft) else None
        self.tree.put(tx, call.scope, f"{api_id}/{resource['id']}", Resource(dict(resource)), revision)

    def _check_siblings(self, call: Call, api_id: str, parent: str, part: str, own_id: str = "") -> None:
        """Refuse a path part beside which it cannot stand. Raises BadRequestException and ConflictException."""
        for record in self.tree.list(call.scope, f"{api_id}/"):
            sibling = record.value.members
            if sibling.get("parentId") != parent or sibling["id"] == own_id:
                continue
            if sibling["pathPart"] == part:
                raise AwsError(
                    "ConflictException", f"Another resource with the same parent already has this name: {part}"
                )
            if part.startswith("{") and sibling["pathPart"].startswith("{"):
                raise AwsError(
                    "BadRequestException",
                    f"A sibling ({sibling['pathPart']}) of this resource already has a variable path part -- only one "
                    "is allowed",
                )

    def _draft(self, call: Call, input: Input) -> _Draft:
        self._resource(call, input["restApiId"], input["resourceId"])
        record = self.tree.get(call.scope, f"{input['restApiId']}/{input['resourceId']}")
        assert record is not None
        draft = _Draft(copy.deepcopy(record.value.members))
        draft.revision = record.revision
        return draft

    def _resource(self, call: Call, api_id: str, resource_id: str) -> dict[str, Any]:
        return self.found(self.tree, call, api_id, resource_id, "Resource")

    def _method(self, call: Call, input: Input) -> tuple[dict[str, Any], dict[str, Any]]:
        """A copy of a resource, and the method in it."""
        resource = self._draft(call, input)
        method = (resource.get("resourceMethods") or {}).get(input["httpMethod"].upper())
        if method is None:
            raise AwsError("NotFoundException", "Invalid Method identifier specified")
        return resource, method

    def _integration(self, call: Call, input: Input) -> tuple[dict[str, Any], dict[str, Any]]:
        resource, method = self._method(call, input)
        integration = method.get("methodIntegration")
        if integration is None:
            raise AwsError("NotFoundException", "Invalid Integration identifier specified")
        return resource, integration


def _response(responses: dict[str, Any] | None, input: Input) -> dict[str, Any]:
    found: dict[str, Any] | None = (responses or {}).get(input["statusCode"])
    if found is None:
        raise AwsError("NotFoundException", "Invalid Response status code specified")
    return found


def _shown(resource: dict[str, Any], input: Input) -> dict[str, Any]:
    """A resource as it is listed: its methods' names, or all of them where ``embed=methods`` asks for it."""
    methods = resource.get("resourceMethods")
    if not methods:
        return {key: value for key, value in resource.items() if key != "resourceMethods"}
    return (
        resource
        if "methods" in (input.get("embed") or [])
        else {**resource, "resourceMethods": {verb: {} for verb in methods}}
    )
