"""Deployment configurations: how fast traffic shifts. AWS's own are there without having been made.

https://docs.aws.amazon.com/codedeploy/latest/userguide/deployment-configurations.html
"""

from __future__ import annotations

from typing import Any

DEFAULTS = {
    "Server": "CodeDeployDefault.OneAtATime",
    "Lambda": "CodeDeployDefault.LambdaAllAtOnce",
    "ECS": "CodeDeployDefault.ECSAllAtOnce",
}
ALL_AT_ONCE = {"type": "AllAtOnce"}


def canary(percent: int, minutes: int) -> dict[str, Any]:
    """A traffic routing: some traffic first, the rest some minutes later."""
    return {"type": "TimeBasedCanary", "timeBasedCanary": {"canaryPercentage": percent, "canaryInterval": minutes}}


def linear(percent: int, minutes: int) -> dict[str, Any]:
    """A traffic routing: as much again every few minutes."""
    return {"type": "TimeBasedLinear", "timeBasedLinear": {"linearPercentage": percent, "linearInterval": minutes}}


def _named(platform: str, name: str, **members: Any) -> tuple[str, dict[str, Any]]:
    full = f"CodeDeployDefault.{'' if platform == 'Server' else platform}{name}"
    made = {"deploymentConfigId": f"00000000-0000-0000-0000-{sum(full.encode()):012d}", "deploymentConfigName": full}
    return full, {**made, "computePlatform": platform, **members}


def _hosts(kind: str, value: int) -> dict[str, Any]:
    return {"minimumHealthyHosts": {"type": kind, "value": value}}


def _routes(routing: dict[str, Any]) -> dict[str, Any]:
    return {"trafficRoutingConfig": routing}


PREDEFINED: dict[str, dict[str, Any]] = dict(
    [
        _named("Server", "AllAtOnce", **_hosts("FLEET_PERCENT", 0)),
        _named("Server", "HalfAtATime", **_hosts("FLEET_PERCENT", 50)),
        _named("Server", "OneAtATime", **_hosts("HOST_COUNT", -1)),
        _named("Lambda", "AllAtOnce", **_routes(ALL_AT_ONCE)),
        *(_named("Lambda", f"Canary10Percent{m}Minutes", **_routes(canary(10, m))) for m in (5, 10, 15, 30)),
        _named("Lambda", "Linear10PercentEvery1Minute", **_routes(linear(10, 1))),
        *(_named("Lambda", f"Linear10PercentEvery{m}Minutes", **_routes(linear(10, m))) for m in (2, 3, 10)),
        _named("ECS", "AllAtOnce", **_routes(ALL_AT_ONCE)),
        *(_named("ECS", f"Canary10Percent{m}Minutes", **_routes(canary(10, m))) for m in (5, 15)),
        *(_named("ECS", f"Linear10PercentEvery{m}Minutes", **_routes(linear(10, m))) for m in (1, 3)),
    ]
)
