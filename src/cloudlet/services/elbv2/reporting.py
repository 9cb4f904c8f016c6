"""What CloudWatch is told of load balancers: once a minute, from the proxy's own numbers, while there is a listener."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from cloudlet.control.clock import Timer
from cloudlet.observe.metrics import Dimensions
from cloudlet.services.api import Cloud
from cloudlet.services.elbv2 import envoy
from cloudlet.services.elbv2.controller import Controller
from cloudlet.services.elbv2.logs import Logs
from cloudlet.services.elbv2.records import LoadBalancer, TargetGroup

log = logging.getLogger("cloudlet.elbv2")

_MINUTE = 60
_FILTER = (
    r"^(cluster\.[0-9a-f]{16}\.(upstream_rq_([2345]xx|time|completed)|upstream_cx_(total|connect_fail))|"
    r"(http|tcp)\.[0-9a-f]{16}\.downstream_(rq_[345]xx|cx_(total|active|rx_bytes_total|tx_bytes_total)))$"
)
_NAMESPACES = {"application": "AWS/ApplicationELB", "network": "AWS/NetworkELB"}


class Sample(NamedTuple):
    """The proxy's numbers at one time: counters and gauges, and how often each time was seen in each histogram."""

    counts: dict[str, float]
    times: dict[str, dict[float, int]]


class Count(NamedTuple):
    """A value of a metric, seen so many times."""

    name: str
    dimensions: Dimensions
    value: float
    unit: str
    times: int = 1


def read(document: bytes) -> Sample:
    """What the proxy answers to ``/stats?format=json&histogram_buckets=detailed``."""
    counts: dict[str, float] = {}
    times: dict[str, dict[float, int]] = {}
    for stat in msgspec.json.decode(document)["stats"]:
        if "name" in stat:
            counts[stat["name"]] = stat["value"]
        for one in stat.get("histograms", {}).get("details", []):
            buckets = one.get("totals", [])
            times[one["name"]] = {part["lower_bound"] + part["width"] / 2: part["count"] for part in buckets}
    return Sample(counts, times)


def counted(owner: LoadBalancer, groups: list[TargetGroup], now: Sample, before: Sample) -> Iterator[Count]:
    """What has happened at a load balancer between two samples: pure."""
    whole: Dimensions = (("LoadBalancer", owner.path),)

    def more(name: str) -> float:
        count, earlier = now.counts.get(name, 0), before.counts.get(name, 0)
        return count - earlier if count >= earlier else count  # it starts at nothing after a crash

    front = ("http" if owner.type == "application" else "tcp") + f".{owner.id}.downstream_"
    bytes_ = more(f"{front}cx_rx_bytes_total") + more(f"{front}cx_tx_bytes_total")
    connections, active = more(f"{front}cx_total"), now.counts.get(f"{front}cx_active", 0)
    if owner.type == "network":
        yield Count("NewFlowCount", whole, connections, "Count")
        yield Count("ActiveFlowCount", whole, active, "Count")
        yield Count("ProcessedBytes", whole, bytes_, "Bytes")
        return
    if connections or active or bytes_:
        yield Count("NewConnectionCount", whole, connections, "Count")
        yield Count("ActiveConnectionCount", whole, connections + active, "Count")
        yield Count("ProcessedBytes", whole, bytes_, "Bytes")
    own = {digit: more(f"{front}rq_{digit}xx") for digit in "345"}
    for group in groups:
        both: Dimensions = (*whole, ("TargetGroup", group.path))
        back = f"cluster.{group.id}.upstream_"
        for dimensions in (whole, both):
            if requests := more(f"{back}rq_completed"):
                yield Count("RequestCount", dimensions, requests, "Count")
            for digit in "2345":
                if answers := more(f"{back}rq_{digit}xx"):
                    yield Count(f"HTTPCode_Target_{digit}XX_Count", dimensions, answers, "Count")
            if failed := more(f"{back}cx_connect_fail"):
                yield Count("TargetConnectionErrorCount", dimensions, failed, "Count")
            earlier = before.times.get(f"{back}rq_time", {})
            for milliseconds, times in now.times.get(f"{back}rq_time", {}).items():
                if (fresh := times - earlier.get(milliseconds, 0)) > 0:
                    yield Count("TargetResponseTime", dimensions, milliseconds / 1000, "Seconds", fresh)
        for digit in own:
            own[digit] -= more(f"{back}rq_{digit}xx")
    for digit, answers in own.items():
        if answers > 0:
            yield Count(f"HTTPCode_ELB_{digit}XX_Count", whole, answers, "Count")


class Reporting:
    """Looks at the proxy once a minute, and gives access logs to S3 every five."""

    def __init__(self, cloud: Cloud, controller: Controller, world: Callable[[], envoy.World]) -> None:
        self._cloud = cloud
        self._controller = controller
        self._world = world
        self._logs = Logs(cloud, controller, world)
        self._timer: Timer | None = None
        self._before: Sample | None = None
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
            path = f"/stats?format=json&histogram_buckets=detailed&filter={quote(_FILTER, safe='')}"
            now = read(await self._controller.admin(path))
        except (OSError, asyncio.IncompleteReadError):
            return
        # What an adopted proxy has counted before has perhaps been told already.
        before = self._before or (now if self._controller.adopted else Sample({}, {}))
        self._before = now
        world = self._world()
        used = envoy.used_groups(world)
        healthy: dict[str, list[bool]] = {}
        for endpoint in await self._controller.endpoints():
            healthy.setdefault(endpoint.cluster, []).append(endpoint.healthy)
        for owner in world.load_balancers:
            groups = [group for group in world.groups if group.arn in used and used[group.arn].arn == owner.arn]
            counts = [*counted(owner, groups, now, before), *_health(owner, groups, healthy)]
            for one in [*counts, *_per_target(owner, groups, counts, healthy)]:
                self._add(owner, one)
        if self._tick % 5 == 0:
            await self._logs.deliver()

    def _add(self, owner: LoadBalancer, one: Count) -> None:
        self._cloud.metrics.add(
            owner.scope, _NAMESPACES[owner.type], one.name, one.dimensions, one.value, one.unit, one.times
        )


def _per_target(
    owner: LoadBalancer, groups: list[TargetGroup], counts: list[Count], healthy: dict[str, list[Any]]
) -> Iterator[Count]:
    """How many requests each healthy target has had on average: what services are scaled on."""
    requests = {dict(one.dimensions).get("TargetGroup"): one.value for one in counts if one.name == "RequestCount"}
    for group in groups:
        if group.path in requests:
            dimensions: Dimensions = (("LoadBalancer", owner.path), ("TargetGroup", group.path))
            value = requests[group.path] / max(1, sum(healthy.get(group.id, [])))
            yield Count("RequestCountPerTarget", dimensions, value, "Count")
            yield Count("RequestCountPerTarget", dimensions[1:], value, "Count")


def _health(owner: LoadBalancer, groups: list[TargetGroup], healthy: dict[str, list[Any]]) -> Iterator[Count]:
    for group in groups:
        if group.type != "lambda":
            states = healthy.get(group.id, [])
            dimensions: Dimensions = (("LoadBalancer", owner.path), ("TargetGroup", group.path))
            yield Count("HealthyHostCount", dimensions, sum(states), "Count")
            yield Count("UnHealthyHostCount", dimensions, len(states) - sum(states), "Count")
