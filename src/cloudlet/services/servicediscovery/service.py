"""Cloud Map. Namespaces are in ``namespaces.py``, services in ``services.py``, instances in ``instances.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cloudlet.services.api import Tagged, tags_in
from cloudlet.services.servicediscovery.instances import Instances
from cloudlet.store.api import Compacted


class Service(Instances):
    """Namespaces, services and instances, found by the API and, in Route 53's zones, by DNS."""

    async def on_change(self, tell: Callable[[], object]) -> None:
        """Have ``tell`` called after every change of an instance or of its health, for as long as the cloud runs."""
        self.cloud.spawn(self._tell(tell), "servicediscovery tells of instances")
        route53: Any = await self.cloud.service("route53")
        route53.on_health(tell)

    async def _tell(self, tell: Callable[[], object]) -> None:
        while True:
            try:
                async for _ in self._instances.watch(self._db.revision):
                    tell()
            except Compacted:
                tell()

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        scope = f"{account}/{region}"
        namespaces = {record.name: record.value for record in self._namespaces.list(scope)}
        kinds = {"HTTP": "HttpNamespace", "DNS_PRIVATE": "PrivateDnsNamespace", "DNS_PUBLIC": "PublicDnsNamespace"}
        found = [
            {"type": f"AWS::ServiceDiscovery::{kinds[one.type]}", "name": one.name, "arn": one.arn}
            for one in namespaces.values()
        ]
        for record in self._services.list(scope):
            service = record.value
            name = f"{service.name}.{namespaces[service.namespace].name}"
            found.append({"type": "AWS::ServiceDiscovery::Service", "name": name, "arn": service.arn})
        return found

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        return tags_in(f"{account}/{region}", self._namespaces, self._services)
