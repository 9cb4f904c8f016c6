"""What a deployment configuration may say, and its defaults.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentConfiguration.html
"""

from __future__ import annotations

from typing import Any

from cloudlet.services.ecs import hooks
from cloudlet.services.ecs.base import invalid

_MOST_MINUTES = 1440
_LINEAR: dict[str, Any] = {"stepPercent": 10.0, "stepBakeTimeInMinutes": 6}
_CANARY: dict[str, Any] = {"canaryPercent": 5.0, "canaryBakeTimeInMinutes": 10}
_OWN = {"LINEAR": "linearConfiguration", "CANARY": "canaryConfiguration"}


def configuration(given: dict[str, Any], scheduling: str) -> dict[str, Any]:
    """A deployment configuration with AWS's defaults. Raises InvalidParameterException."""
    is_daemon = scheduling == "DAEMON"
    made = {
        "deploymentCircuitBreaker": {"enable": False, "rollback": False},
        "maximumPercent": 100 if is_daemon else 200,
        "minimumHealthyPercent": 0 if is_daemon else 100,
        "strategy": "ROLLING",
        "bakeTimeInMinutes": 0,
        **given,
    }
    if not 0 <= made["minimumHealthyPercent"] <= 100:
        raise invalid("minimumHealthyPercent must be between 0 and 100.")
    if made["maximumPercent"] < 100 and not is_daemon:
        raise invalid("maximumPercent must be at least 100.")
    if made["maximumPercent"] == 100 and made["minimumHealthyPercent"] == 100:
        raise invalid("Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments.")
    _check_strategy(made, is_daemon)
    _check_early(made)
    for hook in made.get("lifecycleHooks", ()):
        if wrong := hooks.check(hook):
            raise invalid(wrong)
    breaker = made["deploymentCircuitBreaker"].get("thresholdConfiguration")
    if breaker and breaker["value"] < 1:
        raise invalid("The value of thresholdConfiguration must be at least 1.")
    return made


def merged(old: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A configuration with what is given instead of what it said; another strategy leaves the last one's own behind."""
    made = {**old, **given}
    for of, member in _OWN.items():
        if of != made["strategy"] and member not in given:
            made.pop(member, None)
    return made


def _check_strategy(made: dict[str, Any], is_daemon: bool) -> None:
    strategy = made["strategy"]
    if strategy != "ROLLING" and is_daemon:
        raise invalid(f"The deployment strategy {strategy} is not supported with the DAEMON scheduling strategy.")
    if not 0 <= made["bakeTimeInMinutes"] <= _MOST_MINUTES:
        raise invalid(f"bakeTimeInMinutes must be between 0 and {_MOST_MINUTES}.")
    for of, member in _OWN.items():
        if made.get(member) and of != strategy:
            raise invalid(f"{member} is only valid when the deployment strategy is {of}.")
    if strategy == "LINEAR":
        own = made["linearConfiguration"] = {**_LINEAR, **(made.get("linearConfiguration") or {})}
        _check_percent(own["stepPercent"], "stepPercent", 3.0)
        _check_minutes(own["stepBakeTimeInMinutes"], "stepBakeTimeInMinutes")
    elif strategy == "CANARY":
        own = made["canaryConfiguration"] = {**_CANARY, **(made.get("canaryConfiguration") or {})}
        _check_percent(own["canaryPercent"], "canaryPercent", 0.1)
        _check_minutes(own["canaryBakeTimeInMinutes"], "canaryBakeTimeInMinutes")


def _check_early(made: dict[str, Any]) -> None:
    """What says when a rolling deployment has gone well before all its tasks are there."""
    early = made.get("earlySuccessCriteria") or {}
    if not early.get("enable"):
        return
    if made["strategy"] != "ROLLING":
        raise invalid("earlySuccessCriteria is only valid when the deployment strategy is ROLLING.")
    for member in ("healthyPercent", "sourceServiceRevisionCleanup"):
        if member not in early:
            raise invalid(f"{member} is required when earlySuccessCriteria is enabled.")
    if early["healthyPercent"] < made["minimumHealthyPercent"]:
        raise invalid("healthyPercent must be greater than or equal to minimumHealthyPercent.")


def _check_percent(value: float, member: str, least: float) -> None:
    if not least <= value <= 100 or abs(value * 10 - round(value * 10)) > 1e-6:
        raise invalid(f"{member} must be a multiple of 0.1 between {least} and 100.0.")


def _check_minutes(value: int, member: str) -> None:
    if not 0 <= value <= _MOST_MINUTES:
        raise invalid(f"{member} must be between 0 and {_MOST_MINUTES}.")


def check_balancers(balancers: list[dict[str, Any]], strategy: str) -> None:
    """That load balancers have what a strategy shifts traffic with. Raises InvalidParameterException."""
    for balancer in balancers:
        more = balancer.get("advancedConfiguration")
        if more is None:
            if strategy != "ROLLING":
                raise invalid(f"advancedConfiguration is required when using the {strategy} deployment strategy.")
            continue
        for member in ("alternateTargetGroupArn", "productionListenerRule", "roleArn"):
            if not more.get(member):
                raise invalid(f"{member} is required in advancedConfiguration.")
        if more["alternateTargetGroupArn"] == balancer.get("targetGroupArn"):
            raise invalid("targetGroupArn and alternateTargetGroupArn cannot be the same.")
        if more["productionListenerRule"] == more.get("testListenerRule"):
            raise invalid("productionListenerRule and testListenerRule cannot be the same.")
