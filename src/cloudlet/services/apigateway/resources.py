"""CloudFormation's types of REST APIs."""

from __future__ import annotations

import json
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.apigateway.resource_stages import Deployment, Stage
from cloudlet.services.apigateway.stacking import Type, as_text, lower
from cloudlet.stacks.api import Deployment as Deploying
from cloudlet.stacks.api import Physical, Properties, tags_of

_DEFINITION = ("Body", "BodyS3Location", "Parameters", "Mode", "FailOnWarnings")


class RestApi(Type):
    type = "AWS::ApiGateway::RestApi"
    refuses = frozenset(("CloneFrom",))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        _check_access(self.type, properties)
        body = await _body(do, properties)
        if body is not None:
            parameters = properties.get("Parameters")
            made = await self._call(do, "ImportRestApi", body=body, parameters=parameters)
            await do.initiated(made["id"])
            await self._set(do, made["id"], properties)
            await self._retag(do, f"restapis/{made['id']}", properties)
        else:
            given = {lower(key): value for key, value in properties.items() if key not in (*_DEFINITION, "Tags")}
            if "policy" in given and not isinstance(given["policy"], str):
                given["policy"] = json.dumps(given["policy"])
            if "endpointConfiguration" in given:
                given["endpointConfiguration"] = _lowered(given["endpointConfiguration"])
            if "apiKeySourceType" in given:
                given["apiKeySource"] = given.pop("apiKeySourceType")
            given.setdefault("name", do.name(128))
            made = await self._call(do, "CreateRestApi", **given, tags=tags_of(do, properties))
        return Physical(made["id"], {"RestApiId": made["id"], "RootResourceId": made["rootResourceId"]})

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        _check_access(self.type, new)
        body = await _body(do, new)
        if body is not None:
            mode = new.get("Mode", "overwrite")
            await self._call(do, "PutRestApi", restApiId=physical.id, body=body, mode=mode)
        removed = [
            {"op": "remove", "path": f"/{lower(key)}"}
            for key in ("Description", "Policy", "MinimumCompressionSize")
            if key in old and key not in new
        ]
        kept = set(new.get("BinaryMediaTypes") or ())
        for kind in old.get("BinaryMediaTypes") or []:
            if kind not in kept:
                removed.append({"op": "remove", "path": "/binaryMediaTypes/" + kind.replace("/", "~1")})
        if removed:
            await self._call(do, "UpdateRestApi", restApiId=physical.id, patchOperations=removed)
        await self._set(do, physical.id, new)
        await self._retag(do, f"restapis/{physical.id}", new)
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        await self._gone(do, "DeleteRestApi", restApiId=physical.id)

    async def _set(self, do: Deploying, api_id: str, properties: Properties) -> None:
        """What stands beside a definition counts over it."""
        operations = []
        for key in _BESIDE:
            if key in properties:
                path = "apiKeySource" if key == "ApiKeySourceType" else lower(key)
                operations.append({"op": "replace", "path": f"/{path}", "value": as_text(properties[key])})
        if "Policy" in properties:
            policy = properties["Policy"]
            text = policy if isinstance(policy, str) else json.dumps(policy)
            operations.append({"op": "replace", "path": "/policy", "value": text})
        for kind in properties.get("BinaryMediaTypes") or []:
            path = "/binaryMediaTypes/" + kind.replace("/", "~1")
            operations.append({"op": "add", "path": path})
        for kind in (properties.get("EndpointConfiguration") or {}).get("Types") or []:
            operations.append({"op": "replace", "path": "/endpointConfiguration/types/EDGE", "value": kind})
        if operations:
            await self._call(do, "UpdateRestApi", restApiId=api_id, patchOperations=operations)


_BESIDE = (
    *("Name", "Description", "ApiKeySourceType", "DisableExecuteApiEndpoint", "MinimumCompressionSize"),
    "SecurityPolicy",
)


def _check_access(type: str, properties: Properties) -> None:
    for key, default in (("EndpointAccessMode", "BASIC"), ("RoutingMode", "BASE_PATH_MAPPING_ONLY")):
        if properties.get(key, default) != default:
            raise not_implemented(f"{type} with {key} {properties[key]}")


class Resource(Type):
    type = "AWS::ApiGateway::Resource"
    required = frozenset(("RestApiId", "ParentId", "PathPart"))
    replaces = frozenset(("RestApiId", "ParentId", "PathPart"))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        made = await self._call(do, "CreateResource", **{lower(key): value for key, value in properties.items()})
        return Physical(made["id"], {"ResourceId": made["id"]})

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        await self._gone(do, "DeleteResource", restApiId=properties["RestApiId"], resourceId=physical.id)


class Method(Type):
    type = "AWS::ApiGateway::Method"
    required = frozenset(("RestApiId", "ResourceId", "HttpMethod"))
    replaces = frozenset(("RestApiId", "ResourceId", "HttpMethod"))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        where = _where(properties)
        own = {
            lower(key): value
            for key, value in properties.items()
            if key not in ("RestApiId", "ResourceId", "HttpMethod", "Integration", "MethodResponses")
        }
        own.setdefault("authorizationType", "NONE")
        if "requestParameters" in own:
            own["requestParameters"] = {key: _bool(value) for key, value in own["requestParameters"].items()}
        await self._call(do, "PutMethod", **where, **own)
        id = f"{properties['RestApiId']}-{properties['ResourceId']}-{properties['HttpMethod']}"
        await do.initiated(id)
        for response in properties.get("MethodResponses") or []:
            given = {lower(key): value for key, value in response.items()}
            if "responseParameters" in given:
                given["responseParameters"] = {key: _bool(value) for key, value in given["responseParameters"].items()}
            await self._call(do, "PutMethodResponse", **where, **{**given, "statusCode": str(given["statusCode"])})
        if integration := properties.get("Integration"):
            given = {lower(key): value for key, value in integration.items() if key != "IntegrationResponses"}
            if "timeoutInMillis" in given:
                given["timeoutInMillis"] = int(given["timeoutInMillis"])
            await self._call(do, "PutIntegration", **where, **given)
            for response in integration.get("IntegrationResponses") or []:
                given = {lower(key): value for key, value in response.items()}
                await self._call(
                    do, "PutIntegrationResponse", **where, **{**given, "statusCode": str(given["statusCode"])}
                )
        return Physical(id)

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        await self.delete(do, physical, old)
        return await self.create(do, new)

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        await self._gone(do, "DeleteMethod", **_where(properties))


class Authorizer(Type):
    type = "AWS::ApiGateway::Authorizer"
    required = frozenset(("RestApiId", "Name", "Type"))
    replaces = frozenset(("RestApiId",))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        given = {lower(key): value for key, value in properties.items()}
        if "authorizerResultTtlInSeconds" in given:
            given["authorizerResultTtlInSeconds"] = int(given["authorizerResultTtlInSeconds"])
        made = await self._call(do, "CreateAuthorizer", **given)
        return Physical(made["id"], {"AuthorizerId": made["id"]})

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        operations = [
            {"op": "replace", "path": f"/{lower(key)}", "value": as_text(value)}
            for key, value in new.items()
            if key != "RestApiId" and old.get(key) != value
        ]
        where = {"restApiId": new["RestApiId"], "authorizerId": physical.id}
        await self._call(do, "UpdateAuthorizer", **where, patchOperations=operations)
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        await self._gone(do, "DeleteAuthorizer", restApiId=properties["RestApiId"], authorizerId=physical.id)


class Model(Type):
    type = "AWS::ApiGateway::Model"
    required = frozenset(("RestApiId",))
    replaces = frozenset(("RestApiId", "Name", "ContentType"))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        given = {lower(key): value for key, value in properties.items()}
        given.setdefault("name", do.name(64).replace("-", ""))
        given.setdefault("contentType", "application/json")
        given["schema"] = _schema(properties)
        made = await self._call(do, "CreateModel", **given)
        return Physical(made["name"])

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        operations = [{"op": "replace", "path": "/schema", "value": _schema(new)}]
        if "Description" in new:
            operations.append({"op": "replace", "path": "/description", "value": new["Description"]})
        where = {"restApiId": new["RestApiId"], "modelName": physical.id}
        await self._call(do, "UpdateModel", **where, patchOperations=operations)
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        await self._gone(do, "DeleteModel", restApiId=properties["RestApiId"], modelName=physical.id)


class RequestValidator(Type):
    type = "AWS::ApiGateway::RequestValidator"
    required = frozenset(("RestApiId",))
    replaces = frozenset(("RestApiId", "Name"))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        made = await self._call(do, "CreateRequestValidator", **self._given(properties))
        return Physical(made["id"], {"RequestValidatorId": made["id"]})

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        operations = [
            {"op": "replace", "path": f"/{key}", "value": as_text(value)}
            for key, value in self._given(new).items()
            if key.startswith("validate")
        ]
        where = {"restApiId": new["RestApiId"], "requestValidatorId": physical.id}
        await self._call(do, "UpdateRequestValidator", **where, patchOperations=operations)
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        where = {"restApiId": properties["RestApiId"], "requestValidatorId": physical.id}
        await self._gone(do, "DeleteRequestValidator", **where)

    def _given(self, properties: Properties) -> Properties:
        return {lower(key): _bool(value) if key.startswith("Validate") else value for key, value in properties.items()}


class GatewayResponse(Type):
    type = "AWS::ApiGateway::GatewayResponse"
    required = frozenset(("RestApiId", "ResponseType"))
    replaces = frozenset(("RestApiId", "ResponseType"))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        given = {lower(key): value for key, value in properties.items()}
        if "statusCode" in given:
            given["statusCode"] = str(given["statusCode"])
        await self._call(do, "PutGatewayResponse", **given)
        return Physical(f"{properties['RestApiId']}|{properties['ResponseType']}")

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        return await self.create(do, new)

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        where = {"restApiId": properties["RestApiId"], "responseType": properties["ResponseType"]}
        await self._gone(do, "DeleteGatewayResponse", **where)


class ApiKey(Type):
    type = "AWS::ApiGateway::ApiKey"
    replaces = frozenset(("Name", "Value", "GenerateDistinctId"))
    refuses = frozenset(("StageKeys",))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        given = {lower(key): value for key, value in properties.items() if key not in ("Tags", "StageKeys")}
        given.setdefault("name", do.name(64))
        if "enabled" in given:
            given["enabled"] = _bool(given["enabled"])
        made = await self._call(do, "CreateApiKey", **given, tags=tags_of(do, properties))
        return Physical(made["id"], {"APIKeyId": made["id"]})

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        operations = [
            {"op": "replace", "path": f"/{lower(key)}", "value": as_text(new[key])}
            for key in ("Enabled", "Description", "CustomerId")
            if key in new and old.get(key) != new[key]
        ]
        await self._call(do, "UpdateApiKey", apiKey=physical.id, patchOperations=operations)
        await self._retag(do, f"apikeys/{physical.id}", new)
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        await self._gone(do, "DeleteApiKey", apiKey=physical.id)


class UsagePlan(Type):
    type = "AWS::ApiGateway::UsagePlan"

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        made = await self._call(
            do,
            "CreateUsagePlan",
            name=properties.get("UsagePlanName") or do.name(64),
            description=properties.get("Description"),
            apiStages=[_lowered(stage) for stage in properties.get("ApiStages") or []],
            throttle=_numbers(properties.get("Throttle")),
            quota=_numbers(properties.get("Quota")),
            tags=tags_of(do, properties),
        )
        return Physical(made["id"], {"Id": made["id"]})

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        operations: list[dict[str, Any]] = []
        before = {f"{stage['ApiId']}:{stage['Stage']}" for stage in old.get("ApiStages") or []}
        after = {f"{stage['ApiId']}:{stage['Stage']}" for stage in new.get("ApiStages") or []}
        operations += [{"op": "remove", "path": "/apiStages", "value": stage} for stage in sorted(before - after)]
        operations += [{"op": "add", "path": "/apiStages", "value": stage} for stage in sorted(after - before)]
        for key, path in (("UsagePlanName", "name"), ("Description", "description")):
            if key in new:
                operations.append({"op": "replace", "path": f"/{path}", "value": new[key]})
        for group in ("Throttle", "Quota"):
            for key, value in (new.get(group) or {}).items():
                operations.append({"op": "replace", "path": f"/{lower(group)}/{lower(key)}", "value": as_text(value)})
        await self._call(do, "UpdateUsagePlan", usagePlanId=physical.id, patchOperations=operations)
        await self._retag(do, f"usageplans/{physical.id}", new)
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        operations = [
            {"op": "remove", "path": "/apiStages", "value": f"{stage['ApiId']}:{stage['Stage']}"}
            for stage in properties.get("ApiStages") or []
        ]
        try:
            await self._call(do, "UpdateUsagePlan", usagePlanId=physical.id, patchOperations=operations)
        except AwsError as error:
            if error.code != "NotFoundException":
                raise
        await self._gone(do, "DeleteUsagePlan", usagePlanId=physical.id)


class UsagePlanKey(Type):
    type = "AWS::ApiGateway::UsagePlanKey"
    required = frozenset(("KeyId", "KeyType", "UsagePlanId"))
    replaces = frozenset(("KeyId", "KeyType", "UsagePlanId"))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        given = {lower(key): value for key, value in properties.items()}
        try:
            await self._call(do, "CreateUsagePlanKey", **given)
        except AwsError as error:
            if error.code != "ConflictException":
                raise
        id = f"{properties['KeyId']}:{properties['UsagePlanId']}"
        return Physical(id, {"Id": id})

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        where = {"usagePlanId": properties["UsagePlanId"], "keyId": properties["KeyId"]}
        await self._gone(do, "DeleteUsagePlanKey", **where)


class DomainName(Type):
    type = "AWS::ApiGateway::DomainName"
    required = frozenset(("DomainName",))
    replaces = frozenset(("DomainName",))
    refuses = frozenset(("MutualTlsAuthentication",))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        given = {lower(key): value for key, value in properties.items() if key != "Tags"}
        if "endpointConfiguration" in given:
            given["endpointConfiguration"] = _lowered(given["endpointConfiguration"])
        made = await self._call(do, "CreateDomainName", **given, tags=tags_of(do, properties))
        attributes = {
            "DomainNameArn": f"arn:aws:apigateway:{do.region}::/domainnames/{made['domainName']}",
            "RegionalDomainName": made.get("regionalDomainName", ""),
            "RegionalHostedZoneId": made.get("regionalHostedZoneId", ""),
        }
        return Physical(made["domainName"], attributes)

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        _check_access(self.type, new)
        operations = [
            {"op": "replace", "path": f"/{lower(key)}", "value": new[key]}
            for key in _OF_DOMAIN
            if key in new and old.get(key) != new[key]
        ]
        operations += [
            {"op": "remove", "path": f"/{lower(key)}"} for key in _OF_DOMAIN if key in old and key not in new
        ]
        before, after = ((one.get("EndpointConfiguration") or {}).get("Types") or ["EDGE"] for one in (old, new))
        if before != after:
            path = f"/endpointConfiguration/types/{before[0]}"
            operations.append({"op": "replace", "path": path, "value": after[0]})
        if operations:
            await self._call(do, "UpdateDomainName", domainName=physical.id, patchOperations=operations)
        await self._retag(do, f"domainnames/{physical.id}", new)
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        await self._gone(do, "DeleteDomainName", domainName=physical.id)


_OF_DOMAIN = ("CertificateArn", "OwnershipVerificationCertificateArn", "RegionalCertificateArn", "SecurityPolicy")


class BasePathMapping(Type):
    type = "AWS::ApiGateway::BasePathMapping"
    required = frozenset(("DomainName",))
    replaces = frozenset(("DomainName", "BasePath"))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        given = {lower(key): value for key, value in properties.items() if key != "Id"}
        await self._call(do, "CreateBasePathMapping", **given)
        return Physical(f"{properties['DomainName']}|{properties.get('BasePath') or '(none)'}")

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        path = new.get("BasePath") or "(none)"
        operations = [
            {"op": "replace", "path": f"/{lower(key)}", "value": new[key]}
            for key in ("RestApiId", "Stage")
            if key in new and old.get(key) != new[key]
        ]
        if "Stage" in old and "Stage" not in new:
            operations.append({"op": "remove", "path": "/stage"})
        where = {"domainName": new["DomainName"], "basePath": path}
        await self._call(do, "UpdateBasePathMapping", **where, patchOperations=operations)
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        path = properties.get("BasePath") or "(none)"
        await self._gone(do, "DeleteBasePathMapping", domainName=properties["DomainName"], basePath=path)


class Account(Type):
    """The account's settings; there is one account, so that deleting this leaves it as it is."""

    type = "AWS::ApiGateway::Account"

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        if role := properties.get("CloudWatchRoleArn"):
            operation = {"op": "replace", "path": "/cloudwatchRoleArn", "value": role}
            await self._call(do, "UpdateAccount", patchOperations=[operation])
        return Physical(do.name(64), {"Id": do.name(64)})

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        await self.create(do, new)
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        return None


def _lowered(value: Any) -> Any:
    return {lower(key): item for key, item in value.items()} if isinstance(value, dict) else value


def _numbers(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is None:
        return None
    kinds = {"BurstLimit": int, "Limit": int, "Offset": int, "RateLimit": float}
    return {lower(key): kinds.get(key, str)(item) for key, item in value.items()}


def _where(properties: Properties) -> dict[str, str]:
    return {
        "restApiId": properties["RestApiId"],
        "resourceId": properties["ResourceId"],
        "httpMethod": properties["HttpMethod"],
    }


def _bool(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() == "true"


def _schema(properties: Properties) -> str:
    schema = properties.get("Schema", {})
    return schema if isinstance(schema, str) else json.dumps(schema)


async def _body(do: Deploying, properties: Properties) -> bytes | None:
    if "Body" in properties:
        body = properties["Body"]
        return body.encode() if isinstance(body, str) else json.dumps(body).encode()
    if "BodyS3Location" in properties:
        place = properties["BodyS3Location"]
        found = await do.call("s3", "GetObject", {"Bucket": place["Bucket"], "Key": place["Key"]})
        content = found["Body"]
        return content if isinstance(content, bytes) else b"".join([chunk async for chunk in content])
    return None


TYPES = [
    RestApi,
    Resource,
    Method,
    Deployment,
    Stage,
    Authorizer,
    Model,
    RequestValidator,
    GatewayResponse,
    ApiKey,
    UsagePlan,
    UsagePlanKey,
    DomainName,
    BasePathMapping,
    Account,
]
