"""Keeps one Envoy as the stored load balancers want it: there while there is a listener, carrying what they say."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cloudlet.control.reconcile import Reconciler, Step
from cloudlet.engines.proxies.api import Endpoint
from cloudlet.errors import AwsError
from cloudlet.mesh import Snapshot
from cloudlet.services.api import Cloud
from cloudlet.services.elbv2 import envoy, formats, sharing
from cloudlet.services.elbv2.health_news import HealthNews

log = logging.getLogger("cloudlet.elbv2")

PROCESS = "elbv2"
_FLUSH_MILLISECONDS = "200"  # after which a change of a target's health is written, and heard of


class State(NamedTuple):
    """What is: whether the proxy runs, what it carries, and which certificates are not to be had."""

    running: bool
    carried: Snapshot | None
    lost: frozenset[str] = frozenset()


def plan(world: envoy.World, state: State) -> list[str]:
    """What has to be done, as names of steps: pure.

    Certificates come first: without them a control plane that is there again would take listeners away.
    """
    if not world.listeners:
        return ["stop"] if state.running else []
    if not state.running:
        return ["start"]
    missing = {arn for one in world.listeners for arn in one.certificates} - world.certificates.keys() - state.lost
    if missing:
        return [f"certificate {arn}" for arn in sorted(missing)]
    return [] if envoy.snapshot(world) == state.carried else ["publish"]


class Controller:
    """The proxy of all load balancers."""

    def __init__(
        self, cloud: Cloud, world: Callable[[], envoy.World], news: HealthNews, ports: sharing.SharedPorts
    ) -> None:
        self.certificates: dict[str, tuple[str, str]] = {}
        self._cloud = cloud
        self._world = world
        self._news = news
        self._ports = ports
        self._proxy: Any = None
        self._carried: Snapshot | None = None
        self._lost: set[str] = set()
        self._reconciler = Reconciler(PROCESS, self._plan, cloud.clock)

    async def start(self) -> None:
        """Take up what runs, before others think that nobody does, and then see to the rest."""
        if self._world().listeners:
            try:
                await self._start()
            except Exception as error:
                log.warning("the proxy of the load balancers cannot be taken up yet: %s", error)
        self._reconciler.start()

    async def stop(self) -> None:
        """Plan nothing more; the supervisor ends the proxy with the cloud."""
        await self._reconciler.stop()

    def trigger(self) -> None:
        """Something may have changed."""
        self._reconciler.trigger()

    async def settled(self, seconds: float = 10.0) -> bool:
        """Wait until all is carried, but not for ever; whether it is."""
        try:
            await asyncio.wait_for(self._reconciler.settled(), seconds)
        except TimeoutError:
            return False
        return True

    @property
    def running(self) -> bool:
        """Whether the proxy runs."""
        return self._proxy is not None

    @property
    def adopted(self) -> bool:
        """Whether the proxy was started by an earlier run of the control plane."""
        return any(child.adopted for child in self._cloud.supervisor.children if child.name == PROCESS)

    async def endpoints(self) -> Sequence[Endpoint]:
        """Every endpoint as the proxy sees it; none when it does not run."""
        try:
            return list(await self._proxy.endpoints()) if self._proxy is not None else []
        except (OSError, asyncio.IncompleteReadError):
            return []

    async def admin(self, path: str, method: str = "GET") -> bytes:
        """The answer of the proxy's admin interface. Raises OSError when it does not run."""
        if self._proxy is None:
            raise OSError("the proxy does not run")
        answer: bytes = await self._proxy.admin(path, method)
        return answer

    async def certificate(self, arn: str) -> None:
        """Have a certificate at hand, as it is now. Raises CertificateNotFound and UnsupportedCertificate."""
        try:
            kind = arn.split(":")[2] if arn.startswith("arn:") else ""
            if kind not in ("acm", "iam"):
                raise AwsError("CertificateNotFoundException", "")
            manager: Any = await self._cloud.service(kind)
            self.certificates = {**self.certificates, arn: await manager.material(arn)}
            self._lost.discard(arn)
        except AwsError as error:
            if error.code == "NotImplemented":
                raise
            if error.code == "InvalidStateException":
                raise AwsError(
                    "UnsupportedCertificate",
                    f"The certificate '{arn}' must have a fully-qualified domain name, a supported signature, and a "
                    "supported key size.",
                ) from None
            raise AwsError("CertificateNotFoundException", f"Certificate '{arn}' not found") from None

    def _plan(self) -> list[Step]:
        world = self._world()
        state = State(self.running, self._carried, frozenset(self._lost))
        return [Step(name, self._step(name)) for name in plan(world, state)]

    def _step(self, name: str) -> Callable[[], Any]:
        verb, _, what = name.partition(" ")
        if verb == "certificate":
            return lambda: self._have(what)
        return {"start": self._start, "stop": self._stop, "publish": self._publish}[verb]

    async def _have(self, arn: str) -> None:
        try:
            await self.certificate(arn)
        except AwsError as error:
            log.warning("listeners go without the certificate %s: %s", arn, error)
            self._lost.add(arn)

    async def _start(self) -> None:
        from cloudlet.engines.proxies.envoy import Envoy

        folder = self._cloud.data_dir / "elbv2"
        for kind in formats.LINES:
            await asyncio.to_thread((folder / "logs" / kind).mkdir, parents=True, exist_ok=True)
        self._news.follow()
        proxy = Envoy(
            self._cloud.supervisor,
            folder / "envoy",
            PROCESS,
            concurrency=_workers(),
            arguments=("--file-flush-interval-msec", _FLUSH_MILLISECONDS),
            on_end=self._ended,
        )
        await proxy.start()
        self._proxy, self._carried = proxy, None

    async def _stop(self) -> None:
        proxy, self._proxy, self._carried = self._proxy, None, None
        await proxy.publish(Snapshot())
        await proxy.stop()

    async def _publish(self) -> None:
        snapshot = envoy.snapshot(self._world())
        fresh = sharing.fresh(snapshot, self._carried)
        is_ours = self.adopted and self._carried is None
        if not is_ours and await self._ports.move(sharing.taken(fresh)):
            return  # the next round publishes them where they are now
        await self._proxy.publish(snapshot)
        self._carried = snapshot
        if fresh:
            await self._ports.move(await self._proxy.refused())
        self._news.tell()

    def _ended(self) -> None:
        self._proxy, self._carried = None, None
        self._news.tell()
        self.trigger()


def _workers() -> int:
    """Threads of the proxy: as many as there are processors, up to four."""
    return min(4, os.cpu_count() or 1)
