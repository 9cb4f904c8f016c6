"""Load balancers as aliases lead to them: their addresses, and whether they are well."""

from __future__ import annotations

from typing import Any

from cloudlet.errors import AwsError
from cloudlet.services.api import Cloud
from cloudlet.services.route53.answers import HEALTH


class Balancers:
    """What elbv2 says, remembered until it tells that the health of some target may have changed."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._balancing: Any = None
        self._well: dict[str, bool] = {}
        self._news = 0

    async def find(self, name: str, kind: str) -> list[str]:
        """The addresses of a load balancer's name; asked for HEALTH those of one that is well."""
        if self._balancing is None:
            try:
                self._balancing = await self._cloud.service("elbv2")
            except AwsError:
                return []
            self._balancing.watch_health(self._forget)
        found = self._balancing.address_of(name)
        if found is None or (kind == HEALTH and not await self._is_well(name)):
            return []
        return [found]

    def _forget(self) -> None:
        self._well.clear()
        self._news += 1

    async def _is_well(self, name: str) -> bool:
        """Whether each target group of a load balancer has a healthy target, as Route 53 judges them."""
        if name not in self._well:
            news = self._news
            well = await self._judged(name)
            if news != self._news:
                return well
            self._well[name] = well
        return self._well[name]

    async def _judged(self, name: str) -> bool:
        plain = name.lower().removeprefix("dualstack.")
        arn = next((one["arn"] for one in self._balancing.endpoints() if one["dns_name"] == plain), "")
        if not arn:
            return False
        _, _, _, region, account, _ = arn.split(":", 5)
        where: dict[str, str] = {"account": account, "region": region, "principal": "route53.amazonaws.com"}
        try:
            found = await self._cloud.call("elbv2", "DescribeTargetGroups", {"LoadBalancerArn": arn}, **where)
            for group in found["TargetGroups"]:
                if group["TargetType"] == "lambda":
                    continue
                input = {"TargetGroupArn": group["TargetGroupArn"]}
                targets = await self._cloud.call("elbv2", "DescribeTargetHealth", input, **where)
                states = [one["TargetHealth"]["State"] for one in targets["TargetHealthDescriptions"]]
                if not any(state in ("healthy", "unused") for state in states):
                    return False
        except AwsError:
            return False
        return True
