"""A REST API from a Swagger 2 or OpenAPI 3 document with API Gateway's extensions."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.fronts.definitions import with_variables

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "x-amazon-apigateway-any-method")
_INTEGRATION = (
    "uri",
    "credentials",
    "requestParameters",
    "requestTemplates",
    "passthroughBehavior",
    "contentHandling",
    "timeoutInMillis",
    "cacheNamespace",
    "cacheKeyParameters",
    "connectionType",
    "connectionId",
    "tlsConfig",
)
_PLACES = {"header": "header", "query": "querystring", "path": "path"}


@dataclass(slots=True)
class Definition:
    """An API as its document describes it. Methods name authorizers and validators by their names in the document."""

    api: dict[str, Any]
    paths: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    authorizers: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    validators: dict[str, dict[str, Any]] = field(default_factory=dict)
    gateway_responses: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_definition(body: bytes | str, account: str, region: str) -> Definition:
    """Read a document, JSON or YAML, of an account and region. Raises BadRequestException."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    document = _parse(with_variables(text, account, region))
    info = document.get("info") or {}
    api: dict[str, Any] = {"name": str(info.get("title") or "api")}
    if "description" in info:
        api["description"] = str(info["description"])
    if "version" in info:
        api["version"] = str(info["version"])
    for extension, member in (
        ("x-amazon-apigateway-binary-media-types", "binaryMediaTypes"),
        ("x-amazon-apigateway-minimum-compression-size", "minimumCompressionSize"),
        ("x-amazon-apigateway-policy", "policy"),
    ):
        if extension in document:
            api[member] = document[extension]
    if "policy" in api and not isinstance(api["policy"], str):
        api["policy"] = json.dumps(api["policy"])
    if source := document.get("x-amazon-apigateway-api-key-source"):
        api["apiKeySource"] = source.upper()
    if configuration := document.get("x-amazon-apigateway-endpoint-configuration"):
        api["endpointConfiguration"] = configuration
    definition = Definition(api)
    definition.authorizers = _authorizers(document)
    schemas = document.get("definitions") or (document.get("components") or {}).get("schemas") or {}
    for name, schema in schemas.items():
        definition.models[name] = {"name": name, "contentType": "application/json", "schema": json.dumps(schema)}
    for name, validator in (document.get("x-amazon-apigateway-request-validators") or {}).items():
        definition.validators[name] = {"name": name, **validator}
    for name, response in (document.get("x-amazon-apigateway-gateway-responses") or {}).items():
        kept = {key: response[key] for key in ("responseParameters", "responseTemplates") if key in response}
        if "statusCode" in response:
            kept["statusCode"] = str(response["statusCode"])
        definition.gateway_responses[name] = {"responseType": name, **kept}
    for path, item in (document.get("paths") or {}).items():
        methods = definition.paths.setdefault(path, {})
        for name in _METHODS:
            if (operation := (item or {}).get(name)) is not None:
                verb = "ANY" if name.startswith("x-") else name.upper()
                methods[verb] = _method(document, definition, verb, item, operation)
    return definition


def _parse(text: str) -> dict[str, Any]:
    import yaml

    try:
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise AwsError("BadRequestException", f"Invalid REST API definition: {error}") from None
    if not isinstance(document, dict) or not ("swagger" in document or "openapi" in document):
        raise AwsError(
            "BadRequestException", "Invalid REST API definition: a Swagger 2 or OpenAPI 3 document is needed."
        )
    return document


def _method(
    document: dict[str, Any], definition: Definition, verb: str, item: dict[str, Any], operation: dict[str, Any]
) -> dict[str, Any]:
    method: dict[str, Any] = {"httpMethod": verb, "authorizationType": "NONE", "apiKeyRequired": False}
    if "operationId" in operation:
        method["operationName"] = operation["operationId"]
    _secure(document, definition, method, operation.get("security", document.get("security")) or [])
    validator = operation.get(
        "x-amazon-apigateway-request-validator", document.get("x-amazon-apigateway-request-validator")
    )
    if validator is not None:
        method["requestValidatorId"] = validator
    parameters = {}
    for parameter in [*(item.get("parameters") or []), *(operation.get("parameters") or [])]:
        if parameter.get("in") in _PLACES:
            place = _PLACES[parameter["in"]]
            parameters[f"method.request.{place}.{parameter['name']}"] = bool(parameter.get("required"))
        elif parameter.get("in") == "body" and "$ref" in (parameter.get("schema") or {}):
            method["requestModels"] = {"application/json": parameter["schema"]["$ref"].rsplit("/", 1)[1]}
    if parameters:
        method["requestParameters"] = parameters
    models = {
        kind: content["schema"]["$ref"].rsplit("/", 1)[1]
        for kind, content in ((operation.get("requestBody") or {}).get("content") or {}).items()
        if "$ref" in (content.get("schema") or {})
    }
    if models:
        method["requestModels"] = models
    responses = {}
    for status, response in (operation.get("responses") or {}).items():
        if str(status).isdigit():
            headers = {f"method.response.header.{name}": False for name in (response or {}).get("headers") or {}}
            kept: dict[str, Any] = {"statusCode": str(status)}
            if headers:
                kept["responseParameters"] = headers
            responses[str(status)] = kept
    if responses:
        method["methodResponses"] = responses
    if extension := operation.get("x-amazon-apigateway-integration"):
        method["methodIntegration"] = _integration(extension)
    return method


def _integration(extension: dict[str, Any]) -> dict[str, Any]:
    integration: dict[str, Any] = {"type": str(extension.get("type", "")).upper()}
    for name in _INTEGRATION:
        if name in extension:
            integration[name] = extension[name]
    if "httpMethod" in extension:
        integration["httpMethod"] = extension["httpMethod"]
    integration["passthroughBehavior"] = str(integration.get("passthroughBehavior", "when_no_match")).upper()
    responses = {}
    for pattern, response in (extension.get("responses") or {}).items():
        kept: dict[str, Any] = {"statusCode": str(response.get("statusCode", "200"))}
        if pattern != "default":
            kept["selectionPattern"] = pattern
        for name in ("responseParameters", "responseTemplates", "contentHandling"):
            if name in response:
                kept[name] = response[name]
        responses[kept["statusCode"]] = kept
    if responses:
        integration["integrationResponses"] = responses
    return integration


def _secure(
    document: dict[str, Any], definition: Definition, method: dict[str, Any], security: list[dict[str, Any]]
) -> None:
    schemes = document.get("securityDefinitions") or (document.get("components") or {}).get("securitySchemes") or {}
    for requirement in security:
        for name, scopes in requirement.items():
            scheme = schemes.get(name) or {}
            if name in definition.authorizers:
                method["authorizationType"] = "CUSTOM"
                method["authorizerId"] = name
                if scopes:
                    method["authorizationScopes"] = scopes
            elif scheme.get("x-amazon-apigateway-authtype") == "awsSigv4":
                method["authorizationType"] = "AWS_IAM"
            elif scheme.get("type") == "apiKey":
                method["apiKeyRequired"] = True


def _authorizers(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {}
    schemes = document.get("securityDefinitions") or (document.get("components") or {}).get("securitySchemes") or {}
    for name, scheme in schemes.items():
        extension = (scheme or {}).get("x-amazon-apigateway-authorizer")
        if not extension:
            continue
        kind = str(extension.get("type", "token")).upper()
        if kind == "COGNITO_USER_POOLS":
            raise not_implemented("REST API authorizers of type COGNITO_USER_POOLS")
        authorizer: dict[str, Any] = {
            "name": name,
            "type": kind,
            "authType": scheme.get("x-amazon-apigateway-authtype", "custom"),
        }
        for member in (
            "authorizerUri",
            "authorizerCredentials",
            "identityValidationExpression",
            "identitySource",
            "providerARNs",
        ):
            if member in extension:
                authorizer[member] = extension[member]
        if kind == "TOKEN":
            authorizer.setdefault("identitySource", f"method.request.header.{scheme.get('name', 'Authorization')}")
        if "authorizerResultTtlInSeconds" in extension:
            authorizer["authorizerResultTtlInSeconds"] = int(extension["authorizerResultTtlInSeconds"])
        found[name] = authorizer
    return found
