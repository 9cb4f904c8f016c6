"""The parts of an API: routes, integrations, stages, authorizers, and what is the same for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Cloud, Input, Output
from cloudlet.services.apigatewayv2.records import (
    Api,
    ApiMapping,
    Authorizer,
    Deployment,
    DomainName,
    Integration,
    Part,
    Route,
    RouteResponse,
    Stage,
    new_id,
)
from cloudlet.services.apigatewayv2.routes import check_route_key
from cloudlet.store import Database, Record, Resources, Tx

# Kind -> its class, the member that names one, and what a new one has when its creator does not say.
_KINDS: dict[str, tuple[type[Part], str, dict[str, Any]]] = {
    "Route": (Route, "RouteId", {"ApiKeyRequired": False, "AuthorizationType": "NONE"}),
    "RouteResponse": (RouteResponse, "RouteResponseId", {}),
    "Integration": (Integration, "IntegrationId", {"ConnectionType": "INTERNET", "TimeoutInMillis": 30000}),
    "Stage": (Stage, "StageName", {"AutoDeploy": False, "DefaultRouteSettings": {"DetailedMetricsEnabled": False}}),
    "Authorizer": (Authorizer, "AuthorizerId", {}),
    "Deployment": (Deployment, "DeploymentId", {}),
}
_SUBTYPES = ("SQS-SendMessage", "EventBridge-PutEvents", "StepFunctions-StartExecution", "Kinesis-PutRecord")


def no_such(kind: str, name: str) -> AwsError:
    """AWS's answer for something that is not there."""
    return AwsError("NotFoundException", f"Invalid {kind} identifier specified {name}")


class Parts:
    """The operations on an API's parts."""

    db: Database
    cloud: Cloud
    _ids: dict[str, Record[Api]]  # by id, as of the revision
    _ids_of = -1

    def _load(self) -> None:
        self.apis: Resources[Api] = self.db.resources(Api)
        self.domains: Resources[DomainName] = self.db.resources(DomainName)
        self.mappings: Resources[ApiMapping] = self.db.resources(ApiMapping)
        self.kinds: dict[str, Any] = {kind: self.db.resources(entry[0]) for kind, entry in _KINDS.items()}

    def find_api(self, api_id: str) -> Record[Api] | None:
        """An API of whatever account and region: its host name does not say whose it is."""
        if self._ids_of != self.db.revision:
            self._ids, self._ids_of = {record.name: record for record in self.apis.all()}, self.db.revision
        return self._ids.get(api_id)

    def api(self, call: Call, api_id: str) -> Api:
        """An API of the caller's. Raises NotFoundException."""
        record = self.apis.get(call.scope, api_id)
        if record is None:
            raise no_such("API", f"{call.account}:{api_id}")
        return record.value

    def part(self, call: Call, kind: str, api_id: str, name: str) -> dict[str, Any]:
        """A part's members. Raises NotFoundException."""
        record = self.kinds[kind].get(call.scope, f"{api_id}/{name}")
        if record is None:
            raise no_such(kind, name)
        members: dict[str, Any] = record.value.members
        return members

    def parts_of(self, scope: str, kind: str, api_id: str) -> list[dict[str, Any]]:
        """All parts of a kind that an API has now."""
        return [record.value.members for record in self.kinds[kind].list(scope, f"{api_id}/")]

    def snapshot(self, scope: str, api_id: str) -> dict[str, list[dict[str, Any]]]:
        """What a deployment keeps."""
        return {
            kind: self.parts_of(scope, kind, api_id) for kind in ("Route", "RouteResponse", "Integration", "Authorizer")
        }

    def put_part(self, tx: Tx, call: Call, kind: str, api_id: str, members: dict[str, Any]) -> dict[str, Any]:
        """Store a new part under a new id (a stage under its name) and return its members."""
        struct, key, defaults = _KINDS[kind]
        whole = {**defaults, **{name: value for name, value in members.items() if name != "ApiId"}}
        whole.setdefault(key, new_id(7))
        self.kinds[kind].put(tx, call.scope, f"{api_id}/{whole[key]}", struct(whole))
        return whole

    def delete_parts(self, tx: Tx, call: Call, api_id: str, but: Iterable[type[Part]] = ()) -> None:
        """Delete everything that belongs to an API."""
        for kind, (struct, _, _) in _KINDS.items():
            if struct not in but:
                for record in self.kinds[kind].list(call.scope, f"{api_id}/", tx):
                    self.kinds[kind].delete(tx, call.scope, record.name)

    def page(self, kind: str, items: list[dict[str, Any]], input: Input) -> Output:
        """One page of a listing; tokens are positions."""
        first = input.get("NextToken") or "0"
        size = input.get("MaxResults") or "500"
        if not (first.isdigit() and size.isdigit() and int(size) > 0):
            raise AwsError("BadRequestException", "Invalid paging token or page size specified")
        end = int(first) + int(size)
        return {"Items": items[int(first) : end], **({"NextToken": str(end)} if end < len(items) else {})}

    async def _create(self, call: Call, kind: str, input: Input, extra: dict[str, Any] | None = None) -> Output:
        self.api(call, input["ApiId"])
        return await self.db.write(lambda tx: self.put_part(tx, call, kind, input["ApiId"], {**input, **(extra or {})}))

    async def _list(self, call: Call, kind: str, input: Input) -> Output:
        self.api(call, input["ApiId"])
        return self.page(kind, self.parts_of(call.scope, kind, input["ApiId"]), input)

    async def _update(self, call: Call, kind: str, input: Input) -> Output:
        struct, key, _ = _KINDS[kind]
        current = self.part(call, kind, input["ApiId"], input[key])
        members = {**current, **{name: value for name, value in input.items() if name != "ApiId"}}
        name = f"{input['ApiId']}/{input[key]}"
        await self.db.write(lambda tx: self.kinds[kind].put(tx, call.scope, name, struct(members)))
        return members

    async def _delete(self, call: Call, kind: str, input: Input) -> Output:
        key = _KINDS[kind][1]
        self.part(call, kind, input["ApiId"], input[key])
        await self.db.write(lambda tx: self.kinds[kind].delete(tx, call.scope, f"{input['ApiId']}/{input[key]}"))
        return {}

    # Routes

    async def CreateRoute(self, call: Call, input: Input) -> Output:
        key = input["RouteKey"]
        if not self._is_websocket(call, input["ApiId"]):
            check_route_key(key)
        self._check_route(call, input, None)
        return await self._create(call, "Route", input, {"RouteKey": key})

    async def GetRoute(self, call: Call, input: Input) -> Output:
        return self.part(call, "Route", input["ApiId"], input["RouteId"])

    async def GetRoutes(self, call: Call, input: Input) -> Output:
        return await self._list(call, "Route", input)

    async def UpdateRoute(self, call: Call, input: Input) -> Output:
        if "RouteKey" in input and not self._is_websocket(call, input["ApiId"]):
            check_route_key(input["RouteKey"])
        self._check_route(call, input, input["RouteId"])
        return await self._update(call, "Route", input)

    async def DeleteRoute(self, call: Call, input: Input) -> Output:
        for response in self._route_responses(call, input):
            await self._delete(call, "RouteResponse", {**input, "RouteResponseId": response["RouteResponseId"]})
        return await self._delete(call, "Route", input)

    def _is_websocket(self, call: Call, api_id: str) -> bool:
        return bool(self.api(call, api_id).members["ProtocolType"] == "WEBSOCKET")

    # Route responses of WebSocket APIs

    async def CreateRouteResponse(self, call: Call, input: Input) -> Output:
        self.part(call, "Route", input["ApiId"], input["RouteId"])
        if not self._is_websocket(call, input["ApiId"]):
            raise AwsError("BadRequestException", "Route responses are only supported for WEBSOCKET APIs")
        for member in ("ResponseModels", "ResponseParameters", "ModelSelectionExpression"):
            if input.get(member):
                raise not_implemented(f"CreateRouteResponse with {member}")
        if input["RouteResponseKey"] != "$default":
            raise AwsError("BadRequestException", "RouteResponseKey must be $default")
        return await self._create(call, "RouteResponse", input)

    async def GetRouteResponse(self, call: Call, input: Input) -> Output:
        return self.part(call, "RouteResponse", input["ApiId"], input["RouteResponseId"])

    async def GetRouteResponses(self, call: Call, input: Input) -> Output:
        self.part(call, "Route", input["ApiId"], input["RouteId"])
        return self.page("RouteResponse", self._route_responses(call, input), input)

    async def DeleteRouteResponse(self, call: Call, input: Input) -> Output:
        return await self._delete(call, "RouteResponse", input)

    def _route_responses(self, call: Call, input: Input) -> list[dict[str, Any]]:
        found = self.parts_of(call.scope, "RouteResponse", input["ApiId"])
        return [response for response in found if response["RouteId"] == input["RouteId"]]

    def _check_route(self, call: Call, input: Input, own_id: str | None) -> None:
        if self._is_websocket(call, input["ApiId"]):
            for member in ("ApiKeyRequired", "RequestModels", "RequestParameters"):
                if input.get(member):
                    raise not_implemented(f"routes of WebSocket APIs with {member}")
        for route in self.parts_of(call.scope, "Route", input["ApiId"]):
            if route["RouteKey"] == input.get("RouteKey") and route["RouteId"] != own_id:
                raise AwsError("ConflictException", f"Route with key {input['RouteKey']} already exists for this API")
        if target := input.get("Target"):
            if not target.startswith("integrations/"):
                raise AwsError(
                    "BadRequestException", f"Invalid target {target}: integrations/<integration id> is needed"
                )
            self.part(call, "Integration", input["ApiId"], target.removeprefix("integrations/"))
        if input.get("AuthorizationType", "NONE") in ("CUSTOM", "JWT"):
            self.part(call, "Authorizer", input["ApiId"], input.get("AuthorizerId", ""))

    # Integrations

    async def CreateIntegration(self, call: Call, input: Input) -> Output:
        self._check_integration(call, input)
        extra = {"IntegrationMethod": "POST"} if input["IntegrationType"] == "AWS_PROXY" else {}
        return await self._create(call, "Integration", {"PayloadFormatVersion": "1.0", **extra, **input})

    def _check_integration(self, call: Call, input: Input) -> None:
        _check_integration(input, self._is_websocket(call, input["ApiId"]))

    async def GetIntegration(self, call: Call, input: Input) -> Output:
        return self.part(call, "Integration", input["ApiId"], input["IntegrationId"])

    async def GetIntegrations(self, call: Call, input: Input) -> Output:
        return await self._list(call, "Integration", input)

    async def UpdateIntegration(self, call: Call, input: Input) -> Output:
        current = self.part(call, "Integration", input["ApiId"], input["IntegrationId"])
        self._check_integration(call, {**current, **input})
        return await self._update(call, "Integration", _merged(current, input, "RequestParameters"))

    async def DeleteIntegration(self, call: Call, input: Input) -> Output:
        target = f"integrations/{input['IntegrationId']}"
        for route in self.parts_of(call.scope, "Route", input["ApiId"]):
            if route.get("Target") == target:
                raise AwsError(
                    "ConflictException",
                    f"Cannot delete integration {input['IntegrationId']}: it is used by route {route['RouteKey']}",
                )
        return await self._delete(call, "Integration", input)

    # Stages

    async def CreateStage(self, call: Call, input: Input) -> Output:
        self.api(call, input["ApiId"])
        name = input["StageName"]
        _check_stage(input)
        if self.kinds["Stage"].get(call.scope, f"{input['ApiId']}/{name}") is not None:
            raise AwsError("ConflictException", f"Stage already exists: {name}")
        if "DeploymentId" in input:
            self.part(call, "Deployment", input["ApiId"], input["DeploymentId"])
        now = self.cloud.clock.now()
        times = {"CreatedDate": now, "LastUpdatedDate": now}
        return await self._create(
            call, "Stage", {"RouteSettings": {}, "StageVariables": {}, "Tags": {}, **input}, times
        )

    async def GetStage(self, call: Call, input: Input) -> Output:
        return self.part(call, "Stage", input["ApiId"], input["StageName"])

    async def GetStages(self, call: Call, input: Input) -> Output:
        return await self._list(call, "Stage", input)

    async def UpdateStage(self, call: Call, input: Input) -> Output:
        if "DeploymentId" in input:
            self.part(call, "Deployment", input["ApiId"], input["DeploymentId"])
        current = self.part(call, "Stage", input["ApiId"], input["StageName"])
        _check_stage(input)
        merged = _merged(current, _merged(current, input, "StageVariables"), "RouteSettings")
        return await self._update(call, "Stage", {**merged, "LastUpdatedDate": self.cloud.clock.now()})

    async def DeleteStage(self, call: Call, input: Input) -> Output:
        return await self._delete(call, "Stage", input)

    async def DeleteAccessLogSettings(self, call: Call, input: Input) -> Output:
        await self._drop_from_stage(call, input, "AccessLogSettings")
        return {}

    async def DeleteRouteSettings(self, call: Call, input: Input) -> Output:
        settings = dict(self.part(call, "Stage", input["ApiId"], input["StageName"]).get("RouteSettings", {}))
        if settings.pop(input["RouteKey"], None) is None:
            raise no_such("Route", input["RouteKey"])
        stage = {"ApiId": input["ApiId"], "StageName": input["StageName"], "RouteSettings": settings}
        await self._update(call, "Stage", stage)
        return {}

    async def _drop_from_stage(self, call: Call, input: Input, member: str) -> None:
        members = dict(self.part(call, "Stage", input["ApiId"], input["StageName"]))
        members.pop(member, None)
        name = f"{input['ApiId']}/{input['StageName']}"
        await self.db.write(lambda tx: self.kinds["Stage"].put(tx, call.scope, name, Stage(members)))

    # Authorizers

    async def CreateAuthorizer(self, call: Call, input: Input) -> Output:
        _check_authorizer(input, self._is_websocket(call, input["ApiId"]))
        return await self._create(call, "Authorizer", {"AuthorizerResultTtlInSeconds": 0, **input})

    async def GetAuthorizer(self, call: Call, input: Input) -> Output:
        return self.part(call, "Authorizer", input["ApiId"], input["AuthorizerId"])

    async def GetAuthorizers(self, call: Call, input: Input) -> Output:
        return await self._list(call, "Authorizer", input)

    async def UpdateAuthorizer(self, call: Call, input: Input) -> Output:
        current = self.part(call, "Authorizer", input["ApiId"], input["AuthorizerId"])
        _check_authorizer({**current, **input}, self._is_websocket(call, input["ApiId"]))
        return await self._update(call, "Authorizer", input)

    async def DeleteAuthorizer(self, call: Call, input: Input) -> Output:
        return await self._delete(call, "Authorizer", input)

    # Deployments

    async def GetDeployment(self, call: Call, input: Input) -> Output:
        return self.part(call, "Deployment", input["ApiId"], input["DeploymentId"])

    async def GetDeployments(self, call: Call, input: Input) -> Output:
        return await self._list(call, "Deployment", input)

    async def DeleteDeployment(self, call: Call, input: Input) -> Output:
        for stage in self.parts_of(call.scope, "Stage", input["ApiId"]):
            if stage.get("DeploymentId") == input["DeploymentId"]:
                raise AwsError(
                    "BadRequestException",
                    "Active stages pointing to this deployment must be moved or deleted: " + stage["StageName"],
                )
        return await self._delete(call, "Deployment", input)


def _check_integration(input: Input, websocket: bool) -> None:
    kind = input["IntegrationType"]
    if websocket and input.get("ContentHandlingStrategy"):
        raise not_implemented("WebSocket APIs' integrations with ContentHandlingStrategy")
    if websocket and kind == "MOCK":
        return
    if websocket and (kind in ("AWS", "HTTP") or "IntegrationSubtype" in input):
        raise not_implemented(f"WebSocket APIs' integrations of type {kind} with mappings")
    if kind not in ("AWS_PROXY", "HTTP_PROXY"):
        raise AwsError("BadRequestException", f"{kind} is not a valid integration type for an HTTP API")
    if input.get("ConnectionType", "INTERNET") != "INTERNET":
        raise not_implemented("CreateIntegration with ConnectionType VPC_LINK")
    subtype = input.get("IntegrationSubtype")
    if subtype is not None and subtype not in _SUBTYPES:
        raise not_implemented(f"CreateIntegration with IntegrationSubtype {subtype}")
    if subtype is None and not input.get("IntegrationUri"):
        raise AwsError("BadRequestException", "Integration URI is required for this integration type")
    if kind == "HTTP_PROXY" and not input.get("IntegrationMethod"):
        raise AwsError("BadRequestException", "HttpMethod must be specified for HTTP_PROXY integrations")


def _check_stage(input: Input) -> None:
    if input.get("ClientCertificateId"):
        raise not_implemented("CreateStage with ClientCertificateId")
    if ":firehose:" in (input.get("AccessLogSettings") or {}).get("DestinationArn", ""):
        raise not_implemented("access logs of APIs to Firehose")


def _merged(current: dict[str, Any], input: Input, member: str) -> Input:
    """An update's map over the one that there is: an entry is removed by an empty value."""
    if member not in input:
        return input
    whole = {**(current.get(member) or {}), **input[member]}
    return {**input, member: {key: value for key, value in whole.items() if value != ""}}


def _check_authorizer(input: Input, websocket: bool) -> None:
    if input["AuthorizerType"] == "JWT":
        if websocket:
            raise AwsError("BadRequestException", "JWT authorizers are only supported for HTTP APIs")
        if not (input.get("JwtConfiguration") or {}).get("Issuer"):
            raise AwsError("BadRequestException", "Issuer is a required parameter for JWT authorizer")
        return
    if not input.get("AuthorizerUri"):
        raise AwsError("BadRequestException", "Authorizer URI is required for REQUEST authorizers")
    if not websocket and input.get("AuthorizerPayloadFormatVersion", "") not in ("1.0", "2.0"):
        raise AwsError("BadRequestException", "AuthorizerPayloadFormatVersion must be one of 1.0, 2.0")
