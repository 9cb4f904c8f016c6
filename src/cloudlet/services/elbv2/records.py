"""What Elastic Load Balancing keeps. All are resources, in the scope of their account and region.

A load balancer and a target group are named in the store by their names; a listener by ``<load balancer's id>/<id>``,
a rule by ``<listener's id>/<id>``, a target by ``<target group's id>/<target>:<port>``, so that what belongs together
is listed by a prefix.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cloudlet.services.placed import Placed

Document = dict[str, Any]


class LoadBalancer(Placed, frozen=True, omit_defaults=True):
    """A load balancer. ``address`` is the loopback address that is its own."""

    name: str
    id: str
    type: str
    scheme: str
    created: float
    address: str
    dns_name: str
    vpc: str = ""
    zones: list[Document] = []
    security_groups: list[str] = []
    ip_address_type: str = "ipv4"
    attributes: dict[str, str] = {}
    tags: dict[str, str] = {}
    inbound_rules: str = ""

    @property
    def path(self) -> str:
        """The end of its ARN, which CloudWatch has as its dimension: ``app/<name>/<id>``."""
        return f"{_KINDS[self.type]}/{self.name}/{self.id}"

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:elasticloadbalancing:{self.region}:{self.account}:loadbalancer/{self.path}"


class Listener(msgspec.Struct, frozen=True, omit_defaults=True):
    """A listener. ``bound`` is the port that it really has at its load balancer's address, ``shared`` the one on
    127.0.0.1 where that is not its own (0: it is)."""

    arn: str
    load_balancer_arn: str
    load_balancer: str  # its name
    id: str
    protocol: str
    port: int
    bound: int
    actions: list[Document]
    certificates: list[str] = []  # the default one, then the certificate list, which may have it too
    ssl_policy: str = ""
    alpn: list[str] = []
    mutual: Document = {}
    attributes: dict[str, str] = {}
    tags: dict[str, str] = {}
    shared: int = 0


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule of a listener, other than its default one."""

    arn: str
    id: str
    listener_arn: str
    priority: int
    conditions: list[Document]
    actions: list[Document]
    tags: dict[str, str] = {}
    transforms: list[Document] = []


class TargetGroup(Placed, frozen=True, omit_defaults=True):
    """A target group. Of a Lambda target group only the health check's settings have a meaning."""

    name: str
    id: str
    type: str
    created: float
    protocol: str = ""
    version: str = ""
    port: int = 0
    vpc: str = ""
    ip_address_type: str = "ipv4"
    check_enabled: bool = True
    check_protocol: str = ""
    check_port: str = ""
    check_path: str = ""
    check_interval: int = 30
    check_timeout: int = 5
    healthy: int = 5
    unhealthy: int = 2
    matcher: str = ""
    attributes: dict[str, str] = {}
    tags: dict[str, str] = {}

    @property
    def path(self) -> str:
        """The end of its ARN, which CloudWatch has as its dimension: ``targetgroup/<name>/<id>``."""
        return f"targetgroup/{self.name}/{self.id}"

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:elasticloadbalancing:{self.region}:{self.account}:{self.path}"


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """A registered target. ``draining_until`` is set once it is deregistered."""

    group: str  # its target group's id
    target: str  # the id as it was registered
    address: str  # where it answers; a function's ARN where it is one
    port: int = 0
    zone: str = ""
    draining_until: float = 0.0
    registered: float = 0.0


class Revocation(msgspec.Struct, frozen=True):
    """A revocation list of a trust store, in PEM."""

    id: int
    content: str
    entries: int


class TrustStore(Placed, frozen=True, omit_defaults=True):
    """The authorities (PEM) by which listeners judge their clients' certificates. Named in the store by its name."""

    name: str
    id: str
    bundle: str
    authorities: int
    revocations: list[Revocation] = []
    tags: dict[str, str] = {}

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:elasticloadbalancing:{self.region}:{self.account}:truststore/{self.name}/{self.id}"


class SigningKey(msgspec.Struct, frozen=True):
    """The key with which sessions are signed: its id, private (PEM), and public as a JSON Web Key and in PEM."""

    id: str
    private: str
    jwk: Document
    public: str


_KINDS = {"application": "app", "network": "net", "gateway": "gwy"}


def groups_of(actions: list[Document]) -> dict[str, int]:
    """The ARNs of the target groups that actions forward to, each with its weight."""
    for action in actions:
        if action["Type"] == "forward":
            chosen = action.get("ForwardConfig", {}).get("TargetGroups")
            if chosen:
                return {one["TargetGroupArn"]: one.get("Weight", 1) for one in chosen}
            return {action["TargetGroupArn"]: 1}
    return {}
