"""Tags of load balancers, listeners, rules, target groups and trust stores, and the account's limits."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cloudlet.services.api import Call, Input, Output
from cloudlet.services.elbv2.base import Base, check_tags, page, tags_of
from cloudlet.services.elbv2.errors import invalid, no_load_balancer
from cloudlet.store import Resources, Tx

_LIMITS = {
    "target-groups": 3000,
    "targets-per-application-load-balancer": 1000,
    "targets-per-target-group": 1000,
    "listeners-per-application-load-balancer": 50,
    "rules-per-application-load-balancer": 100,
    "application-load-balancers": 50,
    "network-load-balancers": 50,
    "targets-per-network-load-balancer": 3000,
    "targets-per-availability-zone-per-network-load-balancer": 500,
    "listeners-per-network-load-balancer": 50,
    "condition-values-per-alb-rule": 5,
    "condition-wildcards-per-alb-rule": 6,
    "target-groups-per-action-on-application-load-balancer": 5,
    "target-groups-per-application-load-balancer": 100,
    "certificates-per-application-load-balancer": 25,
    "certificates-per-network-load-balancer": 25,
    "trust-stores": 20,
    "ca-certificates-per-trust-store": 25,
    "revocation-entries-per-trust-store": 500_000,
}


class Tagging(Base):
    """Tags of whatever has an ARN here."""

    async def AddTags(self, call: Call, input: Input) -> Output:
        added = tags_of(input)

        def add(tx: Tx) -> None:
            for arn in input["ResourceArns"]:
                kind, key, value = self._tagged(call, arn, tx)
                tags = {**value.tags, **added}
                check_tags(tags)
                kind.put(tx, call.scope, key, replace(value, tags=tags))

        await self.db.write(add)
        return {}

    async def RemoveTags(self, call: Call, input: Input) -> Output:
        def remove(tx: Tx) -> None:
            for arn in input["ResourceArns"]:
                kind, key, value = self._tagged(call, arn, tx)
                kept = {name: tag for name, tag in value.tags.items() if name not in input["TagKeys"]}
                kind.put(tx, call.scope, key, replace(value, tags=kept))

        await self.db.write(remove)
        return {}

    async def DescribeTags(self, call: Call, input: Input) -> Output:
        return {
            "TagDescriptions": [
                {
                    "ResourceArn": arn,
                    "Tags": [{"Key": key, "Value": tag} for key, tag in self._tagged(call, arn)[2].tags.items()],
                }
                for arn in input["ResourceArns"]
            ]
        }

    async def DescribeAccountLimits(self, call: Call, input: Input) -> Output:
        here, marker = page([{"Name": name, "Max": str(limit)} for name, limit in _LIMITS.items()], input, "Name")
        return {"Limits": here, **marker}

    def _tagged(self, call: Call, arn: str, tx: Tx | None = None) -> tuple[Resources[Any], str, Any]:
        """The kind, the name in the store and the value of what an ARN names. Raises the kind's not found."""
        word = arn.split(":", 5)[-1].partition("/")[0] if arn.count(":") >= 5 else ""
        if word == "loadbalancer":
            owner = self.load_balancer(call, arn, tx)
            return self.load_balancers, owner.name, owner
        if word == "targetgroup":
            group = self.group(call, arn, tx)
            return self.groups, group.name, group
        if word == "listener":
            listener = self.listener(call, arn, tx)
            return self.listeners, f"{listener.load_balancer_arn.rpartition('/')[2]}/{listener.id}", listener
        if word == "listener-rule":
            rule = self.rule(call, arn, tx)
            return self.rules, f"{rule.listener_arn.rpartition('/')[2]}/{rule.id}", rule
        if word == "truststore":
            store = self.trust_store(call, arn, tx)
            return self.trust_stores, store.name, store
        if not arn.startswith("arn:"):
            raise invalid(f"'{arn}' is not a valid ARN")
        raise no_load_balancer()
