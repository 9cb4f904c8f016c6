"""Elastic Load Balancing v2. What is stored is in ``records.py``; what Envoy makes of it in ``envoy.py``."""

from __future__ import annotations

from cloudlet.services.elbv2.functions import Functions
from cloudlet.services.elbv2.load_balancers import LoadBalancers
from cloudlet.services.elbv2.rules import Rules
from cloudlet.services.elbv2.tagging import Tagging


class Service(Functions, Rules, LoadBalancers, Tagging):
    """Application and network load balancers, carried by one Envoy; gateway load balancers are refused."""

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        found = []
        for record in self.load_balancers.list(f"{account}/{region}"):
            one = record.value
            made = {"type": "AWS::ElasticLoadBalancingV2::LoadBalancer", "name": one.name, "arn": one.arn}
            if listeners := self.listeners_of(one):
                first = listeners[0]
                scheme = first.protocol.lower() if first.protocol in ("HTTP", "HTTPS") else "tcp"
                mapped = [f"port {of.port} is at {one.address}:{of.bound}" for of in listeners if of.bound != of.port]
                made["endpoint"] = f"{scheme}://{one.dns_name}:{first.port}"
                made["address"] = one.address
                if mapped:
                    made["mapped"] = ", ".join(mapped)
            found.append(made)
        return found
