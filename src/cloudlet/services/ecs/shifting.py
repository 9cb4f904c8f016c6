"""Deployments that shift traffic (blue/green, linear, canary): their lifecycle, one stage after the other.

Pure: what a deployment says and what was seen go in, what it says next comes out. Blue is what has served before, green
is what is deployed.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/blue-green-deployment-how-it-works.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from cloudlet.services.ecs import hooks
from cloudlet.services.ecs.records import Deployment, ServiceDeployment

STAGES = (
    "RECONCILE_SERVICE",
    "PRE_SCALE_UP",
    "SCALE_UP",
    "POST_SCALE_UP",
    "TEST_TRAFFIC_SHIFT",
    "POST_TEST_TRAFFIC_SHIFT",
    "PRE_PRODUCTION_TRAFFIC_SHIFT",
    "PRODUCTION_TRAFFIC_SHIFT",
    "POST_PRODUCTION_TRAFFIC_SHIFT",
    "BAKE_TIME",
    "CLEAN_UP",
)
_BACK = ("PRODUCTION_TRAFFIC_SHIFT", "TEST_TRAFFIC_SHIFT", "CLEAN_UP")  # of a roll-back
_ALL = 100.0
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is: whether there is a blue, all tasks of green are ready, and who else has tasks left."""

    has_blue: bool
    is_ready: bool
    others: bool = False  # tasks of neither blue nor green
    leaving: bool = False  # tasks of those that the end of the deployment does without


def shifts(configuration: dict[str, Any]) -> bool:
    """Whether a deployment with this configuration goes through the stages."""
    return bool(configuration.get("strategy", "ROLLING") != "ROLLING")


def begin(one: ServiceDeployment, now: float, has_others: bool) -> ServiceDeployment:
    """The deployment at its first stage."""
    return _enter(one, STAGES[0] if has_others else STAGES[1], now)


def advance(one: ServiceDeployment, seen: Seen, now: float) -> ServiceDeployment:
    """The deployment as far as it may go now. It is done when its status is neither IN_PROGRESS nor a roll-back's."""
    while True:
        one = hooks.expire(one, now)
        if (one.fault and not is_back(one)) or not _is_done(one, seen, now):
            return one
        following = _following(one)
        if not following:
            status = ("ROLLBACK_FAILED" if one.fault else "ROLLBACK_SUCCESSFUL") if is_back(one) else "SUCCESSFUL"
            return msgspec.structs.replace(one, status=status, updated=now, finished=now)
        one = _enter(one, following, now, seen.has_blue)


def roll_back(one: ServiceDeployment, reason: str, to: str, now: float) -> ServiceDeployment:
    """The deployment on its way back: traffic first, then the tasks."""
    rollback = {"reason": reason, "startedAt": now, "to": to}
    one = msgspec.structs.replace(
        one, status="ROLLBACK_IN_PROGRESS", reason=reason, rollback=rollback, fault="", updated=now
    )
    return _enter(one, _BACK[0], now)


def is_back(one: ServiceDeployment) -> bool:
    """Whether it rolls back."""
    return one.status == "ROLLBACK_IN_PROGRESS"


def wants_green(one: ServiceDeployment) -> bool:
    """Whether green has its tasks at this stage."""
    if is_back(one):
        return one.stage != "CLEAN_UP"
    return STAGES.index(one.stage) >= STAGES.index("SCALE_UP")


def wants_blue(one: ServiceDeployment) -> bool:
    """Whether blue has its tasks at this stage."""
    return is_back(one) or one.stage != "CLEAN_UP"


def wants_shift(one: ServiceDeployment, has_blue: bool) -> bool:
    """Whether the listeners' rules are to be changed: before the first shift all goes to blue, if there is one."""
    return one.carried != (one.share, one.test) and (has_blue or one.share > 0 or one.test > 0)


def wake(one: ServiceDeployment, now: float) -> float | None:
    """When something is due though nothing happens."""
    end = _bake_end(one)
    return min((when for when in (*hooks.times(one), *([end] if end else [])) if when > now), default=None)


def groups_of(balancers: Sequence[dict[str, Any]], blue: Deployment | None, is_shifted: bool) -> tuple[str, ...]:
    """The target group of each load balancer for a new deployment: when traffic shifts, the one that blue has not."""
    chosen = []
    for balancer in balancers:
        first = balancer.get("targetGroupArn", "")
        second = balancer.get("advancedConfiguration", {}).get("alternateTargetGroupArn")
        used = set(blue.groups) & {first, second} if blue is not None else set()
        if blue is not None and not used and first in {one.get("targetGroupArn") for one in _balancers(blue)}:
            used = {first}  # it was deployed before there was a choice
        if not second or not used:
            chosen.append(first)
        elif is_shifted:
            chosen.append(second if first in used else first)
        else:
            chosen.append(used.pop())
    return tuple(chosen)


def _enter(one: ServiceDeployment, stage: str, now: float, has_blue: bool = True) -> ServiceDeployment:
    share, test = one.share, one.test
    if stage == "TEST_TRAFFIC_SHIFT":
        test = 0.0 if is_back(one) else _ALL
    elif stage == "PRODUCTION_TRAFFIC_SHIFT":
        share = 0.0 if is_back(one) else _next_share(one, has_blue)
    return msgspec.structs.replace(
        one,
        stage=stage,
        since=now,
        share=share,
        test=test,
        hooks=hooks.of_stage(one, stage, now),
        updated=now,
    )


def _next_share(one: ServiceDeployment, has_blue: bool) -> float:
    configuration = one.configuration
    if not has_blue or configuration["strategy"] == "BLUE_GREEN":
        return _ALL
    if configuration["strategy"] == "LINEAR":
        return min(_ALL, round(one.share + float(configuration["linearConfiguration"]["stepPercent"]), 1))
    return _ALL if one.share else float(configuration["canaryConfiguration"]["canaryPercent"])


def _following(one: ServiceDeployment) -> str:
    """The stage after the one that is done, or nothing."""
    if is_back(one):
        place = _BACK.index(one.stage) + 1
        return _BACK[place] if place < len(_BACK) else ""
    if one.stage == "PRODUCTION_TRAFFIC_SHIFT" and one.share < _ALL:
        return "PRE_PRODUCTION_TRAFFIC_SHIFT"
    place = STAGES.index(one.stage) + 1
    return STAGES[place] if place < len(STAGES) else ""


def _is_done(one: ServiceDeployment, seen: Seen, now: float) -> bool:
    if not hooks.are_done(one) or wants_shift(one, seen.has_blue):
        return False
    if one.stage == "RECONCILE_SERVICE":
        return not seen.others
    if one.stage == "SCALE_UP":
        return seen.is_ready
    if one.stage == "CLEAN_UP":
        return not seen.leaving and (seen.is_ready or is_back(one))
    end = _bake_end(one)
    return end is None or now >= end


def _bake_end(one: ServiceDeployment) -> float | None:
    """When a stage that takes its time is over."""
    if is_back(one):
        return None
    configuration = one.configuration
    if one.stage == "BAKE_TIME":
        return float(one.since + _MINUTE * configuration.get("bakeTimeInMinutes", 0))
    if one.stage == "PRODUCTION_TRAFFIC_SHIFT" and one.share < _ALL and one.carried == (one.share, one.test):
        linear = configuration["strategy"] == "LINEAR"
        minutes = (
            configuration["linearConfiguration"]["stepBakeTimeInMinutes"]
            if linear
            else configuration["canaryConfiguration"]["canaryBakeTimeInMinutes"]
        )
        return float(one.carried_at + _MINUTE * minutes)
    return None


def _balancers(deployment: Deployment) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deployment.settings.get("loadBalancers", [])
    return found
