"""Deployments and stages: what of an API is published."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services.api import Call, Input, Output
from cloudlet.services.apigateway import patch
from cloudlet.services.apigateway.caching import SIZES
from cloudlet.services.apigateway.events import method_name
from cloudlet.services.apigateway.parts import Shared, new_id
from cloudlet.services.apigateway.records import Deployment, Stage
from cloudlet.store import Tx

_SETTINGS = {
    "logging/loglevel": "loggingLevel",
    "logging/dataTrace": "dataTraceEnabled",
    "metrics/enabled": "metricsEnabled",
    "throttling/burstLimit": "throttlingBurstLimit",
    "throttling/rateLimit": "throttlingRateLimit",
    "caching/enabled": "cachingEnabled",
    "caching/ttlInSeconds": "cacheTtlInSeconds",
    "caching/dataEncrypted": "cacheDataEncrypted",
    "caching/requireAuthorizationForCacheControl": "requireAuthorizationForCacheControl",
    "caching/unauthorizedCacheControlHeaderStrategy": "unauthorizedCacheControlHeaderStrategy",
}
_VERBS = ("*", "GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "ANY")
_MEMBERS = ("variables", "canarySettings", "accessLogSettings", "tags")
_PROMOTIONS = {  # what of a stage is copied from where in its canary
    "/deploymentId": "/canarySettings/deploymentId",
    "/variables": "/canarySettings/stageVariableOverrides",
}
_CANARY = {"percentTraffic": 0.0, "useStageCache": False}
_LONGEST_TTL = 3600  # seconds
_STRATEGIES = ("FAIL_WITH_403", "SUCCEED_WITH_RESPONSE_HEADER", "SUCCEED_WITHOUT_RESPONSE_HEADER")


class Stages(Shared):
    """The operations on deployments and stages."""

    async def CreateDeployment(self, call: Call, input: Input) -> Output:
        api_id = input["restApiId"]
        found = self.api(call, api_id)
        resources = [record.value.members for record in self.tree.list(call.scope, f"{api_id}/")]
        methods = [method for resource in resources for method in (resource.get("resourceMethods") or {}).values()]
        if not methods:
            raise AwsError("BadRequestException", "The REST API doesn't contain any methods")
        if any("methodIntegration" not in method for method in methods):
            raise AwsError("BadRequestException", "No integration defined for method")
        members: dict[str, Any] = {"id": new_id(6), "createdDate": self.cloud.clock.now()}
        if "description" in input:
            members["description"] = input["description"]
        if "canarySettings" in input:
            self._check_canary(call, api_id, input.get("stageName"))
        snapshot = {
            "resources": resources,
            **{
                name: [record.value.members for record in kept.list(call.scope, f"{api_id}/")]
                for name, kept in (
                    ("authorizers", self.authorizers),
                    ("models", self.models),
                    ("validators", self.validators),
                    ("responses", self.responses),
                )
            },
        }

        policy = found.get("policy") or ""

        def work(tx: Tx) -> None:
            self.deployments.put(tx, call.scope, f"{api_id}/{members['id']}", Deployment(members, snapshot, policy))
            if name := input.get("stageName"):
                current = self.stages.get(call.scope, f"{api_id}/{name}", tx)
                stage = current.value.members if current else self._new_stage(name)
                changes = {
                    key: input[source]
                    for source, key in (
                        ("stageDescription", "description"),
                        ("variables", "variables"),
                        ("tracingEnabled", "tracingEnabled"),
                        ("cacheClusterEnabled", "cacheClusterEnabled"),
                        ("cacheClusterSize", "cacheClusterSize"),
                    )
                    if source in input
                }
                changed = _checked({**stage, **changes, "lastUpdatedDate": self.cloud.clock.now()})
                if canary := input.get("canarySettings"):
                    # A canary's deployment leaves the stage's own as it is.
                    changed["canarySettings"] = {**_CANARY, **canary, "deploymentId": members["id"]}
                    changed.setdefault("deploymentId", members["id"])
                else:
                    changed["deploymentId"] = members["id"]
                self.stages.put(tx, call.scope, f"{api_id}/{name}", Stage(changed))

        await self.db.write(work)
        return members

    async def GetDeployment(self, call: Call, input: Input) -> Output:
        return self.found(self.deployments, call, input["restApiId"], input["deploymentId"], "Deployment")

    async def GetDeployments(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        listed = self.deployments.list(call.scope, f"{input['restApiId']}/")
        return self.page([record.value.members for record in listed], input)

    async def UpdateDeployment(self, call: Call, input: Input) -> Output:
        members = patch.apply(await self.GetDeployment(call, input), input.get("patchOperations"))
        name = f"{input['restApiId']}/{input['deploymentId']}"
        record = self.deployments.get(call.scope, name)
        assert record is not None
        changed = Deployment(members, record.value.snapshot, record.value.policy)
        await self.db.write(lambda tx: self.deployments.put(tx, call.scope, name, changed))
        return members

    async def DeleteDeployment(self, call: Call, input: Input) -> Output:
        await self.GetDeployment(call, input)
        for record in self.stages.list(call.scope, f"{input['restApiId']}/"):
            if record.value.members["deploymentId"] == input["deploymentId"]:
                raise AwsError(
                    "BadRequestException",
                    "Active stages pointing to this deployment must be moved or deleted",
                )
        name = f"{input['restApiId']}/{input['deploymentId']}"
        await self.db.write(lambda tx: self.deployments.delete(tx, call.scope, name))
        return {}

    async def CreateStage(self, call: Call, input: Input) -> Output:
        api_id, name = input["restApiId"], input["stageName"]
        self.found(self.deployments, call, api_id, input["deploymentId"], "Deployment")
        if self.stages.get(call.scope, f"{api_id}/{name}") is not None:
            raise AwsError("ConflictException", "Stage already exists")
        given = {key: value for key, value in input.items() if key != "restApiId"}
        members = _checked({**self._new_stage(name), **given})
        await self.db.write(lambda tx: self.stages.put(tx, call.scope, f"{api_id}/{name}", Stage(members)))
        return members

    async def GetStage(self, call: Call, input: Input) -> Output:
        return self.found(self.stages, call, input["restApiId"], input["stageName"], "Stage")

    async def GetStages(self, call: Call, input: Input) -> Output:
        self.api(call, input["restApiId"])
        listed = [record.value.members for record in self.stages.list(call.scope, f"{input['restApiId']}/")]
        wanted = input.get("deploymentId")
        return {"item": [stage for stage in listed if wanted in (None, stage["deploymentId"])]}

    async def UpdateStage(self, call: Call, input: Input) -> Output:
        operations = input.get("patchOperations") or []
        copies = [operation for operation in operations if operation.get("op") == "copy"]
        others = [operation for operation in operations if operation.get("op") != "copy"]
        stage = _promoted(await self.GetStage(call, input), copies)
        members = _checked(patch.apply(stage, others, _where))
        self.found(self.deployments, call, input["restApiId"], members["deploymentId"], "Deployment")
        members["lastUpdatedDate"] = self.cloud.clock.now()
        name = f"{input['restApiId']}/{input['stageName']}"
        await self.db.write(lambda tx: self.stages.put(tx, call.scope, name, Stage(members)))
        if not members["cacheClusterEnabled"]:
            self.data_plane.caches.flush(input["restApiId"], input["stageName"])
        return members

    async def DeleteStage(self, call: Call, input: Input) -> Output:
        await self.GetStage(call, input)
        name = f"{input['restApiId']}/{input['stageName']}"
        await self.db.write(lambda tx: self.stages.delete(tx, call.scope, name))
        self.data_plane.caches.flush(input["restApiId"], input["stageName"])
        return {}

    async def FlushStageCache(self, call: Call, input: Input) -> Output:
        if not (await self.GetStage(call, input))["cacheClusterEnabled"]:
            raise AwsError("BadRequestException", "Cache cluster is not enabled for this stage")
        self.data_plane.caches.flush(input["restApiId"], input["stageName"])
        return {}

    async def FlushStageAuthorizersCache(self, call: Call, input: Input) -> Output:
        await self.GetStage(call, input)
        self.data_plane.decisions.clear()
        return {}

    def _check_canary(self, call: Call, api_id: str, stage: str | None) -> None:
        """A canary goes beside a stage that is there. Raises BadRequestException."""
        invalid = "Invalid deployment content specified."
        if not stage:
            shown = "null" if stage is None else stage
            raise AwsError(
                "BadRequestException",
                f"{invalid}Non null and non empty stageName must be provided for canary deployment. Provided value is "
                f"{shown}",
            )
        if self.stages.get(call.scope, f"{api_id}/{stage}") is None:
            raise AwsError(
                "BadRequestException",
                f"{invalid}Stage {stage} must already be created before making a canary release deployment",
            )

    def _new_stage(self, name: str) -> dict[str, Any]:
        now = self.cloud.clock.now()
        return {
            "stageName": name,
            "cacheClusterEnabled": False,
            "cacheClusterStatus": "NOT_AVAILABLE",
            "methodSettings": {},
            "tracingEnabled": False,
            "createdDate": now,
            "lastUpdatedDate": now,
        }


def _checked(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage with its cache's state. Raises BadRequestException and NotImplemented."""
    if stage.get("clientCertificateId"):
        raise not_implemented("REST API stages with a clientCertificateId")
    destination = (stage.get("accessLogSettings") or {}).get("destinationArn", "")
    if ":firehose:" in destination:
        raise not_implemented("access logs of REST APIs to Firehose")
    if canary := stage.get("canarySettings"):
        stage["canarySettings"] = {**_CANARY, "deploymentId": stage["deploymentId"], **canary}
    is_cached = bool(stage["cacheClusterEnabled"])
    stage["cacheClusterStatus"] = "AVAILABLE" if is_cached else "NOT_AVAILABLE"
    if is_cached and stage.setdefault("cacheClusterSize", "0.5") not in SIZES:
        raise AwsError("BadRequestException", f"Invalid cache cluster size. Must be one of: {', '.join(SIZES)}")
    for settings in stage["methodSettings"].values():
        if not 0 <= settings.get("cacheTtlInSeconds", 0) <= _LONGEST_TTL:
            raise AwsError("BadRequestException", f"Invalid cache TTL. Must be between 0 and {_LONGEST_TTL} seconds")
        if settings.get("unauthorizedCacheControlHeaderStrategy", _STRATEGIES[0]) not in _STRATEGIES:
            raise AwsError(
                "BadRequestException",
                f"Invalid unauthorizedCacheControlHeaderStrategy. Must be one of: {', '.join(_STRATEGIES)}",
            )
    return stage


def _promoted(stage: dict[str, Any], copies: list[dict[str, Any]]) -> dict[str, Any]:
    """A stage that takes over what its canary has. Raises BadRequestException."""
    promoted = dict(stage)
    for copy in copies:
        path, source = copy.get("path", ""), copy.get("from", "")
        if _PROMOTIONS.get(path) != source:
            raise AwsError(
                "BadRequestException",
                f"Invalid copy operation with path: {path} and from {source}. Valid copy:path are "
                f"[{', '.join(_PROMOTIONS)}] and valid copy:from are [{', '.join(_PROMOTIONS.values())}]",
            )
        canary = stage.get("canarySettings")
        if not canary:
            raise AwsError("BadRequestException", "Promotion not available. Canary does not exist.")
        if path == "/deploymentId":
            promoted["deploymentId"] = canary["deploymentId"]
        else:
            promoted["variables"] = {**stage.get("variables", {}), **canary.get("stageVariableOverrides", {})}
    return promoted


def _where(path: list[str]) -> list[str]:
    """Where a patch of ``/<resource path>/<method>/logging/loglevel`` goes: a method's settings are kept together."""
    setting = _SETTINGS.get("/".join(path[-2:]))
    if setting is not None and len(path) >= 4:
        return ["methodSettings", method_name("/".join(path[:-3]), path[-3]), setting]
    if len(path) >= 2 and path[-1] in _VERBS and path[0] not in _MEMBERS:
        return ["methodSettings", method_name("/".join(path[:-1]), path[-1])]  # to remove all of them
    return path
