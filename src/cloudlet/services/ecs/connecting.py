"""The Envoys of Service Connect: one in each task's network, told at once when an endpoint comes or goes."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudlet.control.reconcile import Reconciler, Step
from cloudlet.engines.containers.api import CannotStart
from cloudlet.engines.proxies.apart import UID, owned, within
from cloudlet.engines.proxies.api import ProxyMissing
from cloudlet.errors import AwsError
from cloudlet.observe.metrics import Dimensions, Gauge
from cloudlet.services.ecs import service_connect
from cloudlet.services.ecs.certifying import Certifying
from cloudlet.services.ecs.execution import CannotPrepare
from cloudlet.services.ecs.service_connect import Place, Secrets

if TYPE_CHECKING:
    from cloudlet.engines.proxies.envoy import Envoy
    from cloudlet.services.api import Cloud
    from cloudlet.services.appmesh.lines import Lines
    from cloudlet.services.ecs.records import Task
    from cloudlet.services.ecs.shipping import Shipping

log = logging.getLogger("cloudlet.ecs")

_NAMESPACE = "AWS/ECS"
_STATS = "^(http|tcp)[.](ingress|egress)_.*downstream|^cluster[.](ingress|egress)_"


class Proxy:
    """A task's Envoy, and what it carries."""

    def __init__(self, scope: str, task: Task, namespace: str) -> None:
        self.scope = scope
        self.task = task
        self.namespace = namespace  # the path of the task's network namespace
        self.envoy: Envoy | None = None
        self.unfollow: Callable[[], None] = _nothing  # ends the following of its lines
        self.carries: Any = None
        self.counted: dict[str, float] = {}
        self.busy = asyncio.Lock()

    @property
    def key(self) -> tuple[str, str]:
        """Whose endpoints it leads to."""
        return self.scope, self.task.connect["namespace"]


class Connecting:
    """Keeps an Envoy for every task that is connected, each leading to the tasks that are there now."""

    def __init__(self, cloud: Cloud, shipping: Shipping) -> None:
        self._cloud = cloud
        self._shipping = shipping
        self.certifying = Certifying(cloud, self._renewed)
        self._proxies: dict[str, Proxy] = {}
        # Account and namespace -> discovery name -> task -> where its Envoy lets in.
        self._members: dict[tuple[str, str], dict[str, dict[str, Place]]] = {}
        self._reconciler: Reconciler | None = None
        self._lines: Lines | None = None  # one for all: the kernel gives a user few

    def changed(self, scope: str, task: Task) -> None:
        """A task may be an endpoint from now on, or no more."""
        if not task.connect:
            return
        names = self._members.setdefault((scope, task.connect["namespace"]), {})
        is_there = bool(task.is_running and task.was_ready and task.health != "UNHEALTHY" and task.address)
        for one in task.connect["ingress"]:
            places = names.setdefault(one["discovery"], {})
            before = places.get(task.id)
            tls = one.get("tls", {})
            place = Place(task.address, one["port"], tls.get("name", ""), tls.get("authority", ""))
            now = place if is_there else None
            if now is not None:
                places[task.id] = now
            else:
                places.pop(task.id, None)
            if now != before and self._reconciler is not None:
                self._reconciler.trigger()

    async def open(self, scope: str, task: Task, namespace: str) -> None:
        """Run, or take up again, a task's Envoy; it leads to every endpoint when this returns. Raises CannotStart."""
        if not task.connect or task.id in self._proxies:
            return
        if not namespace:
            raise CannotStart(
                "Service Connect needs tasks with a network namespace of their own, which this engine has not"
            )
        if self._reconciler is None:
            self._reconciler = Reconciler("service connect", self._plan, self._cloud.clock)
            self._reconciler.start()
            self._cloud.metrics.gauge(self._measure)
        proxy = self._proxies[task.id] = Proxy(scope, task, namespace)
        try:
            await self._carry(proxy)
        except (ProxyMissing, OSError, RuntimeError, AwsError, CannotPrepare) as error:
            await self.close(task)
            raise CannotStart(f"Service Connect: {error}") from None

    async def close(self, task: Task) -> None:
        """The task has ended: so does its Envoy."""
        proxy = self._proxies.pop(task.id, None)
        if proxy is None:
            return
        async with proxy.busy:
            if proxy.envoy is not None:
                await proxy.envoy.stop()
            proxy.unfollow()
        still = {one["service"] for other in self._proxies.values() for one in other.task.connect["ingress"]}
        for one in task.connect["ingress"]:
            if one["service"] not in still:
                self.certifying.forget(one["service"])
        await asyncio.to_thread(shutil.rmtree, self._folder(task), True)

    async def told(self) -> None:
        """Wait until every Envoy knows what is known here."""
        if self._reconciler is not None:
            await self._reconciler.settled()

    async def stop(self) -> None:
        """End everything."""
        if self._reconciler is not None:
            await self._reconciler.stop()
        await asyncio.gather(*(self.close(proxy.task) for proxy in list(self._proxies.values())))
        self.certifying.stop()
        if self._lines is not None:
            self._lines.stop()

    # Keeping them as they should be

    def _plan(self) -> Sequence[Step]:
        return [
            Step(f"Envoy of task {id}", partial(self._carry, proxy))
            for id, proxy in self._proxies.items()
            if proxy.envoy is None or proxy.carries != self._wanted(proxy)
        ]

    def _wanted(self, proxy: Proxy) -> dict[str, list[Place]]:
        """Who is behind each endpoint that a task's Envoy leads to."""
        names = self._members.get(proxy.key, {})
        return {
            one["discovery"]: sorted(names.get(one["discovery"], {}).values()) for one in proxy.task.connect["egress"]
        }

    async def _carry(self, proxy: Proxy) -> None:
        """Start or adopt an Envoy, and tell it who is there. A second time does nothing."""
        async with proxy.busy:
            if self._proxies.get(proxy.task.id) is not proxy:
                return
            if proxy.envoy is None:
                await self._start(proxy)
            wanted = self._wanted(proxy)
            if proxy.carries != wanted and proxy.envoy is not None:
                lines = str(self._folder(proxy.task) / "lines")
                secrets = await self._secrets(proxy, wanted)
                await proxy.envoy.publish(service_connect.snapshot(proxy.task.connect, wanted, lines, secrets))
                proxy.carries = wanted

    async def _secrets(self, proxy: Proxy, wanted: dict[str, list[Place]]) -> Secrets:
        """What an Envoy needs for TLS. Raises AwsError and CannotPrepare."""
        own = [one for one in proxy.task.connect["ingress"] if "tls" in one]
        authorities = {place.authority for places in wanted.values() for place in places if place.authority}
        return Secrets(
            {one["discovery"]: await self.certifying.certificate(proxy.scope, one) for one in own},
            {authority: await self.certifying.trust(authority) for authority in sorted(authorities)},
        )

    def _renewed(self, service: str) -> None:
        """An endpoint has another certificate: the Envoys of its tasks are told."""
        for proxy in self._proxies.values():
            if any(one["service"] == service for one in proxy.task.connect["ingress"]):
                proxy.carries = None
        if self._reconciler is not None:
            self._reconciler.trigger()

    async def _start(self, proxy: Proxy) -> None:
        from cloudlet.engines.proxies.envoy import Envoy
        from cloudlet.services.appmesh import redirect
        from cloudlet.services.appmesh.lines import Lines

        task, folder = proxy.task, self._folder(proxy.task)
        await asyncio.to_thread(owned, folder, UID, ("lines", "log"))
        envoy = Envoy(
            *(self._cloud.supervisor, folder, f"service-connect-{task.id}"),
            prefix=within(proxy.namespace, UID),
            on_end=lambda: self._ended(proxy),
            arguments=("--file-flush-interval-msec", "1000"),
        )
        try:
            if rules := service_connect.redirects(task.connect):
                await redirect.apply(proxy.namespace, rules)
            await envoy.start()
        except BaseException:
            await envoy.stop()
            raise
        proxy.envoy, proxy.carries = envoy, None
        if (log_to := task.connect.get("log")) is not None:
            name = service_connect.container_name(task.id)
            account, region = proxy.scope.split("/")
            options = log_to.get("options", {})
            prefix = options.get("awslogs-stream-prefix")
            stream = f"{prefix}/{name}/{task.id}" if prefix else f"{task.id}-{name}"
            place = (account, options.get("awslogs-region", region), options["awslogs-group"], stream)
            await self._shipping.make(place, options.get("awslogs-create-group", "false").lower() == "true")
            self._shipping.direct(f"{task.id}-{name}", place)
            lines = self._lines = self._lines or Lines()
            proxy.unfollow = lines.follow(
                folder / "lines", lambda line: self._shipping.printed(f"{task.id}-{name}", "stdout", line)
            )

    def _ended(self, proxy: Proxy) -> None:
        """An Envoy has ended by itself: another is started."""
        proxy.envoy = None
        proxy.unfollow()
        if self._reconciler is not None:
            self._reconciler.trigger()

    def _folder(self, task: Task) -> Path:
        return self._cloud.data_dir / "ecs" / "connect" / task.id

    # Metrics

    async def _measure(self) -> list[Gauge]:
        found: list[Gauge] = []
        for proxy in list(self._proxies.values()):
            if proxy.envoy is not None:
                try:
                    stats = await proxy.envoy.stats(_STATS)
                except OSError:
                    continue  # it is being started again
                found += _gauges(proxy, stats)
        return found


def _nothing() -> None:
    """No lines are followed."""


def _gauges(proxy: Proxy, stats: dict[str, Any]) -> list[Gauge]:
    """What has happened since the last time, under the names and dimensions of AWS's metrics."""
    found: list[Gauge] = []

    def since(name: str) -> float:
        value = float(stats.get(name) or 0)
        before = proxy.counted.get(name, 0.0)
        proxy.counted[name] = value
        return value - before if value >= before else value

    def add(name: str, value: float, unit: str, every: Sequence[Dimensions]) -> None:
        found.extend(Gauge(proxy.scope, _NAMESPACE, name, dimensions, unit, value) for dimensions in every)

    of_service = (("ClusterName", proxy.task.cluster), ("ServiceName", proxy.task.service))
    for side, kind in (("ingress", "DiscoveryName"), ("egress", "TargetDiscoveryName")):
        for name, protocol in {one["discovery"]: one["protocol"] for one in proxy.task.connect[side]}.items():
            own: Dimensions = ((kind, name),)
            every = (own, tuple(sorted((*own, *of_service))))
            prefix = f"{'tcp' if protocol == 'tcp' else 'http'}.{side}_{name}"
            target = f"cluster.{side}_{name}"
            if side == "ingress":
                add("ActiveConnectionCount", float(stats.get(f"{prefix}.downstream_cx_active") or 0), "Count", every)
                add("NewConnectionCount", since(f"{prefix}.downstream_cx_total"), "Count", every)
                received = since(f"{prefix}.downstream_cx_rx_bytes_total")
                add("ProcessedBytes", received + since(f"{prefix}.downstream_cx_tx_bytes_total"), "Bytes", every)
                if protocol != "tcp":
                    add("RequestCount", since(f"{prefix}.downstream_rq_total"), "Count", every)
                continue
            sent = since(f"{target}.upstream_cx_tx_bytes_total")
            add("TargetProcessedBytes", sent + since(f"{target}.upstream_cx_rx_bytes_total"), "Bytes", every)
            if protocol == "tcp":
                continue
            add("RequestCountPerTarget", since(f"{target}.upstream_rq_total"), "Count", every)
            for digit in "2345":
                add(f"HTTPCode_Target_{digit}XX_Count", since(f"{target}.upstream_rq_{digit}xx"), "Count", every)
            times = stats.get(f"{target}.upstream_rq_time")
            if isinstance(times, dict) and times.get(50.0) is not None:
                add("TargetResponseTime", float(times[50.0]), "Milliseconds", every)
    return found
