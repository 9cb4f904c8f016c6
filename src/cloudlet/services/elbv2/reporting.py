"""What CloudWatch is told of load balancers: once a minute, from the proxy's own numbers, while there is a listener."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import quote

from cloudlet.control.clock import Timer
from cloudlet.services.api import Cloud
from cloudlet.services.elbv2 import envoy, metrics
from cloudlet.services.elbv2.controller import Controller
from cloudlet.services.elbv2.logs import Logs
from cloudlet.services.elbv2.records import LoadBalancer

_MINUTE = 60


class Reporting:
    """Looks at the proxy once a minute, and gives access logs to S3 every five."""

    def __init__(self, cloud: Cloud, controller: Controller, world: Callable[[], envoy.World]) -> None:
        self._cloud = cloud
        self._controller = controller
        self._world = world
        self._logs = Logs(cloud, controller, world)
        self._timer: Timer | None = None
        self._before: metrics.Sample | None = None
        self._tick = 0

    def watch(self) -> None:
        """Report from now on, while there is a listener."""
        if self._timer is None and self._world().listeners:
            now = self._cloud.clock.now()
            self._timer = self._cloud.clock.call_at((now // _MINUTE + 1) * _MINUTE, self._due)

    def stop(self) -> None:
        """Report no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        self._timer = None
        self._tick += 1
        self._cloud.spawn(self._report(), "elbv2 reports")
        self.watch()

    async def _report(self) -> None:
        try:
            path = f"/stats?format=json&histogram_buckets=detailed&filter={quote(metrics.FILTER, safe='')}"
            now = metrics.read(await self._controller.admin(path))
        except (OSError, asyncio.IncompleteReadError):
            return
        # What an adopted proxy has counted before has perhaps been told already.
        before = self._before or (now if self._controller.adopted else metrics.Sample({}, {}))
        self._before = now
        world = self._world()
        used = envoy.used_groups(world)
        healthy: dict[str, list[bool]] = {}
        for endpoint in await self._controller.endpoints():
            if endpoint.draining:
                continue
            healthy.setdefault(endpoint.cluster, []).append(endpoint.healthy)
        for owner in world.load_balancers:
            groups = [group for group in world.groups if group.arn in used and used[group.arn].arn == owner.arn]
            counts = [*metrics.counted(owner, groups, now, before), *metrics.health(owner, groups, healthy)]
            for one in [*counts, *metrics.per_target(owner, groups, counts, healthy)]:
                self._add(owner, one)
        if self._tick % 5 == 0:
            await self._logs.deliver()

    def _add(self, owner: LoadBalancer, one: metrics.Count) -> None:
        self._cloud.metrics.add(
            owner.scope, metrics.NAMESPACES[owner.type], one.name, one.dimensions, one.value, one.unit, one.times
        )
