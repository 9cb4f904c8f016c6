"""The course of a deployment: its lifecycle events, and how its traffic is shared out."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from cloudlet.services.codedeploy import appspec, configs, course
from cloudlet.services.codedeploy.errors import Failure
from cloudlet.services.codedeploy.records import Deployment


def deployment(routing: dict[str, Any], platform: str = "ECS", has_test: bool = False) -> Deployment:
    events = course.events_of(platform, has_test)
    return Deployment("d-1", "app", "group", platform, "config", routing, {}, {}, 0.0, events=events)


def steps(routing: dict[str, Any]) -> list[tuple[float, float]]:
    """When, in minutes, how much traffic goes over."""
    one, found = deployment(routing), []
    now = 0.0
    while one.share < course.ALL:
        one = replace(one, share=course.next_share(one))
        one = replace(one, carried=one.share, carried_at=now)
        found.append((now / 60, one.share))
        now = course.step_ends(one)
    return found


def test_traffic_goes_over_at_once_in_two_steps_or_in_equal_ones() -> None:
    assert steps(configs.ALL_AT_ONCE) == [(0, 100)]
    assert steps(configs.canary(10, 5)) == [(0, 10), (5, 100)]
    assert steps(configs.linear(40, 3)) == [(0, 40), (3, 80), (6, 100)]
    routing = configs.PREDEFINED["CodeDeployDefault.LambdaLinear10PercentEvery1Minute"]["trafficRoutingConfig"]
    assert len(steps(routing)) == 10


def test_what_is_under_way_fails_and_the_rest_is_skipped() -> None:
    one = deployment(configs.ALL_AT_ONCE, has_test=True)
    assert len(one.events) == 8
    assert len(deployment(configs.ALL_AT_ONCE).events) == 6
    one = course.ended(course.begun(one, "BeforeInstall", 1.0), "BeforeInstall", 2.0)
    one = course.cut_off(course.begun(one, "Install", 3.0), 4.0, "why")
    assert [event.status for event in one.events] == ["Succeeded", "Failed", *["Skipped"] * 6]
    assert course.following(one) is None


def test_an_app_spec_is_json_or_yaml_and_names_one_resource() -> None:
    text = "version: 0.0\nResources: [{f: {Type: AWS::Lambda::Function, Properties: %s}}]\nHooks: [%s]"
    properties = "{Name: f, Alias: live, CurrentVersion: 1, TargetVersion: 2}"
    target, hooks = appspec.parse(text % (properties, "{BeforeAllowTraffic: check}"), "Lambda")
    assert target == {"Name": "f", "Alias": "live", "CurrentVersion": "1", "TargetVersion": "2"}
    assert hooks == {"BeforeAllowTraffic": "check"}
    for wrong, platform in (
        (text % (properties, "{AfterInstall: check}"), "Lambda"),
        (text % ("{Name: f, Alias: live}", ""), "Lambda"),
        (text % (properties, ""), "ECS"),
        ("version: 0.0\nResources: []", "Lambda"),
        ("version: 1.0", "Lambda"),
        ("{", "Lambda"),
    ):
        with pytest.raises(Failure):
            appspec.parse(wrong, platform)
