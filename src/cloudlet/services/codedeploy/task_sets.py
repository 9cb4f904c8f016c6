"""Deployments of ECS services: a replacement task set beside the original, and listeners that go over to it.

https://docs.aws.amazon.com/codedeploy/latest/userguide/deployment-steps-ecs.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from cloudlet.services.api import Cloud, Output
from cloudlet.services.codedeploy.base import SELF
from cloudlet.services.codedeploy.course import ALL, INSTALL
from cloudlet.services.codedeploy.errors import Failure
from cloudlet.services.codedeploy.records import Deployment
from cloudlet.services.forwards import shared_out

_NOT_BEHIND = (
    "The ELB could not be updated due to the following error: Primary taskset target group must be behind listener"
)
_OF_ORIGINAL = (
    "launchType",
    "capacityProviderStrategy",
    "platformVersion",
    "networkConfiguration",
    "serviceRegistries",
)


class TaskSets:
    """What is done to a service. Every method may be called again."""

    trouble = "ECS_UPDATE_ERROR"  # the error code of whatever ECS and its load balancers refuse
    has_old = True  # whether the old version is something that has to end

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def check(self, scope: str, one: Deployment) -> dict[str, Any]:
        """The target with what there was before: ``blue``, its target group, and ``green``'s. Raises Failure."""
        if one.undoes:
            return one.target
        primary = next((each for each in await self._task_sets(scope, one) if each["status"] == "PRIMARY"), None)
        if primary is None or not primary.get("loadBalancers"):
            raise Failure("INVALID_ECS_SERVICE", "The ECS service has no primary task set behind a load balancer.")
        names = [group["name"] for group in _pair(one)["targetGroups"]]
        groups = (await self._call(scope, "elbv2", "DescribeTargetGroups", {"Names": names}))["TargetGroups"]
        arns = [group["TargetGroupArn"] for group in groups]
        blue = primary["loadBalancers"][0]["targetGroupArn"]
        if blue not in arns:
            words = "The target group of the primary task set is not one of the deployment group's pair."
            raise Failure("INVALID_ECS_SERVICE", words)
        green = next((arn for arn in arns if arn != blue), blue)
        target = {**one.target, "blue": primary["id"], "blueGroup": blue, "greenGroup": green}
        for listener in _listeners(one, "prodTrafficRoute"):
            if not any(blue in _groups(rule) for rule in await self._rules(scope, listener, target)):
                raise Failure("ELASTIC_LOAD_BALANCING_INVALID", _NOT_BEHIND)
        return target

    async def install(self, scope: str, one: Deployment) -> bool:
        """Have a replacement task set, and say whether all its tasks are healthy."""
        made = await self._task_sets(scope, one)
        green = next((each for each in made if each.get("externalId") == one.id), None)
        if green is None:
            # What an earlier deployment has left without rolling back makes room.
            for left in made:
                if left["id"] != one.target["blue"]:
                    await self._of_service(scope, one, "DeleteTaskSet", {"taskSet": left["id"], "force": True})
            blue = next(each for each in made if each["id"] == one.target["blue"])
            # Behind its listener, without requests: so it is known to be healthy before it gets any.
            await self._route(scope, one, "prodTrafficRoute", 0.0)
            await self._of_service(scope, one, "CreateTaskSet", _replacement(one, blue))
            return False
        return bool(green["stabilityStatus"] == "STEADY_STATE")

    async def test(self, scope: str, one: Deployment) -> None:
        """Send the test listener's requests to the replacement."""
        await self._route(scope, one, "testTrafficRoute", ALL)

    async def shift(self, scope: str, one: Deployment, share: float) -> None:
        """Give the replacement ``share`` per cent of the requests."""
        await self._route(scope, one, "prodTrafficRoute", share)

    async def back(self, scope: str, one: Deployment) -> None:
        """Give the original task set all requests, and take the replacement away."""
        if "blue" not in one.target:
            return
        for route in ("prodTrafficRoute", "testTrafficRoute"):
            await self._route(scope, one, route, 0.0)
        for each in await self._task_sets(scope, one):
            if each.get("externalId") == one.undoes:
                if each["status"] == "PRIMARY":
                    ask = {"primaryTaskSet": one.target["blue"]}
                    await self._of_service(scope, one, "UpdateServicePrimaryTaskSet", ask)
                await self._of_service(scope, one, "DeleteTaskSet", {"taskSet": each["id"], "force": True})

    async def settle(self, scope: str, one: Deployment) -> None:
        """Make the replacement the service's primary task set."""
        for each in await self._task_sets(scope, one):
            if each.get("externalId") == one.id and each["status"] != "PRIMARY":
                await self._of_service(scope, one, "UpdateServicePrimaryTaskSet", {"primaryTaskSet": each["id"]})

    async def retire(self, scope: str, one: Deployment) -> None:
        """Delete the original task set."""
        for each in await self._task_sets(scope, one):
            if each["id"] == one.target["blue"]:
                await self._of_service(scope, one, "DeleteTaskSet", {"taskSet": each["id"], "force": True})

    async def news(self, scope: str, one: Deployment) -> asyncio.Future[None] | None:
        """Done when something of the service is new, where that is waited for."""
        event = one.event(INSTALL)
        if event is None or event.status != "InProgress" or one.undoes:
            return None
        ecs: Any = await self._cloud.service("ecs")
        place = _service(one)
        found: asyncio.Future[None] = ecs.news_of(scope, f"{place['cluster'].rpartition('/')[2]}/{place['service']}")
        return found

    async def sets(self, scope: str, one: Deployment) -> tuple[dict[str, Any], ...]:
        """The task sets of the deployment as a target shows them."""
        if "blue" not in one.target:
            return ()
        sides = {one.target["blue"]: "Blue"}
        shown = []
        for each in await self._task_sets(scope, one):
            is_green = each.get("externalId") in (one.id, one.undoes) and each["id"] not in sides
            if not is_green and each["id"] not in sides:
                continue
            group = one.target["greenGroup" if is_green else "blueGroup"]
            share = 0.0 if one.undoes else max(one.carried, 0.0)
            shown.append(
                {
                    "identifer": each["id"],
                    "desiredCount": each["computedDesiredCount"],
                    "pendingCount": each["pendingCount"],
                    "runningCount": each["runningCount"],
                    "status": each["status"],
                    "trafficWeight": share if is_green else ALL - share,
                    "targetGroup": {"name": group.split("/")[1]},
                    "taskSetLabel": "Green" if is_green else "Blue",
                }
            )
        return tuple(shown)

    def described(self, scope: str, one: Deployment, sets: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The target's own members."""
        account, region = scope.split("/")
        place = _service(one)
        name = f"{place['cluster'].rpartition('/')[2]}/{place['service']}"
        return {"targetArn": f"arn:aws:ecs:{region}:{account}:service/{name}", "taskSetsInfo": list(sets)}

    # Parts

    async def _route(self, scope: str, one: Deployment, route: str, share: float) -> None:
        """Have the rules of a route's listeners that send requests to either side share them out."""
        groups = (one.target["blueGroup"], one.target["greenGroup"])
        for listener in _listeners(one, route):
            sides, part = groups, share
            if ":listener/net/" in listener:  # which knows no weights
                if not share and not one.undoes:
                    continue
                sides, part = ("", groups[1] if share else groups[0]), ALL
            for rule in await self._rules(scope, listener, one.target):
                actions = shared_out(rule["Actions"], sides, part)
                if rule["IsDefault"]:
                    ask = {"ListenerArn": listener, "DefaultActions": actions}
                    await self._call(scope, "elbv2", "ModifyListener", ask)
                else:
                    await self._call(scope, "elbv2", "ModifyRule", {"RuleArn": rule["RuleArn"], "Actions": actions})

    async def _rules(self, scope: str, listener: str, target: dict[str, Any]) -> list[dict[str, Any]]:
        """A listener's rules, the default one too, that forward to either side."""
        if ":listener/net/" in listener:
            found = await self._call(scope, "elbv2", "DescribeListeners", {"ListenerArns": [listener]})
            rules = [{"Actions": found["Listeners"][0]["DefaultActions"], "IsDefault": True}]
        else:
            rules = (await self._call(scope, "elbv2", "DescribeRules", {"ListenerArn": listener}))["Rules"]
        return [rule for rule in rules if {target["blueGroup"], target["greenGroup"]} & _groups(rule)]

    async def _task_sets(self, scope: str, one: Deployment) -> list[dict[str, Any]]:
        place = _service(one)
        ask = {"cluster": place["cluster"], "services": [place["service"]]}
        found = (await self._call(scope, "ecs", "DescribeServices", ask))["services"]
        if not found or found[0]["status"] != "ACTIVE":
            raise Failure("INVALID_ECS_SERVICE", f"The ECS service {place['service']} is not there or not ACTIVE.")
        sets: list[dict[str, Any]] = found[0].get("taskSets", [])
        return sets

    async def _of_service(self, scope: str, one: Deployment, operation: str, input: dict[str, Any]) -> Output:
        return await self._call(scope, "ecs", operation, {**_service(one), **input})

    async def _call(self, scope: str, service: str, operation: str, input: dict[str, Any]) -> Output:
        account, region = scope.split("/")
        return await self._cloud.call(service, operation, input, account=account, region=region, principal=SELF)


def _replacement(one: Deployment, blue: dict[str, Any]) -> dict[str, Any]:
    """The task set that takes the place of the original: its members, but for what the revision says."""
    given, balancer = one.target, one.target["LoadBalancerInfo"]
    made = {key: blue[key] for key in _OF_ORIGINAL if blue.get(key)}
    if "capacityProviderStrategy" in made:
        made.pop("launchType", None)
    if version := given.get("PlatformVersion"):
        made["platformVersion"] = version
    if network := (given.get("NetworkConfiguration") or {}).get("AwsvpcConfiguration"):
        made["networkConfiguration"] = {"awsvpcConfiguration": _lowered(network)}
    if strategy := given.get("CapacityProviderStrategy"):
        made.pop("launchType", None)
        made["capacityProviderStrategy"] = [_numbered(_lowered(each)) for each in strategy]
    return {
        **made,
        "externalId": one.id,
        "taskDefinition": given["TaskDefinition"],
        "loadBalancers": [
            {
                "targetGroupArn": given["greenGroup"],
                "containerName": balancer["ContainerName"],
                "containerPort": int(balancer["ContainerPort"]),
            }
        ],
        "scale": {"value": 100.0, "unit": "PERCENT"},
    }


def _lowered(value: dict[str, Any]) -> dict[str, Any]:
    return {key[0].lower() + key[1:]: one for key, one in value.items()}


def _numbered(item: dict[str, Any]) -> dict[str, Any]:
    return {key: int(value) if key in ("base", "weight") else value for key, value in item.items()}


def _groups(rule: dict[str, Any]) -> set[str]:
    """The target groups that a rule forwards to."""
    found: set[str] = set()
    for action in rule["Actions"]:
        if action["Type"] == "forward":
            found |= {group["TargetGroupArn"] for group in (action.get("ForwardConfig") or {}).get("TargetGroups", ())}
            found |= {action["TargetGroupArn"]} if "TargetGroupArn" in action else set()
    return found


def _service(one: Deployment) -> dict[str, str]:
    given = one.settings["ecsServices"][0]
    return {"cluster": given.get("clusterName", "default"), "service": given["serviceName"]}


def _pair(one: Deployment) -> dict[str, Any]:
    found: dict[str, Any] = one.settings["loadBalancerInfo"]["targetGroupPairInfoList"][0]
    return found


def _listeners(one: Deployment, route: str) -> list[str]:
    return list((_pair(one).get(route) or {}).get("listenerArns", ()))
