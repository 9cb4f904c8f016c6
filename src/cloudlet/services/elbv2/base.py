"""What all operations of Elastic Load Balancing stand on: what is stored, found by ARN, and the proxy."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cloudlet.errors import AwsError, not_implemented
from cloudlet.services import api
from cloudlet.services.api import Call, Input
from cloudlet.services.elbv2 import authentication, envoy
from cloudlet.services.elbv2.controller import Controller
from cloudlet.services.elbv2.errors import invalid, no_group, no_listener, no_load_balancer, no_rule
from cloudlet.services.elbv2.health_news import HealthNews
from cloudlet.services.elbv2.records import (
    Listener,
    LoadBalancer,
    Rule,
    SigningKey,
    Target,
    TargetGroup,
    TrustStore,
)
from cloudlet.services.elbv2.reporting import Reporting
from cloudlet.services.elbv2.sharing import ADDRESS, SharedPorts, free_port
from cloudlet.store import Database, Resources, Tx

_ARN = "arn:aws:elasticloadbalancing:"
_MOST_TAGS = 50


class Base(api.Service):
    """The state of the service."""

    name = "elbv2"

    db: Database
    load_balancers: Resources[LoadBalancer]
    listeners: Resources[Listener]
    rules: Resources[Rule]
    groups: Resources[TargetGroup]
    targets: Resources[Target]
    trust_stores: Resources[TrustStore]
    keys: Resources[SigningKey]

    async def start(self) -> None:
        self.db = await self.cloud.store.database("elbv2")
        self.load_balancers = self.db.resources(LoadBalancer)
        self.listeners = self.db.resources(Listener)
        self.rules = self.db.resources(Rule)
        self.groups = self.db.resources(TargetGroup)
        self.targets = self.db.resources(Target)
        self.trust_stores = self.db.resources(TrustStore)
        self.keys = self.db.resources(SigningKey)
        self._names = {record.value.dns_name: record.value for record in self.load_balancers.all()}
        self.health_news = HealthNews(self.cloud.data_dir / "elbv2" / "health")
        self.shared_ports = SharedPorts(self.db, self.listeners)
        self.controller = Controller(self.cloud, self.world, self.health_news, self.shared_ports)
        self.reporting = Reporting(self.cloud, self.controller, self.world)
        await self.shared_ports.go_home()
        await self.controller.start()
        self.reporting.watch()
        self.drain()

    async def stop(self) -> None:
        self.stop_draining()
        self.reporting.stop()
        await self.controller.stop()
        self.health_news.close()

    def world(self) -> envoy.World:
        """All that the proxy is to carry."""
        host, _, port = self.cloud.endpoint.rpartition("//")[2].rpartition(":")
        return envoy.World(
            load_balancers=[record.value for record in self.load_balancers.all()],
            listeners=[record.value for record in self.listeners.all()],
            rules=[record.value for record in self.rules.all()],
            groups=[record.value for record in self.groups.all()],
            targets=[record.value for record in self.targets.all()],
            trust_stores=[record.value for record in self.trust_stores.all()],
            certificates=self.controller.certificates,
            home=(host.strip("[]"), int(port)),
            public_key=next((record.value.jwk for record in self.keys.all()), {}),
            authorities=authentication.authorities(),
            logs=str(self.logs),
            health=str(self.health_news.file),
        )

    @property
    def logs(self) -> Path:
        """The folder in which logs are gathered."""
        return self.cloud.data_dir / "elbv2" / "logs"

    def changed(self) -> None:
        """What is stored has changed: let the proxy carry it."""
        self.controller.trigger()
        self.reporting.watch()
        self.health_news.tell()

    # What others ask in this process

    def address_of(self, dns_name: str) -> str | None:
        """The loopback address of the load balancer of a DNS name, or None; for the DNS server."""
        found = self._names.get(dns_name.lower().rstrip(".").removeprefix("dualstack."))
        return found.address if found is not None else None

    def watch_health(self, told: Callable[[], object]) -> Callable[[], None]:
        """Have ``told`` called when what DescribeTargetHealth answers may have changed; gives back what ends that."""
        return self.health_news.watch(told)

    def endpoints(self) -> list[dict[str, Any]]:
        """Each load balancer: ``arn``, ``dns_name``, ``address`` and ``ports``, {the listener's: the bound}."""
        made: list[dict[str, Any]] = []
        for record in self.load_balancers.all():
            one = record.value
            ports = {of.port: of.bound for of in self.listeners_of(one)}
            made.append({"arn": one.arn, "dns_name": one.dns_name, "address": one.address, "ports": ports})
        return made

    # What is stored, by its ARN

    def load_balancer(self, call: Call, arn: str, tx: Tx | None = None) -> LoadBalancer:
        """Raises LoadBalancerNotFound."""
        parts = _parts(call, arn, "loadbalancer")
        record = self.load_balancers.get(call.scope, parts[1], tx) if len(parts) == 3 else None
        if record is None or record.value.arn != arn:
            raise no_load_balancer()
        return record.value

    def listener(self, call: Call, arn: str, tx: Tx | None = None) -> Listener:
        """Raises ListenerNotFound."""
        parts = _parts(call, arn, "listener")
        record = self.listeners.get(call.scope, f"{parts[2]}/{parts[3]}", tx) if len(parts) == 4 else None
        if record is None or record.value.arn != arn:
            raise no_listener()
        return record.value

    def rule(self, call: Call, arn: str, tx: Tx | None = None) -> Rule:
        """A rule other than a default one. Raises RuleNotFound."""
        parts = _parts(call, arn, "listener-rule")
        record = self.rules.get(call.scope, f"{parts[3]}/{parts[4]}", tx) if len(parts) == 5 else None
        if record is None or record.value.arn != arn:
            raise no_rule()
        return record.value

    def group(self, call: Call, arn: str, tx: Tx | None = None) -> TargetGroup:
        """Raises TargetGroupNotFound."""
        parts = _parts(call, arn, "targetgroup")
        record = self.groups.get(call.scope, parts[0], tx) if len(parts) == 2 else None
        if record is None or record.value.arn != arn:
            raise no_group()
        return record.value

    def trust_store(self, call: Call, arn: str, tx: Tx | None = None) -> TrustStore:
        """Raises TrustStoreNotFound."""
        parts = _parts(call, arn, "truststore")
        record = self.trust_stores.get(call.scope, parts[0], tx) if len(parts) == 2 else None
        if record is None or record.value.arn != arn:
            raise AwsError("TrustStoreNotFoundException", f"Trust store '{arn}' not found")
        return record.value

    def listeners_of(self, one: LoadBalancer, tx: Tx | None = None) -> list[Listener]:
        """A load balancer's listeners."""
        return [record.value for record in self.listeners.list(one.scope, f"{one.id}/", tx)]

    def rules_of(self, call: Call, one: Listener, tx: Tx | None = None) -> list[Rule]:
        """A listener's rules by priority, without the default one."""
        found = [record.value for record in self.rules.list(call.scope, f"{one.id}/", tx)]
        return sorted(found, key=lambda rule: rule.priority)

    def targets_of(self, group: TargetGroup, tx: Tx | None = None) -> list[Target]:
        """A target group's targets, also those that are draining."""
        return [record.value for record in self.targets.list(group.scope, f"{group.id}/", tx)]

    def drain(self) -> None:
        """Forget the deregistered targets that have finished, soon and for as long as there are others."""
        raise NotImplementedError

    def stop_draining(self) -> None:
        """Let them be."""
        raise NotImplementedError

    def own_address(self) -> str:
        """A loopback address that no load balancer has; 127.0.0.1 where the system has only that one."""
        taken = {record.value.address for record in self.load_balancers.all()}
        for _ in range(20):
            number = secrets.randbelow(1 << 22)
            address = f"127.{64 + (number >> 16)}.{(number >> 8) & 255}.{1 + (number & 255) % 254}"
            if address not in taken and free_port(address):
                return address
        return ADDRESS


def new_id() -> str:
    """Sixteen hexadecimal digits, as ids of AWS have them."""
    return secrets.token_hex(8)


def tags_of(input: Input) -> dict[str, str]:
    """The tags of a request. Raises DuplicateTagKeys and TooManyTags."""
    tags = {tag["Key"]: tag.get("Value", "") for tag in input.get("Tags", [])}
    if len(tags) < len(input.get("Tags", [])):
        raise AwsError("DuplicateTagKeysException", "Tag keys must be unique")
    check_tags(tags)
    return tags


def check_tags(tags: dict[str, str]) -> None:
    """Raises TooManyTags."""
    if sum(not key.startswith("aws:") for key in tags) > _MOST_TAGS:
        raise AwsError(
            "TooManyTagsException",
            "The quota for the number of tags that can be assigned to this resource has been reached",
        )


def refuse(operation: str, input: Input, *names: str) -> None:
    """Raises NotImplemented for the first of the members that is given."""
    for name in names:
        if name in input:
            raise not_implemented(f"{operation} with {name}")


def page(found: Sequence[Any], input: Input, key: str, default: int = 400) -> tuple[list[Any], dict[str, str]]:
    """One page of documents and the marker of the next one; ``key`` is their member that a marker names."""
    start = 0
    if marker := input.get("Marker"):
        start = next((place for place, one in enumerate(found, 1) if one[key] == marker), -1)
        if start < 0:
            raise invalid(f"The marker '{marker}' is not valid")
    here = list(found[start : start + input.get("PageSize", default)])
    more = start + len(here) < len(found)
    return here, {"NextMarker": here[-1][key]} if more and here else {}


def _parts(call: Call, arn: str, kind: str) -> list[str]:
    """What comes after the kind in an ARN of the caller's account and region, else nothing."""
    start = f"{_ARN}{call.region}:{call.account}:{kind}/"
    return arn.removeprefix(start).split("/") if arn.startswith(start) else []
