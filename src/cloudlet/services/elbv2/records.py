"""What Elastic Load Balancing keeps. All are resources, in the scope of their account and region.

A load balancer and a target group are named in the store by their names; a listener by ``<load balancer's id>/<id>``,
a rule by ``<listener's id>/<id>``, a target by ``<target group's id>/<target>:<port>``, so that what belongs together
is listed by a prefix.
"""

from __future__ import annotations

from typing import Any

import msgspec

Document = dict[str, Any]


class LoadBalancer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A load balancer. ``address`` is the loopback address that is its own."""

    account: str
    region: str
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
    def scope(self) -> str:
        """Whose world it is in."""
        return f"{self.account}/{self.region}"

    @property
    def path(self) -> str:
        """The end of its ARN, which CloudWatch has as its dimension: ``app/<name>/<id>``."""
        return f"{_KINDS[self.type]}/{self.name}/{self.id}"

    @property
    def arn(self) -> str:
        """Its Amazon Resource Name."""
        return f"arn:aws:elasticloadbalancing:{self.region}:{self.account}:loadbalancer/{self.path}"


class Listener(msgspec.Struct, frozen=True, omit_defaults=True):
    """A listener. ``bound`` is the port that it really has, where its own could not be had."""

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


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule of a listener, other than its default one."""

    arn: str
    id: str
    listener_arn: str
    priority: int
    conditions: list[Document]
    actions: list[Document]
    tags: dict[str, str] = {}


class TargetGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """A target group. Of a Lambda target group only the health check's settings have a meaning."""

    account: str
    region: str
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
    control_port: int = 0

    @property
    def scope(self) -> str:
        """Whose world it is in."""
        return f"{self.account}/{self.region}"

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


_KINDS = {"application": "app", "network": "net", "gateway": "gwy"}

# What a load balancer is made with, by type; an attribute that is not among them is not one of that type.
LOAD_BALANCER_ATTRIBUTES: dict[str, dict[str, str]] = {
    "application": {
        "access_logs.s3.enabled": "false",
        "access_logs.s3.bucket": "",
        "access_logs.s3.prefix": "",
        "client_keep_alive.seconds": "3600",
        "connection_logs.s3.enabled": "false",
        "connection_logs.s3.bucket": "",
        "connection_logs.s3.prefix": "",
        "deletion_protection.enabled": "false",
        "health_check_logs.s3.enabled": "false",
        "health_check_logs.s3.bucket": "",
        "health_check_logs.s3.prefix": "",
        "idle_timeout.timeout_seconds": "60",
        "load_balancing.cross_zone.enabled": "true",
        "routing.http.desync_mitigation_mode": "defensive",
        "routing.http.drop_invalid_header_fields.enabled": "false",
        "routing.http.preserve_host_header.enabled": "false",
        "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": "false",
        "routing.http.xff_client_port.enabled": "false",
        "routing.http.xff_header_processing.mode": "append",
        "routing.http2.enabled": "true",
        "waf.fail_open.enabled": "false",
        "zonal_shift.config.enabled": "false",
    },
    "network": {
        "access_logs.s3.enabled": "false",
        "access_logs.s3.bucket": "",
        "access_logs.s3.prefix": "",
        "deletion_protection.enabled": "false",
        "dns_record.client_routing_policy": "any_availability_zone",
        "ipv6.deny_all_igw_traffic": "false",
        "load_balancing.cross_zone.enabled": "false",
        "secondary_ips.auto_assigned.per_subnet": "0",
        "zonal_shift.config.enabled": "false",
    },
}

LISTENER_ATTRIBUTES: dict[str, dict[str, str]] = {
    "HTTP": {"routing.http.response.server.enabled": "true"},
    "HTTPS": {"routing.http.response.server.enabled": "true"},
    "TCP": {"tcp.idle_timeout.seconds": "350"},
    "TLS": {},
    "UDP": {},
}

_GROUP_ATTRIBUTES = {
    "deregistration_delay.timeout_seconds": "300",
    "stickiness.enabled": "false",
    "stickiness.type": "lb_cookie",
    "load_balancing.cross_zone.enabled": "use_load_balancer_configuration",
    "target_group_health.dns_failover.minimum_healthy_targets.count": "1",
    "target_group_health.dns_failover.minimum_healthy_targets.percentage": "off",
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": "1",
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
}


def group_attributes(group: TargetGroup) -> dict[str, str]:
    """A target group's attributes, with what it was made with."""
    if group.type == "lambda":
        return {"lambda.multi_value_headers.enabled": "false", **group.attributes}
    if group.protocol in ("HTTP", "HTTPS"):
        own = {
            "load_balancing.algorithm.type": "round_robin",
            "load_balancing.algorithm.anomaly_mitigation": "off",
            "slow_start.duration_seconds": "0",
            "stickiness.app_cookie.cookie_name": "",
            "stickiness.app_cookie.duration_seconds": "86400",
            "stickiness.lb_cookie.duration_seconds": "86400",
        }
        return {**_GROUP_ATTRIBUTES, **own, **group.attributes}
    own = {
        "stickiness.type": "source_ip",
        "deregistration_delay.connection_termination.enabled": "false",
        "preserve_client_ip.enabled": "true" if group.type == "instance" else "false",
        "proxy_protocol_v2.enabled": "false",
        "target_health_state.unhealthy.connection_termination.enabled": "true",
        "target_health_state.unhealthy.draining_interval_seconds": "0",
    }
    return {**_GROUP_ATTRIBUTES, **own, **group.attributes}


def load_balancer_attributes(one: LoadBalancer) -> dict[str, str]:
    """A load balancer's attributes, with what it was made with."""
    return {**LOAD_BALANCER_ATTRIBUTES[one.type], **one.attributes}


def groups_of(actions: list[Document]) -> dict[str, int]:
    """The ARNs of the target groups that actions forward to, each with its weight."""
    for action in actions:
        if action["Type"] == "forward":
            chosen = action.get("ForwardConfig", {}).get("TargetGroups")
            if chosen:
                return {one["TargetGroupArn"]: one.get("Weight", 1) for one in chosen}
            return {action["TargetGroupArn"]: 1}
    return {}
