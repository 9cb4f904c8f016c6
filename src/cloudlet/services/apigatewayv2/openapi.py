"""An HTTP API from an OpenAPI 3 document with API Gateway's extensions."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from cloudlet.errors import AwsError

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "x-amazon-apigateway-any-method")

# The extension's member -> the API's member.
_INTEGRATION = {
    "uri": "IntegrationUri",
    "httpMethod": "IntegrationMethod",
    "payloadFormatVersion": "PayloadFormatVersion",
    "timeoutInMillis": "TimeoutInMillis",
    "credentials": "CredentialsArn",
    "requestParameters": "RequestParameters",
    "responseParameters": "ResponseParameters",
    "integrationSubtype": "IntegrationSubtype",
    "connectionId": "ConnectionId",
    "connectionType": "ConnectionType",
}
_CORS = {
    "allowOrigins": "AllowOrigins",
    "allowMethods": "AllowMethods",
    "allowHeaders": "AllowHeaders",
    "exposeHeaders": "ExposeHeaders",
    "maxAge": "MaxAge",
    "allowCredentials": "AllowCredentials",
}


@dataclass(slots=True)
class Definition:
    """An API as its document describes it; a route names its authorizer under ``Authorizer``."""

    api: dict[str, Any]
    routes: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    authorizers: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_definition(body: str | dict[str, Any]) -> Definition:
    """Read a document, JSON or YAML text or the parsed thing. Raises BadRequestException."""
    document = _parse(body)
    info = document.get("info") or {}
    api: dict[str, Any] = {"Name": str(info.get("title") or "api"), "ProtocolType": "HTTP"}
    if "version" in info:
        api["Version"] = str(info["version"])
    if "description" in info:
        api["Description"] = str(info["description"])
    if cors := document.get("x-amazon-apigateway-cors"):
        api["CorsConfiguration"] = _cors(cors)
    tags = [tag.get("name") for tag in document.get("tags") or [] if "x-amazon-apigateway-tag-value" in tag]
    if tags:
        api["Tags"] = {tag["name"]: tag["x-amazon-apigateway-tag-value"] for tag in document["tags"]}
    definition = Definition(api, authorizers=_authorizers(document))
    for path, item in (document.get("paths") or {}).items():
        for method in _METHODS:
            operation = (item or {}).get(method)
            if operation is not None:
                definition.routes.append(_route(document, definition, path, method, operation))
    return definition


def _parse(body: str | dict[str, Any]) -> dict[str, Any]:
    document: Any = body
    if isinstance(body, str):
        import yaml

        try:
            document = json.loads(body) if body.lstrip().startswith("{") else yaml.load(body, yaml.CSafeLoader)
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            raise AwsError(
                "BadRequestException", f"Unable to parse API definition because of a malformed document: {error}"
            ) from None
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise AwsError("BadRequestException", "Invalid OpenAPI input: a document of OpenAPI 3 is needed.")
    return document


def _route(
    document: dict[str, Any], definition: Definition, path: str, method: str, operation: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    verb = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
    route: dict[str, Any] = {"RouteKey": "$default" if path in ("$default", "/$default") else f"{verb} {path}"}
    if "operationId" in operation:
        route["OperationName"] = operation["operationId"]
    security = operation.get("security", document.get("security")) or []
    for requirement in security:
        for name, scopes in requirement.items():
            if name in definition.authorizers:
                route["Authorizer"] = name
                if scopes:
                    route["AuthorizationScopes"] = scopes
            elif name == "NONE":
                continue
            elif (document.get("components", {}).get("securitySchemes", {}).get(name) or {}).get(
                "x-amazon-apigateway-authtype"
            ) == "awsSigv4":
                route["AuthorizationType"] = "AWS_IAM"
    extension = operation.get("x-amazon-apigateway-integration")
    if not extension:
        raise AwsError("BadRequestException", f"No integration is defined for {verb} {path}.")
    if "$ref" in extension:
        name = extension["$ref"].rsplit("/", 1)[1]
        extension = document.get("components", {}).get("x-amazon-apigateway-integrations", {}).get(name) or {}
    integration = {ours: extension[theirs] for theirs, ours in _INTEGRATION.items() if theirs in extension}
    integration["IntegrationType"] = str(extension.get("type", "")).upper()
    integration.setdefault("PayloadFormatVersion", "1.0")
    return route, integration


def _authorizers(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {}
    schemes = (document.get("components") or {}).get("securitySchemes") or {}
    for name, scheme in schemes.items():
        extension = (scheme or {}).get("x-amazon-apigateway-authorizer")
        if not extension:
            continue
        identity = extension.get("identitySource", "")
        kind = extension.get("type", "").lower()
        if kind == "jwt":
            configuration = extension.get("jwtConfiguration") or {}
            found[name] = {
                "Name": name,
                "AuthorizerType": "JWT",
                "IdentitySource": [identity or "$request.header.Authorization"],
                "JwtConfiguration": {
                    "Issuer": configuration.get("issuer", ""),
                    "Audience": list(configuration.get("audience") or ()),
                },
            }
            continue
        if kind != "request":
            raise AwsError("BadRequestException", f"Authorizer {name} has the type {kind}: jwt or request is needed.")
        found[name] = {
            "Name": name,
            "AuthorizerType": "REQUEST",
            "AuthorizerUri": extension.get("authorizerUri", ""),
            "AuthorizerPayloadFormatVersion": str(extension.get("authorizerPayloadFormatVersion", "2.0")),
            "EnableSimpleResponses": bool(extension.get("enableSimpleResponses", False)),
            "IdentitySource": [part.strip() for part in identity.split(",")] if identity else [],
            "AuthorizerResultTtlInSeconds": int(extension.get("authorizerResultTtlInSeconds", 0)),
        }
    return found


def _cors(cors: Any) -> dict[str, Any]:
    if cors is True:
        return {"AllowOrigins": ["*"], "AllowMethods": ["*"], "AllowHeaders": ["*"]}
    named = {ours: cors[theirs] for theirs, ours in _CORS.items() if theirs in cors}
    return {
        key: [value] if isinstance(value, str) and key not in ("MaxAge", "AllowCredentials") else value
        for key, value in named.items()
    }
