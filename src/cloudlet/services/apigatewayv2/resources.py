"""CloudFormation's types of HTTP APIs."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks.api import Deployment, Physical, Properties, ResourceType, changed, tags_of

_QUICK = ("CredentialsArn", "RouteKey", "Target")  # what makes a first route and its integration
_FROM_DEFINITION = ("Body", "BodyS3Location", "BasePath", "FailOnWarnings", "DisableSchemaValidation")


class Api(ResourceType):
    """An HTTP API, from its properties or from an OpenAPI document."""

    type = "AWS::ApiGatewayV2::Api"
    replaces = frozenset(("ProtocolType",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        if "Body" in properties or "BodyS3Location" in properties:
            made = await do.call(
                "apigatewayv2", "ImportApi", {"Body": await _body(do, properties), **_base_path(properties)}
            )
            await do.initiated(made["ApiId"])
            await self._set(do, made["ApiId"], properties)
        else:
            made = await do.call("apigatewayv2", "CreateApi", {**properties, "Tags": tags_of(do, properties)})
        return _api(do, made)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        if "Body" in new or "BodyS3Location" in new:
            await do.call(
                "apigatewayv2", "ReimportApi", {"ApiId": physical.id, "Body": await _body(do, new), **_base_path(new)}
            )
        if "CorsConfiguration" in old and "CorsConfiguration" not in new and "Body" not in new:
            await do.call("apigatewayv2", "DeleteCorsConfiguration", {"ApiId": physical.id})
        quick = {name: new[name] for name in _QUICK if name in new and changed(old, new, name)}
        await self._set(do, physical.id, new, quick)
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _gone(do, "DeleteApi", {"ApiId": physical.id})

    async def _set(self, do: Deployment, api_id: str, properties: Properties, more: Properties | None = None) -> None:
        """What stands beside a definition counts over it."""
        beside = {
            key: value
            for key, value in properties.items()
            if key not in (*_FROM_DEFINITION, *_QUICK, "ProtocolType", "Tags")
        } | (more or {})
        if beside:
            await do.call("apigatewayv2", "UpdateApi", {"ApiId": api_id, **beside})
        await retag(do, f"arn:aws:apigateway:{do.region}::/apis/{api_id}", tags_of(do, properties))


def _base_path(properties: Properties) -> Properties:
    return {"Basepath": properties["BasePath"]} if "BasePath" in properties else {}


def _api(do: Deployment, made: dict[str, Any]) -> Physical:
    id = made["ApiId"]
    execute = f"arn:aws:execute-api:{do.region}:{do.account}:{id}"
    return Physical(id, {"ApiId": id, "ApiEndpoint": made["ApiEndpoint"], "ExecuteApiArn": execute})


async def _body(do: Deployment, properties: Properties) -> str:
    import json

    if "Body" in properties:
        return json.dumps(properties["Body"])
    place = properties["BodyS3Location"]
    found = await do.call("s3", "GetObject", {"Bucket": place["Bucket"], "Key": place["Key"]})
    body = found["Body"]
    return (body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])).decode()


class _Part(ResourceType):
    """A part of an API: created, updated and deleted by the operations of its kind."""

    kind: str
    key: str
    replaces = frozenset(("ApiId",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        made = await do.call("apigatewayv2", f"Create{self.kind}", self._input(do, properties))
        return self._physical(made)

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        input = {key: value for key, value in self._input(do, new).items() if key != "Tags"}
        made = await do.call("apigatewayv2", f"Update{self.kind}", {**input, self.key: physical.id})
        return self._physical(made)

    async def _retag(self, do: Deployment, arn: str, properties: Properties) -> None:
        await retag(do, arn, tags_of(do, properties))

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _gone(do, f"Delete{self.kind}", {"ApiId": properties["ApiId"], self.key: physical.id})

    def _input(self, do: Deployment, properties: Properties) -> Properties:
        return properties

    def _physical(self, made: dict[str, Any]) -> Physical:
        return Physical(made[self.key], {self.key: made[self.key]})


class Route(_Part):
    type = "AWS::ApiGatewayV2::Route"
    required = frozenset(("ApiId", "RouteKey"))
    kind, key = "Route", "RouteId"


class RouteResponse(_Part):
    type = "AWS::ApiGatewayV2::RouteResponse"
    required = frozenset(("ApiId", "RouteId", "RouteResponseKey"))
    replaces = frozenset(("ApiId", "RouteId", "RouteResponseKey"))
    refuses = frozenset(("ModelSelectionExpression", "ResponseModels", "ResponseParameters"))
    kind, key = "RouteResponse", "RouteResponseId"

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        which = {"ApiId": properties["ApiId"], "RouteId": properties["RouteId"], self.key: physical.id}
        await _gone(do, "DeleteRouteResponse", which)


class Integration(_Part):
    type = "AWS::ApiGatewayV2::Integration"
    required = frozenset(("ApiId", "IntegrationType"))
    replaces = frozenset(("ApiId",))
    kind, key = "Integration", "IntegrationId"

    def _input(self, do: Deployment, properties: Properties) -> Properties:
        number = properties.get("TimeoutInMillis")
        return {**properties, **({"TimeoutInMillis": int(number)} if number is not None else {})}

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        gone = dict.fromkeys(set(old.get("RequestParameters") or ()) - set(new.get("RequestParameters") or ()), "")
        if gone:
            new = {**new, "RequestParameters": {**(new.get("RequestParameters") or {}), **gone}}
        return await super().update(do, physical, old, new)


class Authorizer(_Part):
    type = "AWS::ApiGatewayV2::Authorizer"
    required = frozenset(("ApiId", "AuthorizerType", "Name"))
    kind, key = "Authorizer", "AuthorizerId"


class Deployed(_Part):
    type = "AWS::ApiGatewayV2::Deployment"
    required = frozenset(("ApiId",))
    replaces = frozenset(("ApiId", "StageName"))
    kind, key = "Deployment", "DeploymentId"


class Stage(_Part):
    type = "AWS::ApiGatewayV2::Stage"
    required = frozenset(("ApiId", "StageName"))
    replaces = frozenset(("ApiId", "StageName"))
    kind, key = "Stage", "StageName"

    def _input(self, do: Deployment, properties: Properties) -> Properties:
        return {**properties, "Tags": tags_of(do, properties)}

    def _physical(self, made: dict[str, Any]) -> Physical:
        return Physical(made["StageName"])

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        removed = {name: _EMPTY[name] for name in _EMPTY if name in old and name not in new}
        gone = dict.fromkeys(set(old.get("StageVariables") or ()) - set(new.get("StageVariables") or ()), "")
        if gone:
            removed["StageVariables"] = gone
            new = {**new, "StageVariables": {**(new.get("StageVariables") or {}), **gone}}
        for key in set(old.get("RouteSettings") or ()) - set(new.get("RouteSettings") or ()):
            which = {"ApiId": new["ApiId"], "StageName": new["StageName"], "RouteKey": key}
            await _gone(do, "DeleteRouteSettings", which)
        made = await super().update(do, physical, old, {**removed, **new})
        if "AccessLogSettings" in old and "AccessLogSettings" not in new:
            which = {"ApiId": new["ApiId"], "StageName": new["StageName"]}
            await do.call("apigatewayv2", "DeleteAccessLogSettings", which)
        await self._retag(do, f"arn:aws:apigateway:{do.region}::/apis/{new['ApiId']}/stages/{new['StageName']}", new)
        return made


# What a removed property of a stage goes back to.
_EMPTY: Properties = {
    "AutoDeploy": False,
    "DefaultRouteSettings": {},
    "Description": "",
}


async def retag(do: Deployment, arn: str, tags: dict[str, str]) -> None:
    """Give a resource these tags and no others."""
    before = (await do.call("apigatewayv2", "GetTags", {"ResourceArn": arn})).get("Tags", {})
    if gone := [key for key in before if key not in tags]:
        await do.call("apigatewayv2", "UntagResource", {"ResourceArn": arn, "TagKeys": gone})
    if tags and tags != before:
        await do.call("apigatewayv2", "TagResource", {"ResourceArn": arn, "Tags": tags})


class DomainName(ResourceType):
    type = "AWS::ApiGatewayV2::DomainName"
    required = frozenset(("DomainName",))
    replaces = frozenset(("DomainName",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        input = {**properties, "Tags": tags_of(do, properties)}
        return self._physical(do, await do.call("apigatewayv2", "CreateDomainName", input))

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        made = await do.call("apigatewayv2", "UpdateDomainName", {k: v for k, v in new.items() if k != "Tags"})
        arn = f"arn:aws:apigateway:{do.region}::/domainnames/{physical.id}"
        await retag(do, arn, tags_of(do, new))
        return self._physical(do, made)

    def _physical(self, do: Deployment, made: dict[str, Any]) -> Physical:
        configuration = (made.get("DomainNameConfigurations") or [{}])[0]
        attributes = {
            "DomainName": made["DomainName"],
            "DomainNameArn": f"arn:aws:apigateway:{do.region}::/domainnames/{made['DomainName']}",
            "RegionalDomainName": configuration.get("ApiGatewayDomainName", ""),
            "RegionalHostedZoneId": configuration.get("HostedZoneId", ""),
        }
        return Physical(made["DomainName"], attributes)

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        await _gone(do, "DeleteDomainName", {"DomainName": physical.id})


class ApiMapping(ResourceType):
    type = "AWS::ApiGatewayV2::ApiMapping"
    required = frozenset(("DomainName", "ApiId", "Stage"))
    replaces = frozenset(("DomainName",))

    async def create(self, do: Deployment, properties: Properties) -> Physical:
        made = await do.call("apigatewayv2", "CreateApiMapping", properties)
        return Physical(made["ApiMappingId"], {"ApiMappingId": made["ApiMappingId"]})

    async def update(self, do: Deployment, physical: Physical, old: Properties, new: Properties) -> Physical:
        await do.call("apigatewayv2", "UpdateApiMapping", {**new, "ApiMappingId": physical.id})
        return physical

    async def delete(self, do: Deployment, physical: Physical, properties: Properties) -> None:
        input = {"DomainName": properties["DomainName"], "ApiMappingId": physical.id}
        await _gone(do, "DeleteApiMapping", input)


async def _gone(do: Deployment, operation: str, input: Properties) -> None:
    try:
        await do.call("apigatewayv2", operation, input)
    except AwsError as error:
        if error.code != "NotFoundException":
            raise


TYPES = [Api, Route, RouteResponse, Integration, Authorizer, Deployed, Stage, DomainName, ApiMapping]
