"""Route 53. Zones are in ``zones.py``, records in ``recordsets.py``, health in ``healthchecks.py``.

The DNS server is in ``serving.py``; what it answers is decided in ``answers.py``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable

from cloudlet.services.api import GLOBAL_REGION, Tagged
from cloudlet.services.route53 import names
from cloudlet.services.route53.balancers import Balancers
from cloudlet.services.route53.checking import Checker
from cloudlet.services.route53.healthchecks import HealthChecks
from cloudlet.services.route53.link import Link
from cloudlet.services.route53.querylogs import QueryLines
from cloudlet.services.route53.records import Listening, RecordSet
from cloudlet.services.route53.serving import DnsServer
from cloudlet.store import Tx
from cloudlet.store.api import Compacted

log = logging.getLogger("cloudlet.dns")

_SCOPE = "dns"  # of the address: there is one server, whatever the account


class Service(HealthChecks):
    """Zones, records and health checks, and a DNS server that answers from them."""

    refused = {
        "TestDNSAnswer": "EDNS0ClientSubnetMask",
    }

    async def start(self) -> None:
        await self._open()
        lines = QueryLines(self.cloud, self.logged, self.index.zone_of)
        resolv_conf = self.cloud.data_dir / "resolv.conf"
        self._balancers = Balancers(self.cloud)
        self._link = Link(self.cloud.supervisor, self.cloud.data_dir / "dns")
        self.server = DnsServer(
            self.view, self._balancers.find, self._listen_at, resolv_conf, told=lines.note, listen=self._link.listen
        )
        self.checker = Checker(self.clock, self.look, self.cloud.spawn, self.health_changed, self.looked)
        await self.follow_alarms(record.value for record in self._checks.all())
        for record in self._checks.all():
            health = self._healths.get(record.scope, record.name)
            self.checker.put(record.value, health.value if health is not None else None)
        known = [record.value for record in self._listening.list(_SCOPE)]
        for one in known:
            if not one.further:
                await self._serve((one.address, one.port))
        for one in known:
            if one.further:
                try:
                    await self.server.listen_on(one.address)
                except OSError as error:
                    log.info("DNS no longer listens on %s: %s", one.address, error)

    async def stop(self) -> None:
        self.checker.stop()
        self.server.close()
        self._link.close()

    async def dns_address(self) -> tuple[str, int]:
        """Where the DNS server listens; it is started if need be. Raises OSError."""
        await self.server.ensure()
        return self.server.address, self.server.port

    async def listen_on(self, address: str) -> int:
        """Answer DNS on one more address of this machine, a bridge's gateway, and return the port. Raises OSError.

        It is listened on again after a restart, if it is still there.
        """
        return await self.server.listen_on(address)

    def health_of(self, check: str) -> bool:
        """Whether a health check is well, for services that have made one."""
        return self.checker.healthy(check)

    def on_health(self, tell: Callable[[], object]) -> None:
        """Have ``tell`` called after every change of a health check's health, for as long as the cloud runs."""
        self.cloud.spawn(self._tell(tell), "route53 tells of health")

    async def _tell(self, tell: Callable[[], object]) -> None:
        while True:
            try:
                async for _ in self._healths.watch(self._db.revision):
                    tell()
            except Compacted:
                tell()

    def proves(self, name: str, value: str) -> bool | None:
        """Whether a public zone has this CNAME; None where no public zone here is responsible for the name."""
        name = names.canonical(name)
        zones = [record.value for record in self._zones.all() if not record.value.private]
        around = [zone for zone in zones if names.within(name, zone.name)]
        if not around:
            return None
        longest = max(len(zone.name) for zone in around)
        found = [self._sets.get(f"{zone.id}/{name}", "CNAME ") for zone in around if len(zone.name) == longest]
        return any(record is not None and names.canonical(value) in _targets(record.value) for record in found)

    async def record_changes(self) -> AsyncIterator[None]:
        """Yield now, and after every change of a record of any zone from now on."""
        since = self._db.revision
        yield
        while True:
            try:
                async for _ in self._sets.watch(since):
                    yield
            except Compacted:
                since = self._db.revision
                yield

    async def _listen_at(self, address: str, port: int, further: bool) -> None:
        """Store an address; there is one that is the server's own."""

        def store(tx: Tx) -> None:
            for record in self._listening.list(_SCOPE, tx=tx):
                if not further and not record.value.further:
                    self._listening.delete(tx, _SCOPE, record.name)
            self._listening.put(tx, _SCOPE, address, Listening(address, port, further))

        await self._db.write(store)

    def resources_of(self, account: str, region: str) -> list[dict[str, str]]:
        zones = [
            {
                "type": "AWS::Route53::HostedZone",
                "name": record.value.name,
                "arn": f"arn:aws:route53:::hostedzone/{record.name}",
            }
            for record in self._zones.list(account)
        ]
        checks = [
            {
                "type": "AWS::Route53::HealthCheck",
                "name": record.name,
                "arn": f"arn:aws:route53:::healthcheck/{record.name}",
            }
            for record in self._checks.list(account)
        ]
        return zones + checks

    async def tagged(self, account: str, region: str) -> list[Tagged]:
        if region != GLOBAL_REGION:
            return []
        zones = [(f"arn:aws:route53:::hostedzone/{one.name}", one.value.tags) for one in self._zones.list(account)]
        checks = self._checks.list(account)
        return zones + [(f"arn:aws:route53:::healthcheck/{one.name}", one.value.tags) for one in checks]


def _targets(one: RecordSet) -> set[str]:
    """The names that a CNAME leads to."""
    return {names.canonical(value) for value in one.values}
