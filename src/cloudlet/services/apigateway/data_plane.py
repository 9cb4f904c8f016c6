"""A request to a REST API: stage, resource, key, authorizer, validation, integration, answer."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudlet.errors import AwsError
from cloudlet.http import Request, Response
from cloudlet.observe import traces
from cloudlet.observe.calls import stopwatch
from cloudlet.services.apigateway import access, compression, custom, events, executing, refusals, reporting, tracing
from cloudlet.services.apigateway.caching import Caches
from cloudlet.services.apigateway.events import Context
from cloudlet.services.apigateway.keys import rate_of
from cloudlet.services.apigateway.limits import Limits
from cloudlet.services.apigateway.mapping import context_of
from cloudlet.services.apigateway.tree import Tree
from cloudlet.services.fronts import functions, integrations
from cloudlet.services.fronts.access_log import EXECUTIONS, AccessLog
from cloudlet.services.fronts.authorizers import Decisions
from cloudlet.store import Record

if TYPE_CHECKING:
    from cloudlet.services.apigateway.records import RestApi
    from cloudlet.services.apigateway.service import Service

LARGEST_BODY = 10 * 1024 * 1024


@dataclass(slots=True)
class Published:
    """A stage and its deployment, compiled once for each change in the store."""

    api: dict[str, Any]
    stage: dict[str, Any]
    tree: Tree
    authorizers: dict[str, dict[str, Any]]
    models: dict[str, str]
    validators: dict[str, dict[str, Any]]
    responses: dict[str, dict[str, Any]]
    policy: str


class DataPlane:
    """Answers the requests to all REST APIs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._cloud = service.cloud
        self._published: dict[tuple[str, str, bool], Published] = {}
        self._revision = -1
        self.limits = Limits(service.clock, service.db)
        self.decisions = Decisions()
        self.caches = Caches(service.cloud)
        self._log = AccessLog(service.cloud)

    async def answer(self, request: Request, api_id: str) -> Response:
        """Answer one request; every refusal is in API Gateway's own words, or in the API's."""
        record = self._service.find_api(api_id)
        if record is None:
            return refusals.plain(404, "Not Found")
        stage, _, rest = request.path[1:].partition("/")
        published = self._stage(record, stage)
        if published is None or record.value.members.get("disableExecuteApiEndpoint"):
            return refusals.plain(403, "Forbidden")
        canary = published.stage.get("canarySettings") or {}
        is_canary = random.random() * 100 < canary.get("percentTraffic", 0.0)
        if is_canary:
            published = self._stage(record, stage, canary=True) or published
        path = "/" + rest
        started, body = stopwatch(), await request.read(LARGEST_BODY)
        account, region = record.scope.split("/", 1)
        smallest = published.api.get("minimumCompressionSize")
        context = Context(request, body, api_id, account, region, published.stage, path, self._cloud.clock.now())
        context.canary = is_canary
        traced = await tracing.begin(self._cloud, context, published.api["name"])
        refused: refusals.Refused | None = None
        try:
            found = published.tree.match(request.method, path)
            if found is None:
                raise refusals.Refused("MISSING_AUTHENTICATION_TOKEN")
            context.resource, context.method, context.parameters = found
            if smallest is not None:
                context.body = await compression.unpacked(request, body, LARGEST_BODY)
            await access.authorize(self._cloud, context, published, self.decisions)
            if context.method.get("apiKeyRequired"):
                await self._check_key(context, record.scope, published.api["apiKeySource"])
            self._throttle(context)
            self._validate(context, published)
            response = await self.caches.answer(context, lambda: self._integrate(context, published))
        except refusals.Refused as error:
            refused = error
            response = refusals.answer(refused, published.responses, context)
        if lines := executing.lines(context, response, refused):
            group = f"{EXECUTIONS}{api_id}/{published.stage['stageName']}"
            self._log.take(record.scope, group, api_id, lines)
        if settings := published.stage.get("accessLogSettings"):
            self._log.write(record.scope, api_id, settings, lambda name: _variable(context, response, name))
        if traced is not None:
            traced.ended(response)
        if smallest is not None:
            await compression.pack(request, response, smallest)
        name, took = published.api["name"], stopwatch() - started
        reporting.report(self._cloud.metrics, record.scope, name, context, response.status, took)
        response.headers["x-amzn-requestid"] = context.request_id
        response.headers["x-amz-apigw-id"] = context.extended_id
        return response

    async def _integrate(self, context: Context, published: Published) -> Response:
        integration = (context.method or {}).get("methodIntegration") or {}
        kind, started = integration.get("type"), stopwatch()
        try:
            if kind == "AWS_PROXY":
                return await self._invoke(context, integration, published)
            if kind == "HTTP_PROXY":
                return await self._forward(context, integration)
            return await custom.integrate(self._cloud, context, integration)
        finally:
            context.integrated = stopwatch() - started

    async def _invoke(self, context: Context, integration: dict[str, Any], published: Published) -> Response:
        """Invoke a function with the whole request and read its answer."""
        function = functions.function_of(context.fill(integration["uri"]))
        if not function:
            raise refusals.Refused("INTEGRATION_FAILURE")
        event = events.proxy(context, published.api.get("binaryMediaTypes") or [])
        try:
            with traces.within(context.trace):
                said = await functions.invoke(self._cloud, context.account, context.region, function, event)
        except AwsError as error:
            raise refusals.Refused("INTEGRATION_FAILURE") from error
        if said.failed:
            raise refusals.Refused("INTEGRATION_FAILURE", status=502)
        return events.read_answer(said.payload)

    async def _forward(self, context: Context, integration: dict[str, Any]) -> Response:
        """Pass the request on to another HTTP server."""
        proxied = {
            "IntegrationUri": context.fill(integration["uri"]),
            "IntegrationMethod": integration["httpMethod"],
            "TimeoutInMillis": integration.get("timeoutInMillis", 29000),
            "RequestParameters": {
                f"overwrite:{target.removeprefix('integration.request.')}": value
                for target, source in (integration.get("requestParameters") or {}).items()
                if (value := context.value(source)) and not target.startswith("integration.request.path.")
            },
        }
        for target, source in (integration.get("requestParameters") or {}).items():
            if target.startswith("integration.request.path."):
                name, value = target.removeprefix("integration.request.path."), context.value(source) or ""
                for variable in ("{" + name + "}", "{" + name + "+}"):
                    proxied["IntegrationUri"] = proxied["IntegrationUri"].replace(variable, value)
        response = await integrations.forward(events.as_http(context), proxied)
        if response.status == 504:
            raise refusals.Refused("INTEGRATION_TIMEOUT")
        if response.status == 503 and response.body == b'{"message":"Service Unavailable"}':
            raise refusals.Refused("INTEGRATION_FAILURE")
        return response

    async def _check_key(self, context: Context, scope: str, source: str) -> None:
        by_authorizer, stage = source == "AUTHORIZER", context.stage["stageName"]
        value = context.usage_key if by_authorizer else context.request.headers.get("x-api-key")
        found = self._service.may_use(scope, context.api_id, stage, value)
        if found is None:
            raise refusals.Refused("INVALID_API_KEY")
        context.api_key, (context.api_key_id, plan) = value, found
        method = f"{(context.resource or {})['path']}/{(context.method or {})['httpMethod']}"
        if (rate := rate_of(plan, context.api_id, stage, method)) is not None:
            self.limits.throttle((scope, plan["id"], context.api_key_id, method), rate)
        else:
            self.limits.throttle((scope, plan["id"], context.api_key_id), plan.get("throttle") or {})
        await self.limits.count(scope, plan["id"], context.api_key_id, plan.get("quota"))

    def _throttle(self, context: Context) -> None:
        """Hold the request against the stage's own limits: its method's, else those of all methods."""
        limits = context.settings
        known = {"rateLimit": limits.get("throttlingRateLimit"), "burstLimit": limits.get("throttlingBurstLimit")}
        self.limits.throttle((context.api_id, context.stage["stageName"], context.own_settings or ""), known)

    def _validate(self, context: Context, published: Published) -> None:
        """Hold the request against the method's required parameters and body model, where a validator says so."""
        assert context.method is not None
        validator = published.validators.get(context.method.get("requestValidatorId", ""))
        if validator is None:
            return
        if validator.get("validateRequestParameters"):
            missing = [
                source.removeprefix("method.request.").partition(".")[2]
                for source, required in (context.method.get("requestParameters") or {}).items()
                if required and context.value(source) is None
            ]
            if missing:
                raise refusals.Refused(
                    "BAD_REQUEST_PARAMETERS", f"Missing required request parameters: [{', '.join(missing)}]"
                )
        models = context.method.get("requestModels") or {}
        kind = context.request.headers.get("content-type", "application/json").split(";")[0]
        name = models.get(kind) or models.get("$default")
        if validator.get("validateRequestBody") and name is not None and name in published.models:
            _validate_body(context.body, published.models[name], published.models)

    def _stage(self, record: Record[RestApi], name: str, canary: bool = False) -> Published | None:
        if self._revision != self._service.db.revision:
            self._revision = self._service.db.revision
            self._published.clear()
            self.decisions.clear()
        key = (record.name, name, canary)
        found = self._published.get(key)
        if found is None and (found := self._compile(record, name, canary)) is not None:
            self._published[key] = found  # not what is missing: a request may name anything
        return found

    def _compile(self, record: Record[RestApi], name: str, canary: bool) -> Published | None:
        stage = self._service.stages.get(record.scope, f"{record.name}/{name}")
        if stage is None:
            return None
        members = stage.value.members
        if canary:
            settings = members["canarySettings"]
            variables = {**(members.get("variables") or {}), **(settings.get("stageVariableOverrides") or {})}
            chosen = settings.get("deploymentId") or members["deploymentId"]
            members = {**members, "variables": variables, "deploymentId": chosen}
        deployment = self._service.deployments.get(record.scope, f"{record.name}/{members['deploymentId']}")
        snapshot = deployment.value.snapshot if deployment is not None else {}
        kept = deployment.value.policy if deployment is not None else None
        return Published(
            record.value.members,
            members,
            Tree(snapshot.get("resources", [])),
            {authorizer["id"]: authorizer for authorizer in snapshot.get("authorizers", [])},
            {model["name"]: model.get("schema", "{}") for model in snapshot.get("models", [])},
            {validator["id"]: validator for validator in snapshot.get("validators", [])},
            {response["responseType"]: response for response in snapshot.get("responses", [])},
            kept if kept is not None else record.value.members.get("policy") or "",
        )


def _variable(context: Context, response: Response, name: str) -> Any:
    """A $context variable of an access log's format."""
    body = response.body
    value: Any = {
        **context_of(context),
        "status": response.status,
        "responseLength": len(body) if isinstance(body, bytes) else None,
    }
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _validate_body(body: bytes, schema: str, models: dict[str, str]) -> None:
    import jsonschema

    definitions = {name: json.loads(text) for name, text in models.items()}
    # Swagger's models refer to each other as #/definitions/Name, OpenAPI's as #/components/schemas/Name.
    whole = {**json.loads(schema), "definitions": definitions, "components": {"schemas": definitions}}
    try:
        jsonschema.Draft4Validator(whole).validate(json.loads(body or b"{}"))
    except (ValueError, jsonschema.ValidationError):
        raise refusals.Refused("BAD_REQUEST_BODY") from None
