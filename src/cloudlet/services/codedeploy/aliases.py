"""Deployments of Lambda functions: an alias that goes from one version to another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud, Output
from cloudlet.services.codedeploy.base import SELF
from cloudlet.services.codedeploy.course import ALL
from cloudlet.services.codedeploy.errors import Failure
from cloudlet.services.codedeploy.records import Deployment

_OTHER_VERSION = (
    "The deployment failed because the AppSpec file that specifies the AWS Lambda deployment configuration is missing "
    "or has an invalid configuration. The Lambda function alias version does not match the current version in AppSpec "
    "file."
)


class Aliases:
    """What is done to an alias. Every method may be called again."""

    trouble = "INVALID_LAMBDA_FUNCTION"  # the error code of whatever Lambda refuses
    has_old = False  # whether the old version is something that has to end

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def check(self, scope: str, one: Deployment) -> dict[str, Any]:
        """The target as it is kept. Raises Failure, AwsError."""
        if not one.undoes:
            alias = await self._call(scope, "GetAlias", {**_which(one)})
            if alias["FunctionVersion"] != one.target["CurrentVersion"]:
                raise Failure("INVALID_LAMBDA_CONFIGURATION", _OTHER_VERSION)
            version = {"FunctionName": one.target["Name"], "Qualifier": one.target["TargetVersion"]}
            await self._call(scope, "GetFunctionConfiguration", version)
        return one.target

    async def install(self, scope: str, one: Deployment) -> bool:
        """Nothing has to be made ready."""
        return True

    async def test(self, scope: str, one: Deployment) -> None:
        """An alias has no test traffic."""

    async def shift(self, scope: str, one: Deployment, share: float) -> None:
        """Give the new version ``share`` per cent of the invocations."""
        old, new = one.target["CurrentVersion"], one.target["TargetVersion"]
        if share >= ALL:
            await self._point(scope, one, new, {})
        elif old != new:
            await self._point(scope, one, old, {new: share / ALL})

    async def back(self, scope: str, one: Deployment) -> None:
        """Give the old version all invocations, if the alias still has anything to do with the new one."""
        try:
            alias = await self._call(scope, "GetAlias", _which(one))
        except AwsError:
            return
        weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
        if one.target["TargetVersion"] in (alias["FunctionVersion"], *weights):
            await self._point(scope, one, one.target["CurrentVersion"], {})

    async def settle(self, scope: str, one: Deployment) -> None:
        """The alias points to the new version already."""

    async def retire(self, scope: str, one: Deployment) -> None:
        """Versions stay."""

    async def news(self, scope: str, one: Deployment) -> asyncio.Future[None] | None:
        """There is nothing to hear of an alias."""
        return None

    async def sets(self, scope: str, one: Deployment) -> tuple[dict[str, Any], ...]:
        """There are no task sets."""
        return ()

    def described(self, scope: str, one: Deployment, sets: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The target's own members."""
        account, region = scope.split("/")
        target, share = one.target, max(one.carried, 0.0)
        return {
            "targetArn": f"arn:aws:lambda:{region}:{account}:function:{target['Name']}:{target['Alias']}",
            "lambdaFunctionInfo": {
                "functionName": target["Name"],
                "functionAlias": target["Alias"],
                "currentVersion": target["TargetVersion"] if one.undoes else target["CurrentVersion"],
                "targetVersion": target["CurrentVersion"] if one.undoes else target["TargetVersion"],
                "targetVersionWeight": 1.0 if one.status == "Succeeded" else share / ALL,
            },
        }

    async def _point(self, scope: str, one: Deployment, version: str, weights: dict[str, float]) -> None:
        ask = {"FunctionVersion": version, "RoutingConfig": {"AdditionalVersionWeights": weights}}
        await self._call(scope, "UpdateAlias", {**_which(one), **ask})

    async def _call(self, scope: str, operation: str, input: dict[str, Any]) -> Output:
        account, region = scope.split("/")
        return await self._cloud.call("lambda", operation, input, account=account, region=region, principal=SELF)


def _which(one: Deployment) -> dict[str, Any]:
    return {"FunctionName": one.target["Name"], "Name": one.target["Alias"]}
