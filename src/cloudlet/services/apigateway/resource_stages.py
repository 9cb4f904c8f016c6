"""CloudFormation's types of deployments and stages, with what a template says of a stage's methods, log and canary."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.apigateway.stacking import Type, as_text, lower
from cloudlet.stacks.api import Deployment as Deploying
from cloudlet.stacks.api import Physical, Properties, changed, tags_of

# Settings of a method in a template -> where a patch of a stage has them.
_METHOD_SETTINGS = {
    "LoggingLevel": "logging/loglevel",
    "DataTraceEnabled": "logging/dataTrace",
    "MetricsEnabled": "metrics/enabled",
    "ThrottlingBurstLimit": "throttling/burstLimit",
    "ThrottlingRateLimit": "throttling/rateLimit",
    "CachingEnabled": "caching/enabled",
    "CacheTtlInSeconds": "caching/ttlInSeconds",
    "CacheDataEncrypted": "caching/dataEncrypted",
}


def _patches(old: Properties, new: Properties) -> list[dict[str, Any]]:
    """What makes a stage's settings of methods, its access log and its canary those of a template."""
    made = {_settings_of(setting): setting for setting in new.get("MethodSettings") or []}
    gone = [path for setting in old.get("MethodSettings") or [] if (path := _settings_of(setting)) not in made]
    operations: list[dict[str, Any]] = [{"op": "remove", "path": path} for path in gone]
    values = [
        (f"{path}/{_METHOD_SETTINGS[key]}", value)
        for path, setting in made.items()
        for key, value in setting.items()
        if key in _METHOD_SETTINGS
    ]
    values += [
        (f"/accessLogSettings/{lower(key)}", value) for key, value in (new.get("AccessLogSetting") or {}).items()
    ]
    for key in ("AccessLogSetting", "CanarySetting"):
        if key in old and key not in new:
            operations.append({"op": "remove", "path": f"/{lower(key)}s"})
    for key, value in (new.get("CanarySetting") or {}).items():
        if key == "StageVariableOverrides":
            values += [(f"/canarySettings/stageVariableOverrides/{name}", text) for name, text in value.items()]
        else:
            values.append((f"/canarySettings/{lower(key)}", value))
    return operations + [{"op": "replace", "path": path, "value": as_text(value)} for path, value in values]


def _basics(old: Properties, new: Properties) -> list[dict[str, Any]]:
    """What makes a stage's deployment, description, cache and variables those of a template."""
    operations = []
    for key in ("DeploymentId", "Description", "TracingEnabled", "CacheClusterEnabled", "CacheClusterSize"):
        if old.get(key) != new.get(key) and key in new:
            operations.append({"op": "replace", "path": f"/{lower(key)}", "value": as_text(new[key])})
    for name, value in (new.get("Variables") or {}).items():
        operations.append({"op": "replace", "path": f"/variables/{name}", "value": value})
    for name in set(old.get("Variables") or {}) - set(new.get("Variables") or {}):
        operations.append({"op": "remove", "path": f"/variables/{name}"})
    return operations


def _settings_of(setting: Properties) -> str:
    return f"/{setting.get('ResourcePath', '/*').replace('/', '~1')}/{setting.get('HttpMethod', '*')}"


class _Staged(Type):
    """What changes a stage."""

    async def _patch(self, do: Deploying, name: str, properties: Properties, operations: list[dict[str, Any]]) -> None:
        if operations:
            where = {"restApiId": properties["RestApiId"], "stageName": name}
            await self._call(do, "UpdateStage", **where, patchOperations=operations)


class Deployment(_Staged):
    type = "AWS::ApiGateway::Deployment"
    required = frozenset(("RestApiId",))
    replaces = frozenset(("RestApiId", "DeploymentCanarySettings", "StageName"))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        description = self._stage(properties)
        canary = properties.get("DeploymentCanarySettings")
        made = await self._call(
            do,
            "CreateDeployment",
            restApiId=properties["RestApiId"],
            stageName=properties.get("StageName"),
            description=properties.get("Description"),
            stageDescription=description.get("Description"),
            variables=description.get("Variables"),
            tracingEnabled=description.get("TracingEnabled"),
            cacheClusterEnabled=description.get("CacheClusterEnabled"),
            cacheClusterSize=description.get("CacheClusterSize"),
            canarySettings=None if canary is None else {lower(key): value for key, value in canary.items()},
        )
        await do.initiated(made["id"])
        if stage := properties.get("StageName"):
            await self._patch(do, stage, properties, _patches({}, description))
            if description.get("Tags"):
                await self._retag(do, f"restapis/{properties['RestApiId']}/stages/{stage}", description)
        return Physical(made["id"], {"DeploymentId": made["id"]})

    def _stage(self, properties: Properties) -> Properties:
        """What is said of the stage, with the settings for every method among those of some."""
        description = properties.get("StageDescription") or {}
        for name in ("ClientCertificateId", "DocumentationVersion"):
            if name in description:
                raise not_implemented(f"{self.type} with {name} of StageDescription")
        everywhere = {key: description[key] for key in _METHOD_SETTINGS if key in description}
        settings = [*([everywhere] if everywhere else []), *(description.get("MethodSettings") or [])]
        return {**description, "MethodSettings": settings}

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        before, after = (self._stage(one) for one in (old, new))
        if (stage := new.get("StageName")) and before != after:
            await self._patch(do, stage, new, _basics(before, after) + _patches(before, after))
            if changed(before, after, "Tags"):
                await self._retag(do, f"restapis/{new['RestApiId']}/stages/{stage}", after)
        operation = {"op": "replace", "path": "/description", "value": new.get("Description", "")}
        await self._call(
            do, "UpdateDeployment", restApiId=new["RestApiId"], deploymentId=physical.id, patchOperations=[operation]
        )
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        # A stage that a later deployment has taken over is that one's.
        where = {"restApiId": properties["RestApiId"], "deploymentId": physical.id}
        try:
            stages = (await self._call(do, "GetStages", **where))["item"]
        except AwsError as error:
            if error.code != "NotFoundException":
                raise
            return
        if properties.get("StageName") in [one["stageName"] for one in stages]:
            await self._gone(do, "DeleteStage", restApiId=where["restApiId"], stageName=properties["StageName"])
        await self._gone(do, "DeleteDeployment", restApiId=properties["RestApiId"], deploymentId=physical.id)


class Stage(_Staged):
    type = "AWS::ApiGateway::Stage"
    required = frozenset(("RestApiId",))
    replaces = frozenset(("RestApiId", "StageName"))
    refuses = frozenset(("ClientCertificateId", "DocumentationVersion"))

    async def create(self, do: Deploying, properties: Properties) -> Physical:
        name = properties.get("StageName") or do.name(64)
        given = {
            lower(key): value
            for key, value in properties.items()
            if key not in ("MethodSettings", "AccessLogSetting", "CanarySetting", "Tags", "StageName")
        }
        await self._call(do, "CreateStage", **given, stageName=name, tags=tags_of(do, properties))
        await do.initiated(name)
        await self._patch(do, name, properties, _patches({}, properties))
        return Physical(name)

    async def update(self, do: Deploying, physical: Physical, old: Properties, new: Properties) -> Physical:
        await self._patch(do, physical.id, new, _basics(old, new) + _patches(old, new))
        await self._retag(do, f"restapis/{new['RestApiId']}/stages/{physical.id}", new)
        return physical

    async def delete(self, do: Deploying, physical: Physical, properties: Properties) -> None:
        await self._gone(do, "DeleteStage", restApiId=properties["RestApiId"], stageName=physical.id)
