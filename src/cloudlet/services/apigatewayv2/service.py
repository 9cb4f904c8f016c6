"""API Gateway v2: HTTP APIs. Operations keep what should be; ``data_plane.py`` answers requests by it."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.services import api
from cloudlet.services.api import Call, Input, Output, Tagged
from cloudlet.services.apigatewayv2.data_plane import DataPlane, message
from cloudlet.services.apigatewayv2.domains import Domains
from cloudlet.services.apigatewayv2.openapi import read_definition
from cloudlet.services.apigatewayv2.parts import Parts, no_such
from cloudlet.services.apigatewayv2.records import Api, Deployment, Part, Stage, new_id
from cloudlet.services.apigatewayv2.routes import check_route_key
from cloudlet.services.fronts.definitions import with_variables
from cloudlet.store import Tx


class Service(Domains, Parts, api.Service):
    """HTTP APIs. The front door for every ``execute-api`` name is here too and hands REST APIs on to ``apigateway``."""

    name = "apigatewayv2"
    refused = {
        "CreateIntegration": "PassthroughBehavior!=WHEN_NO_MATCH RequestTemplates TemplateSelectionExpression",
        "ImportApi": "Basepath!=ignore",
        "ReimportApi": "Basepath!=ignore",
        "UpdateApi": "CredentialsArn RouteKey Target",
        "UpdateIntegration": "PassthroughBehavior!=WHEN_NO_MATCH RequestTemplates TemplateSelectionExpression",
    }

    async def start(self) -> None:
        self.db = await self.cloud.store.database(self.name)
        self._load()
        self.data_plane = DataPlane(self)

    async def serve(self, request: Request, label: str) -> Response:
        """Answer a request to ``<api id>.execute-api``."""
        if "." in label:
            behind = self.behind(label, request.path)
            if behind is None:
                return message(403, "Forbidden")
            label, request.path = behind
        found = self.find_api(label)
        if found is not None:
            return await self.data_plane.answer(request, found)
        rest = await self.cloud.service("apigateway")
        return await rest.serve(request, label)

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        return [
            {
                "type": "AWS::ApiGatewayV2::Api",
                "name": record.value.members["Name"],
                "arn": f"arn:aws:apigateway:{region}::/apis/{record.name}",
                "endpoint": record.value.members["ApiEndpoint"],
            }
            for record in self.apis.list(f"{account}/{region}")
        ]

    # APIs

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        scope, prefix = f"{account}/{region}", f"arn:aws:apigateway:{region}::"
        found = [(f"{prefix}/apis/{one.name}", one.value.members) for one in self.apis.list(scope)]
        found += [(f"{prefix}/domainnames/{one.name}", one.value.members) for one in self.domains.list(scope)]
        for record in self.kinds["Stage"].list(scope):
            api, _, stage = record.name.partition("/")
            found.append((f"{prefix}/apis/{api}/stages/{stage}", record.value.members))
        return [(arn, members.get("Tags", {})) for arn, members in found]

    async def CreateApi(self, call: Call, input: Input) -> Output:
        if input["ProtocolType"] == "WEBSOCKET":
            _check_websocket(input)
        _check_cors(input.get("CorsConfiguration"))
        members = self._new_api(input)
        api_id = members["ApiId"]

        def work(tx: Tx) -> None:
            self.apis.put(tx, call.scope, api_id, Api(members))
            if "Target" in input:
                self._quick_create(tx, call, api_id, input)

        await self.db.write(work)
        return members

    async def GetApi(self, call: Call, input: Input) -> Output:
        return self.api(call, input["ApiId"]).members

    async def GetApis(self, call: Call, input: Input) -> Output:
        return self.page("apis", [record.value.members for record in self.apis.list(call.scope)], input)

    async def UpdateApi(self, call: Call, input: Input) -> Output:
        _check_cors(input.get("CorsConfiguration"))
        current = self.api(call, input["ApiId"]).members
        members = {**current, **input}
        await self.db.write(lambda tx: self.apis.put(tx, call.scope, input["ApiId"], Api(members)))
        return members

    async def DeleteApi(self, call: Call, input: Input) -> Output:
        api_id = input["ApiId"]
        self.api(call, api_id)

        def work(tx: Tx) -> None:
            self.apis.delete(tx, call.scope, api_id)
            self.delete_parts(tx, call, api_id)

        await self.db.write(work)
        return {}

    async def DeleteCorsConfiguration(self, call: Call, input: Input) -> Output:
        members = dict(self.api(call, input["ApiId"]).members)
        members.pop("CorsConfiguration", None)
        await self.db.write(lambda tx: self.apis.put(tx, call.scope, input["ApiId"], Api(members)))
        return {}

    async def ImportApi(self, call: Call, input: Input) -> Output:
        definition = read_definition(with_variables(input["Body"], call.account, call.region))
        members = self._new_api(definition.api)
        await self.db.write(lambda tx: self._put_definition(tx, call, members, definition))
        return members

    async def ReimportApi(self, call: Call, input: Input) -> Output:
        definition = read_definition(with_variables(input["Body"], call.account, call.region))
        current = self.api(call, input["ApiId"]).members
        members = {**{key: value for key, value in current.items() if key != "CorsConfiguration"}, **definition.api}

        def work(tx: Tx) -> None:
            self.delete_parts(tx, call, input["ApiId"], but=(Stage, Deployment))
            self._put_definition(tx, call, members, definition)

        await self.db.write(work)
        return members

    def _new_api(self, input: Input) -> dict[str, Any]:
        api_id = new_id()
        endpoint = self.cloud.door("execute-api", api_id)
        kept = {key: value for key, value in input.items() if key not in ("RouteKey", "Target", "CredentialsArn")}
        return {
            "ApiKeySelectionExpression": "$request.header.x-api-key",
            "RouteSelectionExpression": "$request.method $request.path",
            "DisableExecuteApiEndpoint": False,
            "IpAddressType": "ipv4",
            "ProtocolType": "HTTP",
            "Tags": {},
            **kept,
            "ApiId": api_id,
            "ApiEndpoint": endpoint.replace("http", "ws", 1) if input.get("ProtocolType") == "WEBSOCKET" else endpoint,
            "CreatedDate": self.clock.now(),
        }

    def _put_definition(self, tx: Tx, call: Call, members: dict[str, Any], definition: Any) -> None:
        api_id = members["ApiId"]
        self.apis.put(tx, call.scope, api_id, Api(members))
        authorizers = {
            name: self.put_part(tx, call, "Authorizer", api_id, authorizer)
            for name, authorizer in definition.authorizers.items()
        }
        for route, integration in definition.routes:
            target = self.put_part(tx, call, "Integration", api_id, integration)
            authorizer_name = route.pop("Authorizer", None)
            if authorizer_name is not None:
                if authorizer_name not in authorizers:
                    raise AwsError(
                        "BadRequestException", f"Unable to find authorizer {authorizer_name} in the definition"
                    )
                kind = authorizers[authorizer_name]["AuthorizerType"]
                route["AuthorizerId"] = authorizers[authorizer_name]["AuthorizerId"]
                route["AuthorizationType"] = "CUSTOM" if kind == "REQUEST" else kind
            self.put_part(tx, call, "Route", api_id, {**route, "Target": f"integrations/{target['IntegrationId']}"})

    def _quick_create(self, tx: Tx, call: Call, api_id: str, input: Input) -> None:
        """An API with one route to ``Target`` and a stage that follows it, as quick create makes it."""
        target: str = input["Target"]
        function = target.startswith("arn:")
        integration = self.put_part(
            tx,
            call,
            "Integration",
            api_id,
            {
                "IntegrationType": "AWS_PROXY" if function else "HTTP_PROXY",
                "IntegrationUri": target,
                "PayloadFormatVersion": "2.0" if function else "1.0",
                **({} if function else {"IntegrationMethod": "ANY"}),
                **({"CredentialsArn": input["CredentialsArn"]} if "CredentialsArn" in input else {}),
            },
        )
        route_key = check_route_key(input.get("RouteKey", "$default"))
        route = {"RouteKey": route_key, "Target": f"integrations/{integration['IntegrationId']}"}
        self.put_part(tx, call, "Route", api_id, route)
        self.put_part(tx, call, "Stage", api_id, {"StageName": "$default", "AutoDeploy": True})

    # Deployments and tags

    async def CreateDeployment(self, call: Call, input: Input) -> Output:
        api_id = input["ApiId"]
        self.api(call, api_id)
        stage = input.get("StageName")
        if stage is not None:
            current_stage = self.part(call, "Stage", api_id, stage)
            if current_stage.get("AutoDeploy"):
                raise AwsError("BadRequestException", f"Deployment ID cannot be set on stage {stage} with auto-deploy")
        members = {
            "DeploymentId": new_id(6),
            "DeploymentStatus": "DEPLOYED",
            "AutoDeployed": False,
            "CreatedDate": self.clock.now(),
            **({"Description": input["Description"]} if "Description" in input else {}),
        }

        def work(tx: Tx) -> None:
            record = Deployment(members, self.snapshot(call.scope, api_id))
            self.kinds["Deployment"].put(tx, call.scope, f"{api_id}/{members['DeploymentId']}", record)
            if stage is not None:
                changed = Stage({**current_stage, "DeploymentId": members["DeploymentId"]})
                self.kinds["Stage"].put(tx, call.scope, f"{api_id}/{stage}", changed)

        await self.db.write(work)
        return members

    async def UpdateDeployment(self, call: Call, input: Input) -> Output:
        members = self.part(call, "Deployment", input["ApiId"], input["DeploymentId"])
        if "Description" in input:
            members = {**members, "Description": input["Description"]}
        name = f"{input['ApiId']}/{input['DeploymentId']}"
        record = self.kinds["Deployment"].get(call.scope, name)
        changed = Deployment(members, record.value.snapshot)
        await self.db.write(lambda tx: self.kinds["Deployment"].put(tx, call.scope, name, changed))
        return members

    async def TagResource(self, call: Call, input: Input) -> Output:
        await self._change_tags(call, input["ResourceArn"], lambda tags: {**tags, **input.get("Tags", {})})
        return {}

    async def UntagResource(self, call: Call, input: Input) -> Output:
        gone = set(input["TagKeys"])
        await self._change_tags(
            call, input["ResourceArn"], lambda tags: {k: v for k, v in tags.items() if k not in gone}
        )
        return {}

    async def GetTags(self, call: Call, input: Input) -> Output:
        return {"Tags": self._tagged(call, input["ResourceArn"])[2].members.get("Tags", {})}

    async def _change_tags(self, call: Call, arn: str, change: Any) -> None:
        resources, name, part = self._tagged(call, arn)
        members = {**part.members, "Tags": change(part.members.get("Tags", {}))}
        await self.db.write(lambda tx: resources.put(tx, call.scope, name, type(part)(members)))

    def _tagged(self, call: Call, arn: str) -> tuple[Any, str, Part]:
        """The store, the name and the part that an ARN such as ``…::/apis/<id>/stages/<name>`` means."""
        path = arn.split(":")[-1].strip("/").split("/")
        resources: Any = None
        if path[0] == "apis" and len(path) == 2:
            resources, name = self.apis, path[1]
        elif path[0] == "apis" and len(path) == 4 and path[2] == "stages":
            resources, name = self.kinds["Stage"], f"{path[1]}/{path[3]}"
        elif path[0] == "domainnames" and len(path) == 2:
            resources, name = self.domains, path[1]
        found = resources.get(call.scope, name) if resources is not None else None
        if found is None:
            raise no_such("resource", arn)
        return resources, name, found.value


def _check_websocket(input: Input) -> None:
    if not input.get("RouteSelectionExpression"):
        raise AwsError("BadRequestException", "RouteSelectionExpression is a required parameter for WEBSOCKET APIs")
    for member in ("CorsConfiguration", "Target", "RouteKey", "CredentialsArn"):
        if member in input:
            raise AwsError("BadRequestException", f"{member} is only supported for HTTP APIs")


def _check_cors(cors: dict[str, Any] | None) -> None:
    if cors and cors.get("AllowCredentials") and "*" in cors.get("AllowOrigins", ()):
        raise AwsError(
            "BadRequestException", "Allow-credentials cannot be true if allow-origins is a wildcard: " + json.dumps("*")
        )
