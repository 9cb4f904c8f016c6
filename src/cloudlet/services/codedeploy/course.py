"""The course of a deployment: which lifecycle event comes next, how much traffic shifts when. Pure.

https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-hooks.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudlet.services.codedeploy.records import Deployment, Event

INSTALL, TEST, TRAFFIC = "Install", "AllowTestTraffic", "AllowTraffic"
HOOKS = {
    "Lambda": ("BeforeAllowTraffic", "AfterAllowTraffic"),
    "ECS": ("BeforeInstall", "AfterInstall", "AfterAllowTestTraffic", "BeforeAllowTraffic", "AfterAllowTraffic"),
}
HOOK_LIMIT = 3600.0  # seconds that a hook's function has for its answer
INSTALL_LIMIT = 3600.0  # seconds that a replacement task set has to become healthy
ALL = 100.0
_MINUTE = 60.0
_OF_LAMBDA = ("BeforeAllowTraffic", TRAFFIC, "AfterAllowTraffic")
_OF_ECS = ("BeforeInstall", INSTALL, "AfterInstall")
_OF_TEST = (TEST, "AfterAllowTestTraffic")


def events_of(platform: str, has_test: bool) -> tuple[Event, ...]:
    """The lifecycle events of a deployment, none of them begun; ECS has those of test traffic with a test route."""
    names = _OF_LAMBDA if platform == "Lambda" else (*_OF_ECS, *(_OF_TEST if has_test else ()), *_OF_LAMBDA)
    return tuple(Event(name) for name in names)


def following(one: Deployment) -> Event | None:
    """The lifecycle event that is under way or comes next, or None when all have been."""
    return next((event for event in one.events if event.status in ("Pending", "InProgress")), None)


def begun(one: Deployment, name: str, now: float) -> Deployment:
    """The deployment with a lifecycle event under way."""
    return _with(one, name, now, lambda event: msgspec.structs.replace(event, status="InProgress", started=now))


def ended(one: Deployment, name: str, now: float, status: str = "Succeeded", message: str = "") -> Deployment:
    """The deployment with a lifecycle event that is over."""

    def end(event: Event) -> Event:
        return msgspec.structs.replace(event, status=status, ended=now, message=message, started=event.started or now)

    return _with(one, name, now, end)


def asks(one: Deployment, name: str, hook: str, now: float) -> Deployment:
    """The deployment whose event asks a function for its answer under an id."""
    return _with(one, name, now, lambda event: msgspec.structs.replace(event, hook=hook))


def asked(one: Deployment, name: str, now: float) -> Deployment:
    """The deployment whose event has asked its function."""
    return _with(one, name, now, lambda event: msgspec.structs.replace(event, is_asked=True))


def cut_off(one: Deployment, now: float, message: str) -> Deployment:
    """The deployment that goes no further: the event under way, or next, has failed, the rest is skipped."""
    event = following(one)
    if event is not None:
        one = ended(one, event.name, now, "Failed", message)
    rest = tuple(
        msgspec.structs.replace(each, status="Skipped") if each.status == "Pending" else each for each in one.events
    )
    return msgspec.structs.replace(one, events=rest)


def next_share(one: Deployment) -> float:
    """The per cent of the traffic that the next step gives to the new version."""
    routing = one.routing
    if routing["type"] == "TimeBasedLinear":
        return min(ALL, max(one.share, 0.0) + float(routing["timeBasedLinear"]["linearPercentage"]))
    if routing["type"] == "TimeBasedCanary" and not one.share:
        return float(routing["timeBasedCanary"]["canaryPercentage"])
    return ALL


def step_ends(one: Deployment) -> float:
    """When the traffic has been as it is for as long as the configuration says."""
    routing = one.routing
    if routing["type"] == "TimeBasedLinear":
        return one.carried_at + _MINUTE * float(routing["timeBasedLinear"]["linearInterval"])
    if routing["type"] == "TimeBasedCanary":
        return one.carried_at + _MINUTE * float(routing["timeBasedCanary"]["canaryInterval"])
    return one.carried_at


def ready_ends(one: Deployment) -> float | None:
    """When a deployment that waits for somebody to let its traffic go gives up; None where it does not wait."""
    option = _blue_green(one).get("deploymentReadyOption") or {}
    minutes = option.get("waitTimeInMinutes", 0)
    waits = option.get("actionOnTimeout") == "STOP_DEPLOYMENT" and minutes and not one.undoes
    return one.ready_since + _MINUTE * minutes if waits else None


def retires_at(one: Deployment) -> float:
    """When the old version may end."""
    option = _blue_green(one).get("terminateBlueInstancesOnDeploymentSuccess") or {}
    return one.retiring_since + _MINUTE * float(option.get("terminationWaitTimeInMinutes", 0))


def keeps_old(one: Deployment) -> bool:
    """Whether the old version stays."""
    option = _blue_green(one).get("terminateBlueInstancesOnDeploymentSuccess") or {}
    return bool(option.get("action") == "KEEP_ALIVE")


def _blue_green(one: Deployment) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = one.settings.get("blueGreenDeploymentConfiguration") or {}
    return found


def _with(one: Deployment, name: str, now: float, change: Callable[[Event], Event]) -> Deployment:
    events = tuple(change(event) if event.name == name else event for event in one.events)
    return msgspec.structs.replace(one, events=events, updated=now)
