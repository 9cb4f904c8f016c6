"""Elastic Load Balancing v2. What is stored is in ``records.py``; what Envoy makes of it in ``envoy.py``."""

from __future__ import annotations

from cloudlet.http import Request, Response
from cloudlet.services.api import Tagged, tags_in
from cloudlet.services.elbv2.functions import Functions, failed
from cloudlet.services.elbv2.load_balancers import LoadBalancers
from cloudlet.services.elbv2.logins import Logins
from cloudlet.services.elbv2.rules import Rules
from cloudlet.services.elbv2.sharing import ADDRESS
from cloudlet.services.elbv2.tagging import Tagging
from cloudlet.services.elbv2.trust_stores import TrustStores


class Service(Functions, Logins, Rules, LoadBalancers, TrustStores, Tagging):
    """Application and network load balancers, carried by one Envoy; gateway load balancers are refused.

    The rules of a load balancer's own security groups are not enforced: all its clients are on this machine, and the
    user at it stands for the whole internet. What it sends to tasks, and what tasks send, is judged where the tasks
    are (ADR 8).
    """

    refused = {
        "CreateListener": "MutualAuthentication.AdvertiseTrustStoreCaNames!=off",
        "CreateLoadBalancer": "SubnetMappings.PrivateIPv4Address",
        "DescribeTargetHealth": "Include",
        "ModifyListener": "MutualAuthentication.AdvertiseTrustStoreCaNames!=off",
        "RegisterTargets": "Targets.QuicServerId",
        "SetSubnets": "SubnetMappings.PrivateIPv4Address",
    }

    async def serve(self, request: Request, label: str) -> Response:
        """The front doors ``elb-lambda``, by a target group's id, and ``elb-auth``, by what a login is for."""
        if (carried := self.carried_function(label)) is not None:
            return await self.invoke(request, *carried)
        return await self.login(request, label) or failed(503, "Service Temporarily Unavailable")

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        found = []
        for record in self.load_balancers.list(f"{account}/{region}"):
            one = record.value
            made = {"type": "AWS::ElasticLoadBalancingV2::LoadBalancer", "name": one.name, "arn": one.arn}
            if listeners := self.listeners_of(one):
                first = listeners[0]
                scheme = first.protocol.lower() if first.protocol in ("HTTP", "HTTPS") else "tcp"
                mapped = [f"port {of.port} is at {one.address}:{of.bound}" for of in listeners if of.bound != of.port]
                mapped += [f"port {of.port} is at {ADDRESS}:{of.shared}" for of in listeners if of.shared]
                made["endpoint"] = f"{scheme}://{one.dns_name}:{first.shared or first.port}"
                made["address"] = one.address
                if mapped:
                    made["mapped"] = ", ".join(mapped)
            found.append(made)
        return found

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(
            f"{account}/{region}", self.load_balancers, self.listeners, self.rules, self.groups, self.trust_stores
        )
